"""Machine code of a dozen CUDA kernels against committed figures: registers, spills, 128-bit accesses, the mix of instructions."""

import json
from importlib import import_module
from importlib.util import find_spec

import pytest

from benchmarks.sass import RESULTS, SCHEDULES, figures


def _nvdisasm_here() -> bool:
    if find_spec("numba_cuda") is None or find_spec("cuda") is None or find_spec("cuda.pathfinder") is None:
        return False
    return import_module("cuda.pathfinder").find_nvidia_binary_utility("nvdisasm") is not None


pytestmark = pytest.mark.skipif(not _nvdisasm_here(), reason="numba-cuda or nvdisasm is not installed")

WIDE = {
    "saxpy", "gelu", "silu_and_mul", "polynomial", "black_scholes", "rgb_to_gray", "gather_rows", "softmax", "layernorm",
    "fused_add_rmsnorm", "merge_attn_states", "cross_entropy", "matmul", "attention_64", "attention_128",
}  # fmt: skip
"""Kernels that move 128 bits at a time."""


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name not in ("black_scholes", "polynomial", "jacobi2d", "attention_128")])
def test_machine_code_is_as_good_as_committed(name: str) -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))["sm_80"][name]
    found = figures(name, "sm_80")
    assert found.keys() == committed.keys()
    for function, row in found.items():
        kept = committed[function]
        assert row["stack"] == 0 or row["stack"] <= kept["stack"], function
        assert row["spills"] == 0, function
        assert row["registers"] <= kept["registers"] + 4, function
        assert row["instructions"] <= kept["instructions"] * 1.05 + 2, function
        assert row["wide"] == kept["wide"], function
        for opcode in row["mix"].keys() | kept["mix"].keys():
            now, then = row["mix"].get(opcode, 0), kept["mix"].get(opcode, 0)
            assert abs(now - then) <= 0.15 * then + 4, (function, opcode, now, then)


def test_a_dozen_kernels_load_128_bits_at_a_time() -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))
    for machine in ("sm_80", "sm_90"):
        wide = {name for name, functions in committed[machine].items() if any(row["wide"] for row in functions.values())}
        assert wide == WIDE, machine
        for name in WIDE - {"rgb_to_gray", "matmul"}:
            loads = [n for row in committed[machine][name].values() for n in row["wide"] if n.startswith("LDG.E.128")]
            assert loads, name

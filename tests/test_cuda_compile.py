"""CUDA source and PTX without a GPU: every public kernel compiles, nothing is fused without licence, errors say what to do."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan

KERNELS = Path(__file__).parent.parent / "examples" / "kernels"


def nvdisasm_here() -> bool:
    """Whether machine code can be read."""
    if find_spec("cuda") is None or find_spec("cuda.pathfinder") is None:
        return False
    return import_module("cuda.pathfinder").find_nvidia_binary_utility("nvdisasm") is not None


needs_cuda = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


@cache
def kernels() -> dict[str, Kernel]:
    return {name: k for path in sorted(KERNELS.glob("*.kir")) for name, k in kir.parse_file(path).items()}


def best(name: str, machine: str, extent: int = 1024) -> Plan:
    from extract.cost import cost
    from extract.machine import load_machine
    from extract.schedule_cuda import cuda_plans

    sizes = dict.fromkeys(kernels()[name].sizes, extent)
    found = cuda_plans(kernels()[name], f"cuda:{machine}", sizes)
    return min(found, key=lambda plan: cost(plan, load_machine(machine), sizes).cycles)


CASES = [(name, "sm_90") for name in kernels()] + [(name, m) for name in ("softmax", "histogram", "mandelbrot") for m in ("sm_75", "sm_80")]


@needs_cuda
@pytest.mark.parametrize(("name", "machine"), CASES, ids=[f"{n}-{m}" for n, m in CASES])
def test_every_kernel_becomes_ptx_without_a_gpu(name: str, machine: str) -> None:
    from backends.cuda import build

    texts = build(best(name, machine), f"cuda:{machine}").ptx_by_kernel
    assert texts
    for kernel, ptx in texts.items():
        assert f".target {machine}" in ptx
        assert kernel in ptx
        assert ".maxntid" in ptx


@needs_cuda
def test_products_are_fused_only_where_contract_is_licensed() -> None:
    from backends.cuda import build
    from backends.cuda_compile import lower, numba_cuda, ptx

    plan = best("saxpy", "sm_80")
    assert "fma.rn.f32" not in build(plan, "cuda:sm_80").ptx
    assert "mul.rn.f32" in build(plan, "cuda:sm_80").ptx
    # `cuda.jit` lets NVVM fuse; the source must not allow it by itself.
    namespace: dict[str, Any] = {"__name__": "kernel"}
    exec(build(plan, "cuda:sm_80").source, namespace)
    types = numba_cuda().types
    array = types.float32[::1]
    shipped = lower(namespace["narrow"][0], (array, array, array, types.float32, types.uint32), (8, 0))
    assert "fma.rn.f32" not in ptx(shipped, contract=True)
    assert "fma.rn.f32" in build(replace(plan, fast_math=frozenset({"contract"})), "cuda:sm_80").ptx


@needs_cuda
def test_a_row_schedule_joins_by_shuffles_and_shared_memory() -> None:
    from backends.cuda import build
    from extract.schedule_cuda import cuda_plans

    found = cuda_plans(kernels()["softmax"], "cuda:sm_80", {})
    by_mapping = {dict(p.schedule)["map"]: p for p in found if ("fusion", "most") in p.schedule and len(p.schedule) == 3}
    block, warp = (build(by_mapping[how], "cuda:sm_80").ptx for how in ("block", "nearest"))
    assert "bar.sync" in block
    assert "shfl.sync.bfly" in block
    assert "shfl.sync.bfly" in warp
    assert "bar.sync" not in warp


@needs_cuda
@pytest.mark.skipif(find_spec("cuda.core") is None if find_spec("cuda") else True, reason="cuda.core is not installed")
@pytest.mark.skipif(not nvdisasm_here(), reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
def test_machine_code_has_no_spills_and_few_instructions() -> None:
    from backends.cuda import build
    from backends.cuda_compile import instruction_counts, sass

    wide, cubin = build(best("saxpy", "sm_80", 1 << 24), "cuda:sm_80").cubins().values()
    assert {name for name in sass(wide.code) if "128" in name} == {"LDG.E.128.CONSTANT", "STG.E.128"}
    assert (cubin.spill_loads, cubin.spill_stores) == (0, 0)
    assert cubin.registers <= 16
    instructions = sass(cubin.code)
    counts = instruction_counts(instructions)
    assert len(instructions) <= 20  # hand-written CUDA C++ makes 18 of it
    assert counts["LDG"] == 2
    assert counts["STG"] == 1


@needs_cuda
@pytest.mark.skipif(not nvdisasm_here(), reason="nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("machine", ["sm_80", "sm_90"])
def test_a_tile_stays_in_registers_and_reads_shared_memory_wide(machine: str) -> None:
    from backends.cuda import build
    from backends.cuda_compile import instruction_counts, sass

    matmul = kir.parse_file(KERNELS / "contractions.kir")["matmul"]
    from extract.schedule_cuda import cuda_plans

    found = {dict(p.schedule)["products"]: p for p in cuda_plans(matmul, f"cuda:{machine}", dict.fromkeys("MNK", 1024))}
    for products, totals, registers in (("tile128", 64, 128), ("ahead128", 64, 168), ("tile64", 16, 72), ("tile32", 4, 64)):
        run = build(replace(found[products], fast_math=frozenset({"contract"})), f"cuda:{machine}")
        (cubin,) = run.cubins().values()
        assert (cubin.stack, cubin.spill_stores, cubin.spill_loads) == (0, 0, 0)
        assert cubin.registers <= registers
        instructions = sass(cubin.code)
        counts = instruction_counts(instructions)
        assert counts["FFMA"] % totals == 0
        assert counts["LDS"] * 4 <= counts["FFMA"] * (2 if totals > 4 else 2.1)
        assert totals == 4 or {name for name in instructions if name.startswith("LDS")} == {"LDS.128"}


def test_a_call_without_a_gpu_says_what_to_do() -> None:
    from backends.cuda import build
    from backends.cuda_compile import gpu_present

    if gpu_present():
        pytest.skip("a GPU is here")
    with pytest.raises(TargetError) as error:
        build(best("saxpy", "sm_90"), "cuda:sm_90")(np.float32(1), np.ones(3, np.float32), np.ones(3, np.float32))
    assert str(error.value) == (
        "saxpy is compiled for sm_90, but no GPU is here to run it\n"
        '  help: compile with target="cuda-on-cpu" to run the same kernels on the CPU, or read .ptx'
    )


@needs_cuda
def test_unknown_targets_are_named() -> None:
    from backends.cuda import build

    with pytest.raises(TargetError, match="unknown CUDA target 'cuda:sm_12'"):
        build(best("saxpy", "sm_90"), "cuda:sm_12")


def test_without_numba_cuda_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from backends import cuda_compile
    from backends.cuda import build

    monkeypatch.setattr(cuda_compile, "available", lambda: False)
    cuda_compile.numba_cuda.cache_clear()
    with pytest.raises(TargetError, match=re.escape("pip install 'kir[cuda]'")):
        build(best("saxpy", "sm_90"), "cuda:sm_90")
    assert not cuda_compile.gpu_present()


@pytest.mark.parametrize("name", ["softmax", "silu_and_mul", "jacobi2d", "histogram"])
def test_source_is_deterministic_and_stands_alone(name: str) -> None:
    from backends.cuda import emit

    source = emit(best(name, "sm_90"))
    assert source == emit(best(name, "sm_90"))
    assert not re.search(r"\b(kernel_ir|extract|backends)\b", source)
    compile(source, name, "exec")
    # Loops over a thread's own elements alone: NVVM unrolls these.
    assert set(re.findall(r"for (.*) in range\((.*)\)", source[source.index("def kernels") :].partition("def launch")[0])) <= {
        ("u", "4"),
        ("u", "8"),
    }


@needs_cuda
def test_the_module_imports_without_a_gpu(tmp_path: Path) -> None:
    from backends.cuda import emit

    path = tmp_path / "softmax_cuda.py"
    path.write_text(emit(best("softmax", "sm_90")))
    code = "import softmax_cuda as m; print(callable(m.softmax), callable(m.launch))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True True\n", done.stderr


@needs_cuda
def test_ptx_of_source_text() -> None:
    from backends.cuda_compile import ptx_of_source

    source = "from numba import cuda\ndef add(x, n):\n    i = cuda.grid(1)\n    if i < n:\n        x[i] = x[i] + x[i]\n"
    (text,) = ptx_of_source(source, {"add": "void(float32[::1], uint32)"}, "sm_75").values()
    assert "add.rn.f32" in text


def costs(name: str, sizes: dict[str, int], machine: str = "sm_80") -> dict[str, float]:
    from extract.cost import cost
    from extract.machine import load_machine
    from extract.schedule_cuda import cuda_plans

    return {
        "-".join(how for _, how in p.schedule): cost(p, load_machine(machine), sizes).cycles
        for p in cuda_plans(kernels()[name], machine, sizes)
    }


def test_cycles_prefer_the_schedule_that_hardware_does() -> None:
    rows = costs("softmax", {"R": 4096, "C": 4096})
    assert min(rows, key=rows.__getitem__) in ("most-nearest-plain-4", "most-block-plain-4")
    assert rows["most-point-plain"] > 3 * rows["most-block-plain"]  # one row a thread: strided, and too few threads
    few = costs("softmax", {"R": 8, "C": 1 << 20})
    assert few["most-block-plain"] < few["most-nearest-plain"]  # eight long rows: a warp each is too little
    matrix = costs("matmul", {"M": 2048, "N": 2048, "K": 2048})
    assert min(matrix, key=matrix.__getitem__).removeprefix("most-nearest-") in ("tile128", "tile64", "ahead128", "ahead64")


@pytest.mark.parametrize("name", ["saxpy", "softmax", "matmul", "black_scholes"])
def test_newer_machines_are_not_slower(name: str) -> None:
    from extract.machine import load_machine

    large = dict.fromkeys(kernels()[name].sizes, 2048)
    times = [min(costs(name, large, m).values()) / load_machine(m).clock_ghz for m in ("sm_75", "sm_80", "sm_90")]
    assert times == sorted(times, reverse=True)

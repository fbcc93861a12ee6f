"""The contenders of the benchmarks compute what the kernels mean, at small sizes; wrong ones are never timed."""

import importlib.util

import numpy as np
import pytest

from benchmarks import numpy_peers
from benchmarks.check import verdict
from benchmarks.cpu import NPBENCH_KERNELS
from benchmarks.inputs import CASES, NPBENCH, Inputs
from benchmarks.measure import Row, measured
from benchmarks.peers import PEERS, Absent, on_arrays
from benchmarks.reference import result_types, signature
from benchmarks.table import markdown
from kernel_ir.evaluate import evaluate
from kernel_ir.parser import parse_file
from tests.conftest import PUBLIC, kernel

LIBRARIES = ("numba", "numpy", "jax", "torch")


def meaning(name: str, inputs: Inputs) -> tuple[np.ndarray, ...]:
    """The evaluator's results: outputs, then inout arrays."""
    k, sizes = kernel(name), CASES[name].small
    results = evaluate(k, inputs, {n: sizes[n] for n in k.sizes})
    return tuple(results[n] for n in result_types(k)[1])


def test_every_public_kernel_has_a_case():
    assert sorted(CASES) == sorted(PUBLIC)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", CASES)
def test_contender_equals_evaluator(name: str, library: str):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    k = kernel(name)
    inputs = CASES[name].inputs(CASES[name].small, seed=1)
    try:
        bound = PEERS[library](signature(k))(inputs)
    except Absent as reason:
        assert library == "torch", reason
        pytest.skip(str(reason))
    assert verdict(bound.results(bound.call()), meaning(name, inputs), *result_types(k)) is None


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", NPBENCH)
def test_npbench_contender_equals_evaluator(name: str, library: str):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    k, case = parse_file(NPBENCH_KERNELS)[name], NPBENCH[name]
    inputs = case.inputs(case.small, seed=1)
    results = evaluate(k, inputs, {n: case.small[n] for n in k.sizes})
    bound = PEERS[library](signature(k))(inputs)
    assert verdict(bound.results(bound.call()), tuple(results[n] for n in result_types(k)[1]), *result_types(k)) is None


def row(makers) -> Row:
    case = CASES["saxpy"]
    return measured(kernel("saxpy"), case, case.small, makers, rounds=3, seconds=0.01)


def contender(function):
    return lambda: on_arrays(function, signature(kernel("saxpy")))


def test_right_contenders_are_timed():
    measured_row = row({"ours": contender(numpy_peers.saxpy), "numpy": contender(numpy_peers.saxpy)})
    assert set(measured_row.timings) == {"ours", "numpy", "copy"}
    assert measured_row.faults == {}
    assert measured_row.bytes == 3 * 101 * 4
    assert measured_row.ratio("numpy") is not None


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda a, x, y: a * x, "z: 100.00% wrong"),
        (lambda a, x, y: x[1:], "z has shape (100,) instead of (101,)"),
        (lambda a, x, y: None, "0 results instead of 1"),
        (lambda a, x, y: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_wrong_contender_is_a_fault_and_not_timed(function, fault: str):
    measured_row = row({"ours": contender(numpy_peers.saxpy), "wrong": contender(function)})
    assert measured_row.faults["wrong"].startswith(fault)
    assert "wrong" not in measured_row.timings
    assert measured_row.ratio("wrong") is None


def test_remembering_results_by_address_is_a_fault():
    kept: dict[int, np.ndarray] = {}
    stale = contender(lambda a, x, y: kept.setdefault(id(x), a * x + y))
    assert row({"ours": contender(numpy_peers.saxpy), "stale": stale}).faults["stale"].startswith("on other values: z")


def test_readme_table():
    def timing(median: float, ratio: float | None) -> dict[str, float | None]:
        return {"median": median, "ratio": ratio}

    results = {
        "kernels": [
            {
                "kernel": "softmax",
                "sizes": {"R": 4096, "C": 100},
                "contenders": {"ours": timing(0.0074, 1.0), "numba": timing(0.055, 7.4), "numpy": timing(0.2, 27.0)},
                "faults": {},
            },
            {
                "kernel": "gelu",
                "sizes": {"N": 1 << 24},
                "contenders": {"ours": timing(0.01, 1.0), "numba": timing(0.02, 2.0)},
                "faults": {"numpy": "wrong"},
            },
        ],
        "geometric_means": {"numba": 3.847, "numpy": 27.0},
    }
    assert markdown(results).splitlines() == [
        "| kernel | sizes | ours, ms | naive numba, ms | naive numba | NumPy | best peer |",
        "| --- | --- | --: | --: | --: | --: | --: |",
        "| `softmax` | R=4k C=100 | 7.4 | 55 | 7.40× | 27× | 7.40× |",
        "| `gelu` | N=16M | 10 | 20 | 2.00× | fails | 2.00× |",
        "| **geometric mean** |  |  |  | **3.85×** | **27×** | **3.85×** |",
    ]

"""The contenders of the benchmarks compute what the kernels mean, at small sizes."""

import importlib.util

import numpy as np
import pytest

from benchmarks.check import verdict
from benchmarks.inputs import CASES, Inputs
from benchmarks.peers import PEERS, Absent
from benchmarks.reference import result_types, signature
from tests.conftest import PUBLIC, kernel

LIBRARIES = ("numba", "numpy", "jax", "torch")


def meaning(name: str, inputs: Inputs) -> tuple[np.ndarray, ...]:
    """The evaluator's results: outputs, then inout arrays."""
    k = kernel(name)
    own = {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in inputs.items()}
    returned = k(**own)
    outputs = () if returned is None else returned if isinstance(returned, tuple) else (returned,)
    return (*outputs, *(own[n] for n in signature(k).inout))


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

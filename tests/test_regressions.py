"""Faults that were found by drawing kernels and by using kir as people do; each stays as its smallest case."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.errors import UsageError

TEXT = "kernel f(x: f32[N], a: f32) -> (y: f32[N]) { y[i] = a * x[i] + exp(x[i]) }"


def test_optimize_stays_a_function_whatever_is_looked_up_first() -> None:
    # A module of the same name hid the function once `kir.Result` had been read.
    code = "import kernel_ir as kir; kir.Result; import kernel_ir.fuzzing; import kernel_ir.optimizer; print(callable(kir.optimize))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"fast_math": 3}, "fast_math is 3"), ({"tolerance": -1.0}, "tolerance is -1.0"), ({"tolerance": float("nan")}, "tolerance is nan")],
)
def test_wrong_options_are_usage_errors(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kir.optimize(kir.parse(TEXT)["f"], target="cpu", **wrong)


@pytest.mark.parametrize("extent", [0, 1, 2**40, 2**62])
def test_any_extent_has_a_cost(extent: int) -> None:
    assert kir.optimize(kir.parse(TEXT)["f"], target="cpu", sizes={"N": extent}).cycles >= 0


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["deepcopy", "pickle"])
def test_kernels_results_and_compiled_kernels_are_copied_and_pickled(again: Any) -> None:
    module = kir.parse(TEXT)
    assert again(module)["f"] == module["f"]
    result = kir.optimize(module["f"], target="numpy")
    compiled = result.compile()
    assert again(result).text == result.text
    x = np.arange(4, dtype=np.float32)
    assert again(compiled)(x, 2.0).tobytes() == compiled(x, 2.0).tobytes()


def test_a_form_that_only_shares_terms_says_so() -> None:
    text = "kernel g(x: f32[N], w: f32[N, M]) -> (y: f32[N, M]) { y[i, j] = (exp(x[i]) / (exp(x[i]) + 1.0)) * w[i, j] }"
    k = kir.parse(text)["g"]
    result = kir.optimize(k, target="cpu")
    assert bool(result.rules) == (result.kernel != k)

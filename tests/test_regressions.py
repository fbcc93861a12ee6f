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
from kernel_ir.evaluate import evaluate

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


@pytest.mark.parametrize("extent", [0, 1, 2**40, 2**47 - 1])
def test_any_extent_has_a_cost(extent: int) -> None:
    assert kir.optimize(kir.parse(TEXT)["f"], target="cpu", sizes={"N": extent}).cycles >= 0


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def copied(value: Any) -> Any:
    return copy.deepcopy(value)


@pytest.mark.parametrize("again", [copied, pickled])
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


def test_a_product_that_overflows_warns_of_nothing() -> None:
    k = kir.parse("kernel p(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }")["p"]
    huge = np.full((9, 9), 3e38, np.float32)
    assert np.isinf(kir.optimize(k, target="cpu").compile()(huge, huge)).all()


def test_a_closed_stdout_is_no_crash(tmp_path: Any) -> None:
    (tmp_path / "f.kir").write_text(TEXT)
    command = f"{sys.executable} -m kernel_ir.cli optimize {tmp_path / 'f.kir'} --target cpu >&-"
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0


def test_sizes_by_name_go_through_every_backend() -> None:
    k = kir.parse("kernel r(x: f32[H * W]) -> (y: f32[H, W]) { y[i, j] = x[i * W + j] }")["r"]
    x = np.arange(12, dtype=np.float32)
    for target in ("numpy", "cpu"):
        f = kir.optimize(k, target=target).compile()
        assert f(x, W=4).shape == f(x, W=4, H=3).shape == (3, 4)


@pytest.mark.parametrize("value", ["x[n, m]", "fold(k in 0..3, c = 0.0 while a <= c: c + 1.0).c"])
@pytest.mark.parametrize("target", ["numpy", "cpu"])
def test_a_temporary_that_nothing_reads_is_no_crash(value: str, target: str) -> None:
    text = f"kernel d(x: f64[N, M], a: f64) -> (y: f64) {{ t[n, m] = {value} for n in 0..N, m in 0..M\n y = a }}"
    assert kir.optimize(kir.parse(text)["d"], target=target).compile()(np.ones((2, 2)), 1.0) == 1.0


DRAWN = {
    "a temporary of one value, read under an index that its value does not have": "kernel f(x: f64[N, M]) -> (y: f64[N]) {\n"
    "  t[i, j] = 2.0 for i in 0..N, j in 0..M\n  y[i] = expsum(j: prod(k in 0..M: 2.0), expsum(k: x[k, j], t[k, j]))\n}",
}


@pytest.mark.parametrize("text", DRAWN.values(), ids=list(DRAWN))
def test_kernels_that_the_fuzzer_drew(text: str) -> None:
    (kernel,) = kir.parse(text).values()
    for fast_math in ("none", "all"):
        kir.optimize(kernel, target="cpu", fast_math=fast_math)


@pytest.mark.parametrize("target", ["cpu", "cuda-on-cpu"])
@pytest.mark.parametrize(
    "value",
    [
        "sign(x[i] + 2)",
        "1 if x[i] + 2 > x[i] else 0",
        "abs(x[i] * 2 + 2)",
        "sign(sum(k: x[k] * c) + 2)",
        "x[i] - c - c > 0",
        "1 if i * 4611686018427387904 < 0 else 0",
    ],
)
def test_long_integers_wrap_whatever_is_asked_of_them(value: str, target: str) -> None:
    """numba lets LLVM assume that no signed integer wraps: it then decides `x + 2 < 0` by `x < -2`."""
    if target != "cpu" and "i * " in value:
        pytest.xfail("positions are unsigned in CUDA code, whatever they are multiplied by")
    dtype = "bool" if value.endswith("> 0") else "i64"
    kernel = kir.parse(f"kernel f(x: i64[N], c: i64) -> (y: {dtype}[N]) {{ y[i] = {value} }}")["f"]
    x = np.array([2**63 - 1, -(2**63), 2**62, 5, -7, 2**63 - 2], np.int64)
    for c in (1, 2**62, -(2**63)):
        wanted = evaluate(kernel, {"x": x, "c": np.int64(c)}, {"N": x.size})["y"]
        assert kir.optimize(kernel, target=target).compile()(x, c).tolist() == wanted.tolist(), c

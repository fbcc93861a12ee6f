"""The vector functions of emitted CPU modules: worst error against mpmath, special values, and the bounds that are documented."""

import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import kernel_ir as kir
from backends.vector_math import ULP, VECTOR
from kernel_ir.ops import OPS

mp: Any = mpmath
CASES = sorted((op, dtype) for op, dtype in VECTOR if OPS[op].arity == 1)
SAMPLES = 2500
RANGES = {
    "exp": (-104.0, 89.0),
    "log": None,
    "erf": (-6.0, 6.0),
    "tanh": (-20.0, 20.0),
    "asin": (-1.0, 1.0),
    "acos": (-1.0, 1.0),
    "atan": (-9.0, 9.0),
    "tan": (-20.0, 20.0),
    "sin": (-20.0, 20.0),
    "cos": (-20.0, 20.0),
}
WIDE = {"exp": (-745.2, 709.8)}
"""Where f64 reaches further."""
INVERSE = ("asin", "acos", "atan")
SPECIAL = (0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"))


pytestmark = pytest.mark.usefixtures("kept_code")


def compiled(op: str, dtype: str) -> Callable[..., Any]:
    kernel = kir.parse(f"kernel one(x: {dtype}[N]) -> (y: {dtype}[N]) {{ y[i] = {op}(x[i]) }}")["one"]
    return kir.optimize(kernel, target="cpu").compile(check=False)


def samples(op: str, dtype: str) -> Any:
    kind = np.float32 if dtype == "f32" else np.float64
    random = np.random.default_rng(0)
    limits = np.finfo(kind)
    bounds = WIDE.get(op, RANGES[op]) if dtype == "f64" else RANGES[op]
    if bounds is None:
        exponents = random.uniform(limits.minexp, limits.maxexp - 1, SAMPLES)
        near_one = 1.0 + random.normal(0.0, 1e-2, SAMPLES)
        return np.concatenate([np.exp2(exponents), near_one]).astype(kind)
    spread = random.uniform(*bounds, SAMPLES)
    small = random.choice([-1.0, 1.0], SAMPLES) * np.exp2(random.uniform(-30.0, 0.0, SAMPLES))
    return np.concatenate([spread, small]).astype(kind)


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_error_is_within_what_is_documented(op: str, dtype: str) -> None:
    x = samples(op, dtype)
    got = compiled(op, dtype)(x)
    limits = np.finfo(x.dtype)
    worst = 0.0
    with mp.workprec(120):
        for value, result in zip(x.tolist(), got.tolist(), strict=True):
            exact = getattr(mp, op)(mp.mpf(value))
            if abs(exact) > mp.mpf(float(limits.max)):
                continue
            ulp = mp.mpf(2) ** max(limits.minexp - limits.nmant, int(mp.frexp(exact)[1]) - 1 - limits.nmant) if exact else 1
            worst = max(worst, float(abs(mp.mpf(result) - exact) / ulp))
    assert worst <= ULP[f"{op}_{dtype}"] <= OPS[op].ulp


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_special_values(op: str, dtype: str) -> None:
    x = np.array(SPECIAL, np.float32 if dtype == "f32" else np.float64)
    got = compiled(op, dtype)(x)
    with np.errstate(all="ignore"):
        expected = np.vectorize(mpmath_erf)(x) if op == "erf" else getattr(np, op.replace("a", "arc", 1) if op in INVERSE else op)(x)
    np.testing.assert_allclose(got, expected.astype(x.dtype), rtol=1e-6)
    assert np.array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(expected)]))


def mpmath_erf(value: float) -> float:
    """erf with the sign of a zero kept."""
    return float(value) if value == 0.0 or value != value else float(mp.erf(value))


@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
def test_arguments_of_every_size_and_near_the_zeros(op: str) -> None:
    random = np.random.default_rng(0)
    spread = random.uniform(-1.0, 1.0, 500) * np.exp2(random.uniform(-300.0, 1023.0, 500))
    zeros = np.arange(1, 400) * (np.pi / 2)
    nearest = [6381956970095103 * 2.0**797, 5319372648326541 * 2.0**796, 29 * np.pi]  # doubles nearest to multiples of pi / 2
    x = np.concatenate([spread, zeros, nearest])
    got = compiled(op, "f64")(x)
    with mp.workprec(1300):
        exact = [getattr(mp, op)(mp.mpf(value)) for value in x.tolist()]
        errors = [abs(mp.mpf(g) - e) / mp.mpf(float(np.spacing(abs(float(e))))) for g, e in zip(got.tolist(), exact, strict=True)]
    assert max(errors) <= ULP[f"{op}_f64"]


def test_atan2_in_every_direction() -> None:
    random = np.random.default_rng(0)
    y, x = (random.normal(size=2000) * np.exp2(random.uniform(-40.0, 40.0, 2000)) for _ in range(2))
    kernel = kir.parse("kernel two(y: f64[N], x: f64[N]) -> (a: f64[N]) { a[i] = atan2(y[i], x[i]) }")["two"]
    function = kir.optimize(kernel, target="cpu").compile(check=False)
    with mp.workprec(200):
        exact = [mp.atan2(mp.mpf(a), mp.mpf(b)) for a, b in zip(y.tolist(), x.tolist(), strict=True)]
        spacing = [mp.mpf(float(np.spacing(abs(float(e))))) for e in exact]
        worst = max(abs(mp.mpf(g) - e) / s for g, e, s in zip(function(y, x).tolist(), exact, spacing, strict=True))
    assert worst <= ULP["atan2_f64"]
    special = np.array([(a, b) for a in (*SPECIAL, 1e-320, 1e308) for b in (*SPECIAL, 1e-320, 1e308)])
    got, expected = function(special[:, 0], special[:, 1]), np.arctan2(special[:, 0], special[:, 1])
    np.testing.assert_allclose(got, expected, rtol=4e-16)
    assert np.array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(expected)]))


def test_a_loop_calls_forms_for_vectors() -> None:
    kernel = kir.parse("kernel one(x: f64[N]) -> (y: f64[N]) { y[i] = sin(x[i]) }")["one"]
    module: dict[str, Any] = {}
    exec(kir.optimize(kernel, target="cpu").source, module)
    module["one"](np.arange(100.0))
    (code,) = module["one_y_part"].inspect_llvm().values()
    assert re.search(r"call <\d+ x double> @kir_sin_f64_x\d+", code)

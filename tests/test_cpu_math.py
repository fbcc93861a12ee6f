"""The vector functions of emitted CPU modules: worst error against mpmath, special values, and the bounds that are documented."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

import kernel_ir as kir
from backends.vector_math import ULP, VECTOR
from kernel_ir.ops import OPS

CASES = sorted(VECTOR)
SAMPLES = 2500
RANGES = {"exp": (-104.0, 89.0), "log": None, "erf": (-6.0, 6.0), "tanh": (-20.0, 20.0), "asin": (-1.0, 1.0)}
WIDE = {"exp": (-745.2, 709.8)}
"""Where f64 reaches further."""
SPECIAL = (0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"))


@pytest.fixture(autouse=True)
def _kept_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIR_CACHE_DIR", str(Path(str(request.config.cache.mkdir("kir")))))


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
    with mpmath.workprec(120):
        for value, result in zip(x.tolist(), got.tolist(), strict=True):
            exact = getattr(mpmath, op)(mpmath.mpf(value))
            if abs(exact) > mpmath.mpf(float(limits.max)):
                continue
            ulp = mpmath.mpf(2) ** max(limits.minexp - limits.nmant, int(mpmath.frexp(exact)[1]) - 1 - limits.nmant) if exact else 1
            worst = max(worst, float(abs(mpmath.mpf(result) - exact) / ulp))
    assert worst <= ULP[f"{op}_{dtype}"] <= OPS[op].ulp


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_special_values(op: str, dtype: str) -> None:
    x = np.array(SPECIAL, np.float32 if dtype == "f32" else np.float64)
    got = compiled(op, dtype)(x)
    with np.errstate(all="ignore"):
        expected = {"exp": np.exp, "log": np.log, "tanh": np.tanh, "asin": np.arcsin}.get(op, np.vectorize(mpmath_erf))(x)
    np.testing.assert_allclose(got, expected.astype(x.dtype), rtol=1e-6)
    assert np.array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(expected)]))


def mpmath_erf(value: float) -> float:
    """erf with the sign of a zero kept."""
    return float(value) if value == 0.0 or value != value else float(mpmath.erf(value))

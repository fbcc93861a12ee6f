"""Turns the name of a pattern into an array of values: ordinary, huge, tiny, cancelling, special, equal, …"""

from typing import Any, Final, cast

import numpy as np

from kernel_ir.dtypes import DType, reads_as
from kernel_ir.number_system import Array

PATTERNS: Final = (
    *("zeros", "ones", "whole", "ordinary", "positive", "equal", "wide", "cancelling", "huge", "tiny", "subnormal"),
    *("special",) * 4,
)
"""Ways to fill a float array, the simplest first. Special values find most wrong rewrites, so they are drawn more often."""
INTEGER_PATTERNS: Final = ("zeros", "ones", "whole", "ordinary", "equal", "extreme")
REALISTIC: Final = ("ordinary", "positive")


def fill(pattern: str, shape: tuple[int, ...], dtype: DType, rng: np.random.Generator, reach: int | None = None) -> Array:
    """An array of the arithmetic type that reads `dtype`. `reach` bounds integers that serve as indices: some lie just outside."""
    arithmetic = reads_as(dtype)
    if arithmetic.name == "bool":
        return np.asarray(rng.random(shape) < {"zeros": 0.0, "ones": 1.0}.get(pattern, 0.5))
    if arithmetic.is_int:
        return _integers(pattern, shape, dtype, rng, reach).astype(arithmetic.numpy)
    with np.errstate(all="ignore"):
        return np.asarray(_floats(pattern, shape, dtype, rng)).astype(arithmetic.numpy)


def _integers(pattern: str, shape: tuple[int, ...], dtype: DType, rng: np.random.Generator, reach: int | None) -> Array:
    if reach is not None:
        match pattern:
            case "zeros":
                return np.zeros(shape, np.int64)
            case "ones":
                return np.full(shape, min(1, max(reach - 1, 0)))
            case "equal":
                return np.full(shape, rng.integers(0, max(1, reach)))
            case "whole" | "extreme":
                return rng.integers(-2, reach + 2, shape)
            case _:
                return rng.integers(0, max(1, reach), shape)
    info = np.iinfo(cast(Any, dtype.numpy))
    low, high = max(int(info.min), -(2**63)), min(int(info.max), 2**63 - 1)
    match pattern:
        case "zeros" | "ones":
            return np.full(shape, int(pattern == "ones"))
        case "whole":
            return rng.integers(max(low, -4), 5, shape)
        case "equal":
            return np.full(shape, rng.integers(max(low, -100), 100))
        case "extreme":
            ends = np.array([low, low + 1, high, high - 1, 0, max(low, -1), 1], dtype=np.int64)
            return rng.choice(ends, shape)
        case _:
            return rng.integers(max(low, -100), min(high, 256), shape)


def _floats(pattern: str, shape: tuple[int, ...], dtype: DType, rng: np.random.Generator) -> Array:
    greatest, least, smallest = _ends(dtype)
    match pattern:
        case "zeros" | "ones":
            return np.full(shape, float(pattern == "ones"))
        case "whole":
            return rng.integers(-4, 5, shape).astype(np.float64)
        case "positive":
            return rng.uniform(0.5, 1.5, shape)
        case "equal":
            return np.full(shape, rng.choice(np.array([rng.standard_normal(), 1000.0, -0.5, 0.1])))
        case "wide":
            return rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 4, shape)
        case "cancelling":
            base = rng.standard_normal(shape) * 1000.0
            flat = base.reshape(-1)
            half = flat.size // 2
            flat[half : 2 * half] = -flat[:half] * (1 + rng.choice(np.array([0.0, 2.0**-20, 2.0**-10]), half))
            return rng.permutation(flat).reshape(shape)
        case "huge":
            return rng.choice(np.array([-1.0, 1.0]), shape) * greatest * 2.0 ** -rng.uniform(0, 12, shape)
        case "tiny":
            return rng.standard_normal(shape) * least * 2.0 ** rng.uniform(0, 12, shape)
        case "subnormal":
            return rng.integers(-4, 5, shape) * smallest
        case "special":
            ordinary = rng.standard_normal(shape)
            specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, np.nan, greatest, -greatest, smallest, 88.8, -1.0])
            return np.where(rng.random(shape) < 0.4, rng.choice(specials, shape), ordinary)
        case _:
            return rng.standard_normal(shape)


def _ends(dtype: DType) -> tuple[float, float, float]:
    """Greatest finite, least normal and least subnormal number of a float storage type."""
    if dtype.name == "bf16":
        return 3.3895313892515355e38, 2.0**-126, 2.0**-133
    info = np.finfo(cast(Any, dtype.numpy))
    return float(info.max), float(info.tiny), float(info.smallest_subnormal)

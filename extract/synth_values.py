"""Turns a domain (a type, its arithmetic, a region of inputs) into sampled inputs, and values into fingerprints: equal for equal terms.

The arithmetic is the machine's, bit for bit, or that of the reals: float64 with its last digits dropped.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy

from kernel_ir.dtypes import F32, F64, I64, DType
from rewrites.prove_values import float_edges, int_edges

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any

Region = Literal["edges", "small", "positive", "below", "literal", "power", "unit"]


@dataclass(frozen=True, slots=True)
class Domain:
    """Where terms are compared: "edges" are all values, the other regions those that some guard allows."""

    name: str
    dtype: DType
    region: Region
    exact: bool = True
    """Bits are compared, and not reals."""
    samples: int = 32

    @property
    def symmetric(self) -> bool:
        """Whether its variables are all drawn alike."""
        return self.region not in ("below", "literal", "power")

    @property
    def is_float(self) -> bool:
        return self.dtype.is_float


WRAP: Final = Domain("integers", I64, "edges", samples=128)
SMALL: Final = Domain("small integers", I64, "small", samples=128)
POSITIVE: Final = Domain("positive integers", I64, "positive", samples=128)
BELOW: Final = Domain("integers with b below c", I64, "below", samples=128)
MULTIPLE: Final = Domain("integers with c a multiple of b", I64, "literal", samples=128)
POWER: Final = Domain("integers with b a power of two, c a multiple of b", I64, "power", samples=128)
BITS: Final = Domain("floats", F32, "edges", samples=96)
ORDINARY: Final = Domain("positive floats", F32, "positive", samples=64)
FLOAT_POWER: Final = Domain("floats with b a power of two", F32, "power", samples=96)
REAL: Final = Domain("reals", F64, "small", exact=False, samples=16)
UNIT: Final = Domain("reals between -1 and 1", F64, "unit", exact=False, samples=16)
REAL_POSITIVE: Final = Domain("positive reals", F64, "positive", exact=False, samples=16)

INTEGERS: Final = (WRAP, SMALL, POSITIVE, BELOW)
FLOATS: Final = (BITS, ORDINARY, REAL, REAL_POSITIVE)


def inputs(domain: Domain, count: int, seed: int) -> Array:
    """Values of `count` variables, (count, samples); deterministic."""
    rng = np.random.default_rng([seed, len(domain.name), domain.samples])
    shape = count, domain.samples
    if not domain.is_float:
        return _integers(domain, shape, rng)
    if domain.region in ("edges", "power"):
        edges = rng.choice(float_edges(domain.dtype), size=shape)
        usual = (rng.standard_normal(shape) * np.exp2(rng.integers(-3, 4, shape))).astype(domain.dtype.numpy)
        values = np.where(rng.random(shape) < 0.6, edges, usual)
        if domain.region == "power" and shape[0] > 1:
            values[1] = np.exp2(rng.integers(-8, 9, shape[1]))
        return values
    if domain.region == "unit":
        return rng.uniform(-0.95, 0.95, shape).astype(domain.dtype.numpy)
    sign = 1.0 if domain.region == "positive" else rng.choice([1.0, 1.0, -1.0], size=shape)
    return (sign * rng.uniform(0.3, 3.0, shape)).astype(domain.dtype.numpy)


def _integers(domain: Domain, shape: tuple[int, int], rng: Any) -> Array:
    match domain.region:
        case "edges" | "power":
            full = rng.integers(-(2**63), 2**63 - 1, shape)
            values = np.where(rng.random(shape) < 0.4, full, rng.choice(int_edges(domain.dtype), size=shape))
            if shape[0] > 2 and domain.region == "power":
                values[1] = np.exp2(rng.integers(0, 6, shape[1]))
                values[2] = values[1] * rng.integers(1, 8, shape[1])
        case "positive":
            values = rng.integers(1, 24, shape)
        case "small":
            values = rng.integers(-24, 24, shape)
            values = np.where(values == 0, 5, values)
        case _:
            values = rng.integers(-40, 40, shape)
            if shape[0] > 2 and domain.region == "below":
                values[2] = rng.integers(1, 24, shape[1])
                values[1] = rng.integers(0, 1 << 20, shape[1]) % values[2]
            elif shape[0] > 2:
                values[1] = rng.integers(1, 8, shape[1])
                values[2] = values[1] * rng.integers(1, 8, shape[1])
    return values.astype(domain.dtype.numpy)


_NAN: Final = np.uint64(0x7FF8_DEAD_BEEF_0001)
_ZERO: Final = 1e-9
_DIGITS: Final = float(1 << 24)


def words(values: Array, exact: bool) -> Array:
    """Each value as a 64-bit word: equal for values that count as equal (NaNs; reals that agree to seven digits)."""
    if values.dtype.kind != "f":
        return values.astype(np.int64).view(np.uint64)
    if exact:
        bits = values.view(np.uint32).astype(np.uint64) if values.itemsize == 4 else values.view(np.uint64)
    else:
        # What cancels leaves rounding errors behind.
        mantissa, exponent = np.frexp(np.where(np.isfinite(values) & (np.abs(values) > _ZERO), values, 0.0))
        rounded = np.rint(mantissa * _DIGITS).astype(np.int64)
        carried = np.abs(rounded) == int(_DIGITS)
        rounded, exponent = np.where(carried, rounded // 2, rounded), np.where(carried, exponent + 1, exponent)
        bits = (rounded * 8192 + np.where(rounded == 0, 0, exponent)).view(np.uint64)
        bits = np.where(np.isinf(values), np.where(values > 0, np.uint64(11), np.uint64(13)), bits)
    return np.where(np.isnan(values), _NAN, bits)


def fingerprints(values: Array, exact: bool) -> Array:
    """One 64-bit hash for each row of values."""
    multipliers = np.random.default_rng(97).integers(1, 2**63 - 1, values.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    with np.errstate(over="ignore"):
        mixed = words(values, exact) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        return (mixed * multipliers).sum(axis=1, dtype=np.uint64)

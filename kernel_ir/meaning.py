"""Turns an op's name into its reference meaning over NumPy arrays, where NumPy's own function is not it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kernel_ir.dtypes import DType

Array = Any  # an ndarray or NumPy scalar of the op's dtype: the stubs cannot follow dtype-generic code


def floordiv(a: Array, b: Array) -> Array:
    """`a // b` rounded down; integer `a // 0` is 0, and the least integer // -1 wraps to itself."""
    a, b = np.asarray(a), np.asarray(b)
    with np.errstate(all="ignore"):
        return np.floor_divide(a, b)  # NumPy's integer x // 0 is 0 already


def mod(a: Array, b: Array) -> Array:
    """`a % b` with the sign of b; integer `a % 0` is 0."""
    with np.errstate(all="ignore"):
        return np.remainder(np.asarray(a), np.asarray(b))


def powi(base: Array, exponent: Array) -> Array:
    """`base ** n` for one integer n, by squaring: p(n) = p(n // 2) ** 2 * (base if n is odd), p(-n) = 1 / p(n).

    That is the order in which Numba multiplies out a constant exponent. Negative n on integers is refused by the checker.
    """
    n = int(np.asarray(exponent).reshape(-1)[0])
    base = np.asarray(base)
    with np.errstate(all="ignore"):
        if n < 0:
            return base.dtype.type(1) / powi(base, -n)
        if n == 0:
            return np.ones_like(base)
        if n == 1:
            return base
        half = powi(base, n // 2)
        square = half * half
        return square * base if n % 2 else square


def shl(a: Array, count: Array) -> Array:
    """`a << count`; a count outside 0..bits-1 shifts everything out."""
    a, count = np.broadcast_arrays(np.asarray(a), np.asarray(count))
    bits = a.dtype.itemsize * 8
    inside: Array = (count >= 0) & (count < bits)
    return np.where(inside, np.left_shift(a, np.where(inside, count, 0)), 0).astype(a.dtype)


def shr(a: Array, count: Array) -> Array:
    """`a >> count`, arithmetic; a count outside 0..bits-1 leaves the sign: 0 or -1."""
    a, count = np.broadcast_arrays(np.asarray(a), np.asarray(count))
    bits = a.dtype.itemsize * 8
    inside: Array = (count >= 0) & (count < bits)
    shift: Array = np.full_like(count, bits - 1)
    np.copyto(shift, count, where=inside)
    return np.right_shift(a, shift).astype(a.dtype)


def fma(a: Array, b: Array, c: Array) -> Array:
    """`a * b + c`, rounded once.

    For f32 the product is exact in float64; the sum is made odd-rounded first (Boldo and Melquiond 2008), so that the
    second rounding cannot double-round. For f64, sums without error where they settle the rounding, else exact rational arithmetic
    element by element: slow and right.
    """
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    with np.errstate(all="ignore"):
        if a.dtype == np.float32:
            product = np.multiply(a, b, dtype=np.float64)
            addend = c.astype(np.float64)
            total = np.asarray(product + addend)
            back = total - product
            error = (product - (total - back)) + (addend - back)
            if not np.any(error):
                return total.astype(np.float32)
            bits = total.view(np.int64)
            away = np.where((error > 0) == (total > 0), 1, -1)
            odd = np.where((error != 0) & np.isfinite(total) & (bits % 2 == 0), bits + away, bits)
            return odd.view(np.float64).astype(np.float32)
        if not a.shape == b.shape == c.shape:
            a, b, c = np.broadcast_arrays(a, b, c)
        result, sure = _fma_settled(a, b, c)
        if not np.all(sure):
            # Of infinities, NaNs and a product of nothing, the plain formula rounds at most once.
            plain = ~sure & ~((a != 0.0) & (b != 0.0) & np.isfinite(a) & np.isfinite(b) & np.isfinite(c))
            np.copyto(result, a * b + c, where=plain)
            rest = ~(sure | plain)
            result[rest] = [_fma_exact(*each) for each in zip(a[rest].tolist(), b[rest].tolist(), c[rest].tolist(), strict=True)]
        return result


def _fma_settled(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """`a * b + c` of float64 in one rounding, and where that is sure: the product and the sums as pairs whose total is exact (Dekker
    1971), and the last error either nothing or too small to move the result over the middle between two floats."""
    product, low = _product_and_error(a, b)
    total, rest = _sum_and_error(product, c)
    small, lost = _sum_and_error(rest, low)
    result, off = _sum_and_error(total, small)
    within = np.ones(result.shape, bool)
    for x in (a, b):
        within &= (x == 0.0) | ((np.abs(x) > 1e-140) & (np.abs(x) < 1e140))
    within &= (np.abs(c) < 1e290) & (result != 0.0)  # the sign of a zero sum follows from the signs of its terms
    settled = (lost == 0.0) | (np.abs(off) + 2.0 * np.abs(lost) < 0.25 * np.spacing(np.abs(result)))
    return np.array(result), np.asarray(within & settled)


def _sum_and_error(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _product_and_error(a: Array, b: Array) -> tuple[Array, Array]:
    product = a * b
    (ah, al), (bh, bl) = ((high := (134217729.0 * x) - (134217729.0 * x - x), x - high) for x in (a, b))
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def _fma_exact(a: float, b: float, c: float) -> float:
    from fractions import Fraction

    plain = a * b + c
    if not all(map(math.isfinite, (a, b, c))):
        return plain
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return plain  # the sign of a zero sum follows from the signs of the (possibly zero) terms
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _erf(x: Array) -> Array:
    x = np.asarray(x, np.float64)
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def _rsqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x)


_FLOAT64: dict[str, Callable[..., Array]] = {
    "rsqrt": _rsqrt,
    "erf": _erf,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "pow": np.power,
}


def rounded(name: str) -> Callable[..., Array]:
    """The float function `name` computed in float64 and rounded once to the arguments' dtype."""

    def reference(*args: Array) -> Array:
        function = _FLOAT64.get(name) or getattr(np, name)
        arrays = [np.asarray(a) for a in args]
        with np.errstate(all="ignore"):
            return np.asarray(function(*(a.astype(np.float64) for a in arrays))).astype(arrays[0].dtype)

    return reference


def to_bf16(x: Array) -> Array:
    """float32 to bf16 bits (uint16), rounding to nearest even; NaN stays a quiet NaN."""
    x = np.asarray(x, np.float32)
    bits: Array = x.view(np.uint32)
    rounded_bits: Array = np.asarray((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16, np.uint16)
    np.copyto(rounded_bits, ((bits >> 16) | 0x40).astype(np.uint16), where=np.isnan(x))
    return rounded_bits


def from_bf16(bits: Array) -> Array:
    """bf16 bits (uint16) to the float32 that they are."""
    wide: Array = np.asarray(bits, np.uint16).astype(np.uint32) << 16
    return wide.view(np.float32)


def store(x: Array, dtype: DType) -> Array:
    """`x` (of an arithmetic type) as an array of storage `dtype`: floats round to nearest even, integers wrap.

    A float becomes an integer by truncation; what does not fit saturates to the arithmetic type that holds `dtype`, NaN gives 0
    (as CUDA's and Rust's conversions do; NumPy's result is undefined).
    """
    x = np.asarray(x)
    with np.errstate(all="ignore"):
        if dtype.name == "bf16":
            return to_bf16(x)
        if dtype.is_int and x.dtype.kind == "f":
            x = _saturate(x, np.dtype(np.int64 if dtype.reads_as == "i64" else np.int32))
        return x.astype(dtype.numpy)


def read(x: Array, dtype: DType) -> Array:
    """An array of storage `dtype` as its arithmetic type."""
    if dtype.name == "bf16":
        return from_bf16(x)
    from kernel_ir.dtypes import reads_as

    return np.asarray(x).astype(reads_as(dtype).numpy, copy=False)


def _saturate(x: Array, integer: np.dtype[Any]) -> Array:
    info = np.iinfo(integer)
    whole = np.trunc(x.astype(np.float64))
    low, high = whole <= float(info.min), whole >= -float(info.min)  # -min is exactly a float, max is not
    safe = np.where(low | high | np.isnan(whole), 0.0, whole).astype(integer)
    return np.where(high, info.max, np.where(low, info.min, safe)).astype(integer)


def cast_to(dtype: DType) -> Callable[[Array], Array]:
    """The cast `dtype(e)`: through storage, and read back as its arithmetic type."""
    return lambda x: read(store(x, dtype), dtype)

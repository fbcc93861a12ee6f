"""Turns results and their truth into errors: element by element, and in figures (relative, ULP) over many."""

from dataclasses import dataclass

import numpy as np

from kernel_ir import meaning
from kernel_ir.bounded_ops import FORMATS
from kernel_ir.dtypes import DType, reads_as
from kernel_ir.number_system import Array
from kernel_ir.truth import Truth


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one form over the sampled elements whose truth is finite and well-conditioned: the greatest relative to the truth, the
    greatest and the mean in ULP of the stored type. `lost` elements are infinite or NaN where the truth is not, or the other way round."""

    relative: float
    ulp: float
    mean_ulp: float
    lost: int

    def __str__(self) -> str:
        lost = f", {self.lost} not finite" if self.lost else ""
        return f"{self.relative:.3g} relative, {self.ulp:.3g} ULP (mean {self.mean_ulp:.3g}){lost}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One array of one call, as the original computes it: its values and their error against the truth."""

    dtype: DType
    exact: Array
    """The truth as far as the stored type reaches: infinite where even its greatest number is too small."""
    bound: Array
    """How far any evaluation of the original may lie from the truth."""
    values: Array
    error: Array

    @property
    def size(self) -> Array:
        """The magnitude that errors are relative to: of the truth, at least the least normal number."""
        return np.maximum(np.abs(np.where(np.isfinite(self.exact), self.exact, 0)), least_normal(self.dtype))

    @property
    def greatest(self) -> float:
        """The greatest finite number of the stored type."""
        return FORMATS[self.dtype.name].greatest if self.dtype.is_float else np.inf

    @property
    def ill(self) -> Array:
        """Where the original's rounding may cost half of the digits (cancellation), or decide a comparison."""
        if not reads_as(self.dtype).is_float:
            return np.isinf(self.bound)
        return self.bound > np.sqrt(FORMATS[reads_as(self.dtype).name].unit) * self.size


def measured(stored: Array, known: Truth, dtype: DType) -> Measured:
    """The original's results of one array beside their truth."""
    exact, values = known.value, meaning.read(stored, dtype)
    if dtype.is_float:
        f = FORMATS[dtype.name]
        with np.errstate(all="ignore"):
            beyond = np.abs(exact) > np.longdouble(f.greatest) * (1 + np.longdouble(f.unit) / 2)
            exact = np.where(beyond, np.copysign(np.inf, exact), exact)
    return Measured(dtype, exact, known.bound, values, error(values, exact))


def error(values: Array, exact: Array) -> Array:
    """|value - exact|: 0 where both are the same infinity or NaN, or the same integer; infinite where only one is.

    >>> error(np.float32([1.5, np.inf, np.nan, np.inf]), np.array([1.0, np.inf, np.nan, 2.0])).astype(float).tolist()
    [0.5, 0.0, 0.0, inf]
    """
    if values.dtype.kind != "f":
        return np.where(values == exact, 0.0, np.inf)
    with np.errstate(all="ignore"):
        left, right = values.astype(np.longdouble), exact.astype(np.longdouble)
        gap = np.abs(left - right)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        return np.where(same, 0, np.where(np.isfinite(gap), gap, np.inf))


def least_normal(dtype: DType) -> float:
    """The least normal number of a float type; 1 for others."""
    return FORMATS[dtype.name].tiny / (2 * FORMATS[dtype.name].unit) if dtype.is_float else 1.0


class Tally:
    """Errors as they come in, array by array."""

    def __init__(self) -> None:
        self.elements = self.lost = self._finite = 0
        self._relative = self._ulp = self._total = 0.0

    def add(self, errors: Array, of: Measured) -> None:
        """Counts the errors of one array's elements."""
        self.elements += errors.size
        self.lost += int(np.count_nonzero(np.isinf(errors)))
        clear = np.isfinite(errors) & np.isfinite(of.exact) & ~of.ill
        if not of.dtype.is_float or not clear.any():
            return
        found, size = errors[clear], of.size[clear]
        ulps = found / (np.exp2(np.floor(np.log2(size))) * 2 * FORMATS[of.dtype.name].unit)
        self._relative = max(self._relative, float((found / size).max()))
        self._ulp = max(self._ulp, float(ulps.max()))
        self._total += float(ulps.sum())
        self._finite += ulps.size

    def figures(self) -> Errors:
        """The figures over all that was counted."""
        return Errors(self._relative, self._ulp, self._total / max(1, self._finite), self.lost)

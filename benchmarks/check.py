"""Turns a contender's results and the reference ones into a verdict: None, or what is wrong."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from kernel_ir.dtypes import DType

Array = np.ndarray[Any, Any]

TOLERANCES: Final = {"f64": (1e-9, 1e-10), "f32": (1e-4, 1e-5), "f16": (2e-3, 1e-3)}
"""By dtype: the error allowed relative to the element, plus that relative to its array's largest magnitude, for cancellation."""

FLIPPED: Final = 1e-3
"""Share of the elements of an integer output that may differ: a count or an arg-min of rounded floats flips where two come close."""


def verdict(actual: Sequence[Array], expected: Sequence[Array], dtypes: Sequence[DType], names: Sequence[str]) -> str | None:
    """What is wrong with `actual`, output by output, or None."""
    if len(actual) != len(expected):
        return f"{len(actual)} results instead of {len(expected)}"
    faults = (_fault(a, e, dtype, name) for a, e, dtype, name in zip(actual, expected, dtypes, names, strict=True))
    return next((fault for fault in faults if fault), None)


def _fault(actual: Array, expected: Array, dtype: DType, name: str) -> str | None:
    if actual.shape != expected.shape:
        return f"{name} has shape {actual.shape} instead of {expected.shape}"
    if not dtype.is_float:
        share = float(np.mean(actual != expected)) if expected.size else 0.0
        return f"{name}: {share:.2%} of the elements differ" if share > FLIPPED else None
    relative, absolute = TOLERANCES[dtype.name]
    error = np.abs(actual.astype(np.float64) - expected)
    allowed = relative * np.abs(expected) + absolute * np.max(np.abs(expected), initial=0.0)
    wrong = ~(error <= allowed)
    if not wrong.any():
        return None
    where = np.unravel_index(int(np.argmax(np.where(wrong, error - allowed, -np.inf))), error.shape)
    place = ", ".join(map(str, where))
    return f"{name}: {wrong.mean():.2%} wrong, {name}[{place}] is {actual[where]!s} instead of {expected[where]!s}"

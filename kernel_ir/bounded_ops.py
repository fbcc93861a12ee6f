"""Turns an op and (value, bound) operands into its value in higher precision and the error that the operands' bounds make in it.

An op's own rounding is added by `bounded.py`. A bound of infinity says that the result is unknown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from kernel_ir import meaning
from kernel_ir.number_system import Array, Value
from kernel_ir.ops import OPS

REAL: Final[dict[str, np.dtype[Any]]] = {"f32": np.dtype(np.float64), "f64": np.dtype(np.longdouble)}
"""The NumPy dtype in which values of an arithmetic float type are computed."""


@dataclass(frozen=True, slots=True)
class Format:
    """A float format: unit roundoff, least positive number, greatest finite number."""

    unit: float
    tiny: float
    greatest: float


FORMATS: Final[dict[str, Format]] = {
    "bf16": Format(2.0**-8, 2.0**-133, 2.0**127 * (2 - 2.0**-7)),
    "f16": Format(2.0**-11, 2.0**-24, 65504.0),
    "f32": Format(2.0**-24, 2.0**-149, float(np.finfo(np.float32).max)),
    "f64": Format(2.0**-53, 2.0**-1074, float(np.finfo(np.float64).max)),
}
OWN: Final = {"f32": 2.0**-50, "f64": 8 * float(np.finfo(np.longdouble).eps)}
"""Relative error, at most, of one op of ours in higher precision (a few ulp for the functions)."""

_ALIASES: Final = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "pow": "power", "round": "rint"}
UNROUNDED: Final = frozenset(("sign", "floor", "ceil", "round", "trunc"))
"""Ops whose result is exact, for an exact argument."""
_ROUNDED: Final = (
    "sqrt",
    "cbrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "asin",
    "acos",
    "atan",
    "sinh",
    "tanh",
    "erf",
    "rsqrt",
)
_MONOTONE: Final = UNROUNDED.union(_ROUNDED)


def real_function(name: str) -> Callable[..., Array]:
    """The function `name` of the op table over float64 or long double."""
    return {"rsqrt": _rsqrt, "erf": _erf}.get(name) or getattr(np, _ALIASES.get(name, name))


def _rsqrt(x: Array) -> Array:
    return np.asarray(1 / np.sqrt(x))


def _erf(x: Array) -> Array:
    """Of float64 accuracy in either precision: `call` grants that error."""
    return np.asarray(meaning.rounded("erf")(x.astype(np.float64))).astype(x.dtype)


def real_op(name: str, args: Sequence[Value]) -> Value:
    """Value and propagated bound of a float op, its own rounding not yet in the bound."""
    if name in _MONOTONE:
        return _monotone(real_function(name), args[0])
    (a, ea), (b, eb) = args[0], args[-1]
    size_a, size_b = np.abs(a).astype(np.float64), np.abs(b).astype(np.float64)
    match name:
        case "neg":
            return -a, ea
        case "abs":
            return np.abs(a), ea
        case "add" | "sub":
            value = a + b if name == "add" else a - b
            return value, _certain(value, ea + eb)
        case "mul":
            return _product_of(args[0], args[1])
        case "fma":
            product, error = _product_of(args[0], args[1])
            value = product + args[2][0]
            return value, _certain(value, error + args[2][1])
        case "div":
            value = a / b
            room = size_b - eb
            error = np.where(room > 0, (ea + np.abs(value).astype(np.float64) * eb) / room, np.inf)
            error = np.where((a == 0) & (ea == 0) & (room > 0), 0.0, error)
            # The sign of a zero divisor is not tracked, so x / 0 is unknown; 0 / 0, NaN and infinities are not.
            nan = np.isnan(value) & np.isfinite(ea) & np.isfinite(eb) & ((eb == 0) | np.isnan(a) | np.isnan(b))
            nan &= (ea == 0) | (size_b != 0)
            infinite = np.isinf(a) & (ea == 0) & (room > 0) | np.isinf(b) & (eb == 0) & np.isfinite(ea)
            return value, np.where(nan | (infinite & ~np.isnan(value)), 0.0, error)
        case "min" | "max" | "fmin" | "fmax":
            value = {"min": np.minimum, "max": np.maximum, "fmin": np.fmin, "fmax": np.fmax}[name](a, b)
            return value, np.maximum(ea, eb)
        case "sin" | "cos":
            value = real_function(name)(a)
            return value, np.where(np.isnan(value) & np.isfinite(ea), 0.0, np.minimum(ea, 2.0) + np.where(np.isinf(ea), np.inf, 0.0))
        case "tan":
            value, error = _monotone(np.tan, args[0])
            same = np.floor((a - ea) / np.pi + 0.5) == np.floor((a + ea) / np.pi + 0.5)
            return value, np.where(same | (ea == 0), error, np.inf)
        case "cosh":
            value, error = _monotone(np.cosh, args[0])
            return value, np.where(size_a <= ea, np.maximum(error, np.cosh(size_a + ea).astype(np.float64) - 1), error)
        case "hypot":
            value = np.hypot(a, b)
            return value, _certain(value, ea + eb)
        case "atan2":
            value = np.arctan2(a, b)
            room = np.hypot(size_a, size_b) - ea - eb
            error = np.where((ea == 0) & (eb == 0), 0.0, np.where((room > 0) & ((size_a > ea) | (b - eb > 0)), (ea + eb) / room, np.inf))
            # A signed zero decides the side of the branch cut, and signs of zeros are not tracked.
            return value, np.where((a == 0) & (b <= 0), np.inf, error)
        case "pow":
            return _power(args[0], args[1])
        case "powi":
            return _integer_power(args[0], int(args[1][0].flat[0]))
        case "floordiv" | "mod":
            return _floor_division(name, args[0], args[1])
        case _:
            raise AssertionError(f"no bound for {name}")


def _monotone(f: Callable[..., Array], x: Value) -> Value:
    value, error = x
    y = np.asarray(f(value))
    if not error.any():
        return y, np.zeros(y.shape)
    return y, _spread(y, [np.asarray(f(value - error)), np.asarray(f(value + error))], error)


def _spread(y: Array, corners: Sequence[Array], error: Array) -> Array:
    """How far the corners lie from y; 0 where all are the same infinity or all NaN."""
    worst = np.zeros(y.shape)
    for corner in corners:
        same = (corner == y) | (np.isnan(corner) & np.isnan(y))
        worst = np.maximum(worst, np.where(same, 0.0, no_nan(np.abs(corner - y).astype(np.float64))))
    return np.where(np.isinf(error), np.inf, worst)


def _product_of(x: Value, y: Value) -> Value:
    (a, ea), (b, eb) = x, y
    size_a, size_b = np.abs(a).astype(np.float64), np.abs(b).astype(np.float64)
    value = a * b
    # An exact zero times anything finite is exactly zero.
    error = np.where(ea == 0, 0.0, size_b * ea) + np.where(eb == 0, 0.0, size_a * eb) + np.where((ea == 0) | (eb == 0), 0.0, ea * eb)
    inexact = ((ea != 0) & ((b != 0) | (eb != 0))) | ((eb != 0) & ((a != 0) | (ea != 0)))
    error = np.where(inexact, np.maximum(error, np.finfo(np.float64).smallest_subnormal), error)  # the bound itself may underflow
    infinite = np.isinf(value) & (size_a > ea) & (size_b > eb)
    nan = np.isnan(value) & np.isfinite(ea) & np.isfinite(eb) & (np.isnan(a) | np.isnan(b) | (ea == 0) & (eb == 0))
    return value, np.where(infinite | nan, 0.0, np.where(np.isfinite(value), error, np.inf))


def _certain(value: Array, error: Array) -> Array:
    """The bound of a sum: an infinite or NaN value stays so under finite errors of its terms."""
    return np.where(np.isfinite(value) | np.isinf(error), error, 0.0)


def _power(x: Value, y: Value) -> Value:
    (a, ea), (b, eb) = x, y
    value = np.power(a, b)
    if not (ea.any() or eb.any()):
        # pow(±0, negative) takes the sign of its zero, which is not tracked.
        return value, np.where((a == 0) & (b < 0), np.inf, 0.0)
    corners = [np.power(np.maximum(a + s * ea, 0), b + t * eb) for s in (-1, 1) for t in (-1, 1)]
    unknown = (a - ea < 0) | (a == 0) | (a - ea <= 0) & (b - eb <= 0)
    exact = (ea == 0) & (eb == 0) & (a != 0)
    return value, np.where(exact, 0.0, np.where(unknown, np.inf, _spread(value, corners, ea + eb)))


def _integer_power(x: Value, n: int) -> Value:
    a, ea = x
    value = np.power(a, a.dtype.type(n))
    unit = {"d": FORMATS["f32"], "g": FORMATS["f64"]}[a.dtype.char]
    size = np.abs(a).astype(np.float64)
    count = abs(n)
    rounds = max(count - 1, 0) * unit.unit
    positive = np.abs(np.power(a, a.dtype.type(count))).astype(np.float64)
    growth = np.log1p(ea / np.where(size > 0, size, 1))
    error = np.where(size > 0, positive * np.expm1(count * growth + rounds), np.power(ea, float(count)) * (1 + 2 * rounds))
    error = np.where((ea == 0) & ((size == 0) | (count <= 1)), 0.0, np.maximum(error, rounds * positive))
    error = np.where(np.isfinite(positive) & (positive <= unit.greatest), error, np.where(ea == 0, 0.0, np.inf))
    if n >= 0:
        return value, no_nan(error)
    room = positive - error
    away = (size == 0) | (positive > unit.greatest) | (positive < unit.tiny / unit.unit)
    known = np.where(room > 0, np.abs(value).astype(np.float64) * error / np.where(room > 0, room, 1.0), np.inf)
    return value, np.where(away, np.inf, no_nan(known))


def _floor_division(name: str, x: Value, y: Value) -> Value:
    (a, ea), (b, eb) = x, y
    quotient = np.floor_divide(a, b)
    corners = [np.floor_divide(a + s * ea, b + t * eb) for s in (-1, 1) for t in (-1, 1)]
    exact = (ea == 0) & (eb == 0) & (b != 0)
    same = np.all([c == quotient for c in corners], axis=0) & (np.abs(b) > eb) & np.isfinite(quotient)
    # NumPy divides first and floors then: near an integer the quotient rounds to it.
    nearly = np.abs(a / b - np.rint(a / b)) < 2.0**-20 * np.abs(a / b)
    known = exact | (same & ~nearly)
    if name == "floordiv":
        return quotient, np.where(known, 0.0, np.inf)
    value = np.remainder(a, b)
    error = ea + np.abs(quotient).astype(np.float64) * eb
    return value, np.where(exact & np.isfinite(a), 0.0, np.where(known, error, np.inf))


def compared(name: str, x: Value, y: Value) -> Value:
    (a, ea), (b, eb) = x, y
    value = np.asarray(OPS[name].numpy(a, b))
    with np.errstate(all="ignore"):
        known = (np.abs(a - b) > ea + eb) | ((ea == 0) & (eb == 0)) | (np.isnan(a) & np.isfinite(ea)) | (np.isnan(b) & np.isfinite(eb))
    return value, np.where(known, 0.0, np.inf)


def union(bounds: Sequence[Array]) -> Array:
    total = bounds[0]
    for bound in bounds[1:]:
        total = np.maximum(total, bound)
    return total


def no_nan(bound: Array) -> Array:
    return np.where(np.isnan(bound), np.inf, bound)

"""Numbers with a running error bound: each value in higher precision, with how far any licensed evaluation may lie from it.

f32 is computed in float64 and f64 in long double; no working-precision rounding is done, it goes into the bound instead:
|working-precision result - exact result| <= bound, for any grouping of sums and any error that the op table's ULP allow. A bound of
infinity says "unknown": a comparison, a rounding to an integer, an overflow that could go either way. Integers and booleans
are exact (0) or unknown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from kernel_ir import meaning
from kernel_ir.dtypes import DTYPES, F32, F64, DType, reads_as
from kernel_ir.evaluate import reduce as plain_reduce
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.interpret import Accumulator, Array, Value
from kernel_ir.nodes import AssignOp, Call, Reduce
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
_MONOTONE: Final = frozenset(
    "sqrt cbrt exp exp2 expm1 log log2 log10 log1p asin acos atan sinh tanh erf rsqrt sign floor ceil round trunc".split()
)
_UNROUNDED: Final = frozenset("sign floor ceil round trunc".split())


def real_function(name: str) -> Callable[..., Array]:
    """The function `name` of the op table over float64 or long double."""
    if name == "rsqrt":
        return lambda x: 1 / np.sqrt(x)
    if name == "erf":  # of float64 accuracy only: `_own_error` says so
        return lambda x: meaning.rounded("erf")(x.astype(np.float64)).astype(x.dtype)
    return getattr(np, _ALIASES.get(name, name))


class BoundedNumbers:
    """The number system of (value, bound) pairs, under the licence of some fast-math flags."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        # A licensed rewrite may fold constants in working precision (x / 3 as x * 0.333…): such a constant has two roundings.
        self.folds_constants = bool(flags & {Flag.REASSOC, Flag.ARCP, Flag.AFN})

    # values

    def given(self, array: Array, dtype: DType) -> Value:
        """An argument, exact, as it is stored in memory."""
        value = meaning.read(array, dtype)
        arithmetic = reads_as(dtype)
        if not arithmetic.is_float:
            return (value, np.zeros(value.shape))
        return self._licensed(value.astype(REAL[arithmetic.name]), np.zeros(value.shape))

    def exact(self, array: Array, dtype: DType) -> Value:
        if not dtype.is_float:
            return (array, np.zeros((1,) * array.ndim))
        value = array.astype(REAL[dtype.name])
        bound = np.zeros(array.shape)
        if self.folds_constants:
            mantissa, _ = np.frexp(value)
            short = np.ldexp(mantissa, 10)
            with np.errstate(all="ignore"):
                bound = np.where(np.isfinite(value) & (short != np.rint(short)), 2 * FORMATS[dtype.name].unit * np.abs(value), 0.0)
        return self._licensed(value, bound.astype(np.float64))

    def read(self, stored: Value, dtype: DType) -> Value:
        return stored

    def store(self, value: Value, dtype: DType) -> Value:
        return self._cast(value, dtype)

    def uncertain(self, value: Value) -> Array | None:
        unknown = np.isinf(value[1])
        return unknown if unknown.any() else None

    def doubt(self, value: Value, where: Array) -> Value:
        return (value[0], np.where(where, np.inf, value[1]))

    def accumulator(self, target: Value, op: AssignOp, dtype: DType) -> Accumulator:
        return _Sum(self, target, dtype) if op == "+=" else _Extreme(self, target, op, dtype)

    # ops

    def call(self, e: Call, args: Sequence[Value]) -> Value:
        op = OPS[e.op]
        if op.cast is not None:
            return self._cast(args[0], op.cast)
        if e.op == "select":
            return self._select(*args)
        if args[-1 if e.op != "powi" else 0][0].dtype.kind != "f":
            return self._discrete(e, args)
        if e.dtype.name == "bool":
            return _compared(e.op, args[0], args[1])
        name = e.dtype.name
        with np.errstate(all="ignore"):
            value, bound = _real_op(e.op, args)
            if e.op in ("neg", "abs", "min", "max", "fmin", "fmax") or e.op in _UNROUNDED:
                return self._licensed(value, bound)
            return self._rounded(value, bound, name, max(0.5, op.ulp), 2.0**-51 if e.op == "erf" else OWN[name])

    def _discrete(self, e: Call, args: Sequence[Value]) -> Value:
        value = np.asarray(OPS[e.op].numpy(*(a[0] for a in args)))
        unknown = _union([a[1] for a in args])
        if e.op in ("and", "or"):
            settles = e.op == "or"  # one operand known to be this decides
            for a in args:
                unknown = np.where((a[0] == settles) & (a[1] == 0), 0.0, unknown)
        return (value, unknown)

    def _select(self, condition: Value, a: Value, b: Value) -> Value:
        with np.errstate(all="ignore"):
            value = np.where(condition[0], a[0], b[0])
            bound = np.where(condition[0], a[1], b[1])
            if not np.isinf(condition[1]).any():
                return (value, bound)
            if value.dtype.kind == "f":
                gap = np.abs(a[0] - b[0]).astype(np.float64)
                both = gap + np.maximum(a[1], b[1])
                both = np.where((a[0] == b[0]) | (np.isnan(a[0]) & np.isnan(b[0])), np.maximum(a[1], b[1]), both)
            else:
                both = np.where(a[0] == b[0], np.maximum(a[1], b[1]), np.inf)
            return (value, _no_nan(np.where(np.isinf(condition[1]), both, bound)))

    def _cast(self, x: Value, to: DType) -> Value:
        value, bound = x
        source = value.dtype.kind
        arithmetic = reads_as(to)
        with np.errstate(all="ignore"):
            if not to.is_float:
                narrow = value.astype(np.float64) if source == "f" else value
                result = meaning.read(meaning.store(narrow, to), to)
                if source != "f":
                    return (result, bound)
                ends = [meaning.read(meaning.store((value + s * bound).astype(np.float64), to), to) for s in (-1, 1)]
                sure = (ends[0] == result) & (ends[1] == result) & ~np.isinf(bound)
                sure &= (bound == 0) | (value != 0) if to.name == "bool" else True
                return (result, np.where(sure, 0.0, np.inf))
            real = value.astype(REAL[arithmetic.name])
            if source != "f":
                inexact = 2.0**-60 if arithmetic.name == "f64" else 2.0**-52
                return self._rounded(real, bound, to.name, 0.5, inexact, np.abs(real) <= 1 / FORMATS[to.name].unit)
            digits = {"d": F32, "g": F64}[value.dtype.char].digits
            if to.digits >= digits:
                return (real, np.broadcast_to(bound, real.shape))
            return self._rounded(real, bound, to.name, 0.5, 0.0 if arithmetic is F32 and value.dtype.char == "d" else 2.0**-52)

    # rounding

    def _rounded(self, value: Array, bound: Array, fmt: str, ulp: float, own: float, unrounded: Array | None = None) -> Value:
        """The value with one rounding to `fmt` of at most `ulp` in its bound; overflow for certain, or unknown."""
        f = FORMATS[fmt]
        size = np.abs(value).astype(np.float64)
        error = 2 * f.unit * ulp * (size + bound) + own * size + np.where((size != 0) | (bound != 0), f.tiny * max(1.0, ulp), 0.0)
        bound = bound + (error if unrounded is None else np.where(unrounded, 0.0, error))
        return self._limited(value, bound, fmt)

    def _limited(self, value: Array, bound: Array, fmt: str) -> Value:
        f = FORMATS[fmt]
        size = np.abs(value).astype(np.float64)
        finite = np.isfinite(value)
        # A result rounds to infinity from greatest * (1 + unit / 2) on; in between it is unknown.
        certain = finite & (size - bound > f.greatest * (1 + f.unit))
        unsure = finite & ~certain & (size + bound > f.greatest)
        value = np.where(certain, np.copysign(np.inf, value), value)
        bound = np.where(certain | (~finite & np.isfinite(bound)), 0.0, np.where(unsure, np.inf, bound))
        return self._licensed(value, bound)

    def _licensed(self, value: Array, bound: Array) -> Value:
        """Unknown where nnan or ninf makes the value meaningless."""
        bound = _no_nan(np.broadcast_to(bound, value.shape))
        if Flag.NNAN in self.flags:
            bound = np.where(np.isnan(value), np.inf, bound)
        if Flag.NINF in self.flags:
            bound = np.where(np.isinf(value), np.inf, bound)
        return (value, bound)

    # reductions

    def reduce(self, e: Reduce, bodies: Sequence[Value], mask: Array | None, axes: tuple[int, ...]) -> Value:
        body = bodies[-1]
        if body[0].dtype.kind != "f":
            return _discrete_reduce(e.kind, body, mask, axes)
        with np.errstate(all="ignore"):
            match e.kind:
                case "sum":
                    return self._sum(body, mask, axes, e.dtype.name)
                case "prod":
                    return self._product(body, mask, axes, e.dtype.name)
                case "max" | "min":
                    return self._licensed(*_extreme(e.kind, body, mask, axes))
                case "argmax" | "argmin":
                    return _first_extreme(e.kind, body, mask, axes)
                case _:
                    return self._expsum(bodies[0], body, mask, axes, e.dtype.name)

    def _sum(self, body: Value, mask: Array | None, axes: tuple[int, ...], fmt: str) -> Value:
        value, bound = body if mask is None else (np.where(mask, body[0], body[0].dtype.type(0)), np.where(mask, body[1], 0.0))
        total = value.sum(axis=axes, keepdims=True)
        size = np.where(np.isfinite(value), np.abs(value), 0).astype(np.float64)
        return self.summed(total, _over(bound, axes), _over(size, axes), _count(value, mask, axes), fmt)

    def summed(self, total: Array, bound: Array, size: Array, count: Array, fmt: str) -> Value:
        """The sum of `count` terms in any grouping, from the sums of values, of bounds and of magnitudes of terms."""
        f = FORMATS[fmt]
        rounds = np.maximum(count - 1, 0)
        error = bound + rounds * f.unit * (size + bound) * (1 + rounds * f.unit) + count * OWN[fmt] * size
        # Some grouping overflows on its way though the total does not, unless all terms have one sign.
        one_sign = np.abs(total) >= size * (1 - 1e-9)
        way = (size + bound > f.greatest) & ~(one_sign & (np.abs(total) - error > f.greatest * (1 + f.unit)))
        error = np.where(way & ~np.isnan(total), np.inf, error)
        return self._limited(total, error, fmt)

    def _product(self, body: Value, mask: Array | None, axes: tuple[int, ...], fmt: str) -> Value:
        one = body[0].dtype.type(1)
        value, bound = body if mask is None else (np.where(mask, body[0], one), np.where(mask, body[1], 0.0))
        f = FORMATS[fmt]
        total = value.prod(axis=axes, keepdims=True)
        count = _count(value, mask, axes)
        size = np.abs(value).astype(np.float64)
        most = (size + bound).prod(axis=axes, keepdims=True)
        error = most * (1 + f.unit + OWN[fmt]) ** count - size.prod(axis=axes, keepdims=True)
        way = np.maximum(size + bound, 1).prod(axis=axes, keepdims=True) > f.greatest
        least = np.where(size == 0, 1, np.minimum(size, 1)).prod(axis=axes, keepdims=True)
        way |= least < f.tiny / f.unit
        zero = ((value == 0) & (bound == 0)).any(axis=axes, keepdims=True) & np.isfinite(most)
        way &= ~zero & np.isfinite(total)
        return self._limited(
            total, np.where(zero | ~np.isfinite(total) & np.isfinite(_over(bound, axes)), 0.0, np.where(way, np.inf, error)), fmt
        )

    def _expsum(self, s: Value, v: Value, mask: Array | None, axes: tuple[int, ...], fmt: str) -> Value:
        """The formula, with the rounding errors of an online evaluation, which rescales at most `count` times."""
        f = FORMATS[fmt]
        top, top_bound = _extreme("max", s, mask, axes)
        count = _count(s[0], mask, axes)
        weight = np.exp(s[0] - top)
        exp_error = 2 * f.unit * OPS["exp"].ulp
        relative = np.expm1(s[1] + top_bound) + 2 * f.unit * np.abs(s[0] - top).astype(np.float64)
        relative = relative + (count + 1) * (2 * exp_error + f.unit)
        size = np.abs(weight * v[0]).astype(np.float64)
        certain = np.isfinite(s[0]) | (s[1] == 0)
        relative = np.where(np.isfinite(s[0] - top), relative, np.where(certain & (top_bound == 0), 0.0, np.inf))
        term = np.where(size == 0, 0.0, size * relative) + weight.astype(np.float64) * (1 + relative) * v[1] + f.tiny
        return self._sum((weight * v[0], _no_nan(term)), mask, axes, fmt)


class _Sum:
    """`+=`: terms in any order."""

    def __init__(self, numbers: BoundedNumbers, target: Value, dtype: DType) -> None:
        self.numbers, self.dtype = numbers, dtype
        self.total, self.bound = target[0].copy(), target[1].copy()
        self.size = np.abs(target[0]).astype(np.float64)
        self.count = np.zeros(target[0].shape)

    def add(self, index: tuple[Array, ...], value: Value) -> None:
        np.add.at(self.total, index, value[0])
        np.add.at(self.bound, index, value[1])
        np.add.at(self.size, index, np.abs(value[0]).astype(np.float64))
        np.add.at(self.count, index, 1)

    def finish(self) -> Value:
        if self.total.dtype.kind != "f":
            return self.numbers.store((self.total, self.bound), self.dtype)
        with np.errstate(all="ignore"):
            size = np.where(np.isfinite(self.size), self.size, 0)
            value = self.numbers.summed(self.total, self.bound, size, self.count + 1, reads_as(self.dtype).name)
            return self.numbers.store(value, self.dtype)


class _Extreme:
    """`max=` and `min=`: the hull of all that the element may be."""

    def __init__(self, numbers: BoundedNumbers, target: Value, op: AssignOp, dtype: DType) -> None:
        self.numbers, self.dtype = numbers, dtype
        self.join = np.maximum if op == "max=" else np.minimum
        self.value, self.low, self.high = target[0].copy(), target[0] - target[1], target[0] + target[1]
        self.unknown = np.isinf(target[1])

    def add(self, index: tuple[Array, ...], value: Value) -> None:
        self.join.at(self.value, index, value[0])
        self.join.at(self.low, index, value[0] - value[1])
        self.join.at(self.high, index, value[0] + value[1])
        np.logical_or.at(self.unknown, index, np.isinf(value[1]))

    def finish(self) -> Value:
        with np.errstate(all="ignore"):
            bound = np.maximum(self.high - self.value, self.value - self.low).astype(np.float64)
            bound = np.where((self.high == self.low) | np.isnan(self.value), 0.0, bound)
            bound = np.where(self.unknown, np.inf, _no_nan(bound))
        return self.numbers.store((self.value, bound), self.dtype)


def _real_op(name: str, args: Sequence[Value]) -> Value:
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
        worst = np.maximum(worst, np.where(same, 0.0, _no_nan(np.abs(corner - y).astype(np.float64))))
    return np.where(np.isinf(error), np.inf, worst)


def _product_of(x: Value, y: Value) -> Value:
    (a, ea), (b, eb) = x, y
    size_a, size_b = np.abs(a).astype(np.float64), np.abs(b).astype(np.float64)
    value = a * b
    # An exact zero times anything finite is exactly zero.
    error = np.where(ea == 0, 0.0, size_b * ea) + np.where(eb == 0, 0.0, size_a * eb) + np.where((ea == 0) | (eb == 0), 0.0, ea * eb)
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
    error = np.power(size + ea, float(count)) * (1 + rounds * (1 + rounds)) - np.power(size, float(count))
    error = np.where((ea == 0) & ((size == 0) | (count <= 1)), 0.0, np.maximum(error, rounds * positive))
    error = np.where(np.isfinite(positive) & (positive <= unit.greatest), error, np.where(ea == 0, 0.0, np.inf))
    if n >= 0:
        return value, _no_nan(error)
    room = positive - error
    away = (size == 0) | (positive > unit.greatest) | (positive < unit.tiny / unit.unit)
    known = np.where(room > 0, np.abs(value).astype(np.float64) * error / np.where(room > 0, room, 1.0), np.inf)
    return value, np.where(away, np.inf, _no_nan(known))


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


def _compared(name: str, x: Value, y: Value) -> Value:
    (a, ea), (b, eb) = x, y
    value = np.asarray(OPS[name].numpy(a, b))
    with np.errstate(all="ignore"):
        known = (np.abs(a - b) > ea + eb) | ((ea == 0) & (eb == 0)) | (np.isnan(a) & np.isfinite(ea)) | (np.isnan(b) & np.isfinite(eb))
    return value, np.where(known, 0.0, np.inf)


def _extreme(kind: str, body: Value, mask: Array | None, axes: tuple[int, ...]) -> Value:
    value, bound = body
    best = plain_reduce(kind, value, mask, axes)
    low, high = (plain_reduce(kind, np.asarray(value + s * bound), mask, axes) for s in (-1, 1))
    error = np.where((low == best) & (high == best), 0.0, np.maximum(high - best, best - low).astype(np.float64))
    unknown = np.isinf(bound) if mask is None else np.isinf(bound) & mask
    lost = unknown.any(axis=axes, keepdims=True)
    return best, np.where(lost, np.inf, np.where(np.isnan(best), 0.0, _no_nan(error)))


def _first_extreme(kind: str, body: Value, mask: Array | None, axes: tuple[int, ...]) -> Value:
    """argmax: known where no other point, its error granted, can reach the winner (exact ties go to the lowest index)."""
    value, bound = body
    position = plain_reduce(kind, value, mask, axes)
    valid = np.ones(value.shape, np.bool_) if mask is None else mask
    best, _ = _extreme(kind.removeprefix("arg"), body, mask, axes)
    winner = valid & ((value == best) | (np.isnan(best) & np.isnan(value)))
    slack = np.where(winner, bound, 0.0).max(axis=axes, keepdims=True, initial=0.0)
    near = np.abs(value - best).astype(np.float64) <= bound + slack
    rival = valid & near & ~((bound == 0) & (slack == 0)) & ~(winner & (winner.sum(axis=axes, keepdims=True) == 1))
    rival |= valid & np.isinf(bound)
    return position, np.where(rival.any(axis=axes, keepdims=True), np.inf, 0.0)


def _discrete_reduce(kind: str, body: Value, mask: Array | None, axes: tuple[int, ...]) -> Value:
    value = plain_reduce(kind, body[0], mask, axes)
    unknown = np.isinf(body[1]) if mask is None else np.isinf(body[1]) & mask
    lost = np.broadcast_to(unknown, body[0].shape).any(axis=axes, keepdims=True)
    if kind in ("any", "all"):
        settled = (body[0] == (kind == "any")) & ~np.isinf(body[1]) & (True if mask is None else mask)
        lost = lost & ~settled.any(axis=axes, keepdims=True)
    return value, np.where(lost, np.inf, 0.0)


def _over(a: Array, axes: tuple[int, ...]) -> Array:
    return a.sum(axis=axes, keepdims=True)


def _count(value: Array, mask: Array | None, axes: tuple[int, ...]) -> Array:
    """How many points the reduction joins."""
    return np.broadcast_to(np.True_ if mask is None else mask, value.shape).sum(axis=axes, keepdims=True).astype(np.float64)


def _union(bounds: Sequence[Array]) -> Array:
    total = bounds[0]
    for bound in bounds[1:]:
        total = np.maximum(total, bound)
    return total


def _no_nan(bound: Array) -> Array:
    return np.where(np.isnan(bound), np.inf, bound)

"""Numbers with a running error bound: each value in higher precision, with how far any licensed evaluation may lie from it.

f32 is computed in float64 and f64 in long double; no working-precision rounding is done, it goes into the bound instead:
|working-precision result - exact result| <= bound, for any grouping of sums and any error that the op table's ULP allow. A bound of
infinity says "unknown": a comparison, a rounding to an integer, an overflow that could go either way. Integers and booleans
are exact (0) or unknown.
"""

from collections.abc import Sequence

import numpy as np

from kernel_ir import meaning
from kernel_ir.bounded_ops import FORMATS, OWN, REAL, UNROUNDED, compared, no_nan, real_op, union
from kernel_ir.bounded_reduce import count, discrete_reduce, extreme, first_extreme, over
from kernel_ir.dtypes import F32, F64, DType, reads_as
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.nodes import AssignOp, Call, Reduce
from kernel_ir.number_system import Accumulator, Array, Value
from kernel_ir.ops import OPS


class BoundedNumbers:
    """The number system of (value, bound) pairs, under the licence of some fast-math flags."""

    def __init__(self, flags: Flags, wide: bool = False) -> None:
        self.flags = flags
        self.wide = wide
        # A licensed rewrite may fold constants in working precision (x / 3 as x * 0.333…): such a constant has two roundings.
        self.folds_constants = bool(flags & {Flag.REASSOC, Flag.ARCP, Flag.AFN})

    # values

    def given(self, array: Array, dtype: DType) -> Value:
        """An argument, exact, as it is stored in memory."""
        value = np.array(meaning.read(array, dtype))
        arithmetic = reads_as(dtype)
        if not arithmetic.is_float:
            return (value, np.zeros(value.shape))
        value, bound = self._licensed(np.array(value, REAL[arithmetic.name]), np.zeros(value.shape))
        return (value, np.array(bound))

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
            return compared(e.op, args[0], args[1])
        name = e.dtype.name
        with np.errstate(all="ignore"):
            value, bound = real_op(e.op, args)
            if e.op in ("neg", "abs", "min", "max", "fmin", "fmax") or e.op in UNROUNDED:
                return self._licensed(value, bound)
            result = self._rounded(value, bound, name, max(0.5, op.ulp), 2.0**-51 if e.op == "erf" else OWN[name])
            return self._rearranged(e.op, result, args)

    def _rearranged(self, op: str, result: Value, args: Sequence[Value]) -> Value:
        """Unknown where the flags license another order of arithmetic, which overflows elsewhere: a * b / c as a * (b / c)."""
        value = result[0]
        reassoc = Flag.REASSOC in self.flags and op in ("add", "sub", "mul", "div", "fma", "powi")
        arcp = Flag.ARCP in self.flags and op in ("mul", "div")
        if not (reassoc or arcp or (Flag.CONTRACT in self.flags and op == "mul")):
            return result
        finite = np.logical_and.reduce([np.broadcast_to(np.isfinite(a[0]), value.shape) for a in args if a[0].dtype.kind == "f"])
        lost = np.isinf(value) & finite
        if reassoc and op in ("mul", "fma", "powi"):
            lost = lost | np.isinf(value)
        if reassoc and op in ("add", "sub"):
            lost = lost | (np.isnan(value) & ~np.isnan(args[0][0]) & ~np.isnan(args[1][0]))
        return self.doubt(result, lost)

    def _discrete(self, e: Call, args: Sequence[Value]) -> Value:
        value = np.asarray(OPS[e.op].numpy(*(a[0] for a in args)))
        unknown = union([a[1] for a in args])
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
            return (value, no_nan(np.where(np.isinf(condition[1]), both, bound)))

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
        """The value with one rounding to `fmt` of at most `ulp` in its bound; overflow for certain, or unknown (see `_limited`)."""
        f = FORMATS[fmt]
        size = np.where(np.isfinite(value), np.abs(value), 0).astype(np.float64)
        error = 2 * f.unit * ulp * (size + bound) + own * size + np.where((value != 0) | (bound != 0), f.tiny * max(1.0, ulp), 0.0)
        bound = bound + (error if unrounded is None else np.where(unrounded, 0.0, error))
        return self._limited(value, bound, fmt)

    def _limited(self, value: Array, bound: Array, fmt: str) -> Value:
        """The value, infinite or unknown beyond the format's greatest number, unless numbers are wide."""
        if self.wide:
            return self._licensed(value, bound)
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
        bound = no_nan(np.broadcast_to(bound, value.shape))
        if Flag.NNAN in self.flags:
            bound = np.where(np.isnan(value), np.inf, bound)
        if Flag.NINF in self.flags:
            bound = np.where(np.isinf(value), np.inf, bound)
        return (value, bound)

    # reductions

    def reduce(self, e: Reduce, bodies: Sequence[Value], mask: Array | None, axes: tuple[int, ...]) -> Value:
        body = bodies[-1]
        if body[0].dtype.kind != "f":
            return discrete_reduce(e.kind, body, mask, axes)
        with np.errstate(all="ignore"):
            match e.kind:
                case "sum":
                    if isinstance(e.bodies[0], Call) and e.bodies[0].op == "mul":
                        # A library's matrix product contracts a * b + c, and so need not overflow where the product does.
                        body = self.doubt(body, np.isinf(body[0]))
                    return self._sum(body, mask, axes, e.dtype.name)
                case "prod":
                    return self._product(body, mask, axes, e.dtype.name)
                case "max" | "min":
                    return self._licensed(*extreme(e.kind, body, mask, axes))
                case "argmax" | "argmin":
                    return first_extreme(e.kind, body, mask, axes)
                case _:
                    return self._expsum(bodies[0], body, mask, axes, e.dtype.name)

    def _sum(self, body: Value, mask: Array | None, axes: tuple[int, ...], fmt: str) -> Value:
        value, bound = body if mask is None else (np.where(mask, body[0], body[0].dtype.type(0)), np.where(mask, body[1], 0.0))
        total = value.sum(axis=axes, keepdims=True)
        size = np.where(np.isfinite(value), np.abs(value), 0).astype(np.float64)
        result = self.summed(total, over(bound, axes), over(size, axes), count(value, mask, axes), fmt)
        if Flag.REASSOC not in self.flags:
            return result
        overflows = np.isinf(result[0]) & np.isfinite(value).all(axis=axes, keepdims=True)
        return self.doubt(result, overflows | (np.isnan(total) & ~np.isnan(value).any(axis=axes, keepdims=True)))

    def summed(self, total: Array, bound: Array, size: Array, count: Array, fmt: str) -> Value:
        """The sum of `count` terms in any grouping, from the sums of values, of bounds and of magnitudes of terms."""
        f = FORMATS[fmt]
        rounds = np.maximum(count - 1, 0)
        error = bound + rounds * f.unit * (size + bound) * (1 + rounds * f.unit) + count * OWN[fmt] * size
        # Some grouping overflows on its way though the total does not, unless all terms have one sign.
        one_sign = np.isfinite(total) & (np.abs(total) >= size * (1 - 1e-9))
        way = (size + bound > f.greatest) & ~(one_sign & (np.abs(total) - error > f.greatest * (1 + f.unit)))
        error = np.where(way & ~np.isnan(total) & (not self.wide), np.inf, error)
        return self._limited(total, error, fmt)

    def _product(self, body: Value, mask: Array | None, axes: tuple[int, ...], fmt: str) -> Value:
        one = body[0].dtype.type(1)
        value, bound = body if mask is None else (np.where(mask, body[0], one), np.where(mask, body[1], 0.0))
        f = FORMATS[fmt]
        total = value.prod(axis=axes, keepdims=True)
        terms = count(value, mask, axes)
        size = np.abs(value).astype(np.float64)
        most = (size + bound).prod(axis=axes, keepdims=True)
        # By logarithms: in float64, 1 + unit is 1.
        growth = over(np.log1p(bound / np.where(size > 0, size, 1)), axes)
        error: Array = np.abs(total).astype(np.float64) * np.expm1(growth + terms * (f.unit + OWN[fmt]))
        error = np.where(size.min(axis=axes, keepdims=True, initial=1.0) > 0, error, most * (1 + terms * f.unit))
        way = (np.maximum(size + bound, 1).prod(axis=axes, keepdims=True) > f.greatest) & (not self.wide)
        least = np.where(size == 0, 1, np.minimum(size, 1)).prod(axis=axes, keepdims=True)
        way |= least < f.tiny / f.unit
        zero = ((value == 0) & (bound == 0)).any(axis=axes, keepdims=True) & np.isfinite(most)
        way &= ~zero & np.isfinite(total)
        settled = zero | (~np.isfinite(total) & np.isfinite(over(bound, axes)))
        return self._limited(total, np.where(settled, 0.0, np.where(way, np.inf, error)), fmt)

    def _expsum(self, s: Value, v: Value, mask: Array | None, axes: tuple[int, ...], fmt: str) -> Value:
        """The formula, with the rounding errors of an online evaluation, which rescales at most `count` times."""
        f = FORMATS[fmt]
        top, top_bound = extreme("max", s, mask, axes)
        terms = count(s[0], mask, axes)
        weight = np.exp(s[0] - top)
        exp_error = 2 * f.unit * OPS["exp"].ulp
        relative = np.expm1(s[1] + top_bound) + 2 * f.unit * np.abs(s[0] - top).astype(np.float64)
        relative = relative + (terms + 1) * (2 * exp_error + f.unit)
        size = np.abs(weight * v[0]).astype(np.float64)
        certain = np.isfinite(s[0]) | (s[1] == 0)
        relative = np.where(np.isfinite(s[0] - top), relative, np.where(certain & (top_bound == 0), 0.0, np.inf))
        term = np.where(size == 0, 0.0, size * relative) + weight.astype(np.float64) * (1 + relative) * v[1] + f.tiny
        return self._sum((weight * v[0], no_nan(term)), mask, axes, fmt)


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
            bound = np.where(self.unknown, np.inf, no_nan(bound))
        return self.numbers.store((self.value, bound), self.dtype)

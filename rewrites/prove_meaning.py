"""Turns a pattern and sampled values into its value: by bits, over the reals, or with sums as uninterpreted multisets."""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.ops import OPS, REDUCTIONS
from rewrites.guards import COMPARISONS, SCOPE, WRAPPING, Guard
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, subpatterns, type_of
from rewrites.prove_values import Samples

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype

Array = Any
Real = Any  # an mpmath number, an int or a bool; None where it is undefined


def bits_value(p: Pattern, s: Samples, seen: list[Array] | None = None) -> Array:
    """The value in the dtypes' own arithmetic; each operation's result is added to `seen`."""
    match p:
        case Var():
            return s.values[p.name]
        case Index():
            return s.indices[p.name]
        case Lit():
            return np.asarray(p.value, dtype=s.dtypes[p.type].numpy)
        case Apply():
            args = [bits_value(a, s, seen) for a in p.args]
            if p.op == "pow":  # NumPy takes other paths for a lone exponent
                args = [np.array(a) for a in np.broadcast_arrays(*args)]
            with np.errstate(all="ignore"):
                result = np.asarray(OPS[p.op].numpy(*args))
            if p.op in ("min", "max", "fmin", "fmax") and result.dtype.kind == "f":
                result = np.where(
                    (args[0] == 0) & (args[1] == 0) & (np.signbit(args[0]) != np.signbit(args[1])), result.dtype.type(s.zero), result
                )
        case Reduction():
            result = _reduced(p, s, seen)
        case At():
            result = _taken(bits_value(p.of, s), p, s)
    if seen is not None:
        seen.append(result)
    return result


def _taken(values: Array, p: At, s: Samples) -> Array:
    """The values at one place of an index's axis; at its nearest end where the place is outside."""
    axis = s.axes[p.index]
    place = np.clip(bits_value(p.to, s), 0, values.shape[axis] - 1).astype(np.int64)
    shape = np.broadcast_shapes(np.take(values, [0], axis=axis).shape, place.shape)
    whole = (*shape[:axis], values.shape[axis], *shape[axis + 1 :])
    return np.take_along_axis(np.broadcast_to(values, whole), np.broadcast_to(place, shape), axis=axis)


def _reduced(p: Reduction, s: Samples, seen: list[Array] | None) -> Array:
    axis = s.axes[p.index]
    lo, hi = bits_value(p.lo, s), bits_value(p.hi, s)
    inside = (s.indices[p.index] >= lo) & (s.indices[p.index] < hi)
    bodies = [bits_value(b, s, seen) for b in p.bodies]
    dtype = s.dtypes[p.type]
    body = np.broadcast_arrays(*bodies, inside)
    inside = body[-1]
    with np.errstate(all="ignore"):
        if p.kind in ("argmax", "argmin"):
            return _first_of_best(p.kind, body[0], inside, axis, dtype)
        if p.kind == "expsum":
            top = np.max(np.where(inside, body[0], -np.inf), axis=axis, keepdims=True)
            terms = OPS["exp"].numpy(body[0] - top) * body[1]
            return np.sum(np.where(inside, terms, 0), axis=axis, keepdims=True).astype(dtype.numpy)
        combine = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "any": np.logical_or, "all": np.logical_and}[
            p.kind
        ]
        filled = np.where(inside, body[0], np.asarray(over_nothing(p.kind, dtype), dtype.numpy))
        result = combine.reduce(filled, axis=axis, keepdims=True, dtype=filled.dtype)
        if p.kind in ("max", "min") and dtype.is_float:
            zero, negative = inside & (body[0] == 0), np.signbit(body[0])
            both = (zero & negative).any(axis=axis, keepdims=True) & (zero & ~negative).any(axis=axis, keepdims=True)
            result = np.where(both & (result == 0), dtype.numpy.type(s.zero), result)
        return result


def _first_of_best(kind: str, body: Array, inside: Array, axis: int, dtype: DType) -> Array:
    """The lowest index inside the range at which the greatest (least) value is; NaN is both."""
    worst = -np.inf if kind == "argmax" else np.inf
    filled = np.where(inside, body, np.asarray(worst, dtype.numpy) if dtype.is_float else _least(dtype, kind))
    best = (np.max if kind == "argmax" else np.min)(filled, axis=axis, keepdims=True)
    found = inside & ((body == best) | (np.isnan(best) & np.isnan(body) if dtype.is_float else False))
    return np.expand_dims(np.argmax(found, axis=axis), axis)


def _least(dtype: DType, kind: str) -> Any:
    info = np.iinfo(dtype.numpy)
    return np.asarray(info.min if kind == "argmax" else info.max, dtype.numpy)


def over_nothing(kind: str, dtype: DType) -> Any:
    """The value of a reduction over no terms."""
    value = REDUCTIONS[kind].over_nothing
    if dtype.is_int and kind in ("max", "min"):
        info = np.iinfo(dtype.numpy)
        return info.min if kind == "max" else info.max
    return value


def regrouped_value(p: Pattern, s: Samples) -> Array:
    """The value as a 64-bit hash: float operations are uninterpreted, a float sum or product adds its terms' hashes."""
    match p:
        case Var() | Index() | Lit():
            return _hashed(bits_value(p, s)) if s.dtypes[p.type].is_float else bits_value(p, s)
        case Apply():
            args = [regrouped_value(a, s) for a in p.args]
            if not any(s.dtypes[type_of(a)].is_float for a in p.args):
                with np.errstate(all="ignore"):
                    plain = np.asarray(OPS[p.op].numpy(*args))
                return _hashed(plain) if s.dtypes[p.result].is_float else plain
            if p.op == "select":
                return np.where(*args)
            mixed = functools.reduce(
                lambda h, a: _scramble(h * np.uint64(3) + np.asarray(a).astype(np.uint64)),
                args,
                np.uint64(len(p.op) * 7919 + sum(map(ord, p.op))),
            )
            if OPS[p.op].commutative:
                total = args[0].astype(np.uint64) + args[1].astype(np.uint64)
                mixed = _scramble(total + np.uint64(sum(map(ord, p.op))))
            return mixed.astype(np.int64) % 2 == 0 if s.dtypes[p.result] is BOOL else mixed
        case Reduction():
            axis = s.axes[p.index]
            inside = (s.indices[p.index] >= bits_value(p.lo, s)) & (s.indices[p.index] < bits_value(p.hi, s))
            if not s.dtypes[p.type].is_float:
                return _reduced(p, s, None)
            first, *rest = (regrouped_value(b, s) for b in p.bodies)
            whole = functools.reduce(lambda h, b: _scramble(h * np.uint64(3) + b), rest, first)
            body, inside = np.broadcast_arrays(whole, inside)
            salt = np.uint64({"sum": 1, "prod": 3, "max": 5, "min": 7, "expsum": 9}[p.kind])
            return np.sum(np.where(inside, body * salt, np.uint64(0)), axis=axis, keepdims=True, dtype=np.uint64)
        case At():
            return _taken(regrouped_value(p.of, s), p, s)


def _hashed(x: Array) -> Array:
    return _scramble(np.asarray(x).astype(np.float64).view(np.uint64))


def _scramble(h: Array) -> Array:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        h = np.asarray(h, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return h ^ (h >> np.uint64(31))


def real_value(p: Pattern, env: Mapping[str, Any], indices: Mapping[str, int], mp: Any) -> Real:
    """The value over the reals at one point, at mpmath's precision; None where it is not defined.

    `env` maps a variable to a function of the indices.
    """
    match p:
        case Var():
            return env[p.name](indices)
        case Index():
            return indices[p.name]
        case Lit():
            return p.value if isinstance(p.value, bool | int) else mp.mpf(p.value)
        case Apply():
            args = [real_value(a, env, indices, mp) for a in p.args]
            return None if any(a is None for a in args) else _real_op(p, args, mp)
        case Reduction():
            lo, hi = (real_value(b, env, indices, mp) for b in (p.lo, p.hi))
            rows = [[real_value(b, env, {**indices, p.index: i}, mp) for b in p.bodies] for i in range(lo, hi)]
            if any(x is None for row in rows for x in row):
                return None
            return _real_reduction(p.kind, rows, mp, lo)
        case At():
            return env[p.of.name]({**indices, p.index: int(real_value(p.to, env, indices, mp))})


def _real_and(_mp: Any, a: Any, b: Any) -> Any:
    return a and b


def _real_or(_mp: Any, a: Any, b: Any) -> Any:
    return a or b


def _real_not(_mp: Any, a: Any) -> Any:
    return not a


def _real_select(_mp: Any, c: Any, a: Any, b: Any) -> Any:
    return a if c else b


_REAL: Final[Mapping[str, Callable[..., Any]]] = {"and": _real_and, "or": _real_or, "not": _real_not, "select": _real_select}


def _real_op(p: Apply, args: list[Any], mp: Any) -> Real:
    op = OPS[p.op]
    meaning = _REAL.get(op.name) or (op.mpmath if op.mpmath != "convert" else None)
    try:
        if op.cast is not None:
            return mp.mpf(args[0]) if op.cast.is_float else int(args[0])
        if callable(meaning):
            result = meaning(mp, *args)
        elif isinstance(meaning, str):
            result = getattr(mp, meaning)(*args)
        else:
            result = op.numpy(*args)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    if isinstance(result, mp.mpc):
        return None
    if isinstance(result, mp.mpf) and not mp.isfinite(result) and (op.name not in _CHOOSE or mp.isnan(result)):
        return None
    return result


_CHOOSE: Final = ("select", "min", "max")
"""What may give an infinity that stands in the rule: only computing with it has no real value."""


def _real_reduction(kind: str, rows: list[list[Any]], mp: Any, lo: int) -> Real:
    match kind:
        case "sum":
            return sum((r[0] for r in rows), mp.mpf(0))
        case "prod":
            return functools.reduce(lambda x, r: x * r[0], rows, mp.mpf(1))
        case "max" | "min":
            pick = max if kind == "max" else min
            return pick(r[0] for r in rows) if rows else mp.mpf("-inf" if kind == "max" else "inf")
        case "argmax" | "argmin":
            pick = max if kind == "argmax" else min
            values = [r[0] for r in rows]
            return lo + values.index(pick(values)) if values else None
        case "expsum":
            top = max((r[0] for r in rows), default=0)
            if rows and not mp.isfinite(top):
                return None
            return sum((mp.exp(r[0] - top) * r[1] for r in rows), mp.mpf(0))
        case _:
            return None


def guard_holds(g: Guard, s: Samples) -> Array:
    """Where the guard is true, over the samples (for a value that depends on an index: at each of its values)."""
    if g.kind in SCOPE:
        return np.asarray(True)
    if g.kind == "nowrap":
        return _exact(g.args[0], s)
    values = [bits_value(a, s) for a in g.args]
    x = values[0]
    floating = x.dtype.kind == "f"
    with np.errstate(all="ignore"):
        match g.kind:
            case kind if kind in COMPARISONS:
                left, right = (_mathematical(a, s) if not floating else v for a, v in zip(g.args, values, strict=True))
                return np.asarray(OPS[kind].numpy(left, right), bool)
            case "pow2":
                if not floating:
                    return (x > 0) & (x & (x - 1) == 0)
                mantissa, exponent = np.frexp(x)
                return (np.abs(mantissa) == 0.5) & (exponent >= -125) & (exponent <= 127)
            case "divides":
                return (x != 0) & (np.remainder(values[1], np.where(x == 0, 1, x)) == 0)
            case "nonneg":
                return ~(x < 0) if floating else x >= 0
            case "positive":
                return x > 0
            case "nonzero":
                return x != 0
            case "finite":
                return np.isfinite(x)
            case "notnan":
                return ~np.isnan(x)
            case _:
                raise AssertionError(g.kind)


def _whole_mod(a: Any, b: Any) -> Any:
    return np.where(b == 0, 0, a % np.where(b == 0, 1, b))


def _whole_div(a: Any, b: Any) -> Any:
    return np.where(b == 0, 0, a // np.where(b == 0, 1, b))


_INTEGER: Final[Mapping[str, Callable[..., Any]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "mod": _whole_mod,
    "floordiv": _whole_div,
    "min": np.minimum,
    "max": np.maximum,
}


def _mathematical(p: Pattern, s: Samples) -> Array:
    """An integer expression of a guard, over the mathematical integers."""
    if not isinstance(p, Apply):
        return np.asarray(bits_value(p, s)).astype(object)
    return _INTEGER[p.op](*(_mathematical(a, s) for a in p.args))


def _exact(p: Pattern, s: Samples) -> Array:
    """Where every operation of `p` gives its mathematical result."""
    fits = np.asarray(True)
    for x in subpatterns(p):
        if isinstance(x, Apply) and x.op in WRAPPING:
            exact = _INTEGER[x.op](*(np.asarray(bits_value(a, s)).astype(object) for a in x.args))
            info = np.iinfo(s.dtypes[x.type].numpy)
            fits = fits & np.asarray((exact >= info.min) & (exact <= info.max), bool)
    return fits

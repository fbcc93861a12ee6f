"""Turns a rule into a counterexample, or none: both sides run as kernel expressions, by the language's own evaluators.

It shares nothing with the rule checker but the rule itself. Claims of equal bits are tried by `evaluate` on edge grids and on many more
random points than the checker takes; claims over the reals by `truth`, in higher precision with its running error bounds. An unflagged
rule over float sums is tried where grouping cannot matter: on two terms at most, and on numbers so small and whole that sums are exact.
"""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from benchmarks.claims import LANE, Claim, Points, holds, scope_of, value_of
from benchmarks.points import points_for
from kernel_ir.bounded import BoundedNumbers
from kernel_ir.dtypes import F32, F64, I64, DType
from kernel_ir.errors import ArgumentError
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.interpret import Machine, Scope, nesting
from kernel_ir.nodes import Expr, IndexRef, Load, Local, Reduce
from kernel_ir.ops import OPS
from kernel_ir.walk import subtrees as expressions
from rewrites.pattern import Apply, Pattern, Reduction, subpatterns, type_of
from rewrites.rule import Rule, Within

EXACT: Final = frozenset((Flag.NNAN, Flag.NINF, Flag.NSZ))
"""Flags that license no rounding."""
POINTS: Final = 30_000

ALONE: Final = 500
"""Points of a piece that are tried one by one where a side is an error at some."""
SHOWN: Final = 50
"""Points at which the sides differ that are looked at: at some the left side may be an error."""


def counterexample(rule: Rule, points: int = POINTS) -> str:
    """Where the rule is wrong, in words; empty if no point shows it."""
    used = sorted({t for side in (rule.lhs, rule.rhs) for p in subpatterns(side) for t in _types(p)})
    for chosen in itertools.product(*(rule.types[t] for t in used)):
        claim = Claim(rule, dict(zip(used, map(_widest(rule), chosen), strict=True)))
        for lhs, rhs in rule.directions:
            found = _tried(claim, claim.expression(lhs), claim.expression(rhs), points)
            if found:
                return found
    return ""


def _widest(rule: Rule) -> Callable[[DType], DType]:
    """What to take for a dtype: a claim over the reals shows most at the highest precision, where no cast tells the types apart."""
    casts = any(isinstance(p, Apply) and OPS[p.op].cast for side in (rule.lhs, rule.rhs) for p in subpatterns(side))
    return lambda dtype: F64 if rule.needs - EXACT and dtype is F32 and not casts else dtype


def _types(p: Pattern) -> tuple[int, ...]:
    return (p.type, p.result) if isinstance(p, Apply | Reduction) else (p.type,)


def _tried(claim: Claim, left: Expr, right: Expr, points: int) -> str:
    needs = claim.rule.needs
    real = bool(needs - EXACT) and any(e.dtype.is_float for e in expressions(left))
    for given in points_for(claim, points, real):
        count = len(next(iter(given.values()))) if given else 1
        good = np.ones(count, bool)
        for g in claim.rule.guards:
            good &= _lanewise(np.asarray(holds(claim, g, given)), count)
        try:
            same = _agree(claim, left, right, given, real)
        except ArgumentError:  # an argmax of nothing is an error, and not another value: such points are passed over
            same = _agree_one_by_one(claim, left, right, given, real)
        wrong = np.flatnonzero(good & ~same)
        for lane in wrong[:SHOWN]:
            try:
                return _told(claim, left, right, given, int(lane))
            except ArgumentError:
                continue
    return ""


def _agree(claim: Claim, left: Expr, right: Expr, given: Points, real: bool) -> Any:
    return _agree_really(claim.rule, left, right, given) if real else _agree_exactly(claim, left, right, given)


def _agree_one_by_one(claim: Claim, left: Expr, right: Expr, given: Points, real: bool) -> Any:
    """The first points each by itself, those at which a side is an error taken as agreeing, as are all after them."""
    count = len(next(iter(given.values()))) if given else 1
    same = np.ones(count, bool)
    for lane in range(min(count, ALONE)):
        with contextlib.suppress(ArgumentError):
            same[lane] = np.all(_agree(claim, left, right, {name: a[lane : lane + 1] for name, a in given.items()}, real))
    return same


def _lanewise(a: Any, count: int) -> Any:
    """What holds at every index, lane by lane."""
    return np.broadcast_to(a.reshape(len(a), -1).all(axis=1) if a.ndim else a, (count,))


def _agree_exactly(claim: Claim, left: Expr, right: Expr, given: Points) -> Any:
    needs = claim.rule.needs
    a, b = value_of(left, given), value_of(right, given)
    same = a == b
    if a.dtype.kind == "f":
        signless = Flag.NSZ in needs or claim.free_zeros or claim.regrouped
        same = (same & (signless | (np.signbit(a) == np.signbit(b)))) | (np.isnan(a) & np.isnan(b))
    for excluded, test in ((Flag.NNAN, np.isnan), (Flag.NINF, np.isinf)):
        if excluded in needs:
            for x in (left, *expressions(left)):
                if x.dtype.is_float and not any(isinstance(y, Load | IndexRef | Reduce) for y in expressions(x)):
                    same = same | test(value_of(x, given))
    return same


def _agree_really(rule: Rule, left: Expr, right: Expr, given: Points) -> Any:
    (a, ea), (b, eb) = (_true_value(e, given, rule.needs) for e in (left, right))
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else a == b
        near = np.abs(a - b) <= (ea + eb) * 1.01 + _stated(rule.within, a, _narrowest(rule)) if a.dtype.kind == "f" else same
    unknown = np.isinf(ea) | np.isinf(eb)
    if unknown.any() and a.dtype.kind == "f":
        # Nothing overflows at points in general position: a right side that is infinite or NaN is undefined there.
        undefined = np.isfinite(value_of(left, given)) & ~np.isfinite(value_of(right, given))
        return same | (near & ~unknown) | (unknown & ~undefined)
    return same | near | unknown


def _narrowest(rule: Rule) -> Any:
    """The least precise float type that the left side may have: an error in ulp is stated for each."""
    return min((t.numpy for t in rule.types[type_of(rule.lhs)] if t.is_float), key=lambda t: t.itemsize)


def _stated(within: Within | None, value: Any, dtype: Any) -> Any:
    """How far an approximation says that it may lie from its left side."""
    if within is None:
        return 0.0
    scale = {"": np.ones_like(value), "relative": np.abs(value), "ulp": np.spacing(np.abs(value).astype(dtype))}[within.unit]
    return within.error * scale


def _true_value(e: Expr, given: Points, needs: Flags) -> tuple[Any, Any]:
    """Values in higher precision, and how far a licensed evaluation may lie from each."""
    numbers = BoundedNumbers(needs)
    lanes, arrays = scope_of(e, given)
    wanted = {x.name: x.dtype for x in expressions(e) if isinstance(x, Local)} | {LANE: I64}
    rank = 1 + nesting(e)
    shaped = {name: np.asarray(a).reshape(-1, *(1,) * (rank - 1)) for name, a in lanes.items() if name in wanted}
    names = {name: numbers.given(a, wanted[name]) for name, a in shaped.items()}
    dtypes = {name: dtype for name, (_, dtype) in arrays.items()}
    memory = {name: numbers.given(a, dtype) for name, (a, dtype) in arrays.items()}
    with np.errstate(all="ignore"):
        value, bound = Machine(numbers, memory, dtypes, {}, rank).eval(e, Scope(names, {}, 1))
    count = len(lanes[LANE])
    return tuple(np.broadcast_to(x.reshape(x.shape[0], -1)[:, 0], (count,)) for x in (value, bound))  # type: ignore[return-value]


def _told(claim: Claim, left: Expr, right: Expr, given: Points, at: int) -> str:
    """The counterexample in words."""
    one = {name: a[at : at + 1] for name, a in given.items()}
    where = ", ".join(
        f"{name}={np.array2string(a[0], threshold=8, separator=' ') if a.ndim > 1 else a[0]}" for name, a in sorted(one.items())
    )
    return f"{where}: {value_of(left, one)[0]} is not {value_of(right, one)[0]}".replace("\n", "")

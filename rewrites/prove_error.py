"""Turns an approximation into the worst error that it makes over the f32 of its interval, against its stated one.

The left side, in float64, is the truth; the right side is computed in f32 and then in float64, each with its own rounding. First each n-th
f32 of the interval, NaN and both ends: that finds what is wrong. Then, for f32, every value of the interval (`prove_sweep.py`). A relative
error is relative to the least normal number where the truth is smaller: there no formula can do better.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, F32, F64, I64, DType
from rewrites.guards import Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, subpatterns
from rewrites.prove_meaning import bits_value
from rewrites.prove_unroll import BOOLEAN, has_reductions
from rewrites.prove_values import Samples, assignments
from rewrites.prove_verdict import Deadline, Outcome
from rewrites.rule import Rule, Within

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any

CHUNK: Final = 1 << 18
MOST: Final = 1 << 22
"""Values tried first: of a longer interval each n-th f32, the least n that keeps to it."""
CHECKED: Final = 512
"""Values at which the reference is compared with more digits."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval of floats."""

    lo: float
    hi: float

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """(first bits, last bits, sign) of the f32 in it, magnitudes counted upwards."""
        for sign in (1, -1):
            low, high = (self.lo, self.hi) if sign > 0 else (-self.hi, -self.lo)
            if high >= 0:
                first, last = (int(np.float32(max(v, 0.0)).view(np.uint32)) for v in (low, high))
                yield first, last, sign

    @property
    def count(self) -> int:
        """How many f32 there are."""
        return sum(last - first + 1 for first, last, _ in self.runs())


def measured(rule: Rule, deadline: Deadline) -> Outcome:
    """Whether the error keeps to what `within` states, at each value tried, and NaN stays NaN."""
    assert rule.within is not None
    names = {p.name for p in subpatterns(rule.lhs) if isinstance(p, Var)}
    if len(names) != 1 or has_reductions(rule):
        return Outcome("unknown", why="an approximation has one variable and no reduction")
    (name,) = names
    where = interval(rule, name)
    step = max(1, -(-where.count // MOST))
    domains: list[str] = []
    for dtypes in assignments(rule):
        exponents = _exponents(rule.lhs) | _exponents(rule.rhs)
        kind = next(d for t, d in dtypes.items() if d is not BOOL and t != BOOLEAN and t not in exponents)
        if any(d not in (kind, BOOL) for t, d in dtypes.items() if t not in exponents):
            return Outcome("unknown", why="an approximation is of one dtype")
        found = _at_each(rule, name, _values(where, step), kind, deadline)
        if isinstance(found, Outcome):
            return found
        every = _everywhere(rule, name, where, deadline) if kind is F32 else None
        if isinstance(every, Outcome):
            return every
        worst = max(found[0], every[0]) if every else found[0]
        values = "every f32" if every or step == 1 else f"each {step}th f32"
        tried = f"{every[2] if every else found[1]:,} values{', the negative ones by symmetry' if every and every[1] else ''}"
        unit = f" {rule.within.unit}".rstrip()
        domains.append(f"{values} of [{where.lo:g}, {where.hi:g}] ({tried}) and NaN, in {kind}: worst error {worst:.3g}{unit}")
    return Outcome("proved", "measured", "; ".join(domains))


def _at_each(rule: Rule, name: str, values: Iterator[Array], kind: DType, deadline: Deadline) -> Outcome | tuple[float, int]:
    """The worst error at these values and their number, or what is wrong."""
    assert rule.within is not None
    worst, count = 0.0, 0
    for x in values:
        if deadline.passed:
            return Outcome("unknown", why="out of time")
        error = _errors(rule, name, x, kind, rule.within)
        at = int(np.argmax(error))
        worst, count = max(worst, float(error[at])), count + len(x)
        if not error[at] <= rule.within.error:
            why = f"{kind} {name}={float(x[at])!r}: the error is {float(error[at]):.3g}, {rule.within} was stated"
            return Outcome("refuted", why=why)
    return worst, count


def _everywhere(rule: Rule, name: str, where: Interval, deadline: Deadline) -> Outcome | tuple[float, bool, int] | None:
    """The worst error at every f32 of the interval, whether the negative ones follow from the others, how many there are; or what is wrong.

    None where the right side has no compiled form.
    """
    from rewrites import prove_sweep

    assert rule.within is not None
    compiled = prove_sweep.errors(rule.lhs, rule.rhs, rule.within.unit)
    if compiled is None:
        return None
    points = np.concatenate([*_values(where, max(1, where.count // CHECKED))])
    fault = prove_sweep.reference_fault(rule.lhs, points)
    if fault:
        return Outcome("unknown", why=fault)
    kind = prove_sweep.parity(rule.lhs)
    mirrored = bool(kind) and kind == prove_sweep.parity(rule.rhs) and where.lo == -where.hi
    worst, count = 0.0, 0
    for first, last, sign in where.runs():
        if mirrored and sign < 0:
            count *= 2
            continue
        for x in prove_sweep.bits_in_turn(first, last, sign):
            if deadline.passed:
                return Outcome("unknown", why="out of time")
            error = float(compiled(x).max())
            count += len(x)
            if not error <= rule.within.error:  # NaN where one side alone is NaN, or both: what is so is seen more closely
                found = _at_each(rule, name, iter((x,)), F32, deadline)
                if isinstance(found, Outcome):
                    return found
                error = found[0]
            worst = max(worst, error)
    return worst, mirrored, count


def interval(rule: Rule, name: str) -> Interval:
    """The interval that the guards hold the variable to; to the end of f32 where they say nothing."""
    lo, hi = float("-inf"), float("inf")
    for g in rule.guards:
        match g:
            case Guard("ge", (Var(n), Lit(value=v))) if n == name:
                lo = max(lo, float(v))
            case Guard("le", (Var(n), Lit(value=v))) if n == name:
                hi = min(hi, float(v))
            case _:
                pass
    return Interval(lo, hi)


def _values(where: Interval, step: int) -> Iterator[Array]:
    for first, last, sign in where.runs():
        for start in range(first, last + 1, CHUNK * step):
            bits = np.arange(start, min(start + CHUNK * step, last + 1), step, dtype=np.uint32)
            yield bits.view(np.float32) * np.float32(sign)
    yield np.array([where.lo, where.hi, np.nan], np.float32)


def _errors(rule: Rule, name: str, x: Array, kind: DType, within: Within) -> Array:
    """The error at each value, in the unit that is stated; infinite where one side alone is NaN or infinite."""
    truth = _evaluated(rule.lhs, name, x.astype(np.float64), F64)
    found = _evaluated(rule.rhs, name, x.astype(kind.numpy), kind).astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(found - truth)
        match within.unit:
            case "relative":
                error = error / np.maximum(np.abs(truth), float(np.finfo(kind.numpy).tiny))
            case "ulp":
                error = error / np.spacing(np.abs(truth).astype(kind.numpy)).astype(np.float64)
            case _:
                pass
    error = np.where(found == truth, 0.0, error)
    one_is_nan = np.isnan(found) != np.isnan(truth)
    return np.where(one_is_nan, np.inf, np.where(np.isnan(truth), 0.0, np.nan_to_num(error, nan=np.inf)))


def _evaluated(p: Pattern, name: str, x: Array, kind: DType) -> Array:
    dtypes = {t: kind for q in subpatterns(p) for t in ((q.type, q.result) if isinstance(q, Apply) else (q.type,))}
    return bits_value(p, Samples({name: x}, {}, {}, {**dtypes, **_exponents(p), **_booleans(p)}))


def _exponents(p: Pattern) -> dict[int, DType]:
    """Types of the literals that are integer powers."""
    return {q.args[1].type: I64 for q in subpatterns(p) if isinstance(q, Apply) and q.op == "powi"}


def _booleans(p: Pattern) -> dict[int, DType]:
    """Types of truth values: those of conditions."""
    conditions = {q.args[0] for q in subpatterns(p) if isinstance(q, Apply) and q.op == "select"}
    return {c.result: BOOL for c in conditions if isinstance(c, Apply)} | {
        q.type: BOOL for q in subpatterns(p) if isinstance(q, Lit) and isinstance(q.value, bool)
    }

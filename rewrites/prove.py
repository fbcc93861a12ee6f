"""Turns a rule into a verdict by evaluating both sides on edge grids, in the arithmetic that its licence speaks of.

Without flags both sides must have equal bits (NaN payloads apart). With `nnan`, `ninf`, `nsz` alone, equal bits but for what they
exclude. With any other flag the sides must agree over the reals, at 50 digits, where they are defined. An unflagged rule over a
float sum may only regroup it: its float operations are left uninterpreted, its sums are multisets.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.fastmath import Flag
from rewrites.guards import COMPARISONS, Guard
from rewrites.pattern import Apply, Lit, Reduction, Var, subpatterns
from rewrites.prove_meaning import bits_value, guard_holds, real_value, regrouped_value
from rewrites.prove_values import Samples, assignments, bound_variables, dependence, samples
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Random = Any  # a NumPy Generator

Method = Literal["bits", "regroup", "real"]
EXCLUSIONS: Final = frozenset((Flag.NNAN, Flag.NINF, Flag.NSZ))
POINTS: Final = 40
ENOUGH: Final = 12
"""Samples that must satisfy the guards, or the check proves nothing."""
DIGITS: Final = 50


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `why` tells where the sides differ, if they do; `spare` lists flags that the rule declares but does not need."""

    rule: str
    holds: bool
    method: Method
    samples: int
    why: str = ""
    spare: frozenset[Flag] = frozenset()


def check_rule(rule: Rule) -> Verdict:
    """Checks one rule, and which of its flags it can do without.

    >>> from rewrites.books import load_book
    >>> right, wrong = load_book("rule a: x * 1.0 => x\\nrule b: x + 0.0 => x\\n")
    >>> check_rule(right).holds, check_rule(wrong).holds, check_rule(wrong).why
    (True, False, 'f32 x=-0.0: 0.0 is not -0.0')
    """
    verdict = _checked(rule)
    if not verdict.holds or not rule.needs:
        return verdict
    weaker = [rule.needs - {flag} for flag in sorted(rule.needs, key=str)] if rule.needs <= EXCLUSIONS else [frozenset[Flag]()]
    spare = frozenset(flag for fewer in weaker if _checked(replace(rule, needs=fewer)).holds for flag in rule.needs - fewer)
    return replace(verdict, spare=spare)


def method(rule: Rule) -> Method:
    """In which arithmetic the rule's claim is made."""
    if rule.needs - EXCLUSIONS:
        return "real"
    reductions = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Reduction)]
    rounded = any(r.kind in ("sum", "prod", "expsum") and any(t.is_float for t in rule.types[r.type]) for r in reductions)
    return "regroup" if rounded else "bits"


def _checked(rule: Rule) -> Verdict:
    how = method(rule)
    check: Callable[[Rule, Mapping[int, DType]], tuple[int, str]] = {"bits": _by_bits, "regroup": _by_regrouping, "real": _over_the_reals}[
        how
    ]
    total = 0
    for dtypes in assignments(rule):
        count, counterexample = check(rule, dtypes)
        total += count
        if counterexample:
            return Verdict(rule.name, False, how, total, counterexample)
        if count < ENOUGH and any(isinstance(p, Var) and dtypes[p.type] is not BOOL for p in subpatterns(rule.lhs)):
            return Verdict(rule.name, False, how, total, f"only {count} samples satisfy the guards")
    return Verdict(rule.name, True, how, total)


def _licensed(rule: Rule, s: Samples) -> Any:
    """The samples at which every guard holds, whatever the indices."""
    count = max((len(v) for v in s.values.values()), default=1)
    good = np.ones(count, bool)
    for g in rule.guards:
        holds = guard_holds(g, s)
        good &= holds.reshape(len(holds), -1).all(axis=1) if holds.ndim > 1 else holds
    return good


def _by_bits(rule: Rule, dtypes: Mapping[int, DType]) -> tuple[int, str]:
    s = samples(rule, dtypes)
    good = _licensed(rule, s)
    seen: list[Any] = []
    bits_value(rule.lhs, s, seen)
    if rule.needs:
        good = good & _not_excluded(rule.needs, [*seen, *s.values.values()], len(good))
    zeros = (0.0, -0.0) if _chooses_zeros(rule) else (0.0,)
    allowed = [bits_value(rule.lhs, replace(s, zero=zero)) for zero in zeros]
    for zero in zeros:
        count, why = _compare(s, allowed, bits_value(rule.rhs, replace(s, zero=zero)), good, Flag.NSZ in rule.needs)
        if why:
            return count, why
    return int(good.sum()), ""


def _chooses_zeros(rule: Rule) -> bool:
    """Whether a min or max of floats is in it: which of two zeros it gives is not said, so the right side may give what the left may."""
    nodes = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side)]
    types = [p.type for p in nodes if isinstance(p, Apply) and p.op in ("min", "max", "fmin", "fmax")]
    types += [p.type for p in nodes if isinstance(p, Reduction) and p.kind in ("min", "max")]
    return any(t.is_float for v in types for t in rule.types[v])


def _not_excluded(needs: frozenset[Flag], arrays: list[Any], count: int) -> Any:
    """Samples without the NaN or infinities that a flag rules out, in arguments and in the left side's results."""
    good = np.ones(count, bool)
    for x in arrays:
        if x.dtype.kind != "f":
            continue
        bad = (np.isnan(x) if Flag.NNAN in needs else False) | (np.isinf(x) if Flag.NINF in needs else np.zeros(x.shape, bool))
        good &= ~(bad.reshape(len(bad), -1).any(axis=1) if bad.ndim > 1 else bad)
    return good


def _by_regrouping(rule: Rule, dtypes: Mapping[int, DType]) -> tuple[int, str]:
    s = samples(rule, dtypes)
    with np.errstate(over="ignore"):
        return _compare(s, [regrouped_value(rule.lhs, s)], regrouped_value(rule.rhs, s), _licensed(rule, s), False)


def _compare(s: Samples, allowed: list[Any], right: Any, good: Any, signless: bool) -> tuple[int, str]:
    """The number of good samples, and the first of them at which the right side is none of the allowed values."""
    count = int(good.sum())
    *lefts, right = (
        np.broadcast_to(x, (len(good), *x.shape[1:]))
        for x in np.broadcast_arrays(*allowed, right, good.reshape(-1, *[1] * (right.ndim - 1)))[:-1]
    )
    same = np.logical_or.reduce([_same(left, right, signless) for left in lefts])
    flat = same.reshape(len(good), -1).all(axis=1) | ~good
    if flat.all():
        return count, ""
    at = int(np.argmin(flat))
    where = ", ".join(f"{name}={_shown(v, at)}" for name, v in sorted(s.values.items()))
    dtype = ", ".join(dict.fromkeys(t.name for t in s.dtypes.values() if t is not BOOL)) or "bool"
    return count, f"{dtype} {where}: {_shown(lefts[0], at)} is not {_shown(right, at)}"


def _same(left: Any, right: Any, signless: bool) -> Any:
    if left.dtype.kind != "f":
        return left == right
    return ((left == right) & (signless | (np.signbit(left) == np.signbit(right)))) | (np.isnan(left) & np.isnan(right))


def _shown(x: Any, at: int) -> str:
    row = np.asarray(x[at if len(x) > 1 else 0]).ravel().tolist()
    return str(row[0]) if len(row) == 1 else str(row)


def _over_the_reals(rule: Rule, dtypes: Mapping[int, DType]) -> tuple[int, str]:
    import mpmath  # pyright: ignore[reportMissingTypeStubs]

    mp: Any = mpmath.mp.clone()
    mp.dps = DIGITS
    rng = np.random.default_rng(zlib.crc32(rule.name.encode()))
    depends, bounds = dependence(rule), bound_variables(rule)
    kinds = {p.name: dtypes[p.type] for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var)}
    # A constant such as log2(e) is itself rounded to a double.
    literals = [p.value for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Lit)]
    digits = DIGITS // 2 if all(abs(v) == np.inf or (v * 4) % 1 == 0 for v in literals) else 14
    count = 0
    for _ in range(POINTS * 4):
        env = {name: _drawn(mp, rng, kinds[name], name in bounds, depends[name]) for name in sorted(kinds)}
        if not all(_real_guard(g, env, mp) for g in rule.guards):
            continue
        left, right = (real_value(side, env, {}, mp) for side in (rule.lhs, rule.rhs))
        if left is None and (right is None or Flag.NNAN in rule.needs):
            continue
        count += 1
        if not _agree(left, right, digits, mp):
            where = ", ".join(f"{name}={env[name]({}) if not depends[name] else '…'}" for name in sorted(kinds) if "." not in name)
            return count, f"{where}: {left} is not {right}"
        if count == POINTS:
            break
    return count, ""


def _agree(left: Any, right: Any, digits: int, mp: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, bool) or isinstance(right, bool):
        return bool(left) == bool(right)
    return abs(left - right) <= mp.mpf(10) ** -digits * (1 + abs(left) + abs(right))


def _drawn(mp: Any, rng: Random, dtype: DType, is_bound: bool, depends: frozenset[str]) -> Callable[[Mapping[str, int]], Any]:
    """A random value for a variable: one for each setting of the indices that it depends on."""
    sign, scale = rng.choice([1.0, 1.0, -1.0]), rng.choice([0.25, 1.0, 3.0])
    memory: dict[tuple[tuple[str, int], ...], Any] = {}

    def value(indices: Mapping[str, int]) -> Any:
        key = tuple(sorted((i, n) for i, n in indices.items() if i in depends))
        if key not in memory:
            if dtype is BOOL:
                memory[key] = bool(rng.integers(2))
            elif dtype.is_int:
                memory[key] = int(rng.integers(0, 5)) if is_bound else int(rng.integers(-9, 10))
            else:
                memory[key] = mp.mpf(float(sign * rng.uniform(0.05, 1.0) * scale))
        return memory[key]

    return value


def _real_guard(g: Guard, env: Mapping[str, Any], mp: Any) -> bool:
    """Whether the guard holds at a point; a value that depends on an index is checked at its first few."""
    if g.kind in ("absent", "is_const", "finite", "notnan", "nowrap"):
        return True
    values = [real_value(a, env, {}, mp) for a in g.args]
    x = values[0]
    match g.kind:
        case kind if kind in COMPARISONS:
            a, b = values
            return {"lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "eq": a == b, "ne": a != b}[kind]
        case "nonneg":
            return x >= 0
        case "positive":
            return x > 0
        case "nonzero":
            return x != 0
        case _:
            return False

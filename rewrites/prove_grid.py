"""Turns a rule into an evaluation of both sides, bit for bit, on edge grids of its own dtypes: where a wrong rule is found soonest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.fastmath import Flag
from rewrites.pattern import Var, subpatterns
from rewrites.prove_meaning import bits_value, guard_holds
from rewrites.prove_smt import chooses_zeros
from rewrites.prove_values import Samples, samples
from rewrites.prove_verdict import Outcome
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype

ENOUGH: Final = 12
"""Samples that must satisfy the guards, or the grid shows nothing."""


def on_grid(rule: Rule, dtypes: Mapping[int, DType]) -> Outcome:
    """Whether the sides have equal bits at each sample; unknown where too few samples satisfy the guards."""
    count, why = _by_bits(rule, dtypes)
    if why:
        return Outcome("refuted", why=why)
    if count < ENOUGH and any(isinstance(p, Var) and dtypes[p.type] is not BOOL for p in subpatterns(rule.lhs)):
        return Outcome("unknown", why=f"only {count} samples satisfy the guards")
    return Outcome("proved", weight=count)


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
    zeros = (0.0, -0.0) if chooses_zeros(rule) else (0.0,)
    allowed = [bits_value(rule.lhs, replace(s, zero=zero)) for zero in zeros]
    for zero in zeros:
        count, why = _compare(s, allowed, bits_value(rule.rhs, replace(s, zero=zero)), good, Flag.NSZ in rule.needs)
        if why:
            return count, why
    return int(good.sum()), ""


def _not_excluded(needs: frozenset[Flag], arrays: list[Any], count: int) -> Any:
    """Samples without the NaN or infinities that a flag rules out, in arguments and in the left side's results."""
    good = np.ones(count, bool)
    for x in arrays:
        if x.dtype.kind != "f":
            continue
        bad = (np.isnan(x) if Flag.NNAN in needs else False) | (np.isinf(x) if Flag.NINF in needs else np.zeros(x.shape, bool))
        good &= ~(bad.reshape(len(bad), -1).any(axis=1) if bad.ndim > 1 else bad)
    return good


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

"""Turns a rule with reductions into rules without: for each small range its terms are written out, a variable for each element.

`sum(i: a * f[i])` over two terms becomes `a * f@0 + a * f@1`. An index becomes its value, a bound a literal. What an element depends
on is what `dependence` says: the indices of every reduction that it stands in on both sides.
"""

import itertools
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.ops import OPS
from rewrites.guards import Guard
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, parts, subpatterns
from rewrites.prove_meaning import over_nothing
from rewrites.prove_values import bound_variables, dependence
from rewrites.rule import Rule

MOST_TERMS: Final = 4
MOST_ELEMENTS: Final = 9
"""Terms of nested reductions together."""
BOOLEAN: Final = 0
"""The type variable of truth values in every rule."""
_JOIN: Final = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}

Bounds = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """A rule without reductions, in one choice of dtypes; `where` names the bounds that it was unrolled for."""

    rule: Rule
    dtypes: Mapping[int, DType]
    where: str = ""


def has_reductions(rule: Rule) -> bool:
    """Whether either side has one."""
    return any(isinstance(p, Reduction) for side in (rule.lhs, rule.rhs) for p in subpatterns(side))


_HOLDS: Final = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne}


def impossible(rule: Rule) -> bool:
    """Whether a guard is false of the ranges that the rule was unrolled to."""
    known = [(g.kind, [a.value for a in g.args if isinstance(a, Lit)]) for g in rule.guards if g.kind in _HOLDS]
    return any(len(values) == 2 and not _HOLDS[kind](*values) for kind, values in known)


def is_inductive(rule: Rule) -> bool:
    """Whether two terms prove as many as one likes: max(i: F(f)) against F(max(i: f)), with min in either place or not.

    The max of the first terms is one of them, so what holds of each term holds of it, and it may stand for them all.
    """
    for outer, other in ((rule.lhs, rule.rhs), (rule.rhs, rule.lhs)):
        inner = [p for p in subpatterns(other) if isinstance(p, Reduction)]
        if not isinstance(outer, Reduction) or len(inner) != 1 or {outer.kind, inner[0].kind} - {"max", "min"}:
            continue
        body, term = outer.bodies[0], inner[0].bodies[0]
        if not isinstance(term, Var) or (outer.index, outer.lo, outer.hi) != (inner[0].index, inner[0].lo, inner[0].hi):
            continue
        inside = [p for p in subpatterns(body) if not isinstance(p, Apply | Lit)]
        depends = dependence(rule)
        bounds = {p.name for b in (outer.lo, outer.hi) for p in subpatterns(b) if isinstance(p, Var)}
        beside = [p.name for p in _outside(other, inner[0]) if isinstance(p, Var)]
        varying = {p.name for p in inside if isinstance(p, Var) and depends.get(p.name)}
        alone = varying == {term.name} and term.name not in beside and not bounds & {*beside, *(getattr(p, "name", "") for p in inside)}
        if alone and all(isinstance(p, Var) for p in inside) and set(depends[term.name]) == {outer.index}:
            return True
    return False


def _outside(p: Pattern, hole: Reduction) -> Iterator[Pattern]:
    """The nodes of a pattern that are not of the given reduction."""
    if p is not hole:
        yield p
        for part in parts(p):
            yield from _outside(part, hole)


def unrolled(rule: Rule, dtypes: Mapping[int, DType], unordered: bool = False) -> Iterator[Ground]:
    """The rule for each choice of bounds from 0 to 4 (each empty range, and up to 9 elements of nested ones); itself if it has none.

    `unordered` keeps each reduction as one operation of its terms, named as the reduction is.
    """
    if not has_reductions(rule):
        yield Ground(rule, dtypes)
        return
    names = sorted(bound_variables(rule))
    # The first term's number matters only where an index is used as a value or a range is given in full.
    plain = not any(isinstance(p, Index) for p in _patterns(rule)) and all(n.endswith((".lo", ".hi")) for n in names)
    most = 2 if is_inductive(rule) else MOST_TERMS
    choices = [range(1) if plain and n.endswith(".lo") else range(most + 1) for n in names]
    dtypes = {BOOLEAN: BOOL, **dtypes}
    worker = _Unroller(dependence(rule), dtypes, unordered)
    for values in itertools.product(*choices):
        bounds = dict(zip(names, values, strict=True))
        if any(bounds.get(f"{n[:-3]}.lo", 0) > bounds[n] + 1 for n in names if n.endswith(".hi")):
            continue  # one empty range backwards is enough
        try:
            ground = worker.rule(rule, bounds)
        except _Undefined:
            continue
        if ground is not None:
            yield Ground(ground, dtypes, ", ".join(f"{n}={v}" for n, v in bounds.items() if not (plain and n.endswith(".lo"))))


def _patterns(rule: Rule) -> Iterator[Pattern]:
    for side in (rule.lhs, rule.rhs, *(a for g in rule.guards if g.kind != "absent" for a in g.args)):
        yield from subpatterns(side)


class _Undefined(Exception):
    """A kernel with such a reduction over nothing is an error."""


@dataclass(frozen=True, slots=True)
class _Unroller:
    depends: Mapping[str, frozenset[str]]
    dtypes: Mapping[int, DType]
    unordered: bool

    def rule(self, rule: Rule, bounds: Bounds) -> Rule | None:
        """The rule at these bounds; None where it would be too large."""
        sides = [self.pattern(side, bounds, {}) for side in (rule.lhs, rule.rhs)]
        elements = {p.name for side in sides for p in subpatterns(side) if isinstance(p, Var)}
        most = max((sum(1 for n in elements if n.partition("@")[0] == name) for name in {n.partition("@")[0] for n in elements}), default=0)
        if most > MOST_ELEMENTS:
            return None
        guards = tuple(g for guard in rule.guards for g in self.guard(guard, bounds, elements))
        return replace(rule, lhs=sides[0], rhs=sides[1], guards=guards)

    def guard(self, guard: Guard, bounds: Bounds, elements: set[str]) -> Iterator[Guard]:
        """The guard for each element that its variables are unrolled to."""
        if guard.kind == "absent":
            return
        names = {p.name for a in guard.args for p in subpatterns(a) if isinstance(p, Var)}
        indices = sorted({i for n in names for i in self.depends.get(n, ())})
        settings = {tuple(s for s in e.split("@")[1:]) for e in elements if e.partition("@")[0] in names} if indices else {()}
        if not indices:
            yield replace(guard, args=tuple(self.pattern(a, bounds, {}) for a in guard.args))
            return
        for setting in sorted(settings):
            given = dict(pair.split("=") for pair in setting)
            values = {i: int(v) for i, v in given.items()}
            if all(i in values for i in indices):
                yield replace(guard, args=tuple(self.pattern(a, bounds, values) for a in guard.args))

    def pattern(self, p: Pattern, bounds: Bounds, indices: Mapping[str, int]) -> Pattern:
        match p:
            case Var():
                if p.name in bounds:
                    return Lit(bounds[p.name], p.type)
                on = "".join(f"@{i}={indices[i]}" for i in sorted(self.depends.get(p.name, ())) if i in indices)
                return Var(p.name + on, p.type)
            case Index():
                return Lit(indices[p.name], p.type)
            case Lit():
                return p
            case Apply():
                return replace(p, args=tuple(self.pattern(a, bounds, indices) for a in p.args))
            case Reduction():
                return self.reduction(p, bounds, indices)
            case At():
                return self.pattern(p.of, bounds, {**indices, p.index: _whole(self.pattern(p.to, bounds, indices))})

    def reduction(self, p: Reduction, bounds: Bounds, indices: Mapping[str, int]) -> Pattern:
        lo, hi = (_whole(self.pattern(b, bounds, indices)) for b in (p.lo, p.hi))
        rows = [[self.pattern(b, bounds, {**indices, p.index: i}) for b in p.bodies] for i in range(lo, hi)]
        if self.unordered and self.dtypes[p.type].is_float and p.kind not in ("argmax", "argmin"):
            return Apply(p.kind, tuple(b for row in rows for b in row), p.type, p.type)
        match p.kind:
            case "argmax" | "argmin":
                return self.arg(p, lo, [r[0] for r in rows])
            case "expsum":
                return self.expsum(p, rows)
            case kind:
                terms = [r[0] for r in rows]
                if not terms:
                    return Lit(over_nothing(kind, self.dtypes[p.type]), p.type)
                return _chained(_JOIN[kind], terms, p.type)

    def expsum(self, p: Reduction, rows: list[list[Pattern]]) -> Pattern:
        if not rows:
            return Lit(0.0, p.type)
        # exp(-inf - top) * v is zero: what a mask leaves out.
        rows = [row for row in rows if _settled(row[0]) != Lit(-math.inf, row[0].type)]
        if not rows:
            raise _Undefined
        top = _chained("max", [s for s, _ in rows], p.type)

        def term(s: Pattern, v: Pattern) -> Pattern:
            return Apply("mul", (Apply("exp", (Apply("sub", (s, top), p.type, p.type),), p.type, p.type), v), p.type, p.type)

        return _chained("add", [term(s, v) for s, v in rows], p.type)

    def arg(self, p: Reduction, lo: int, terms: list[Pattern]) -> Pattern:
        """The lowest index of the greatest (least) term."""
        if not terms:
            raise _Undefined
        better = "gt" if p.kind == "argmax" else "lt"
        best: Pattern = terms[0]
        place: Pattern = Lit(lo, p.result)
        for number, term in enumerate(terms[1:], lo + 1):
            wins = Apply(better, (term, best), p.type, BOOLEAN)
            place = Apply("select", (wins, Lit(number, p.result), place), p.result, p.result)
            best = Apply("select", (wins, term, best), p.type, p.type)
        return place


def _chained(op: str, terms: list[Pattern], t: int) -> Pattern:
    whole, *rest = terms
    for term in rest:
        whole = Apply(op, (whole, term), t, t)
    return whole


def _settled(p: Pattern) -> Pattern:
    """A selection whose condition compares numbers, as what it chooses."""
    match p:
        case Apply("select", (Apply(op, (Lit(value=a), Lit(value=b))), then, other)) if op in _HOLDS:
            return _settled(then if _HOLDS[op](a, b) else other)
        case _:
            return p


def _whole(p: Pattern) -> int:
    """The value of a bound whose variables are literals."""
    match p:
        case Lit():
            return int(p.value)
        case Apply():
            import numpy as np

            return int(OPS[p.op].numpy(*(np.int64(_whole(a)) for a in p.args)))
        case _:
            raise ValueError(f"the bound is no number: {p}")

"""Turns a rule that claims equal bits into an outcome: edge grids to find what is wrong soon, then a proof by the method that fits.

Integers: z3, by bit vectors over all values, or by mathematical integers where products and divisions make those hard; where both give
up, every value of narrow types. Floats: z3 over all values of f32 and f64; where it gives up, every combination of fp8 values.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from kernel_ir.dtypes import BOOL, DType
from rewrites.pattern import Apply, Lit, Reduction, Var, subpatterns
from rewrites.prove_cases import case_by_case, decided
from rewrites.prove_grid import on_grid
from rewrites.prove_integers import true_of_integers
from rewrites.prove_joins import same_form
from rewrites.prove_narrow import in_narrow_types
from rewrites.prove_regroup import regrouped
from rewrites.prove_small import exhausted
from rewrites.prove_smt import chooses_zeros, difference, same_whatever
from rewrites.prove_terms import COSTLY_FLOAT
from rewrites.prove_unroll import BOOLEAN, Ground, has_reductions, impossible, is_inductive, unrolled
from rewrites.prove_values import assignments
from rewrites.prove_verdict import Deadline, Outcome
from rewrites.rule import Rule

_HARD: Final = ("mul", "floordiv", "mod", "powi")


def proof(rule: Rule, deadline: Deadline) -> Outcome:
    """The first counterexample, or what proves the rule in every choice of its dtypes."""
    choices = [(dtypes, regroups(rule, dtypes)) for dtypes in assignments(rule)]
    grids: list[Outcome] = []
    for dtypes, bags in choices:
        if not bags:
            grids.append(on_grid(rule, dtypes))
            if grids[-1].refuted:
                return grids[-1]
    found: list[Outcome] = []
    for dtypes, bags in choices:
        for ground in unrolled(rule, dtypes, bags):
            if has_reductions(rule) and impossible(ground.rule):
                continue
            found.append(regrouped(ground, deadline) if bags else _one(ground, deadline))
            if not found[-1].proved:
                return found[-1]
            if deadline.passed:
                return Outcome("unknown", why="out of time")
    if not found:
        return Outcome("unknown", why="no range is small enough to be unrolled")
    vacuous = next((g.why for g in grids if not g.proved), "")
    if vacuous:
        return Outcome("unknown", why=vacuous)
    on_floats = any(not bags and any(t.is_float for t in dtypes.values()) for dtypes, bags in choices)
    return summed_up(rule, found, "edge grids of f32 and f64" if on_floats else "")


def regroups(rule: Rule, dtypes: Mapping[int, DType]) -> bool:
    """Whether it has float sums or products: without a flag it may only regroup them."""
    reductions = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Reduction)]
    return any(r.kind in ("sum", "prod", "expsum") and dtypes[r.type].is_float for r in reductions)


def summed_up(rule: Rule, found: Iterable[Outcome], *more: str) -> Outcome:
    """One outcome of many: methods and domains in order of their first use."""
    found = list(found)
    methods = dict.fromkeys(o.method for o in found if o.method)
    domains = dict.fromkeys([*(o.domain for o in found if o.domain), *filter(None, more)])
    if is_inductive(rule):
        domains["reductions of 0 to 2 terms, by induction of any number"] = None
    elif has_reductions(rule):
        domains["reductions of 0 to 4 terms"] = None
    return Outcome("proved", " + ".join(methods), "; ".join(domains), weight=sum(o.weight for o in found))


def _one(ground: Ground, deadline: Deadline) -> Outcome:
    if ground.where and same_form(ground):
        types = {ground.dtypes[p.type] for side in (ground.rule.lhs, ground.rule.rhs) for p in subpatterns(side)} - {BOOL}
        return Outcome("proved", "normal forms", _all(types))
    found: list[Outcome] = []
    for case in decided(ground):
        found.append(_decided(case, deadline))
        if not found[-1].proved:
            return found[-1]
    return next((o for o in found if o.method == "exhaustive"), found[0])


def _decided(ground: Ground, deadline: Deadline) -> Outcome:
    if ground.rule.lhs == ground.rule.rhs:
        return Outcome("proved", "identity")
    names = {ground.dtypes[p.type] for side in (ground.rule.lhs, ground.rule.rhs) for p in subpatterns(side)} - {BOOL}
    if any(t.is_float for t in names):
        return _floats(ground, names, deadline)
    return _integers(ground, names, deadline)


def _all(types: Iterable[DType]) -> str:
    return "all " + ", ".join(sorted(t.name for t in types)) if types else "all truth values"


def _integers(ground: Ground, types: set[DType], deadline: Deadline) -> Outcome:
    bits, whole = "z3 bit vectors", "z3 integers"
    if same_whatever(ground, deadline):
        return Outcome("proved", bits, _all(types))
    hard = [
        p
        for side in (ground.rule.lhs, ground.rule.rhs)
        for p in subpatterns(side)
        if isinstance(p, Apply) and p.op in _HARD and not isinstance(p.args[1], Lit)
    ]
    if hard:
        first = true_of_integers(ground, deadline)
        if first.proved:
            return Outcome("proved", whole, _all(types))
    outcome = difference(ground, deadline)
    if not outcome.proved and not outcome.refuted:
        if not hard and true_of_integers(ground, deadline).proved:
            return Outcome("proved", whole, _all(types))
        by_cases = case_by_case(ground, deadline)
        return by_cases if by_cases.status != "unknown" else in_narrow_types(ground, deadline)
    return Outcome("proved", bits, _all(types)) if outcome.proved else outcome


def _floats(ground: Ground, types: set[DType], deadline: Deadline) -> Outcome:
    by_z3 = Outcome("proved", "z3 floats", _all(types))
    if same_whatever(ground, deadline):
        return by_z3
    nodes = [p for side in (ground.rule.lhs, ground.rule.rhs) for p in subpatterns(side)]
    costly = any(isinstance(p, Apply) and p.op in (*COSTLY_FLOAT, "powi") for p in nodes)
    several = len({p.name for p in nodes if isinstance(p, Var) and p.type != BOOLEAN and ground.dtypes[p.type].is_float}) > 1
    small = Outcome("unknown")
    if costly and several:
        small = _exhausted(ground, deadline)
        if small.status != "unknown":
            return small
    outcome = difference(ground, deadline)
    if outcome.proved:
        return by_z3
    return outcome if outcome.refuted or (costly and several) else _exhausted(ground, deadline)


def _exhausted(ground: Ground, deadline: Deadline) -> Outcome:
    zeros = (0.0, -0.0) if chooses_zeros(ground.rule) else (0.0,)
    small = exhausted(ground, deadline, zeros)
    return Outcome("proved", "exhaustive", small.domain) if small.proved else small

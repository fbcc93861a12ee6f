"""Turns a rule into its cases: the truth of each condition that is a variable; each value of a literal held to 0..63; each power of two."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from rewrites.guards import Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, subpatterns
from rewrites.prove_smt import difference
from rewrites.prove_terms import Encoding, Unsupported, z3
from rewrites.prove_unroll import BOOLEAN, Ground
from rewrites.prove_verdict import Deadline, Outcome

MOST: Final = 64
MOST_CONDITIONS: Final = 4


def decided(ground: Ground) -> Iterator[Ground]:
    """The rule for each truth of the variables that select; itself where there is none."""
    nodes = [p for side in (ground.rule.lhs, ground.rule.rhs) for p in subpatterns(side) if isinstance(p, Apply) and p.op == "select"]
    names = sorted({p.args[0].name for p in nodes if isinstance(p.args[0], Var)})
    if not names or len(names) > MOST_CONDITIONS:
        yield ground
        return
    for truths in itertools.product((False, True), repeat=len(names)):
        yield _put(ground, dict(zip(names, truths, strict=True)))


def case_by_case(ground: Ground, deadline: Deadline) -> Outcome:
    """The outcome over all values of the first variable that has few: a bounded literal, a power of two; unknown where there is none."""
    variable, numbers = next(_of_few_values(ground), (None, range(0)))
    if variable is None:
        return Outcome("unknown", why="z3 gave up")
    for number in numbers:
        outcome = difference(_put(ground, {variable.name: number}), deadline)
        if not outcome.proved:
            return outcome if outcome.refuted else Outcome("unknown", why=f"z3 gave up at {variable.name}={number}")
    types = ", ".join(sorted({t.name for t in ground.dtypes.values() if t.is_int}))
    return Outcome("proved", "z3 bit vectors", f"all {types}, one {variable.name} at a time")


def _of_few_values(ground: Ground) -> Iterator[tuple[Var, Iterable[int]]]:
    for g in ground.rule.guards:
        v = g.args[0] if g.args else None
        if not isinstance(v, Var) or v.type == BOOLEAN or not ground.dtypes[v.type].is_int:
            continue
        if g.kind == "is_const" and _bounded(ground, v):
            yield v, range(MOST)
        if g.kind == "pow2":
            yield v, [2**k for k in range(ground.dtypes[v.type].bits - 1)]


def _bounded(ground: Ground, variable: Var) -> bool:
    """Whether the guards leave no value but 0..63."""
    encoding = Encoding(ground.dtypes)
    solver = z3.SolverFor("QF_BV")
    solver.set("rlimit", 1_000_000)
    try:
        value = encoding.value(variable)
        solver.add(*(encoding.guard(g) for g in ground.rule.guards), z3.Or(value < 0, value >= MOST))
    except (Unsupported, z3.Z3Exception):
        return False
    return solver.check() == z3.unsat


def _put(ground: Ground, values: Mapping[str, int]) -> Ground:
    """The rule with numbers, or truth values, in the variables' places."""
    guards = tuple(Guard(g.kind, tuple(_replaced(a, values) for a in g.args), g.span) for g in ground.rule.guards)
    rule = replace(ground.rule, lhs=_replaced(ground.rule.lhs, values), rhs=_replaced(ground.rule.rhs, values), guards=guards)
    return Ground(rule, ground.dtypes, ground.where)


def _replaced(p: Pattern, values: Mapping[str, int]) -> Pattern:
    match p:
        case Var() if p.name in values:
            return Lit(values[p.name], p.type)
        case Apply("select", (c, a, b)):
            condition = _replaced(c, values)
            if isinstance(condition, Lit):
                return _replaced(a if condition.value else b, values)
            return replace(p, args=(condition, _replaced(a, values), _replaced(b, values)))
        case Apply():
            return replace(p, args=tuple(_replaced(a, values) for a in p.args))
        case _:
            return p

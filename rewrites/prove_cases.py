"""Turns an integer rule with a literal that its guards hold to 0..63 (a shift's count) into one z3 query for each of its values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from rewrites.guards import Guard
from rewrites.pattern import Apply, Lit, Pattern, Var
from rewrites.prove_smt import difference
from rewrites.prove_terms import Encoding, Unsupported, z3
from rewrites.prove_unroll import Ground
from rewrites.prove_verdict import Deadline, Outcome

MOST: Final = 64


def case_by_case(ground: Ground, deadline: Deadline) -> Outcome:
    """The outcome over all values of the first literal that is bounded so; unknown where there is none."""
    literals = [g.args[0] for g in ground.rule.guards if g.kind == "is_const"]
    variable = next((v for v in literals if isinstance(v, Var) and _bounded(ground, v)), None)
    if variable is None:
        return Outcome("unknown", why="z3 gave up")
    for number in range(MOST):
        outcome = difference(_put(ground, variable, number), deadline)
        if not outcome.proved:
            return outcome if outcome.refuted else Outcome("unknown", why=f"z3 gave up at {variable.name}={number}")
    types = ", ".join(sorted({t.name for t in ground.dtypes.values() if t.is_int}))
    return Outcome("proved", "z3 bit vectors", f"all {types}, one {variable.name} at a time")


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


def _put(ground: Ground, variable: Var, number: int) -> Ground:
    """The rule with the number in the variable's place."""
    values = {variable.name: number}
    guards = tuple(Guard(g.kind, tuple(_replaced(a, values) for a in g.args), g.span) for g in ground.rule.guards)
    rule = replace(ground.rule, lhs=_replaced(ground.rule.lhs, values), rhs=_replaced(ground.rule.rhs, values), guards=guards)
    return Ground(rule, ground.dtypes, ground.where)


def _replaced(p: Pattern, values: Mapping[str, int]) -> Pattern:
    match p:
        case Var() if p.name in values:
            return Lit(values[p.name], p.type)
        case Apply():
            return replace(p, args=tuple(_replaced(a, values) for a in p.args))
        case _:
            return p

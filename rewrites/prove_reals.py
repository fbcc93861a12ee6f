"""Turns a rule that needs a flag of real algebra into an outcome: 50 digits at random points to refute it, then a symbolic proof.

What may be proved depends on what the flags license. `reassoc`: the algebra of + - * /, functions being what they are. `afn`: the laws
of functions; that a function matters to the proof is checked. `arcp`: the algebra of * and / alone. `contract`: equal bits,
once each fma is a product and a sum. A variable that stands outside of all functions may vanish under `reassoc` alone.
"""

from dataclasses import replace

from kernel_ir.fastmath import Flag
from kernel_ir.ops import OPS
from rewrites.pattern import Apply, Pattern, Reduction, Var, parts, subpatterns, variables
from rewrites.prove_exact import proof as exact_proof
from rewrites.prove_exact import summed_up
from rewrites.prove_field import identical
from rewrites.prove_joins import same_form
from rewrites.prove_points import at_points
from rewrites.prove_unroll import impossible, unrolled
from rewrites.prove_values import assignments
from rewrites.prove_verdict import EXCLUSIONS, Deadline, Outcome
from rewrites.rule import Rule


def proof(rule: Rule, deadline: Deadline) -> Outcome:
    """The first counterexample, or what proves the rule under its flags."""
    points = 0
    for dtypes in assignments(rule):
        outcome = at_points(rule, dtypes)
        if not outcome.proved:
            return outcome
        points += outcome.weight
    if Flag.REASSOC not in rule.needs:
        lost = sorted(_outside(rule.lhs) - set(variables(rule.rhs)))
        if lost:
            return Outcome("unknown", why=f"{', '.join(lost)} cancels, which needs reassoc")
    if Flag.CONTRACT not in rule.needs and _fused(rule.lhs) != _fused(rule.rhs):
        return Outcome("unknown", why="a product and a sum become one rounding, or two again, which needs contract")
    if set(rule.needs - EXCLUSIONS) == {Flag.CONTRACT}:
        unfused = replace(rule, lhs=_unfused(rule.lhs), rhs=_unfused(rule.rhs), needs=rule.needs & EXCLUSIONS)
        outcome = exact_proof(unfused, deadline)
        return outcome if outcome.proved else Outcome("unknown", why="more changes than one rounding of a product and a sum: reassoc")
    functions, sums = Flag.AFN in rule.needs, bool(rule.needs & {Flag.REASSOC, Flag.AFN})
    outcome = _symbolic(rule, deadline, functions, sums)
    if not outcome.proved:
        return Outcome("unknown", why=f"{outcome.why}: the sides agree at {points} random points, which is no proof")
    if functions and Flag.REASSOC not in rule.needs and _symbolic(rule, deadline, False, True).proved:
        return Outcome("unknown", why="no function changes, but algebra: that needs reassoc (or arcp, or contract)")
    return summed_up(rule, [outcome], f"50 digits at {points} random points")


def _symbolic(rule: Rule, deadline: Deadline, functions: bool, sums: bool) -> Outcome:
    """The types do not matter to real algebra but for casts: each choice is proved all the same."""
    count = 0
    for dtypes in assignments(rule):
        for ground in unrolled(rule, dtypes):
            if impossible(ground.rule):
                continue
            if ground.where and Flag.REASSOC in rule.needs and same_form(ground, real=True):
                count += 1
                continue
            outcome = identical(ground, deadline, functions, sums)
            if not outcome.proved:
                at = f" at {ground.where}" if ground.where else ""
                return Outcome("unknown", why=outcome.why + at)
            count += 1
    return Outcome("proved", "sympy", "the reals") if count else Outcome("unknown", why="no range is small enough to be unrolled")


def _fused(p: Pattern) -> int:
    """How many fma it has."""
    return sum(isinstance(x, Apply) and x.op == "fma" for x in subpatterns(p))


def _unfused(p: Pattern) -> Pattern:
    """Each fma as a product and a sum."""
    match p:
        case Apply("fma", (a, b, c)):
            a, b, c = (_unfused(x) for x in (a, b, c))
            return Apply("add", (Apply("mul", (a, b), p.type, p.result), c), p.type, p.result)
        case Apply():
            return replace(p, args=tuple(_unfused(a) for a in p.args))
        case Reduction():
            return replace(p, bodies=tuple(_unfused(b) for b in p.bodies))
        case _:
            return p


def _outside(p: Pattern) -> set[str]:
    """Variables that stand outside of every function."""
    if isinstance(p, Var):
        return {p.name}
    if isinstance(p, Apply) and (OPS[p.op].ulp > 0 or p.op == "sqrt"):
        return set()
    return {name for part in parts(p) for name in _outside(part)}

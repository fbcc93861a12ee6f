"""Turns a rule into z3 queries over all values of its types, one for each choice of dtypes and of bounds; `unsat` is a proof.

Each query asks for values at which every guard holds and the sides differ. Limits are z3's own resource counts, the same on every
machine; the deadline is a safety net.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from kernel_ir.dtypes import BOOL
from kernel_ir.fastmath import Flag
from rewrites.pattern import Apply, Lit, Reduction, Var, subpatterns
from rewrites.prove_terms import WIDTHS, Encoding, Term, Unsupported, z3
from rewrites.prove_unroll import Ground
from rewrites.prove_verdict import Deadline, Outcome
from rewrites.rule import Rule

RESOURCES: Final = 8_000_000
"""z3's count for one query: about a second or two."""


def difference(ground: Ground, deadline: Deadline, widths: Mapping[str, int] = WIDTHS, resources: int = RESOURCES) -> Outcome:
    """Whether the sides agree wherever the guards hold, in the given widths of the integer types."""
    try:
        return _query(ground, deadline, Encoding(ground.dtypes, widths), resources)
    except Unsupported as missing:
        return Outcome("unknown", why=f"no translation of {missing}")


def same_whatever(ground: Ground, deadline: Deadline) -> bool:
    """Whether the sides agree with the costly operations left uninterpreted: soon decided, and enough for many a rule."""
    try:
        return _query(ground, deadline, Encoding(ground.dtypes, abstract=True), RESOURCES // 4).proved
    except Unsupported:
        return False


def _query(ground: Ground, deadline: Deadline, encoding: Encoding, resources: int) -> Outcome:
    rule = ground.rule
    zeros = (0.0, -0.0) if chooses_zeros(rule) else (0.0,)
    lefts, rights = ([replace(encoding, zero=zero).value(side) for zero in zeros] for side in (rule.lhs, rule.rhs))
    guards = [encoding.guard(g) for g in rule.guards] + _excluded(rule, encoding)
    opaque = _opaque(rule, encoding)
    for right in dict.fromkeys(rights):
        solver = _solver(opaque, rule)
        solver.set("rlimit", resources)
        solver.set("timeout", deadline.milliseconds)
        solver.add(*guards, *encoding.axioms, *(z3.Not(_same(left, right, Flag.NSZ in rule.needs)) for left in dict.fromkeys(lefts)))
        answer = solver.check()
        if answer == z3.sat and not opaque:
            return Outcome("refuted", why=_shown(rule, ground, encoding, solver.model(), lefts[0], right))
        if answer != z3.unsat:
            return Outcome("unknown", why=f"z3 gave up{f' at {ground.where}' if ground.where else ''}" if answer != z3.sat else "opaque")
    return Outcome("proved")


def chooses_zeros(rule: Rule) -> bool:
    """Whether a min or max of floats is in it: which of two zeros it gives is not said, so the right side may give what the left may."""
    nodes = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side)]
    types = [p.type for p in nodes if isinstance(p, Apply) and p.op in ("min", "max", "fmin", "fmax")]
    types += [p.type for p in nodes if isinstance(p, Reduction) and p.kind in ("min", "max")]
    return any(t.is_float for v in types for t in rule.types[v])


def _solver(opaque: bool, rule: Rule) -> Any:
    floats = any(t.is_float for side in (rule.lhs, rule.rhs) for p in subpatterns(side) for t in rule.types[p.type])
    return z3.SimpleSolver() if opaque else z3.SolverFor("QF_FPBV" if floats else "QF_BV")


def _opaque(rule: Rule, encoding: Encoding) -> bool:
    probe = replace(encoding, opaque=False)
    for side in (rule.lhs, rule.rhs):
        probe.value(side)
    return probe.opaque


def _same(left: Term, right: Term, signless: bool) -> Term:
    """Equal bits, NaN payloads apart; zeros of either sign where their sign does not matter."""
    if signless and z3.is_fp(left):
        return z3.Or(left == right, z3.And(z3.fpIsZero(left), z3.fpIsZero(right)))
    return left == right


def _excluded(rule: Rule, encoding: Encoding) -> list[Term]:
    """No NaN, no infinity, in arguments and in the left side's results, where a flag says so."""
    nodes = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var)]
    if rule.needs & {Flag.NNAN, Flag.NINF}:
        nodes += [p for p in subpatterns(rule.lhs) if not isinstance(p, Var | Lit)]
    values = [encoding.value(p) for p in dict.fromkeys(nodes)]
    floats = [v for v in values if z3.is_fp(v)]
    nan = [z3.Not(z3.fpIsNaN(v)) for v in floats if Flag.NNAN in rule.needs]
    return nan + [z3.Not(z3.fpIsInf(v)) for v in floats if Flag.NINF in rule.needs]


def _shown(rule: Rule, ground: Ground, encoding: Encoding, model: Any, left: Term, right: Term) -> str:
    variables = {p.name: p for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var)}
    where = [f"{name}={_number(model.eval(encoding.value(p), True))}" for name, p in sorted(variables.items())]
    names = dict.fromkeys(t.name for t in ground.dtypes.values() if t is not BOOL)
    at = f" at {ground.where}" if ground.where else ""
    sides = f"{_number(model.eval(left, True))} is not {_number(model.eval(right, True))}"
    return f"{', '.join(names) or 'bool'}{at} {', '.join(where)}: {sides}"


def _number(value: Term) -> str:
    if z3.is_bv_value(value):
        return str(value.as_signed_long())
    if z3.is_fp_value(value):
        if value.isNaN():
            return "nan"
        if value.isInf():
            return "-inf" if value.isNegative() else "inf"
        return repr(float(eval_fraction(value)))
    return str(value)


def eval_fraction(value: Term) -> float:
    """A finite float value of a model as a Python float."""
    if value.isZero():
        return -0.0 if value.isNegative() else 0.0
    sign = -1.0 if value.isNegative() else 1.0
    return (
        sign
        * float(value.significand_as_long() / 2 ** (value.sort().sbits() - 1) + (0 if value.isSubnormal() else 1))
        * 2.0 ** (value.exponent_as_long(False) if not value.isSubnormal() else 2 - 2 ** (value.sort().ebits() - 1))
    )

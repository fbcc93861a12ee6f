"""Turns a rule whose sides agree over the reals into the flag that it is missing: a licence speaks of what changes, not of what is equal.

`contract` licenses a product and a sum in one rounding, `arcp` a division as a multiplication by a reciprocal, `afn` another formula for a
function, `reassoc` the algebra of `+ - * /`. No flag licenses to drop a rounding that a cast asks for, or to decide a comparison anew.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from extract.suggest_exact import counterexample, undefined
from kernel_ir.fastmath import Flag
from kernel_ir.ops import OPS
from rewrites.pattern import Apply, Lit, Pattern, Reduction, Var, parts, subpatterns, variables
from rewrites.rule import Rule

Holds = Callable[[Rule], bool]
EXCLUSIONS: Final = frozenset((Flag.NNAN, Flag.NINF, Flag.NSZ))
_STEPS: Final = ("lt", "le", "gt", "ge", "eq", "ne", "floor", "ceil", "round", "trunc", "floordiv", "mod", "sign")
"""Ops that jump: over the reals they agree almost everywhere, which says nothing of where they jump."""


def is_function(p: Pattern) -> bool:
    """Whether `afn` speaks of the op."""
    return isinstance(p, Apply) and (OPS[p.op].ulp > 0 or p.op == "sqrt")


def missing(rule: Rule, holds: Holds) -> str:
    """What the declared flags do not license, in words; empty where they suffice. `holds` proves a rule."""
    if not rule.needs - EXCLUSIONS or not _floats(rule):
        return ""
    if _kept(rule.lhs, partial(_rounds, rule)) != _kept(rule.rhs, partial(_rounds, rule)):
        return "no flag licenses to drop, add or move a rounding (a cast)"
    if _kept(rule.lhs, partial(_jumps, rule)) != _kept(rule.rhs, partial(_jumps, rule)):
        return "a comparison or a step changes: no flag licenses that, only a proof bit for bit"
    opaque = _opaque(rule)
    changes = _functions_change(rule, opaque, holds)
    why = undefined(rule) if changes else counterexample(opaque)
    if why:
        return why
    if Flag.REASSOC in rule.needs:
        return "a function changes, which needs afn" if changes and Flag.AFN not in rule.needs else ""
    if Flag.AFN in rule.needs and changes:
        lost = _outside(rule.lhs) - set(variables(rule.rhs))
        return f"{', '.join(sorted(lost))} cancels, which needs reassoc" if lost else ""
    exact = replace(rule, needs=rule.needs & EXCLUSIONS)
    if Flag.CONTRACT in rule.needs and holds(_both(exact, _unfused)):
        return ""
    if Flag.ARCP in rule.needs and (_reciprocals(rule) or holds(_both(exact, _by_reciprocal))):
        return ""
    return "what changes is algebra, which needs reassoc"


def _floats(rule: Rule) -> bool:
    return any(t.is_float for p in subpatterns(rule.lhs) for t in rule.types[p.type])


def _float_op(rule: Rule, p: Pattern) -> bool:
    """Whether the term applies an op to floats."""
    return isinstance(p, Apply) and any(t.is_float for t in rule.types[p.type])


def _rounds(rule: Rule, p: Pattern) -> bool:
    """Whether the term casts one float to another."""
    return isinstance(p, Apply) and OPS[p.op].cast is not None and _float_op(rule, p)


def _jumps(rule: Rule, p: Pattern) -> bool:
    """Whether the term compares floats, or is a step of one."""
    return isinstance(p, Apply) and p.op in _STEPS and _float_op(rule, p)


def _kept(side: Pattern, kind: Callable[[Pattern], bool]) -> frozenset[Pattern]:
    """The terms of a kind on one side."""
    return frozenset(p for p in subpatterns(side) if kind(p))


def _opaque(rule: Rule) -> Rule:
    """The rule with each function of something as a variable, as a rule of algebra."""
    terms = _kept(rule.lhs, is_function) | _kept(rule.rhs, is_function)
    names = {p: Var(f"opaque{number}", p.result) for number, p in enumerate(sorted(terms, key=str)) if isinstance(p, Apply)}
    lhs, rhs = _replaced(rule.lhs, names), _replaced(rule.rhs, names)
    # A guard of what is inside a function says nothing here.
    guards = tuple(g for g in rule.guards if {n for a in g.args for n in variables(a)} <= set(variables(lhs)))
    return replace(rule, lhs=lhs, rhs=rhs, guards=guards, needs=rule.needs | {Flag.REASSOC})


def _functions_change(rule: Rule, opaque: Rule, holds: Holds) -> bool:
    """Whether other functions are computed, or the rule needs to know what they mean."""
    left, right = (_kept(side, is_function) for side in (rule.lhs, rule.rhs))
    if right - left or not left:
        return bool(right - left)
    if any(isinstance(p, Reduction) and p.kind == "expsum" for p in subpatterns(rule.rhs)):
        return False  # an online softmax only moves its exponential
    return not holds(opaque)


def _replaced(p: Pattern, names: Mapping[Apply, Var]) -> Pattern:
    match p:
        case Apply():
            return names[p] if p in names else replace(p, args=tuple(_replaced(a, names) for a in p.args))
        case Reduction():
            return replace(p, bodies=tuple(_replaced(b, names) for b in p.bodies))
        case _:
            return p


def _outside(p: Pattern) -> set[str]:
    """Variables that stand outside all functions."""
    if is_function(p):
        return set()
    return {p.name} if isinstance(p, Var) else {name for part in parts(p) for name in _outside(part)}


def _both(rule: Rule, change: Callable[[Pattern], Pattern]) -> Rule:
    return replace(rule, lhs=_mapped(rule.lhs, change), rhs=_mapped(rule.rhs, change))


def _mapped(p: Pattern, change: Callable[[Pattern], Pattern]) -> Pattern:
    match p:
        case Apply():
            return change(replace(p, args=tuple(_mapped(a, change) for a in p.args)))
        case Reduction():
            return replace(p, bodies=tuple(_mapped(b, change) for b in p.bodies))
        case _:
            return p


def _unfused(p: Pattern) -> Pattern:
    match p:
        case Apply("fma", (a, b, c)):
            return Apply("add", (Apply("mul", (a, b), p.type, p.result), c), p.type, p.result)
        case _:
            return p


def _by_reciprocal(p: Pattern) -> Pattern:
    match p:
        case Apply("div", (a, b)) if not (isinstance(a, Lit) and a.value == 1.0):
            return Apply("mul", (a, Apply("div", (Lit(1.0, p.type), b), p.type, p.result)), p.type, p.result)
        case _:
            return p


def _reciprocals(rule: Rule) -> bool:
    """Whether one division of a division is all that changes: `1 / (a / b) => b / a`."""
    ops = [p.op for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Apply)]
    return set(ops) == {"div"} and ops.count("div") <= 3


def flags_in_order() -> Iterator[Flag]:
    """Flags, those that give away least first."""
    yield from (Flag.NSZ, Flag.NNAN, Flag.NINF, Flag.CONTRACT, Flag.ARCP, Flag.REASSOC, Flag.AFN)

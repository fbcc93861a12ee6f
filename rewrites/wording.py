"""Turns a typed rule back into text: what `load_book` reads as the same rule, or its form with variables named by their order."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from kernel_ir import render
from kernel_ir.errors import RuleError
from kernel_ir.fastmath import Flag
from kernel_ir.ops import OPS
from kernel_ir.surface import NOWHERE, name
from kernel_ir.syntax import (
    Absent,
    Binary,
    CallSyntax,
    Compare,
    Group,
    Number,
    Range,
    ReduceSyntax,
    RuleSyntax,
    Select,
    SyntaxExpr,
    Unary,
    WithinSyntax,
)
from kernel_ir.syntax import Guard as GuardSyntax
from kernel_ir.syntax import Index as IndexSyntax
from rewrites.books import load_book
from rewrites.elaborate import ON
from rewrites.guards import COMPARISONS, Guard
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, subpatterns
from rewrites.rule import Rule

Rename = Callable[[str], str]
_CONSTANTS: Final = {float("inf"): "inf", float("-inf"): "-inf"}


def rule_text(rule: Rule, called: str | None = None) -> str:
    """The rule as one line of a book, under its own name or another.

    >>> from rewrites.books import load_book
    >>> rule_text(load_book("rule twice: (x) + (x) => (x * 2.0)\\n")[0])
    'rule twice: x + x => x * 2.0'

    Raises RuleError where no text has just these types.
    """
    return _worded(rule, called or rule.name, lambda n: n)


def canonical_text(rule: Rule) -> str:
    """The rule without its name, variables and indices named by their order: equal for rules that differ in names alone."""
    names: dict[str, str] = {}
    count = {"v": itertools.count(1), "i": itertools.count(1)}
    for p in _nodes(rule):
        match p:
            case Var() if "." not in p.name:
                names.setdefault(p.name, f"v{next(count['v'])}")
            case Reduction():
                names.setdefault(p.index, f"i{next(count['i'])}")
            case _:
                pass
    return _worded(rule, "_", lambda n: names.get(n, n)).partition(": ")[2]


def _nodes(rule: Rule) -> Iterator[Pattern]:
    for side in (rule.lhs, rule.rhs, *(a for g in rule.guards for a in g.args)):
        yield from subpatterns(side)


def _flat(rule: RuleSyntax) -> str:
    return " ".join(cell for cell in render.rule_cells(rule) if cell)


def _worded(rule: Rule, called: str, rename: Rename) -> str:
    """The text of the rule, with the first clause `on` under which it has just its types."""
    places = {p.of.name: p.index for p in subpatterns(rule.rhs) if isinstance(p, At)}
    lhs, rhs = _expr(_indexed(rule.lhs, places), rename), _expr(rule.rhs, rename)
    guards = tuple(_guard(g, rename) for g in rule.guards if not _implied(g))
    needs = tuple(flag.value for flag in Flag if flag in rule.needs)
    within = None if rule.within is None else WithinSyntax(rule.within.error, rule.within.unit, NOWHERE)
    wanted = _signature(rule)
    reason = "the types differ"
    for on in _clauses(rule):
        spans = (NOWHERE,) * len(on), (NOWHERE,) * len(needs)
        text = _flat(RuleSyntax(called, lhs, rhs, rule.both, on, guards, needs, NOWHERE, *spans, NOWHERE, within))
        try:
            (read,) = load_book(f"{text}\n")
        except RuleError as error:
            reason = error.message
            continue
        if _signature(read) == wanted:
            return text
    raise RuleError(f"{called}: no text says this rule: {reason}")


def _indexed(p: Pattern, places: Mapping[str, str]) -> Pattern:
    """The left side with `f[k]` for each f that the right side has at another place."""
    match p:
        case Var() if p.name in places:
            return At(p, places[p.name], Index(places[p.name], p.type), p.type)
        case Apply():
            return replace(p, args=tuple(_indexed(a, places) for a in p.args))
        case Reduction():
            return replace(p, bodies=tuple(_indexed(b, places) for b in p.bodies))
        case _:
            return p


def _clauses(rule: Rule) -> Iterator[tuple[str, ...]]:
    """Clauses `on` to try: none, one word, the types that the rule has."""
    yield ()
    yield from ((word,) for word in ON)
    used = {t for p in _nodes(rule) for t in rule.types[p.type]}
    yield tuple(t.name for t in ON["any"] if t in used)


def _signature(rule: Rule) -> tuple[object, ...]:
    """What types the nodes have, and which of them are one: free of how type variables are numbered."""
    order: dict[int, int] = {}
    found: list[object] = []
    for p in _nodes(rule):
        for t in (p.type, p.result) if isinstance(p, Apply | Reduction) else (p.type,):
            found.append((order.setdefault(t, len(order)), rule.types[t]))
    return tuple(found)


def _implied(g: Guard) -> bool:
    """Whether the guard is one that an implicit range brings along by itself."""
    return g.kind == "absent" and isinstance(g.args[1], Var) and "." in g.args[1].name


def _guard(g: Guard, rename: Rename) -> GuardSyntax:
    if g.kind == "absent":
        index, variable = g.args
        assert isinstance(index, Index) and isinstance(variable, Var)
        return Absent(name(rename(index.name)), name(rename(variable.name)), NOWHERE)
    args = tuple(_expr(a, rename) for a in g.args)
    if g.kind in COMPARISONS:
        return Compare(args, (OPS[g.kind].symbol,), NOWHERE)
    return CallSyntax(name(g.kind), args, NOWHERE)


def _expr(p: Pattern, rename: Rename) -> SyntaxExpr:
    match p:
        case Var() | Index():
            return name(rename(p.name))
        case At():
            return IndexSyntax(name(rename(p.of.name)), (_expr(p.to, rename),), None, NOWHERE)
        case Lit():
            return _literal(p.value)
        case Reduction():
            index = rename(p.index)
            implicit = isinstance(p.lo, Var) and p.lo.name == f"{p.index}.lo"
            lo, hi = (None, None) if implicit else (_expr(p.lo, rename), _expr(p.hi, rename))
            return ReduceSyntax(name(p.kind), (Range(name(index), lo, hi, NOWHERE),), tuple(_expr(b, rename) for b in p.bodies), NOWHERE)
        case Apply():
            return _applied(p, tuple(_expr(a, rename) for a in p.args))


def _literal(value: bool | int | float) -> SyntaxExpr:
    if isinstance(value, bool):
        return name("true" if value else "false")
    if value != value:
        return name("nan")
    return name(_CONSTANTS[value]) if value in _CONSTANTS else Number(value, "", NOWHERE)


def _applied(p: Apply, args: tuple[SyntaxExpr, ...]) -> SyntaxExpr:
    op = OPS[p.op]
    match p.op:
        case "select":
            return Select(args[0], args[1], args[2], NOWHERE)
        case "powi" if isinstance(p.args[1], Lit):
            return Binary("**", args[0], args[1], NOWHERE)
        case "powi" | "pow":
            return CallSyntax(name(p.op), args, NOWHERE)
        case _ if p.op in COMPARISONS:
            return Compare(args, (op.symbol,), NOWHERE)
        case _ if op.symbol and op.arity == 2:
            return Binary(op.symbol, args[0], args[1], NOWHERE)
        case _ if op.symbol:
            # `-1.0` would read as a literal.
            return Unary(op.symbol, Group(args[0], NOWHERE) if isinstance(args[0], Number) else args[0], NOWHERE)
        case _:
            return CallSyntax(name(p.op), args, NOWHERE)

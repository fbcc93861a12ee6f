"""Turns a rule into its mutants: the same rule with one place changed, as text."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from random import Random
from typing import Any, Final

from kernel_ir.render import rule_cells
from kernel_ir.syntax import (
    Absent,
    Binary,
    CallSyntax,
    Compare,
    Expanded,
    Group,
    Guard,
    Name,
    Number,
    ReduceSyntax,
    RuleSyntax,
    Select,
    SyntaxExpr,
    Unary,
    subtrees,
)

Edit = tuple[str, SyntaxExpr]
Edits = Iterator[Edit]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed rule: which rule it comes from, what was done to it, its text."""

    rule: str
    kind: str
    text: str


NEIGHBOURS: Final = {
    "+": ("-", "*"), "-": ("+",), "*": ("/", "+"), "/": ("*", "//"), "//": ("/", "%", ">>"), "%": ("//",),
    "<": ("<=",), "<=": ("<",), ">": (">=",), ">=": (">",), "==": ("!=", "<="), "!=": ("==",),
    "and": ("or",), "or": ("and",), "&": ("|",), "|": ("&", "^"), "^": ("|",), "<<": (">>",), ">>": ("<<", "//"),
    "min": ("max",), "max": ("min",), "fmin": ("min", "fmax"), "fmax": ("max", "fmin"), "floor": ("ceil", "trunc"), "ceil": ("floor",),
    "round": ("floor",), "trunc": ("floor",), "sin": ("cos",), "cos": ("sin",), "tan": ("tanh",), "asin": ("acos",), "acos": ("asin",),
    "sinh": ("cosh",), "cosh": ("sinh",), "tanh": ("sinh",), "exp": ("exp2", "expm1"), "exp2": ("exp",), "expm1": ("exp",),
    "log": ("log2", "log1p"), "log2": ("log",), "log1p": ("log",), "log10": ("log",), "sqrt": ("cbrt", "rsqrt"),
    "rsqrt": ("sqrt",), "cbrt": ("sqrt",), "abs": ("sign",), "sign": ("abs",), "erf": ("tanh",), "f16": ("bf16",), "bf16": ("f16",),
    "f32": ("f16", "i32"), "f64": ("f32",),
    "i64": ("f32", "i32"), "i32": ("f32", "i64"),
    "sum": ("prod",), "prod": ("sum",), "any": ("all",), "all": ("any",), "argmax": ("argmin",), "argmin": ("argmax",),
}  # fmt: skip
"""What an operator, a function or a reduction is easily taken for."""

COMMUTATIVE: Final = frozenset(("+", "*", "and", "or", "&", "|", "^", "==", "!=", "min", "max", "fmin", "fmax", "hypot"))

WEAKER: Final = {"positive": "nonneg", "nonneg": "notnan", "finite": "notnan", "nonzero": "notnan", "pow2": "is_const"}
"""A guard that the first implies or nearly implies."""


def mutants(rule: RuleSyntax, most: int, keep: Callable[[Mutant], bool] = lambda _: True) -> tuple[Mutant, ...]:
    """Up to `most` different mutants, as many kinds of change as there are, the same ones each time; `keep` may refuse some."""
    original = text_of(rule)
    by_kind: dict[str, list[Mutant]] = {}
    for kind, changed in _changed(rule):
        text = text_of(changed)
        if text != original:
            by_kind.setdefault(kind, []).append(Mutant(rule.name, kind, text))
    chance = Random(zlib.crc32(original.encode()))
    for group in by_kind.values():
        chance.shuffle(group)
    found: dict[str, Mutant] = {}
    for row in zip_longest(*by_kind.values()):
        for mutant in row:
            if len(found) < most and mutant is not None and mutant.text not in found and keep(mutant):
                found[mutant.text] = mutant
    return tuple(found.values())


def text_of(rule: RuleSyntax) -> str:
    """The rule on one line."""
    return " ".join(cell for cell in rule_cells(rule) if cell)


def _changed(rule: RuleSyntax) -> Iterator[tuple[str, RuleSyntax]]:
    """Every change of one place; changes of meaning before changes of licence."""
    names = tuple(dict.fromkeys(e.name for e in subtrees(rule.lhs) if isinstance(e, Name)))
    for at, flag in enumerate(rule.needs):
        fewer = replace(rule, needs=_without(rule.needs, at), needs_spans=_without(rule.needs_spans, at))
        # A flag also said that the rule is about floats.
        yield f"drop the flag {flag}", fewer if rule.on else replace(fewer, on=("float",), on_spans=(rule.name_span,))
    for at in range(len(rule.guards)):
        yield "drop a guard", replace(rule, guards=_without(rule.guards, at))
    for at, guard in enumerate(rule.guards):
        for kind, other in _guard_edits(guard):
            yield kind, replace(rule, guards=(*rule.guards[:at], *other, *rule.guards[at + 1 :]))
    if rule.within is not None:
        yield "tighten the error", replace(rule, within=replace(rule.within, error=rule.within.error / 100))
        yield "drop the error", replace(rule, within=None)
    for kind, side in edits(rule.rhs, names):
        yield kind, replace(rule, rhs=side)
    for kind, side in edits(rule.lhs, ()):
        yield kind, replace(rule, lhs=side)
    for op in ("-", "not"):
        yield "negate a side", replace(rule, rhs=Group(Unary(op, Group(rule.rhs, rule.span), rule.span), rule.span))
        yield "negate a side", replace(rule, lhs=Group(Unary(op, Group(rule.lhs, rule.span), rule.span), rule.span))
    if rule.on in (("int",), ("float",)):
        yield "widen the types", replace(rule, on=("number",), on_spans=(rule.on_spans[0],))


def _without(items: Sequence[Any], at: int) -> tuple[Any, ...]:
    return (*items[:at], *items[at + 1 :])


def _guard_edits(guard: Guard) -> Iterator[tuple[str, tuple[Guard, ...]]]:
    match guard:
        case Absent():
            return
        case CallSyntax() if guard.function.name == "divides":
            known = replace(guard.function, name="is_const")
            yield "weaken a guard", tuple(CallSyntax(known, (arg,), guard.span) for arg in guard.args)
        case CallSyntax() if guard.function.name in WEAKER:
            yield "weaken a guard", (replace(guard, function=replace(guard.function, name=WEAKER[guard.function.name])),)
        case Compare():
            for kind, changed in edits(guard, ()):
                if kind in ("a neighbouring op", "change a constant"):
                    yield "shift a range", (changed,)
        case _:
            return


def edits(e: SyntaxExpr, names: Sequence[str]) -> Edits:
    """Every expression that differs from `e` in one place; `names` may stand in for one another."""
    yield from _here(e, names)
    for at, (part, rebuilt) in enumerate(_parts(e)):
        if isinstance(e, Unary) and e.op == "-" and isinstance(part, Number):
            continue  # a literal with its sign
        if isinstance(e, Binary) and e.op == "**" and at == 1:
            yield from ((kind, rebuilt(other)) for kind, other in _constants(part))
            continue
        for kind, other in edits(part, names):
            yield kind, rebuilt(other)


def _here(e: SyntaxExpr, names: Sequence[str]) -> Edits:
    """The changes of the outermost node."""
    yield from _constants(e)
    match e:
        case Name(name="true" | "false"):
            yield "change a constant", replace(e, name="false" if e.name == "true" else "true")
        case Name():
            yield "negate a term", Group(Unary("-", e, e.span), e.span)
            yield "negate a term", Group(Unary("not", e, e.span), e.span)
            yield from (("another variable", replace(e, name=name)) for name in names if name != e.name)
            if names:
                yield "a constant for a variable", Number(1, "1", e.span)
                yield "a constant for a variable", Number(0.0, "0.0", e.span)
                yield "a constant for a variable", replace(e, name="false")
        case Unary() if not isinstance(e.operand, Number):
            yield "drop a term", Group(e.operand, e.span)
        case Binary():
            if e.op not in COMMUTATIVE and e.op != "**":
                yield "swap operands", Group(replace(e, left=_whole(e.right), right=_whole(e.left)), e.span)
            yield from (
                ("a neighbouring op", Group(replace(e, op=op, left=_whole(e.left), right=_whole(e.right)), e.span))
                for op in NEIGHBOURS.get(e.op, ())
            )
            yield "drop a term", _whole(e.left)
            yield "drop a term", _whole(e.right)
        case Compare() if len(e.ops) == 1:
            if e.ops[0] not in COMMUTATIVE:
                yield "swap operands", replace(e, operands=e.operands[::-1])
            yield from (("a neighbouring op", replace(e, ops=(op,))) for op in NEIGHBOURS[e.ops[0]])
        case Select():
            yield "swap operands", Group(replace(e, then=e.otherwise, otherwise=e.then), e.span)
        case CallSyntax():
            if len(e.args) == 2 and e.function.name not in COMMUTATIVE:
                yield "swap operands", replace(e, args=e.args[::-1])
            if len(e.args) == 3:
                yield "swap operands", replace(e, args=(e.args[2], e.args[1], e.args[0]))
            yield from (
                ("a neighbouring op", replace(e, function=replace(e.function, name=op))) for op in NEIGHBOURS.get(e.function.name, ())
            )
            yield from (("drop a term", _whole(arg)) for arg in e.args)
        case ReduceSyntax():
            if len(e.bodies) == 2:
                yield "swap operands", replace(e, bodies=e.bodies[::-1])
            yield from (("a neighbouring op", replace(e, kind=replace(e.kind, name=kind))) for kind in NEIGHBOURS.get(e.kind.name, ()))
        case _:
            return


def _constants(e: SyntaxExpr) -> Edits:
    match e:
        case Number():
            for value in (e.value + 1, e.value * 2, e.value - 1):
                yield "change a constant", _literal(e, value)
        case Unary(op="-", operand=Number() as number):
            yield "change a constant", number
            yield "change a constant", replace(e, operand=_literal(number, number.value + 1))
        case _:
            return


def _literal(e: Number, value: int | float) -> SyntaxExpr:
    if value != value or value in (float("inf"), float("-inf")):
        return replace(e, value=0.0, text="0.0")
    size = Number(abs(value), repr(abs(value)), e.span)
    return Unary("-", size, e.span) if value < 0 else size


def _whole(e: SyntaxExpr) -> SyntaxExpr:
    return e if isinstance(e, Name | Number | Group | CallSyntax | ReduceSyntax) else Group(e, e.span)


def _parts(e: SyntaxExpr) -> Iterator[tuple[SyntaxExpr, Callable[[SyntaxExpr], SyntaxExpr]]]:
    """Each direct subexpression, with what puts another in its place."""
    match e:
        case Group() | Expanded():
            yield e.body, lambda x: replace(e, body=x)
        case Unary():
            yield e.operand, lambda x: replace(e, operand=_whole(x))
        case Binary():
            yield e.left, lambda x: replace(e, left=_whole(x))
            yield e.right, lambda x: replace(e, right=_whole(x))
        case Compare():
            for at, part in enumerate(e.operands):
                yield part, lambda x, at=at: replace(e, operands=(*e.operands[:at], _whole(x), *e.operands[at + 1 :]))
        case Select():
            yield e.condition, lambda x: replace(e, condition=_whole(x))
            yield e.then, lambda x: replace(e, then=_whole(x))
            yield e.otherwise, lambda x: replace(e, otherwise=_whole(x))
        case CallSyntax():
            for at, part in enumerate(e.args):
                yield part, lambda x, at=at: replace(e, args=(*e.args[:at], x, *e.args[at + 1 :]))
        case ReduceSyntax():
            for at, r in enumerate(e.ranges):
                for end in ("lo", "hi"):
                    if (bound := getattr(r, end)) is not None:
                        yield (
                            bound,
                            lambda x, at=at, r=r, end=end: replace(
                                e, ranges=(*e.ranges[:at], replace(r, **{end: _whole(x)}), *e.ranges[at + 1 :])
                            ),
                        )
            for at, part in enumerate(e.bodies):
                yield part, lambda x, at=at: replace(e, bodies=(*e.bodies[:at], x, *e.bodies[at + 1 :]))
        case _:
            return

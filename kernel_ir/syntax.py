"""The surface of the language: what the grammar gives, with the place of every node, before names and types are known."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kernel_ir.errors import Span


@dataclass(frozen=True, slots=True)
class Number:
    """A literal: `3`, `0.5`, or what a constant or `inf` stands for."""

    value: int | float
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Name:
    """A bare name."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Group:
    """Parentheses, kept for the formatter; `-(1.0)` is a negation where `-1.0` is a literal."""

    body: "SyntaxExpr"
    span: Span


@dataclass(frozen=True, slots=True)
class Expanded:
    """What a call of a `fn` became; `span` is the call's."""

    function: Name
    body: "SyntaxExpr"
    span: Span


@dataclass(frozen=True, slots=True)
class Index:
    """`array[indices]` or `array[indices else default]`."""

    array: Name
    indices: "tuple[SyntaxExpr, ...]"
    default: "SyntaxExpr | None"
    span: Span


@dataclass(frozen=True, slots=True)
class Unary:
    """`-a`, `~a`, `+a` or `not a`."""

    op: str
    operand: "SyntaxExpr"
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right` for every binary operator but comparisons."""

    op: str
    left: "SyntaxExpr"
    right: "SyntaxExpr"
    span: Span


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain of comparisons, `a <= b < c`, which holds if each link does."""

    operands: "tuple[SyntaxExpr, ...]"
    ops: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Select:
    """`then if condition else otherwise`."""

    condition: "SyntaxExpr"
    then: "SyntaxExpr"
    otherwise: "SyntaxExpr"
    span: Span


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """`function(args)`: a function of the op table, a cast or a `fn`."""

    function: Name
    args: "tuple[SyntaxExpr, ...]"
    span: Span


@dataclass(frozen=True, slots=True)
class Range:
    """`index in lo..hi`, or `index` alone, whose range is inferred (`lo` and `hi` are None)."""

    index: Name
    lo: "SyntaxExpr | None"
    hi: "SyntaxExpr | None"
    span: Span


@dataclass(frozen=True, slots=True)
class ReduceSyntax:
    """`kind(ranges: bodies)`."""

    kind: Name
    ranges: tuple[Range, ...]
    bodies: "tuple[SyntaxExpr, ...]"
    span: Span


@dataclass(frozen=True, slots=True)
class CarrySyntax:
    """`name = init` in a fold."""

    name: Name
    init: "SyntaxExpr"
    span: Span


@dataclass(frozen=True, slots=True)
class FoldSyntax:
    """`fold(range, carries while condition: updates).result`."""

    range: Range
    carries: tuple[CarrySyntax, ...]
    condition: "SyntaxExpr | None"
    updates: "tuple[SyntaxExpr, ...]"
    result: Name
    span: Span


@dataclass(frozen=True, slots=True)
class Absent:
    """The guard `index not in variable` of a rule: `index` is not free in what `variable` matched."""

    index: Name
    variable: Name
    span: Span


SyntaxExpr = Number | Name | Group | Expanded | Index | Unary | Binary | Compare | Select | CallSyntax | ReduceSyntax | FoldSyntax
Guard = SyntaxExpr | Absent


@dataclass(frozen=True, slots=True)
class AssignSyntax:
    """`target[indices] op value for ranges where condition`, or `… otherwise`."""

    target: Name
    indices: tuple[SyntaxExpr, ...]
    op: Literal["=", "+=", "max=", "min="]
    value: SyntaxExpr
    ranges: tuple[Range, ...]
    where: SyntaxExpr | None
    otherwise: Span | None
    target_span: Span
    span: Span


@dataclass(frozen=True, slots=True)
class RepeatSyntax:
    """`repeat index in steps { body }`."""

    index: Name | None
    steps: SyntaxExpr
    body: "tuple[StatementSyntax, ...]"
    span: Span


StatementSyntax = AssignSyntax | RepeatSyntax


@dataclass(frozen=True, slots=True)
class ParamSyntax:
    """`inout name: dtype[shape] @ layout`."""

    name: Name
    dtype: Name
    shape: tuple[SyntaxExpr, ...]
    layout: Name | None
    inout: bool
    span: Span


@dataclass(frozen=True, slots=True)
class KernelSyntax:
    """`kernel name(params) -> (outputs) where facts { body }`."""

    name: Name
    params: tuple[ParamSyntax, ...]
    outputs: tuple[ParamSyntax, ...]
    facts: tuple[SyntaxExpr, ...]
    body: tuple[StatementSyntax, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ConstSyntax:
    """`const name = value`."""

    name: Name
    value: SyntaxExpr
    span: Span


@dataclass(frozen=True, slots=True)
class FnSyntax:
    """`fn name(params) = body`."""

    name: Name
    params: tuple[Name, ...]
    body: SyntaxExpr
    span: Span


@dataclass(frozen=True, slots=True)
class WithinSyntax:
    """`within 2e-3`, `within 1e-6 relative`, `within 4 ulp`: the stated error of an approximation; `unit` is "" for an absolute one."""

    error: int | float
    unit: str
    span: Span


@dataclass(frozen=True, slots=True)
class RuleSyntax:
    """`rule name: lhs => rhs on TYPES if guards needs FLAGS within ERROR`; `both` for `<=>`."""

    name: str
    lhs: SyntaxExpr
    rhs: SyntaxExpr
    both: bool
    on: tuple[str, ...]
    guards: tuple[Guard, ...]
    needs: tuple[str, ...]
    name_span: Span
    on_spans: tuple[Span, ...]
    needs_spans: tuple[Span, ...]
    span: Span
    within: "WithinSyntax | None" = None


@dataclass(frozen=True, slots=True)
class ChoiceSyntax:
    """`key = value, …`: one choice of a schedule; the values are words, or numbers as they are written."""

    key: Name
    values: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ScheduleSyntax:
    """`schedule kernel on target { choices }`."""

    kernel: Name
    target: Name
    choices: tuple[ChoiceSyntax, ...]
    span: Span


Item = ConstSyntax | FnSyntax | KernelSyntax | RuleSyntax | ScheduleSyntax


@dataclass(frozen=True, slots=True)
class File:
    """All items of a file, in order."""

    items: tuple[Item, ...]


def children(e: SyntaxExpr) -> tuple[SyntaxExpr, ...]:
    """Direct subexpressions, bounds of ranges included, in textual order."""
    match e:
        case Number() | Name():
            return ()
        case Group() | Expanded():
            return (e.body,)
        case Index():
            return (*e.indices, *(() if e.default is None else (e.default,)))
        case Unary():
            return (e.operand,)
        case Binary():
            return (e.left, e.right)
        case Compare():
            return e.operands
        case Select():
            return (e.then, e.condition, e.otherwise)
        case CallSyntax():
            return e.args
        case ReduceSyntax():
            return (*(b for r in e.ranges for b in bounds(r)), *e.bodies)
        case FoldSyntax():
            inits = tuple(c.init for c in e.carries)
            return (*bounds(e.range), *inits, *(() if e.condition is None else (e.condition,)), *e.updates)


def bounds(r: Range) -> tuple[SyntaxExpr, ...]:
    """The bounds that a range gives: both or none."""
    return tuple(b for b in (r.lo, r.hi) if b is not None)


def subtrees(e: SyntaxExpr) -> Iterator[SyntaxExpr]:
    """`e` and everything below it, parents first."""
    stack = [e]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(children(top)))

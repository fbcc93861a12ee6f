"""Turns the grammar's reductions into syntax nodes: one method a rule, each from its children, tokens included."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

from kernel_ir.errors import ParseError, Source, Span
from kernel_ir.syntax import (
    Absent,
    AssignSyntax,
    Binary,
    CallSyntax,
    CarrySyntax,
    ChoiceSyntax,
    Compare,
    ConstSyntax,
    File,
    FnSyntax,
    FoldSyntax,
    Group,
    Index,
    Item,
    KernelSyntax,
    Name,
    Number,
    ParamSyntax,
    Range,
    ReduceSyntax,
    RepeatSyntax,
    RuleSyntax,
    ScheduleSyntax,
    Select,
    Unary,
    WithinSyntax,
)

KEYWORDS: Final = frozenset(
    [
        "const",
        "fn",
        "kernel",
        "rule",
        "inout",
        "where",
        "repeat",
        "in",
        "for",
        "otherwise",
        "if",
        "else",
        "and",
        "or",
        "not",
        "fold",
        "while",
    ]
)
"""Words that are no names, even where the grammar could tell."""

MAX_DIGITS: Final = 1000
"""Characters of a number: more than any type needs, less than Python refuses."""

Child = Any  # a Lark token, a syntax node or a _Part: Lark's stubs do not say which


@dataclass(frozen=True, slots=True)
class _Part:
    """A list rule's nodes, or the tokens and nodes of a clause, on their way to the node that holds them."""

    rule: str
    items: tuple[Child, ...]
    span: Span


def _is_token(child: Child) -> bool:
    return isinstance(child, str)


def _nodes(children: list[Child]) -> tuple[Child, ...]:
    return tuple(c for c in children if not _is_token(c))


def _part(children: list[Child], rule: str) -> tuple[Child, ...]:
    """The items of the clause `rule` among `children`; () if it is absent."""
    return next((c.items for c in children if isinstance(c, _Part) and c.rule == rule), ())


def _after(children: list[Child], word: str) -> Child | None:
    """The child that follows the token `word`."""
    return next((b for a, b in pairwise(children) if _is_token(a) and a == word), None)


class Builder:
    """One method a rule of the grammar: from its children, tokens included, to a syntax node."""

    source: Source

    def _edge(self, child: Child) -> Span:
        if _is_token(child):
            return Span(self.source, child.line, child.column, child.end_line, child.end_column)
        return child.span

    def _span(self, children: list[Child]) -> Span:
        return self._edge(children[0]).to(self._edge(children[-1]))

    def _name(self, token: Child) -> Name:
        if token in KEYWORDS:
            hint = "choose with `a if c else b`" if token in ("if", "else") else "choose another name"
            raise ParseError(f"`{token}` is a keyword", self._edge(token), hint)
        return Name(str(token), self._edge(token))

    def start(self, children: list[Child]) -> File:
        if not children:
            hint = "write a kernel: `kernel twice(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }`"
            if self.source.name.endswith(".rules"):
                hint = "write a rule: `rule double: x + x => x * 2.0`"
            raise ParseError("the text is empty", Span(self.source, 1, 1, 1, 1), hint)
        return File(tuple(cast(list[Item], children)))

    # items

    def const(self, c: list[Child]) -> ConstSyntax:
        return ConstSyntax(self._name(c[1]), c[3], self._span(c))

    def fn(self, c: list[Child]) -> FnSyntax:
        return FnSyntax(self._name(c[1]), _part(c, "names"), c[-1], self._span(c))

    def kernel(self, c: list[Child]) -> KernelSyntax:
        params, outputs, facts, body = (_part(c, rule) for rule in ("params", "outputs", "facts", "block"))
        return KernelSyntax(self._name(c[1]), params, outputs, facts, body, self._span(c))

    def schedule(self, c: list[Child]) -> ScheduleSyntax:
        choices = tuple(x for x in c if isinstance(x, ChoiceSyntax))
        return ScheduleSyntax(self._name(c[1]), c[3], choices, self._span(c))

    def target_name(self, c: list[Child]) -> Name:
        return Name("".join(map(str, c)), self._span(c))

    def choice(self, c: list[Child]) -> ChoiceSyntax:
        values = tuple(x.text if isinstance(x, Number) else x.name for x in c[2::2])
        return ChoiceSyntax(self._name(c[0]), values, self._span(c))

    def choice_name(self, c: list[Child]) -> Name:
        return self._name(c[0])

    def outputs(self, c: list[Child]) -> _Part:
        return _Part("outputs", c[2].items, self._span(c))

    def facts(self, c: list[Child]) -> _Part:
        return _Part("facts", c[1].items, self._span(c))

    def params(self, c: list[Child]) -> _Part:
        return _Part("params", _nodes(c), self._span(c))

    def param(self, c: list[Child]) -> ParamSyntax:
        inout = c[0] == "inout"
        name, _, dtype = c[inout : inout + 3]
        layout = next(iter(_part(c, "layout")), None)
        return ParamSyntax(self._name(name), self._name(dtype), _part(c, "shape"), layout, inout, self._span(c))

    def shape(self, c: list[Child]) -> _Part:
        return _Part("shape", c[1].items, self._span(c))

    def layout(self, c: list[Child]) -> _Part:
        return _Part("layout", (self._name(c[1]),), self._span(c))

    def names(self, c: list[Child]) -> _Part:
        return _Part("names", tuple(self._name(t) for t in c[::2]), self._span(c))

    # statements

    def block(self, c: list[Child]) -> _Part:
        return _Part("block", _nodes(c), self._span(c))

    def repeat(self, c: list[Child]) -> RepeatSyntax:
        index = self._name(c[1]) if c[2] == "in" else None
        return RepeatSyntax(index, c[-2], c[-1].items, self._span(c))

    def assign(self, c: list[Child]) -> AssignSyntax:
        target, op, value = c[:3]
        domain: list[Child] = list(c[3].items) if len(c) > 3 else []
        otherwise = self._edge(domain[0]) if domain and domain[0] == "otherwise" else None
        name, *indices = target.items
        ranges = _part(domain, "ranges")
        return AssignSyntax(name, tuple(indices), str(op), value, ranges, _after(domain, "where"), otherwise, target.span, self._span(c))  # type: ignore[arg-type]

    def target(self, c: list[Child]) -> _Part:
        return _Part("target", (self._name(c[0]), *_part(c, "exprs")), self._span(c))

    def domain(self, c: list[Child]) -> _Part:
        return _Part("domain", tuple(c), self._span(c))

    def ranges(self, c: list[Child]) -> _Part:
        return _Part("ranges", _nodes(c), self._span(c))

    def range(self, c: list[Child]) -> Range:
        return Range(self._name(c[0]), c[2], c[4], self._span(c))

    # rules

    def rule(self, c: list[Child]) -> RuleSyntax:
        on, needs = _part(c, "on"), _part(c, "needs")
        return RuleSyntax(
            name=str(c[1]),
            lhs=c[3],
            rhs=c[5],
            both=c[4] == "<=>",
            on=tuple(n.name for n in on),
            guards=_part(c, "guards"),
            needs=tuple(n.name for n in needs),
            name_span=self._edge(c[1]),
            on_spans=tuple(n.span for n in on),
            needs_spans=tuple(n.span for n in needs),
            span=self._span(c),
            within=next(iter(_part(c, "within")), None),
        )

    def on(self, c: list[Child]) -> _Part:
        return _Part("on", c[1].items, self._span(c))

    def guards(self, c: list[Child]) -> _Part:
        return _Part("guards", _nodes(c), self._span(c))

    def absent(self, c: list[Child]) -> Absent:
        return Absent(self._name(c[0]), self._name(c[3]), self._span(c))

    def needs(self, c: list[Child]) -> _Part:
        return _Part("needs", c[1].items, self._span(c))

    def within(self, c: list[Child]) -> _Part:
        unit = str(c[2]) if len(c) > 2 else ""
        return _Part("within", (WithinSyntax(self.number(c[1:2]).value, unit, self._span(c)),), self._span(c))

    # expressions

    def exprs(self, c: list[Child]) -> _Part:
        return _Part("exprs", _nodes(c), self._span(c))

    def args(self, c: list[Child]) -> _Part:
        return _Part("args", _nodes(c), self._span(c))

    def select(self, c: list[Child]) -> Select:
        return Select(c[2], c[0], c[4], self._span(c))

    def binary(self, c: list[Child]) -> Binary:
        return Binary(str(c[1]), c[0], c[2], self._span(c))

    def unary(self, c: list[Child]) -> Unary:
        return Unary(str(c[0]), c[1], self._span(c))

    def compare(self, c: list[Child]) -> Compare:
        return Compare(tuple(c[::2]), tuple(map(str, c[1::2])), self._span(c))

    def number(self, c: list[Child]) -> Number:
        text, span = str(c[0]), self._span(c)
        if len(text) > MAX_DIGITS:
            raise ParseError(f"a number of {len(text)} digits fits no type", span, "write it with an exponent")
        value = int(text) if text.isdigit() else float(text)
        if value == math.inf:
            raise ParseError(f"{text} does not fit f64", span, "write `inf` for infinity")
        return Number(value, text, span)

    def name(self, c: list[Child]) -> Name:
        return self._name(c[0])

    def group(self, c: list[Child]) -> Group:
        return Group(c[1], self._span(c))

    def index(self, c: list[Child]) -> Index:
        return Index(self._name(c[0]), _part(c, "exprs"), _after(c, "else"), self._span(c))

    def call(self, c: list[Child]) -> CallSyntax:
        function, args = self._name(c[0]), _part(c, "args")
        for arg in args:
            if isinstance(arg, Range):
                hint = f"write `{function.name}({arg.index.name} in …: …)`"
                raise ParseError("a range was found without the colon and the expression that it is for", arg.span, hint)
        return CallSyntax(function, args, self._span(c))

    def reduce(self, c: list[Child]) -> ReduceSyntax:
        kind = self._name(c[0])
        return ReduceSyntax(kind, tuple(_as_range(arg, kind) for arg in _part(c, "args")), _part(c, "exprs"), self._span(c))

    def fold(self, c: list[Child]) -> FoldSyntax:
        carries = tuple(x for x in c if isinstance(x, CarrySyntax))
        return FoldSyntax(c[2], carries, _after(c, "while"), _part(c, "exprs"), self._name(c[-1]), self._span(c))

    def carry(self, c: list[Child]) -> CarrySyntax:
        return CarrySyntax(self._name(c[0]), c[2], self._span(c))


def _as_range(arg: Child, kind: Name) -> Range:
    """What stands before the colon of a reduction: a range, or an index name whose range is to be inferred."""
    match arg:
        case Range():
            return arg
        case Name():
            return Range(arg, None, None, arg.span)
        case _:
            hint = f"write `{kind.name}(i: …)` or `{kind.name}(i in 0..N: …)`"
            raise ParseError("an index name was expected before the colon of a reduction", arg.span, hint)

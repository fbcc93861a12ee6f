"""Turns text into a checked Module (`parse`, `parse_file`), or the text of rules into their syntax (`parse_rules`)."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from kernel_ir import check, expand
from kernel_ir.errors import ParseError, Source, Span
from kernel_ir.module import Module
from kernel_ir.syntax import (
    Absent,
    AssignSyntax,
    Binary,
    CallSyntax,
    CarrySyntax,
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
    Select,
    SyntaxExpr,
    Unary,
)

_GRAMMAR: Final = Path(__file__).with_name("grammar.lark")


def parse(text: str, name: str = "<string>") -> Module:
    """All kernels of `text`, checked; `name` is what errors call the file.

    >>> parse("kernel twice(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }")["twice"].sizes
    ('N',)

    Raises a KernelError at the first fault.
    """
    source = Source(name, _plain(text))
    return check.check(parse_syntax(source), source)


def parse_file(path: str | Path) -> Module:
    """All kernels of the file at `path` (UTF-8), checked. Raises a KernelError, or OSError where it cannot be read."""
    return parse(read_text(Path(path)), str(path))


def parse_rules(text: str, name: str = "<string>") -> tuple[RuleSyntax, ...]:
    """The rules of `text` in order, constants and functions expanded; their types are the rule checker's business.

    >>> [rule.name for rule in parse_rules("rule add_zero: a + 0 => a on int")]
    ['add_zero']
    """
    return expand.rules(parse_syntax(Source(name, _plain(text))))


def read_text(path: Path) -> str:
    """The text of a file, or a ParseError where it is not UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"{path}:{line}"
        raise ParseError(f"{where}: the file is not UTF-8: byte 0x{data[error.start]:02x}", hint="save it as UTF-8") from None


def parse_syntax(source: Source) -> File:
    """The syntax of a whole text, or a ParseError at the first token that does not fit."""
    lark, builder = _lark()
    builder.source = source
    try:
        return cast(File, lark.parse(source.text))
    except Exception as error:
        from kernel_ir.faults import explain

        fault = explain(error, source)
        if fault is None:
            raise
        raise fault from None


def _plain(text: str) -> str:
    return text.removeprefix("\ufeff")


@cache
def _lark() -> "tuple[Any, _Builder]":
    from lark import Lark

    builder = _Builder()
    text = _GRAMMAR.read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer="contextual", transformer=builder, keep_all_tokens=True, maybe_placeholders=False), builder


Child = Any  # a Lark token, a syntax node, or the tuple that a list rule gave


class _Builder:
    """One method a rule of the grammar: its children, tokens included, to a syntax node."""

    source: Source

    def span(self, children: list[Child]) -> Span:
        first, last = _edge(children[0], 0), _edge(children[-1], -1)
        start = first.span if hasattr(first, "span") else None
        end = last.span if hasattr(last, "span") else None
        line, column = (start.line, start.column) if start else (first.line, first.column)
        end_line, end_column = (end.end_line, end.end_column) if end else (last.end_line, last.end_column)
        return Span(self.source, line, column, end_line, end_column)

    def start(self, children: list[Child]) -> File:
        return File(tuple(cast(list[Item], children)))

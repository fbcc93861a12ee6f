"""Turns a file's text into its canonical layout: the same items, statements, literals, parentheses and comments, in one style."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from kernel_ir import render
from kernel_ir.errors import ParseError, Source, Span
from kernel_ir.grammar import parse_syntax
from kernel_ir.syntax import ConstSyntax, FnSyntax, Item, KernelSyntax, RepeatSyntax, RuleSyntax, ScheduleSyntax, StatementSyntax

_BLOCKS = KernelSyntax | ScheduleSyntax
_COMMENT: Final = re.compile(r"#[^\n]*")


def format_text(text: str, name: str = "<string>") -> str:
    """The text in canonical layout; formatting it again changes nothing. Types and proofs are not checked.

    >>> print(format_text("kernel f(x:f32[N])->(y:f32[N]){y[i]=2.0*x[i] # twice\\n}"), end="")
    kernel f(x: f32[N]) -> (y: f32[N]) {
      y[i] = 2.0 * x[i]  # twice
    }

    Raises a ParseError.
    """
    source = Source(name, text.removeprefix("\ufeff").replace("\r\n", "\n"))
    try:
        return _Formatter(source).file(parse_syntax(source).items)
    except RecursionError:
        raise ParseError(f"{name}: an expression is nested deeper than can be formatted", hint="split it with temporaries") from None


@dataclass(slots=True)
class _Formatter:
    """Writes nodes in order; comments go before or behind the node that they stand at."""

    source: Source
    lines: list[str] = field(default_factory=list[str])
    comments: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    starts: list[int] = field(default_factory=list[int])
    code: str = ""
    """The text with comments blanked."""
    last: int = 0
    """Line of the source on which the node or comment written last ended; 0 at the start of a block."""

    def __post_init__(self) -> None:
        text = self.source.text
        self.comments = [(m.start(), m[0].rstrip()) for m in _COMMENT.finditer(text)]
        self.code = _COMMENT.sub(lambda m: " " * len(m[0]), text)
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column - 1

    def line(self, offset: int) -> int:
        return bisect_right(self.starts, offset)

    def file(self, items: tuple[Item, ...]) -> str:
        at = 0
        while at < len(items):
            run = self._rules(items, at)
            if run:
                self._table(run, at > 0 and isinstance(items[at - 1], _BLOCKS))
                at += len(run)
            else:
                self._item(items[at], at > 0 and isinstance(items[at - 1], _BLOCKS))
                at += 1
        self._comments(len(self.source.text), 0)
        return "\n".join(self.lines) + "\n"

    def _item(self, item: Item, after_kernel: bool) -> None:
        self._before(item.span, 0, gap=after_kernel or isinstance(item, _BLOCKS))
        match item:
            case KernelSyntax():
                self._open(render.text(render.header(item)), item.span, item.body)
                self._block(item.body, 2)
                self._close(item.span, 0)
            case ConstSyntax():
                self._write(render.text(render.const_doc(item)), item.span)
            case FnSyntax():
                self._write(render.text(render.fn_doc(item)), item.span)
            case ScheduleSyntax():
                self._open(f"schedule {item.kernel.name} on {item.target.name} {{", item.span, ())
                for choice in item.choices:
                    self._before(choice.span, 2, gap=False)
                    self._write(f"  {choice.key.name} = {', '.join(choice.values)}", choice.span)
                self._close(item.span, 0)
            case RuleSyntax():
                self._write(render.text(render.rule_doc(item)), item.span)

    def _rules(self, items: tuple[Item, ...], at: int) -> list[RuleSyntax]:
        """The run of rules from `at` on that stand on lines of their own, one after another."""
        run: list[RuleSyntax] = []
        for item in items[at:]:
            if not isinstance(item, RuleSyntax) or (run and item.span.line != run[-1].span.end_line + 1):
                break
            run.append(item)
        return run

    def _table(self, rules: Sequence[RuleSyntax], gap: bool) -> None:
        """A run of rules, their parts in columns."""
        rows = [render.rule_cells(r) for r in rules]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for rule, row in zip(rules, rows, strict=True):
            self._before(rule.span, 0, gap=gap and rule is rules[0])
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width]
            self._write(" ".join(cells).rstrip(), rule.span)

    def _block(self, body: tuple[StatementSyntax, ...], indent: int) -> None:
        self.last = 0
        for s in body:
            self._before(s.span, indent, gap=False)
            if isinstance(s, RepeatSyntax):
                self._open(render.text(render.repeat_header(s), indent), s.span, s.body)
                self._block(s.body, indent + 2)
                self._close(s.span, indent)
            else:
                self._write(render.text(render.assign(s), indent), s.span)

    def _before(self, span: Span, indent: int, *, gap: bool) -> None:
        """Comments that stand before a node, and the blank line before it."""
        begin = self.offset(span.line, span.column)
        if gap and self.lines and self.lines[-1]:
            self.lines.append("")
            self.last = 0
        self._comments(begin, indent)
        self._blank(span.line)
        self.last = span.line

    def _blank(self, line: int) -> None:
        """One blank line where the source has some."""
        if self.last and line > self.last + 1 and self.lines and self.lines[-1]:
            self.lines.append("")

    def _comments(self, before: int, indent: int) -> None:
        """The comments that stand before an offset, each on a line."""
        while self.comments and self.comments[0][0] < before:
            offset, text = self.comments.pop(0)
            line = self.line(offset)
            self._blank(line)
            self.lines.append(" " * indent + text)
            self.last = line

    def _write(self, text: str, span: Span) -> None:
        """A node on one or more lines: comments from inside it before, the one behind it behind."""
        end = self.offset(span.end_line, span.end_column)
        indent = len(text) - len(text.lstrip(" "))
        self._comments(end, indent)
        self.lines += text.split("\n")
        self._behind(end)

    def _behind(self, end: int) -> None:
        """The comment that stands behind `end` on its line."""
        self.last = self.line(end)
        if self.comments and self.line(self.comments[0][0]) == self.last and not self.source.text[end : self.comments[0][0]].strip():
            self.lines[-1] += "  " + self.comments.pop(0)[1]

    def _open(self, text: str, span: Span, body: tuple[StatementSyntax, ...]) -> None:
        """The header of a block, up to its brace."""
        brace = self._brace(span)
        self._comments(brace, len(text) - len(text.lstrip(" ")))
        self.lines += text.split("\n")
        self._behind(brace + 1)

    def _brace(self, span: Span) -> int:
        """Where the block of a node opens: at the first brace outside comments."""
        begin = self.offset(span.line, span.column)
        return self.code.index("{", begin)

    def _close(self, span: Span, indent: int) -> None:
        end = self.offset(span.end_line, span.end_column)
        self._comments(end - 1, indent + 2)
        while self.lines and not self.lines[-1]:
            self.lines.pop()
        self.lines.append(" " * indent + "}")
        self._behind(end)

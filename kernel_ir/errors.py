"""Turns a fault in a user's text, call or kernel into an error that shows where, what and what to write instead."""

from dataclasses import dataclass, field

MAX_SHOWN = 160
"""Columns of a line that an error shows; of a longer line, a window around the place."""


@dataclass(frozen=True, slots=True)
class Source:
    """A named text: what a span points into."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """The text of line `number`, counted from 1."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open piece of a source; lines and columns count from 1.

    >>> span = Span(Source("a.kir", "y = foo(x)"), 1, 5, 1, 8)
    >>> print(span.caret())
    a.kir:1:5
      1 | y = foo(x)
        |     ^^^
    """

    source: Source = field(repr=False)
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    def caret(self) -> str:
        """The place, the line and a caret under the exact span (to the end of its first line)."""
        text = self.source.line(self.line)
        end = self.end_column if self.end_line == self.line else len(text) + 1
        width = max(1, end - self.column)
        margin = len(str(self.line))
        start = self.column - 1
        if len(text) > MAX_SHOWN:
            first = max(0, min(start - MAX_SHOWN // 3, len(text) - MAX_SHOWN))
            left, right = "… " * (first > 0), " …" * (first + MAX_SHOWN < len(text))
            text = f"{left}{text[first : first + MAX_SHOWN]}{right}"
            start += len(left) - first
            width = min(width, len(text) - start)
        # A tab before the caret must stay a tab, or the caret slips.
        lead = "".join("\t" if c == "\t" else " " for c in text[:start])
        return f"{self}\n  {self.line} | {text}\n  {' ' * margin} | {lead}{'^' * width}"

    def to(self, end: "Span") -> "Span":
        """The span from the start of this one to the end of `end`."""
        return Span(self.source, self.line, self.column, end.end_line, end.end_column)


class KernelError(Exception):
    """Base of every error that kir raises for a user's mistake.

    `span` is the place in the text (None for an error at a call), `hint` what to write instead.
    """

    def __init__(self, message: str, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.span is not None and self.span.source.name:  # what a program made stands in no file
            place, _, rest = self.span.caret().partition("\n")
            lines = [f"{place}: {self.message}", rest]
        if self.hint:
            lines.append(f"  help: {self.hint}")
        return "\n".join(lines)


class ParseError(KernelError):
    """The text is not in the grammar."""


class NameError_(KernelError):
    """A name is unknown, or defined twice."""


class TypeError_(KernelError):
    """Types do not agree, or an operation does not exist for a type."""


class ShapeError(KernelError):
    """Shapes, ranks or index ranges do not agree."""


class BoundsError(KernelError):
    """An access cannot be proved to lie inside its array."""


class CoverageError(KernelError):
    """An element of an output is defined not at all, or twice."""


class RuleError(KernelError):
    """A rewrite rule is ill formed, or has no certificate."""


class TargetError(KernelError):
    """A target is unknown, or cannot run this kernel here."""


class ArgumentError(KernelError):
    """A call's arguments do not fit the kernel: missing, of another type or shape, or against a fact."""


class EquivalenceError(KernelError):
    """Two kernels, or a kernel and its compiled code, gave different results; `counterexample` holds the shrunk inputs."""

    def __init__(self, message: str, span: Span | None = None, hint: str | None = None, counterexample: object = None) -> None:
        super().__init__(message, span, hint)
        self.counterexample = counterexample


class UsageError(KernelError):
    """The command line or an option is wrong."""


class ModelError(KernelError):
    """A language model, or the server it runs on, gave no answer."""

"""Turns text into a checked Module (`parse`, `parse_file`), or the text of rules into their syntax (`parse_rules`)."""

from pathlib import Path

from kernel_ir import expand
from kernel_ir.errors import ParseError, Source
from kernel_ir.grammar import parse_syntax
from kernel_ir.module import Module
from kernel_ir.syntax import KernelSyntax, RuleSyntax, ScheduleSyntax


def parse(text: str, name: str = "<string>") -> Module:
    """All kernels of `text`, checked; `name` is what errors call the file.

    >>> parse("kernel twice(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }")["twice"].sizes
    ('N',)

    Raises a KernelError at the first fault.
    """
    from kernel_ir.check import check

    return check(parse_syntax(_source(text, name)))


def parse_file(path: str | Path) -> Module:
    """All kernels of the file at `path` (UTF-8), checked. Raises a KernelError, or OSError where it cannot be read."""
    return parse(read_text(path), str(path))


def parse_rules(text: str, name: str = "<string>") -> tuple[RuleSyntax, ...]:
    """The rules of `text` in order, constants and functions expanded; their types are the rule checker's business.

    >>> [rule.name for rule in parse_rules("rule add_zero: a + 0 => a on int")]
    ['add_zero']

    Raises ParseError for a text that holds anything else but constants and functions.
    """
    file = parse_syntax(_source(text, name))
    for item in file.items:
        if isinstance(item, KernelSyntax | ScheduleSyntax):
            place = item.name if isinstance(item, KernelSyntax) else item.kernel
            raise ParseError("a rule book holds rules, constants and functions alone", place.span, "move this into a .kir file")
    return expand.rules(file)


def read_text(path: str | Path) -> str:
    """The text of a file, or a ParseError where it is not UTF-8."""
    data = Path(path).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ParseError(f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8", hint="save the file as UTF-8") from None


def _source(text: str, name: str) -> Source:
    return Source(name, text.removeprefix("\ufeff"))

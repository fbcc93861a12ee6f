"""Turns text into syntax nodes: the Lark grammar's tables, kept between runs, and the builder that they call."""

from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Final, cast

from kernel_ir.build import Builder
from kernel_ir.directories import cache_directory
from kernel_ir.errors import Source
from kernel_ir.syntax import File

_GRAMMAR: Final = Path(__file__).with_name("grammar.lark")
_LOCK: Final = Lock()


def parse_syntax(source: Source) -> File:
    """The syntax of a whole text, or a ParseError at the first token that does not fit."""
    from lark.exceptions import UnexpectedInput

    lark, builder = _lark()
    # Lark's callbacks are bound once, so the text they build for is the builder's state.
    with _LOCK:
        builder.source = source
        try:
            return cast(File, lark.parse(source.text))
        except UnexpectedInput as error:
            from kernel_ir.faults import fault

            raise fault(error, source, lark.terminals) from None


@cache
def _lark() -> "tuple[Any, Builder]":
    from lark import Lark

    builder = Builder()
    text = _GRAMMAR.read_text(encoding="utf-8")
    return (
        Lark(
            text,
            parser="lalr",
            lexer="contextual",
            transformer=builder,
            keep_all_tokens=True,
            maybe_placeholders=False,
            cache=_tables(text),
        ),
        builder,
    )


def _tables(grammar: str) -> str | bool:
    """The file in which Lark keeps its tables between runs, which saves most of the first parse; False where none can be written."""
    try:
        folder = cache_directory()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none that can be written
        return False
    return str(folder / f"grammar-{sha256(grammar.encode()).hexdigest()[:16]}.lark")

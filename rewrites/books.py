"""Turns rule books (`*.rules`) into typed rules."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kernel_ir.errors import RuleError
from rewrites.certificates import require
from rewrites.elaborate import elaborate, suggest
from rewrites.kept_books import kept
from rewrites.rule import Rule

BOOKS: Final = Path(__file__).parent / "books"
PACKS: Final = Path(__file__).parent / "packs"
"""Books that take the place of the default ones: the rule sets of other systems, as published."""


def load_book(book: str | Path) -> tuple[Rule, ...]:
    """The rules of a book: a path, or its text (anything with a line break). The family is the file's stem ("user" for a text).

    >>> [r.name for r in load_book("rule double: x + x => x * 2.0\\n")]
    ['double']

    Raises ParseError, and RuleError for an ill-formed rule or a name used twice.
    """
    if isinstance(book, str) and "\n" in book:
        return _rules(book, "user.rules", "user")
    from kernel_ir.parser import read_text

    path = Path(book)
    try:
        text = read_text(path)
    except OSError as error:
        raise RuleError(f"cannot read the rule book {path}: {error.strerror}", hint="give the path of a .rules file") from None
    return _rules(text, path.name, path.stem)


def proved_book(book: str | Path) -> tuple[Rule, ...]:
    """The rules of the book at a path, each of which has its certificate beside it.

    Raises RuleError for a rule that has none, or was edited since, and says which command proves it.
    """
    return kept(Path(book), lambda path: require(load_book(path), path))


@functools.cache
def default_rules() -> tuple[Rule, ...]:
    """The rules of every book of the package, books in order of their names. Raises RuleError for one that is not proved."""
    rules = tuple(rule for path in sorted(BOOKS.glob("*.rules")) for rule in proved_book(path))
    check_names(rules)
    return rules


def pack_names() -> tuple[str, ...]:
    """The packs of the package, in order of their names.

    >>> pack_names()
    ('acc-saturator', 'gelu-tanh', 'symbolics', 'taso')
    """
    return tuple(sorted(path.stem for path in PACKS.glob("*.rules")))


@functools.cache
def pack_rules(name: str) -> tuple[Rule, ...]:
    """The rules of a pack. Raises RuleError for an unknown name, and for a rule that is not proved."""
    if name not in pack_names():
        raise RuleError(f"no pack of rules is called {name!r}", hint=suggest(name, pack_names()))
    return proved_book(PACKS / f"{name}.rules")


def rules_of(pack: str | None) -> tuple[Rule, ...]:
    """The rules to begin with: the default books, or the pack that takes their place."""
    return default_rules() if pack is None else pack_rules(pack)


def pack_says(name: str) -> str:
    """What a pack is: the comment at the head of its file, on one line."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), (PACKS / f"{name}.rules").read_text("utf-8").splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def _rules(text: str, name: str, family: str) -> tuple[Rule, ...]:
    from kernel_ir.parser import parse_rules

    rules = tuple(elaborate(rule, family) for rule in parse_rules(text, name))
    if not rules:
        raise RuleError(f"{name} holds no rule", hint="write one: `rule double: x + x => x * 2.0`")
    check_names(rules)
    return rules


def check_names(rules: Sequence[Rule]) -> None:
    """RuleError where two of the rules have one name: reports and options could not tell them apart."""
    first: dict[str, Rule] = {}
    for rule in rules:
        other = first.setdefault(rule.name, rule)
        if other is not rule:
            raise RuleError(f"two rules are named {rule.name!r}", rule.span, f"the first is at {other.span}")

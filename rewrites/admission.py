"""Turns a user's rules, a text or a book, into rules that are proved and may be optimized with."""

from pathlib import Path

from kernel_ir.errors import RuleError
from rewrites.books import load_book
from rewrites.certificates import read, unproved
from rewrites.rule import Rule


def rules(book: str | Path, seconds: float = 60.0) -> tuple[Rule, ...]:
    """The rules of a book, given by its path or its text (anything with a line break), each of them proved.

    What no certificate says is proved here and now, in `seconds` of CPU time a rule at most; that needs the extra `[prove]`.

    >>> import kernel_ir as kir
    >>> [rule.name for rule in kir.rules("rule twice: x + x => x * 2.0\\n")]
    ['twice']

    Raises ParseError, and RuleError for an ill-formed rule, a wrong one (with its counterexample) or one that could not be proved.
    """
    loaded = load_book(book)
    is_text = isinstance(book, str) and "\n" in book
    for rule in unproved(loaded, {} if is_text else read(Path(book))):
        need_provers()
        from rewrites.prove import check_rule

        verdict = check_rule(rule, seconds)
        if not verdict.holds:
            what = "is wrong" if verdict.refuted else "could not be proved"
            raise RuleError(f"rule {rule.name!r} {what}: {verdict.why}", rule.span, "narrow it with a guard (`if`) or a flag (`needs`)")
    return loaded


def need_provers() -> None:
    """Raises RuleError where the provers are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("z3", "sympy") if find_spec(name) is None]
    if missing:
        raise RuleError(f"proofs need {' and '.join(missing)}", hint='`pip install "kir[prove]"` installs them')

"""Turns verdicts into the file of certificates beside a rule book, and back: a rule that has none, or was edited since, does not load.

`algebra.rules` has its certificates in `algebra.proofs.json`, a rule a line, sorted by name. A certificate holds the rule's key — a digest
of its typed form, its text and the checker's version — and how and over what it was proved. The seconds are the CPU time, rounded
up to 1, 10 or 100: they are no part of the key, and an unchanged proof keeps those that it had, so that the file is reproducible.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from kernel_ir.errors import RuleError
from kernel_ir.ops import OPS
from rewrites.pattern import Apply, subpatterns
from rewrites.prove_verdict import CHECKER, FUNCTIONS_CHECKER, Verdict
from rewrites.rule import Rule

_PROVED: Final[set[str]] = set()
"""Keys of the rules that were proved in this process."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """That a rule was proved: its key, how, over what, about how long it took; guards and flags it can do without, guards left open."""

    key: str
    method: str
    domain: str
    seconds: int
    spare: tuple[str, ...] = ()
    open: tuple[str, ...] = ()

    def same_proof(self, other: "Certificate | None") -> bool:
        """Whether they differ in the seconds at most."""
        return other is not None and asdict(self) | {"seconds": 0} == asdict(other) | {"seconds": 0}


def version(rule: Rule) -> int:
    """The version of the checker that the rule must have been proved by: the last that came to refuse anything of its kind."""
    ops = {p.op for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Apply)}
    return FUNCTIONS_CHECKER if rule.within or any(op == "fma" or OPS[op].ulp > 0 for op in ops) else CHECKER


def key(rule: Rule) -> str:
    """A digest of all that a proof of the rule depends on.

    >>> from rewrites.books import load_book
    >>> one, same, other = load_book("rule a: x * 1.0 => x\\nrule b: x * 1.0 => x\\nrule c: x / 1.0 => x\\n")
    >>> key(one) == key(same), key(one) == key(other)
    (True, False)
    """
    text = rule.text.partition(":")[2]  # a new name is no new rule
    needs = sorted(map(str, rule.needs))
    typed = repr((text, rule.lhs, rule.rhs, rule.both, rule.types, rule.guards, needs, rule.within))
    return sha256(f"{version(rule)} {typed}".encode()).hexdigest()[:20]


def certificate(rule: Rule, verdict: Verdict, seconds: float) -> Certificate:
    """The certificate of a rule that holds."""
    effort = next((bound for bound in (1, 10, 100) if seconds <= bound), 1000)
    spare = (*sorted(map(str, verdict.spare)), *verdict.spare_guards)
    return Certificate(key(rule), verdict.method, verdict.domain, effort, spare, verdict.open_guards)


def path_of(book: Path) -> Path:
    """Where the certificates of a book are."""
    return book.with_suffix(".proofs.json")


def read(book: Path) -> dict[str, Certificate]:
    """The certificates beside a book, by rule name; none where there is no file. Raises RuleError for a file that is not one of ours."""
    path = path_of(book)
    try:
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
        return {name: _certificate(row) for name, row in rows.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RuleError(f"cannot read the certificates {path}: {error}", hint=f"delete the file, then `{command(book)}`") from None


def _certificate(row: dict[str, Any]) -> Certificate:
    lists: dict[str, Any] = {name: tuple(row[name]) for name in ("spare", "open")}
    return Certificate(**{**row, **lists})


def text_of(certificates: Mapping[str, Certificate]) -> str:
    """The file's text: one line a rule, sorted."""
    lines = [f"{json.dumps(name)}: {json.dumps(asdict(certificates[name]), ensure_ascii=False)}" for name in sorted(certificates)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def unproved(rules: Iterable[Rule], known: Mapping[str, Certificate]) -> list[Rule]:
    """The rules that have no certificate, or were edited since."""
    return [rule for rule in rules if rule.name not in known or known[rule.name].key != key(rule)]


def require(rules: tuple[Rule, ...], book: Path) -> tuple[Rule, ...]:
    """The rules of a book, if each has its certificate beside it; else a RuleError that says which command proves them."""
    lacking = unproved(rules, read(book))
    if lacking:
        raise refusal(lacking[0], len(lacking), command(book))
    return rules


def command(book: Path) -> str:
    """What proves a book."""
    inside = Path(__file__).parent in book.resolve().parents
    return "kir rules check" if inside else f"kir rules check {book}"


def refusal(rule: Rule, count: int, how: str) -> RuleError:
    """The error for rules without a certificate."""
    others = f" (and {count - 1} more)" if count > 1 else ""
    return RuleError(
        f"rule {rule.name!r}{others} is not proved, or was edited since", rule.span, f"`{how}` proves it and writes its certificate"
    )


def remember(rule: Rule) -> None:
    """Counts the rule as proved in this process."""
    _PROVED.add(key(rule))


def admitted(rule: Rule) -> Rule:
    """The rule, if it was proved in this process or has its certificate in the book that it came from; else a RuleError."""
    if key(rule) in _PROVED:
        return rule
    book = Path(__file__).parent / "books" / f"{rule.family}.rules"
    if book.exists() and not unproved((rule,), read(book)):
        return rule
    raise RuleError(
        f"rule {rule.name!r} is not proved",
        rule.span,
        "give a book that `kir rules check` proved, or what `kir.rules(text)` returns",
    )

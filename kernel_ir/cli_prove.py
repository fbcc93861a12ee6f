"""The action `kir rules check`: proves the rules of books that changed since their certificates, and writes the certificates."""

import argparse
import os
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_ir.cli_common import console, replacing, write_json
from kernel_ir.errors import UsageError
from rewrites import certificates
from rewrites.admission import need_provers
from rewrites.books import BOOKS, PACKS, load_book
from rewrites.certificates import Certificate
from rewrites.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from rewrites.prove_verdict import Verdict

SAVE_EVERY = 5
"""Proofs after which the certificates are written: what an interrupt can cost."""


@dataclass(slots=True)
class _Book:
    """A book, its rules, the certificates that still hold, and those found now."""

    path: Path
    rules: tuple[Rule, ...]
    known: dict[str, Certificate]
    found: dict[str, Certificate] = field(default_factory=dict[str, Certificate])
    lost: set[str] = field(default_factory=set[str])

    def kept(self) -> dict[str, Certificate]:
        """Certificates of the book's rules as they are now; an unchanged proof keeps its seconds."""
        names = {r.name: certificates.key(r) for r in self.rules if r.name not in self.lost}
        old = {n: c for n, c in self.known.items() if names.get(n) == c.key}
        return {**old, **{n: old[n] if n in old and c.same_proof(old[n]) else c for n, c in self.found.items()}}

    def save(self) -> None:
        """Writes the certificates, if they changed; what another run wrote meanwhile is kept."""
        self.known = {**certificates.read(self.path), **self.known}
        text, target = certificates.text_of(self.kept()), certificates.path_of(self.path)
        if not target.exists() or target.read_text("utf-8") != text:
            with replacing(str(target)) as temporary:
                Path(temporary).write_text(text, encoding="utf-8")


def check_rules(arguments: argparse.Namespace) -> int:
    """`kir rules check [BOOK…]`: exit code 1 if a rule is wrong or could not be proved, with its counterexample."""
    books = [_book(path) for path in _paths(arguments)]
    todo = [(b, r) for b in books for r in (b.rules if arguments.all else certificates.unproved(b.rules, b.known))]
    if todo:
        need_provers()
        for book in dict.fromkeys(id(b) for b, _ in todo):
            _check_writable(next(b for b in books if id(b) == book))
    failures: list[dict[str, Any]] = []
    err = console()
    try:
        with _progress(len(todo)) as advance, closing(_proofs(todo, arguments.jobs)) as proofs:
            for count, (number, verdict, seconds) in enumerate(proofs, 1):
                book, rule = todo[number]
                if verdict.holds:
                    book.found[rule.name] = certificates.certificate(rule, verdict, seconds)
                else:
                    failures.append({"rule": rule.name, "book": str(book.path), "why": verdict.why, "refuted": verdict.refuted})
                    book.lost.add(rule.name)
                    err.print(_failure(rule, verdict), markup=False, soft_wrap=True)
                advance()
                if count % SAVE_EVERY == 0:
                    _save(books)
    finally:
        _save(books)
    total = sum(len(b.rules) for b in books)
    if arguments.json:
        rows = {r.name: asdict(c) for b in books for r in b.rules for c in [b.kept().get(r.name)] if c}
        write_json({"rules": total, "checked": len(todo), "failures": failures, "certificates": rows})
    spare = sum(1 for b in books for c in b.found.values() if c.spare)
    err.print(
        f"{total} rules: {len(todo)} checked now, {len(failures)} failed" + (f", {spare} with spare guards or flags" if spare else "")
    )
    return 1 if failures else 0


def _failure(rule: Rule, verdict: "Verdict") -> str:
    what = "is wrong" if verdict.refuted else "could not be proved"
    return f"{rule.span.caret()}\n  rule {rule.name!r} {what}: {verdict.why}"


def _proofs(todo: "list[tuple[_Book, Rule]]", jobs: int | None) -> "Generator[tuple[int, Verdict, float]]":
    if not todo:
        return
    from rewrites.prove_many import cores, verdicts

    yield from verdicts([rule for _, rule in todo], jobs or cores())


def _paths(arguments: argparse.Namespace) -> list[Path]:
    if arguments.names:
        return [Path(name) for name in arguments.names]
    if arguments.pack is not None:
        return [PACKS / f"{arguments.pack}.rules"]
    return [*sorted(BOOKS.glob("*.rules")), *sorted(PACKS.glob("*.rules"))]


def _book(path: Path) -> _Book:
    return _Book(path, load_book(path), certificates.read(path))


def _check_writable(book: _Book) -> None:
    """Before any proof is made: a directory where certificates cannot be written is refused."""
    target = certificates.path_of(book.path)
    if not os.access(target if target.exists() else target.parent, os.W_OK) or not os.access(target.parent, os.W_OK):
        raise UsageError(f"cannot write {target}: its folder is read-only", hint="copy the book to a folder of yours and check it there")


def _save(books: list[_Book]) -> None:
    for book in books:
        if book.found or book.lost or book.kept() != book.known:
            book.save()


@contextmanager
def _progress(total: int) -> "Generator[Callable[[], None]]":
    """A bar on a terminal; what to call after each proof."""
    err = console()
    if not err.is_terminal or not total:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("proving"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("proving", total=total)
        yield lambda: bar.advance(task)

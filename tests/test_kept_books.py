"""Books that are read again come from the cache: the same rules, or parsed anew where the file is stale, broken or cannot be kept."""

import os
from pathlib import Path

import pytest

import rewrites.kept_books as kept_books
from kernel_ir.directories import ENVIRONMENT
from rewrites.books import load_book
from rewrites.rule import Rule

BOOK = "rule double: x + x => x * 2.0 on f32\nrule once: x * 1.0 => x\n"


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    path = tmp_path / "my.rules"
    path.write_text(BOOK, encoding="utf-8")
    return path


def reads(book: Path) -> tuple[tuple[Rule, ...], bool]:
    """The rules, and whether the book was parsed."""
    parsed: list[Path] = []

    def read(path: Path) -> tuple[Rule, ...]:
        parsed.append(path)
        return load_book(path)

    return kept_books.kept(book, read), bool(parsed)


def test_second_read_is_from_the_cache_and_equal(book: Path) -> None:
    first, parsed = reads(book)
    assert parsed
    second, parsed = reads(book)
    assert not parsed
    assert second == first == load_book(book)
    assert [rule.span.line for rule in second] == [1, 2]
    assert second[0].types[0][0] is first[0].types[0][0]  # dtypes are compared by identity


def test_an_edited_book_is_parsed(book: Path) -> None:
    reads(book)
    book.write_text(BOOK.replace("2.0", "3.0"), encoding="utf-8")
    rules, parsed = reads(book)
    assert parsed
    assert rules == load_book(book)
    assert len(list((book.parent / "cache").glob("rules-*"))) == 1  # the stale file is replaced, not joined by another


def test_other_code_makes_the_file_stale(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads(book)
    monkeypatch.setattr(kept_books, "_code", lambda: b"another version")
    assert reads(book)[1]


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_broken_file_is_written_anew(book: Path, damage: bytes | None) -> None:
    reads(book)
    (path,) = (book.parent / "cache").glob("rules-*")
    path.write_bytes(path.read_bytes()[:60] if damage is None else damage)
    assert reads(book)[1]
    assert not reads(book)[1]


def test_a_cache_that_cannot_be_written_is_no_error(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = book.parent / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv(ENVIRONMENT, str(blocked / "below"))  # a directory below a file: refused even to root
    assert reads(book)[1]
    assert reads(book)[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_cache_is_no_error(book: Path) -> None:
    cache = book.parent / "cache"
    cache.mkdir(mode=0o500)
    assert reads(book)[1]
    assert reads(book)[1]

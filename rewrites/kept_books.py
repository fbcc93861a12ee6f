"""Turns a rule book into its typed rules by way of a file in the user's cache, which spares a process reading and compiling 1000 rules.

The file starts with a digest of the book, of its certificates and of the code that reads them: an edit of any makes it stale. What
`read` refuses is never kept. The rules' egglog commands are kept with them. A file that cannot be read or written is no error.
"""

import contextlib
import functools
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from kernel_ir.directories import cache_directory, write_whole
from rewrites.certificates import path_of
from rewrites.compile import commands, remember
from rewrites.rule import Rule

_READERS: Final = ("kernel_ir", "rewrites")
"""The packages whose code a book's typed form depends on."""


def kept(book: Path, read: Callable[[Path], tuple[Rule, ...]]) -> tuple[Rule, ...]:
    """The rules of the book, from the cache where it has them, else as `read` gives them."""
    try:
        digest = sha256(_code() + os.fsencode(book.name) + b"\0" + book.read_bytes() + b"\0" + _certificates(book)).digest()
        place = sha256(os.fsencode(book.resolve())).hexdigest()[:10]
        path = cache_directory() / f"rules-{book.stem}-{place}.pickle"
    except (OSError, RuntimeError):  # `read` says what is wrong with the book; without a home there is no cache
        return read(book)
    try:
        found = path.read_bytes()
        if found.startswith(digest):
            rules, compiled = pickle.loads(memoryview(found)[len(digest) :])
            remember(rules, compiled)
            return rules
    except Exception:  # none yet, or broken: a pickle that is cut short raises almost anything
        pass
    rules = read(book)
    compiled = tuple(map(commands, rules))
    remember(rules, compiled)
    with contextlib.suppress(OSError):
        write_whole(path, digest + _pickled((rules, compiled)))
    return rules


class _Pickler(pickle.Pickler):
    """Has dataclasses made by a call of their class: those with slots are otherwise filled field by field, at four times the cost."""

    def reducer_override(self, obj: Any) -> Any:
        if not is_dataclass(obj) or isinstance(obj, type) or type(obj).__reduce__ is not object.__reduce__:
            return NotImplemented
        return type(obj), tuple(getattr(obj, f.name) for f in fields(obj))


def _pickled(value: object) -> bytes:
    out = io.BytesIO()
    _Pickler(out, pickle.HIGHEST_PROTOCOL).dump(value)
    return out.getvalue()


def _certificates(book: Path) -> bytes:
    try:
        return path_of(book).read_bytes()
    except FileNotFoundError:
        return b""


@functools.cache
def _code() -> bytes:
    """A digest of the source of everything that could change what a book's text means."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(path for package in _READERS for suffix in ("*.py", "*.lark") for path in (root / package).glob(suffix))
    digest = sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.digest()

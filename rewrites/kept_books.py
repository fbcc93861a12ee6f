"""Turns a rule book into its typed rules by way of a file in the user's cache, which spares parsing and typing 900 rules a process.

The file starts with a digest of the book and of the code that reads it: an edit of either makes it stale. Certificates are checked
after it, on the rules that came out. A file that cannot be read or written is no error: the book is parsed.
"""

import contextlib
import functools
import os
import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from kernel_ir.directories import cache_directory, write_whole
from rewrites.rule import Rule

_READERS: Final = ("kernel_ir", "rewrites")
"""The packages whose code a book's typed form depends on."""


def kept(book: Path, read: Callable[[Path], tuple[Rule, ...]]) -> tuple[Rule, ...]:
    """The rules of the book, from the cache where it has them, else as `read` gives them."""
    try:
        digest = sha256(_code() + os.fsencode(book.name) + b"\0" + book.read_bytes()).digest()
        place = sha256(os.fsencode(book.resolve())).hexdigest()[:10]
        path = cache_directory() / f"rules-{book.stem}-{place}.pickle"
    except (OSError, RuntimeError):  # `read` says what is wrong with the book; without a home there is no cache
        return read(book)
    try:
        found = path.read_bytes()
        if found.startswith(digest):
            return pickle.loads(memoryview(found)[len(digest) :])
    except Exception:  # none yet, or broken: a pickle that is cut short raises almost anything
        pass
    rules = read(book)
    with contextlib.suppress(OSError):
        write_whole(path, digest + pickle.dumps(rules, pickle.HIGHEST_PROTOCOL))
    return rules


@functools.cache
def _code() -> bytes:
    """A digest of the source of everything that could change what a book's text means."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(path for package in _READERS for suffix in ("*.py", "*.lark") for path in (root / package).glob(suffix))
    digest = sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.digest()

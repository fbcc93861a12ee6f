"""Room for recursive functions over temporaries that nest hundreds deep."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

DEPTH: Final = 40_000
"""Frames. CPython 3.11 keeps frames of Python functions on the heap, so this costs no C stack."""


@contextmanager
def deep_recursion() -> Generator[None, None, None]:
    """Raises the recursion limit for a while."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)

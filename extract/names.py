"""Turns a wished name into one that nothing else of the kernel has."""

from collections.abc import Iterator


class Names:
    """Hands out names that no array, size, parameter or earlier loop of the kernel has."""

    def __init__(self, taken: Iterator[str] | set[str]) -> None:
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        number, candidate = 1, name
        while candidate in self._taken:
            number += 1
            candidate = f"{name}{number}"
        self._taken.add(candidate)
        return candidate

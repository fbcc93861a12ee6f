"""Turns terms into keys that are equal exactly where the terms are equal but for the names of bound variables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rewrites.declare import SIGNATURES
from rewrites.terms import Term


@dataclass(slots=True)
class Keys:
    """Numbers of alpha-equivalence: shared by all terms that are to be compared."""

    _numbers: dict[tuple[object, ...], int] = field(default_factory=dict["tuple[object, ...]", int])

    def of(self, terms: Sequence[Term], number: int, names: Mapping[str, str]) -> int:
        """The key of a term whose free variables are known by these names."""
        return _Keying(self._numbers, terms, {}).key(number, tuple(sorted(names.items())), 0)


@dataclass(slots=True)
class _Keying:
    numbers: dict[tuple[object, ...], int]
    terms: Sequence[Term]
    made: dict[tuple[int, tuple[tuple[str, str], ...], int], int]

    def key(self, number: int, names: tuple[tuple[str, str], ...], depth: int) -> int:
        place = (number, names, depth)
        if place not in self.made:
            self.made[place] = self._key(self.terms[number], names, depth)
        return self.made[place]

    def _key(self, term: Term, names: tuple[tuple[str, str], ...], depth: int) -> int:
        inner, below = names, depth
        if term.is_loop:
            fresh = {x: f"bound {depth}.{n}" for n, x in enumerate(term.variables)}
            inner, below = tuple(sorted({**dict(names), **fresh}.items())), depth + 1
        # Ranges and first values are read outside the loop, all else inside.
        outside = 1 + len(term.variables) if term.is_loop else len(term.args)
        known = dict(inner)
        columns: list[object] = [term.name]
        seen = 0
        for arg, sort in zip(term.args, SIGNATURES[term.name], strict=True):
            if sort == "E":
                seen += 1
                scope = (names, depth) if seen <= outside else (inner, below)
                columns.append(self.key(int(arg), *scope))
            else:
                columns.append(known.get(str(arg), f"free {arg}") if sort == "X" else arg)
        return self.numbers.setdefault(tuple(columns), len(self.numbers))

"""Turns sums and products of integers into polynomials in normal form: integer coefficients over named atoms.

An atom is a string: the key of an index variable, a size, a scalar parameter or an opaque term (a load, a quotient, a minimum).
What is known about an atom is the prover's business; here it is a letter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Final

Monomial = tuple[str, ...]
"""A product of atoms, sorted, repeated for powers; () is 1."""


def _degree_order(monomial: Monomial) -> tuple[int, Monomial]:
    """A total order of monomials that multiplication keeps: by degree, then by letters."""
    return len(monomial), monomial


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of `(monomial, coefficient)` terms, sorted, no coefficient 0: equal polynomials are equal objects.

    >>> n, i = atom("N"), atom("i")
    >>> print((n + 1) * (n - 1) - n * n + 2 * i)
    2*i - 1
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: "Polynomial | int") -> "Polynomial":
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    def __sub__(self, other: "Polynomial | int") -> "Polynomial":
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) - coefficient
        return _normal(total)

    def __neg__(self) -> "Polynomial":
        return Polynomial(tuple((m, -c) for m, c in self.terms))

    def __mul__(self, other: "Polynomial | int") -> "Polynomial":
        if isinstance(other, int):
            return Polynomial(tuple((m, c * other) for m, c in self.terms)) if other else ZERO
        total: dict[Monomial, int] = {}
        for m, c in self.terms:
            for n, d in other.terms:
                product = tuple(sorted(m + n)) if m and n else m or n
                total[product] = total.get(product, 0) + c * d
        return _normal(total)

    __rmul__ = __mul__
    __radd__ = __add__

    def __rsub__(self, other: int) -> "Polynomial":
        return constant(other) - self

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = ""
        for monomial, c in sorted(self.terms, key=lambda t: (-len(t[0]), t[0])):
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            factors = ([str(abs(c))] if abs(c) != 1 or not monomial else []) + list(monomial)
            text += sign + "*".join(factors)
        return text

    @property
    def constant(self) -> int | None:
        """The value of a polynomial without atoms, else None."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def single(self) -> str | None:
        """The atom that this polynomial is, if it is just one."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    @property
    def atoms(self) -> frozenset[str]:
        return frozenset(a for m, _ in self.terms for a in m)

    def split(self, name: str) -> "tuple[Polynomial, Polynomial]":
        """`(a, b)` with `self == a * name + b` and no `name` in b; a may still hold it if its degree is over 1."""
        inside: list[tuple[Monomial, int]] = []
        outside: list[tuple[Monomial, int]] = []
        for monomial, c in self.terms:
            if name in monomial:
                at = monomial.index(name)
                inside.append((monomial[:at] + monomial[at + 1 :], c))
            else:
                outside.append((monomial, c))
        return Polynomial(tuple(sorted(inside))), Polynomial(tuple(outside))

    def divmod(self, divisor: "Polynomial") -> "tuple[Polynomial, Polynomial]":
        """`(n, r)` with `self == divisor * n + r`, by long division; numbers leave remainders `0 <= c < leading`.

        >>> i, w, j = atom("i"), atom("W"), atom("j")
        >>> [str(p) for p in (i * w + j + 2 * w).divmod(w)]
        ['i + 2', 'j']
        """
        lead, leading = max(divisor.terms, key=lambda t: _degree_order(t[0]))
        if leading < 0:
            opposite, remaining = self.divmod(-divisor)
            return -opposite, remaining
        left: dict[Monomial, int] = dict(self.terms)
        quotient: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        while left:
            monomial = max(left, key=_degree_order)
            factor = _without(monomial, lead)
            whole, remainder = divmod(left[monomial], leading) if factor is not None else (0, left[monomial])
            if factor is None or whole == 0:
                rest[monomial] = left.pop(monomial)
                continue
            quotient[factor] = quotient.get(factor, 0) + whole
            for m, c in divisor.terms:
                product = tuple(sorted(m + factor))
                left[product] = left.get(product, 0) - whole * c
            left.pop(monomial, None)
            if remainder:
                rest[monomial] = remainder
            left = {m: c for m, c in left.items() if c}
        return _normal(quotient), _normal(rest)

    @property
    def content(self) -> int:
        """The greatest number that divides every coefficient."""
        return gcd(*(c for _, c in self.terms))

    def scaled_down(self, divisor: int) -> "Polynomial":
        """Every coefficient floor-divided by a number."""
        return _normal({m: c // divisor for m, c in self.terms})

    def tightened(self) -> "Polynomial":
        """The strongest polynomial that is >= 0 exactly where this one is, over integers: 2*q - 1 gives q - 1."""
        g = gcd(*(c for m, c in self.terms if m))
        return self if g <= 1 else self.scaled_down(g)

    def at(self, values: Mapping[str, int]) -> int:
        """The value where each atom has its value."""
        total = 0
        for monomial, c in self.terms:
            for name in monomial:
                c *= values[name]
            total += c
        return total


def _terms(p: Polynomial | int) -> tuple[tuple[Monomial, int], ...]:
    return p.terms if isinstance(p, Polynomial) else (((), p),)


def _normal(terms: Mapping[Monomial, int]) -> Polynomial:
    return Polynomial(tuple(sorted((m, c) for m, c in terms.items() if c)))


def _without(monomial: Monomial, part: Monomial) -> Monomial | None:
    """`monomial / part`, or None where it does not divide."""
    left = list(monomial)
    for name in part:
        if name not in left:
            return None
        left.remove(name)
    return tuple(left)


ZERO: Final = Polynomial(())


def constant(value: int) -> Polynomial:
    """The polynomial that is one number."""
    return Polynomial((((), value),)) if value else ZERO


def atom(name: str) -> Polynomial:
    """The polynomial that is one atom."""
    return Polynomial((((name,), 1),))

"""Turns a list of polynomials known to be >= 0 into proofs that others are: elimination by bounds, a small bounded search.

The atoms are integers. To prove `p >= 0`, write it as `a*v + b` for an atom v that some known `c = k*v + r >= 0` bounds:

- where `a == q*k` and `q >= 0`:   p = q*c + (b - q*r), so `b - q*r >= 0` is enough;
- where `k >= 1` and `a >= 0`:     k*p >= k*b - a*r, and over integers `k*b - a*r + (k-1) >= 0` is enough;
- where `k <= -1` and `a <= 0`:    likewise with -k.

This is Fourier-Motzkin elimination of one atom at a time with symbolic coefficients. It is sound and not complete; a limit on
steps and depth makes it end, and nothing in it depends on time or on hash order.
"""

from typing import Final

from kernel_ir.polynomial import Polynomial

MAX_STEPS: Final = 240
MAX_DEPTH: Final = 9
FACTOR_DEPTH: Final = 4


class Constraints:
    """Polynomials known to be >= 0, over atoms declared in the order in which they depend on each other.

    >>> from kernel_ir.polynomial import atom
    >>> n, i = atom("N"), atom("i")
    >>> known = Constraints()
    >>> for p in (n, i, n - 1 - i): known.add(p)
    >>> known.nonneg(n * n - 1 - i), known.nonneg(n - 2 - i)
    (True, False)
    """

    def __init__(self) -> None:
        self.known: dict[Polynomial, None] = {}
        self.order: dict[str, int] = {}
        self.impossible = False
        self._bounds: dict[str, list[tuple[Polynomial, Polynomial]]] = {}
        self._nonneg_atoms: set[str] = set()
        self._proved: dict[Polynomial, None] = {}
        self._failed: dict[Polynomial, int] = {}
        self._steps = 0

    def fork(self) -> "Constraints":
        """A copy that can learn more without this one knowing."""
        copy = Constraints()
        copy.known = dict(self.known)
        copy.order = dict(self.order)
        copy.impossible = self.impossible
        copy._bounds = {name: list(bounds) for name, bounds in self._bounds.items()}
        copy._nonneg_atoms = set(self._nonneg_atoms)
        copy._proved = dict(self._proved)
        return copy

    def declare(self, name: str) -> None:
        """Gives an atom its place in the order: those declared later are eliminated first."""
        self.order.setdefault(name, len(self.order))

    def add(self, p: Polynomial) -> None:
        """Learns `p >= 0`."""
        p = p.tightened()
        value = p.constant
        if value is not None:
            self.impossible |= value < 0
            return
        if p in self.known:
            return
        self.known[p] = None
        self._failed.clear()
        for name in sorted(p.atoms):
            self.declare(name)
            k, r = p.split(name)
            if name not in k.atoms:
                self._bounds.setdefault(name, []).append((k, r))
                if k.constant == 1 and self.obvious(-r):
                    self._nonneg_atoms.add(name)

    def bounds(self, name: str) -> list[tuple[Polynomial, Polynomial]]:
        """Each known constraint linear in the atom, as `(k, r)`: `k * name + r >= 0`."""
        return self._bounds.get(name, [])

    def interval(self, p: Polynomial) -> tuple[int | None, int | None]:
        """Constant bounds of `p`, None where there is none, from the constant bounds of its atoms."""
        low: int | None = 0
        high: int | None = 0
        for monomial, c in p.terms:
            least: int | None = c
            greatest: int | None = c
            for name in monomial:
                least, greatest = _product((least, greatest), self._atom_interval(name))
            low = None if low is None or least is None else low + least
            high = None if high is None or greatest is None else high + greatest
        return low, high

    def _atom_interval(self, name: str) -> tuple[int | None, int | None]:
        low: int | None = None
        high: int | None = None
        for k, r in self.bounds(name):
            slope, rest = k.constant, r.constant
            if slope is None or rest is None:
                continue
            if slope > 0:
                bound = -(rest // slope)
                low = bound if low is None else max(low, bound)
            else:
                bound = rest // -slope
                high = bound if high is None else min(high, bound)
        if low is None and name in self._nonneg_atoms:
            low = 0
        return low, high

    def contradicts(self, p: Polynomial) -> bool:
        """Whether `p >= 0` cannot be, given what is known."""
        return self.impossible or self.nonneg(-p - 1)

    def nonneg(self, p: Polynomial) -> bool:
        """Whether `p >= 0` is proved."""
        if self.impossible:
            return True
        self._steps = 0
        return self._search(p, MAX_DEPTH, frozenset())

    def obvious(self, p: Polynomial) -> bool:
        """Whether `p >= 0` is plain: no negative coefficient, no factor that may be negative."""
        return all(c > 0 and self._obvious_monomial(m) for m, c in p.terms)

    def _obvious_monomial(self, monomial: tuple[str, ...]) -> bool:
        return all(name in self._nonneg_atoms or monomial.count(name) % 2 == 0 for name in monomial)

    def _search(self, p: Polynomial, depth: int, path: frozenset[Polynomial]) -> bool:
        p = p.tightened()
        value = p.constant
        if value is not None:
            return value >= 0
        if p in self.known or p in self._proved or self.obvious(p):
            return True
        if depth == 0 or p in path or self._failed.get(p, 0) >= depth:
            return False
        path |= {p}
        for name in sorted(p.atoms, key=lambda name: (-self.order.get(name, -1), name)):
            a, b = p.split(name)
            for k, r in reversed(self.bounds(name)):
                self._steps += 1
                if self._steps > MAX_STEPS:
                    return False
                if self._eliminate(a, b, k, r, depth - 1, path):
                    self._proved[p] = None
                    return True
        self._failed[p] = depth
        return False

    def _eliminate(self, a: Polynomial, b: Polynomial, k: Polynomial, r: Polynomial, depth: int, path: frozenset[Polynomial]) -> bool:
        """Tries to prove `a*v + b >= 0` from `k*v + r >= 0`."""
        slope = k.constant
        q, remainder = (a, a) if slope is not None and abs(slope) != 1 and not _divides(slope, a) else a.divmod(k)
        if not remainder.terms:
            return self._is_factor(q, depth, path) and self._search(b - q * r, depth, path)
        for sign in (1, -1):
            k_up, a_up = k * sign, a * sign
            if self._is_factor(a_up, depth, path) and self._is_factor(k_up - 1, depth, path):
                return self._search(k_up * b - a_up * r + k_up - 1, depth, path)
        return False

    def _is_factor(self, p: Polynomial, depth: int, path: frozenset[Polynomial]) -> bool:
        """Whether a multiplier is >= 0: cheaper to see than the rest, so it is looked at first and not deeply."""
        return not self.obvious(-p - 1) and self._search(p, min(depth, FACTOR_DEPTH), path)


def _divides(divisor: int, p: Polynomial) -> bool:
    return all(c % divisor == 0 for _, c in p.terms)


def _product(a: tuple[int | None, int | None], b: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """The interval product; None is unbounded."""
    (a_low, a_high), (b_low, b_high) = a, b
    if a_low is not None and a_low >= 0 and b_low is not None and b_low >= 0:
        return a_low * b_low, None if a_high is None or b_high is None else a_high * b_high
    if a_low is None or a_high is None or b_low is None or b_high is None:
        if a_high is not None and a_high <= 0 and b_low is not None and b_low >= 0:
            return (None if a_low is None or b_high is None else a_low * b_high), a_high * b_low
        return None, None
    corners = [x * y for x in (a_low, a_high) for y in (b_low, b_high)]
    return min(corners), max(corners)

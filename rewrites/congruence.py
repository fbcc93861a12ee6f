"""Turns equations between terms into classes of equal terms that can say why two are equal.

An e-graph over plain terms: each number is one concrete term, its class the terms known to be equal to it. Every equation is a link, by a
rule or by congruence (Nieuwenhuis and Oliveras 2005), and a path of links between two terms is a proof of their equality.
"""

from dataclasses import dataclass, field

from rewrites.declare import PARTS
from rewrites.terms import Dag, Term


@dataclass(frozen=True, slots=True)
class Reason:
    """Why two terms are equal: a rule of this name made the second of the first, or (`back`) the first of the second."""

    rule: str
    back: bool = False


CONGRUENCE = Reason("")
"""The two have equal parts."""


@dataclass(frozen=True, slots=True)
class Link:
    """An equation between two terms."""

    one: int
    two: int
    reason: Reason


@dataclass(slots=True)
class Classes:
    """Terms of `dag` and their classes."""

    dag: Dag
    _parent: dict[int, int] = field(default_factory=dict[int, int])
    links: list[Link] = field(default_factory=list[Link])
    """Every equation that a rule gave, needed for the classes or not, and those by congruence that made them, in order of time."""
    at: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """The links at each term, by number."""
    _nodes: dict[Term, int] = field(default_factory=dict[Term, int])
    _uses: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    members: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def find(self, number: int) -> int:
        """The class of a term, as the number of one of its terms."""
        root = number
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[number] != root:
            self._parent[number], number = root, self._parent[number]
        return root

    def add(self, number: int) -> int:
        """The class of a term, which is new or not."""
        if number in self._parent:
            return self.find(number)
        term = self.dag.terms[number]
        for child in term.children:
            self.add(child)
        self._parent[number] = number
        self._uses[number] = []
        self.members[number] = [number]
        key = self.key(term)
        twin = self._nodes.setdefault(key, number)
        for child in dict.fromkeys(key.children):
            self._uses[child].append(number)
        if twin != number:
            self.union(twin, number, CONGRUENCE)
        return self.find(number)

    def key(self, term: Term) -> Term:
        """The term with classes for its parts."""
        args = list(term.args)
        for n in PARTS[term.name]:
            args[n] = self.find(int(args[n]))
        return Term(term.name, tuple(args))

    def __contains__(self, number: int) -> bool:
        return number in self._parent

    def place(self, number: int) -> int | None:
        """The class in which a term would be, new or not; None where it would be alone."""
        if number in self._parent:
            return self.find(number)
        term = self.dag.terms[number]
        args = list(term.args)
        for n in PARTS[term.name]:
            home = self.place(int(args[n]))
            if home is None:
                return None
            args[n] = home
        twin = self._nodes.get(Term(term.name, tuple(args)))
        return None if twin is None else self.find(twin)

    def nodes(self) -> list[int]:
        """A term of each different form, the first of each."""
        found: dict[Term, int] = {}
        for number in self._parent:
            found.setdefault(self.key(self.dag.terms[number]), number)
        return list(found.values())

    def union(self, a: int, b: int, reason: Reason) -> None:
        """Makes two terms equal, and all that follows by congruence."""
        waiting = [(a, b, reason)]
        while waiting:
            one, two, why = waiting.pop(0)
            x, y = self.find(one), self.find(two)
            if x != y or why.rule:
                self._link(one, two, why)
            if x == y:
                continue
            if len(self._uses[x]) > len(self._uses[y]):
                x, y = y, x
            self._parent[x] = y
            self.members[y] += self.members.pop(x)
            moved, self._uses[x] = self._uses[x], []
            for user in moved:
                key = self.key(self.dag.terms[user])
                twin = self._nodes.setdefault(key, user)
                self._uses[y].append(user)
                if self.find(twin) != self.find(user):
                    waiting.append((twin, user, CONGRUENCE))

    def _link(self, one: int, two: int, reason: Reason) -> None:
        for end in (one, two):
            self.at.setdefault(end, []).append(len(self.links))
        self.links.append(Link(one, two, reason))

"""Turns equations between terms into classes of equal terms that can say why two are equal.

An e-graph over plain terms: each number is one concrete term, its class the terms known to be equal to it. Every union is an edge of a
forest, by a rule or by congruence (Nieuwenhuis and Oliveras 2005), and the path between two terms is the proof of their equality.
"""

from dataclasses import dataclass, field

from rewrites.declare import SIGNATURES
from rewrites.terms import Dag, Term


@dataclass(frozen=True, slots=True)
class Reason:
    """Why two terms are equal: a rule of this name made the second of the first, or (`back`) the first of the second."""

    rule: str
    back: bool = False


CONGRUENCE = Reason("")
"""The two have equal parts."""


@dataclass(slots=True)
class Classes:
    """Terms of `dag` and their classes."""

    dag: Dag
    _parent: dict[int, int] = field(default_factory=dict[int, int])
    _edges: dict[int, tuple[int, Reason]] = field(default_factory=dict[int, tuple[int, Reason]])
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
        sorts = SIGNATURES[term.name]
        return Term(
            term.name, tuple([self.find(a) if s == "E" and isinstance(a, int) else a for a, s in zip(term.args, sorts, strict=True)])
        )

    def __contains__(self, number: int) -> bool:
        return number in self._parent

    def place(self, number: int) -> int | None:
        """The class in which a term would be, new or not; None where it would be alone."""
        if number in self._parent:
            return self.find(number)
        term = self.dag.terms[number]
        homes = [self.place(c) for c in term.children]
        if None in homes:
            return None
        below = iter(homes)
        args = [next(below) if s == "E" else a for a, s in zip(term.args, SIGNATURES[term.name], strict=True)]
        twin = self._nodes.get(Term(term.name, tuple([a for a in args if a is not None])))
        return None if twin is None else self.find(twin)

    @property
    def forms(self) -> int:
        """At least the number of different forms."""
        return len(self._nodes)

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
            if x == y:
                continue
            self._link(one, two, why)
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
        """Adds the edge one → two to the forest; one becomes the root of its tree first."""
        node: int = one
        step: tuple[int, Reason] | None = (two, reason)
        while step is not None:
            before = self._edges.get(node)
            self._edges[node] = step
            step = None if before is None else (node, Reason(before[1].rule, not before[1].back))
            node = node if before is None else before[0]

    def path(self, a: int, b: int) -> list[tuple[int, int, Reason]]:
        """The edges from a to b, each directed that way."""
        up: dict[int, int] = {}
        trail: list[tuple[int, int, Reason]] = []
        node = a
        up[node] = 0
        while node in self._edges:
            to, why = self._edges[node]
            trail.append((node, to, why))
            node = to
            up[node] = len(trail)
        back: list[tuple[int, int, Reason]] = []
        node = b
        while node not in up:
            to, why = self._edges[node]
            back.append((to, node, Reason(why.rule, not why.back)))
            node = to
        return trail[: up[node]] + back[::-1]

"""Turns classes that know why terms are equal into short proofs: the path of fewest steps between two terms, congruence counted in full.

The cost of a link by congruence is found when a path first goes through it: until then it counts as one step for each part that differs.
Its parts are proved by rules and by what was known before it, so no proof leans on itself.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from rewrites.congruence import CONGRUENCE, Classes, Reason

WEIGHED: Final = 3_000
"""Links by congruence whose cost is found; the others count as one step for each part that differs."""
LATEST: Final = 10**9


@dataclass(frozen=True, slots=True)
class Edge:
    """A step from one term to another; one by congruence leans only on what was known before its time."""

    before: int
    after: int
    reason: Reason
    time: int


@dataclass(slots=True)
class Proofs:
    """The short proofs of one set of classes."""

    classes: Classes
    _costs: dict[int, int] = field(default_factory=dict[int, int])
    _weights: dict[int, int] = field(default_factory=dict[int, int])
    _paths: dict[tuple[int, int, int], list[Edge]] = field(default_factory=dict[tuple[int, int, int], list[Edge]])
    _weighed: int = 0

    def path(self, a: int, b: int, limit: int = LATEST) -> list[Edge]:
        """The edges from a to b, which are equal; of those by congruence only ones from before the limit."""
        key = a, b, limit
        if key not in self._paths:
            links = self._links(a, b, limit)
            while self._weigh(links):
                links = self._links(a, b, limit)
            self._paths[key] = self._edges(a, links)
        return self._paths[key]

    def differing(self, a: int, b: int) -> list[tuple[int, int, int]]:
        """The parts in which two terms of one form differ, with their positions."""
        terms = self.classes.dag.terms
        return [(n, x, y) for n, (x, y) in enumerate(zip(terms[a].children, terms[b].children, strict=True)) if x != y]

    def _weigh(self, links: list[int]) -> bool:
        """Finds the costs of links that have none yet; whether that was news."""
        news = False
        for time in links:
            link = self.classes.links[time]
            if link.reason.rule or time in self._costs or self._weighed >= WEIGHED:
                continue
            self._weighed += 1
            parts = self.differing(link.one, link.two)
            self._costs[time] = self._weights[time] = sum(self._cost(edge) for _, x, y in parts for edge in self.path(x, y, time))
            news = True
        return news

    def _cost(self, edge: Edge) -> int:
        if edge.reason.rule:
            return 1
        parts = self.differing(edge.before, edge.after)
        return sum(self._cost(below) for _, x, y in parts for below in self.path(x, y, edge.time))

    def _links(self, a: int, b: int, limit: int) -> list[int]:
        """Dijkstra's shortest path, as numbers of links."""
        classes = self.classes
        came: dict[int, tuple[int, int]] = {}
        least = {a: 0}
        heap = [(0, a)]
        while heap:
            cost, number = heappop(heap)
            if number == b:
                break
            if cost > least[number]:
                continue
            for time in classes.at.get(number, ()):
                link = classes.links[time]
                if not link.reason.rule and time >= limit:
                    continue
                to = link.two if link.one == number else link.one
                total = cost + self._weight(time)
                if total < least.get(to, LATEST):
                    least[to], came[to] = total, (number, time)
                    heappush(heap, (total, to))
        found: list[int] = []
        while b != a:
            b, time = came[b]
            found.append(time)
        return found[::-1]

    def _weight(self, time: int) -> int:
        """The cost of a link, or what it is at least."""
        found = self._weights.get(time)
        if found is None:
            link = self.classes.links[time]
            found = self._weights[time] = 1 if link.reason.rule else len(self.differing(link.one, link.two))
        return found

    def _edges(self, a: int, links: list[int]) -> list[Edge]:
        """The links, directed; what congruence does in a row is one edge."""
        found: list[Edge] = []
        for time in links:
            link = self.classes.links[time]
            back = link.one != a
            to = link.one if back else link.two
            if link.reason.rule:
                found.append(Edge(a, to, Reason(link.reason.rule, back), time))
            elif found and not found[-1].reason.rule:
                last = found.pop()
                if last.before != to:
                    found.append(Edge(last.before, to, CONGRUENCE, max(last.time, time)))
            else:
                found.append(Edge(a, to, CONGRUENCE, time))
            a = to
        return found

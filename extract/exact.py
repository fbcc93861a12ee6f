"""Turns a costed e-graph into the choice of least DAG cost, proved by branch and bound, or the best one found in the time, with a bound.

The integer program of TENSAT (Yang et al., 2021): a node is taken or not, a root's class takes one, and what a taken node needs takes
one. Orders keep a class from reaching itself; only classes of one strongly connected component need them. HiGHS solves it.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal

import numpy as np

from extract.extractor import Choice, choices, tree_costs
from extract.weights import CostGraph
from kernel_ir.errors import UsageError

Ending = Literal["proved", "time"]
GAP: Final = 1e-6
"""Relative distance of cost and bound that counts as proved: HiGHS works to about as many digits."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The best choice known, a lower bound of what any choice costs (cycles), and whether that proves it or the time ran out."""

    choice: Choice
    bound: float
    ending: Ending
    nodes: int
    """Nodes that could be part of an optimum: the size of the integer program."""

    @property
    def gap(self) -> float:
        """How far above the optimum the choice can be, relative to the bound; inf where nothing is known."""
        return self.choice.cost / self.bound - 1 if self.bound > 0 else float("inf")


def exact(graph: CostGraph, sources: tuple[int, ...], seconds: float = 10.0) -> Exact | None:
    """The choice of least cost with each class paid once, never worse than the greedy ones; None where a root has no finite term.

    Raises UsageError where SciPy is not installed.
    """
    greedy = min(choices(graph, sources), key=lambda c: c.cost, default=None)
    if greedy is None:
        return None
    program = _Program(graph, _useful(graph, greedy.cost), greedy.cost)
    found, bound = program.solve(seconds)
    best = min((greedy, *found), key=lambda c: c.cost)
    bound = min(bound, best.cost)
    return Exact(best, bound, "proved" if best.cost <= bound * (1 + GAP) else "time", len(program.nodes))


def _useful(graph: CostGraph, limit: float) -> list[int]:
    """The nodes that an optimum can need: reached, finite, alone at most `limit`, with no cheaper twin of no more needs in their class."""
    finite = np.isfinite(tree_costs(graph)[1]) & (graph.own <= limit)
    needs: list[frozenset[int]] = [frozenset()] * graph.size
    for node, below in enumerate(graph.edges.below):
        needs[node] = frozenset(below)
    members: dict[int, list[int]] = {}
    for node in np.flatnonzero(finite).tolist():
        home = int(graph.edges.classes[node])
        if home not in needs[node]:
            members.setdefault(home, []).append(node)
    kept: list[int] = []
    stack, seen = list(graph.edges.roots), set(graph.edges.roots)
    while stack:
        mine: list[int] = []
        for node in sorted(members.get(stack.pop(), ()), key=lambda n: (float(graph.own[n]), len(needs[n]), n)):
            if not any(needs[other] <= needs[node] for other in mine):
                mine.append(node)
        kept += mine
        for child in sorted({c for node in mine for c in needs[node]} - seen):
            seen.add(child)
            stack.append(child)
    return sorted(kept)


class _Program:
    """The integer program over the nodes given: minimise the cost of those taken."""

    def __init__(self, graph: CostGraph, nodes: list[int], scale: float) -> None:
        self.graph = graph
        self.nodes = nodes
        self.scale = scale
        below = graph.edges.below
        self.homes = [int(graph.edges.classes[n]) for n in nodes]
        self.needs = [sorted(set(below[n])) for n in nodes]
        self.members: dict[int, list[int]] = {}
        for position, home in enumerate(self.homes):
            self.members.setdefault(home, []).append(position)
        self.rows: list[tuple[dict[int, float], float, float]] = []

    def solve(self, seconds: float) -> tuple[tuple[Choice, ...], float]:
        """(the choice found, if one was, the lower bound of the cost)."""
        optimize, sparse, csgraph = _scipy()
        component, orders = self._components(sparse, csgraph)
        self._require()
        self._order(component, orders)
        count = len(self.nodes) + len(orders)
        cost = np.zeros(count)
        cost[: len(self.nodes)] = self.graph.own[self.nodes] / self.scale
        entries = [(row, column, value) for row, (terms, _, _) in enumerate(self.rows) for column, value in terms.items()]
        row, column, value = (np.array(x) for x in zip(*entries, strict=True))
        matrix = sparse.csr_matrix((value, (row, column)), shape=(len(self.rows), count))
        limits = optimize.LinearConstraint(matrix, [lo for _, lo, _ in self.rows], [hi for _, _, hi in self.rows])
        whole = np.arange(count) < len(self.nodes)
        top = np.where(whole, 1.0, float(len(orders)))
        options = {"time_limit": seconds, "mip_rel_gap": GAP / 10}
        result = optimize.milp(cost, constraints=limits, integrality=whole.astype(int), bounds=optimize.Bounds(0, top), options=options)
        bound = self.scale * float(result.mip_dual_bound) if result.mip_dual_bound is not None else 0.0
        return self._choices(result.x), max(0.0, bound)

    def _components(self, sparse: Any, csgraph: Any) -> tuple[dict[int, int], dict[int, int]]:
        """(the strongly connected component of each class, the column of the order of each class in one of several classes)."""
        numbers = {home: n for n, home in enumerate(self.members)}
        pairs = [(numbers[home], numbers[c]) for home, needs in zip(self.homes, self.needs, strict=True) for c in needs if c in numbers]
        source, target = (np.array(x, np.int64) for x in zip(*pairs, strict=True)) if pairs else (np.zeros(0, np.int64),) * 2
        links = sparse.csr_matrix((np.ones(len(source)), (source, target)), shape=(len(numbers),) * 2)
        _, labels = csgraph.connected_components(links, directed=True, connection="strong")
        sizes = np.bincount(labels)
        component = {home: int(labels[n]) for home, n in numbers.items() if sizes[labels[n]] > 1}
        return component, {home: len(self.nodes) + n for n, home in enumerate(component)}

    def _require(self) -> None:
        """A root's class takes a node, no class two, and a class that a taken node needs takes one."""
        for home, members in self.members.items():
            lo = 1.0 if home in self.graph.edges.roots else 0.0
            self.rows.append((dict.fromkeys(members, 1.0), lo, 1.0))
            users: dict[int, list[int]] = {}
            for position in members:
                for child in self.needs[position]:
                    users.setdefault(child, []).append(position)
            # One row for all the users in a class, of which at most one is taken: tighter than a row each.
            for child, positions in users.items():
                terms = dict.fromkeys(self.members.get(child, ()), 1.0) | dict.fromkeys(positions, -1.0)
                self.rows.append((terms, 0.0, np.inf))

    def _order(self, component: dict[int, int], orders: dict[int, int]) -> None:
        """A taken node's class comes after those that it needs, within a component."""
        above = float(len(orders)) + 1
        for position, (home, needs) in enumerate(zip(self.homes, self.needs, strict=True)):
            for child in needs:
                if home in component and component.get(child) == component[home]:
                    self.rows.append(({orders[home]: 1.0, orders[child]: -1.0, position: -above}, 1 - above, np.inf))

    def _choices(self, x: Any) -> tuple[Choice, ...]:
        """What the roots reach in a solution; nothing where there is none, or where rounding made it no choice."""
        if x is None:
            return ()
        taken = {self.homes[p]: p for p in range(len(self.nodes)) if x[p] > 0.5}
        reached: dict[int, int] = {}
        stack = list(self.graph.edges.roots)
        while stack:
            home = stack.pop()
            if home not in taken:
                return ()
            if home not in reached:
                reached[home] = self.nodes[taken[home]]
                stack.extend(self.needs[taken[home]])
        return (Choice(reached, float(self.graph.own[list(reached.values())].sum())),)


def _scipy() -> tuple[Any, Any, Any]:
    try:
        return import_module("scipy.optimize"), import_module("scipy.sparse"), import_module("scipy.sparse.csgraph")
    except ImportError as error:
        raise UsageError("exact extraction needs SciPy, which is not installed", hint="pip install 'kir[exact]'") from error

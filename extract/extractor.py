"""Turns a costed e-graph into one choice of e-node a class: the tree optimum, or a greedy optimum of the DAG.

The tree optimum pays a shared value at each use, the DAG pays it once; neither beats the other always, so callers try both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from extract.weights import CostGraph
from rewrites.recursion import deep_recursion

PASSES: Final = 200
KEPT: Final = 6
"""Nodes of a class that the DAG search considers: those of least tree cost."""
SLACK: Final = 2.0
"""… and of at most this times the class's least tree cost."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen node of each class that the roots reach (no class reaches itself), and the cost with each class paid once."""

    nodes: dict[int, int]
    cost: float


def tree_costs(graph: CostGraph) -> tuple[np.ndarray, np.ndarray]:
    """(least tree cost of each class, tree cost of each node), inf where nothing finite is known."""
    best = np.full(graph.edges.count, np.inf)
    order = np.argsort(graph.edges.classes, kind="stable")
    present, starts = np.unique(graph.edges.classes[order], return_index=True)
    cost = graph.own
    for _ in range(PASSES):
        cost = graph.own + np.bincount(graph.edges.parent, weights=best[graph.edges.child], minlength=graph.size)
        least = np.full(graph.edges.count, np.inf)
        least[present] = np.minimum.reduceat(cost[order], starts)
        if np.array_equal(least, best):
            break
        best = least
    return best, cost


def choices(graph: CostGraph, sources: Sequence[int]) -> tuple[Choice, ...]:
    """The tree optimum and the greedy DAG optimum, in this order; none where some root has no finite term.

    `sources[i]` breaks ties: of equal nodes, the one that the input or the first rule made.
    """
    best, cost = tree_costs(graph)
    if not np.all(np.isfinite(best[list(graph.edges.roots)])):
        return ()
    ranked = _ranked(graph, best, cost, sources)
    with deep_recursion():
        tree = _walk(graph, ranked)
    dag = _greedy_dag(graph, ranked, best)
    return tuple(c for c in (tree, dag) if c is not None)


def _ranked(graph: CostGraph, best: np.ndarray, cost: np.ndarray, sources: Sequence[int]) -> dict[int, list[int]]:
    """The nodes of each class worth a look, best first."""
    near = np.flatnonzero(np.isfinite(cost) & (cost <= SLACK * best[graph.edges.classes] + 1e-9))
    source = np.zeros(graph.size, np.int64)
    source[: len(sources)] = sources
    order = near[np.lexsort((near, source[near], cost[near]))]
    ranked: dict[int, list[int]] = {}
    for i in order.tolist():
        home = ranked.setdefault(int(graph.edges.classes[i]), [])
        if len(home) < KEPT:
            home.append(i)
    return ranked


def _walk(graph: CostGraph, ranked: dict[int, list[int]]) -> Choice | None:
    """Takes the best-ranked node of every class from the roots down that does not lead back to a class under way."""
    children = graph.edges.below
    chosen: dict[int, int] = {}
    under_way: set[int] = set()

    def visit(home: int) -> bool:
        if home in chosen:
            return True
        if home in under_way:
            return False
        under_way.add(home)
        for node in ranked.get(home, ()):
            if all(visit(c) for c in children[node]):
                chosen[home] = node
                break
        under_way.discard(home)
        return home in chosen

    if not all(visit(r) for r in graph.edges.roots):
        return None
    return _choice(graph, children, chosen)


def _choice(graph: CostGraph, children: list[list[int]], chosen: dict[int, int]) -> Choice:
    """What the roots reach, and what it costs."""
    reached: dict[int, int] = {}
    stack = list(graph.edges.roots)
    while stack:
        home = stack.pop()
        if home not in reached:
            reached[home] = chosen[home]
            stack.extend(children[chosen[home]])
    return Choice(reached, float(sum(graph.own[node] for node in reached.values())))


def _greedy_dag(graph: CostGraph, ranked: dict[int, list[int]], best: np.ndarray) -> Choice | None:
    """Each class keeps the node whose whole set of needed classes, each paid once, costs least; passes until nothing improves."""
    children = graph.edges.below
    own = graph.own.tolist()
    needed = _reachable(graph, ranked, children)
    order = sorted(needed, key=lambda c: (best[c], c))
    costs: dict[int, float] = {}
    sets: dict[int, dict[int, float]] = {}
    chosen: dict[int, int] = {}
    for _ in range(4):
        changed = False
        for home in order:
            for node in ranked[home]:
                below = children[node]
                if any(c not in sets for c in below):
                    continue
                merged: dict[int, float] = {}
                for c in below:
                    merged.update(sets[c])
                if home in merged:
                    continue
                merged[home] = own[node]
                cost = sum(merged.values())
                if home not in costs or cost < costs[home] * (1 - 1e-12):
                    costs[home], sets[home], chosen[home] = cost, merged, node
                    changed = True
        if not changed:
            break
    return _consistent(graph, children, chosen)


def _reachable(graph: CostGraph, ranked: dict[int, list[int]], children: list[list[int]]) -> set[int]:
    seen: set[int] = set()
    stack = list(graph.edges.roots)
    while stack:
        home = stack.pop()
        if home not in seen and home in ranked:
            seen.add(home)
            stack.extend(c for node in ranked[home] for c in children[node])
    return seen


def _consistent(graph: CostGraph, children: list[list[int]], chosen: dict[int, int]) -> Choice | None:
    """The choice, if no class reaches itself: sets were merged from choices that may have changed since."""
    if any(r not in chosen for r in graph.edges.roots):
        return None
    done: set[int] = set()
    for root in graph.edges.roots:
        stack: list[tuple[int, int]] = [(root, 0)]
        path = {root}
        while stack:
            home, position = stack.pop()
            below = children[chosen[home]]
            if position == len(below):
                path.discard(home)
                done.add(home)
                continue
            stack.append((home, position + 1))
            child = below[position]
            if child in path or child not in chosen:
                return None
            if child not in done:
                path.add(child)
                stack.append((child, 0))
    return _choice(graph, children, chosen)

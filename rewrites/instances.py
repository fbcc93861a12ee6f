"""Turns saturated e-graphs into plain terms: one of each node, over the least term of each of its parts' classes."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

from rewrites.adapter import Frozen
from rewrites.declare import SIGNATURES
from rewrites.terms import Dag, Term

ENDLESS: Final = 10**9


def instances(graphs: Sequence[Frozen], dag: Dag) -> list[int]:
    """The numbers of the terms; where a later graph holds what an earlier one holds, both have the same least term for it."""
    found: dict[int, int] = {}
    for graph in graphs:
        least = _least_terms(graph, found, dag)
        for node, home in zip(graph.nodes, graph.classes, strict=True):
            number = _over(node, least, dag)
            if number is not None:
                found.setdefault(number, least[home])
    return list(found)


def _least_terms(graph: Frozen, known: Mapping[int, int], dag: Dag) -> dict[int, int]:
    """The least term of each class, or the one that stands for it already."""
    sizes = _least_sizes(graph)
    own = [1 + sum(sizes[c] for c in node.children) for node in graph.nodes]
    least: dict[int, int] = {}
    for i in sorted(range(len(own)), key=own.__getitem__):
        number = _over(graph.nodes[i], least, dag)
        if number is not None and graph.classes[i] not in least:
            least[graph.classes[i]] = known.get(number, number)
    return least


def _over(node: Term, least: Mapping[int, int], dag: Dag) -> int | None:
    """The node's term over these terms of its parts."""
    if any(c not in least for c in node.children):
        return None
    columns = zip(node.args, SIGNATURES[node.name], strict=True)
    return dag.add(node.name, *[least[int(a)] if sort == "E" else a for a, sort in columns])


def _least_sizes(graph: Frozen) -> list[int]:
    """The size of the least term of each class."""
    sizes = [ENDLESS] * (max(graph.classes, default=-1) + 1)
    for _ in count():
        before = list(sizes)
        for node, home in zip(graph.nodes, graph.classes, strict=True):
            sizes[home] = min(sizes[home], 1 + sum(sizes[c] for c in node.children))
        if sizes == before:
            break
    return sizes

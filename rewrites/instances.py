"""Turns saturated e-graphs into plain terms: one of each node, over the least term of each of its parts' classes."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

from rewrites.adapter import Frozen
from rewrites.declare import SIGNATURES
from rewrites.terms import Dag, Term

ENDLESS: Final = 10**9


def instances(graphs: Sequence[Frozen], dag: Dag, near: Sequence[int] | None = None) -> list[int]:
    """The numbers of the terms; where a later graph holds what an earlier one holds, both have the same least term for it.

    With `near`, only of nodes in the classes of these terms and all below them, and in the classes of those nodes' parts.
    """
    found: dict[int, int] = {}
    for graph in graphs:
        least = _least_terms(graph, found, dag)
        nodes = list(zip(graph.nodes, graph.classes, strict=True))
        if near is not None:
            kept = _homes(graph, near, dag)
            kept |= {c for node, home in nodes if home in kept for c in node.children}
            nodes = [(node, home) for node, home in nodes if home in kept]
        for node, home in nodes:
            number = _over(node, least, dag)
            if number is not None:
                found.setdefault(number, least[home])
    return list(found)


def _homes(graph: Frozen, numbers: Sequence[int], dag: Dag) -> set[int]:
    """The classes of terms, and of all below them, that the graph holds."""
    index = dict(zip(graph.nodes, graph.classes, strict=True))
    homes: dict[int, int] = {}
    seen: set[int] = set()

    def visit(number: int) -> None:
        seen.add(number)
        for child in dag.terms[number].children:
            if child not in seen:
                visit(child)
        key = _with_parts(dag.terms[number], homes)
        if key is not None and key in index:
            homes[number] = index[key]

    for number in numbers:
        if number not in seen:
            visit(number)
    return set(homes.values())


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


def _over(node: Term, parts: Mapping[int, int], dag: Dag) -> int | None:
    """The number of the node's term over these parts; None where one is missing."""
    term = _with_parts(node, parts)
    return None if term is None else dag.add(term.name, *term.args)


def _with_parts(node: Term, parts: Mapping[int, int]) -> Term | None:
    """The node over these for its parts; None where one is missing."""
    if any(c not in parts for c in node.children):
        return None
    columns = zip(node.args, SIGNATURES[node.name], strict=True)
    return Term(node.name, tuple([parts[int(a)] if sort == "E" else a for a, sort in columns]))


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

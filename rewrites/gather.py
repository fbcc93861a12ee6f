"""Turns several choices of one e-graph into an encoding that holds just them, so that instruction selection need not search the rest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rewrites.adapter import Fact, Frozen
from rewrites.declare import SIGNATURES
from rewrites.encode import Encoding
from rewrites.terms import Dag, Term


@dataclass(frozen=True, slots=True)
class Gathered:
    """An encoding, and for each of its terms the number of the rule that made it (0: the input)."""

    encoding: Encoding
    sources: tuple[int, ...]


def gathered(encoding: Encoding, frozen: Frozen, chosen: Sequence[Mapping[int, int]]) -> Gathered:
    """The input's terms and those of each choice (class to node); what lies in one class is united."""
    dag = Dag(list(encoding.terms), {term: i for i, term in enumerate(encoding.terms)})
    sources = [0] * len(encoding.terms)
    homes: dict[int, dict[int, None]] = {home: {encoding.roots[i]: None} for i, home in frozen.roots.items()}
    facts: dict[Fact, None] = {}
    for choice in chosen:
        numbers: dict[int, int] = {}
        left = passed(frozen, choice)
        for home in _children_first(frozen, choice, frozen.roots.values()):
            node = frozen.nodes[choice[home]]
            number = numbers[home] = dag.add(node.name, *_renumbered(node, numbers))
            if number == len(sources):
                sources.append(frozen.sources[choice[home]])
            homes.setdefault(home, {})[number] = None
            if home in frozen.via and home in left:
                facts[Fact("via", (number,), frozen.via[home])] = None
    for same in homes.values():
        first, *rest = same
        facts.update({Fact("union", (first, other)): None for other in rest})
    return Gathered(replace(encoding, terms=tuple(dag.terms), facts=(*encoding.facts, *facts)), tuple(sources))


def passed(frozen: Frozen, choice: Mapping[int, int]) -> frozenset[int]:
    """The classes in which the input had a form that the choice passes over."""
    chosen = set(choice.values())
    return frozenset(home for i, home in enumerate(frozen.classes) if frozen.sources[i] == 0 and i not in chosen)


def _renumbered(node: Term, numbers: Mapping[int, int]) -> list[int | str]:
    return [numbers[int(a)] if sort == "E" else a for a, sort in zip(node.args, SIGNATURES[node.name], strict=True)]


def _children_first(frozen: Frozen, choice: Mapping[int, int], roots: Iterable[int]) -> list[int]:
    done: dict[int, None] = {}
    stack = [(root, False) for root in roots if root in choice]
    while stack:
        home, ready = stack.pop()
        if ready:
            done[home] = None
        elif home not in done:
            stack.append((home, True))
            stack.extend((c, False) for c in frozen.nodes[choice[home]].children if c not in done)
    return list(done)

"""Turns a rule, and rules that are there already, into whether these make it needless: both of its sides meet in an e-graph.

The sides go in as ground terms, the rule's guards as facts (`rewrites.ground`). "No" may also mean that a limit was reached.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kernel_ir.fastmath import Flag
from rewrites.adapter import EGraphError, RefusedCommand, Session, session
from rewrites.compile import commands
from rewrites.ground import Ground, Room, grounds
from rewrites.program import Line, analysis_lines, closure, loaded
from rewrites.rule import Rule

TERMS: Final = 250
"""Terms of rules that are put into one e-graph."""
VARIABLES: Final = 56
"""Index variables of rules that are put into one e-graph."""
SURPLUS: Final = 1.5
SPARE: Final = 40
"""How many times the rules that it needs an e-graph may be loaded with, and how many more: to load anew costs most."""
_SETTLE: Final = 8


@dataclass(frozen=True, slots=True)
class Effort:
    """How far to look: rounds in which each rule runs once, all at the same time, and e-nodes after which there is no further round."""

    nodes: int = 3_000
    rounds: int = 5


def derivable(rule: Rule, rules: Sequence[Rule], *, nodes: int = 3_000, rounds: int = 5) -> bool:
    """Whether `rules`, as far as their flags are among the rule's own, already prove both of its sides equal, for every dtype.

    >>> from rewrites.books import load_book
    >>> rules = load_book("rule comm: a + b => b + a on int\\nrule zero: x + 0 => x on int\\n")
    >>> [derivable(load_book(f"rule r: {text} on int\\n")[0], rules) for text in ("0 + x => x", "x + 1 => x")]
    [True, False]
    """
    return all_derivable((rule,), rules, Effort(nodes, rounds))[0]


def all_derivable(
    candidates: Sequence[Rule], rules: Sequence[Rule], effort: Effort | None = None, every_type: bool = True
) -> tuple[bool, ...]:
    """`derivable` of many rules: those with the same guards and flags share e-graphs. None of them helps another.

    Without `every_type` one dtype stands for its class (f32 for f64, i32 for i64).
    """
    met = [True] * len(candidates)
    licences: dict[frozenset[Flag], list[int]] = {}
    for n, candidate in enumerate(candidates):
        licences.setdefault(candidate.needs, []).append(n)
    for needs, members in licences.items():
        lines = [line for rule in rules if rule.needs <= needs for line in _lines(rule)]
        by_key: dict[tuple[object, ...], list[tuple[int, Ground]]] = {}
        for n in members:
            found = grounds(candidates[n], every_type)
            met[n] &= bool(found)
            for ground in found:
                by_key.setdefault(ground.key, []).append((n, ground))
        rooms = [room for same in by_key.values() for room in _rooms(same)]
        for (room, members), texts in zip(rooms, _loads([room for room, _ in rooms], lines, not needs), strict=True):
            for n, equal in zip(members, _equal(room, texts, effort or Effort()), strict=True):
                met[n] &= equal
    return tuple(met)


@functools.lru_cache(4096)
def _lines(rule: Rule) -> tuple[Line, ...]:
    """The rule's egglog rules: what makes no e-nodes runs freely, all else in one ruleset, instruction selection too."""
    return tuple(Line(c.text("derive" if c.adds else "shrink"), c.needs, c.makes) for c in commands(rule))


def _loads(rooms: Sequence[Room], lines: Sequence[Line], exact: bool) -> Iterator[tuple[str, ...]]:
    """What each e-graph is loaded with: the rules that can match there, or what another one needs if that is little more."""
    made: dict[frozenset[str], tuple[int, tuple[str, ...]]] = {}
    for room in rooms:
        known = closure({term.name for term in room.dag.terms}, (*analysis_lines(), *lines))
        own = [line for line in lines if line.needs <= known]
        if known not in made:
            serves = [load for others, load in made.items() if known <= others and load[0] <= SURPLUS * len(own) + SPARE]
            made[known] = min(serves, default=(len(own), loaded(known, own, ("derive",), exact)))
        yield made[known][1]


def _rooms(same: Sequence[tuple[int, Ground]]) -> Iterator[tuple[Room, tuple[int, ...]]]:
    """As many rules in one e-graph as it holds, and their numbers."""
    room, members = Room(), list[int]()
    for position, (n, ground) in enumerate(same, 1):
        room.add(ground)
        members.append(n)
        if position == len(same) or len(room.dag.terms) > TERMS or len(room.variables) > VARIABLES:
            yield room, tuple(members)
            room, members = Room(), []


def _equal(room: Room, commands: tuple[str, ...], effort: Effort) -> tuple[bool, ...]:
    """Which pairs of roots meet, within the effort; none where egglog stops with an error."""
    terms, roots = tuple(room.dag.terms), room.roots
    try:
        with session(commands) as graph:
            graph.insert(terms, (0,) * len(terms), tuple(room.variables.values()), roots, tuple(room.facts))
            _settle(graph)
            met = _pairs(graph, len(roots))
            for _ in range(effort.rounds):
                if all(met) or graph.rows().nodes > effort.nodes + len(terms) or not graph.step("derive").updated:
                    break
                _settle(graph)
                met = _pairs(graph, len(roots))
            return met
    except RefusedCommand:
        raise
    except EGraphError:
        return (False,) * (len(roots) // 2)


def _pairs(graph: Session, count: int) -> tuple[bool, ...]:
    classes = graph.roots()
    return tuple(classes[n] == classes[n + 1] for n in range(0, count, 2))


def _settle(graph: Session) -> None:
    """Analyses and rules that only shrink, until nothing changes."""
    for _ in range(_SETTLE):
        for _ in range(_SETTLE):
            if not graph.step("analysis").updated:
                break
        if not graph.step("shrink").updated:
            return

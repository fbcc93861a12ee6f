"""Turns a rule, and rules that are there already, into whether these make it needless: both of its sides meet in an e-graph.

The sides go in as ground terms, the rule's guards as facts (`rewrites.ground`). "No" may also mean that a limit was reached.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kernel_ir.fastmath import Flag
from rewrites.adapter import EGraphError, RefusedCommand, Session, session
from rewrites.ground import Ground, Room, grounds
from rewrites.program import program_of
from rewrites.rule import SELECT_FAMILY, Rule

TERMS: Final = 250
"""Terms of rules that are put into one e-graph."""
VARIABLES: Final = 56
"""Index variables of rules that are put into one e-graph."""
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
        allowed = tuple(_searched(rule) for rule in rules if rule.needs <= needs)
        by_key: dict[tuple[object, ...], list[tuple[int, Ground]]] = {}
        for n in members:
            found = grounds(candidates[n], every_type)
            met[n] &= bool(found)
            for ground in found:
                by_key.setdefault(ground.key, []).append((n, ground))
        for same in by_key.values():
            for n, equal in _met(same, allowed, effort or Effort()):
                met[n] &= equal
    return tuple(met)


_as_searched: Final[dict[Rule, Rule]] = {}


def _searched(rule: Rule) -> Rule:
    """The rule as one of the search: instruction selection is no phase of its own here."""
    if rule.family != SELECT_FAMILY:
        return rule
    if rule not in _as_searched:
        _as_searched[rule] = replace(rule, family="")
    return _as_searched[rule]


def _met(same: Sequence[tuple[int, Ground]], rules: tuple[Rule, ...], effort: Effort) -> Iterator[tuple[int, bool]]:
    """Each rule's number, and whether its sides met; as many share an e-graph as it holds."""
    room, roots, members = Room(), list[int](), list[int]()
    for position, (n, ground) in enumerate(same, 1):
        roots += room.add(ground)
        members.append(n)
        if position == len(same) or len(room.dag.terms) > TERMS or len(room.variables) > VARIABLES:
            yield from zip(members, _equal(room, roots, rules, effort), strict=True)
            room, roots, members = Room(), [], []


def _equal(room: Room, roots: Sequence[int], rules: tuple[Rule, ...], effort: Effort) -> tuple[bool, ...]:
    """Which pairs of roots meet, within the effort; none where egglog stops with an error."""
    commands = _commands(rules, frozenset(term.name for term in room.dag.terms))
    terms = tuple(room.dag.terms)
    met = (False,) * (len(roots) // 2)
    try:
        with session(commands) as graph:
            graph.insert(terms, (0,) * len(terms), tuple(room.variables.values()), roots, tuple(room.facts))
            for _ in range(effort.rounds):
                _settle(graph)
                classes = graph.roots()
                met = tuple(classes[n] == classes[n + 1] for n in range(0, len(roots), 2))
                if all(met) or graph.rows().nodes > effort.nodes + len(terms) or not graph.step("explore").updated:
                    return met
            _settle(graph)
            classes = graph.roots()
            return tuple(classes[n] == classes[n + 1] for n in range(0, len(roots), 2))
    except RefusedCommand:
        raise
    except EGraphError:
        return (False,) * len(met)


def _settle(graph: Session) -> None:
    """Analyses and rules that only shrink, until nothing changes."""
    for _ in range(_SETTLE):
        for _ in range(_SETTLE):
            if not graph.step("analysis").updated:
                break
        if not graph.step("shrink").updated:
            return


def _commands(rules: tuple[Rule, ...], constructors: frozenset[str]) -> tuple[str, ...]:
    """What an e-graph is loaded with: as for a kernel, but the rules that grow it all in one ruleset."""
    stage = program_of(rules).stage(constructors)
    return tuple(_OWN_RULESET.sub(":ruleset explore ", c) for c in stage.commands if not c.startswith("(ruleset rule"))


_OWN_RULESET: Final = re.compile(r":ruleset rule\d+ ")

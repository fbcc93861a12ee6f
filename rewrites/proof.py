"""Turns two equal terms of a saturated e-graph into the steps that lead from one to the other.

The rules run again on plain terms that remember why they are equal (congruence.py): on one term of each node of the saturated graphs
(instances.py), near start and end or all. Nothing that the graphs do not hold is made, and every guard is judged anew, from the terms
alone. Of all the equations that hold then, the fewest that will do are taken (shortest.py).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rewrites.adapter import Frozen
from rewrites.builtin import FACT, FOLD, RANGE, folded, sole_value
from rewrites.congruence import Classes, Reason
from rewrites.declare import OP_OF_CONSTRUCTOR
from rewrites.instances import instances
from rewrites.judging import refused
from rewrites.known import Known
from rewrites.matching import Binding, Unbound, form_head, form_matches, instance, pattern_head
from rewrites.pattern import Pattern, variables
from rewrites.rule import Rule
from rewrites.shortest import Edge, Proofs
from rewrites.terms import Term

ROUNDS: Final = 40
OTHERS: Final = 6
"""Other terms of a variable's class of which a guard may know more."""
CHOICES: Final = 40
"""Choices of such terms that are tried."""
MAX_STEPS: Final = 4000


class NoProof(Exception):
    """The terms are not found equal by these rules."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One step: `before` becomes `after` at each of the paths (the root's position, then a position among the parts of each node)."""

    rule: str
    back: bool
    before: int
    after: int
    paths: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Direction:
    rule: Rule
    lhs: Pattern
    rhs: Pattern
    head: str
    guarded: tuple[str, ...]


def _directions(rules: Sequence[Rule]) -> list[_Direction]:
    found: list[_Direction] = []
    for rule in rules:
        guarded = tuple(dict.fromkeys(n for g in rule.guards for a in g.args for n in variables(a)))
        found += [_Direction(rule, lhs, rhs, pattern_head(lhs), guarded) for lhs, rhs in rule.directions]
    return found


def proof(known: Known, graphs: Sequence[Frozen], goals: Sequence[tuple[int, int]], rules: Sequence[Rule]) -> tuple[Rewrite, ...]:
    """The steps that turn the first term of each goal, in order, into the second; raises NoProof where these rules do not do it."""
    ends = list(itertools.chain(*goals))
    for near in (ends, None):  # what lies about start and end suffices nearly always
        search = _Search(known, Classes(known.dag), _directions(rules), goals)
        search.begin(instances(graphs, known.dag, near))
        for _ in range(ROUNDS):
            if search.done or not search.round():
                break
        if search.done:
            return tuple(_Flattening(Proofs(search.classes)).steps(goals))
    raise NoProof


@dataclass(slots=True)
class _Search:
    known: Known
    classes: Classes
    directions: Sequence[_Direction]
    goals: Sequence[tuple[int, int]]
    forms_of: dict[tuple[int, str], list[Term]] = field(default_factory=dict[tuple[int, str], "list[Term]"])
    tried: set[tuple[object, ...]] = field(default_factory=set["tuple[object, ...]"])

    @property
    def done(self) -> bool:
        """Whether every goal is reached."""
        return all(self.same(a, b) for a, b in self.goals)

    def forms(self, number: int, head: str) -> Iterator[Term]:
        """A term of each different form of a class that has this head."""
        yield from self.forms_of.get((self.classes.find(number), head), ())

    def same(self, a: int, b: int) -> bool:
        """Whether two terms are known to be equal."""
        return self.classes.find(a) == self.classes.find(b)

    def begin(self, held: Sequence[int]) -> None:
        """Adds what the graphs hold, start and end, and what the kernel's facts say.

        Start and end come last: rules match the first term of each form, and proofs are shorter where that is over least terms.
        """
        for number in (*held, *itertools.chain(*self.goals)):
            self.classes.add(number)
        for fact in self.known.facts:
            if fact.name == "union":
                self.unite(fact.terms[0], fact.terms[1], FACT)

    def round(self) -> bool:
        """Applies every rule everywhere once; whether anything was new."""
        nodes = self.classes.nodes()
        self.forms_of = {}
        by_head: dict[str, list[int]] = {}
        for number in nodes:
            term = self.known.dag.terms[number]
            head = form_head(term)
            self.forms_of.setdefault((self.classes.find(number), head), []).append(term)
            by_head.setdefault(head, []).append(number)
        found = [(d, n, b) for d in self.directions for n in by_head.get(d.head, ()) for b in self._matches(d, n)]
        computed = [self._compute(number) for number in nodes]
        applied = [self._apply(*match) for match in found]
        return any(computed) or any(applied)

    def _compute(self, number: int) -> bool:
        """Arithmetic: of literals, where each part has one in its class, or of an integer that can be one value only."""
        term = self.known.dag.terms[number]
        if term.name in OP_OF_CONSTRUCTOR:
            parts = [next(iter(self._literals(c)), c) for c in term.children]
            whole = self.known.dag.add(term.name, term.args[0], *parts)
            result = folded(whole, self.known)
            if result is not None and self.classes.place(result) is not None:
                return self.unite(whole, result, FOLD)
        result = sole_value(number, self.known)
        return result is not None and self.classes.place(result) is not None and self.unite(number, result, RANGE)

    def _matches(self, d: _Direction, number: int) -> Iterator[Binding]:
        for binding in form_matches(d.lhs, self.known.dag.terms[number], d.rule.types, self, Binding()):
            if self._key(d, number, binding) not in self.tried:
                yield binding

    def _key(self, d: _Direction, number: int, binding: Binding) -> tuple[object, ...]:
        return (id(d), number, *binding.terms.values(), *binding.indices.values())

    def _apply(self, d: _Direction, number: int, binding: Binding) -> bool:
        """Unites the sides of a match, if both are here; whether that is news."""
        dag, types = self.known.dag, d.rule.types
        try:
            after = instance(d.rhs, binding, types, dag)
        except Unbound:
            return False
        if self.classes.place(after) is None:
            return False
        self.tried.add(self._key(d, number, binding))
        for chosen in self._choices(d, binding):
            if refused(d.rule, chosen, self.known) is None:
                return self.unite(instance(d.lhs, chosen, types, dag), instance(d.rhs, chosen, types, dag), d.rule.name)
        return False

    def _choices(self, d: _Direction, binding: Binding) -> Iterator[Binding]:
        """The binding, and it with other terms of the classes for the variables of guards."""
        yield binding
        options = [tuple(dict.fromkeys((binding.terms[n], *self._others(binding.terms[n])))) for n in d.guarded]
        for chosen in itertools.islice(itertools.product(*options), 1, CHOICES):
            yield replace(binding, terms={**binding.terms, **dict(zip(d.guarded, chosen, strict=True))})

    def _others(self, number: int) -> list[int]:
        """Terms of a term's class, literals first."""
        found = self.classes.members[self.classes.find(number)]
        return sorted(found, key=lambda m: (self.known.dag.terms[m].name != "Lit", m))[:OTHERS]

    def _literals(self, number: int) -> Iterator[int]:
        """The literals of a term's class."""
        for term in self.forms(number, "Lit"):
            yield self.known.dag.numbers[term]

    def unite(self, before: int, after: int, rule: str) -> bool:
        """Makes two terms equal by a rule; whether that is news."""
        news = self.classes.add(before) != self.classes.add(after)
        if before != after:
            self.classes.union(before, after, Reason(rule))
        return news


Paths = list[tuple[int, ...]]


@dataclass(slots=True)
class _Flattening:
    """Turns proofs into steps: what several places need alike is done at all of them at once."""

    proofs: Proofs
    found: list[Rewrite] = field(default_factory=list[Rewrite])

    def steps(self, goals: Sequence[tuple[int, int]]) -> list[Rewrite]:
        """The steps from the first term of each goal to the second."""
        self._all([(self.proofs.path(a, b), [(position,)]) for position, (a, b) in enumerate(goals)])
        return self.found

    def _all(self, whole: Sequence[tuple[Sequence[Edge], Paths]]) -> None:
        apart: dict[tuple[int, int], tuple[Sequence[Edge], Paths]] = {}
        for edges, paths in whole:
            self._collect(edges, paths, apart)
        for edges, paths in apart.values():
            for edge in edges:
                if edge.reason.rule:
                    self.found.append(Rewrite(edge.reason.rule, edge.reason.back, edge.before, edge.after, tuple(paths)))
                    if len(self.found) > MAX_STEPS:
                        raise NoProof
                else:
                    self._all(self._parts(edge, paths))

    def _collect(self, edges: Sequence[Edge], paths: Paths, apart: dict[tuple[int, int], tuple[Sequence[Edge], Paths]]) -> None:
        """The parts in which two terms differ, down to where a rule is needed."""
        if len(edges) == 1 and not edges[0].reason.rule:
            for below, places in self._parts(edges[0], paths):
                self._collect(below, places, apart)
        elif edges:
            key = edges[0].before, edges[-1].after
            apart.setdefault(key, (edges, []))[1].extend(paths)

    def _parts(self, edge: Edge, paths: Paths) -> list[tuple[list[Edge], Paths]]:
        parts = self.proofs.differing(edge.before, edge.after)
        return [(self.proofs.path(x, y, edge.time), [(*p, n) for p in paths]) for n, x, y in parts]

"""Turns two equal terms of a saturated e-graph into the steps that lead from one to the other.

The rules run again on plain terms that remember why they are equal (congruence.py), as far as the saturated graph says that it pays:
what the graph does not hold, or holds apart, is never made. Every guard is judged anew, from the terms alone.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rewrites.adapter import Frozen
from rewrites.builtin import FACT, FOLD, RANGE, folded, sole_value
from rewrites.congruence import Classes, Reason
from rewrites.declare import OP_OF_CONSTRUCTOR, SIGNATURES
from rewrites.judging import refused
from rewrites.known import Known
from rewrites.matching import Binding, Unbound, constructors, form_matches, instance
from rewrites.pattern import Pattern, variables
from rewrites.rule import Rule
from rewrites.terms import Term

ROUNDS: Final = 40
MADE: Final = 100
"""Terms made in a round: those that waste least."""
NEVER: Final = 10**9


@dataclass(frozen=True, slots=True)
class Way:
    """A way to search: pairs of limits, the next where one pair leads no farther, and the number of forms that end it.

    The first limit is how much larger than the least term of its class a node may be, beyond what start and end waste there; the second how
    many terms, not yet known to be equal, may stand for one node of a saturated graph.
    """

    limits: tuple[tuple[int, int], ...]
    forms: int


WAYS: Final = (
    Way(((0, 1), (1, 2), (2, 2)), 500),
    Way(((0, 1), (2, 2), (4, 3), (6, 4)), 900),
    Way(((0, 1), (6, 1)), 1500),
)
"""Tried in turn: little suffices nearly always."""
OTHERS: Final = 6
"""Other terms of a variable's class of which a guard may know more."""
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


@dataclass(slots=True)
class _Homes:
    """Where the saturated graphs hold what classes of plain terms hold: for each class one of theirs, or none, a graph."""

    classes: Classes
    graphs: Sequence[Frozen]
    _index: list[dict[Term, int]] = field(init=False)
    _sizes: list[list[int]] = field(init=False)
    _homes: dict[int, list[int | None]] = field(default_factory=dict[int, "list[int | None]"])
    _copies: dict[tuple[int, Term | None], int] = field(default_factory=dict["tuple[int, Term | None]", int])

    def __post_init__(self) -> None:
        self._index = [dict(zip(g.nodes, g.classes, strict=True)) for g in self.graphs]
        self._sizes = [_least_sizes(g) for g in self.graphs]

    def _identify(self, graph: int, one: int, two: int) -> None:
        """Two classes of a graph are equal, as a proof shows: instruction selection knows fewer rules than the search before it."""
        index, sizes = self._index[graph], self._sizes[graph]
        self._index[graph] = {_renamed(t, two, one): one if home == two else home for t, home in index.items()}
        sizes[one] = min(sizes[one], sizes[two])
        for homes in self._homes.values():
            homes[graph] = one if homes[graph] == two else homes[graph]

    def excess(self, number: int) -> int | None:
        """How much larger a term's node is than the least term of its class, at best; None where it is in no graph."""
        found: list[int] = []
        for n, (index, sizes) in enumerate(zip(self._index, self._sizes, strict=True)):
            key = self._key(number, n)
            if key is not None and key in index:
                found.append(1 + sum(sizes[c] for c in key.children) - sizes[index[key]])
        return min(found, default=None)

    def _key(self, number: int, graph: int) -> Term | None:
        term = self.classes.dag.terms[number]
        return _above(term, [self.of(c)[graph] for c in term.children])

    def of(self, number: int) -> Sequence[int | None]:
        """The classes of a term that is perhaps new, one a graph."""
        place = self.classes.place(number)
        if place in self._homes:
            return self._homes[place]
        term = self.classes.dag.terms[number]
        below = [self.of(c) for c in term.children]
        return [self._home(term, index, [b[n] for b in below]) for n, index in enumerate(self._index)]

    def _home(self, term: Term, index: Mapping[Term, int], below: Sequence[int | None]) -> int | None:
        key = _above(term, below)
        return None if key is None else index.get(key)

    def copies(self, number: int) -> int:
        """How often a term's node of the graphs is here already, with parts that are not known to be its own."""
        keys = [(n, self._key(number, n)) for n in range(len(self.graphs))]
        return max((self._copies.get(key, 0) for key in keys if key[1] is not None), default=0)

    def count(self, number: int) -> None:
        """Counts a new form."""
        for n in range(len(self.graphs)):
            key = n, self._key(number, n)
            self._copies[key] = self._copies.get(key, 0) + 1

    def settle(self, numbers: Sequence[int]) -> None:
        """Finds the homes of all classes anew: equal terms share theirs, and what a class's home makes known of others follows."""
        self._homes = {self.classes.find(n): [None] * len(self.graphs) for n in numbers}
        changed = True
        while changed:
            changed = False
            for number in numbers:
                term = self.classes.dag.terms[number]
                own = self._homes[self.classes.find(number)]
                below = [self._homes[self.classes.find(c)] for c in term.children]
                for n, index in enumerate(self._index):
                    home, here = self._home(term, index, [b[n] for b in below]), own[n]
                    if here is None:
                        own[n] = home
                    elif home is not None and home != here:
                        self._identify(n, here, home)
                        changed = True
                        break
                    changed |= own[n] != here
        self._copies = {}
        for number in numbers:
            self.count(number)


def _renamed(term: Term, old: int, new: int) -> Term:
    """The term with one class for another among its parts."""
    columns = zip(term.args, SIGNATURES[term.name], strict=True)
    return Term(term.name, tuple([new if s == "E" and a == old else a for a, s in columns]))


def _subterms(number: int, terms: Sequence[Term]) -> list[int]:
    """A term and all below it, each once."""
    found: dict[int, None] = {}
    waiting = [number]
    while waiting:
        number = waiting.pop()
        if number not in found:
            found[number] = None
            waiting += terms[number].children
    return list(found)


def _least_sizes(graph: Frozen) -> list[int]:
    """The size of the least term of each class."""
    sizes = [10**9] * (max(graph.classes, default=-1) + 1)
    changed = True
    while changed:
        changed = False
        for node, home in zip(graph.nodes, graph.classes, strict=True):
            size = min(10**9, 1 + sum(sizes[c] for c in node.children))
            if size < sizes[home]:
                sizes[home], changed = size, True
    return sizes


def _above(term: Term, below: Sequence[int | None]) -> Term | None:
    """The term with these for its parts."""
    if None in below:
        return None
    homes = iter(below)
    args = [next(homes) if sort == "E" else a for a, sort in zip(term.args, SIGNATURES[term.name], strict=True)]
    return Term(term.name, tuple([a for a in args if a is not None]))


@dataclass(frozen=True, slots=True)
class _Direction:
    rule: Rule
    lhs: Pattern
    rhs: Pattern
    heads: frozenset[str]
    guarded: tuple[str, ...]


def _directions(rules: Sequence[Rule]) -> list[_Direction]:
    found: list[_Direction] = []
    for rule in rules:
        guarded = tuple(dict.fromkeys(n for g in rule.guards for a in g.args for n in variables(a)))
        found += [_Direction(rule, lhs, rhs, constructors(lhs, rule.types), guarded) for lhs, rhs in rule.directions]
    return found


def proof(known: Known, graphs: Sequence[Frozen], goals: Sequence[tuple[int, int]], rules: Sequence[Rule]) -> tuple[Rewrite, ...]:
    """The steps that turn the first term of each goal, in order, into the second; raises NoProof where these rules do not do it."""
    directions = _directions(rules)
    for way in WAYS:
        classes = Classes(known.dag)
        search = _Search(known, classes, _Homes(classes, graphs), directions, goals)
        search.begin()
        if search.run(way):
            return tuple(_Flattening(classes).steps(goals))
    raise NoProof


@dataclass(slots=True)
class _Search:
    known: Known
    classes: Classes
    homes: _Homes
    directions: Sequence[_Direction]
    goals: Sequence[tuple[int, int]]
    copies: int = 1
    slack: int = 0
    bounds: dict[int, int] = field(default_factory=dict[int, int])
    forms_of: dict[int, list[Term]] = field(default_factory=dict[int, "list[Term]"])
    tried: set[tuple[object, ...]] = field(default_factory=set["tuple[object, ...]"])

    def forms(self, number: int) -> Iterator[Term]:
        """A term of each different form of a class."""
        yield from self.forms_of.get(self.classes.find(number), ())

    def same(self, a: int, b: int) -> bool:
        return self.classes.find(a) == self.classes.find(b)

    def begin(self) -> None:
        """Adds start and end, and what the kernel's facts say."""
        for number in itertools.chain(*self.goals):
            self.classes.add(number)
        for fact in self.known.facts:
            if fact.name == "union":
                self.unite(fact.terms[0], fact.terms[1], FACT)
        self.homes.settle(self.classes.nodes())
        for number in itertools.chain(*self.goals):
            self.bound(number)

    def run(self, way: Way) -> bool:
        """Searches with each pair of limits until nothing is new; whether every goal is reached."""
        for self.slack, self.copies in way.limits:
            for _ in range(ROUNDS):
                if all(self.same(a, b) for a, b in self.goals):
                    return True
                if self.classes.forms > way.forms or not self.round():
                    break
        return all(self.same(a, b) for a, b in self.goals)

    def round(self) -> bool:
        """Applies every rule everywhere once; whether anything was new."""
        nodes = self.classes.nodes()
        self.homes.settle(nodes)
        self.forms_of = {}
        by_name: dict[str, list[int]] = {}
        for number in nodes:
            term = self.known.dag.terms[number]
            self.forms_of.setdefault(self.classes.find(number), []).append(term)
            by_name.setdefault(term.name, []).append(number)
        found = [(d, n, b) for d in self.directions for name in sorted(d.heads) for n in by_name.get(name, ()) for b in self._matches(d, n)]
        changed = False
        for number in nodes:
            changed |= self._compute(number)
        makers: list[tuple[int, int, _Direction, int, Binding]] = []
        for place, (direction, number, binding) in enumerate(found):
            waste = self._waste(direction, number, binding)
            if waste is None:
                changed |= self._apply(direction, number, binding)
            elif waste <= self.slack:
                makers.append((waste, place, direction, number, binding))
        makers.sort(key=lambda m: m[:2])
        made = 0
        for _, _, direction, number, binding in makers:
            made += self._apply(direction, number, binding)
            if made >= MADE:
                break
        return changed or made > 0

    def _compute(self, number: int) -> bool:
        """Arithmetic: of literals, where each part has one in its class, or of an integer that can be one value only."""
        term = self.known.dag.terms[number]
        if term.name in OP_OF_CONSTRUCTOR:
            parts = [next((m for m in self._others(c, True)), c) for c in term.children]
            whole = self.known.dag.add(term.name, term.args[0], *parts)
            result = folded(whole, self.known)
            if result is not None and self._belongs(number, result):
                self.classes.add(whole)
                return self.unite(whole, result, FOLD)
        result = sole_value(number, self.known)
        return result is not None and self._belongs(number, result) and self.unite(number, result, RANGE)

    def _matches(self, d: _Direction, number: int) -> Iterator[Binding]:
        for binding in form_matches(d.lhs, self.known.dag.terms[number], d.rule.types, self, Binding()):
            if self._key(d, number, binding) not in self.tried:
                yield binding

    def _key(self, d: _Direction, number: int, binding: Binding) -> tuple[object, ...]:
        return (id(d), number, *binding.terms.values(), *binding.indices.values())

    def _belongs(self, before: int, after: int) -> bool:
        """Whether a saturated graph holds both in one class."""
        return any(a is not None and a == b for a, b in zip(self.homes.of(before), self.homes.of(after), strict=True))

    def _waste(self, d: _Direction, number: int, binding: Binding) -> int | None:
        """How much more wasteful than start and end what a match makes is; None where it makes nothing, and may only unite."""
        try:
            after = instance(d.rhs, binding, d.rule.types, self.known.dag)
        except Unbound:
            return None
        place = self.classes.place(after)
        if place == self.classes.find(number):
            self.tried.add(self._key(d, number, binding))
        if place is not None or not self._belongs(number, after):
            return None
        return self._excess(after)

    def _excess(self, number: int) -> int:
        if self.classes.place(number) is not None:
            return 0
        excess = self.homes.excess(number)
        if excess is None or self.homes.copies(number) >= self.copies:
            return NEVER
        home = self._home_key(number)
        own = excess - (0 if home is None else self.bounds.get(home, 0))
        return max(0, own, *[self._excess(c) for c in self.known.dag.terms[number].children])

    def _apply(self, d: _Direction, number: int, binding: Binding) -> bool:
        dag, types = self.known.dag, d.rule.types
        try:
            after = instance(d.rhs, binding, types, dag)
        except Unbound:
            return False
        if self.classes.place(after) == self.classes.find(number) or not self._belongs(number, after) or self._excess(after) > self.slack:
            return False
        self.tried.add(self._key(d, number, binding))
        for chosen in self._choices(d, binding):
            if refused(d.rule, chosen, self.known) is None:
                return self.unite(instance(d.lhs, chosen, types, dag), instance(d.rhs, chosen, types, dag), d.rule.name)
        return False

    def _home_key(self, number: int) -> int | None:
        return next((h for h in self.homes.of(number) if h is not None), None)

    def bound(self, number: int) -> None:
        """Allows for nodes as wasteful as those of a given term."""
        for part in _subterms(number, self.known.dag.terms):
            key, excess = self._home_key(part), self.homes.excess(part)
            if key is not None and excess is not None:
                self.bounds[key] = max(self.bounds.get(key, 0), excess)

    def _choices(self, d: _Direction, binding: Binding) -> Iterator[Binding]:
        """The binding, and it with other terms of the classes for the variables of guards."""
        yield binding
        options = [tuple(dict.fromkeys((binding.terms[n], *self._others(binding.terms[n])))) for n in d.guarded]
        for chosen in itertools.islice(itertools.product(*options), 1, 40):
            yield replace(binding, terms={**binding.terms, **dict(zip(d.guarded, chosen, strict=True))})

    def _others(self, number: int, literals: bool = False) -> list[int]:
        """Terms of a term's class, literals first, or these alone."""
        found = [m for m in self.classes.members[self.classes.find(number)] if not literals or self.known.dag.terms[m].name == "Lit"]
        return sorted(found, key=lambda m: (self.known.dag.terms[m].name != "Lit", m))[:OTHERS]

    def unite(self, before: int, after: int, rule: str) -> bool:
        """Makes two terms equal by a rule; whether that is news."""
        new = self.classes.place(after) is None
        if self.classes.add(before) == self.classes.add(after):
            return False
        if new:
            self.homes.count(after)
        self.classes.union(before, after, Reason(rule))
        return True


Paths = list[tuple[int, ...]]


@dataclass(slots=True)
class _Flattening:
    """Turns proofs into steps: what several places need alike is done at all of them at once."""

    classes: Classes
    found: list[Rewrite] = field(default_factory=list[Rewrite])

    def steps(self, goals: Sequence[tuple[int, int]]) -> list[Rewrite]:
        self._all([(a, b, [(position,)]) for position, (a, b) in enumerate(goals)])
        return self.found

    def _all(self, pairs: Sequence[tuple[int, int, Paths]]) -> None:
        apart: dict[tuple[int, int], Paths] = {}
        for a, b, paths in pairs:
            self._collect(a, b, paths, apart)
        for (a, b), paths in apart.items():
            for before, after, why in self.classes.path(a, b):
                if why.rule:
                    self.found.append(Rewrite(why.rule, why.back, before, after, tuple(paths)))
                    if len(self.found) > MAX_STEPS:
                        raise NoProof
                else:
                    self._all(self._parts(before, after, paths))

    def _collect(self, a: int, b: int, paths: Paths, apart: dict[tuple[int, int], Paths]) -> None:
        """The parts in which two terms differ, down to where a rule is needed."""
        if a == b:
            return
        edges = self.classes.path(a, b)
        if len(edges) == 1 and not edges[0][2].rule:
            for x, y, below in self._parts(a, b, paths):
                self._collect(x, y, below, apart)
        else:
            apart.setdefault((a, b), []).extend(paths)

    def _parts(self, a: int, b: int, paths: Paths) -> list[tuple[int, int, Paths]]:
        terms = self.classes.dag.terms
        pairs = zip(terms[a].children, terms[b].children, strict=True)
        return [(x, y, [(*p, n) for p in paths]) for n, (x, y) in enumerate(pairs) if x != y]

"""Turns workloads into candidates: rules, typed, each once, the most general and smallest first; commutativity among them."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy

from extract.synth_pool import Counted
from extract.synth_terms import Enumeration, Workload
from extract.synth_trees import Leaf, Tree, generalised, inner, leaves, size
from extract.synth_values import Domain, fingerprints, inputs
from extract.synth_words import rule_of
from kernel_ir.ops import OPS
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype

CHUNK: Final = 12
"""Workloads that one process enumerates together."""
SECONDS: Final = 120.0
"""CPU seconds for that: a safety net."""
EXACT: Final = 7
"""Nodes of both sides up to which a rule of exact floats comes as early as any other."""
LAW: Final = 12
"""How much earlier a pair comes that holds by what its functions are, and not by arithmetic."""
USUAL: Final = (0.0, 1.0, -1.0, 2.0, 0.5)
"""Numbers that rules may well be about; others come later."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule to settle and prove, and its sides; `kind`: of which numbers, float or int.

    `rank` orders candidates: small rules first, those of whole domains, many variables, few literals.
    """

    rule: Rule
    small: Tree
    large: Tree
    kind: str
    reals: bool
    rank: tuple[int, int, int, int]


@dataclass(slots=True)
class Proposals:
    """Candidates collected from workloads."""

    seed: int = 0
    found: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    _pairs: dict[str, tuple[Tree, Tree]] = field(default_factory=dict[str, tuple[Tree, Tree]])
    terms: int = 0

    def run(self, works: Iterable[Workload], pool: Counted | None = None) -> None:
        """Adds what one workload after another finds."""
        works = tuple(works)
        parts = [works[n : n + CHUNK] for n in range(0, len(works), CHUNK)]
        results = (pool or Counted()).map(partial(_enumerated, self.seed), parts, SECONDS)
        for part, found in zip(parts, results, strict=True):
            for work, (pairs, terms) in zip(part, found or (), strict=False):
                for small, large in pairs:
                    self._add(work.domain, small, large, bool(work.atoms or work.targets))
                self.terms += terms

    def _add(self, domain: Domain, small: Tree, large: Tree, law: bool) -> None:
        numeric = any(leaf.sort == "x" for leaf in (*leaves(small), *leaves(large)))
        on = ("float" if domain.is_float else "int") if numeric else ""
        rule = rule_of(small, large, on)
        if rule is None or _nested(large):
            return
        known = self.found.get(rule.text)
        if known is None:
            self._pairs[rule.text] = small, large
            self.found[rule.text] = Candidate(rule, small, large, on, not domain.exact, ranked(domain, small, large, law))
        elif not domain.exact and not known.reals:
            self.found[rule.text] = replace(known, reals=True)

    def ordered(self) -> tuple[Candidate, ...]:
        """All candidates, the best first, but for those of which another one is more general."""
        have = {(self.found[key].kind, *pair) for key, pair in self._pairs.items()}
        general = [c for key, c in self.found.items() if not any((c.kind, *pair) in have for pair in generalised(*self._pairs[key]))]
        return tuple(sorted(general, key=lambda c: (c.rank, c.rule.text)))


def _enumerated(seed: int, works: Sequence[Workload]) -> list[tuple[tuple[tuple[Tree, Tree], ...], int]]:
    """The pairs of each workload, and how many terms it has."""
    collects = gc.isenabled()
    gc.disable()  # none of these many small tuples is part of a cycle
    try:
        found: list[tuple[tuple[tuple[Tree, Tree], ...], int]] = []
        for work in works:
            enumeration = Enumeration(work, seed)
            found.append(((*_orders(work, seed), *enumeration.pairs()), enumeration.built))
        return found
    finally:
        if collects:
            gc.enable()


def _nested(tree: Tree) -> bool:
    """Whether a power of a power is in it: of these there are as many as of exponents, squared."""
    powers = [t for t in inner(tree) if t[0].op == "powi"]
    return any(p[1] in powers for p in powers)


def ranked(domain: Domain, small: Tree, large: Tree, law: bool = False) -> tuple[int, int, int, int]:
    """The place of a candidate in the order of all: many variables and few numbers make up for size, as does a law of functions."""
    row = [*leaves(large), *leaves(small)]
    names = {leaf.text for leaf in row if leaf.value is None}
    numbers = {leaf.value for leaf in row if leaf.value is not None}
    odd = sum(value not in USUAL for value in numbers)
    guarded = domain.region != "edges" and domain.exact
    # Bits of floats survive few steps, and to prove them takes longest.
    slow = domain.is_float and domain.exact and size(small) + size(large) > EXACT
    divisions = sum(t[0].op in ("floordiv", "mod") for tree in (small, large) for t in inner(tree))
    place = 2 * (size(small) + size(large)) - 3 * len(names) + 2 * len(numbers) + 2 * guarded + 4 * odd + 5 * slow
    place += 2 * max(0, divisions - 2) - LAW * law
    return place, int(guarded), -len(names), len(numbers)


def _orders(work: Workload, seed: int) -> Iterator[tuple[Tree, Tree]]:
    """`a op b` and `b op a`, `(a op b) op c` and `a op (b op c)`: what the enumeration does not tell apart."""
    for node in work.nodes:
        if not OPS[node.op].commutative or node.sorts[0] != node.result:
            continue
        sort = node.sorts[0]
        one, two, three = ((Leaf(name, sort),) for name in ("abc" if sort == "x" else "pqr"))
        rows = inputs(work.domain, 3, seed)
        a, b, c = rows if sort == "x" else np.random.default_rng(seed).integers(0, 2, (3, 64)).astype(bool)
        pairs = (
            ((node, two, one), (node, one, two), node.value([b, a]), node.value([a, b])),
            (
                (node, one, (node, two, three)),
                (node, (node, one, two), three),
                node.value([a, node.value([b, c])]),
                node.value([node.value([a, b]), c]),
            ),
        )
        for small, large, left, right in pairs:
            first, second = (fingerprints(np.asarray(v)[None], work.domain.exact) for v in (left, right))
            if first == second:
                yield small, large

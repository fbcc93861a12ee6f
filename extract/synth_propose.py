"""Turns workloads into candidates: rules, typed, each once, the most general and smallest first; commutativity among them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy

from extract.synth_terms import Enumeration, Workload
from extract.synth_trees import Leaf, Tree, inner, leaves, size
from extract.synth_values import Domain, fingerprints, inputs
from extract.synth_words import rule_of
from kernel_ir.ops import OPS
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule to settle and prove, and its larger side; `kind`: of which numbers, float or int.

    `rank` orders candidates: small rules first, those of whole domains, many variables, few literals.
    """

    rule: Rule
    large: Tree
    kind: str
    reals: bool
    rank: tuple[int, int, int, int]


@dataclass(slots=True)
class Proposals:
    """Candidates collected from workloads."""

    seed: int = 0
    found: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    terms: int = 0

    def run(self, works: Iterable[Workload]) -> None:
        """Adds what one workload after another finds."""
        for work in works:
            enumeration = Enumeration(work, self.seed)
            for small, large in (*_orders(work, self.seed), *enumeration.pairs()):
                self._add(work.domain, small, large)
            self.terms += enumeration.built

    def _add(self, domain: Domain, small: Tree, large: Tree) -> None:
        numeric = any(leaf.sort == "x" for leaf in (*leaves(small), *leaves(large)))
        on = ("float" if domain.is_float else "int") if numeric else ""
        rule = rule_of(small, large, on)
        if rule is None or _nested(large):
            return
        known = self.found.get(rule.text)
        if known is None:
            self.found[rule.text] = Candidate(rule, large, on, not domain.exact, ranked(domain, small, large))
        elif not domain.exact and not known.reals:
            self.found[rule.text] = replace(known, reals=True)

    def ordered(self) -> tuple[Candidate, ...]:
        """All candidates, the best first."""
        return tuple(sorted(self.found.values(), key=lambda c: (c.rank, c.rule.text)))


def _nested(tree: Tree) -> bool:
    """Whether a power of a power is in it: of these there are as many as of exponents, squared."""
    powers = [t for t in inner(tree) if t[0].op == "powi"]
    return any(p[1] in powers for p in powers)


def ranked(domain: Domain, small: Tree, large: Tree) -> tuple[int, int, int, int]:
    """The place of a candidate in the order of all."""
    names = {leaf.text for leaf in leaves(large) if leaf.value is None}
    literals = sum(leaf.value is not None for leaf in (*leaves(small), *leaves(large)))
    guarded = domain.region != "edges" and domain.exact
    return size(small) + size(large) + 2 * max(0, literals - 1) + 2 * guarded, int(guarded), -len(names), literals


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

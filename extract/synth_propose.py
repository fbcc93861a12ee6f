"""Turns workloads into candidates: rules, typed, each once, the most general and smallest first; commutativity among them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from extract.synth_terms import Enumeration, Leaf, Tree, Workload, leaves, size
from extract.synth_values import Domain, fingerprints, inputs
from extract.synth_words import rule_of
from kernel_ir.ops import OPS
from rewrites.rule import Rule


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
            for small, large in (*_commuting(work, self.seed), *enumeration.pairs()):
                self._add(work.domain, small, large)
            self.terms += enumeration.built

    def _add(self, domain: Domain, small: Tree, large: Tree) -> None:
        numeric = any(leaf.sort == "x" for leaf in (*leaves(small), *leaves(large)))
        on = ("float" if domain.is_float else "int") if numeric else ""
        rule = rule_of(small, large, on)
        if rule is None:
            return
        known = self.found.get(rule.text)
        if known is None:
            self.found[rule.text] = Candidate(rule, large, on, not domain.exact, ranked(domain, small, large))
        elif not domain.exact and not known.reals:
            self.found[rule.text] = replace(known, reals=True)

    def ordered(self) -> tuple[Candidate, ...]:
        """All candidates, the best first."""
        return tuple(sorted(self.found.values(), key=lambda c: (c.rank, c.rule.text)))


def ranked(domain: Domain, small: Tree, large: Tree) -> tuple[int, int, int, int]:
    """The place of a candidate in the order of all."""
    names = {leaf.text for leaf in leaves(large) if leaf.value is None}
    literals = sum(leaf.value is not None for leaf in (*leaves(small), *leaves(large)))
    guarded = domain.region != "edges" and domain.exact
    return size(small) + size(large) + max(0, literals - 1) + 2 * guarded, int(guarded), -len(names), literals


def _commuting(work: Workload, seed: int) -> Iterator[tuple[Tree, Tree]]:
    """`a op b` and `b op a`, which the enumeration does not tell apart."""
    for node in work.nodes:
        if OPS[node.op].commutative:
            sort = node.sorts[0]
            one, two = ((Leaf(name, sort),) for name in ("ab" if sort == "x" else "pq"))
            if sort == "b":
                yield (node, two, one), (node, one, two)
                continue
            a, b = inputs(work.domain, 2, seed)
            first, second = (fingerprints(node.value([x, y])[None], work.domain.exact) for x, y in ((a, b), (b, a)))
            if first == second:
                yield (node, two, one), (node, one, two)

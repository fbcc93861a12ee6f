"""Turns workloads into candidates: rules, typed, each once, the most general and smallest first; commutativity among them."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy

from extract.synth_pool import Counted
from extract.synth_terms import DEFINED, Enumeration, Workload
from extract.synth_trees import Leaf, Tree, abstracted, generalised, inner, leaves, size
from extract.synth_values import BITS, WRAP, Domain, fingerprints, inputs
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
LAW: Final = 6
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
        """All candidates but for those of which another one is more general: the best first, of each class some in turn.

        Classes are those of the numbers, with guards and without, of arithmetic and of comparisons: the cheaper the proof, the more.
        """
        have = {(self.found[key].kind, *pair) for key, pair in self._pairs.items()}
        general = [c for key, c in self.found.items() if not any((c.kind, *pair) in have for pair in generalised(*self._pairs[key]))]
        classes: dict[tuple[object, ...], list[Candidate]] = {}
        for one in sorted(general, key=lambda c: (c.rank, c.rule.text)):
            classes.setdefault((one.kind, one.reals, one.rank[1], one.large[0].result), []).append(one)
        turns = [(int(turn / _share(one)), number, one) for number, row in enumerate(classes.values()) for turn, one in enumerate(row)]
        return tuple(one for *_, one in sorted(turns, key=lambda t: t[:2]))


def _share(one: Candidate) -> float:
    """How many of its class come in one turn."""
    if one.reals:
        return 5.0 if one.rank[1] else 20.0
    if one.kind == "int":
        return 10.0 if one.large[0].result == "x" else 4.0
    return 0.5


def _enumerated(seed: int, works: Sequence[Workload]) -> list[tuple[tuple[tuple[Tree, Tree], ...], int]]:
    """The pairs of each workload, and how many terms it has."""
    collects = gc.isenabled()
    gc.disable()  # none of these many small tuples is part of a cycle
    try:
        found: list[tuple[tuple[tuple[Tree, Tree], ...], int]] = []
        for work in works:
            enumeration = Enumeration(work, seed)
            pairs = dict.fromkeys(most_general(work.domain, *pair, seed) for pair in enumeration.pairs())
            found.append(((*_orders(work, seed), *pairs), enumeration.built))
        return found
    finally:
        if collects:
            gc.enable()


def most_general(domain: Domain, small: Tree, large: Tree, seed: int = 0) -> tuple[Tree, Tree]:
    """The pair with terms made variables, as long as its sides look equal: what holds of any term is not said of sums and sines each."""
    # A term is not as its guarded variables are.
    domain = domain if domain.region in ("edges", "small") or not domain.exact else BITS if domain.is_float else WRAP
    for pair in abstracted(small, large):
        if len(pair[1]) > 1 and pair[0] != pair[1] and _look_equal(domain, *pair, seed):
            return most_general(domain, *pair, seed)
    return small, large


def _look_equal(domain: Domain, small: Tree, large: Tree, seed: int) -> bool:
    variables = sorted({v for v in leaves(large) if v.value is None}, key=lambda v: v.text)
    numbers, truths = ([v for v in variables if v.sort == sort] for sort in ("x", "b"))
    drawn = np.random.default_rng(seed + 5).integers(0, 2, (len(truths), domain.samples)).astype(bool)
    rows = dict(zip((*numbers, *truths), (*inputs(domain, len(numbers), seed + 9), *drawn), strict=True))

    def value(tree: Tree) -> Any:
        root = tree[0]
        if not isinstance(root, Leaf):
            return root.value([value(part) for part in tree[1:]])
        return rows[root] if root.value is None else np.full(domain.samples, root.value, bool if root.sort == "b" else domain.dtype.numpy)

    left, right = (np.asarray(value(side))[None] for side in (small, large))
    if left.dtype.kind == "f" and not domain.exact and np.isfinite(left).mean() < DEFINED:
        return False
    return fingerprints(left, domain.exact).tolist() == fingerprints(right, domain.exact).tolist()


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

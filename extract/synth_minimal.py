"""Turns candidates into a small set of proved rules: what an e-graph derives from the rules that are there already is dropped.

Candidates come in order of generality and size. One whose larger side an accepted rule rewrites at its root is not even looked at: what
is left of it is a smaller equality, with a candidate of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from extract.synth_propose import Candidate
from extract.synth_settle import settled
from extract.synth_trees import Leaf, Node, Tree, inner
from extract.synth_words import tree_of
from extract.synth_work import Vocabulary
from kernel_ir.errors import RuleError
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.ops import OPS
from rewrites.declare import class_letter
from rewrites.derive import Effort, all_derivable
from rewrites.pattern import Apply, parts, subpatterns
from rewrites.pattern import size as pattern_size
from rewrites.prove import holds
from rewrites.rule import Rule
from rewrites.wording import rule_text

BATCH: Final = 120
"""Candidates that are looked at together."""
SECONDS: Final = 10.0
"""A safety net for one proof."""
STEP: Final = 40
"""Rules accepted before what is left of a batch is looked at anew."""
EFFORT: Final = Effort(nodes=1_500, rounds=3)
ALWAYS: Final = ("add", "sub", "mul", "neg", "lt", "le", "eq", "and", "or", "not", "select")
"""Ops through which derivations go, whether or not the vocabulary has them."""
_CLASS: Final = {"f": "float", "i": "int", "b": ""}


def relevant(rules: Sequence[Rule], words: Vocabulary) -> tuple[Rule, ...]:
    """The rules whose ops are all of the vocabulary, or make other ops into such."""
    known = {*words.floats, *words.integers, *words.truths, *ALWAYS}
    return tuple(
        r for r in rules if all(isinstance(p, Apply) and p.op in known for side in (r.lhs, r.rhs) for p in subpatterns(side) if parts(p))
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts that end a synthesis: candidates looked at, proofs tried, rules accepted."""

    candidates: int = 6_000
    proofs: int = 900
    rules: int = 400


@dataclass(slots=True)
class Minimiser:
    """The rules accepted so far, besides those that were `known`."""

    known: tuple[Rule, ...]
    licence: Flags = frozenset(Flag)
    limits: Limits = field(default_factory=Limits)
    progress: Callable[[int, int], None] = lambda done, of: None
    accepted: list[Rule] = field(default_factory=list[Rule])
    looked: int = 0
    proofs: int = 0
    _reducing: dict[tuple[str, Node], "list[_Reducing]"] = field(default_factory=dict[tuple[str, Node], "list[_Reducing]"])
    _proved: dict[Rule, bool] = field(default_factory=dict[Rule, bool])

    def __post_init__(self) -> None:
        for rule in self.known:
            for kind in {_CLASS[class_letter(t)] for p in subpatterns(rule.lhs) if isinstance(p, Apply) for t in rule.types[p.type]}:
                pattern = tree_of(rule.lhs, rule, kind)
                if pattern is not None and pattern_size(rule.rhs) < pattern_size(rule.lhs):
                    self._reducing.setdefault((kind, pattern[0]), []).append(_Reducing(pattern, rule.needs, bool(rule.guards)))

    def run(self, candidates: Sequence[Candidate]) -> Iterator[tuple[Rule, ...]]:
        """The rules accepted, a few at a time."""
        waiting = list(candidates)
        while waiting and self.looked < self.limits.candidates and not self._done():
            batch, waiting = self._batch(waiting)
            self.progress(len(candidates) - len(waiting), len(candidates))
            claims = self._open([claim for one in batch for claim in self._claims(one)])
            while claims and not self._done():
                new: list[Rule] = []
                rest: list[tuple[Candidate, tuple[Rule, ...]]] = []
                for one, tries in claims:
                    if len(new) >= STEP or self._done():
                        rest.append((one, tries))
                        continue
                    rule = next((r for r in tries if self._holds(r)), None)
                    if rule is not None and (rule is tries[0] or not self._derived((rule,))[0]):
                        new += self._accept(one, rule)
                if new:
                    yield tuple(new)
                claims = self._open([c for c in rest if not self._reducible(c[0], c[1][0].needs, bool(c[1][0].guards))]) if new else rest

    def _done(self) -> bool:
        return self.proofs >= self.limits.proofs or len(self.accepted) >= self.limits.rules

    def _batch(self, waiting: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        batch: list[Candidate] = []
        for position, one in enumerate(waiting):
            if not self._reducible(one, frozenset(), False):
                batch.append(one)
                self.looked += 1
            if len(batch) == BATCH:
                return batch, waiting[position + 1 :]
        return batch, []

    def _claims(self, one: Candidate) -> Iterator[tuple[Candidate, tuple[Rule, ...]]]:
        for claimed in settled(one.rule, one.reals).tries:
            tries = tuple(rule for rule in claimed if rule.needs <= self.licence)
            if tries and not self._reducible(one, tries[0].needs, bool(tries[0].guards)):
                yield one, tries

    def _open(self, claims: list[tuple[Candidate, tuple[Rule, ...]]]) -> list[tuple[Candidate, tuple[Rule, ...]]]:
        """The claims whose first form is not derivable."""
        derived = self._derived(tuple(tries[0] for _, tries in claims))
        return [claim for claim, known in zip(claims, derived, strict=True) if not known]

    def _derived(self, rules: tuple[Rule, ...]) -> tuple[bool, ...]:
        return all_derivable(rules, (*self.known, *self.accepted), EFFORT, every_type=False)

    def _holds(self, rule: Rule) -> bool:
        if rule not in self._proved:
            self.proofs += 1
            self._proved[rule] = holds(rule, SECONDS)
        return self._proved[rule]

    def _accept(self, one: Candidate, rule: Rule) -> tuple[Rule, ...]:
        name = f"found_{one.large[0].op}_{len(self.accepted) + 1}"
        try:
            rule = replace(rule, name=name, text=rule_text(rule, name))
        except RuleError:  # what differs in the sign of a zero alone has no text
            return ()
        self.accepted.append(rule)
        self._reducing.setdefault((one.kind, one.large[0]), []).append(_Reducing(one.large, rule.needs, bool(rule.guards)))
        return (rule,)

    def _reducible(self, one: Candidate, needs: frozenset[Flag], guarded: bool) -> bool:
        """Whether a rule under no more flags rewrites the larger side: at its root, or anywhere if more than equality is at stake."""
        places = inner(one.large) if needs or guarded else (one.large,)
        return any(
            r.needs <= needs and (guarded or not r.guarded) and _matches(r.pattern, place, {})
            for place in places
            for r in self._reducing.get((one.kind, place[0]), ())
        )


@dataclass(frozen=True, slots=True)
class _Reducing:
    """The left side of a rule that makes terms smaller."""

    pattern: Tree
    needs: frozenset[Flag]
    guarded: bool


def _matches(pattern: Tree, tree: Tree, bound: dict[Leaf, Tree]) -> bool:
    """Whether the tree is an instance of the pattern, commutative arguments in either order; binds variables."""
    if len(pattern) == 1:
        leaf = pattern[0]
        if leaf.value is not None:
            return pattern == tree
        if leaf.sort != (tree[0].sort if len(tree) == 1 else tree[0].result):
            return False
        return bound.setdefault(leaf, tree) == tree
    if len(tree) != len(pattern) or tree[0] != pattern[0]:
        return False
    orders = [tree[1:], tree[1:][::-1]] if OPS[tree[0].op].commutative else [tree[1:]]
    for arguments in orders:
        trial = dict(bound)
        if all(_matches(p, t, trial) for p, t in zip(pattern[1:], arguments, strict=True)):
            bound.update(trial)
            return True
    return False

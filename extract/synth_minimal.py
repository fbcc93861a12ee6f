"""Turns candidates into a small set of proved rules: what an e-graph derives from the rules that are there already is dropped.

Candidates come in order of generality and size. One whose larger side an accepted rule rewrites at its root is not even looked at: what
is left of it is a smaller equality, with a candidate of its own.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from extract.suggest_pool import Pool
from extract.synth_propose import Candidate
from extract.synth_settle import settled
from extract.synth_trees import Leaf, Node, Tree, inner
from extract.synth_words import tree_of
from extract.synth_work import Vocabulary
from kernel_ir.errors import RuleError
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.ops import OPS
from rewrites.certificates import remember
from rewrites.declare import class_letter
from rewrites.derive import Effort, all_derivable
from rewrites.pattern import Apply, parts, subpatterns
from rewrites.pattern import size as pattern_size
from rewrites.prove import holds
from rewrites.rule import Rule
from rewrites.wording import rule_text

BATCH: Final = 400
"""Candidates that are looked at together."""
SECONDS: Final = 2.5
"""A safety net for one proof."""
CHUNK: Final = 20
"""Candidates that one process looks at together."""
TOGETHER: Final = 50
"""Rules of which one process asks at once whether they are derivable."""
DERIVE: Final = 15.0
"""Seconds for that."""
FEW: Final = 8
"""Rules so few that one process asks whether they are derivable."""
STEP: Final = 160
"""Claims that are proved before what is left of a batch is looked at anew."""
Claim = tuple[Candidate, tuple[Rule, ...]]
"""A candidate, and forms of it to prove, until one holds."""
T = TypeVar("T")
R = TypeVar("R")
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
    progress: Callable[[str], None] = lambda _: None
    pool: Pool | None = None
    until: float = math.inf
    """When to stop, by `time.monotonic`: a safety net."""
    accepted: list[Rule] = field(default_factory=list[Rule])
    looked: int = 0
    proofs: int = 0
    _reducing: dict[tuple[str, Node], "list[_Reducing]"] = field(default_factory=dict[tuple[str, Node], "list[_Reducing]"])

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
            self.progress(
                f"{len(candidates) - len(waiting)} of {len(candidates)} candidates, {self.proofs} proofs, {len(self.accepted)} rules found"
            )
            claims = self._open(self._claims(batch))
            while claims and not self._done():
                claims, rest = _step(claims)
                new = tuple(self._proved(claims))
                if new:
                    yield new
                claims = self._open([c for c in rest if not self._reducible(c[0], c[1][0].needs, bool(c[1][0].guards))]) if new else rest

    def _done(self) -> bool:
        return self.proofs >= self.limits.proofs or len(self.accepted) >= self.limits.rules or time.monotonic() > self.until

    def _batch(self, waiting: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        batch: list[Candidate] = []
        for position, one in enumerate(waiting):
            if not self._reducible(one, frozenset(), False):
                batch.append(one)
                self.looked += 1
            if len(batch) == min(BATCH, self.limits.candidates):
                return batch, waiting[position + 1 :]
        return batch, []

    def _claims(self, batch: Sequence[Candidate]) -> list[Claim]:
        found: list[Claim] = []
        for one, claims in zip(batch, self._map(_settled, [(c.rule, c.reals) for c in batch], CHUNK), strict=True):
            for claimed in claims or ():
                tries = tuple(rule for rule in claimed if rule.needs <= self.licence)
                if tries and not self._reducible(one, tries[0].needs, bool(tries[0].guards)):
                    found.append((one, tries))
        return found

    def _open(self, claims: list[Claim]) -> list[Claim]:
        """The claims whose first form is not derivable."""
        derived = self._derived([tries[0] for _, tries in claims])
        return [claim for claim, known in zip(claims, derived, strict=True) if not known]

    def _derived(self, rules: Sequence[Rule]) -> list[bool]:
        ask = partial(all_derivable, rules=(*self.known, *self.accepted), effort=EFFORT, every_type=False)
        if self.pool is None or len(rules) < FEW:
            return list(ask(rules))
        parts = [rules[n : n + TOGETHER] for n in range(0, len(rules), TOGETHER)]
        known = self.pool.map(ask, parts, DERIVE)  # an e-graph that explodes derives nothing
        return [b for part, found in zip(parts, known, strict=True) for b in found or (False,) * len(part)]

    def _proved(self, claims: Sequence[Claim]) -> Iterator[Rule]:
        """The rules accepted of these claims: of each the first form that is proved, if nothing derives it."""
        verdicts = self._map(_first_that_holds, [tries for _, tries in claims], 1)
        found: list[tuple[Candidate, Rule, bool]] = []
        for (one, tries), verdict in zip(claims, verdicts, strict=True):
            place, asked = verdict or (None, 1)
            self.proofs += asked
            if place is not None:
                remember(tries[place])
                found.append((one, tries[place], place == 0))
        later = [rule for _, rule, first in found if not first]
        known = dict(zip(map(id, later), self._derived(later), strict=True))
        for one, rule, _ in found:
            if not known.get(id(rule), False) and not self._done():
                yield from self._accept(one, rule)

    def _map(self, function: Callable[[T], R], items: Sequence[T], chunk: int) -> list[R | None]:
        """The results, in order, on all cores."""
        if self.pool is None:
            return [function(item) for item in items]
        parts = [items[n : n + chunk] for n in range(0, len(items), chunk)]
        results = self.pool.map(partial(_each, function), parts)
        return [r for part, found in zip(parts, results, strict=True) for r in found or (None,) * len(part)]

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


def _step(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim]]:
    """The claims to prove next, one of each candidate, as a stronger guard may be needless beside a weaker one; and the others."""
    now: list[Claim] = []
    rest: list[Claim] = []
    for claim in claims:
        taken = len(now) >= STEP or (bool(now) and now[-1][0] is claim[0]) or (bool(rest) and rest[-1][0] is claim[0])
        (rest if taken else now).append(claim)
    return now, rest


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def _settled(asked: tuple[Rule, bool]) -> tuple[tuple[Rule, ...], ...]:
    return settled(*asked).tries


def _first_that_holds(tries: tuple[Rule, ...]) -> tuple[int | None, int]:
    """Which is proved first, and how many proofs were tried."""
    place = next((n for n, rule in enumerate(tries) if holds(rule, SECONDS)), None)
    return place, len(tries) if place is None else place + 1


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

"""Turns candidates into a small set of proved rules: what an e-graph derives from the rules that are there already is dropped.

Candidates come in order of generality and size, each in its smallest known form: one that a rule makes smaller stands for what is left
of it, once.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from extract.synth_pool import Counted
from extract.synth_propose import Candidate
from extract.synth_reduce import Reducer
from extract.synth_settle import settled
from extract.synth_trees import renamed, size
from extract.synth_words import rule_of
from extract.synth_work import Vocabulary
from kernel_ir.errors import RuleError
from kernel_ir.fastmath import Flag, Flags
from rewrites.certificates import remember
from rewrites.derive import Effort, all_derivable
from rewrites.pattern import Apply, parts, subpatterns
from rewrites.prove import holds
from rewrites.rule import Rule
from rewrites.wording import rule_text

BATCH: Final = 160
"""Candidates that are looked at together."""
SECONDS: Final = (2.0, 6.0)
"""CPU seconds for one proof: soon, and when all else has been looked at."""
CHUNK: Final = 20
"""Candidates that one process looks at together."""
TOGETHER: Final = 50
"""Rules of which one process asks at once whether they are derivable."""
DERIVE: Final = 15.0
"""CPU seconds for that."""
FIRST: Final = 0.85
"""The part of the time after which claims whose proof took too long are tried again."""
SLICE: Final = 120.0
"""CPU seconds for a chunk of anything else: a safety net."""
FEW: Final = 8
"""Rules so few that one process asks whether they are derivable."""
STEP: Final = 48
"""Claims that are proved before what is left of a batch is looked at anew."""
Claim = tuple[Candidate, tuple[Rule, ...]]
"""A candidate, and forms of it to prove, until one holds."""
T = TypeVar("T")
R = TypeVar("R")
EFFORT: Final = Effort(nodes=1_500, rounds=3)
ALWAYS: Final = ("add", "sub", "mul", "neg", "lt", "le", "eq", "and", "or", "not", "select")
"""Ops through which derivations go, whether or not the vocabulary has them."""


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
    pool: Counted = field(default_factory=Counted)
    seconds: float = math.inf
    """When to stop, as the pool counts: a safety net."""
    accepted: list[Rule] = field(default_factory=list[Rule])
    looked: int = 0
    proofs: int = 0
    _reducer: Reducer = field(default_factory=Reducer)
    _seen: set[str] = field(default_factory=set[str])
    """The candidates so far, as texts."""
    _left: list[Candidate] = field(default_factory=list[Candidate])
    """What is left of candidates under flags."""
    _unproved: list[Claim] = field(default_factory=list[Claim])
    """Claims whose proof took too long."""

    def __post_init__(self) -> None:
        for rule in self.known:
            self._reducer.learn(rule)

    def run(self, candidates: Sequence[Candidate]) -> Iterator[tuple[Rule, ...]]:
        """The rules accepted, a few at a time."""
        waiting = list(candidates)
        self._seen.update(one.rule.text for one in candidates)
        while (waiting or self._left) and self.looked < self.limits.candidates and not self._done(FIRST):
            batch, waiting = self._batch([*self._left, *waiting])
            self.progress(
                f"{len(candidates) - len(waiting)} of {len(candidates)} candidates, {self.proofs} proofs, {len(self.accepted)} rules found"
            )
            yield from self._settle(self._claims(batch), SECONDS[0], FIRST)
        again, self._unproved = self._unproved, []
        self.progress(f"{len(again)} claims once more, {self.proofs} proofs, {len(self.accepted)} rules found")
        yield from self._settle([c for c in again if self._stands(*c)], SECONDS[1], most=FEW)

    def _settle(self, claims: list[Claim], seconds: float, part: float = 1.0, most: int = STEP) -> Iterator[tuple[Rule, ...]]:
        """Proves the claims, a few at a time: what is derivable from those found by then is left out."""
        claims = self._open(claims)
        while claims and not self._done(part):
            self.progress(f"{len(claims)} claims, {self.proofs} proofs, {len(self.accepted)} rules found, {self.pool.seconds:.0f} s")
            claims, rest = _step(claims, most)
            new = tuple(self._proved(claims, seconds))
            if new:
                yield new
            claims = self._open([c for c in rest if self._stands(*c)]) if new else rest

    def _done(self, part: float = 1.0) -> bool:
        return self.proofs >= self.limits.proofs or len(self.accepted) >= self.limits.rules or self.pool.seconds > self.seconds * part

    def _batch(self, waiting: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        self._left.clear()
        batch: list[Candidate] = []
        for position, given in enumerate(waiting):
            one = self._smallest(given, frozenset())
            if one is not None:
                batch.append(one)
                self.looked += 1
            if len(batch) == min(BATCH, self.limits.candidates):
                return batch, waiting[position + 1 :]
        return batch, []

    def _smallest(self, one: Candidate, needs: Flags) -> Candidate | None:
        """The candidate with both sides in their smallest forms under some flags; None if nothing is left, or it is another candidate."""
        small, large = (self._reducer.normal(side, one.kind, needs) for side in (one.small, one.large))
        if (small, large) == (one.small, one.large):
            return one
        pair = renamed(small, large) if size(small) <= size(large) else renamed(large, small)
        rule = None if pair[0] == pair[1] else rule_of(*pair, one.kind)
        if rule is None or rule.text in self._seen:
            return None
        self._seen.add(rule.text)
        return replace(one, rule=rule, small=pair[0], large=pair[1])

    def _stands(self, one: Candidate, tries: Sequence[Rule]) -> bool:
        """Whether no rule under the flags of a claim makes its candidate smaller; else what is left of that is one to come."""
        left = self._smallest(one, tries[0].needs)
        if left is not None and left is not one:
            self._left.append(left)
        return left is one

    def _claims(self, batch: Sequence[Candidate]) -> list[Claim]:
        found: list[Claim] = []
        for one, claims in zip(batch, self._map(_settled, [(c.rule, c.reals) for c in batch], CHUNK), strict=True):
            for claimed in claims or ():
                tries = tuple(rule for rule in claimed if rule.needs <= self.licence)
                if tries and self._stands(one, tries):
                    found.append((one, tries))
        return found

    def _open(self, claims: list[Claim]) -> list[Claim]:
        """The claims whose first form is not derivable."""
        derived = self._derived([tries[0] for _, tries in claims])
        return [claim for claim, known in zip(claims, derived, strict=True) if not known]

    def _derived(self, rules: Sequence[Rule]) -> list[bool]:
        ask = partial(all_derivable, rules=(*self.known, *self.accepted), effort=EFFORT, every_type=False)
        if self.pool.pool is None or len(rules) < FEW:
            return list(ask(rules))
        parts = [rules[n : n + TOGETHER] for n in range(0, len(rules), TOGETHER)]
        known = self.pool.map(ask, parts, DERIVE)  # an e-graph that explodes derives nothing
        return [b for part, found in zip(parts, known, strict=True) for b in found or (False,) * len(part)]

    def _proved(self, claims: Sequence[Claim], seconds: float) -> Iterator[Rule]:
        """The rules accepted of these claims: of each the first form that is proved, if nothing derives it."""
        verdicts = self._map(partial(_first_that_holds, seconds), [tries for _, tries in claims], 1)
        found: list[tuple[Candidate, Rule, bool]] = []
        for (one, tries), verdict in zip(claims, verdicts, strict=True):
            place, asked, late = verdict or (None, 1, False)
            self.proofs += asked
            if place is not None:
                remember(tries[place])
                found.append((one, tries[place], place == 0))
            elif late:
                self._unproved.append((one, tries))
        later = [rule for _, rule, first in found if not first]
        known = dict(zip(map(id, later), self._derived(later), strict=True))
        for one, rule, _ in found:
            if not known.get(id(rule), False) and not self._done():
                yield from self._accept(one, rule)

    def _map(self, function: Callable[[T], R], items: Sequence[T], chunk: int) -> list[R | None]:
        """The results, in order, on all cores."""
        parts = [items[n : n + chunk] for n in range(0, len(items), chunk)]
        results = self.pool.map(partial(_each, function), parts, SLICE)
        return [r for part, found in zip(parts, results, strict=True) for r in found or (None,) * len(part)]

    def _accept(self, one: Candidate, rule: Rule) -> tuple[Rule, ...]:
        name = f"found_{one.large[0].op}_{len(self.accepted) + 1}"
        try:
            rule = replace(rule, name=name, text=rule_text(rule, name))
        except RuleError:  # what differs in the sign of a zero alone has no text
            return ()
        self.accepted.append(rule)
        if not rule.guards:
            self._reducer.add(one.kind, one.small, one.large, rule.needs)
        return (rule,)


def _step(claims: Sequence[Claim], most: int) -> tuple[list[Claim], list[Claim]]:
    """The claims to prove next, one of each candidate, as a stronger guard may be needless beside a weaker one; and the others."""
    now: list[Claim] = []
    rest: list[Claim] = []
    for claim in claims:
        taken = len(now) >= most or (bool(now) and now[-1][0] is claim[0]) or (bool(rest) and rest[-1][0] is claim[0])
        (rest if taken else now).append(claim)
    return now, rest


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def _settled(asked: tuple[Rule, bool]) -> tuple[tuple[Rule, ...], ...]:
    return settled(*asked).tries


def _first_that_holds(seconds: float, tries: tuple[Rule, ...]) -> tuple[int | None, int, bool]:
    """Which is proved first, how many proofs were tried, and whether one of them was out of time."""
    late = False
    for n, rule in enumerate(tries):
        started = time.thread_time()
        if holds(rule, seconds):
            return n, n + 1, late
        late |= time.thread_time() - started > seconds
    return None, len(tries), late

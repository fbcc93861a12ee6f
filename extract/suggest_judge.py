"""Turns one suggested text into its fate: read, licensed, proved (repaired where the obvious guards do), general, new, and of use.

Nothing that a suggestion says is believed: the types are the checker's, the licence is the user's, the truth is the prover's, the gain is
the cost model's (or the clock's).
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from extract.suggest import Batch, Clock, Fate, Found, Optimizer, Outcome
from extract.suggest_database import Database
from extract.suggest_gain import Certified, Gains
from extract.suggest_general import generalised
from extract.suggest_isolate import Isolated, Overrun
from extract.suggest_pool import Pool
from extract.suggest_prove import Prover
from extract.suggest_read import one_rule, read_rule
from extract.suggest_repair import repaired
from kernel_ir.errors import KernelError
from kernel_ir.fastmath import Flags, flags_text
from kernel_ir.nodes import Kernel
from rewrites.rule import Rule
from rewrites.wording import canonical_text, rule_text

TOGETHER: Final = 24
"""Rules without a gain of their own that are tried together, the latest first."""
DERIVED: Final = "the rules that there are derive it"


@dataclass(slots=True)
class Judge:
    """Judges suggestions for some kernels, one after another; rules that it keeps help to judge the next.

    `setting` names what an outcome depends on (kernels, flags, target, rules): what was tried in the same setting is not tried again.
    """

    kernels: tuple[Kernel, ...]
    rules: tuple[Rule, ...]
    flags: Flags
    optimizer: Optimizer
    database: Database
    isolated: Isolated
    setting: str
    clock: Clock | None = None
    pool: Pool | None = None
    progress: Callable[[str], None] = lambda _: None
    named: set[str] = field(default_factory=set[str])
    prover: Prover = field(init=False)
    gains: Gains = field(init=False)

    def __post_init__(self) -> None:
        self.prover = Prover(self.database, self.isolated)
        pool = self.pool or Pool((self.isolated,))
        self.gains = Gains(self.kernels, self.optimizer, pool, self.isolated, self.clock, self.progress)

    @property
    def kept(self) -> list[Rule]:
        """The rules kept so far."""
        return self.gains.kept

    @property
    def found(self) -> tuple[Found, ...]:
        """The kernels as they are with these rules."""
        return self.gains.found

    def judge(self, text: str, batch: Batch) -> Outcome:
        """The fate of one suggested rule."""
        return next(self.judged((text,), batch))

    def judged(self, texts: Sequence[str], batch: Batch, until: float = math.inf) -> Iterator[Outcome]:
        """The fates of a batch's rules, those of certified rules last: what these gain is asked of all at once, then one by one.

        After the time `until` no further rule is looked at; those that are certified by then are tried.
        """
        certified: list[Certified] = []
        for number, text in enumerate(texts, 1):
            if time.monotonic() > until:
                break
            self.progress(f"judging rule {number} of {len(texts)}, {len(self.kept)} kept")
            outcome = self._admitted(text, batch)
            if isinstance(outcome, Certified):
                certified.append(outcome)
                self.named.add(outcome.rule.name)
            else:
                yield outcome
        self.gains.settle()
        for one, outcome in zip(certified, self.gains.outcomes(certified), strict=True):
            self.database.tried(self.setting, one.key, outcome)
            yield outcome

    def together(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Certified rules that gained nothing in their batches, once more: all at once."""
        names = {r.name for r in self.kept}
        idle = {o.admitted: o for o in outcomes if o.admitted and o.fate in (Fate.NO_GAIN, Fate.KNOWN) and o.name not in names}
        latest = list(idle.values())[-TOGETHER:]
        certified = [
            Certified(o, canonical_text(read_rule(o.suggested)), rule, rule)
            for o in latest
            if (rule := one_rule(o.admitted)).name not in names
        ]
        if frozenset(c.rule.text for c in certified) in self.gains.tried or not certified:
            return []
        kept: list[Outcome] = []
        for one, outcome in zip(certified, self.gains.outcomes(certified, alone=False), strict=True):
            if outcome.fate is Fate.KEPT:
                outcome = replace(outcome, why="gains together with others of this round")
                self.database.tried(self.setting, one.key, outcome)
                kept.append(outcome)
        return kept

    def _admitted(self, text: str, batch: Batch) -> "Outcome | Certified":
        """The rule, proved and general; or its fate, where it has one already."""
        origin = Outcome("", text, Fate.REFUSED, source=batch.source, prompt=batch.prompt)
        try:
            rule = read_rule(text, frozenset(r.name for r in self.rules) | self.named)
            key = canonical_text(rule)
        except KernelError as error:
            return replace(origin, why=str(error))
        earlier = self.database.outcome(self.setting, key)
        if earlier is not None and earlier.name not in {r.name for r in self.rules}:
            return self._again(earlier)
        self.prover.begin()
        try:
            outcome = self._proved_and_new(rule, key, replace(origin, name=rule.name), batch.general)
        except KernelError as error:  # the e-graph does not take it: nothing that a later version must believe
            return replace(origin, name=rule.name, why=error.message)
        except Overrun as reason:
            outcome = replace(origin, name=rule.name, fate=Fate.UNPROVED, why=str(reason))
        if isinstance(outcome, Outcome):
            self.database.tried(self.setting, key, outcome)
        return outcome

    def _again(self, earlier: Outcome) -> Outcome:
        """What was tried before, in another run or this one; what was kept is kept."""
        if earlier.fate.certified:
            self.named.add(earlier.name)
        if earlier.fate is Fate.KEPT:
            rule = one_rule(earlier.admitted)
            if rule.name not in {r.name for r in self.kept}:
                self.gains.keep(rule)
        return earlier

    def _proved_and_new(self, rule: Rule, key: str, outcome: Outcome, is_general: bool) -> "Outcome | Certified":
        if self.prover.derived(rule, self._known()):
            return self._derived(rule, key, outcome, DERIVED)
        proved = self._proved(rule)
        if proved is None:
            return self._failed(rule, outcome)
        if proved != rule and self.prover.derived(proved, self._known()):
            return self._derived(proved, key, outcome, f"as far as it holds, {DERIVED}: {rule_text(proved)}")
        narrow = one_rule(rule_text(proved))
        general = narrow if is_general else one_rule(rule_text(generalised(proved, self.prover.holds)))
        return self._certified(replace(outcome, fate=Fate.NO_GAIN), key, general, narrow)

    def _derived(self, rule: Rule, key: str, outcome: Outcome, why: str) -> "Outcome | Certified":
        """A rule that others derive: what they do step by step, the e-graph of a kernel may not reach within its limits, so it is tried."""
        known = replace(outcome, fate=Fate.KNOWN, why=why)
        if not rule.needs <= self.flags or not self.prover.holds(rule):
            return known
        least = one_rule(rule_text(self.prover.least(rule)))
        if canonical_text(least) in {_canonical(r) for r in self._known()}:
            return known
        return self._certified(known, key, least, least)

    def _certified(self, outcome: Outcome, key: str, rule: Rule, narrow: Rule) -> Certified:
        return Certified(replace(outcome, admitted=rule_text(rule), method=self.prover.proof(rule).method), key, rule, narrow)

    def _known(self) -> tuple[Rule, ...]:
        return (*self.rules, *self.kept)

    def _proved(self, rule: Rule) -> Rule | None:
        """The rule under the user's flags, with what guards it turned out to need."""
        if rule.needs <= self.flags and self.prover.holds(rule):
            return self.prover.least(rule)
        better = repaired(rule, self.flags, self._says_something) or repaired(rule, self.flags, self.prover.holds)
        return None if better is None else self.prover.least(one_rule(rule_text(better)))

    def _says_something(self, rule: Rule) -> bool:
        """Whether the rule holds, and its guards leave more of it than constants, which fold without any rule."""
        return self.prover.holds(rule) and not self.prover.derived(rule, ())

    def _failed(self, rule: Rule, outcome: Outcome) -> Outcome:
        """Why the rule is not admitted: a flag that is off, a counterexample, or no proof."""
        proof = self.prover.proof(rule)
        off = rule.needs - self.flags
        if off and proof.holds:
            why = f"it needs {flags_text(off)}, and the flags that are on are {flags_text(self.flags)}"
            return replace(outcome, fate=Fate.UNLICENSED, why=why)
        return replace(outcome, fate=Fate.REFUTED if proof.refuted else Fate.UNPROVED, why=proof.why)


@functools.cache
def _canonical(rule: Rule) -> str:
    try:
        return canonical_text(rule)
    except KernelError:
        return ""

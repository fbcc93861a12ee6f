"""Turns one suggested text into its fate: read, licensed, new, proved (repaired where the obvious guards do), general, and of use.

Nothing that a suggestion says is believed: the types are the checker's, the licence is the user's, the truth is the prover's, the gain is
the cost model's (or the clock's).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from extract.suggest import Batch, Clock, Fate, Found, Gain, Optimizer, Outcome
from extract.suggest_database import Database
from extract.suggest_general import generalised
from extract.suggest_isolate import Isolated, Overrun
from extract.suggest_prove import Prover
from extract.suggest_read import one_rule, read_rule
from extract.suggest_repair import repaired
from kernel_ir.errors import EquivalenceError, KernelError
from kernel_ir.fastmath import Flags, flags_text
from kernel_ir.nodes import Kernel
from rewrites.rule import Rule
from rewrites.wording import canonical_text, rule_text

OPTIMIZE: Final = 120.0
"""Seconds for one kernel's optimization with a suggested rule."""
LEAST_GAIN: Final = 1.0001
"""A rule is kept if some kernel's cycles fall by more than this ratio."""
TOGETHER: Final = 24
"""Rules without a gain of their own that are tried together, the latest first."""
LEAST_SPEEDUP: Final = 1.02
"""… and by the clock by more than this."""


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
    kept: list[Rule] = field(default_factory=list[Rule])
    found: tuple[Found, ...] = ()
    named: set[str] = field(default_factory=set[str])
    prover: Prover = field(init=False)

    def __post_init__(self) -> None:
        self.prover = Prover(self.database, self.isolated)
        self.found = tuple(self._optimized(k, ()) for k in self.kernels)

    def judge(self, text: str, batch: Batch) -> Outcome:
        """The fate of one suggested rule."""
        origin = Outcome("", text, Fate.REFUSED, source=batch.source, prompt=batch.prompt)
        try:
            rule = read_rule(text, frozenset(r.name for r in self.rules) | self.named)
            key = canonical_text(rule)
        except KernelError as error:
            return replace(origin, why=str(error))
        earlier = self.database.outcome(self.setting, key)
        if earlier is not None:
            return self._again(earlier)
        self.prover.begin()
        try:
            outcome = self._judged(rule, replace(origin, name=rule.name))
        except EquivalenceError as error:
            # Exact rules alone made a kernel that differs: the last line of defence against a fault of the prover.
            outcome = replace(origin, name=rule.name, fate=Fate.REFUTED, why=f"a kernel optimized with it differs: {error.message}")
        except KernelError as error:  # the e-graph does not take it: nothing that a later version must believe
            return replace(origin, name=rule.name, why=error.message)
        except Overrun as reason:
            outcome = replace(origin, name=rule.name, fate=Fate.UNPROVED, why=str(reason))
        self.database.tried(self.setting, key, outcome)
        if outcome.fate.certified:
            self.named.add(outcome.name)
        return outcome

    def together(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Certified rules that gained nothing alone, once more: all at once, then without each that is not missed."""
        idle = {o.admitted: o for o in outcomes if o.fate is Fate.NO_GAIN and o.name not in {r.name for r in self.kept}}
        rules = list({r.name: r for r in map(one_rule, list(idle)[-TOGETHER:])}.values())
        if not rules or (len(rules) == 1 and not self.kept):
            return []
        needed = self._needed(rules)
        kept: list[Outcome] = []
        before = self.found
        self.kept += needed
        if needed:
            self.found = self._all(())
        gains = tuple(
            Gain(b.kernel.name, b.cycles, a.cycles) for b, a in zip(before, self.found, strict=True) if b.cycles > a.cycles * LEAST_GAIN
        )
        for rule in needed:
            outcome = replace(idle[rule_text(rule)], fate=Fate.KEPT, gains=gains, why="gains together with the others of this round")
            self.database.tried(self.setting, canonical_text(read_rule(outcome.suggested)), outcome)
            kept.append(outcome)
        return kept

    def _needed(self, rules: list[Rule]) -> list[Rule]:
        """The rules without which the kernels cost more than with all of them; none where all of them gain nothing."""
        whole = self._all(tuple(rules))
        if not any(b.cycles > a.cycles * LEAST_GAIN for b, a in zip(self.found, whole, strict=True)):
            return []
        for rule in list(rules):
            fewer = [r for r in rules if r is not rule]
            found = self._all(tuple(fewer))
            if all(f.cycles <= w.cycles * LEAST_GAIN for f, w in zip(found, whole, strict=True)):
                rules = fewer
        return rules

    def _all(self, extra: tuple[Rule, ...]) -> tuple[Found, ...]:
        return tuple(self._optimized(f.kernel, (*self.kept, *extra)) for f in self.found)

    def _again(self, earlier: Outcome) -> Outcome:
        """What was tried before, in another run or this one; what was kept is kept."""
        if earlier.fate.certified:
            self.named.add(earlier.name)
        if earlier.fate is Fate.KEPT:
            rule = one_rule(earlier.admitted)
            if rule.name not in {r.name for r in self.kept}:
                self._keep(rule)
        return earlier

    def _judged(self, rule: Rule, outcome: Outcome) -> Outcome:
        if self.prover.derived(rule, self._known()):
            return replace(outcome, fate=Fate.KNOWN, why="the rules that there are derive it")
        proved = self._proved(rule)
        if proved is None:
            return self._failed(rule, outcome)
        if proved != rule and self.prover.derived(proved, self._known()):
            return replace(outcome, fate=Fate.KNOWN, why=f"as far as it holds, the rules that there are derive it: {rule_text(proved)}")
        general = one_rule(rule_text(generalised(proved, self.prover.holds)))
        method = self.prover.proof(general).method
        outcome = replace(outcome, fate=Fate.NO_GAIN, admitted=rule_text(general), method=method)
        dropped: list[str] = []
        for candidate in dict.fromkeys((general, one_rule(rule_text(proved)))):
            gains, notes = self._keep(candidate)
            if gains:
                return replace(outcome, fate=Fate.KEPT, admitted=rule_text(candidate), gains=gains)
            dropped += [note for note in notes if candidate.name in note]
        return replace(outcome, why="; ".join(("no kernel given gets cheaper with it", *dict.fromkeys(dropped))))

    def _known(self) -> tuple[Rule, ...]:
        return (*self.rules, *self.kept)

    def _proved(self, rule: Rule) -> Rule | None:
        """The rule under the user's flags, with what guards it turned out to need."""
        if rule.needs <= self.flags and self.prover.holds(rule):
            return self.prover.least(rule)
        better = repaired(rule, self.flags, self.prover.holds)
        return None if better is None else self.prover.least(one_rule(rule_text(better)))

    def _failed(self, rule: Rule, outcome: Outcome) -> Outcome:
        """Why the rule is not admitted: a flag that is off, a counterexample, or no proof."""
        proof = self.prover.proof(rule)
        off = rule.needs - self.flags
        if off and proof.holds:
            why = f"it needs {flags_text(off)}, and the flags that are on are {flags_text(self.flags)}"
            return replace(outcome, fate=Fate.UNLICENSED, why=why)
        return replace(outcome, fate=Fate.REFUTED if proof.refuted else Fate.UNPROVED, why=proof.why)

    def _keep(self, rule: Rule) -> tuple[tuple[Gain, ...], tuple[str, ...]]:
        """What the rule gains, and the optimizer's notes; with a gain, the rule and the kernels as they are then are kept."""
        after = self._all((rule,))
        gains = tuple(g for b, a in zip(self.found, after, strict=True) if rule.name in a.fired for g in self._gain(b, a, rule))
        if gains:
            self.kept.append(rule)
            self.found = tuple(min((b, a), key=lambda f: f.cycles) for b, a in zip(self.found, after, strict=True))
        return gains, tuple(note for f in after for note in f.notes)

    def _gain(self, before: Found, after: Found, rule: Rule) -> tuple[Gain, ...]:
        """The gain of one kernel, by the cost model, and by the clock where there is one."""
        gain = Gain(before.kernel.name, before.cycles, after.cycles)
        if gain.ratio < LEAST_GAIN or self.clock is None:
            return (gain,) if gain.ratio >= LEAST_GAIN else ()
        old, new = self.isolated.call(OPTIMIZE, self.clock, before.kernel, tuple(self.kept), (*self.kept, rule))
        return (Gain(before.kernel.name, old, new, "s"),) if old >= new * LEAST_SPEEDUP else ()

    def _optimized(self, kernel: Kernel, extra: tuple[Rule, ...]) -> Found:
        return self.isolated.call(OPTIMIZE, self.optimizer, kernel, extra)

"""Turns certified rules into what they gain: kernels optimized with all of them at once, then without each, in cycles or by the clock.

All at once, since most rules match nothing in a given kernel: one optimization of each kernel says so of a whole batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from extract.suggest import Clock, Fate, Found, Gain, Optimizer, Outcome
from extract.suggest_isolate import Isolated, Overrun
from extract.suggest_pool import Pool
from kernel_ir.errors import EquivalenceError, KernelError
from kernel_ir.nodes import Kernel
from rewrites.rule import Rule
from rewrites.wording import rule_text

OPTIMIZE: Final = 120.0
"""Seconds for one kernel's optimization with suggested rules."""
LEAST_GAIN: Final = 1.0001
"""A rule is kept if some kernel's cycles fall by more than this ratio."""
LEAST_SPEEDUP: Final = 1.02
"""… and by the clock by more than this."""
NO_GAIN: Final = "no kernel given gets cheaper with it"


@dataclass(frozen=True, slots=True)
class Certified:
    """A rule that the prover admitted, before anybody knows whether it is worth it; `narrow` is as it was before it was generalised."""

    outcome: Outcome
    key: str
    rule: Rule
    narrow: Rule


@dataclass(slots=True)
class Gains:
    """The kernels as optimized with the rules kept so far; rules that gain something are kept."""

    kernels: tuple[Kernel, ...]
    optimizer: Optimizer
    pool: Pool
    isolated: Isolated
    clock: Clock | None = None
    progress: Callable[[str], None] = lambda _: None
    kept: list[Rule] = field(default_factory=list[Rule])
    found: tuple[Found, ...] = ()
    tried: set[frozenset[str]] = field(default_factory=set[frozenset[str]])
    """Sets of rules that were tried together."""
    behind: bool = False

    def __post_init__(self) -> None:
        self.found = tuple(self.pool.results(partial(_optimized, self.optimizer, ()), self.kernels, OPTIMIZE))

    def keep(self, rule: Rule) -> None:
        """Keeps a rule whose gain is known; `settle` then optimizes the kernels with it."""
        self.kept.append(rule)
        self.behind = True

    def settle(self) -> None:
        """The kernels as they are with all rules kept."""
        if self.behind:
            self.found = tuple(min((b, a), key=lambda f: f.cycles) for b, a in zip(self.found, self._all(()), strict=True))
            self.behind = False

    def outcomes(self, certified: Sequence["Certified"], alone: bool = True) -> list[Outcome]:
        """What each certified rule gains, in their order; rules that gain are kept."""
        fates = {c.rule.name: _idle(c.outcome) for c in certified}
        if not certified:
            return []
        try:
            rules, whole = self._taken(certified, fates)
            gainers = self._needed(rules, whole)
        except (EquivalenceError, KernelError, Overrun) as reason:
            if len(certified) > 1:  # which of them is to blame?
                return [self.outcomes([one])[0] for one in certified]
            return [replace(certified[0].outcome, fate=self._blame(reason), why=_words(reason), admitted="")]
        self.tried.add(frozenset(r.text for r in rules))
        if alone and len(rules) > 1 and not gainers:
            # One that makes the e-graph grow may have hidden what another gains.
            fired = {name for f in whole for name in f.fired}
            gainers = {name: g for r in rules if r.name in fired for name, g in self._alone(r, whole).items()}
        for name, gains in gainers.items():
            rule = next(r for r in rules if r.name == name)
            fates[name] = replace(fates[name], fate=Fate.KEPT, gains=gains, admitted=rule_text(rule), why="")
        return list(fates.values())

    def _taken(self, certified: Sequence["Certified"], fates: dict[str, Outcome]) -> tuple[list[Rule], tuple[Found, ...]]:
        """The rules as the e-graph takes them, and the kernels with all of them; notes go to the fates."""
        rules = [c.rule for c in certified]
        whole = self._all(tuple(rules))
        notes = {c.rule.name: [n for f in whole for n in f.notes if c.rule.name in n] for c in certified}
        for c in certified:
            if notes[c.rule.name]:
                fates[c.rule.name] = _idle(c.outcome, *dict.fromkeys(notes[c.rule.name]))
        narrow = [c.narrow if notes[c.rule.name] else c.rule for c in certified]
        return (narrow, self._all(tuple(narrow))) if narrow != rules else (rules, whole)

    def _alone(self, rule: Rule, whole: tuple[Found, ...]) -> dict[str, tuple[Gain, ...]]:
        where = [n for n, f in enumerate(whole) if rule.name in f.fired]
        try:
            return self._needed([rule], self._all((rule,), where))
        except (KernelError, Overrun):
            return {}

    def _needed(self, rules: list[Rule], whole: tuple[Found, ...]) -> dict[str, tuple[Gain, ...]]:
        """The rules without which some kernel costs more, and what each of them gains; they are kept, and the kernels as they are then."""
        better = [n for n, (b, w) in enumerate(zip(self.found, whole, strict=True)) if b.cycles > w.cycles * LEAST_GAIN]
        fired = {r.name for r in rules if any(r.name in whole[n].fired for n in better)}
        left = [r for r in rules if r.name in fired]
        made = [r for r in left if any(r.name in whole[n].rules for n in better)]
        if better and len(made) < len(left):  # most often those that made the result do without the others
            trial = self._all(tuple(made), better)
            if all(trial[n].cycles <= whole[n].cycles * LEAST_GAIN for n in better):
                left, whole = made, trial
        gains: dict[str, tuple[Gain, ...]] = {}
        for rule in left[::-1] if better else ():
            self.progress(f"what {rule.name} gains, {len(self.kept)} kept")
            others = [r for r in left if r is not rule]
            places = [n for n in better if rule.name in whole[n].fired]
            without = self._all(tuple(others), places) if others else self.found
            lost = [n for n in places if without[n].cycles > whole[n].cycles * LEAST_GAIN]
            gains[rule.name] = tuple(g for n in lost for g in self._gain(without[n], whole[n], others, rule))
            if not gains[rule.name]:
                del gains[rule.name]
                left = others
                whole = tuple(without[n] if n in places else w for n, w in enumerate(whole))
        if gains:
            self.kept += left
            self.found = tuple(min((b, a), key=lambda f: f.cycles) for b, a in zip(self.found, whole, strict=True))
        return gains

    def _blame(self, reason: Exception) -> Fate:
        # Exact rules alone made a kernel that differs: the last line of defence against a fault of the prover.
        return Fate.REFUTED if isinstance(reason, EquivalenceError) else Fate.REFUSED if isinstance(reason, KernelError) else Fate.UNPROVED

    def _all(self, extra: tuple[Rule, ...], where: Sequence[int] | None = None) -> tuple[Found, ...]:
        """The kernels optimized with the rules kept and these, those at the places `where`; the others as they are."""
        places = range(len(self.found)) if where is None else where
        call = partial(_optimized, self.optimizer, (*self.kept, *extra))
        kernels = [self.found[n].kernel for n in places]
        new = dict(zip(places, self.pool.results(call, kernels, OPTIMIZE), strict=True))
        return tuple(new.get(n, f) for n, f in enumerate(self.found))

    def _gain(self, before: Found, after: Found, others: Sequence[Rule], rule: Rule) -> tuple[Gain, ...]:
        """What the rule gains for one kernel beside others, by the cost model, and by the clock where there is one."""
        if self.clock is None:
            return (Gain(before.kernel.name, before.cycles, after.cycles),)
        rules = (*self.kept, *others)
        old, new = self.isolated.call(OPTIMIZE, self.clock, before.kernel, rules, (*rules, rule))
        return (Gain(before.kernel.name, old, new, "s"),) if old >= new * LEAST_SPEEDUP else ()


def _optimized(optimizer: Optimizer, rules: tuple[Rule, ...], kernel: Kernel) -> Found:
    return optimizer(kernel, rules)


def _idle(outcome: Outcome, *notes: str) -> Outcome:
    """The outcome of a rule that gains nothing."""
    return replace(outcome, why="; ".join(filter(None, (outcome.why, NO_GAIN, *notes))))


def _words(reason: Exception) -> str:
    if isinstance(reason, EquivalenceError):
        return f"a kernel optimized with it differs: {reason.message}"
    return reason.message if isinstance(reason, KernelError) else str(reason)

"""Turns a kernel into the cheapest form that rounds of search lead to, and that passes its trial."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from extract.candidates import Candidates
from extract.cycles import Cost
from kernel_ir.costing import Costing
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan
from kernel_ir.trial import Trial
from rewrites.rule import Rule

ROUNDS: Final = 4
"""Rounds of saturation that find something cheaper, at most; each begins with the last one's result, and the first that finds nothing
ends the loop, unless the error budget refused what it found: then the search goes on without the rules to blame."""
LITTLE: Final = 0.005
"""Share of a form's cost that a round must save for another one to follow: what saves less only moves terms about."""
RETRIES: Final = 3
"""Searches without the rules to blame, at most; the last is without all that need a flag."""
SHARING: Final = "share"
"""Stands among a result's rules where equal terms are computed once and no rule was needed to find them equal."""
Search = Callable[[Kernel, tuple[Rule, ...]], Candidates]


@dataclass(frozen=True, slots=True)
class Round:
    """One round: what went in, the candidates found, the cost of each one's best plan."""

    kernel: Kernel
    found: Candidates
    costs: tuple[float, ...]


@dataclass(slots=True)
class Climb:
    """Rounds, each from the best form of the one before: that form, its plan and its cost, the cost of the kernel as written, and the rules
    that made each form."""

    best: Kernel
    plan: Plan
    least: Cost
    baseline: Cost
    made_by: dict[Kernel, tuple[str, ...]]
    rounds: list[Round] = field(default_factory=list[Round])


def climbed(kernel: Kernel, allowed: tuple[Rule, ...], trial: Trial, costing: Costing, search: Search) -> Climb:
    """The whole climb. Forms on the way are trusted at first, and the last is tried: a trial takes as long as a search. Where it fails, or
    where there is an error budget, which says what rules to go on without, each form is tried before the next round begins with it.

    Raises EquivalenceError where exact rules alone made a form that differs.
    """
    memory: dict[tuple[Kernel, tuple[str, ...]], Candidates] = {}

    def remembered(form: Kernel, having: tuple[Rule, ...]) -> Candidates:
        key = form, tuple(rule.name for rule in having)
        if key not in memory:
            memory[key] = search(form, having)
        return memory[key]

    if trial.budget is None:
        climb = _climbed(kernel, allowed, trial, costing, remembered, trusting=True)
        if trial.passes(climb.best, climb.made_by[climb.best], _plain(allowed)):
            return climb
    return _climbed(kernel, allowed, trial, costing, remembered, trusting=False)


def _climbed(kernel: Kernel, allowed: tuple[Rule, ...], trial: Trial, costing: Costing, search: Search, trusting: bool) -> Climb:
    plan, least = costing.input(kernel)
    climb = Climb(kernel, plan, least, least, {kernel: ()})
    won = retries = 0
    while won < ROUNDS:
        found = search(climb.best, allowed)
        planned = [(c, costing.best(c.kernel)) for c in found.candidates]
        scored = [(c, *pair) for c, pair in planned if pair is not None]
        climb.rounds.append(Round(climb.best, found, tuple(pair[1].cycles if pair else inf for _, pair in planned)))
        for c in found.candidates:
            climb.made_by.setdefault(c.kernel, tuple(dict.fromkeys((*climb.made_by[climb.best], *(c.rules or (SHARING,))))))
        cheaper = sorted((s for s in scored if s[2].cycles < climb.least.cycles), key=lambda s: s[2].cycles)
        plain = _plain(allowed)
        choice = next((s for s in cheaper if trusting or trial.passes(s[0].kernel, climb.made_by[s[0].kernel], plain)), None)
        if choice is not None:
            little = choice[2].cycles > (1.0 - LITTLE) * climb.least.cycles
            climb.best, climb.plan, climb.least = choice[0].kernel, choice[1], choice[2]
            won = ROUNDS if little else won + 1
            continue
        blamed = trial.blamed((c.kernel, c.rules) for c, _, _ in cheaper) if not plain else frozenset[str]()
        if not blamed:
            break
        retries += 1
        withheld = blamed if retries < RETRIES else trial.licensed
        allowed = tuple(rule for rule in allowed if rule.name not in withheld)
    return climb


def _plain(allowed: tuple[Rule, ...]) -> bool:
    """Whether no rule needs a flag."""
    return not any(rule.needs for rule in allowed)

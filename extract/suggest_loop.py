"""Turns a suggester and a judge into a report: rounds in which rules are suggested, judged, and the outcomes shown to the next round."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from extract.suggest import Fate, Found, Outcome, Suggester, Task
from extract.suggest_answer import rule_texts
from extract.suggest_judge import Judge
from extract.suggest_read import one_rule
from kernel_ir.errors import KernelError
from kernel_ir.fastmath import Flags

SAMPLED: Final = 5
"""Rules of the best so far that a round is shown."""

INTERRUPTED: Final = "interrupted"

Notify = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did: every outcome in order, and the kernels before and after."""

    outcomes: tuple[Outcome, ...]
    before: tuple[Found, ...]
    after: tuple[Found, ...]
    rounds: int
    ended: str = ""
    """Why it ended before its rounds were over."""

    @property
    def kept(self) -> tuple[Outcome, ...]:
        """The outcomes of rules that gain something, each rule once."""
        return tuple({o.admitted: o for o in self.outcomes if o.fate is Fate.KEPT}.values())


def run(
    judge: Judge,
    suggester: Suggester,
    rounds: int,
    seed: int = 0,
    seconds: float | None = None,
    notify: Notify | None = None,
) -> Report:
    """Rounds until there are no more suggestions, or `rounds` or `seconds` are over."""
    before = judge.found
    outcomes: list[Outcome] = []
    until = math.inf if seconds is None else time.monotonic() + seconds
    ended = ""
    number = 0
    try:
        for outcome, round_ in _rounds(judge, suggester, rounds, seed, until, outcomes):
            number = round_
            outcomes.append(outcome)
            if notify is not None:
                notify(outcome)
        if time.monotonic() > until:
            ended = "its time is up"
    except KeyboardInterrupt:  # what was found is not lost
        ended = INTERRUPTED
    return Report(tuple(outcomes), before, judge.found, number + 1, ended)


def _rounds(
    judge: Judge, suggester: Suggester, rounds: int, seed: int, until: float, outcomes: Sequence[Outcome]
) -> Iterator[tuple[Outcome, int]]:
    """Each outcome with the number of its round; `outcomes` are those so far."""
    for number in range(rounds):
        silent = True
        for batch in suggester.suggest(task(judge, number, outcomes, seed)):
            silent = False
            yield from ((o, number) for o in judge.judged(rule_texts(batch.text), batch, until))
            if time.monotonic() > until:
                return
        if silent:
            return
        yield from ((o, number) for o in judge.together(outcomes))


def task(judge: Judge, number: int, outcomes: Sequence[Outcome], seed: int) -> Task:
    """What a round is shown: what was tried in this setting, ever, and a sample of the best of any setting."""
    known = (*judge.rules, *judge.kept)
    tried = tuple(dict.fromkeys((*judge.database.outcomes(judge.setting), *outcomes)))
    best = sampled([o for o in (*outcomes, *judge.database.best()) if _licensed(o, judge.flags)], SAMPLED, seed + number)
    return Task(judge.found, known, judge.flags, number, tried, best, seed)


def _licensed(o: Outcome, licence: Flags) -> bool:
    """Whether a rule that was kept, perhaps for another user's flags, may be shown here."""
    try:
        return o.fate is Fate.KEPT and one_rule(o.admitted).needs <= licence
    except KernelError:  # of a version of the language that is no more
        return False


def sampled(outcomes: Sequence[Outcome], count: int, seed: int) -> tuple[Outcome, ...]:
    """Some of the kept rules, the better the likelier (rank by rank half as likely), in the order of their gains.

    As in evolutionary program search (Romera-Paredes et al. 2024, FunSearch): always the best alone would end in one corner.
    """
    pool = sorted({o.admitted: o for o in outcomes if o.fate is Fate.KEPT}.values(), key=lambda o: (-o.best, o.admitted))
    draw = random.Random(seed)
    chosen: list[int] = []
    left = list(range(len(pool)))
    while left and len(chosen) < count:
        pick = draw.choices(left, [2.0 ** -min(position, 60) for position in range(len(left))])[0]
        left.remove(pick)
        chosen.append(pick)
    return tuple(pool[n] for n in sorted(chosen))

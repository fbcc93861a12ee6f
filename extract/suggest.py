"""What suggests rules and what judges them agree on: a task goes in, batches of rule text come back, each suggestion meets a fate."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from kernel_ir.fastmath import Flags
from kernel_ir.nodes import Kernel
from rewrites.rule import Rule


class Fate(Enum):
    """What became of a suggestion; the value is how a report says it."""

    REFUSED = "refused"  # too large, or it does not parse or type
    UNLICENSED = "needs a flag that is off"
    KNOWN = "known"  # the rules of the book derive it, and no kernel gets cheaper with it besides
    REFUTED = "refuted"  # with a counterexample
    UNPROVED = "not proved"  # no counterexample and no proof, or none in time
    NO_GAIN = "no gain"  # certified, but no kernel gets cheaper
    KEPT = "kept"

    @property
    def certified(self) -> bool:
        """Whether the prover admitted the rule."""
        return self in (Fate.NO_GAIN, Fate.KEPT)


@dataclass(frozen=True, slots=True)
class Gain:
    """What one rule is worth to one kernel: its predicted cycles, or measured seconds, before and after."""

    kernel: str
    before: float
    after: float
    unit: str = "cycles"

    @property
    def ratio(self) -> float:
        return self.before / self.after if self.after else 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One suggestion and its fate.

    `suggested` is the text of the rule as it came, `admitted` of the rule as certified (with the guards and flags that it was found to
    need, generalised). `why` is the error or the counterexample, for the suggester to learn from.
    """

    name: str
    suggested: str
    fate: Fate
    why: str = ""
    admitted: str = ""
    method: str = ""
    gains: tuple[Gain, ...] = ()
    source: str = ""
    prompt: str = ""

    @property
    def best(self) -> float:
        """The largest of the gains, 1 where there is none."""
        return max((g.ratio for g in self.gains), default=1.0)


@dataclass(frozen=True, slots=True)
class Found:
    """What the optimizer makes of a kernel: the result's text, cycles before and after, rules, where the cycles go, and near-misses.

    `spent` says so unit by unit, most first; `nearest` are other kernels considered, with their cycles, cheapest first; `fired` names every
    rule that matched, `rules` those that made the result.
    """

    kernel: Kernel
    text: str
    baseline: float
    cycles: float
    rules: tuple[str, ...]
    spent: tuple[str, ...] = ()
    nearest: tuple[tuple[float, str], ...] = ()
    stop: str = ""
    fired: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Optimizer(Protocol):
    """Optimizes a kernel with rules besides the book's own (the face gives it: `extract` does not know the face)."""

    def __call__(self, kernel: Kernel, extra: tuple[Rule, ...]) -> Found: ...


class Clock(Protocol):
    """Measures a kernel optimized with one list of rules and with another (seconds a call, in one run), where gains are to be real."""

    def __call__(self, kernel: Kernel, before: tuple[Rule, ...], after: tuple[Rule, ...]) -> tuple[float, float]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """What a suggester is shown in a round: the kernels as optimized so far, the rules there are, the flags that are on, what was tried."""

    found: tuple[Found, ...]
    rules: tuple[Rule, ...]
    flags: Flags
    round: int
    tried: tuple[Outcome, ...] = ()
    best: tuple[Outcome, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rules as text, untrusted; `source` says who suggests them (a model's name, "enumeration"), `prompt` is the hash of what was asked.

    `general`: they are as general as they get, and nobody need look for a wider form.
    """

    text: str
    source: str
    prompt: str = ""
    general: bool = False


class Suggester(Protocol):
    """Proposes rules: a language model, the enumerative synthesiser, a recording."""

    def suggest(self, task: Task) -> Iterator[Batch]:
        """Batches of rule text for this round; no batch means that there is nothing more to propose."""
        ...

"""What a proof found: the outcome of one method on one rule, and the verdict on the rule as a whole."""

import time
from dataclasses import dataclass
from typing import Final, Literal

from kernel_ir.errors import UsageError
from kernel_ir.fastmath import Flag

CHECKER: Final = 2
"""The checker's version: raise it when it comes to refuse what it accepted, and every certificate is void."""
FUNCTIONS_CHECKER: Final = 3
"""Its version for rules with functions, fma or a stated error: raise it alone where only these are concerned."""

EXCLUSIONS: Final = frozenset((Flag.NNAN, Flag.NINF, Flag.NSZ))
"""Flags that rule out values, and license no algebra."""

Status = Literal["proved", "refuted", "unknown"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`method` by which and `domain` over which it was proved; `why`: the counterexample, or what is missing. `weight` counts the work."""

    status: Status
    method: str = ""
    domain: str = ""
    why: str = ""
    weight: int = 0

    @property
    def proved(self) -> bool:
        return self.status == "proved"

    @property
    def refuted(self) -> bool:
        return self.status == "refuted"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker found about a rule.

    `why` tells where the sides differ, or what could not be proved, if it does not hold. `spare` lists flags, and `spare_guards` guards
    (as text), that the rule declares but can be proved without; `open_guards` those of which neither need nor spareness was shown.
    """

    rule: str
    holds: bool
    method: str
    domain: str
    why: str = ""
    spare: frozenset[Flag] = frozenset()
    spare_guards: tuple[str, ...] = ()
    open_guards: tuple[str, ...] = ()
    refuted: bool = False
    """Whether `why` is a counterexample."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop, in CPU seconds of this thread, so that a busy machine does not change a verdict.

    A safety net: every method is bounded by counts of its own.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        if not seconds > 0:
            raise UsageError(f"a proof needs time: seconds is {seconds!r}")
        return cls(time.thread_time() + seconds)

    @property
    def left(self) -> float:
        """Seconds left, 0 at least."""
        return max(0.0, self.at - time.thread_time())

    @property
    def milliseconds(self) -> int:
        """The same for z3, which reads a clock: with room for a busy machine."""
        return max(1, int(self.left * 4000))

    @property
    def passed(self) -> bool:
        return self.left == 0.0

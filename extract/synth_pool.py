"""Turns a function and many inputs into results, on all cores or in this process: limited and counted in CPU seconds, not by the clock.

So a busy machine changes nothing in what is found.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from extract.suggest_pool import Pool, cores

T = TypeVar("T")
R = TypeVar("R")
PATIENCE: Final = 20
"""Seconds by the clock that one of CPU time may take."""


@dataclass(slots=True)
class Counted:
    """A pool, or none, whose calls are counted from now on."""

    pool: Pool | None = None
    workers: float = 0.0
    """CPU seconds of the other processes."""
    _started: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        """What the work takes on a machine with nothing else to do: CPU seconds of this process, and of the others a core's share."""
        return time.process_time() - self._started + self.workers / cores()

    def map(self, function: Callable[[T], R], items: Sequence[T], seconds: float) -> Iterator[R | None]:
        """The result of each item, in order; None where a call in another process took more CPU seconds than this, or failed."""
        if self.pool is None:
            yield from map(function, items)
            return
        for answer in self.pool.map(partial(_limited, seconds, function), items, seconds * PATIENCE):
            value, took = (None, seconds) if answer is None else answer
            self.workers += took
            yield value


def _limited(seconds: float, function: Callable[[T], R], item: T) -> tuple[R, float]:
    """The result and its CPU seconds; a process that takes more ends."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    started = time.process_time()
    return function(item), time.process_time() - started

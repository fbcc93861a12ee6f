"""Turns callables into fair timings: all in one run, alternating, so that a slow moment of the machine hits each alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

WARM_UPS: Final = 2
"""Calls of each before the clock starts: compilation, page faults, thread pools."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each timed call of one contender, in order."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """The lower quartile (the least, of fewer than four)."""
        return sorted(self.seconds)[len(self.seconds) // 4]

    @property
    def high(self) -> float:
        """The upper quartile (the greatest, of fewer than four)."""
        return sorted(self.seconds)[-1 - len(self.seconds) // 4]

    def ratio(self, other: "Timing") -> float:
        """How many times as long the other takes: the median of the ratios round by round."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def alternating(
    calls: Mapping[str, Callable[[], object]], rounds: int = 15, seconds: float = 5.0, between: Callable[[], object] | None = None
) -> dict[str, Timing]:
    """Times each call once a round, in turn, for `rounds` rounds or about `seconds` of calls in all (three rounds at least).

    Every second round runs in reverse order, so that no contender always follows the same other one through the caches. `between`: what
    lets the threads of the contender before come to rest; those of the next are then woken by a call off the clock.
    """
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        if number >= 3 and sum(map(sum, times.values())) > seconds:
            break
        for name in calls if number % 2 == 0 else reversed(list(calls)):
            if between is not None:
                between()
                calls[name]()
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    return {name: Timing(name, tuple(values)) for name, values in times.items()}


def readable(seconds: float) -> str:
    """
    >>> readable(0.00123), readable(2.5), readable(4.2e-6)
    ('1.23 ms', '2.50 s', '4.20 µs')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds >= 100 * scale else f"{seconds / scale:.2f} {unit}"
    return f"{seconds * 1e9:.0f} ns"

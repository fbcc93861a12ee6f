"""What a launch or a whole plan is predicted to cost: cycles, and where they go."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cost:
    """Predicted cycles of one call, and where they go: cycles by unit (of all cores together on a CPU), bytes by memory level, cycles of
    starting launches; `parts`: cycles of what runs at the same time, of which the longest bounds each launch."""

    cycles: float
    arithmetic: Mapping[str, float] = field(default_factory=dict[str, float])
    bytes: Mapping[str, float] = field(default_factory=dict[str, float])
    overhead: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def bound(self) -> str:
        """The part that takes longest, starting launches included."""
        every = {**self.parts, "starting launches": self.overhead}
        return max(every, key=lambda name: every[name])

    def times(self, n: float) -> "Cost":
        """The cost of doing it n times."""
        return Cost(
            self.cycles * n,
            {k: v * n for k, v in self.arithmetic.items()},
            {k: v * n for k, v in self.bytes.items()},
            self.overhead * n,
            {k: v * n for k, v in self.parts.items()},
        )

    def plus(self, other: "Cost") -> "Cost":
        """The cost of one after the other."""
        return Cost(
            self.cycles + other.cycles,
            _added(self.arithmetic, other.arithmetic),
            _added(self.bytes, other.bytes),
            self.overhead + other.overhead,
            _added(self.parts, other.parts),
        )


def _added(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    return {key: a.get(key, 0.0) + b.get(key, 0.0) for key in dict.fromkeys((*a, *b))}

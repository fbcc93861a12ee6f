"""Turns a plan into predicted cycles: for each launch the slower of its arithmetic and its memory traffic, plus what starting it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from extract.machine import Machine
from kernel_ir.plan import Launch, Plan, RepeatLaunch, Step


@dataclass(frozen=True, slots=True)
class Cost:
    """Predicted cycles of one call, and where they go: cycles by unit, bytes by memory level, cycles of starting launches."""

    cycles: float
    arithmetic: Mapping[str, float] = field(default_factory=dict[str, float])
    bytes: Mapping[str, float] = field(default_factory=dict[str, float])
    overhead: float = 0.0

    def times(self, n: float) -> "Cost":
        """The cost of doing it n times."""
        return Cost(
            self.cycles * n, {k: v * n for k, v in self.arithmetic.items()}, {k: v * n for k, v in self.bytes.items()}, self.overhead * n
        )

    def plus(self, other: "Cost") -> "Cost":
        """The cost of one after the other."""
        return Cost(
            self.cycles + other.cycles,
            _added(self.arithmetic, other.arithmetic),
            _added(self.bytes, other.bytes),
            self.overhead + other.overhead,
        )


LaunchCost = Callable[[Launch, Plan, Machine, Mapping[str, int]], Cost]


def cost(plan: Plan, machine: Machine, sizes: Mapping[str, int] | None = None) -> Cost:
    """The predicted cost of one call of `plan` on `machine`; a size that is not given counts as 1024."""
    if machine.kind == "gpu":
        from extract.cost_cuda import launch_cost
    else:
        from extract.cost_cpu import launch_cost
    return _steps(plan.steps, plan, machine, dict(sizes or {}), launch_cost)


def _steps(steps: tuple[Step, ...], plan: Plan, machine: Machine, sizes: Mapping[str, int], launch_cost: LaunchCost) -> Cost:
    from extract.sizes import number

    total = Cost(0.0)
    for step in steps:
        if isinstance(step, RepeatLaunch):
            rounds = max(0, number(step.steps, sizes))
            total = total.plus(_steps(step.body, plan, machine, sizes, launch_cost).times(rounds))
        else:
            total = total.plus(launch_cost(step, plan, machine, sizes))
    return total


def _added(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    return {key: a.get(key, 0.0) + b.get(key, 0.0) for key in dict.fromkeys((*a, *b))}

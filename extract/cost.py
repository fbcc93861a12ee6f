"""Turns a plan into predicted cycles: for each launch the slower of its arithmetic and its memory traffic, plus what starting it costs."""

from collections.abc import Callable, Mapping

from extract.cycles import Cost
from extract.machine import Machine
from extract.sizes import number
from kernel_ir.plan import Launch, Plan, RepeatLaunch, Step

LaunchCost = Callable[[Launch, Plan, Machine, Mapping[str, int]], Cost]


def cost(plan: Plan, machine: Machine, sizes: Mapping[str, int] | None = None) -> Cost:
    """The predicted cost of one call of `plan` on `machine`; a size that is not given counts as 1024."""
    extents = dict(sizes or {})
    if machine.kind == "gpu":
        from extract.cost_cuda import launch_cost

        return _steps(plan.steps, plan, machine, extents, launch_cost)
    from extract.cost_cpu import entry_cost, handoff_cost, launch_cost

    around = entry_cost(plan, machine, extents).plus(handoff_cost(plan, machine, extents))
    return around.plus(_steps(plan.steps, plan, machine, extents, launch_cost))


def _steps(steps: tuple[Step, ...], plan: Plan, machine: Machine, sizes: Mapping[str, int], launch_cost: LaunchCost) -> Cost:
    total = Cost(0.0)
    for step in steps:
        if isinstance(step, RepeatLaunch):
            rounds = max(0, number(step.steps, sizes))
            total = total.plus(_steps(step.body, plan, machine, sizes, launch_cost).times(rounds))
        else:
            total = total.plus(launch_cost(step, plan, machine, sizes))
    return total

"""Turns a plan into predicted cycles: for each launch the slower of its arithmetic and its memory traffic, plus what starting it costs."""

from collections.abc import Callable, Mapping

from extract.cycles import Cost
from extract.machine import Machine
from extract.sizes import number
from extract.sweeps import Sweeps, swept
from kernel_ir.plan import Launch, Plan, RepeatLaunch, Step

SweptCost = Callable[[Sweeps, int, Plan, Machine, Mapping[str, int]], Cost]
LaunchCost = Callable[[Launch, Plan, Machine, Mapping[str, int]], Cost]


def cost(plan: Plan, machine: Machine, sizes: Mapping[str, int] | None = None) -> Cost:
    """The predicted cost of one call of `plan` on `machine`; a size that is not given counts as 1024."""
    extents = dict(sizes or {})
    if machine.kind == "gpu":
        from extract.cost_cuda import launch_cost

        return _steps(plan.steps, plan, machine, extents, launch_cost)
    from extract.cost_cpu import entry_cost, handoff_cost, launch_cost, swept_cost

    around = entry_cost(plan, machine, extents).plus(handoff_cost(plan, machine, extents))
    return around.plus(_steps(plan.steps, plan, machine, extents, launch_cost, swept_cost))


def _steps(
    steps: tuple[Step, ...],
    plan: Plan,
    machine: Machine,
    sizes: Mapping[str, int],
    launch_cost: LaunchCost,
    swept_cost: SweptCost | None = None,
) -> Cost:
    """`swept_cost`: of a pair of sweeps done so many times, where the backend does several in one pass over memory."""
    total = Cost(0.0)
    buffers = {b.name: b for b in plan.buffers}
    done: Step | None = None
    for step, after in zip(steps, (*steps[1:], None), strict=True):
        if step is done:
            continue
        repeat = isinstance(step, RepeatLaunch)
        rounds = max(0, number(step.steps, sizes)) if repeat else 1
        pair = step.body if repeat else (step,) if after is None else (step, after)
        both = swept(pair, buffers, step.index if repeat else None) if swept_cost is not None else None
        if both is not None and swept_cost is not None:
            total = total.plus(swept_cost(both, rounds, plan, machine, sizes))
            done = None if repeat else after
        elif repeat:
            total = total.plus(_steps(step.body, plan, machine, sizes, launch_cost, swept_cost).times(rounds))
        else:
            total = total.plus(launch_cost(step, plan, machine, sizes))
    return total

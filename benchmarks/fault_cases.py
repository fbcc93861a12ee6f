"""Turns the public kernels into what faults are seeded in: a schedule of each kind, and sizes that make its own launches run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import kernel_ir as kir
from backends.cuda_lines import grid_of
from extract.schedule_cuda import cuda_plans
from kernel_ir.nodes import Kernel, SizeRef
from kernel_ir.plan import Launch, LoopKind, Plan, RepeatLaunch, Step
from kernel_ir.walk import subtrees

KERNELS = Path(__file__).resolve().parent.parent / "examples" / "kernels"
EXTENT = 37
"""The extent of every size: more than a warp, no multiple of one, and different rows differ."""
FITTING = 40
"""The extent where a launch asks for multiples of a few elements."""
FEW, MANY = 5, 2100
"""The extents of a target that blocks have copies of, and of what they accumulate into it."""
SHORT, WORK = 8, 2e6
"""The extent that sizes fall to, first ones first, where the product of all is greater than that."""


def cases(names: list[str]) -> Iterator[tuple[Kernel, list[Plan]]]:
    """Each kernel with a schedule of each kind: by thread, warp or block, plain or wide, staged, tiled, private copies, split."""
    for path in sorted(KERNELS.glob("*.kir")):
        for kernel in kir.parse_file(path).values():
            if not names or kernel.name in names:
                plans = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64))
                long = cuda_plans(kernel, "cuda-on-cpu", {size: 8 if n == 0 else 4096 for n, size in enumerate(kernel.sizes)})
                parts = [p for p in long if ("parts", "64") in p.schedule][:1]
                yield kernel, [*_of_each_kind(plans), *parts]


def _of_each_kind(plans: tuple[Plan, ...]) -> list[Plan]:
    """The first plan of each kind of launch, the wide ones of each width, by blocks where there are blocks."""
    kinds: dict[tuple[Any, ...], Plan] = {}
    for plan in plans:
        made = dict(plan.schedule)
        tiled = made["products"] != "plain"
        teams = frozenset(grid_of(launch).kind for launch in launches(plan.steps))
        if made["fusion"] != "most" and not tiled:
            continue
        extra = plan.schedule[3:]
        if extra and (LoopKind.BLOCK not in teams and any(LoopKind.BLOCK in key[2] for key in kinds)):
            continue  # rows by warps: the same code but for the barrier
        kinds.setdefault((tiled, extra, teams), plan)
    return list(kinds.values())


def extents(plan: Plan) -> dict[str, int]:
    """Extents that make the plan's own launches run, not those that stand in for them, and give every block of a private copy work."""
    sizes = dict.fromkeys(plan.kernel.sizes, EXTENT)
    for launch in launches(plan.steps):
        if launch.guard is not None and launch.guard.multiples:
            sizes |= dict.fromkeys(sizes, FITTING)
        elif launch.guard is not None and launch.guard.at_most:
            few = {x.name for e, _ in launch.guard.at_most for x in subtrees(e) if isinstance(x, SizeRef)}
            sizes = {name: FEW if name in few else MANY for name in sizes}
    for name in plan.kernel.sizes:  # the first ones give way where all together are too much work
        if np.prod(list(sizes.values()), dtype=np.float64) > WORK:
            sizes[name] = SHORT
    return sizes


def launches(steps: tuple[Step, ...]) -> Iterator[Launch]:
    """Every launch of a plan, those of repeated steps once."""
    for step in steps:
        yield from launches(step.body) if isinstance(step, RepeatLaunch) else (step,)

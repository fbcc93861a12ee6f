"""Turns the public kernels into what faults are seeded in: a schedule of each kind, and sizes that make its own launches run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

import kernel_ir as kir
from backends.cuda_lines import grid_of
from extract.fuse import walk
from extract.schedule_cuda import cuda_plans
from kernel_ir.nodes import Kernel, SizeRef
from kernel_ir.plan import Launch, LoopKind, Plan, RepeatLaunch, RowTile, Step
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


ROWS: Final = {"rows": 70, "columns": 70, "terms": EXTENT, "reduction": EXTENT}
"""Extents around a tile of rows: two blocks of rows and of columns, two steps of terms; BATCH of everything else."""
BATCH: Final = 2
ONE_PASS: Final = """
kernel attention_one_pass(q: f32[H, M, K], k: f32[H, N, K], v: f32[H, N, D], scale: f32) -> (o: f32[H, M, D]) where N >= 1 {
  s[h, i, j] = scale * sum(c: q[h, i, c] * k[h, j, c])
  z[h, i]    = expsum(j: s[h, i, j], 1.0)
  o[h, i, d] = expsum(j: s[h, i, j], v[h, j, d]) / z[h, i]
}
kernel causal_one_pass(q: f32[H, N, K], k: f32[H, N, K], v: f32[H, N, D], scale: f32) -> (o: f32[H, N, D]) {
  s[h, i, j] = scale * sum(c: q[h, i, c] * k[h, j, c]) for j in 0..i+1
  z[h, i]    = expsum(j in 0..i+1: s[h, i, j], 1.0)
  o[h, i, d] = expsum(j in 0..i+1: s[h, i, j], v[h, j, d]) / z[h, i]
}
"""
"""What the rules make of the two public kernels, which go over their terms three times as they are written."""


def cases(names: list[str]) -> Iterator[tuple[Kernel, list[Plan]]]:
    """Each kernel with a schedule of each kind: by thread, warp or block, plain or wide, staged, tiled, private copies, split."""
    for module in (*(kir.parse_file(path) for path in sorted(KERNELS.glob("*.kir"))), kir.parse(ONE_PASS)):
        for kernel in module.values():
            if not names or kernel.name in names:
                plans = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64))
                broad = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 128)) if any(map(_row_tile, plans)) else ()
                plans = tuple(p for p in broad if _row_tile(p) is not None) or plans
                long = cuda_plans(kernel, "cuda-on-cpu", {size: 8 if n == 0 else 4096 for n, size in enumerate(kernel.sizes)})
                parts = [p for p in long if ("parts", "64") in p.schedule][:1]
                yield kernel, [*_of_each_kind(plans), *parts]


def _of_each_kind(plans: tuple[Plan, ...]) -> list[Plan]:
    """The first plan of each kind of launch, the wide ones of each width, by blocks where there are blocks."""
    kinds: dict[tuple[Any, ...], Plan] = {}
    for plan in plans:
        made = dict(plan.schedule)
        by_rows = _row_tile(plan)
        tiled = made["products"] != "plain" if by_rows is None else ("rows", by_rows.kept, by_rows.ahead)
        teams = frozenset(grid_of(launch).kind for launch in launches(plan.steps))
        extra = plan.schedule[3:]
        if (made["fusion"] != "most" and not tiled) or (by_rows is not None and by_rows.wide and not by_rows.ahead):
            continue
        if extra and (LoopKind.BLOCK not in teams and any(LoopKind.BLOCK in key[2] for key in kinds)):
            continue  # rows by warps: the same code but for the barrier
        kinds.setdefault((tiled, extra, teams), plan)
    return list(kinds.values())


def _row_tile(plan: Plan) -> RowTile | None:
    return next((n for launch in launches(plan.steps) for n in walk(launch.body) if isinstance(n, RowTile)), None)


def extents(plan: Plan) -> dict[str, int]:
    """Extents that make the plan's own launches run, not those that stand in for them, and give every block of a private copy work."""
    tile = _row_tile(plan)
    if tile is not None:
        loops = {name: getattr(tile, name) for name in ("reduction", "terms", "columns", "rows")}
        ends = {name: b.hi for name, b in loops.items() if b is not None}
        sizes = dict.fromkeys(plan.kernel.sizes, BATCH) | {end.name: ROWS[name] for name, end in ends.items() if isinstance(end, SizeRef)}
        asked = {e.name: n for launch in launches(plan.steps) if launch.guard for e, n in launch.guard.multiples if isinstance(e, SizeRef)}
        return {name: -(-n // asked.get(name, 1)) * asked.get(name, 1) for name, n in sizes.items()}
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

"""Turns a plan and its cost into the time that no schedule can beat: each array moved once, its arithmetic at the full rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from extract.cycles import Cost
from extract.machine import Machine
from extract.sizes import number
from kernel_ir.ops import Unit
from kernel_ir.plan import Plan


@dataclass(frozen=True, slots=True)
class Floor:
    """Bytes of the arguments and results, the level that holds them, the cycles to move them once, those of the arithmetic alone."""

    bytes: float
    level: str
    moving: float
    arithmetic: float

    @property
    def cycles(self) -> float:
        return max(self.moving, self.arithmetic)


def floor(plan: Plan, cost: Cost, machine: Machine, sizes: Mapping[str, int]) -> Floor:
    """The floor of a plan: bytes over bandwidth, operations (those that the plan does) over their rate with all cores busy."""
    read = sum(_bytes(plan, p.name, sizes) for p in plan.kernel.params)
    written = sum(_bytes(plan, p.name, sizes) for p in (*plan.kernel.outputs, *(p for p in plan.kernel.params if p.inout)))
    last = len(machine.levels) - 1
    shared = machine.kind == "gpu"  # a GPU's bandwidths are those of one multiprocessor
    at = next((n for n, level in enumerate(machine.levels) if n and read + written <= level.bytes), last)
    level = machine.levels[at]
    storing = min(level.cycles(0.0, written), level.cycles(0.0, 0.0, past=written))
    moving = (level.cycles(read, 0.0) + storing) / (machine.units if shared or at < last else 1)
    units = {unit.name for unit in Unit}
    work = sum(cycles for name, cycles in cost.arithmetic.items() if name in units)
    return Floor(read + written, level.name, moving, work if shared else work / machine.units)


def _bytes(plan: Plan, name: str, sizes: Mapping[str, int]) -> float:
    """The bytes of an array, 0 of a scalar."""
    for b in plan.buffers:
        if b.name == name and b.shape:
            return b.dtype.itemsize * prod(float(max(0, number(n, sizes))) for n in b.shape)
    return 0.0

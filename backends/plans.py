"""Turns a kernel into the plans that a target's scheduler proposes for it."""

from collections.abc import Mapping
from dataclasses import replace

from backends.target import Target
from extract.machine import Machine
from kernel_ir.fastmath import Flags
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan


def plans(kernel: Kernel, place: Target, machine: Machine, sizes: Mapping[str, int], licence: Flags) -> tuple[Plan, ...]:
    """Every plan worth costing, in a fixed order. NumPy has no schedule of its own: it is costed as the CPU's loops."""
    if place.backend in ("cpu", "numpy"):
        from extract import schedule_cpu

        return schedule_cpu.plans(kernel, machine, sizes, licence)
    from extract.schedule_cuda import cuda_plans

    flags = frozenset(map(str, licence))
    return tuple(replace(plan, fast_math=flags) for plan in cuda_plans(kernel, place.name, sizes))

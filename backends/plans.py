"""Turns a kernel into the plans that a target's scheduler proposes for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from backends.target import Target
from extract.machine import Machine
from kernel_ir.fastmath import Flags
from kernel_ir.layout import Layout, Layouts, rows_of
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan


def plans(
    kernel: Kernel,
    place: Target,
    machine: Machine,
    sizes: Mapping[str, int],
    licence: Flags,
    layouts: Sequence[Layouts] = (),
    every: bool = False,
    named: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> tuple[Plan, ...]:
    """Every plan worth costing, in a fixed order. NumPy has no schedule of its own: it is costed as the CPU's loops.

    `layouts`: how arrays lie, each of these ways in turn (C order, where there is none). `every`: whether plans that do not pay at these
    sizes are among them, for a schedule that may have been made for others; `named`: its choices.
    """
    if place.backend in ("cpu", "numpy"):
        from extract import schedule_cpu

        return schedule_cpu.plans(kernel, machine, sizes, licence, layouts, every, named)
    from extract.schedule_cuda import cuda_plans

    flags = frozenset(map(str, licence))
    ways = layouts or (rows_of(kernel),)
    return tuple(replace(plan, fast_math=flags) for laid in ways for plan in cuda_plans(kernel, place.name, sizes, laid, every))


def layouts(
    kernel: Kernel,
    place: Target,
    machine: Machine,
    sizes: Mapping[str, int],
    packed: frozenset[str],
    pinned: Mapping[str, Layout],
    temporaries: bool,
) -> tuple[Layouts, ...]:
    """How the arrays that may lie anyhow may lie, the most promising ways first. NumPy takes them as they are, in C order."""
    from extract.layouts import searched, searched_cuda

    if place.backend == "numpy":
        return (rows_of(kernel),)
    if place.backend != "cpu":
        return searched_cuda(kernel, place.name, machine, sizes, packed, pinned)
    return searched(kernel, machine, sizes, packed, pinned, temporaries)

"""Turns rows that are read from memory and then computed on again into rows whose successor is on its way meanwhile.

A kernel that goes over a row more than once waits for memory in its first loop and for its arithmetic in a later one; a core does both
at a time only within some hundred instructions. So the later loop goes in pieces, and asks, piece by piece, for the lines of the next
row. (Whole rows at once would fill the buffers for lines on their way, of which Zen 4 has 24 before its second-level cache.)
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from extract.blocks import cut
from extract.fuse import Nodes, effects, expressions_of, walk
from extract.machine import Machine
from extract.names import Names
from extract.sizes import extent_of, number
from extract.stream import PIECE, SHORT, Far, names_of
from extract.strides import Stride, coefficient, stride
from kernel_ir.nodes import Binder, Call, Load
from kernel_ir.ops import OPS, SLOW
from kernel_ir.plan import Alloc, Buffer, Loop, LoopKind, Plan, Prefetch, RepeatLaunch, Step
from kernel_ir.walk import free, subtrees

CHOICE: Final = ("reads", "row ahead")


Sizes = Mapping[str, int] | None


def row_ahead(plan: Plan, machine: Machine, sizes: Sizes, far: Far) -> Plan | None:
    """The plan whose rows are asked for one ahead; None where no launch goes over a row of an array that is `far` again, computing, or the
    rows are too short or too long. Without `sizes`, no row is."""
    if plan.target != "cpu" or not any(map(far, plan.buffers)):
        return None
    buffers, names = {b.name: b for b in plan.buffers}, Names(names_of(plan))
    room = machine.levels[1].bytes // 2  # this row and the next in the second-level cache
    steps = tuple(_step(step, buffers, names, sizes, far, room) for step in plan.steps)
    return None if steps == plan.steps else replace(plan, steps=steps, schedule=(*plan.schedule, CHOICE))


def _step(step: Step, buffers: Mapping[str, Buffer], names: Names, sizes: Sizes, far: Far, room: int) -> Step:
    if isinstance(step, RepeatLaunch):
        return step
    stored = {array for array, _ in effects(step.body).stores}
    able = {name: b for name, b in buffers.items() if name not in stored and far(b)}

    def inside(nodes: Nodes) -> Nodes:
        work = [n for n in nodes if not isinstance(n, Alloc)]
        match work:
            case [Loop(kind=LoopKind.PARALLEL, step=1) as loop]:
                deeper = inside(loop.body)
                body = deeper if deeper != loop.body else _row(loop, able, names, sizes, room)
                return tuple(replace(loop, body=body) if n is loop else n for n in nodes)
            case _:
                return nodes

    return replace(step, body=inside(step.body))


def _row(row: Loop, able: Mapping[str, Buffer], names: Names, sizes: Sizes, room: int) -> Nodes:
    """The body of a loop over rows, with the lines of the next row asked for in its longest loop but the first."""
    loops = [n for n in row.body if isinstance(n, Loop) and n.step == 1 and not free(n.hi) & {row.index}]
    if len(loops) < 2:
        return row.body
    first, *later = loops
    loads = _read(first, row, able)
    alike = [loop for loop in later if (loop.lo, loop.hi) == (first.lo, first.hi) and _functions(loop)]
    if not loads or not alike:
        return row.body
    if sizes is not None:
        extent = extent_of(Binder(first.index, first.lo, first.hi), sizes)
        bytes_ = sum(extent * able[load.array].dtype.itemsize for load in loads)
        if not SHORT * PIECE <= bytes_ <= room or number(row.hi, sizes) - number(row.lo, sizes) < 2:
            return row.body
    longest = max(alike, key=_functions)
    length = PIECE // max(able[load.array].dtype.itemsize for load in loads)
    block, piece, _ = cut(Binder(longest.index, longest.lo, longest.hi), length, names)
    following = Binder(row.index, row.lo, row.hi)
    asked = tuple(Prefetch(load, Binder(first.index, piece.lo, piece.hi), following) for load in loads)
    pieces = Loop(block.index, block.lo, block.hi, LoopKind.SERIAL, (*asked, replace(longest, lo=piece.lo, hi=piece.hi)))
    return tuple(pieces if n is longest else n for n in row.body)


def _read(loop: Loop, row: Loop, able: Mapping[str, Buffer]) -> list[Load]:
    """What a loop reads of arrays along memory, one stretch of each row of the loop around, and one load of each array."""
    found: dict[str, Load] = {}
    inside = effects(row.body).defines | {n.index for n in walk(row.body) if isinstance(n, Loop)} - {loop.index}
    for node in walk(loop.body):
        for load in (x for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Load) and x.array in able):
            names = {name for i in load.indices for name in free(i)}
            rows = [coefficient(i, row.index) for i in load.indices]
            along = stride(load.array, load.indices, loop.index, {load.array: able[load.array].order})
            if along is Stride.UNIT and row.index in names and None not in rows and not names & inside:
                found.setdefault(load.array, load)
    return list(found.values())


def _functions(loop: Loop) -> int:
    """Functions and divisions of a turn of an innermost loop, which give memory time to work meanwhile; of other loops none."""
    if any(isinstance(n, Loop) for n in loop.body):
        return 0
    calls = (x for node in walk(loop.body) for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Call))
    return sum(OPS[x.op].unit in SLOW for x in calls)

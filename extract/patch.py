"""Turns launches of stencils into ones that do a patch of several rows at once in vector registers, where neighbours share what they read.

A patch of 2 x 2 rows of a cube, along which vectors move, reads 12 rows for what would take 20 loads, and what one row reads at several
places is loaded once and shifted:   a[i, j, k - 1], a[i, j, k], a[i, j, k + 1]   are lanes of two vectors, one of them known already.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Final

from extract.fuse import Nodes
from extract.machine import Machine
from extract.reductions import simplified
from extract.sizes import number
from extract.strides import Stride, coefficient, stride
from extract.tile import OPS
from kernel_ir.dtypes import F32, F64, I64, DType
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, const
from kernel_ir.plan import Buffer, Launch, Let, Loop, LoopKind, Plan, RepeatLaunch, Step, Store
from kernel_ir.walk import free, substitute, subtrees

CHOICE: Final = ("stencils", "patches in registers")
LANED: Final = OPS | {"div"}
"""What a value may compute: one instruction a vector."""
HEIGHTS: Final = (1, 2, 4)
VECTORS: Final = 4
"""Vectors of a patch, at most: enough for their chains to hide each other's latency."""
OTHERS: Final = 8
"""Registers for values on their way, and constants."""
WORTH: Final = 0.7
"""Share of the loads and stores of points alone, at most: LLVM's own loops are as good where patches save less."""
LONG: Final = 4
"""Vectors of a row, at least: the last one or two of it are loaded place by place."""

Place = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops around points that do not depend on each other, whose stores move along memory with `columns`."""

    rows: tuple[Loop, ...]
    columns: Loop
    stores: tuple[Store, ...]

    @property
    def dtype(self) -> DType:
        return self.stores[0].value.dtype


@dataclass(frozen=True, slots=True)
class Line:
    """A row of an array, along which vectors are read: its indices in memory order, the last without its constant."""

    array: str
    place: Place


def patched(plan: Plan, machine: Machine, sizes: Mapping[str, int], every: bool = False) -> Plan | None:
    """The plan with its stencils in patches; None where it has none, or only short rows at these sizes (unless `every`)."""
    if machine.extra.get("vector_registers", 0) < 32:
        return None  # shifts of whole vectors, and room for patches, came with AVX-512
    buffers = {b.name: b for b in plan.buffers}

    def visit(step: Step) -> Step:
        if isinstance(step, RepeatLaunch):
            return replace(step, body=tuple(map(visit, step.body)))
        nest = nest_of(step, buffers)
        if nest is None:
            return step
        lanes = int(machine.extra["tile_bits"]) // nest.dtype.bits
        if not every and not _long(nest, lanes, machine, sizes):
            return step
        heights = _heights(nest, buffers, lanes, int(machine.extra["vector_registers"]))
        return step if heights is None else replace(step, patch=(*heights, lanes))

    steps = tuple(map(visit, plan.steps))
    return None if steps == plan.steps else replace(plan, steps=steps, schedule=(*plan.schedule, CHOICE))


def nest_of(launch: Launch, buffers: Mapping[str, Buffer]) -> Nest | None:
    """The launch as a nest of loops over independent points; None where it is not seen to be one."""
    loops: list[Loop] = []
    nodes: Nodes = launch.body
    while len(nodes) == 1 and isinstance(nodes[0], Loop) and nodes[0].step == 1:
        loops.append(nodes[0])
        nodes = nodes[0].body
    if len(loops) < 2 or loops[0].kind is not LoopKind.PARALLEL or launch.deal != "block":
        return None
    indices = [loop.index for loop in loops]
    if any((free(loop.lo) | free(loop.hi)) & {*indices} or _reads(loop.lo) or _reads(loop.hi) for loop in loops):
        return None
    known: dict[str, Expr] = {}
    stores: list[Store] = []
    for node in nodes:
        match node:
            case Let() if node.value.dtype in (F32, F64):
                known[node.name] = substitute(node.value, known)
            case Store(kind=None, atomic=False):
                stores.append(replace(node, value=substitute(node.value, known)))
            case _:
                return None
    written = {s.buffer for s in stores}
    if not stores or len(written) < len(stores) or {s.value.dtype for s in stores} not in ({F32}, {F64}):
        return None  # vectors of the backend's own hold one type of float
    nest = Nest(tuple(loops[:-1]), loops[-1], tuple(stores))
    each = all(_one_each(s, indices, buffers) and _laned(s.value, nest, indices, buffers, written) for s in stores)
    return nest if each else None


def _reads(e: Expr) -> bool:
    return any(isinstance(x, Load) for x in subtrees(e))


def _one_each(s: Store, indices: list[str], buffers: Mapping[str, Buffer]) -> bool:
    """Whether each point stores to a place of its own, its column last in memory."""
    b = buffers.get(s.buffer)
    if b is None or b.dtype != s.value.dtype or len(indices) != len(b.shape):
        return False
    found = [x for i in s.indices for x in indices if coefficient(i, x) == 1 and free(i) & {*indices} == frozenset({x})]
    return sorted(found) == sorted(indices) and coefficient(s.indices[b.order[-1]], indices[-1]) == 1


def _laned(e: Expr, nest: Nest, indices: list[str], buffers: Mapping[str, Buffer], written: set[str]) -> bool:
    """Whether vectors can hold a value: what all points share, loads along memory, arithmetic; nothing that the launch writes."""
    loads = [x for x in subtrees(e) if isinstance(x, Load)]
    if e.dtype != nest.dtype or any(x.array in written for x in loads):
        return False
    if not loads and not free(e) & {*indices}:
        return True
    match e:
        case Load():
            b = buffers.get(e.array)
            if b is None or b.dtype != nest.dtype or e.default is not None or any(map(_reads, e.indices)):
                return False
            straight = all(coefficient(i, x) is not None for i in e.indices for x in indices)
            return straight and stride(e.array, e.indices, indices[-1], {e.array: b.order}) is not Stride.FAR
        case Call():
            return e.op in LANED and all(_laned(x, nest, indices, buffers, written) for x in e.args)
        case _:
            return False


def _long(nest: Nest, lanes: int, machine: Machine, sizes: Mapping[str, int]) -> bool:
    """Whether rows are some vectors long, and threads enough of them to share."""
    columns, first = (number(x.hi, sizes) - number(x.lo, sizes) for x in (nest.columns, nest.rows[0]))
    return columns >= LONG * lanes and first >= 4 * VECTORS * machine.units


def _heights(nest: Nest, buffers: Mapping[str, Buffer], lanes: int, registers: int) -> tuple[int, ...] | None:
    """The patch with the fewest loads and stores a vector whose vectors fit the registers; None where neighbours share nothing."""
    best, alone = None, 0.0
    for heights in product(HEIGHTS, repeat=len(nest.rows)):
        if prod(heights) > VECTORS:
            continue
        rows = lines(nest, heights, buffers)
        shifted = sum(shifts(offsets, lanes) for offsets in rows.values())
        if prod(heights) > 1 and 2 * shifted + OTHERS > registers:
            continue
        each = (accesses(rows, lanes) + len(nest.stores) * prod(heights)) / prod(heights)
        alone = alone or sum(map(len, rows.values())) + len(nest.stores)
        if best is None or each < best[0]:
            best = each, heights
    return best[1] if best is not None and best[0] <= WORTH * alone else None


def moved(e: Expr, at: Mapping[str, int]) -> Expr:
    """An index some rows on."""
    return simplified(substitute(e, {x: Call("add", (IndexRef(x), const(n, I64)), I64) for x, n in at.items() if n}))


def line_of(x: Load, buffers: Mapping[str, Buffer], at: Mapping[str, int]) -> tuple[Line, int]:
    """The row that a load along memory reads, and how far along it."""
    *rest, last = (moved(x.indices[d], at) for d in buffers[x.array].order)
    along, distance = last, 0
    match last:
        case Call("add", (core, Const(value))):
            along, distance = core, int(value)
        case Call("sub", (core, Const(value))):
            along, distance = core, -int(value)
        case _:
            pass
    return Line(x.array, (*rest, along)), distance


def points(nest: Nest, heights: tuple[int, ...]) -> Iterator[dict[str, int]]:
    """The rows of a patch: how far each loop's index is moved."""
    for at in product(*map(range, heights)):
        yield {loop.index: n for loop, n in zip(nest.rows, at, strict=True)}


def lines(nest: Nest, heights: tuple[int, ...], buffers: Mapping[str, Buffer]) -> dict[Line, set[int]]:
    """The rows that a patch reads, and at which distances along them."""
    found: dict[Line, set[int]] = {}
    for at in points(nest, heights):
        for x in (y for s in nest.stores for y in subtrees(s.value) if isinstance(y, Load)):
            if nest.columns.index in free(x):
                line, distance = line_of(x, buffers, at)
                found.setdefault(line, set()).add(distance)
    return found


def shifts(offsets: set[int], lanes: int) -> bool:
    """Whether what is read along a row is shifted out of vectors that follow each other."""
    return len(offsets) > 1 and max(offsets) - min(offsets) <= lanes


def accesses(rows: Mapping[Line, set[int]], lanes: int) -> int:
    """Loads of one patch."""
    return sum(1 if shifts(offsets, lanes) else len(offsets) for offsets in rows.values())


def shared_loads(launch: Launch, buffers: Mapping[str, Buffer]) -> float:
    """The share of the loads of single points that are left in patches."""
    nest = nest_of(launch, buffers) if launch.patch else None
    if nest is None:
        return 1.0
    *heights, lanes = launch.patch
    alone = sum(map(len, lines(nest, (1,) * len(heights), buffers).values()))
    return accesses(lines(nest, tuple(heights), buffers), lanes) / (prod(heights) * max(1, alone))

"""Walks the nodes of one GPU launch with how often each runs: grids, loops, tiles and joins become the count of what all threads do."""

from collections.abc import Mapping
from typing import Final

from extract.cuda_count import BY_CONSTANT, DIVISION, WARP, Count, Frame, Tally
from extract.fuse import expressions_of, walk
from extract.machine import Machine
from extract.rows_cuda_work import count_row_tile
from extract.sizes import number
from extract.tile_cuda import near
from extract.wide_cuda import Place, flat, wide_accesses
from kernel_ir.dtypes import BOOL, I32
from kernel_ir.nodes import Const, ParamRef
from kernel_ir.plan import (
    Accumulator,
    Alloc,
    Barrier,
    BlockTile,
    Combine,
    FoldLoop,
    Join,
    Launch,
    Let,
    Loop,
    LoopKind,
    Node,
    Plan,
    RowTile,
    Store,
    When,
)
from kernel_ir.walk import subtrees

UNROLLED: Final = 4
"""Turns of an innermost loop that NVVM or ptxas writes out one after the other …"""
LONG: Final = 41
"""… where one takes at most so many instructions."""
COUNTED: Final = 2
"""Integer instructions of one turn of a loop, its jump aside: add and compare …"""
SERIAL: Final = 1
"""… and one more where a loop counts from its start to its end: NVVM counts what is left besides."""
POINTER: Final = 2
"""Integer instructions that move a 64-bit pointer on."""
STAGED: Final = (5.5, 7.5)
"""Integer instructions that bring one element of a tile to shared memory, its address aside: whether it is inside, what it is otherwise;
and its place, where so many products lie in registers that places are not kept."""
CROWDED: Final = (16, 64)
"""Products of a thread from which on places are computed anew: where a step loads its own operands, and where it loads the next one's."""
JOINED: Final = 10
"""Partial maxima and minima that a launch joins, from warp to warp and lane to lane, up to which its loops move places on; in longer code
NVVM computes each place from the index."""
WRITTEN_OUT: Final = 256
"""Products of a thread, at most, in one turn of a tile's inner loop."""
SHARED_ATOMIC: Final = (0.125, 0.5)
"""Cycles that an integer or a float addition to shared memory keeps it busy: the hardware has none for floats, which compare and swap."""
LANE_BYTES: Final = 16
"""What one instruction reads of shared memory at most."""


class Walker:
    """Walks a launch; what it finds is in the tally."""

    def __init__(self, launch: Launch, plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> None:
        self.launch = launch
        self.machine = machine
        self.sizes = dict(sizes)
        stored = frozenset(n.buffer for n in walk(launch.body) if isinstance(n, Store))
        self.count = Count(plan, machine, self.sizes, stored)
        self.tally = self.count.tally
        self.blocks = 1.0
        self.team = 1
        self.anew = _joined_extremes(launch) > JOINED

    def walk(self) -> Tally:
        """The tally of the whole launch."""
        nodes, points = self.launch.body, 1.0
        kind = LoopKind.GRID
        loops: list[Loop] = []
        count = self.count
        while len(nodes) == 1 and isinstance(nodes[0], Loop) and nodes[0].kind in (LoopKind.GRID, LoopKind.BLOCK, LoopKind.WARP):
            loop = nodes[0]
            kind = loop.kind
            points *= self._enter(loop)
            count.grid.append(loop.index)
            loops.append(loop)
            nodes = loop.body
        threads = self.launch.threads
        match kind:
            case LoopKind.GRID:
                count.lane = count.grid[-1] if count.grid else ""
                count.flat = bool(loops) and flat(tuple(loops), count.buffers)
                if loops:
                    self._neighbours(loops[-1], not count.flat)
                self.blocks = points / threads / count.step
                runs = max(points, 1.0)
            case LoopKind.BLOCK:
                self.blocks, runs = points, points * threads
            case _:
                self.blocks, runs = points * WARP / threads, points * WARP
        self.team = {LoopKind.BLOCK: threads, LoopKind.WARP: WARP}.get(kind, 1)
        first = Frame(set(count.grid), runs, float(count.step))
        count.frames = [first]
        self._prologue(loops, nodes)
        self._nodes(nodes)
        return self.tally

    def _prologue(self, loops: list[Loop], nodes: tuple[Node, ...]) -> None:
        """What a thread does before its point: who it is, whether there is such a point, its indices, the scalars."""
        extra, step = self.machine.extra, self.count.step
        self.count.integer("address", extra.get("prologue_ops", 0.0) / step)
        if len(loops) > 1 and not self.count.flat:
            for inner in loops[1:]:
                self.count.integer("index", (BY_CONSTANT if isinstance(inner.hi, Const) else DIVISION) / step)
        scalars = {x for n in walk(nodes) for e in expressions_of(n) for x in subtrees(e) if isinstance(x, ParamRef)}
        self.count.integer("address", len(scalars) * extra.get("scalar_ops", 0.0) / step)

    def _neighbours(self, loop: Loop, rows: bool) -> None:
        """Notes what is wide in a loop that gives each thread several neighbours."""
        found = wide_accesses(loop, loop.step, self.count.buffers, rows) if loop.step > 1 else None
        self.count.step = loop.step
        self.count.wide = frozenset[Place]() if found is None else frozenset((*found.loads, *found.stores))

    def _enter(self, loop: Loop) -> float:
        """Notes a loop's extent and middle, for what depends on it; returns its trips."""
        lo, hi = number(loop.lo, self.sizes), number(loop.hi, self.sizes)
        trips = max(0, hi - lo)
        self.count.extents[loop.index] = max(1, trips)
        self.sizes[loop.index] = lo + trips // 2
        return float(trips)

    def _nodes(self, nodes: tuple[Node, ...]) -> None:
        count = self.count
        for node in nodes:
            if not isinstance(node, FoldLoop):
                for e in expressions_of(node):
                    count.expression(e)
            here = count.here
            match node:
                case Store():
                    count.access(node.buffer, node.indices, here, store=True)
                    if node.atomic and node.buffer in count.buffers:
                        self.tally.atomics += here.runs * count.collisions(node.buffer)
                    elif node.atomic:
                        self.tally.atomics += here.runs * (SHARED_ATOMIC[1] if node.value.dtype.is_float else SHARED_ATOMIC[0])
                case Combine():
                    self._combine(node)
                case Let() | Accumulator():
                    here.names.add(node.name)
                case Alloc(buffer):
                    count.shared[buffer.name] = buffer
                case Barrier():
                    self.tally.chain += here.each * self.machine.extra["near_latency"]
                case Join():
                    self._join(node)
                case BlockTile():
                    self._tile(node)
                case RowTile():
                    count_row_tile(self, node)
                case When():
                    self._nodes(node.body)
                    self._nodes(node.otherwise)
                case Loop():
                    self._loop(node)
                case FoldLoop():
                    self._fold(node)
                case _:
                    pass

    def _combine(self, node: Combine) -> None:
        dtype = node.values[0].dtype
        first = node.values[0]
        match node.kind:
            case "min" | "max" if dtype.is_float:
                self.count.op(node.kind, dtype, 3)
            case "sum" if self.count.ends_in_product(first):
                self.count.op("fma", dtype, chained=True)
                self.count.op("mul", dtype, -1.0, chained=False)
            case kind:
                self.count.op({"prod": "mul", "any": "or", "all": "and"}.get(kind, "add"), dtype, 4 if kind.startswith("arg") else 1)
        if node.kind == "expsum":
            self.count.op("exp", dtype, 2)

    def _loop(self, loop: Loop) -> None:
        trips = self._enter(loop)
        count, outer = self.count, self.count.here
        lane = count.lane
        if loop.kind is LoopKind.THREAD:
            # A team's threads share the iterations; where there are fewer, some of its warps idle.
            self._neighbours(loop, True)
            chunks = -(-trips // loop.step)
            share = -(-chunks // self.team) * loop.step
            warps = -(-min(chunks, self.team) // WARP) * WARP / self.team
            runs, each = outer.runs * share * warps, outer.each * share
            count.lane = loop.index
        else:
            runs, each = outer.runs * trips, outer.each * trips
            count.serial.append(loop.index)
        count.frames.append(Frame({loop.index}, runs, each, loop.index))
        self._nodes(loop.body)
        self._turns(loop.step, loop.kind is not LoopKind.THREAD, any(isinstance(n, Loop | FoldLoop) for n in loop.body))
        count.frames.pop()
        if loop.kind is not LoopKind.THREAD:
            count.serial.pop()
        else:
            count.step, count.wide = 1, frozenset[Place]()
        count.lane = lane

    def _turns(self, step: int, serial: bool, outer: bool) -> None:
        """What the turns of the innermost frame's loop take besides its body, of `step` executions each."""
        here = self.count.here
        copies = 1 if outer or here.instructions * step > LONG else UNROLLED
        ops = COUNTED + self.machine.extra.get("size_ops", 0.0) + (SERIAL if serial else 0) + sum(here.constants.values())
        self.count.integer("loop", ops / step / copies)
        if self.anew and not here.counters:
            self.count.integer("address", here.moving * (copies - 1) / step / copies)
        # What the index alone places: by a pointer that a turn moves on, or with one addition fewer.
        self.count.integer("address", here.counters / step * (POINTER / copies - 2 if serial else -1 / copies))
        self.tally.chain += here.each / step * self.machine.loop_cycles

    def _tile(self, tile: BlockTile) -> None:
        """A tile that every block runs: staging through shared memory, products in registers, results."""
        count, here = self.count, self.count.here
        terms = max(1, number(tile.reduction.hi, self.sizes))
        steps = -(-terms // tile.depth)
        for b in (tile.rows, tile.columns, tile.reduction):
            count.extents[b.index] = max(1, number(b.hi, self.sizes))
            self.sizes[b.index] = count.extents[b.index] // 2
        lane = count.lane
        products, itemsize = tile.each[0] * tile.each[1], tile.left.dtype.itemsize
        crowded = products >= CROWDED[tile.ahead]
        for value, length, across in ((tile.left, tile.height, tile.rows.index), (tile.right, tile.width, tile.columns.index)):
            share = tile.depth * length * steps / self.launch.threads
            count.lane = tile.reduction.index if near(value, tile.reduction.index, count.orders) else across
            count.frames.append(Frame({b.index for b in (tile.rows, tile.columns, tile.reduction)}, here.runs * share, here.each * share))
            count.expression(value)
            count.integer("address", STAGED[1] if crowded else STAGED[0] - tile.ahead)
            count.instructions(1.0)
            count.frames.pop()
        reads = sum(-(-n * itemsize // LANE_BYTES) for n in tile.each)
        count.frames.append(Frame({tile.reduction.index}, here.runs * terms, 0.0))
        for op in ("add",) if count.contract else ("mul", "add"):
            count.op(op, tile.left.dtype, products)
        count.instructions(reads)
        count.integer("loop", (COUNTED + SERIAL) / tile.depth)
        if products * tile.depth > WRITTEN_OUT:
            count.integer("loop", (COUNTED + POINTER) * products / WRITTEN_OUT)
        count.frames.pop()
        # One read of shared memory takes a cycle for each 128 different bytes that a warp asks for.
        along = min(WARP, tile.threads[1])
        asked = (tile.each[0] * WARP // along, tile.each[1] * along)
        cycles = sum(-(-n * itemsize // 128) for n in asked)
        self.tally.sectors += here.runs / WARP * terms * max(sum(tile.each) / 2, cycles) * 4
        far, between = steps * self.machine.extra["far_latency"], terms * self.machine.latency
        # Loads a step ahead are under way while the products before are made.
        waits = max(0.0, far - between) if tile.ahead else far
        self.tally.chain += waits + between + steps * 2 * self.machine.extra["near_latency"]
        count.lane = tile.columns.index
        count.frames.append(Frame({tile.rows.index, tile.columns.index}, here.runs * products, products))
        count.expression(tile.result)
        count.access(tile.buffer, tile.indices, count.here, store=True)
        count.frames.pop()
        count.lane = lane

    def _fold(self, node: FoldLoop) -> None:
        lo, hi = number(node.lo, self.sizes), number(node.hi, self.sizes)
        # A fold that may stop early is taken to run half its steps.
        trips = max(1, hi - lo) * (0.5 if node.condition is not None else 1.0)
        count, outer = self.count, self.count.here
        count.extents[node.index] = max(1, hi - lo)
        for c in node.carries:
            count.expression(c.init)
        names = {node.index, *(c.name for c in node.carries)}
        count.frames.append(Frame(names, outer.runs * trips, outer.each * trips, node.index))
        for e in (*(c.update for c in node.carries), *(() if node.condition is None else (node.condition,))):
            count.expression(e)
        self._nodes(node.body)
        self._turns(1, True, any(isinstance(n, Loop | FoldLoop) for n in node.body))
        count.frames.pop()

    def _join(self, node: Join) -> None:
        steps = 5 if node.scope == "warp" else 5 + self.launch.threads // WARP + 2
        parts = 2 if node.kind in ("argmax", "argmin", "expsum") else 1
        self.count.op("add", I32 if node.dtype is BOOL else node.dtype, steps * parts * 2, chained=False)
        here = self.count.here
        self.tally.chain += here.each * steps * (parts * self.machine.latency + self.machine.extra["near_latency"])


def _joined_extremes(launch: Launch) -> int:
    """The partial results that a thread joins to its own by selection."""
    extremes = [n for n in walk(launch.body) if isinstance(n, Join) and n.kind in ("max", "min") and n.dtype.is_float]
    return sum(5 + (launch.threads // WARP - 1 if n.scope == "block" else 0) for n in extremes)

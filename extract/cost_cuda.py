"""Turns one launch of a GPU plan into predicted cycles: units, memory by coalesced sectors, latency at the occupancy there is, starting it.

Every thread of a warp does the same, so a warp's access moves as many 32-byte sectors as its lanes touch: one if they share an element,
itemsize if they are neighbours, 32 if they stride. What an array holds comes from memory once, and again only where the threads
that read it are far apart and the array is larger than the L2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from extract.cycles import Cost
from extract.fuse import expressions_of
from extract.machine import Machine
from extract.sizes import number
from extract.strides import Stride, coefficient, stride
from extract.tile_cuda import near
from extract.wide_cuda import Place, flat, wide_accesses
from kernel_ir.dtypes import BOOL, I32, I64, DType, reads_as
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, Local, const
from kernel_ir.ops import OPS, Unit
from kernel_ir.plan import Alloc, Barrier, BlockTile, Buffer, Combine, FoldLoop, Join, Launch, Loop, LoopKind, Node, Plan, Store, When
from kernel_ir.walk import free, subtrees

WARP: Final = 32
SECTOR: Final = 32
ADDRESS_OPS: Final = 2
"""32-bit integer instructions to place one access."""
LOOP_OPS: Final = 3
"""Add, compare and branch of one loop iteration."""
SHARED_ATOMIC: Final = (0.125, 0.5)
"""Cycles that an integer or a float addition to shared memory keeps it busy: the hardware has none for floats, which compare and swap."""
IN_FLIGHT: Final = 4
"""Independent loads that one thread keeps under way: what the compiler gets from unrolling a loop by four."""


@dataclass(slots=True)
class _Tally:
    """What all threads of a launch do together, and the longest chain of one thread."""

    units: dict[str, float] = field(default_factory=dict[str, float])
    sectors: float = 0.0
    scattered: float = 0.0
    again: float = 0.0
    chain: float = 0.0
    atomics: float = 0.0
    footprint: dict[str, float] = field(default_factory=dict[str, float])

    def unit(self, name: str, cycles: float) -> None:
        self.units[name] = self.units.get(name, 0.0) + cycles


def launch_cost(launch: Launch, plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The predicted cost of one launch; a size that is not given counts as 1024."""
    walker = _Walker(launch, plan, machine, dict(sizes))
    tally = walker.walk()
    blocks = max(1.0, walker.blocks)
    resident = max(1.0, min(machine.extra["blocks"], machine.extra["threads"] // launch.threads))
    busy = min(float(machine.units), blocks)
    # Threads beyond what hides latency help no more; fewer leave the units waiting for the chain of each.
    waves = max(1.0, blocks / (machine.units * resident))
    l1, l2, memory = machine.levels
    moved = tally.sectors * SECTOR
    far = sum(tally.footprint.values()) + tally.again * SECTOR
    times = {
        "units": sum(tally.units.values()) / busy,
        # A line is looked up a cycle, though one of its four sectors is all that is wanted (assumed: not measured here).
        "L1": (moved + 3 * tally.scattered * SECTOR) / l1.bytes_per_cycle / busy,
        "L2": max(far, moved / 4, tally.scattered * SECTOR) / l2.bytes_per_cycle / busy,
        "memory": far / memory.bytes_per_cycle / min(float(machine.units), blocks * max(1.0, launch.threads / 256)),
        "latency": tally.chain * waves,
        "atomics": tally.atomics / busy,
    }
    overhead = machine.launch_cycles + machine.extra["argument_cycles"] * len(walker.arrays)
    slowest = max(times.values())
    rest = 0.1 * (sum(times.values()) - slowest)
    per_unit = {name: cycles / busy for name, cycles in tally.units.items()}
    return Cost(slowest + rest + overhead, per_unit, {"L1": moved, "memory": far}, overhead, times)


class _Walker:
    """Walks the nodes of a launch with how often each runs."""

    def __init__(self, launch: Launch, plan: Plan, machine: Machine, sizes: dict[str, int]) -> None:
        self.launch = launch
        self.machine = machine
        self.sizes = sizes
        self.buffers: dict[str, Buffer] = {b.name: b for b in plan.buffers}
        self.shared: dict[str, Buffer] = {}
        self.orders = {b.name: b.order for b in plan.buffers}
        self.contract = "contract" in plan.fast_math
        self.tally = _Tally()
        self.arrays: set[str] = set()
        self.extents: dict[str, int] = {}
        self.grid: list[str] = []
        self.lane = ""
        self.serial: list[str] = []
        self.blocks = 1.0
        self.team = 1
        self.step = 1
        self.wide = frozenset[Place]()

    def walk(self) -> _Tally:
        """The tally of the whole launch."""
        nodes, points = self.launch.body, 1.0
        kind = LoopKind.GRID
        loops: list[Loop] = []
        while len(nodes) == 1 and isinstance(nodes[0], Loop) and nodes[0].kind in (LoopKind.GRID, LoopKind.BLOCK, LoopKind.WARP):
            loop = nodes[0]
            kind = loop.kind
            points *= self._enter(loop)
            self.grid.append(loop.index)
            loops.append(loop)
            nodes = loop.body
        threads = self.launch.threads
        match kind:
            case LoopKind.GRID:
                self.lane = self.grid[-1] if self.grid else ""
                if loops:
                    self._neighbours(loops[-1], not flat(tuple(loops), self.buffers))
                self.blocks = points / threads / self.step
                runs = max(points, 1.0)
            case LoopKind.BLOCK:
                self.blocks, runs = points, points * threads
            case _:
                self.blocks, runs = points * WARP / threads, points * WARP
        self.team = {LoopKind.BLOCK: threads, LoopKind.WARP: WARP}.get(kind, 1)
        self.tally.unit("address", runs / self.step * self.machine.extra.get("prologue_ops", 0.0) * self._i32())
        self._nodes(nodes, runs, float(self.step))
        return self.tally

    def _neighbours(self, loop: Loop, rows: bool) -> None:
        """Notes what is wide in a loop that gives each thread several neighbours."""
        found = wide_accesses(loop, loop.step, self.buffers, rows) if loop.step > 1 else None
        self.step = loop.step
        self.wide = frozenset[Place]() if found is None else frozenset((*found.loads, *found.stores))

    def _enter(self, loop: Loop) -> float:
        """Notes a loop's extent and middle, for what depends on it; returns its trips."""
        lo, hi = number(loop.lo, self.sizes), number(loop.hi, self.sizes)
        trips = max(0, hi - lo)
        self.extents[loop.index] = max(1, trips)
        self.sizes[loop.index] = lo + trips // 2
        return float(trips)

    def _nodes(self, nodes: tuple[Node, ...], runs: float, each: float) -> None:
        """`runs` executions over all threads, `each` of them by one thread."""
        seen: set[Expr] = set()
        for node in nodes:
            for e in expressions_of(node):
                if not isinstance(node, FoldLoop):
                    self._expression(e, runs, each, seen)
            match node:
                case Store():
                    self._access(node.buffer, node.indices, runs, each, store=True)
                    if node.atomic and node.buffer in self.buffers:
                        self.tally.atomics += runs * self._collisions(node)
                    elif node.atomic:
                        self.tally.atomics += runs * (SHARED_ATOMIC[1] if node.value.dtype.is_float else SHARED_ATOMIC[0])
                case Combine(_, kind, values):
                    op = {"prod": "mul", "any": "or", "all": "and"}.get(kind, "add")
                    self._op(op, values[0].dtype, runs * (4 if kind.startswith("arg") else 1), each)
                    if kind == "expsum":
                        self._op("exp", values[0].dtype, 2 * runs, 2 * each)
                case Alloc(buffer):
                    self.shared[buffer.name] = buffer
                case Barrier():
                    self.tally.chain += each * self.machine.extra["near_latency"]
                case Join():
                    self._join(node, runs, each)
                case BlockTile():
                    self._tile(node, runs)
                case When():
                    self._nodes(node.body, runs, each)
                    self._nodes(node.otherwise, runs, each)
                case Loop():
                    self._loop(node, runs, each)
                case FoldLoop():
                    self._fold(node, runs, each)
                case _:
                    pass

    def _loop(self, loop: Loop, runs: float, each: float) -> None:
        trips = self._enter(loop)
        lane = self.lane
        if loop.kind is LoopKind.THREAD:
            # A team's threads share the iterations; where there are fewer, some of its warps idle.
            self._neighbours(loop, True)
            chunks = -(-trips // loop.step)
            share = -(-chunks // self.team) * loop.step
            warps = -(-min(chunks, self.team) // WARP) * WARP / self.team
            inner, per_thread = runs * share * warps, each * share
            self.lane = loop.index
        else:
            inner, per_thread = runs * trips, each * trips
            self.serial.append(loop.index)
        self.tally.unit("loop", inner / loop.step * LOOP_OPS * self._i32())
        self.tally.chain += per_thread / loop.step * self.machine.loop_cycles
        self._nodes(loop.body, inner, per_thread)
        if loop.kind is not LoopKind.THREAD:
            self.serial.pop()
        else:
            self.step, self.wide = 1, frozenset[Place]()
        self.lane = lane

    def _tile(self, tile: BlockTile, runs: float) -> None:
        """A tile that every block runs: staging through shared memory, products in registers, results."""
        terms = max(1, number(tile.reduction.hi, self.sizes))
        steps = -(-terms // tile.depth)
        for b in (tile.rows, tile.columns, tile.reduction):
            self.extents[b.index] = max(1, number(b.hi, self.sizes))
            self.sizes[b.index] = self.extents[b.index] // 2
        lane = self.lane
        for value, length, across in ((tile.left, tile.height, tile.rows.index), (tile.right, tile.width, tile.columns.index)):
            share = tile.depth * length * steps / self.launch.threads
            self.lane = tile.reduction.index if near(value, tile.reduction.index, self.orders) else across
            self._expression(value, runs * share, share, set())
            self.tally.unit("address", runs * share * 4 * ADDRESS_OPS * self._i32())
        products = tile.each[0] * tile.each[1]
        for op in ("mul", "add"):
            self._op(op, tile.left.dtype, runs * products * terms, 0.0)
        # One read of shared memory takes a cycle for each 128 different bytes that a warp asks for.
        along = min(WARP, tile.threads[1])
        asked = (tile.each[0] * WARP // along, tile.each[1] * along)
        cycles = sum(-(-n * tile.left.dtype.itemsize // 128) for n in asked)
        self.tally.sectors += runs / WARP * terms * max(sum(tile.each) / 2, cycles) * 4
        self.tally.unit("loop", runs * terms * (sum(tile.each) + LOOP_OPS) * self._i32())
        far, between = steps * self.machine.extra["far_latency"], terms * self.machine.latency
        # Loads a step ahead are under way while the products before are made.
        waits = max(0.0, far - between) if tile.ahead else far
        self.tally.chain += waits + between + steps * 2 * self.machine.extra["near_latency"]
        self.lane = tile.columns.index
        self._expression(tile.result, runs * products, products, set())
        self._access(tile.buffer, tile.indices, runs * products, products, store=True)
        self.lane = lane

    def _fold(self, node: FoldLoop, runs: float, each: float) -> None:
        lo, hi = number(node.lo, self.sizes), number(node.hi, self.sizes)
        # A fold that may stop early is taken to run half its steps.
        trips = max(1, hi - lo) * (0.5 if node.condition is not None else 1.0)
        self.extents[node.index] = max(1, hi - lo)
        seen: set[Expr] = set()
        for e in (*(c.update for c in node.carries), *(() if node.condition is None else (node.condition,))):
            self._expression(e, runs * trips, each * trips, seen)
        self._nodes(node.body, runs * trips, each * trips)
        self.tally.unit("loop", runs * trips * LOOP_OPS * self._i32())

    def _join(self, node: Join, runs: float, each: float) -> None:
        steps = 5 if node.scope == "warp" else 5 + self.launch.threads // WARP + 2
        parts = 2 if node.kind in ("argmax", "argmin", "expsum") else 1
        held = I32 if node.dtype is BOOL else node.dtype
        self._op("add", held, runs * steps * parts * 2, each * steps * parts)
        self.tally.chain += each * steps * self.machine.extra["near_latency"]

    def _expression(self, e: Expr, runs: float, each: float, seen: set[Expr]) -> None:
        fused = {y for x in subtrees(e) for y in _product_of(x)} if self.contract else frozenset[Expr]()
        for x in subtrees(e):
            if x in seen:
                continue
            if isinstance(x, Call | Load):
                seen.add(x)
            match x:
                case Load():
                    self._access(x.array, x.indices, runs, each, store=False)
                case Call("floordiv" | "mod", (_, Const(divisor))) if x.dtype is I64:
                    # A shift, or a product's upper half and a correction.
                    self._op("add", I32, runs * (1 if int(divisor).bit_count() == 1 else 5), each)
                case Call("powi", (base, Const() as n)):
                    products = max(1, abs(int(n.value)).bit_length() + bin(abs(int(n.value))).count("1") - 2)
                    self._op("mul", base.dtype, runs * products, each * products)
                case Call("mul") if x in fused:
                    pass  # of a fused product and sum, which counts as the sum
                case Call("min" | "max") if x.dtype.is_float:
                    self._op(x.op, x.dtype, 3 * runs, each)  # a NaN goes through: compare and select besides
                case Call():
                    index = x.dtype is I64 and all(not isinstance(y, Load | Local) for y in subtrees(x))
                    self._op(x.op, I32 if index else _dtype(x), runs, each)
                case _:
                    pass

    def _op(self, op: str, dtype: DType, runs: float, each: float) -> None:
        cycles = self.machine.op_cycles(op, dtype)
        self.tally.unit(OPS[op].unit.name, cycles * runs)
        self.tally.chain += each * self.machine.latency * max(1.0, cycles * 16 if OPS[op].unit in _LONG else 1.0)

    def _i32(self) -> float:
        return self.machine.instruction_cycles(Unit.ADD, I32) / WARP

    def _access(self, array: str, indices: tuple[Expr, ...], runs: float, each: float, store: bool) -> None:
        if array not in self.buffers:
            if array in self.shared:
                self.tally.unit("address", runs * ADDRESS_OPS * self._i32())
                self.tally.unit("access", runs * self._i32())
                self.tally.sectors += runs / WARP * self.shared[array].dtype.itemsize
                self.tally.chain += each / IN_FLIGHT * self.machine.extra["near_latency"]
            return
        buffer = self.buffers[array]
        indices = tuple(_within_warp(i, self.lane) for i in indices)
        self.arrays.add(array)
        wide = (array, indices) in self.wide
        how = stride(array, indices, self.lane, self.orders) if self.lane else Stride.NONE
        # One instruction for all neighbours of a thread: they lie side by side, or are one element.
        at_once = self.step if wide or how is Stride.NONE else 1
        self.tally.unit("address", runs / at_once * self.machine.extra.get("address_ops", ADDRESS_OPS) * self._i32())
        self.tally.unit("access", runs / at_once * self._i32())
        whole = float(buffer.dtype.itemsize)
        for extent in buffer.shape:
            whole *= max(0, number(extent, self.sizes))
        warps = runs / WARP
        apart = 1 if wide else self.step
        unit = min(float(WARP), float(buffer.dtype.itemsize * apart))
        sectors = {Stride.NONE: 1.0 / self.step, Stride.UNIT: unit, Stride.FAR: float(WARP)}[how]
        if how is Stride.FAR and self.serial and stride(array, indices, self.serial[-1], self.orders) is Stride.UNIT:
            sectors *= buffer.dtype.itemsize / SECTOR  # the next iteration finds its element in the same sector
        elif how is Stride.FAR:
            step = self._step(buffer, indices)
            sectors = min(sectors, float(step * buffer.dtype.itemsize))
            # What is left of the sectors is for other blocks, on other multiprocessors.
            self.tally.scattered += warps * sectors if step * buffer.dtype.itemsize >= SECTOR else 0.0
        self.tally.sectors += warps * sectors
        names = frozenset[str]().union(*map(free, indices)) if indices else frozenset[str]()
        touched = float(buffer.dtype.itemsize)
        for name in sorted(names & set(self.extents)):
            touched *= self.extents[name]
        footprint = min(whole, touched) if not any(isinstance(x, Load) for i in indices for x in subtrees(i)) else min(whole, runs * SECTOR)
        self.tally.footprint[array] = max(
            self.tally.footprint.get(array, 0.0), footprint * (2 if store and array in self.tally.footprint else 1)
        )
        shared = not set(self.grid) <= names
        if shared and whole > self.machine.levels[1].bytes:
            self.tally.again += warps * sectors
        far = self.machine.extra["memory_latency" if whole > self.machine.levels[1].bytes else "far_latency"]
        near = how is Stride.NONE or (bool(self.serial) and not shared)
        if not store:
            self.tally.chain += each / at_once / IN_FLIGHT * (self.machine.extra["near_latency"] if near else far) + (far if near else 0.0)

    def _step(self, buffer: Buffer, indices: tuple[Expr, ...]) -> int:
        """Elements between those of neighbouring lanes, where constants say it; else a sector's worth at least."""
        step, inner = 0, 1
        for d in reversed(buffer.order):
            c = coefficient(indices[d], self.lane)
            if c is None or (c and not inner):
                return SECTOR
            step += abs(c) * inner
            extent = buffer.shape[d]
            inner *= int(extent.value) if isinstance(extent, Const) else 0
        return max(1, step)

    def _collisions(self, node: Store) -> float:
        """Cycles an atomic operation keeps its multiprocessor's way to the L2, more where targets are few."""
        elements = 1.0
        for extent in self.buffers[node.buffer].shape:
            elements *= max(1, number(extent, self.sizes))
        return 1.0 + 32.0 / min(32.0, elements)


def _within_warp(e: Expr, lane: str) -> Expr:
    """What an index is among the threads of a warp, where a thread's number is divided by the length of a row, a warp at least."""
    match e:
        case Call("mod", (IndexRef(name), Const(divisor))) if name == lane and int(divisor) >= WARP:
            return IndexRef(lane)
        case Call("floordiv", (IndexRef(name), Const(divisor))) if name == lane and int(divisor) >= WARP:
            return const(0, I64)
        case Call():
            return replace(e, args=tuple(_within_warp(a, lane) for a in e.args))
        case _:
            return e


def _product_of(e: Expr) -> tuple[Expr, ...]:
    """The product that a sum or difference of floats is fused with, where that is licensed."""
    match e:
        case Call("add" | "sub", args) if e.dtype.is_float:
            return tuple(x for x in args if isinstance(x, Call) and x.op == "mul")[:1]
        case _:
            return ()


_LONG: Final = (Unit.DIV, Unit.SQRT, Unit.EXP, Unit.TRIG, Unit.IDIV)


def _dtype(e: Call) -> DType:
    """The arithmetic dtype that an op works on: of its argument for comparisons and casts."""
    held = e.args[-1].dtype if e.args else e.dtype
    if isinstance(e.args[0], IndexRef):
        return e.dtype if e.dtype is not BOOL else I32
    return reads_as(held) if held is not BOOL or e.dtype is BOOL else e.dtype

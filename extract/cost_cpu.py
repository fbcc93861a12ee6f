"""Turns one CPU launch into cycles: its arithmetic in vector or scalar loops, its traffic by cache level, shared by the cores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log2, prod

from extract.cycles import Cost
from extract.fuse import Nodes, expressions_of
from extract.machine import Machine
from extract.sizes import extent_of, number
from extract.strides import Stride, coefficient, stride
from kernel_ir.dtypes import I64, DType
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load
from kernel_ir.ops import OPS, REDUCTIONS, Unit
from kernel_ir.plan import Accumulator, Alloc, Buffer, Combine, FoldLoop, Launch, Let, Loop, LoopKind, Matmul, Plan, Store, Tile, Turn, When
from kernel_ir.walk import children, free, substitute, subtrees

PRODUCT_EFFICIENCY = 0.8
"""Share of the multiply-add peak that a library's matrix product reaches."""
INTERLEAVED = 4
"""Vectors that LLVM works on in one turn of a reduction."""
TURNED = 0.5
"""Cycles an element of a tile that is turned through registers: shuffles, and a vector's share of its load and store."""
FIELDS = 4
"""Fields of a structure up to which LLVM loads whole vectors of structures and shuffles them."""
FIELD = 0.6
"""What an element of such a vector costs, against one that is loaded alone and takes two of half a cycle: measured 0.3 cycles."""
EARLY = 0.5
"""Share of its range that a fold with a condition runs."""


Plane = tuple[str, tuple[tuple[int, int], ...]]
"""An array, and the part of it that some constant indices pick, by dimension."""


@dataclass(frozen=True, slots=True)
class Access:
    """One load or store: what it touches, the loops around it (outermost first), and how often it runs."""

    array: str
    indices: tuple[Expr, ...]
    itemsize: int
    loops: tuple[tuple[str, int], ...]
    steps: tuple[int | None, ...]
    written: bool = False


@dataclass(slots=True)
class Count:
    """What a launch does in all."""

    arithmetic: dict[str, float] = field(default_factory=dict[str, float])
    accesses: list[Access] = field(default_factory=list[Access])
    dtypes: dict[str, DType] = field(default_factory=dict[str, DType])

    def add(self, unit: str, cycles: float) -> None:
        self.arithmetic[unit] = self.arithmetic.get(unit, 0.0) + cycles


def launch_cost(launch: Launch, plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The cost of one launch."""
    buffers = {b.name: b for b in plan.buffers}
    if len(launch.body) == 1 and isinstance(launch.body[0], Matmul):
        return _product(launch.body[0], buffers, machine, sizes)
    buffers |= {n.buffer.name: n.buffer for n in launch.body if isinstance(n, Alloc)}
    walker = _Walker(machine, dict(sizes), buffers)
    walker.nodes(launch.body, 1.0, (), False)
    parallel = _parallel_extent(launch.body, sizes)
    cores = max(1.0, min(float(machine.units), parallel))
    arithmetic = sum(walker.count.arithmetic.values()) / cores
    traffic = _traffic(walker.count.accesses, buffers, machine)
    *near, shared = (t / level.bytes_per_cycle for t, level in zip(traffic, machine.levels, strict=True))
    memory = sum(near) / cores + shared
    overhead = machine.launch_cycles if parallel > 1 else 0.0
    # The slower one hides most of the faster, not all.
    cycles = max(arithmetic, memory) + 0.2 * min(arithmetic, memory) + overhead
    moved = {level.name: t for t, level in zip(traffic, machine.levels, strict=True)}
    return Cost(cycles, dict(sorted(walker.count.arithmetic.items())), moved, overhead)


def entry_cost(plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The cost of bringing arrays, which callers hold in C order, into the layouts that the plan chose for them, and outputs back from
    tiles (of any other layout the caller gets a view); nothing for those that the caller packs."""
    elements = 0.0
    for p in (*plan.kernel.params, *plan.kernel.outputs):
        layout = plan.layout(p.name)
        if layout is None or layout.is_rows or p.name in plan.packed or (p in plan.kernel.outputs and not layout.tiled):
            continue
        count = 2.0 if p.inout else 1.0
        for extent in p.type.shape:
            count *= max(0, number(extent, sizes))
        elements += count
    cycles = elements * machine.extra.get("turn_cycles", 0.0)
    return Cost(cycles, overhead=cycles)


def _parallel_extent(body: Nodes, sizes: Mapping[str, int]) -> float:
    total = 1.0
    rest = tuple(n for n in body if not isinstance(n, Alloc))
    while len(rest) == 1 and isinstance(rest[0], Loop) and rest[0].kind is LoopKind.PARALLEL:
        total *= max(0, number(rest[0].hi, sizes) - number(rest[0].lo, sizes))
        rest = rest[0].body
    return total


class _Walker:
    """Counts what nodes do, each as often as its loops run."""

    def __init__(self, machine: Machine, sizes: dict[str, int], buffers: Mapping[str, Buffer]) -> None:
        self.machine = machine
        self.sizes = sizes
        self.buffers = buffers
        self.count = Count()
        self.starts: dict[str, Expr] = {}  # where the range of an inner loop begins, if that moves with an outer loop

    def nodes(self, nodes: Nodes, times: float, loops: tuple[tuple[str, int], ...], vector: bool) -> None:
        for node in nodes:
            match node:
                case Loop():
                    self._loop(node, times, loops)
                case FoldLoop():
                    self._fold(node, times, loops)
                case When():
                    self._expressions(node.condition, times, loops, vector)
                    self.nodes(node.body, times, loops, vector)
                    if not any(isinstance(n, Loop) for n in node.otherwise):  # else: what is left of the last tile, if anything
                        self.nodes(node.otherwise, times, loops, vector)
                case Tile():
                    self._tile(node, times, loops)
                case Turn():
                    self._turn(node, times, loops)
                case Let() | Combine() | Store() | Accumulator():
                    for e in expressions_of(node):
                        self._expressions(e, times, loops, vector)
                    self._written(node, times, loops, vector)
                case _:
                    pass

    def _loop(self, loop: Loop, times: float, loops: tuple[tuple[str, int], ...]) -> None:
        lo, hi = number(loop.lo, self.sizes), number(loop.hi, self.sizes)
        extent = max(0, -(-(hi - lo) // loop.step))
        inner = not any(isinstance(n, Loop | FoldLoop | Tile | Turn) for n in loop.body)
        vector = inner and loop.kind in (LoopKind.VECTOR, LoopKind.PARALLEL) and not self._called(loop.body)
        kept = self.sizes.get(loop.index)
        self.sizes[loop.index] = (lo + hi) // 2
        if free(loop.lo) & {index for index, _ in loops}:
            self.starts[loop.index] = Call("add", (IndexRef(loop.index), substitute(loop.lo, self.starts)), I64)
        if loop.kind is not LoopKind.PARALLEL:
            self.count.add("loop", times * self.machine.loop_cycles)
        if vector and any(isinstance(n, Combine) for n in loop.body):
            self._tail(extent, times)
        self.nodes(loop.body, times * extent, (*loops, (loop.index, extent)), vector)
        if kept is None:
            del self.sizes[loop.index]
        else:
            self.sizes[loop.index] = kept

    def _called(self, body: Nodes) -> bool:
        """Whether a body calls a function that has no vector form."""
        values = (x for node in body for top in expressions_of(node) for x in subtrees(top))
        return any(isinstance(x, Call) and x.dtype.is_float and x.op in self.machine.scalar for x in values)

    def _tile(self, tile: Tile, times: float, loops: tuple[tuple[str, int], ...]) -> None:
        """A tile's work: one instruction a vector, what rows or columns share loaded once for all of them."""
        ranges = (tile.columns, tile.rows, *tile.reduction)
        kept = {b.index: self.sizes.get(b.index) for b in ranges}
        extents: list[int] = []
        for b in ranges:
            lo, hi = number(b.lo, self.sizes), number(b.hi, self.sizes)
            extents.append(max(0, hi - lo))
            self.sizes[b.index] = (lo + hi) // 2
        width = tile.vectors * tile.lanes
        blocks = -(-extents[0] // width) * -(-extents[1] // tile.height)
        terms = prod(extents[2:])
        dtype = tile.value.dtype
        wide = self.machine.lanes_bits / (tile.lanes * dtype.bits)  # instructions of full width, against those of the machine file
        whole = times * blocks * terms
        for x in subtrees(tile.value):
            across = tile.columns.index in free(x)
            if isinstance(x, Call) and across:
                rows = tile.height if tile.rows.index in free(x) else 1
                self.count.add("FMA", whole * rows * tile.vectors * self.machine.instruction_cycles(OPS[x.op].unit, dtype))
            if isinstance(x, Load):
                count = (tile.height if tile.rows.index in free(x) else 1) * (tile.vectors if across else 1)
                self.count.add("load", whole * count * 0.5)
                block = (-(-extents[0] // width), -(-extents[1] // tile.height), *extents[2:])
                inside = tuple((b.index, n) for b, n in zip(ranges, block, strict=True))
                size = self.buffers[x.array].dtype.itemsize * count * (tile.lanes if across else 1)
                self._touched(x.array, x.indices, size, (*loops, *inside))
        self.count.add("latency", times * blocks * self.machine.latency * wide * tile.height)
        self._access(
            tile.buffer,
            tile.indices,
            times * extents[0] * extents[1],
            (*loops, (tile.rows.index, extents[1]), (tile.columns.index, extents[0])),
            True,
        )
        for name, value in kept.items():
            if value is None:
                del self.sizes[name]
            else:
                self.sizes[name] = value

    def _turn(self, turn: Turn, times: float, loops: tuple[tuple[str, int], ...]) -> None:
        """A tile turned through registers: whole lines are read, and the copy stays in the first-level cache."""
        ranges = (turn.columns, turn.rows)
        for b in ranges:
            if free(b.lo) & {index for index, _ in loops}:
                self.starts[b.index] = Call("add", (IndexRef(b.index), substitute(b.lo, self.starts)), I64)
        inside = tuple((b.index, extent_of(b, self.sizes)) for b in ranges)
        elements = prod(extent for _, extent in inside)
        self.count.add("load", times * elements * TURNED)
        self._touched(turn.source.array, turn.source.indices, self.buffers[turn.source.array].dtype.itemsize, (*loops, *inside))

    def _tail(self, extent: int, times: float) -> None:
        """A vector reduction runs several vectors a turn; what does not fill a turn runs one by one, then the lanes are joined."""
        whole = INTERLEAVED * self.machine.lanes_bits // 32
        self.count.add("latency", times * (extent % whole + (4 if extent >= whole else 0)) * self.machine.latency)

    def _fold(self, fold: FoldLoop, times: float, loops: tuple[tuple[str, int], ...]) -> None:
        extent = max(0, number(fold.hi, self.sizes) - number(fold.lo, self.sizes))
        steps = extent * (EARLY if fold.condition is not None else 1.0)
        inside = (*loops, (fold.index, extent))
        self.nodes(fold.body, times * steps, inside, False)
        for c in fold.carries:
            self._expressions(c.init, times, loops, False)
            self._expressions(c.update, times * steps, inside, False)
        if fold.condition is not None:
            self._expressions(fold.condition, times * steps, inside, False)
        self.count.add("latency", times * steps * self.machine.latency)  # each step waits for the one before

    def _expressions(self, e: Expr, times: float, loops: tuple[tuple[str, int], ...], vector: bool) -> None:
        match e:
            case Call():
                lanes = self.machine.lanes(e.args[0].dtype) if vector else 1
                cycles = self.machine.instruction_cycles(OPS[e.op].unit, e.args[0].dtype)
                if e.op in self.machine.scalar and e.dtype.is_float:
                    cycles, lanes = self.machine.scalar[e.op], 1
                elif OPS[e.op].unit is Unit.IDIV:
                    cycles, lanes = cycles / self.machine.lanes(e.dtype), 1
                self.count.add(OPS[e.op].unit.name, times * cycles / lanes)
            case Load():
                self._access(e.array, e.indices, times, loops, vector)
                if e.default is not None:
                    self.count.add("branch", times * 2.0)
                for i in e.indices:  # an address of an affine index is free, one that loads is not
                    for x in children(i):
                        if isinstance(x, Load):
                            self._expressions(x, times, loops, vector)
                    if isinstance(i, Call) and i.op in ("floordiv", "mod"):
                        self._expressions(i, times, loops, vector)
                    elif isinstance(i, Call):
                        for x in i.args:
                            if isinstance(x, Call) and x.op not in ("add", "sub", "mul", "neg"):
                                self._expressions(x, times, loops, vector)
                return
            case _:
                pass
        for child in children(e):
            self._expressions(child, times, loops, vector)

    def _written(self, node: Let | Combine | Store | Accumulator, times: float, loops: tuple[tuple[str, int], ...], vector: bool) -> None:
        match node:
            case Store():
                self._access(node.buffer, node.indices, times, loops, vector)
                if node.kind is not None:
                    self._access(node.buffer, node.indices, times, loops, vector)
                    dtype = self.buffers[node.buffer].dtype
                    cycles = self.machine.instruction_cycles(Unit.ADD, dtype)
                    self.count.add("ADD", times * (cycles / self.machine.lanes(dtype) if vector else cycles))
            case Accumulator():
                self.count.dtypes[node.name] = node.dtype
            case Combine():
                dtype = self.count.dtypes[node.name]
                if REDUCTIONS[node.kind].combine is None:
                    self.count.add("ADD", times * 2.0)
                elif vector:
                    self.count.add("ADD", times * self.machine.instruction_cycles(Unit.ADD, dtype) / self.machine.lanes(dtype))
                else:
                    self.count.add("latency", times * self.machine.latency)
            case Let() if node.value.dtype is I64:
                self.sizes[node.name] = number(node.value, self.sizes)
            case Let():
                pass

    def _access(self, array: str, indices: tuple[Expr, ...], times: float, loops: tuple[tuple[str, int], ...], vector: bool) -> None:
        buffer = self.buffers[array]
        orders = {array: buffer.order}
        near = stride(array, indices, loops[-1][0], orders) if loops else Stride.NONE
        lanes = self.machine.lanes(buffer.dtype) if vector and near is Stride.UNIT else 1
        if near is not Stride.NONE or not vector:
            far = 1.0
            if near is Stride.FAR:
                step = self._step(buffer, indices, loops[-1][0]) if vector else None
                far = FIELD if step is not None and step <= FIELDS else 2.0
            self.count.add("load", times * 0.5 / lanes * far)
        self._touched(array, indices, buffer.dtype.itemsize, loops)

    def _touched(self, array: str, indices: tuple[Expr, ...], itemsize: int, loops: tuple[tuple[str, int], ...]) -> None:
        buffer = self.buffers[array]
        moved = tuple(substitute(i, self.starts) for i in indices)
        steps = tuple(self._step(buffer, moved, index) for index, _ in loops)
        self.count.accesses.append(Access(array, moved, itemsize, loops, steps))

    def _step(self, buffer: Buffer, indices: tuple[Expr, ...], index: str) -> int | None:
        """Elements between what consecutive values of an index reach, None where that is not seen."""
        total, below = 0, 1
        for d in reversed(buffer.order):
            c = coefficient(indices[d], index)
            if c is None:
                return None
            total += c * below
            below *= max(1, number(buffer.shape[d], self.sizes))
        return abs(total)


# -- traffic


def _traffic(accesses: list[Access], buffers: Mapping[str, Buffer], machine: Machine) -> list[float]:
    """Bytes that each level must deliver: what a loop re-reads comes from the level that holds all that one turn touches."""
    merged: dict[tuple[Plane, tuple[str, ...], tuple[Stride, ...]], Access] = {}
    for a in accesses:
        moves = tuple(stride(a.array, a.indices, index, {a.array: buffers[a.array].order}) for index, _ in a.loops)
        merged.setdefault((_plane(a, buffers[a.array].order), tuple(index for index, _ in a.loops), moves), a)
    prints = [_footprints(a, moves, machine.line_bytes) for (_, _, moves), a in merged.items()]
    traffic = [0.0] * len(machine.levels)
    kept = list(merged.items())
    for ((_, names, moves), a), footprint in zip(kept, prints, strict=True):
        again = [0.0] * len(machine.levels)
        for depth in reversed(range(len(a.loops))):
            extent = a.loops[depth][1]
            if moves[depth] is Stride.NONE:
                inside = sum(
                    other[depth + 1]
                    for (((_, other_names, _), _), other) in zip(kept, prints, strict=True)
                    if other_names[: depth + 1] == names[: depth + 1] and len(other) > depth + 1
                )
                level = _level(inside, machine)
                if level:
                    again[level] += max(0, extent - 1) * footprint[depth + 1]
            else:
                again = [x * extent for x in again]
        for n, x in enumerate(again):
            traffic[n] += x
    outermost: dict[Plane, float] = {}
    for ((plane, _, _), _), footprint in zip(kept, prints, strict=True):
        outermost[plane] = max(outermost.get(plane, 0.0), footprint[0])
    outside = {plane: x for plane, x in outermost.items() if buffers[plane[0]].space != "local"}
    level = max(1, _level(sum(outside.values()), machine))
    traffic[level] += sum(outside.values())
    return traffic


def _plane(a: Access, order: tuple[int, ...]) -> Plane:
    """The array, and the constant indices of dimensions in which each value is another piece of memory: those slower than one that moves.
    (Constants of faster dimensions, the fields of a structure, share its cache lines.)"""
    constants: list[tuple[int, int]] = []
    moving = False
    for d in reversed(order):
        index = a.indices[d]
        if not isinstance(index, Const):
            moving = True
        elif moving:
            constants.append((d, int(index.value)))
    return a.array, tuple(constants)


def _footprints(a: Access, moves: tuple[Stride, ...], line: int) -> list[float]:
    """Distinct bytes touched by the loops from each depth inwards; a far stride touches a line an element unless a later loop fills it."""
    result = [float(a.itemsize)]
    unit = False
    pending = 1.0
    for depth in reversed(range(len(moves))):
        extent = max(1, a.loops[depth][1])
        size = result[-1]
        match moves[depth]:
            case Stride.NONE:
                pass
            case Stride.UNIT:
                size = size * extent / pending
                unit, pending = True, 1.0
            case Stride.FAR:
                if not unit and pending == 1.0:
                    step = a.steps[depth]
                    pending = line / a.itemsize if step is None else max(1.0, min(line / a.itemsize, float(step)))
                    size *= pending
                size *= extent
        result.append(size)
    return result[::-1]


def _level(bytes_: float, machine: Machine) -> int:
    last = len(machine.levels) - 1
    return next((n for n, level in enumerate(machine.levels) if bytes_ <= level.bytes), last)


def _product(node: Matmul, buffers: Mapping[str, Buffer], machine: Machine, sizes: Mapping[str, int]) -> Cost:
    out, a = buffers[node.out[0]], buffers[node.a[0]]
    elements = 1.0
    for extent in out.shape:
        elements *= max(0, number(extent, sizes))
    inner = max(0, number(a.shape[-2 if node.a[2] else -1], sizes))
    rate = 2 * machine.lanes(out.dtype) * machine.units * PRODUCT_EFFICIENCY * 2  # AVX-512 forms, which the library uses
    work = elements * inner / rate
    total = 0.0
    for b in {node.out[0], node.a[0], node.b[0]}:
        size = float(buffers[b].dtype.itemsize)
        for extent in buffers[b].shape:
            size *= max(0, number(extent, sizes))
        total += size
    level = max(1, _level(total, machine))
    memory = total / machine.levels[level].bytes_per_cycle / (1 if level == len(machine.levels) - 1 else machine.units)
    return Cost(max(work, memory) + 2000.0, {"FMA": work}, {machine.levels[level].name: total}, 2000.0)

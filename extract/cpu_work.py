"""Counts what the nodes of one CPU launch do: instructions by unit, in vectors or one by one, as often as their loops run, and accesses.

A value is counted where the compiler computes it: once in the outermost loop that binds what it depends on, equal ones once.
"""

from collections.abc import Mapping
from math import frexp, inf, log2, prod
from typing import Final

from extract.cpu_frame import Frame, Loops
from extract.cpu_traffic import Access
from extract.fuse import Nodes, expressions_of, walk
from extract.machine import Machine
from extract.sizes import extent_of, number, truth
from extract.strides import Stride, coefficient, stride
from kernel_ir.dtypes import BOOL, F32, I64, DType
from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, Load, Local
from kernel_ir.ops import OPS, REDUCTIONS, Unit
from kernel_ir.plan import (
    Accumulator,
    Alloc,
    Buffer,
    Combine,
    FoldLoop,
    Leave,
    Let,
    Loop,
    LoopKind,
    Prefetch,
    Store,
    Stream,
    Tile,
    Turn,
    When,
)
from kernel_ir.walk import children, free, substitute, subtrees

INTERLEAVED = 4
"""Vectors that LLVM works on in one turn of a reduction."""
TURNED = 0.5
"""Cycles an element of a tile that is turned through registers: shuffles, and a vector's share of its load and store."""
FIELDS = 4
"""Fields of a structure up to which LLVM loads whole vectors of structures and shuffles them."""
FIELD = 0.3
"""Cycles an element of such a vector: measured."""
GATHERED = 1.0
"""Cycles of an element that is loaded alone into a vector: a load, and its insertion."""
TILE_EFFICIENCY = 0.95
"""Share of the multiply-add peak that a tile in registers reaches beside its loads, which half hide: with them 0.86, f32 and f64, Zen 4."""
STARTS = 1.08
"""What a tile takes longer whose sum is several loops: the inner ones start anew for each turn of the outer ones."""
PAGE = 4.0
"""Cycles, not hidden, of the first access to a page whose address is looked up anew, and which no hardware brings in time."""
PAGE_BYTES = 4096.0
PAGES = 64.0
"""Pages whose addresses a core has at hand."""
UNHIDDEN = 0.3
"""Share of the chain at a row's end that the next rows do not hide."""
DEEP = 0.75
"""Share of a function's instructions that wait for each other: its polynomial."""
DEPTHS: Final = {Unit.DIV: 4.0, Unit.SQRT: 5.0, Unit.IDIV: 6.0}
ENDS = 250.0
"""Cycles of the ends of a piece past the caches that are no whole lines: loops of unknown length, and lines that must be read."""
EARLY = 0.5
"""Share of its range that a loop runs that may end early."""
GUARDED = 2.0
"""Cycles of the comparisons that guard a load with a default, in a loop that is not vectorised."""


class Work:
    """What a launch does in all: cycles of one core by unit, and every access to memory."""

    def __init__(
        self,
        machine: Machine,
        sizes: dict[str, int],
        buffers: Mapping[str, Buffer],
        body: Nodes,
        flat: bool,
        contract: bool,
        kept: float = 1.0,
    ) -> None:
        """`kept`: the share of the loads of vectors that are left where neighbouring rows share them."""
        self.kept = kept
        self.machine = machine
        self.sizes = sizes
        self.buffers = buffers
        self.flat = flat
        self.contract = contract
        self.units: dict[str, float] = {}
        self.core: dict[int, float] = {}  # cycles of one core that did all, by loop
        self.entered = 0
        self._instruction = machine.instruction_cycles(Unit.ADD, F32)
        self.depths: dict[str, float] = {}  # of values by name, cycles of the chain that leads to each
        self.accesses: list[Access] = []
        self.dtypes: dict[str, DType] = {}
        self.starts: dict[str, Expr] = {}  # where the range of an inner loop begins, if that moves with an outer loop
        self.jumps: dict[str, int] = {}  # the step of each loop: a body that is written out several times reaches all in between
        self.stored = {n.buffer for n in walk(body) if isinstance(n, Store | Tile)}
        self.frames = [Frame(set(), 1.0, (), False)]
        self._nodes(body)
        self._done(self._here)

    def _add(self, unit: str, cycles: float, frame: Frame | None = None) -> None:
        self.units[unit] = self.units.get(unit, 0.0) + cycles
        (frame or self._here).add(unit, cycles)

    def _done(self, frame: Frame) -> None:
        self.core[frame.number] = frame.core

    def _enter(self, names: set[str], times: float, loops: Loops, vector: bool) -> None:
        self.entered += 1
        self.frames.append(Frame(names, times, loops, vector, number=self.entered))

    @property
    def _here(self) -> Frame:
        return self.frames[-1]

    # -- nodes

    def _nodes(self, nodes: Nodes) -> None:
        for node in nodes:
            match node:
                case Loop():
                    self._loop(node)
                case FoldLoop():
                    self._fold(node)
                case When():
                    self._when(node)
                case Tile():
                    self._tile(node)
                case Turn():
                    self._turn(node)
                case Stream():
                    self._stream(node)
                case Prefetch():
                    self._prefetch(node)
                case Store():
                    self._expression(node.value)
                    self._address(node.indices)
                    self._written(node)
                    self._here.seen = {e for e in self._here.seen if not _loads(e, node.buffer)}
                case Let() | Combine() | Accumulator():
                    for e in expressions_of(node):
                        self._expression(e)
                    self._written(node)
                case Alloc(buffer=buffer, fill=fill) if fill is not None:
                    size = prod(max(0, number(n, self.sizes)) for n in buffer.shape) * buffer.dtype.itemsize
                    self._add("store", self._here.times * size / (self.machine.levels[0].written or 32.0))
                case _:
                    pass

    def _when(self, node: When) -> None:
        self._expression(node.condition)
        held = truth(node.condition, self.sizes)
        if held is not False:
            self._nodes(node.body)
        # else: what is left of the last tile, if anything
        if held is False or (held is None and not any(isinstance(n, Loop) for n in node.otherwise)):
            self._nodes(node.otherwise)

    def _loop(self, loop: Loop) -> None:
        lo, hi = number(loop.lo, self.sizes), number(loop.hi, self.sizes)
        extent = max(0, -(-(hi - lo) // loop.step))
        if any(isinstance(n, Leave) for n in loop.body):
            extent = round(extent * EARLY)
        outer = self._here
        inner = not any(isinstance(n, Loop | FoldLoop | Tile | Turn | Stream) for n in loop.body)
        vector = inner and loop.kind in (LoopKind.VECTOR, LoopKind.PARALLEL) and not self._alone(loop)
        if free(loop.lo) & {index for index, _ in outer.loops}:
            self.starts[loop.index] = Call("add", (IndexRef(loop.index), substitute(loop.lo, self.starts)), I64)
        if loop.kind is not LoopKind.PARALLEL:
            self._add("loop", outer.times * self.machine.loop_cycles)
        kept = self.sizes.get(loop.index)
        self.sizes[loop.index] = max(lo, (lo + hi - 1) // 2)
        self.jumps[loop.index] = loop.step
        self._enter({loop.index}, outer.times * extent, (*outer.loops, (loop.index, extent)), vector)
        if vector:
            self._here.window = self.machine.extra.get("window", inf) * self._instruction
            self._rest(loop, extent, outer.times)
        self._nodes(loop.body)
        if not inner:
            self._add("latency", self._here.times * self._here.chain * UNHIDDEN)
        self._done(self.frames.pop())
        self._restored({loop.index: kept})

    def _alone(self, loop: Loop) -> bool:
        """Whether a loop works on one element at a time: it calls a function without a vector form, divides integers, guards its loads;
        or is one of several that threads share as one, and divides to find its indices."""
        if self.flat and loop.kind is LoopKind.PARALLEL:
            return True
        for node in loop.body:
            for top in expressions_of(node):
                for x in subtrees(top):
                    if isinstance(x, Call) and x.dtype.is_float and x.op in self.machine.scalar:
                        return True
                    if isinstance(x, Call) and OPS[x.op].unit is Unit.IDIV and loop.index in free(x) and not _by_constant(x):
                        return True
                    if isinstance(x, Load) and x.default is not None:
                        return True
        return False

    def _rest(self, loop: Loop, extent: int, times: float) -> None:
        """What a reduction has beyond whole turns runs in vectors of half the width, then one by one; its lanes are joined: a chain
        whose steps wait for each other, but in whose shadow the next rows run."""
        if any(isinstance(n, Combine) for n in loop.body):
            lanes = self.machine.lanes_bits // 32
            rest, half = extent % (INTERLEAVED * lanes), max(1, lanes // 2)
            self._add("latency", times * (rest // half + rest % half + log2(lanes)) * self.machine.latency * UNHIDDEN)

    def _restored(self, kept: Mapping[str, int | None]) -> None:
        for name, value in kept.items():
            if value is None:
                self.sizes.pop(name, None)
            else:
                self.sizes[name] = value

    def _tile(self, tile: Tile) -> None:
        """A tile's work: one instruction a vector, what rows or columns share loaded once for all of them."""
        times, loops = self._here.times, self._here.loops
        ranges = (tile.columns, tile.rows, *tile.reduction)
        kept = {b.index: self.sizes.get(b.index) for b in ranges}
        extents: list[int] = []
        for b in ranges:
            lo, hi = number(b.lo, self.sizes), number(b.hi, self.sizes)
            extents.append(max(0, hi - lo))
            self.sizes[b.index] = max(lo, (lo + hi - 1) // 2)
        width = tile.vectors * tile.lanes
        blocks = -(-extents[0] // width) * -(-extents[1] // tile.height)
        terms = prod(extents[2:])
        dtype = tile.value.dtype
        wide = tile.lanes * dtype.bits / self.machine.lanes_bits  # a vector of the tile, against an instruction of the machine file
        # Loops of few turns that are written out leave one to start; which of several is innermost, the caches decide.
        whole = times * blocks * terms / TILE_EFFICIENCY * (STARTS if sum(not isinstance(b.hi, Const) for b in tile.reduction) > 1 else 1.0)
        if not (self.contract and isinstance(tile.value, Call) and tile.value.op in ("mul", "powi")):  # else the sum's addition is fused
            self._add("ADD", whole * tile.height * tile.vectors * max(0.5, wide) * self.machine.instruction_cycles(Unit.ADD, dtype))
        for x in subtrees(tile.value):
            across = tile.columns.index in free(x)
            if isinstance(x, Call) and across:
                rows = tile.height if tile.rows.index in free(x) else 1
                self._add("FMA", whole * rows * tile.vectors * max(0.5, wide) * self.machine.instruction_cycles(OPS[x.op].unit, dtype))
            if isinstance(x, Load):
                count = (tile.height if tile.rows.index in free(x) else 1) * (tile.vectors if across else 1)
                self._add("load", whole * count * 0.5 + times * blocks * self._pages(x, tile.reduction) * PAGE)
                block = (-(-extents[0] // width), -(-extents[1] // tile.height), *extents[2:])
                inside = tuple((b.index, n) for b, n in zip(ranges, block, strict=True))
                size = self.buffers[x.array].dtype.itemsize * count * (tile.lanes if across else 1)
                self._touched(x.array, x.indices, size, (*loops, *inside))
        self._add("latency", times * blocks * self.machine.latency * max(1.0, wide) * tile.height)
        inside = ((tile.rows.index, extents[1]), (tile.columns.index, extents[0]))
        self._stored(tile.buffer, tile.indices, times * extents[0] * extents[1], (*loops, *inside), True)
        self._restored(kept)

    def _pages(self, e: Load, reduction: tuple[Binder, ...]) -> float:
        """Pages that the terms of one block meet anew: where they are more than the first-level buffer of addresses holds."""
        pages, buffer = 1.0, self.buffers[e.array]
        for b in reduction:
            step = (self._step(buffer, e.indices, b.index) or 0) * buffer.dtype.itemsize
            pages *= max(1.0, extent_of(b, self.sizes) * min(1.0, step / PAGE_BYTES))
        return pages if pages > PAGES else 0.0

    def _turn(self, turn: Turn) -> None:
        """A tile turned through registers: whole lines are read, and the copy stays in the first-level cache."""
        times, loops = self._here.times, self._here.loops
        ranges = (turn.columns, turn.rows)
        for b in ranges:
            if free(b.lo) & {index for index, _ in loops}:
                self.starts[b.index] = Call("add", (IndexRef(b.index), substitute(b.lo, self.starts)), I64)
        inside = tuple((b.index, extent_of(b, self.sizes)) for b in ranges)
        self._add("load", times * prod(extent for _, extent in inside) * TURNED)
        self._touched(turn.source.array, turn.source.indices, self.buffers[turn.source.array].dtype.itemsize, (*loops, *inside))

    def _stream(self, stream: Stream) -> None:
        """A row copied past the caches: each vector loaded once and stored once; memory takes whole lines."""
        times, loops, along = self._here.times, self._here.loops, stream.along
        if free(along.lo) & {index for index, _ in loops}:
            self.starts[along.index] = Call("add", (IndexRef(along.index), substitute(along.lo, self.starts)), I64)
        extent = extent_of(along, self.sizes)
        inside, size, near = (*loops, (along.index, extent)), self.buffers[stream.buffer].dtype.itemsize, self.machine.levels[0]
        self._add("load", times * extent * size / near.bytes_per_cycle)
        self._add("store", times * extent * size / (near.written or near.bytes_per_cycle))
        self._add("loop", times * (ENDS if extent * size % self.machine.line_bytes else 0.0))
        self._touched(stream.source.array, stream.source.indices, size, inside)
        self._touched(stream.buffer, stream.indices, size, inside, written=True, past=True)

    def _prefetch(self, asked: Prefetch) -> None:
        """An instruction a line; the lines come from memory while the next loop computes, not for the one that reads them."""
        along, buffer = asked.along, self.buffers[asked.source.array]
        extent, size = extent_of(along, self.sizes), buffer.dtype.itemsize
        self._add("load", self._here.times * extent * size / self.machine.line_bytes)
        self._touched(asked.source.array, asked.source.indices, size, (*self._here.loops, (along.index, extent)), loop=self.entered + 1)
        self.accesses.insert(0, self.accesses.pop())

    def _fold(self, fold: FoldLoop) -> None:
        outer = self._here
        extent = max(0, number(fold.hi, self.sizes) - number(fold.lo, self.sizes))
        steps = extent * (EARLY if fold.condition is not None else 1.0)
        for c in fold.carries:
            self._expression(c.init)
        names = {fold.index, *(c.name for c in fold.carries)}
        self._enter(names, outer.times * steps, (*outer.loops, (fold.index, extent)), False)
        self._nodes(fold.body)
        for c in fold.carries:
            self._expression(c.update)
        if fold.condition is not None:
            self._expression(fold.condition)
        self._add("latency", self._here.times * self.machine.latency)  # each step waits for the one before
        self._done(self.frames.pop())

    # -- expressions

    def _home(self, e: Expr) -> Frame:
        """The outermost loop that binds all that a value depends on; the innermost, if it reads what the launch writes."""
        if any(isinstance(x, Load) and x.array in self.stored for x in subtrees(e)):
            return self._here
        names = set(free(e))
        for frame in reversed(self.frames):
            if frame.names & names:
                return frame
            if names - frozenset().union(*(f.names for f in self.frames)):
                return self._here  # a scalar whose loop is not known
        return self.frames[0]

    def _expression(self, e: Expr) -> None:
        if isinstance(e, Call | Load):
            home = self._home(e)
            if e in home.seen:
                return
            home.seen.add(e)
            home.chain = max(home.chain, self._depth(e))
            if isinstance(e, Load):
                self._load(e, home)
                return
            self._call(e, home)
        for child in children(e):
            self._expression(child)

    def _depth(self, e: Expr) -> float:
        """Cycles from what a value is computed of to the value."""
        match e:
            case Call():
                function = self.machine.functions.get((e.op, e.dtype.name))
                if function is None:
                    steps = DEPTHS.get(OPS[e.op].unit, 1.0)
                else:
                    steps = DEEP * function * self.machine.lanes(e.dtype) / self._instruction
                return steps * self.machine.latency + max((self._depth(x) for x in e.args), default=0.0)
            case Local():
                return self.depths.get(e.name, 0.0)
            case _:
                return 0.0

    def _call(self, e: Call, home: Frame) -> None:
        kind = e.args[0].dtype if e.args else e.dtype
        unit = OPS[e.op].unit
        if unit is Unit.DIV and len(e.args) == 2 and _power_of_two(e.args[1]):
            unit = Unit.MUL
        if unit is Unit.LOGIC and kind is BOOL and len(e.args) > 1:
            kind = e.args[1].dtype
        lanes = self.machine.lanes(kind) if home.vector else 1
        cycles = self.machine.instruction_cycles(unit, kind)
        if not home.vector:
            cycles = min(cycles, max(0.5, cycles * SCALAR))
        if (e.op, e.dtype.name) in self.machine.functions:
            cycles, lanes = self.machine.functions[e.op, e.dtype.name], 1
            if not home.vector and e.op not in self.machine.scalar:
                cycles *= self.machine.lanes(e.dtype) * SCALAR
        elif unit is Unit.IDIV and kind.is_int:
            if _by_constant(e):
                cycles = 4 * self.machine.instruction_cycles(Unit.MUL, kind)
            else:
                cycles, lanes = cycles / self.machine.lanes(kind), 1
        elif e.op == "powi":
            match e.args:
                case (_, Const(value=value)):
                    n = abs(int(value))
                    cycles *= max(1, n.bit_length() + bin(n).count("1") - 2)
                case _:
                    pass
        self._add(unit.name, home.times * cycles / lanes, home)

    def _load(self, e: Load, home: Frame) -> None:
        self._access(e.array, e.indices, home, False)
        if e.default is not None:
            self._add("branch", home.times * GUARDED, home)
        self._address(e.indices)

    def _address(self, indices: tuple[Expr, ...]) -> None:
        """An address of affine indices is free, one that loads or divides is not."""
        for i in indices:
            for x in subtrees(i):
                if isinstance(x, Load) or (isinstance(x, Call) and x.op not in ("add", "sub", "mul", "neg")):
                    self._expression(x)

    def _written(self, node: Let | Combine | Store | Accumulator) -> None:
        here = self._here
        match node:
            case Store():
                self._stored(node.buffer, node.indices, here.times, here.loops, here.vector)
                if node.kind is not None:
                    self._access(node.buffer, node.indices, here, False)
                    dtype = self.buffers[node.buffer].dtype
                    cycles = self.machine.instruction_cycles(Unit.ADD, dtype)
                    self._add("ADD", here.times * (cycles / self.machine.lanes(dtype) if here.vector else cycles))
            case Accumulator():
                self.dtypes[node.name] = node.dtype
                here.names.add(node.name)
            case Combine():
                dtype = self.dtypes[node.name]
                cycles = self.machine.instruction_cycles(Unit.ADD, dtype)
                if REDUCTIONS[node.kind].combine is None:
                    self._add("ADD", here.times * 2.0)
                elif here.vector:
                    self._add("ADD", here.times * cycles / self.machine.lanes(dtype))
                else:
                    self._add("latency", here.times * self.machine.latency)
            case Let():
                here.names.add(node.name)
                self.depths[node.name] = self._depth(node.value)
                if node.value.dtype is I64:
                    self.sizes[node.name] = number(node.value, self.sizes)

    # -- accesses

    def _stored(self, array: str, indices: tuple[Expr, ...], times: float, loops: Loops, vector: bool) -> None:
        self._access(array, indices, Frame(set(), times, loops, vector, ports=self._here.ports, number=self._here.number), True)

    def _access(self, array: str, indices: tuple[Expr, ...], frame: Frame, written: bool) -> None:
        buffer = self.buffers[array]
        size = buffer.dtype.itemsize
        near = stride(array, indices, frame.loops[-1][0], {array: buffer.order}) if frame.loops else Stride.NONE
        level = self.machine.levels[0]
        if near is Stride.NONE and frame.vector and not written:
            cycles = 0.0  # kept in a register
        elif not frame.vector or near is Stride.NONE:
            cycles = 1.0 if written else 0.5
        elif near is Stride.UNIT:
            cycles = size / (level.written or level.bytes_per_cycle) if written else self.kept * size / level.bytes_per_cycle
        else:
            step = self._step(buffer, indices, frame.loops[-1][0])
            cycles = FIELD if step is not None and step <= FIELDS else GATHERED
        self._add("store" if written else "load", frame.times * cycles, frame)
        self._touched(array, indices, size, frame.loops, written, frame.number)

    def _touched(
        self,
        array: str,
        indices: tuple[Expr, ...],
        itemsize: int,
        loops: Loops,
        written: bool = False,
        loop: int | None = None,
        past: bool = False,
    ) -> None:
        buffer = self.buffers[array]
        moved = tuple(substitute(i, self.starts) for i in indices)
        steps = tuple(self._step(buffer, moved, index) for index, _ in loops)
        whole = buffer.dtype.itemsize * prod(float(max(0, number(n, self.sizes))) for n in buffer.shape)
        jumps = tuple(self.jumps.get(index, 1) for index, _ in loops)
        owner = self._here.number if loop is None else loop
        self.accesses.append(Access(array, moved, itemsize, loops, steps, written, whole, jumps, owner, past))

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


SCALAR = 0.5
"""A scalar instruction's time against a whole vector's: vectors of 512 bits take two turns, dividers more."""


def _loads(e: Expr, array: str) -> bool:
    return any(isinstance(x, Load) and x.array == array for x in subtrees(e))


def _power_of_two(e: Expr) -> bool:
    """Whether dividing by a constant is multiplying by its inverse, exactly."""
    return isinstance(e, Const) and isinstance(e.value, float) and abs(frexp(e.value)[0]) == 0.5


def _by_constant(e: Call) -> bool:
    """Whether a division is by a constant: multiplications and shifts."""
    return len(e.args) == 2 and isinstance(e.args[1], Const)

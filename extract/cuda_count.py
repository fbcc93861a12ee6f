"""Counts what the values and accesses of one GPU launch take: instructions by unit, coalesced sectors, the longest chain of one thread.

A value is counted where the compiler computes it: once, in the outermost loop that binds what it depends on. The address of an access
costs what ptxas makes of it: a product of 64 bits each time, and in a loop one addition for each place that moves with the loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from extract.machine import Machine
from extract.sizes import number
from extract.strides import Stride, coefficient, stride
from extract.wide_cuda import Place
from kernel_ir.dtypes import BOOL, I32, I64, DType, reads_as
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, Local, ParamRef, const
from kernel_ir.ops import OPS, Unit
from kernel_ir.plan import Buffer, Plan
from kernel_ir.walk import children, free, subtrees

WARP: Final = 32
SECTOR: Final = 32
IN_FLIGHT: Final = 4
"""Independent loads that one thread keeps under way: what the compiler gets from unrolling a loop by four."""
DIVISION: Final = 18
"""Integer instructions of a 32-bit division by what no constant says; a remainder of the same operands comes with it."""
BY_CONSTANT: Final = 4
"""Those by a constant: a product's upper half, shifts and a correction; of a power of two one."""
FREE: Final = ("neg", "abs")
"""What a float instruction does to its operands besides."""
PLAIN_INDEX: Final = ("add", "sub", "mul", "neg", "min", "max")
_LONG: Final = (Unit.DIV, Unit.SQRT, Unit.EXP, Unit.TRIG, Unit.IDIV)


@dataclass(slots=True)
class Tally:
    """What all threads of a launch do together, and the longest chain of one thread."""

    units: dict[str, float] = field(default_factory=dict[str, float])
    sectors: float = 0.0
    scattered: float = 0.0
    again: float = 0.0
    chain: float = 0.0
    atomics: float = 0.0
    footprint: dict[str, float] = field(default_factory=dict[str, float])
    arrays: set[str] = field(default_factory=set[str])

    def unit(self, name: str, cycles: float) -> None:
        self.units[name] = self.units.get(name, 0.0) + cycles


@dataclass(slots=True)
class Frame:
    """A loop's body: the names that it binds, its executions over all threads and by one thread, what is computed in it already.

    `index`: the loop's index, "" of none; `instructions`: of one execution; `places`: positions in arrays, by indices and extents, that are
    computed in it, `moving` of them with the loop, `counters` its index itself; `constants`: instructions that load what functions need,
    once a turn.
    """

    names: set[str]
    runs: float
    each: float
    index: str = ""
    seen: set[Expr] = field(default_factory=set[Expr])
    places: set[tuple[Expr, ...]] = field(default_factory=set[tuple[Expr, ...]])
    instructions: float = 0.0
    moving: int = 0
    counters: int = 0
    constants: dict[object, float] = field(default_factory=dict[object, float])


class Count:
    """The tally of one launch as it grows; `frames` are the loops around what is counted, outermost first."""

    def __init__(self, plan: Plan, machine: Machine, sizes: dict[str, int], stored: frozenset[str]) -> None:
        self.machine = machine
        self.sizes = sizes
        self.buffers: Mapping[str, Buffer] = {b.name: b for b in plan.buffers}
        self.orders = {b.name: b.order for b in plan.buffers}
        self.contract = "contract" in plan.fast_math
        self.stored = stored
        self.shared: dict[str, Buffer] = {}
        self.tally = Tally()
        self.extents: dict[str, int] = {}
        self.grid: list[str] = []
        self.serial: list[str] = []
        self.lane = ""
        self.step = 1
        self.wide = frozenset[Place]()
        self.flat = False
        self.frames: list[Frame] = [Frame(set(), 1.0, 1.0)]

    @property
    def here(self) -> Frame:
        return self.frames[-1]

    # -- instructions

    def integer(self, name: str, count: float, frame: Frame | None = None) -> None:
        """So many integer instructions an execution of the frame, under a name of the breakdown."""
        at = frame or self.here
        at.instructions += count
        self.tally.unit(name, at.runs * count * self.machine.instruction_cycles(Unit.ADD, I32) / WARP)

    def op(self, op: str, dtype: DType, times: float = 1.0, frame: Frame | None = None, chained: bool = True) -> None:
        """An op of the op table, so many times an execution of the frame."""
        at = frame or self.here
        cycles = self.machine.op_cycles(op, dtype)
        unit = OPS[op].unit
        self.tally.unit(unit.name, cycles * at.runs * times)
        at.instructions += cycles * times * WARP / self.machine.instruction_cycles(Unit.ADD, dtype if dtype.is_float else I32)
        if chained:
            self.tally.chain += at.each * times * self.machine.latency * max(1.0, cycles * 16 if unit in _LONG else 1.0)
        beside, constants = self.machine.beside.get(op, (0.0, 0.0))
        if beside or constants:
            self.integer("index", beside * times, at)
            first = self.frames[0]
            if at.index:  # ptxas loads them anew each turn
                at.constants[op] = constants
            elif op not in first.names:
                first.names.add(op)
                self.integer("index", constants, first)

    # -- expressions

    def home(self, e: Expr) -> Frame:
        """The outermost frame that binds all that a value depends on; the innermost, if it reads what the launch writes."""
        if any(isinstance(x, Load) and (x.array in self.stored or x.array in self.shared) for x in subtrees(e)):
            return self.here
        names = set(free(e))
        return next((f for f in reversed(self.frames) if f.names & names), self.frames[0])

    def expression(self, e: Expr, fused: bool = False) -> None:
        """What a value takes; `fused`: its last operation is part of the one that uses it."""
        if isinstance(e, Call | Load):
            home = self.home(e)
            if e in home.seen:
                return
            home.seen.add(e)
            if isinstance(e, Load):
                self.access(e.array, e.indices, home, store=False)
                if e.default is not None:
                    self.expression(e.default)
                return
            self._call(e, home, fused)
            part = self._fused(e)
            for child in children(e):
                self.expression(child, fused=child is part)
            return
        for child in children(e):
            self.expression(child)

    def ends_in_product(self, e: Expr) -> bool:
        """Whether a value's last instruction is a product that a sum may be fused with."""
        return self.contract and e.dtype.is_float and isinstance(e, Call) and (e.op == "mul" or e.op in self.machine.ending)

    def _fused(self, e: Call) -> Expr | None:
        """The argument whose last product a sum or difference is fused with."""
        return next((x for x in e.args if self.ends_in_product(x)), None) if e.op in ("add", "sub") else None

    def _call(self, e: Call, home: Frame, fused: bool) -> None:
        match e:
            case Call("floordiv" | "mod") if not e.dtype.is_float:
                self._divided(e, home)
            case Call("powi", (base, Const() as n)):
                self.op("mul", base.dtype, max(1, abs(int(n.value)).bit_length() + bin(abs(int(n.value))).count("1") - 2), home)
            case Call("mul") if fused:
                pass  # of a fused product and sum, which counts as the sum
            case Call("min" | "max") if e.dtype.is_float:
                self.op(e.op, e.dtype, 3, home)  # a NaN goes through: compare and select besides
            case Call(op) if op in FREE and e.dtype.is_float:
                pass
            case Call("select", (_, a, b)) if isinstance(a, Call) or isinstance(b, Call):
                pass  # predicates keep one value or the other from being computed
            case Call():
                part = self._fused(e)
                if home.index and isinstance(part, Call) and _scalar(e) and _scalar(part):
                    home.constants[e] = 1.0  # an instruction reads one scalar where it lies: the other goes to a register first
                if fused:
                    self.op("mul", e.dtype, -1.0, home, chained=False)
                index = e.dtype is I64 and all(not isinstance(y, Load | Local) for y in subtrees(e))
                self.op(e.op, I32 if index else _dtype(e), 1.0, home)

    def _divided(self, e: Call, home: Frame) -> None:
        match e.args:
            case (_, Const(divisor)):
                self.integer("index", 1 if int(divisor).bit_count() == 1 else BY_CONSTANT, home)
            case _:
                other = Call("mod" if e.op == "floordiv" else "floordiv", e.args, e.dtype)
                self.integer("index", 2 if other in home.seen else DIVISION, home)
                self.tally.chain += home.each * self.machine.latency * DIVISION

    # -- accesses

    def access(self, array: str, indices: tuple[Expr, ...], frame: Frame, store: bool) -> None:
        """One load or store."""
        for i in indices:
            self._index(i)
        if array in self.shared:
            buffer = self.shared[array]
            self._position(buffer, indices, frame, 1.0)
            self.instructions(1.0, frame)
            self.tally.sectors += frame.runs / WARP * buffer.dtype.itemsize
            self.tally.chain += frame.each / IN_FLIGHT * self.machine.extra["near_latency"]
            return
        if array not in self.buffers:
            return
        buffer = self.buffers[array]
        self.tally.arrays.add(array)
        met = tuple(_within_warp(i, self.lane) for i in indices)
        wide = (array, indices) in self.wide
        how = stride(array, met, self.lane, self.orders) if self.lane else Stride.NONE
        # One instruction for all neighbours of a thread: they lie side by side, or are one element.
        at_once = self.step if wide or how is Stride.NONE else 1
        self.integer("address", 1.0 / at_once, frame)
        self._first_met(buffer)
        self._position(buffer, indices, frame, 1.0 / at_once)
        self.instructions(1.0 / at_once, frame)
        self._sectors(buffer, met, frame, wide, how, at_once, store)

    def instructions(self, count: float, frame: Frame | None = None) -> None:
        """So many loads or stores an execution of the frame."""
        self.integer("access", count, frame)

    def _first_met(self, buffer: Buffer) -> None:
        """What a thread loads once of an array: its address, and the size of elements, where no instruction contains them."""
        first = self.frames[0]
        for name, figure in ((buffer.name, "pointer_ops"), (f"{buffer.dtype.itemsize} bytes", "size_ops")):
            if name not in first.names:
                first.names.add(name)
                self.integer("address", self.machine.extra.get(figure, 0.0), first)

    def _position(self, buffer: Buffer, indices: tuple[Expr, ...], frame: Frame, share: float) -> None:
        """Where an access is in its array: in a loop that moves it, one addition a turn; before, products of indices and extents."""
        place = (*(indices[d] for d in buffer.order), *(buffer.shape[d] for d in buffer.order[1:]))
        if place in frame.places:
            return
        frame.places.add(place)
        moves = frame.index and any(frame.index in free(i) for i in indices)
        if moves:
            self.integer("address", share, frame)
            frame.moving += 1
            frame.counters += indices == (IndexRef(frame.index),)
        if [i.name for i in indices if isinstance(i, IndexRef)] != self.grid or not self.flat:
            outside = self.frames[max(0, self.frames.index(frame) - 1)] if moves and frame in self.frames else frame
            self.integer("address", len(indices) - 1, outside)

    def _index(self, i: Expr) -> None:
        """What an index takes that is no sum of products: divisions, and what it loads."""
        if isinstance(i, Call) and i.op in PLAIN_INDEX:
            for child in i.args:
                self._index(child)
        elif isinstance(i, Call | Load):
            self.expression(i)

    def _sectors(self, buffer: Buffer, indices: tuple[Expr, ...], frame: Frame, wide: bool, how: Stride, at_once: int, store: bool) -> None:
        """The memory that an access moves, and how long a thread waits for it."""
        array, itemsize = buffer.name, buffer.dtype.itemsize
        whole = float(itemsize)
        for extent in buffer.shape:
            whole *= max(0, number(extent, self.sizes))
        warps = frame.runs / WARP
        unit = min(float(WARP), float(itemsize * (1 if wide else self.step)))
        sectors = {Stride.NONE: 1.0 / self.step, Stride.UNIT: unit, Stride.FAR: float(WARP)}[how]
        if how is Stride.FAR and self.serial and stride(array, indices, self.serial[-1], self.orders) is Stride.UNIT:
            sectors *= itemsize / SECTOR  # the next iteration finds its element in the same sector
        elif how is Stride.FAR:
            step = self._step(buffer, indices)
            sectors = min(sectors, float(step * itemsize))
            # What is left of the sectors is for other blocks, on other multiprocessors.
            self.tally.scattered += warps * sectors if step * itemsize >= SECTOR else 0.0
        self.tally.sectors += warps * sectors
        names = frozenset[str]().union(*map(free, indices)) if indices else frozenset[str]()
        touched = float(itemsize)
        for name in sorted(names & set(self.extents)):
            touched *= self.extents[name]
        looked_up = any(isinstance(x, Load) for i in indices for x in subtrees(i))
        footprint = min(whole, frame.runs * SECTOR if looked_up else touched)
        known = self.tally.footprint
        known[array] = max(known.get(array, 0.0), footprint * (2 if store and array in known else 1))
        shared = not set(self.grid) <= names
        if shared and whole > self.machine.levels[1].bytes:
            self.tally.again += warps * sectors
        far = self.machine.extra["memory_latency" if whole > self.machine.levels[1].bytes else "far_latency"]
        near = how is Stride.NONE or (bool(self.serial) and not shared)
        if not store:
            waits = self.machine.extra["near_latency"] if near else far
            self.tally.chain += frame.each / at_once / IN_FLIGHT * waits + (far if near else 0.0)

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

    def collisions(self, array: str) -> float:
        """Cycles an atomic operation keeps its multiprocessor's way to the L2, more where targets are few."""
        elements = 1.0
        for extent in self.buffers[array].shape:
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


def _scalar(e: Call) -> bool:
    """Whether an operand is a parameter."""
    return any(isinstance(x, ParamRef) for x in e.args)


def _dtype(e: Call) -> DType:
    """The arithmetic dtype that an op works on: of its argument for comparisons and casts."""
    held = e.args[-1].dtype if e.args else e.dtype
    if isinstance(e.args[0], IndexRef):
        return e.dtype if e.dtype is not BOOL else I32
    return reads_as(held) if held is not BOOL or e.dtype is BOOL else e.dtype

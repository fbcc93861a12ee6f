"""The nodes of one launch become the body of a numba.cuda kernel: loops, accumulators, shuffles, barriers and atomics."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from backends.cuda_expr import STORED, TYPES, Expressions, constant
from backends.cuda_prelude import helper_name
from backends.cuda_tile import tile_lines
from extract.fuse import expressions_of
from extract.intervals import Ranges, greatest, least, nonnegative, with_binder
from extract.reductions import over_nothing
from extract.wide_cuda import Place, takes_rest, wide_accesses
from kernel_ir.dtypes import BOOL, I32, I64, DType
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Binder, Call, Const, Expr, ReduceKind, const
from kernel_ir.ops import OPS, Unit
from kernel_ir.plan import (
    Accumulator,
    Alloc,
    Barrier,
    BlockTile,
    Combine,
    FoldLoop,
    Join,
    Launch,
    Leave,
    Let,
    Loop,
    LoopKind,
    Matmul,
    Node,
    Store,
    Tile,
    Turn,
    When,
)
from kernel_ir.walk import subtrees

WARP: Final = 32
_FULL: Final = "0xFFFFFFFF"
_OFFSETS: Final = (16, 8, 4, 2, 1)
_LONG: Final = {Unit.EXP: 25, Unit.TRIG: 50, Unit.DIV: 15, Unit.SQRT: 15, Unit.IDIV: 40}
_UNROLLED: Final = 250
"""Instructions, about, up to which a loop of constant length is left to NVVM to unroll."""
_TOP: Final = (LoopKind.GRID, LoopKind.BLOCK, LoopKind.WARP)


@dataclass(frozen=True, slots=True)
class Grid:
    """How a launch covers its points: the parallel loops, outermost first, and who runs one point."""

    loops: tuple[Loop, ...]
    kind: LoopKind
    body: tuple[Node, ...]


def grid_of(launch: Launch) -> Grid:
    """The parallel loops at the top of a launch."""
    loops: list[Loop] = []
    body = launch.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind in _TOP and (not loops or body[0].kind is loops[0].kind):
        loops.append(body[0])
        body = body[0].body
    if not loops:
        raise TargetError(f"the launch {launch.name} has no parallel loop for the GPU")
    return Grid(tuple(loops), loops[0].kind, body)


class KernelBody:
    """Prints the lines of one kernel function."""

    def __init__(self, launch: Launch, expressions: Expressions) -> None:
        self.launch = launch
        self.e = expressions
        self.grid = grid_of(launch)
        self.lines: list[str] = []
        self.shared: list[str] = []
        self.bits: set[str] = set()
        self.depth = 1
        self.accumulators: dict[str, Accumulator] = {}
        self.looped = 0

    def text(self) -> list[str]:
        """The body's lines, indented once."""
        self._top()
        return [*(f"    {line}" for line in self.shared), *self.lines]

    def line(self, text: str) -> None:
        """One line at the present depth."""
        self.lines.append("    " * self.depth + text)

    # -- the grid

    def _top(self) -> None:
        grid = self.grid
        if grid.loops[-1].step > 1 and takes_rest(grid.loops, self.e.buffers):
            self._row_and_rest()
            return
        single = len(grid.loops) == 1 and grid.loops[0].lo == const(0, I64)
        place = self.e.name(grid.loops[0].index) if single else ("point" if grid.kind is LoopKind.GRID else "row")
        match grid.kind:
            case LoopKind.GRID:
                self.line(f"{place} = index(cuda.grid(1))")
            case LoopKind.BLOCK:
                self.line(f"{place} = index(cuda.blockIdx.x)")
                self.line("thread = index(cuda.threadIdx.x)")
            case _:
                warps = self.launch.threads // WARP
                self.line("thread = index(cuda.threadIdx.x)")
                self.line("lane = index(thread % index(32))")
                self.line(f"{place} = index(index(cuda.blockIdx.x) * index({warps}) + index(thread // index(32)))")
        if grid.kind is not LoopKind.BLOCK:
            self.line(f"if {place} < points:")
            self.depth += 1
        start = len(self.lines)
        ranges: Ranges = {}
        for loop in grid.loops:
            if not nonnegative(loop.lo, {}):
                self.e.wide.add(loop.index)
            ranges = with_binder(Binder(loop.index, loop.lo, loop.hi), ranges)
        self.e.ranges = ranges
        extents = tuple((loop.index, loop.hi) for loop in grid.loops)
        if not single and grid.kind is LoopKind.GRID and all(loop.lo == const(0, I64) for loop in grid.loops):
            self.e.flat = ("point", extents)
        if grid.loops[-1].step == 1:
            self.nodes(grid.body)
        else:
            self.e.flat = None
            self._lanes(grid.loops[-1], "first")
        if not single:
            self.lines[start:start] = self._indices(place, "\n".join(self.lines[start:]))

    def _row_and_rest(self) -> None:
        """Wide threads over the points as one row, then a thread for each point that is left over."""
        loops = self.grid.loops
        last, step = loops[-1], loops[-1].step
        at = self.e.name(last.index) if len(loops) == 1 else "at"
        for loop in loops:
            self.e.ranges = with_binder(Binder(loop.index, loop.lo, loop.hi), self.e.ranges)
        extents = tuple((loop.index, loop.hi) for loop in loops)
        self.line("point = index(cuda.grid(1))")
        self.line(f"wide = index(points // index({step}))")
        self.line("if point < wide:")
        self.depth += 1
        self.line(f"first = index(point * index({step}))")
        self._lanes(last, "first", extents)
        self.depth -= 1
        self.line(f"elif point < index(wide + index(points % index({step}))):")
        self.depth += 1
        self.line(f"{at} = index(point + index(wide * index({step - 1})))")
        self.e.flat = (at, extents)
        self.nodes(last.body)
        self.depth -= 1

    def _lanes(self, loop: Loop, first: str, extents: tuple[tuple[str, Expr], ...] = ()) -> None:
        """The neighbours from `first` on, one after the other, between their wide loads and stores; `extents` of a grid that is one row."""
        found = wide_accesses(loop, loop.step, self.e.buffers, not extents)
        assert found is not None
        row = len(extents) > 1
        names, parts = self.e.names, self._parts(dict.fromkeys((*found.loads, *found.stores)), loop.step)
        at = "at" if row else self.e.name(loop.index)

        def move(verb: str, places: tuple[Place, ...]) -> None:
            self.e.names = {**names, loop.index: first}
            self.e.flat = (first, extents) if row else None
            for array, indices in places:
                place = self.e.place(array, indices)
                self.line(f"wide_{verb}({self.e.name(array)}, {place}, {parts[array, indices]}, {loop.step})")
            self.e.names = names
            self.e.flat = (at, extents) if row else None

        move("load", found.loads)
        # A long body NVVM does not unroll, and would then keep the parts in memory.
        long = _length_of(loop.body) * loop.step > _UNROLLED
        if not long:
            self.line(f"for u in range({loop.step}):")
            self.depth += 1
        for u in map(str, range(loop.step)) if long else ("u",):
            self.line(f"{at} = index({first} + index({u}))")
            self.e.parts = {place: f"{part}[{u}]" for place, part in parts.items()}
            self.nodes(loop.body)
        self.e.parts = {}
        self.depth -= 0 if long else 1
        move("store", found.stores)

    def _parts(self, places: Iterable[Place], width: int) -> dict[Place, str]:
        """Declares what a thread holds of arrays, which NVVM keeps in registers; one loop after another uses the same."""
        taken = {self.e.name(name) for name in self.e.buffers}
        parts: dict[Place, str] = {}
        for array, indices in places:
            name, number = f"{self.e.name(array)}_wide", 1
            while name in taken:
                number += 1
                name = f"{self.e.name(array)}_wide{number}"
            taken.add(name)
            parts[array, indices] = name
            line = f"{name} = cuda.local.array({width}, {STORED[self.e.buffers[array].dtype.name]})"
            if line not in self.shared:
                self.shared.append(line)
        return parts

    def _indices(self, place: str, body: str) -> list[str]:
        """The grid's indices out of the point's number, as far as the body or a later index needs them."""
        lines: list[str] = []
        rest = place
        for number, loop in reversed(list(enumerate(self.grid.loops))):
            name = self.e.name(loop.index)
            length = self._length(loop)
            if loop.step > 1:
                length = f"index({length} // index({loop.step}))"
            value = rest if number == 0 else f"index({rest} % {length})"
            if loop.step > 1:
                name, value = "first", f"index({value} * index({loop.step}))"
            if loop.lo != const(0, I64):
                low = self.e.signed(loop.lo) if loop.index in self.e.wide else self.e.address(loop.lo)
                value = f"int64({value}) + {low}" if loop.index in self.e.wide else f"index({value} + {low})"
            if re.search(rf"\b{name}\b", body):
                lines.append("    " * self.depth + f"{name} = {value}")
            if number > 1:
                lines.append("    " * self.depth + f"rest = index({rest} // {length})")
                rest = "rest"
            else:
                rest = f"index({rest} // {length})"
        return lines

    def _length(self, loop: Loop) -> str:
        """The loop's extent, which is positive wherever a point exists."""
        hi = self.e.address(loop.hi)
        return hi if loop.lo == const(0, I64) else f"index({hi} - {self.e.address(loop.lo)})"

    # -- nodes

    def nodes(self, nodes: Sequence[Node]) -> None:
        """Prints nodes in order."""
        for node in nodes:
            self._node(node)
        if not nodes:
            self.line("pass")

    def _node(self, node: Node) -> None:
        match node:
            case Let(name, value):
                self.line(f"{self.e.name(name)} = {self.e.text(value)}")
            case Accumulator():
                self._accumulator(node)
            case Combine(name, kind, values):
                self._combine(name, kind, values)
            case Join():
                self._join(node)
            case Store():
                self._store(node)
            case When(condition, body, otherwise):
                self._block(f"if {self.e.text(condition)}:", body)
                if otherwise:
                    self._block("else:", otherwise)
            case Loop():
                self._loop(node)
            case FoldLoop():
                self._fold(node)
            case Barrier(scope):
                self.line("cuda.syncthreads()" if scope == "block" else "cuda.syncwarp()")
            case BlockTile():
                shared, lines = tile_lines(node, self.e)
                self.shared += shared
                for text in lines:
                    self.line(text)
            case Alloc(buffer, None) if buffer.space == "shared":
                (extent,) = buffer.shape
                self.e.buffers = {**self.e.buffers, buffer.name: buffer}
                self.shared.append(f"{buffer.name} = cuda.shared.array({self.e.address(extent)[6:-1]}, {STORED[buffer.dtype.name]})")
            case Alloc() | Leave() | Matmul() | Tile() | Turn():
                raise TargetError(f"a plan for CUDA holds a {type(node).__name__.lower()}, which it cannot run")

    def _block(self, head: str, body: Sequence[Node]) -> None:
        self.line(head)
        self.depth += 1
        self.nodes(body)
        self.depth -= 1

    def _store(self, node: Store) -> None:
        buffer = self.e.buffers[node.buffer]
        place = self.e.place(node.buffer, node.indices)
        name = self.e.name(node.buffer)
        if (part := self.e.parts.get((node.buffer, node.indices))) is not None:
            self.line(f"{part} = {self.e.stored(node.value, buffer.dtype)}")
        elif node.kind is None:
            self.line(f"{name}[{place}] = {self.e.stored(node.value, buffer.dtype)}")
        elif buffer.dtype.is_float and node.kind != "sum":
            self._atomic_extreme(node, name, place, buffer.dtype)
        else:
            op = {"sum": "add", "max": "max", "min": "min"}[node.kind]
            self.line(f"cuda.atomic.{op}({name}, {place}, {self.e.text(node.value)})")

    def _atomic_extreme(self, node: Store, name: str, place: str, dtype: DType) -> None:
        """Compare and swap on the bits: the hardware's own float max and min lose NaN."""
        self.bits.add(node.buffer)
        assert node.kind is not None
        helper = helper_name("maximum" if node.kind == "max" else "minimum", TYPES[dtype.name])
        of_bits, to_bits = ("int_as_float", "float_as_int") if dtype.bits == 32 else ("longlong_as_double", "double_as_longlong")
        self.line(f"place = {place}")
        self.line(f"value = {self.e.text(node.value)}")
        self.line(f"seen = {name}_bits[place]")
        self.line("swapped = False")
        self.line("while not swapped:")
        joined = self.e.helper(helper, f"libdevice.{of_bits}(seen)", "value")
        self.line(f"    found = cuda.atomic.cas({name}_bits, place, seen, libdevice.{to_bits}({joined}))")
        self.line("    swapped = found == seen")
        self.line("    seen = found")

    # -- reductions

    def _accumulator(self, node: Accumulator) -> None:
        self.accumulators[node.name] = node
        name = self.e.name(node.name)
        match node.kind:
            case "argmax" | "argmin":
                self.line(f"{name} = {constant(over_nothing(node.kind[3:], node.dtype))}")
                self.line(f"{name}_at = int64(-1)")
            case "expsum":
                self.line(f"{name}_max = {constant(const(float('-inf'), node.dtype))}")
                self.line(f"{name} = {constant(const(0.0, node.dtype))}")
            case _:
                self.line(f"{name} = {constant(over_nothing(node.kind, node.dtype))}")

    def _joined(self, kind: ReduceKind, dtype: DType, a: str, b: str) -> str:
        """Two partial results as one."""
        match kind:
            case "sum":
                return f"int32({a} + {b})" if dtype is I32 else f"{a} + {b}"
            case "prod":
                if dtype.is_float:
                    return f"libdevice.{'fmul_rn' if dtype.bits == 32 else 'dmul_rn'}({a}, {b})"
                return f"int32({a} * {b})" if dtype is I32 else f"{a} * {b}"
            case "max" | "min":
                if dtype.is_float:
                    return self.e.helper(helper_name("maximum" if kind == "max" else "minimum", TYPES[dtype.name]), a, b)
                return f"{TYPES[dtype.name]}({kind}({a}, {b}))"
            case "any":
                return f"{a} or {b}"
            case "all":
                return f"{a} and {b}"
            case _:
                raise TargetError(f"{kind} is not joined by one operation")

    def _combine(self, name: str, kind: ReduceKind, values: tuple[Expr, ...]) -> None:
        dtype = self.accumulators[name].dtype
        name = self.e.name(name)
        match kind:
            case "argmax" | "argmin":
                self.line(f"{name}_next = {self.e.text(values[0])}")
                self.line(f"{name}_next_at = {self.e.signed(values[1])}")
                self._take(name, kind, dtype)
            case "expsum":
                self._running(name, dtype, self.e.text(values[0]), self.e.text(values[1]))
            case _:
                self.line(f"{name} = {self._joined(kind, dtype, name, self.e.text(values[0]))}")

    def _take(self, name: str, kind: ReduceKind, dtype: DType) -> None:
        """Takes `<name>_next` where it is better: greater (or less), the first NaN, or as good and earlier."""
        new, old = f"{name}_next", name
        better = f"{new} {'>' if kind == 'argmax' else '<'} {old}"
        same = f"{new} == {old}"
        if dtype.is_float:
            better = f"({better} or ({new} != {new} and {old} == {old}))"
            same = f"({same} or ({new} != {new} and {old} != {old}))"
        earlier = f"({same} and {new}_at < {old}_at)"
        self.line(f"if {new}_at >= 0 and ({old}_at < 0 or {better} or {earlier}):")
        self.line(f"    {old} = {new}")
        self.line(f"    {old}_at = {new}_at")

    def _running(self, name: str, dtype: DType, s: str, v: str) -> None:
        """One term of a running sum of exponentials (Milakov and Gimelshein 2018): rescales what it has when the maximum grows."""
        zero, one, least_ = (constant(const(x, dtype)) for x in (0.0, 1.0, float("-inf")))
        multiply = "libdevice.fmul_rn" if dtype.bits == 32 else "libdevice.dmul_rn"
        self.line(f"{name}_next = {s}")
        self.line(f"{name}_top = {self._joined('max', dtype, f'{name}_max', f'{name}_next')}")
        self.line(f"{name}_scale = math.exp({name}_max - {name}_top) if {name}_max != {name}_top else {one}")
        self.line(f"{name}_weight = math.exp({name}_next - {name}_top) if {name}_top != {least_} else {zero}")
        self.line(f"{name} = {multiply}({name}, {name}_scale) + {multiply}({name}_weight, {v})")
        self.line(f"{name}_max = {name}_top")

    def _join(self, node: Join) -> None:
        name = self.e.name(node.name)
        if node.kind in ("any", "all"):
            # Shuffles move numbers.
            self.line(f"{name}_bit = int32(1) if {name} else int32(0)")
            self._exchange(node, {f"{name}_bit": I32}, "max" if node.kind == "any" else "min", f"{name}_bit")
            self.line(f"{name} = {name}_bit != int32(0)")
            return
        parts = {name: node.dtype}
        if node.kind in ("argmax", "argmin"):
            parts[f"{name}_at"] = I64
        elif node.kind == "expsum":
            parts = {f"{name}_max": node.dtype, name: node.dtype}
        self._exchange(node, parts, node.kind, name)

    def _exchange(self, node: Join, parts: dict[str, DType], kind: ReduceKind, name: str) -> None:
        """A butterfly in each warp, then the warps' results through shared memory."""
        dtype = node.dtype if kind not in ("max", "min") else next(iter(parts.values()))
        for offset in _OFFSETS:
            self._receive({part: f"cuda.shfl_xor_sync({_FULL}, {part}, {offset})" for part in parts}, kind, dtype, name)
        if node.scope == "warp":
            return
        warps = self.launch.threads // WARP
        if warps == 1:
            return
        for part, held in parts.items():
            self.shared.append(f"{part}_shared = cuda.shared.array({warps}, {TYPES[held.name]})")
        self.line("if thread % index(32) == index(0):")
        for part in parts:
            self.line(f"    {part}_shared[index(thread // index(32))] = {part}")
        self.line("cuda.syncthreads()")
        for part in parts:
            self.line(f"{part} = {part}_shared[0]")
        self.line("other = index(1)")
        self.line(f"while other < index({warps}):")
        self.depth += 1
        self._receive({part: f"{part}_shared[other]" for part in parts}, kind, dtype, name)
        self.line("other = index(other + index(1))")
        self.depth -= 1
        if self.looped:
            self.line("cuda.syncthreads()")

    def _receive(self, sent: dict[str, str], kind: ReduceKind, dtype: DType, name: str) -> None:
        """Joins another thread's partial result, given as the text that reads each of its parts."""
        match kind:
            case "argmax" | "argmin":
                self.line(f"{name}_next = {sent[name]}")
                self.line(f"{name}_next_at = {sent[f'{name}_at']}")
                self._take(name, kind, dtype)
            case "expsum":
                one = constant(const(1.0, dtype))
                multiply = "libdevice.fmul_rn" if dtype.bits == 32 else "libdevice.dmul_rn"
                self.line(f"{name}_next = {sent[f'{name}_max']}")
                self.line(f"{name}_part = {sent[name]}")
                self.line(f"{name}_top = {self._joined('max', dtype, f'{name}_max', f'{name}_next')}")
                self.line(f"{name}_scale = math.exp({name}_max - {name}_top) if {name}_max != {name}_top else {one}")
                self.line(f"{name}_weight = math.exp({name}_next - {name}_top) if {name}_next != {name}_top else {one}")
                self.line(f"{name} = {multiply}({name}, {name}_scale) + {multiply}({name}_weight, {name}_part)")
                self.line(f"{name}_max = {name}_top")
            case _:
                (text,) = sent.values()
                self.line(f"{name} = {self._joined(kind, dtype, name, text)}")

    # -- loops

    def _loop(self, loop: Loop) -> None:
        shared = loop.kind is LoopKind.THREAD
        worker = "lane" if self.grid.kind is LoopKind.WARP else "thread"
        if shared and loop.lo == const(0, I64) and loop.hi == const(1, I64):
            self._block(f"if {worker} == index(0):", loop.body)
            return
        if shared and loop.step > 1:
            self._wide_loop(loop, worker)
            return
        step = str(WARP if self.grid.kind is LoopKind.WARP else self.launch.threads) if shared else str(loop.step)
        self.looped += 0 if shared else 1
        name, kind, outer = self._open(loop.index, loop.lo, loop.hi, worker if shared else None)
        self.nodes(loop.body)
        self.line(f"{name} = index({name} + index({step}))" if kind == "index" else f"{name} = {name} + {step}")
        self._close(outer)
        self.looped -= 0 if shared else 1

    def _wide_loop(self, loop: Loop, worker: str) -> None:
        """The team's threads share the iterations, each taking several neighbours at a time."""
        team = WARP if self.grid.kind is LoopKind.WARP else self.launch.threads
        first = f"{self.e.name(loop.index)}_first"
        lo, end, bound = self.e.exact(loop.lo), self.e.exact(loop.hi), greatest(loop.hi, self.e.ranges)
        assert lo is not None
        assert end is not None
        assert bound is not None
        self.e.bounds[bound] = None
        start = f"index({worker} * index({loop.step}))"
        self.line(f"{first} = {start if loop.lo == const(0, I64) else f'index({start} + {lo})'}")
        self.line(f"while {first} < {end}:")
        self.depth += 1
        outer = self.e.ranges
        self.e.ranges = with_binder(Binder(loop.index, loop.lo, loop.hi), outer)
        self._lanes(loop, first)
        self.line(f"{first} = index({first} + index({team * loop.step}))")
        self._close(outer)

    def _open(self, index: str, lo: Expr, hi: Expr, worker: str | None) -> tuple[str, str, Ranges]:
        """Prints a loop's start and test; returns its variable, that variable's type, and the ranges outside."""
        name = self.e.name(index)
        start, end = self.e.exact(lo), self.e.exact(hi)
        bound = greatest(hi, self.e.ranges)
        if start is not None and bound is not None and least(lo, self.e.ranges) is not None:
            kind = "index"
            self.e.bounds[bound] = None
            if end is None:
                end = f"index(max(0, {self.e.signed(hi)}))"
            if worker is not None:
                start = worker if lo == const(0, I64) else f"index({start} + {worker})"
        else:
            kind = "int64"
            start, end = self.e.signed(lo), self.e.signed(hi)
            start = f"{start} + int64({worker})" if worker else f"int64({start})"
        self.line(f"{name} = {start}")
        if not (end.isidentifier() or isinstance(hi, Const)):
            self.line(f"{name}_end = {end}")
            end = f"{name}_end"
        self.line(f"while {name} < {end}:")
        self.depth += 1
        outer = self.e.ranges
        if kind == "int64":
            self.e.wide.add(index)
            self.e.ranges = {key: value for key, value in outer.items() if key != index}
        else:
            self.e.ranges = with_binder(Binder(index, lo, hi), outer)
        return name, kind, outer

    def _close(self, outer: Ranges) -> None:
        self.depth -= 1
        self.e.ranges = outer

    def _fold(self, node: FoldLoop) -> None:
        for carry, dtype in zip(node.carries, node.dtypes, strict=True):
            text = self.e.text(carry.init)
            self.line(f"{self.e.name(carry.name)} = {text if dtype is BOOL else f'{TYPES[dtype.name]}({text})'}")
        name, kind, outer = self._open(node.index, node.lo, node.hi, None)
        self.looped += 1
        if node.body:
            self.nodes(node.body)
        if node.condition is not None:
            self.line(f"if not {self.e.text(node.condition)}:")
            self.line("    break")
        for carry in node.carries:
            self.line(f"{self.e.name(carry.name)}_next = {self.e.text(carry.update)}")
        for carry in node.carries:
            self.line(f"{self.e.name(carry.name)} = {self.e.name(carry.name)}_next")
        self.line(f"{name} = index({name} + index(1))" if kind == "index" else f"{name} = {name} + 1")
        self.looped -= 1
        self._close(outer)


def _length_of(nodes: Sequence[Node]) -> int:
    """Instructions, about, of straight-line code; twice as many for f64."""
    calls = [x for n in nodes for e in expressions_of(n) for x in subtrees(e) if isinstance(x, Call)]
    return sum(_LONG.get(OPS[x.op].unit, 1) * (x.dtype.bits // 32 if x.dtype.is_float else 1) for x in calls)

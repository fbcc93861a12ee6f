"""The nodes of one launch become the body of a numba.cuda kernel: values, stores, conditions, loops, barriers and atomics."""

from collections.abc import Sequence

from backends.cuda_expr import STORED, TYPES, Expressions
from backends.cuda_grid import GridHead
from backends.cuda_lines import WARP
from backends.cuda_prelude import helper_name
from backends.cuda_reductions import Reductions
from backends.cuda_rows import row_tile_lines
from backends.cuda_tile import tile_lines
from extract.intervals import Ranges, greatest, least, with_binder
from kernel_ir.dtypes import BOOL, I64, DType
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Binder, Const, Expr, const
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
    Prefetch,
    RowTile,
    Store,
    Stream,
    Tile,
    Turn,
    When,
)


class KernelBody(GridHead, Reductions):
    """Prints the lines of one kernel function."""

    def __init__(self, launch: Launch, expressions: Expressions) -> None:
        super().__init__(launch, expressions)
        self.accumulators = {}

    def text(self) -> list[str]:
        """The body's lines, indented once."""
        self.top()
        return [*(f"    {line}" for line in self.shared), *self.lines]

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
                self.accumulator(node)
            case Combine(name, kind, values):
                self.combine(name, kind, values)
            case Join():
                self.join(node)
            case Store():
                self._store(node)
            case When(condition, body, otherwise):
                self.block(f"if {self.e.text(condition)}:", body)
                if otherwise:
                    self.block("else:", otherwise)
            case Loop():
                self._loop(node)
            case FoldLoop():
                self._fold(node)
            case Barrier(scope):
                self.line("cuda.syncthreads()" if scope == "block" else "cuda.syncwarp()")
            case BlockTile() | RowTile():
                shared, lines = tile_lines(node, self.e) if isinstance(node, BlockTile) else row_tile_lines(node, self.e)
                self.shared += shared
                for text in lines:
                    self.line(text)
            case Alloc(buffer, None) if buffer.space == "shared":
                (extent,) = buffer.shape
                self.e.buffers = {**self.e.buffers, buffer.name: buffer}
                self.shared.append(f"{buffer.name} = cuda.shared.array({self.e.address(extent)[6:-1]}, {STORED[buffer.dtype.name]})")
            case Alloc() | Leave() | Matmul() | Tile() | Turn() | Stream() | Prefetch():
                raise TargetError(f"a plan for CUDA holds a {type(node).__name__.lower()}, which it cannot run")

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

    def _loop(self, loop: Loop) -> None:
        shared = loop.kind is LoopKind.THREAD
        worker = "lane" if self.grid.kind is LoopKind.WARP else "thread"
        if shared and loop.lo == const(0, I64) and loop.hi == const(1, I64):
            self.block(f"if {worker} == index(0):", loop.body)
            return
        if shared and loop.step > 1:
            self.wide_loop(loop, worker)
            return
        step = str(WARP if self.grid.kind is LoopKind.WARP else self.launch.threads) if shared else str(loop.step)
        self.looped += 0 if shared else 1
        name, kind, outer = self._open(loop.index, loop.lo, loop.hi, worker if shared else None)
        self.nodes(loop.body)
        self.line(f"{name} = index({name} + index({step}))" if kind == "index" else f"{name} = {name} + {step}")
        self.close(outer)
        self.looped -= 0 if shared else 1

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
        self.close(outer)

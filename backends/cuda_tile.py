"""Turns a block tile into numba.cuda source: operands staged in shared memory, an outer product in registers, then the results.

Each thread reads `each` rows and columns of what is staged and updates their products, so that a value read from shared memory is used
several times. Loops of constant length over local arrays are short to compile; NVVM unrolls them and keeps the arrays in registers
(`tests/test_cuda_compile.py`: no stack, no spills), and reads shared memory 128 bits at a time where rows are so aligned.
"""

from typing import Final

from backends.cuda_expr import TYPES, Expressions, constant
from extract.intervals import with_binder
from extract.tile_cuda import near
from kernel_ir.dtypes import DType
from kernel_ir.nodes import Binder, Expr, const
from kernel_ir.plan import BlockTile

PAD: Final = 4
"""Elements added to each staged row of the left operand: threads that stage one column of it hit different banks, 128-bit reads fit."""


def tile_lines(tile: BlockTile, e: Expressions) -> tuple[list[str], list[str]]:
    """(the shared and local arrays, the body) of a block tile, at no indent; `thread` is the thread's number."""
    for b in (tile.rows, tile.columns, tile.reduction):
        e.ranges = with_binder(b, e.ranges)
    return _Tile(tile, e).lines()


class _Tile:
    def __init__(self, tile: BlockTile, e: Expressions) -> None:
        self.tile = tile
        self.e = e
        self.dtype: DType = tile.left.dtype
        self.orders = {name: b.order for name, b in e.buffers.items()}
        self.zero = constant(const(0.0, self.dtype))

    def lines(self) -> tuple[list[str], list[str]]:
        t, kind = self.tile, TYPES[self.dtype.name]
        (rows, columns), (down, across) = t.each, t.threads
        arrays = [
            f"{t.total}_left = cuda.shared.array({t.depth * (t.height + PAD)}, {kind}, alignment=16)",
            f"{t.total}_right = cuda.shared.array({t.depth * t.width}, {kind}, alignment=16)",
            f"totals = cuda.local.array({rows * columns}, {kind})",
            f"left = cuda.local.array({rows}, {kind})",
            f"right = cuda.local.array({columns}, {kind})",
        ]
        shared = {
            "left": (t.left, t.rows, "first_row", t.height, t.height + PAD),
            "right": (t.right, t.columns, "first_column", t.width, t.width),
        }
        if t.ahead:
            arrays += [f"{side}_next = cuda.local.array({t.depth * s[3] // (down * across)}, {kind})" for side, s in shared.items()]
        bring = [line for side, s in shared.items() for line in self._staged(*s, side, down * across)]
        put = [line for side, s in shared.items() for line in self._put(*s, side, down * across)] if t.ahead else []
        body = [
            f"first_row = index({self.e.name(t.row_block)} * index({t.height}))",
            f"first_column = index({self.e.name(t.column_block)} * index({t.width}))",
            f"row_part = index(index(thread // index({across})) * index({rows}))",
            f"column_part = index(index(thread % index({across})) * index({columns}))",
            f"for u in range({rows * columns}):",
            f"    totals[u] = {self.zero}",
            "start = index(0)",
            *(bring if t.ahead else ()),
            f"while start < {self.e.address(t.reduction.hi)}:",
            *_indented(put if t.ahead else bring),
            "    cuda.syncthreads()",
            *((f"    start = index(start + index({t.depth}))", *_indented(bring)) if t.ahead else ()),
            *_indented(self._products()),
            "    cuda.syncthreads()",
            *(() if t.ahead else (f"    start = index(start + index({t.depth}))",)),
            *self._results(),
        ]
        return arrays, body

    def _staged(self, value: Expr, over: Binder, first: str, length: int, stride: int, side: str, threads: int) -> list[str]:
        """Every thread brings its share of `depth` by `length` elements, to shared memory or, a step ahead, to its own."""
        t = self.tile
        k, x = self.e.name(t.reduction.index), self.e.name(over.index)
        inside = f"{x} < {self.e.address(over.hi)} and {k} < {self.e.address(t.reduction.hi)}"
        into = f"{side}_next[part]" if t.ahead else self._place(side, stride)
        return [
            *self._share(value, length, threads),
            f"    {k} = index(start + term)",
            f"    {x} = index({first} + item)",
            f"    {into} = {self.e.text(value)} if {inside} else {self.zero}",
        ]

    def _put(self, value: Expr, over: Binder, first: str, length: int, stride: int, side: str, threads: int) -> list[str]:
        """What every thread brought for this step goes to shared memory."""
        return [*self._share(value, length, threads), f"    {self._place(side, stride)} = {side}_next[part]"]

    def _share(self, value: Expr, length: int, threads: int) -> list[str]:
        """The head of a loop over a thread's elements; neighbouring threads have neighbours in memory."""
        along_terms = near(value, self.tile.reduction.index, self.orders)
        fast, slow = ("term", "item") if along_terms else ("item", "term")
        inner = self.tile.depth if along_terms else length
        return [
            f"for part in range({self.tile.depth * length // threads}):",
            f"    place = index(thread + index(index(part) * index({threads})))",
            f"    {fast} = index(place % index({inner}))",
            f"    {slow} = index(place // index({inner}))",
        ]

    def _place(self, side: str, stride: int) -> str:
        return f"{self.tile.total}_{side}[index(index(term * index({stride})) + item)]"

    def _products(self) -> list[str]:
        t = self.tile
        (rows, columns), at = t.each, f"totals[u * {t.each[1]} + v]"
        multiply = "libdevice.fmul_rn" if self.dtype.bits == 32 else "libdevice.dmul_rn"
        fused = f"cuda.fma(left[u], right[v], {at})"
        return [
            "term = index(0)",
            f"while term < index({t.depth}):",
            f"    for u in range({rows}):",
            f"        left[u] = {t.total}_left[index(index(index(term * index({t.height + PAD})) + row_part) + index(u))]",
            f"    for v in range({columns}):",
            f"        right[v] = {t.total}_right[index(index(index(term * index({t.width})) + column_part) + index(v))]",
            f"    for u in range({rows}):",
            f"        for v in range({columns}):",
            f"            {at} = {fused if self.e.contract else f'{at} + {multiply}(left[u], right[v])'}",
            "    term = index(term + index(1))",
        ]

    def _results(self) -> list[str]:
        t = self.tile
        row, column = self.e.name(t.rows.index), self.e.name(t.columns.index)
        stored = self.e.stored(t.result, self.e.buffers[t.buffer].dtype)
        return [
            f"for u in range({t.each[0]}):",
            f"    {row} = index(index(first_row + row_part) + index(u))",
            f"    if {row} < {self.e.address(t.rows.hi)}:",
            f"        for v in range({t.each[1]}):",
            f"            {column} = index(index(first_column + column_part) + index(v))",
            f"            if {column} < {self.e.address(t.columns.hi)}:",
            f"                {self.e.name(t.total)} = totals[u * {t.each[1]} + v]",
            f"                {self.e.name(t.buffer)}[{self.e.place(t.buffer, t.indices)}] = {stored}",
        ]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]

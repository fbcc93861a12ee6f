"""Turns a turned tile of a plan into numba text: squares through registers, what is left of the tile element by element."""

from backends.cpu_expr import Expressions
from extract.reductions import simplified
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, IndexRef, const
from kernel_ir.plan import Turn
from kernel_ir.walk import substitute

LINE_BYTES = 64
"""Bytes of a side of a square: one cache line."""
Line = tuple[int, str]
"""A line's depth and its text."""


def turn_lines(turn: Turn, e: Expressions) -> list[Line]:
    """The statements. Names that they make (`at0`, `at1`, `at2`) are reserved in emitted modules."""
    rows, columns, source = turn.rows, turn.columns, turn.source
    side = LINE_BYTES // source.dtype.itemsize
    for b in (rows, columns):
        e.from_zero.discard(b.index)

    def whole(b: Binder) -> str:
        extent = Call("sub", (b.hi, b.lo), I64)
        return f"{e.inner(b.lo)} + max(0, {e.text(extent)}) // {side} * {side}"

    def place(indices: tuple[Expr, ...], array: str, step: str = "") -> str:
        at: dict[str, Expr] = {step: Call("add", (IndexRef(step), const(1, I64)), I64)} if step else {}
        moved = tuple(simplified(substitute(i, at)) for i in indices)
        return f"({e.subscript(array, moved)}{',' if len(moved) == 1 else ''})"

    def copy(names: dict[str, Expr]) -> str:
        to, of = (tuple(substitute(i, names) for i in x) for x in (turn.indices, source.indices))
        return f"{e.element(turn.buffer, to)} = {e.element(source.array, of)}"

    target = f"{turn.buffer}, {place(turn.indices, turn.buffer)}, {place(turn.indices, turn.buffer, rows.index)}"
    read = f"{source.array}, {place(source.indices, source.array)}, {place(source.indices, source.array, columns.index)}"
    low, high = e.text(rows.lo), e.text(rows.hi)
    return [
        (0, f"at0 = {whole(rows)}"),
        (0, f"at1 = {whole(columns)}"),
        (0, f"for {columns.index} in range({e.text(columns.lo)}, at1, {side}):"),
        (1, f"for {rows.index} in range({low}, at0, {side}):"),
        (2, f"{e.helper('turn_lanes')}({side}, {target}, {read})"),
        (1, f"for {rows.index} in range(at0, {high}):"),
        (2, f"for at2 in range({columns.index}, {columns.index} + {side}):"),
        (3, copy({columns.index: IndexRef("at2")})),
        (0, f"for {columns.index} in range(at1, {e.text(columns.hi)}):"),
        (1, f"for {rows.index} in range({low}, {high}):"),
        (2, copy({})),
    ]

"""Turns a loop into a loop over blocks and a loop inside one block."""

from extract.names import Names
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, IndexRef, const


def blocks_of(extent: Expr, size: int) -> Expr:
    """How many blocks of `size` cover an extent."""
    return Call("floordiv", (Call("add", (extent, const(size - 1, I64)), I64), const(size, I64)), I64)


def cut(b: Binder, length: int, names: Names) -> tuple[Binder, Binder, Expr]:
    """A loop over blocks of `length`, the loop inside one block, and the block's first value."""
    block = names.fresh(f"{b.index}_block")
    size = const(length, I64)
    span = b.hi if b.lo == const(0, I64) else Call("sub", (b.hi, b.lo), I64)
    start: Expr = Call("mul", (IndexRef(block), size), I64)
    if b.lo != const(0, I64):
        start = Call("add", (b.lo, start), I64)
    end = Call("min", (Call("add", (start, size), I64), b.hi), I64)
    return Binder(block, const(0, I64), blocks_of(span, length)), Binder(b.index, start, end), start

"""Turns a stream of a plan, a piece of a row that is written past the caches, into numba text."""

from backends.cpu_expr import Expressions
from extract.reductions import simplified
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Call, Expr
from kernel_ir.plan import Stream
from kernel_ir.walk import substitute


def stream_line(stream: Stream, e: Expressions) -> str:
    """The statement that writes the whole piece."""
    along, source = stream.along, stream.source

    def place(array: str, indices: tuple[Expr, ...]) -> str:
        first = tuple(simplified(substitute(i, {along.index: along.lo})) for i in indices)
        return f"{array}, ({e.subscript(array, first)}{',' if len(first) == 1 else ''})"

    count = e.text(Call("sub", (along.hi, along.lo), I64))
    return f"{e.helper('stream')}({place(stream.buffer, stream.indices)}, {place(source.array, source.indices)}, {count})"

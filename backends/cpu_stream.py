"""Turns a stream of a plan, a piece of a row that is written past the caches, into numba text; and what asks for one."""

from collections.abc import Mapping

from backends.cpu_expr import Expressions
from extract.reductions import simplified
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, IndexRef, const
from kernel_ir.plan import Prefetch, Stream
from kernel_ir.walk import substitute


def stream_line(stream: Stream, e: Expressions) -> str:
    """The statement that writes the whole piece."""
    along, source = stream.along, stream.source
    at = {along.index: along.lo}
    places = f"{_place(stream.buffer, stream.indices, at, e)}, {_place(source.array, source.indices, at, e)}"
    return f"{e.helper('stream')}({places}, {_count(along, e)})"


def prefetch_line(asked: Prefetch, e: Expressions) -> str:
    """The statement that asks for the lines of the whole piece."""
    one = const(1, I64)
    following = Call("min", (Call("add", (IndexRef(asked.row.index), one), I64), Call("sub", (asked.row.hi, one), I64)), I64)
    at = {asked.along.index: asked.along.lo, asked.row.index: following}
    return f"{e.helper('prefetch')}({_place(asked.source.array, asked.source.indices, at, e)}, {_count(asked.along, e)})"


def _place(array: str, indices: tuple[Expr, ...], at: Mapping[str, Expr], e: Expressions) -> str:
    first = tuple(simplified(substitute(i, at)) for i in indices)
    return f"{array}, ({e.subscript(array, first)}{',' if len(first) == 1 else ''})"


def _count(along: Binder, e: Expressions) -> str:
    return e.text(Call("sub", (along.hi, along.lo), I64))

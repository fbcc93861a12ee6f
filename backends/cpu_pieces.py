"""Turns single parts of a launch into text, and answers what its function must know: parallel loops, work, element types."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from backends.cpu_expr import Expressions, numba_type
from extract.fuse import expressions_of, walk
from kernel_ir.dtypes import BOOL, I64, DType, reads_as
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, ParamRef, SizeRef, const
from kernel_ir.plan import (
    Buffer,
    Launch,
    Loop,
    LoopKind,
    Matmul,
    Node,
    Store,
    Stream,
    Tile,
    Turn,
    When,
)
from kernel_ir.walk import subtrees

UNKNOWN_EXTENT: Final = 64
"""Iterations that a loop counts for whose range only the loops around it know."""


def extent_text(loop: Loop, e: Expressions) -> str:
    return e.text(loop.hi) if loop.lo == const(0, I64) else f"max(0, {e.inner(loop.hi)} - {e.inner(loop.lo)})"


def extent_factor(loop: Loop, e: Expressions) -> str:
    text = extent_text(loop, e)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def deepest(nodes: tuple[Node, ...]) -> list[Loop]:
    """The loops of the deepest nest: a measure of the work. A loop in pieces (border, interior, border) is one."""
    best: list[Loop] = []
    whole: list[Node] = []
    for node in nodes:
        last = whole[-1] if whole else None
        if isinstance(last, Loop) and isinstance(node, Loop) and (last.index, last.hi) == (node.index, node.lo):
            whole[-1] = replace(node, lo=last.lo)
        else:
            whole.append(node)
    for node in whole:
        if isinstance(node, Loop):
            nest = [node, *deepest(node.body)]
        elif isinstance(node, Tile):
            nest = [Loop(b.index, b.lo, b.hi, LoopKind.SERIAL, ()) for b in (node.rows, node.columns, *node.reduction)]
        elif isinstance(node, Stream):
            nest = [Loop(node.along.index, node.along.lo, node.along.hi, LoopKind.SERIAL, ())]
        elif isinstance(node, When):
            nest = deepest((*node.body, *node.otherwise))
        else:
            continue
        if len(nest) > len(best):
            best = nest
    return best


def bound_inside(loop: Loop, e: Expressions) -> bool:
    """Whether a loop's range reads what only the loops around it know."""
    return any(not isinstance(x, Const | SizeRef | ParamRef | Call) for bound in (loop.lo, loop.hi) for x in subtrees(bound))


def work_text(body: tuple[Node, ...], e: Expressions, buffers: Collection[str]) -> str:
    """How many turns the deepest loops make; where that says nothing (their ranges are known inside alone), the elements of what they
    store in one of the buffers."""
    nest = deepest(body)
    factors = [str(UNKNOWN_EXTENT) if bound_inside(loop, e) else extent_factor(loop, e) for loop in nest]
    if any(bound_inside(loop, e) for loop in nest) and all(factor.isdigit() for factor in factors):
        stored = next((n.buffer for n in walk(body) if isinstance(n, Store | Tile | Turn | Stream) and n.buffer in buffers), None)
        return " * ".join(factors) if stored is None else f"{stored}.size"
    return " * ".join(factors)


def overlaps(launch: Launch) -> bool:
    """Whether an innermost loop reads vectors of one row that overlap: at `x[i - 1]` and at `x[i + 1]`, say."""
    for loop in walk(launch.body):
        if isinstance(loop, Loop) and not any(isinstance(n, Loop) for n in loop.body):
            index = IndexRef(loop.index)
            rows: dict[tuple[str, tuple[Expr, ...]], set[Expr]] = {}
            for node in walk(loop.body):
                for x in (y for top in expressions_of(node) for y in subtrees(top) if isinstance(y, Load) and y.indices):
                    *rest, last = x.indices
                    if index in subtrees(last):
                        rows.setdefault((x.array, tuple(rest)), set()).add(last)
            if any(len(places) > 1 for places in rows.values()):
                return True
    return False


def held(dtype: DType) -> DType:
    return reads_as(dtype)


def stored_text(text: str, dtype: DType, e: Expressions) -> str:
    if dtype.name in ("f16", "bf16"):
        return f"{e.helper('to_' + dtype.name)}({text})"
    return f"{numba_type(dtype)}({text})" if dtype.is_int and not dtype.is_arithmetic else text


def alloc_text(b: Buffer, e: Expressions) -> str:
    extents = [e.inner(b.shape[d]) for d in b.order] or ["1"]
    flat = f"{e.helper('aligned')}({' * '.join(extents)}, np.{storage_name(b.dtype)})"
    return f"{b.name} = {flat}" + (f".reshape(({', '.join(extents)}))" if len(extents) > 1 else "")


def numpy_name(dtype: DType) -> str:
    return "bool_" if dtype is BOOL else dtype.numpy.name


def storage_name(dtype: DType) -> str:
    """The NumPy type whose elements hold a dtype's bits where numba has none for it."""
    return "uint16" if dtype.name in ("f16", "bf16") else numpy_name(dtype)


def array_kind(dtype: DType, rank: int) -> str:
    """The numba type of an array in memory order, as text."""
    name = "boolean" if dtype is BOOL else storage_name(dtype)
    return f"{name}[{', '.join([*[':'] * (max(1, rank) - 1), '::1'])}]"


def product_text(node: Matmul) -> str:
    def operand(name: str, turned: bool, rank: int) -> str:
        return f"{name}.swapaxes(-1, -2)" if turned else name

    a, b = (operand(x[0], x[2], len(x[1])) for x in (node.a, node.b))
    return f"np.matmul({a}, {b}, out={node.out[0]})"


def offset(e: Expr, text: str) -> str:
    """`e`, the start of a range, as a term to add."""
    return "" if e == const(0, I64) else f" + {text}"

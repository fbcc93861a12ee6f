"""Turns reads across the rows of a tile into reads along them, from a turned copy of that tile that goes through registers.

    for i, j in a tile:  c[i, j] = a[i, j] + b[j, i]   ⇒   b_tile[i, j] = b[j, i] for the tile, a square of registers at a time;
                                                         for i, j in the tile:  c[i, j] = a[i, j] + b_tile[i, j]

A square is one cache line wide: each line of `b` is read once and whole, however few lines of equal distance the cache can hold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from extract.fuse import Nodes, effects, mapped
from extract.names import Names
from extract.strides import Orders, Stride, coefficient, stride
from extract.tile import Bases
from kernel_ir.dtypes import F32, F64, I32, I64
from kernel_ir.nodes import ArrayType, Binder, Call, Expr, Fold, IndexRef, Load, Local, const
from kernel_ir.plan import Buffer, Combine, Let, Loop, Node, Store, Turn
from kernel_ir.walk import children, free, map_children, subtrees


@dataclass(slots=True)
class Turned:
    """What the turned tiles of one launch need: the tiles by the load they are of, and their buffers."""

    tiles: dict[Load, str] = field(default_factory=dict[Load, str])
    buffers: list[Buffer] = field(default_factory=list[Buffer])


def turned(nodes: Nodes, bases: Bases, arrays: Mapping[str, ArrayType], orders: Orders, names: Names) -> tuple[Nodes, tuple[Buffer, ...]]:
    """The nodes inside a launch's tiles, reading from turned tiles where that brings reads together; and the buffers of these.

    `bases`: where the tile begins along each of its indices, and how long it is.
    """
    found = Turned()
    written = {array for array, _ in effects(nodes).stores}
    out: list[Node] = []
    for node in nodes:
        loops = _tile_loops(node, bases)
        if loops is None:
            out.append(node)
            continue
        across = [x for x in _certain_loads(loops[1]) if x.array not in written and _crosses(x, *loops, arrays, orders)]
        for x in dict.fromkeys(across):
            if x not in found.tiles:
                out.append(_turn(x, *loops, bases, found, names))
        tiles = {x: found.tiles[x] for x in across}
        out.extend(mapped((node,), partial(_reread, tiles=tiles, rows=loops[0], columns=loops[1], bases=bases)) if tiles else (node,))
    return tuple(out), tuple(found.buffers)


def _tile_loops(node: Node, bases: Bases) -> tuple[Loop, Loop] | None:
    """The two loops of a tile, rows and columns, where a node is just these."""
    match node:
        case Loop(index=i, body=(Loop(index=j) as inner,)) if i in bases and j in bases:
            apart = i not in free(inner.lo) | free(inner.hi) and node.step == inner.step == 1
            return (node, inner) if apart else None
        case _:
            return None


def _certain_loads(loop: Loop) -> Iterator[Load]:
    """The loads that each turn of a loop does: those that no condition guards."""
    for node in loop.body:
        match node:
            case Let(value=value) | Store(value=value):
                yield from _unguarded(value)
            case Combine(values=values):
                for value in values:
                    yield from _unguarded(value)
            case _:
                pass


def _unguarded(e: Expr) -> Iterator[Load]:
    match e:
        case Load():
            yield e
        case Call(op="select" | "and" | "or"):
            yield from _unguarded(e.args[0])
        case Fold():
            return
        case _:
            for child in children(e):
                yield from _unguarded(child)


def _crosses(x: Load, rows: Loop, columns: Loop, arrays: Mapping[str, ArrayType], orders: Orders) -> bool:
    """Whether a load runs along memory with the rows and strides over it with the columns, steadily and without a test."""
    plain = x.default is None and arrays[x.array].dtype == x.dtype and x.dtype in (F32, F64, I32, I64)
    if not plain or any(isinstance(y, Load | Local) for i in x.indices for y in subtrees(i)):
        return False
    steady = all(coefficient(i, n.index) is not None for i in x.indices for n in (rows, columns))
    far = stride(x.array, x.indices, columns.index, orders) is Stride.FAR
    return steady and far and stride(x.array, x.indices, rows.index, orders) is Stride.UNIT


def _turn(x: Load, rows: Loop, columns: Loop, bases: Bases, found: Turned, names: Names) -> Turn:
    name = names.fresh(f"{x.array}_tile")
    shape = tuple(const(bases[loop.index][1], I64) for loop in (rows, columns))
    found.tiles[x] = name
    found.buffers.append(Buffer(name, x.dtype, shape, "local", (0, 1)))
    at = tuple(_place(loop, bases) for loop in (rows, columns))
    return Turn(name, at, x, Binder(rows.index, rows.lo, rows.hi), Binder(columns.index, columns.lo, columns.hi))


def _place(loop: Loop, bases: Bases) -> Expr:
    return Call("sub", (IndexRef(loop.index), bases[loop.index][0]), I64)


def _reread(e: Expr, tiles: Mapping[Load, str], rows: Loop, columns: Loop, bases: Bases) -> Expr:
    """`e` with every load of a turned tile taken from it, a guarded one too: it is of an element that is there."""
    if isinstance(e, Load) and e in tiles:
        return Load(tiles[e], tuple(_place(loop, bases) for loop in (rows, columns)), e.dtype)
    return map_children(lambda child: _reread(child, tiles, rows, columns, bases), e)

"""Turns a launch over points into one over squares of 32 by 32 points whose operands come through shared memory, each read along memory.

Staged is what neighbouring threads would read far apart (a transposed operand: the square is read along its rows, and met along its
columns, in rows of 33 elements so that no bank is asked twice) and what the points of a square read many times (a stencil: the square
and a halo around it).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from extract.fuse import expressions_of
from extract.names import Names
from extract.scatter_cuda import names_of
from extract.strides import Stride, stride
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, const
from kernel_ir.plan import Alloc, Barrier, Buffer, Launch, Let, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import free, map_children, substitute, subtrees

SIDE: Final = 32
"""Points of a square along each of its two indices: a warp reads one row of it."""
THREADS: Final = 256
_REUSE: Final = 3
"""Reads of an array at different places from which on its square is staged."""
_HALO: Final = 8
"""Elements around a square that it may need, at most."""


@dataclass(frozen=True, slots=True)
class _Square:
    """One array around the square: its two moving dimensions, what its other indices are, and how far its reads reach beyond."""

    array: str
    slow: int
    fast: int
    fixed: tuple[Expr, ...]
    reach: tuple[tuple[int, int], tuple[int, int]]
    outside: Const
    transposed: bool

    @property
    def sides(self) -> tuple[int, int]:
        """Elements along the slow and the fast index."""
        (up, down), (left, right) = self.reach
        return SIDE + down - up, SIDE + right - left


def staged(launch: Launch, buffers: Mapping[str, Buffer], taken: set[str]) -> Launch | None:
    """The launch by squares; None where it is not over points, or has nothing to stage. `taken`: names in use."""
    loops: list[Loop] = []
    body = launch.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind is LoopKind.GRID and body[0].step == 1:
        loops.append(body[0])
        body = body[0].body
    if len(loops) < 2 or not all(isinstance(n, Let | Store) for n in body):
        return None
    pair = _pair(loops, body, buffers)
    if pair is None:
        return None
    slow, fast = pair
    squares = _squares(body, buffers, slow.index, fast.index)
    if not squares:
        return None
    names = Names(taken | names_of(launch.body))
    return _launch(launch, loops, (slow, fast), body, squares, buffers, names)


def _pair(loops: list[Loop], body: tuple[Node, ...], buffers: Mapping[str, Buffer]) -> tuple[Loop, Loop] | None:
    """The loops that move along the rows of what is written, and along those of some operand or else across them."""
    orders = {b.name: b.order for b in buffers.values()}
    stores = [n for n in body if isinstance(n, Store)]
    if not stores or any(n.kind is not None or n.buffer not in buffers for n in stores):
        return None
    last = stores[-1]
    fast = next((q for q in loops if stride(last.buffer, last.indices, q.index, orders) is Stride.UNIT), None)
    if fast is None:
        return None
    others = [q for q in reversed(loops) if q is not fast]
    across = (q for q in others if any(stride(x.array, x.indices, q.index, orders) is Stride.UNIT for x in _loads(body)))
    return next(across, others[0]), fast


def _squares(body: tuple[Node, ...], buffers: Mapping[str, Buffer], slow: str, fast: str) -> dict[_Square, list[Load]]:
    """What is staged, with the loads that it serves."""
    written = {n.buffer for n in body if isinstance(n, Store)}
    found: dict[tuple[str, int, int, tuple[Expr, ...]], list[Load]] = {}
    for x in dict.fromkeys(_loads(body)):
        if x.array in buffers and x.array not in written and (dims := _moving(x, slow, fast)) is not None:
            fixed = tuple(const(0, I64) if d in dims else i for d, i in enumerate(x.indices))
            found.setdefault((x.array, *dims, fixed), []).append(x)
    squares: dict[_Square, list[Load]] = {}
    for (array, first, second, fixed), loads in found.items():
        transposed = buffers[array].order[-1] == first
        defaults = {x.default for x in loads}
        (default,) = defaults if len(defaults) == 1 else (IndexRef(fast),)
        if not (transposed or len(loads) >= _REUSE) or not (default is None or isinstance(default, Const)):
            continue
        offsets = [(_offset(x.indices[first], slow), _offset(x.indices[second], fast)) for x in loads]
        ups, lefts = zip(*offsets, strict=True)
        reach = ((min(ups), max(ups)), (min(lefts), max(lefts)))
        if all(hi - lo <= _HALO for lo, hi in reach):
            outside = default if isinstance(default, Const) else const(0, loads[0].dtype)
            squares[_Square(array, first, second, fixed, reach, outside, transposed)] = loads
    return squares


def _moving(x: Load, slow: str, fast: str) -> tuple[int, int] | None:
    """The dimensions that move with the slow and the fast index, by one element each and by nothing else."""
    one = [d for d, i in enumerate(x.indices) if slow in free(i)]
    other = [d for d, i in enumerate(x.indices) if fast in free(i)]
    if len(one) != 1 or len(other) != 1 or one == other:
        return None
    for d, index in ((one[0], slow), (other[0], fast)):
        if not _is_near(x.indices[d], index):
            return None
    return one[0], other[0]


def _is_near(e: Expr, index: str) -> bool:
    match e:
        case IndexRef():
            return e.name == index
        case Call("add" | "sub", (IndexRef(name), Const(value))):
            return name == index and abs(int(value)) <= _HALO
        case _:
            return False


def _offset(e: Expr, index: str) -> int:
    match e:
        case Call("add", (_, Const(value))):
            return int(value)
        case Call("sub", (_, Const(value))):
            return -int(value)
        case _:
            assert e == IndexRef(index)
            return 0


def _launch(
    launch: Launch,
    loops: list[Loop],
    pair: tuple[Loop, Loop],
    body: tuple[Node, ...],
    squares: Mapping[_Square, list[Load]],
    buffers: Mapping[str, Buffer],
    names: Names,
) -> Launch:
    slow, fast = pair
    blocks = names.fresh("row_block"), names.fresh("column_block")
    corner = tuple(_sum(q.lo, _times(IndexRef(b), SIDE)) for q, b in zip(pair, blocks, strict=True))
    nodes: list[Node] = []
    staging: list[Node] = []
    point = names.fresh("cell")
    at = {
        slow.index: _sum(corner[0], Call("floordiv", (IndexRef(point), const(SIDE, I64)), I64)),
        fast.index: _sum(corner[1], Call("mod", (IndexRef(point), const(SIDE, I64)), I64)),
    }
    shared: dict[Load, Expr] = {}
    for square, loads in squares.items():
        name = names.fresh(f"{square.array}_square")
        height, width = square.sides
        nodes.append(Alloc(Buffer(name, buffers[square.array].dtype, (const(height * (width + 1), I64),), "shared", (0,))))
        staging.append(_stage(square, name, corner, names.fresh("cell"), loads[0]))
        (up, _), (left, _) = square.reach
        for x in loads:
            down = _offset(x.indices[square.slow], slow.index) - up
            right = _offset(x.indices[square.fast], fast.index) - left
            place = _cell(
                _sum(Call("floordiv", (IndexRef(point), const(SIDE, I64)), I64), const(down, I64)),
                _sum(Call("mod", (IndexRef(point), const(SIDE, I64)), I64), const(right, I64)),
                width,
            )
            shared[x] = Load(name, (place,), x.dtype)
    inside: list[Expr] = [Call("lt", (at[q.index], q.hi), BOOL) for q in pair]
    work = tuple(_moved(n, shared, at) for n in body)
    within = When(Call("and", (inside[0], inside[1]), BOOL), work)
    nodes += [*staging, Barrier(), Loop(point, const(0, I64), const(SIDE * SIDE, I64), LoopKind.THREAD, (within,))]
    whole: tuple[Node, ...] = tuple(nodes)
    for q, b in ((fast, blocks[1]), (slow, blocks[0])):
        extent = q.hi if q.lo == const(0, I64) else Call("sub", (q.hi, q.lo), I64)
        number = Call("floordiv", (_sum(extent, const(SIDE - 1, I64)), const(SIDE, I64)), I64)
        whole = (Loop(b, const(0, I64), number, LoopKind.BLOCK, whole),)
    for q in reversed([q for q in loops if q not in pair]):
        whole = (replace(q, kind=LoopKind.BLOCK, body=whole),)
    return replace(launch, body=whole, threads=THREADS)


def _stage(square: _Square, name: str, corner: tuple[Expr, ...], cell: str, load: Load) -> Node:
    """All threads bring the square and its halo, neighbours bringing neighbours in memory; beyond the array is what reads there give."""
    height, width = square.sides
    near = height if square.transposed else width
    along = Call("mod", (IndexRef(cell), const(near, I64)), I64)
    across = Call("floordiv", (IndexRef(cell), const(near, I64)), I64)
    down, right = (along, across) if square.transposed else (across, along)
    (up, _), (left, _) = square.reach
    indices = list(square.fixed)
    indices[square.slow] = _sum(_sum(corner[0], down), const(up, I64))
    indices[square.fast] = _sum(_sum(corner[1], right), const(left, I64))
    value = replace(load, indices=tuple(indices), default=square.outside)
    store = Store(name, (_cell(down, right, width),), value)
    return Loop(cell, const(0, I64), const(height * width, I64), LoopKind.THREAD, (store,))


def _cell(down: Expr, right: Expr, width: int) -> Expr:
    return _sum(_times(down, width + 1), right)


def _sum(a: Expr, b: Expr) -> Expr:
    if b == const(0, I64):
        return a
    if a == const(0, I64):
        return b
    if isinstance(b, Const) and int(b.value) < 0:
        return Call("sub", (a, const(-int(b.value), I64)), I64)
    return Call("add", (a, b), I64)


def _times(a: Expr, n: int) -> Expr:
    return Call("mul", (a, const(n, I64)), I64)


def _moved(node: Node, shared: Mapping[Load, Expr], at: Mapping[str, Expr]) -> Node:
    """The node with staged loads from shared memory, at the point that the thread has."""

    def visit(e: Expr) -> Expr:
        if isinstance(e, Load) and e in shared:
            return shared[e]
        return map_children(visit, e)

    def moved(e: Expr) -> Expr:
        return substitute(visit(e), at)

    match node:
        case Let():
            return replace(node, value=moved(node.value))
        case Store():
            return replace(node, indices=tuple(map(moved, node.indices)), value=moved(node.value))
        case _:
            return node


def _loads(nodes: Iterable[Node]) -> list[Load]:
    return [x for n in nodes for e in expressions_of(n) for x in subtrees(e) if isinstance(x, Load)]

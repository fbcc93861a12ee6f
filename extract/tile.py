"""Turns a sum over rows and columns into a tile: a block of both held in registers while the sum runs, as a library's matrix product does.

    s[i, j] = sum(c: q[i, c] * k[c, j])    each k[c, j .. j + 63] is loaded once for 6 rows, each q[i, c] once for 64 columns

Any sum of products, differences or squares will do (convolutions, distances), as long as neighbouring columns lie side by side in memory
and some operand is the same for all rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from extract.blocks import cut
from extract.groups import Group, Member
from extract.machine import Machine
from extract.names import Names
from extract.reductions import has_few_terms, outermost_reductions
from extract.sizes import number
from extract.strides import Orders, Stride, coefficient, stride
from kernel_ir.dtypes import F32, F64, I64, DType
from kernel_ir.nodes import ArrayType, Binder, Call, Const, Expr, IndexRef, Load, Local, ParamRef, Reduce, SizeRef, const
from kernel_ir.walk import children, expressions, free, subtrees

OPS: Final = frozenset({"add", "sub", "mul", "neg", "fma"})
"""What a value may compute, besides squares, cubes, …: one instruction a vector."""
ROWS: Final = 48
"""Rows of a block of work: a multiple of every height, few enough that a block's rows of 1024 f32 stay in the second-level cache."""
SHARING: Final = 192
"""Rows, at most, that share copies of whole rows of what all read: more of them pay for the copies, and still fit the caches."""
PANEL: Final = 512
"""Rows, at most, that share the copy of one block's columns: their totals lie beside it in the second-level cache."""
BUSY: Final = 12
"""Accumulators that keep two multiply-add units of latency 4 busy, and half as many again."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A block in registers: `height` rows of `vectors` vectors of `lanes` columns; whether what all rows share is worth a copy; the rows
    of a block of work, and those that share the copy of one block's columns."""

    height: int
    vectors: int
    lanes: int
    packs: bool
    rows: int = ROWS
    panel: int = ROWS


Bases = dict[str, tuple[Expr, int]]
"""For an index that runs inside a block: the block's first value, and its length."""
Shapes = Callable[[Reduce, Binder, Binder], Shape]
"""The shape of a tile's blocks, by the sum, its rows and its columns."""


def shapes(machine: Machine, sizes: Mapping[str, int]) -> Shapes:
    """Shapes that fill the machine's vector registers, for loops of the sizes given.

    All accumulators, one operand's vectors and two more must fit at once; of the heights that keep both multipliers busy, the one
    that leaves the fewest rows over.
    """
    registers = int(machine.extra["vector_registers"])

    def far(r: Reduce, columns: Binder) -> bool:
        """Whether a matrix of terms by columns is too large for half of the second-level cache."""
        return prod(_extent(b, sizes) for b in (columns, *r.binders)) * r.dtype.itemsize > machine.levels[1].bytes // 2

    def wide(rows: Binder, columns: Binder) -> int:
        """Columns of all rows, or of the first of the blocks that they are cut into."""
        return _extent(columns, sizes, None if rows.index in free(columns.lo) | free(columns.hi) else 0)

    def chosen(r: Reduce, rows: Binder, columns: Binder) -> Shape:
        lanes = int(machine.extra["tile_bits"]) // r.dtype.bits
        vectors = max(1, min(4 if registers >= 32 else 2, -(-wide(rows, columns) // lanes)))
        most = min(12, (registers - vectors - 2) // vectors)
        extent = max(1, _extent(rows, sizes, 0))
        heights = range(most, max(1, -(-BUSY // vectors)) - 1, -1)
        height = min(heights, key=lambda h: -(-extent // h) * h * (1.0 + (vectors + h) / (4.0 * vectors * h)))
        packs = far(r, columns)
        whole = _even(extent, SHARING, height, machine.units) if packs else ROWS
        return Shape(height, vectors, lanes, packs, whole, _even(extent, PANEL, height))

    return chosen


def _even(extent: int, most: int, height: int, shares: int = 1) -> int:
    """The length of about equal blocks of at most about `most` rows: whole heights, and as many blocks for each of the `shares`."""
    count = shares * -(-extent // (shares * most))
    each = -(-extent // count)
    return -(-each // height) * height


def _extent(b: Binder, sizes: Mapping[str, int], at: int | None = None) -> int:
    """The length of a range; `at`: of the one at that value of what it reads."""
    there = sizes if at is None else {**sizes, **dict.fromkeys(free(b.lo) | free(b.hi), at)}
    return number(b.hi, there) - number(b.lo, there)


def tile_rows(r: Reduce, rows: Iterable[Binder], columns: Binder, arrays: Mapping[str, ArrayType], orders: Orders) -> Binder | None:
    """The loop of `rows` that can be the tile's rows for the sum `r` with `columns` innermost; None where there is no tile."""
    if r.kind != "sum" or r.dtype not in (F32, F64) or len(r.bodies) != 1:
        return None
    if any(columns.index in free(b.lo) | free(b.hi) for b in r.binders):
        return None
    if has_few_terms(r):
        return None
    (body,) = r.bodies
    vectors = [x for x in _loads(body) if columns.index in free(x)]
    plain = all(_plain(x, columns.index, r.dtype, arrays, orders) for x in _loads(body))
    if not vectors or not plain or not _simple(body, r.dtype):
        return None
    inner = (columns, *r.binders)
    for row in rows:
        depends = row.index in free(body) and all(_grows(b, row.index) for b in inner)
        bound = {b.index for b in inner} | {row.index}
        straight = all(coefficient(i, n) is not None for x in _loads(body) for i in x.indices for n in bound & free(i))
        if depends and straight and any(row.index not in free(x) for x in vectors):
            return row
    return None


def _plain(x: Load, column: str, dtype: DType, arrays: Mapping[str, ArrayType], orders: Orders) -> bool:
    """Whether a load is of the sum's own type, unconditional, and the same or the next element for the next column."""
    near = stride(x.array, x.indices, column, orders) is not Stride.FAR
    nested = any(True for i in x.indices for _ in _loads(i))
    return near and not nested and x.default is None and x.dtype == dtype and arrays[x.array].dtype == dtype


def _simple(e: Expr, dtype: DType) -> bool:
    match e:
        case Load() | Const() | ParamRef() | Local():
            return e.dtype == dtype
        case Call(op="powi", args=(base, Const(value))):
            return 2 <= int(value) <= 4 and _simple(base, dtype)
        case Call():
            return e.op in OPS and e.dtype == dtype and all(_simple(x, dtype) for x in e.args)
        case _:
            return False


def _grows(b: Binder, row: str) -> bool:
    """Whether a range starts at one place for all rows, and ends no earlier for a later row."""
    return row not in free(b.lo) and (row not in free(b.hi) or coefficient(b.hi, row) == 1)


def _loads(e: Expr) -> Iterator[Load]:
    if isinstance(e, Load):
        yield e
        return
    for child in children(e):
        yield from _loads(child)


def packable(value: Expr, rows: Binder, columns: Binder, reduction: tuple[Binder, ...]) -> Load | None:
    """The load of a matrix of terms by columns that all rows share, if there is one and its terms are `0..` sizes alone."""
    if len(reduction) != 1 or reduction[0].lo != const(0, I64):
        return None
    if any(not isinstance(x, SizeRef | Const | Call) for x in subtrees(reduction[0].hi)):
        return None
    found = {x for x in _loads(value) if columns.index in free(x) and rows.index not in free(x)}
    (load,) = found if len(found) == 1 else (None,)
    return load if load is not None and reduction[0].index in free(load) else None


def row_blocks(group: Group, arrays: Mapping[str, ArrayType], orders: Orders, names: Names, shapes: Shapes) -> tuple[Group, Bases]:
    """The group with the loop of its tiles' rows cut into blocks that run inside, and where the blocks begin; itself without tiles.

    Where the columns that all rows share are copied and nothing needs a whole row at once, the columns are cut too: a thread's work is one
    block's columns for many rows, so each column is copied once for all of them, and threads share out the work evenly.
    """
    found = _tile_of(group, arrays, orders)
    if found is None:
        return group, {}
    row, columns, r = found
    if (free(row.lo) | free(row.hi)) & {b.index for b in group.outer} or any(row.index in free(b.lo) | free(b.hi) for b in group.outer):
        return group, {}
    shape = shapes(r, row, columns)
    across = shape.packs and _separable(group, row, columns)
    length = shape.panel if across else shape.rows
    block, inner, base = cut(row, length, names)
    outer = tuple(block if b is row else b for b in group.outer)
    bases: Bases = {row.index: (base, length)}
    members = tuple(Member(m.stmt, (inner, *m.inner)) for m in group.members)
    if across:
        width = shape.vectors * shape.lanes
        strip, part, start = cut(columns, width, names)
        outer = (*outer, strip)
        own = [m.inner[-1].index for m in members]
        members = tuple(Member(m.stmt, (*m.inner[:-1], replace(part, index=m.inner[-1].index))) for m in members)
        bases |= dict.fromkeys(own, (start, width))
    return replace(group, outer=outer, members=members), bases


def _separable(group: Group, row: Binder, columns: Binder) -> bool:
    """Whether each column can be computed alone: all members have the same columns, in the last dimension of what they store, and read
    what the group stores at their own row and column."""
    inside = {b.index for m in group.members for b in m.inner} | {b.index for b in group.outer}
    if (free(columns.lo) | free(columns.hi)) & inside:
        return False
    stored = {m.stmt.target for m in group.members}
    for m in group.members:
        last = m.inner[-1] if m.inner else None
        if last is None or (last.lo, last.hi) != (columns.lo, columns.hi) or m.stmt.indices[-1] != IndexRef(last.index):
            return False
        if any((free(b.lo) | free(b.hi)) & inside for b in m.inner):
            return False
        for x in (y for top in expressions(m.stmt) for y in subtrees(top) if isinstance(y, Load) and y.array in stored):
            if x.indices[-1] != IndexRef(last.index) or IndexRef(row.index) not in x.indices[:-1]:
                return False
        if sum(IndexRef(last.index) == i for i in m.stmt.indices) > 1:
            return False
    return True


def _tile_of(group: Group, arrays: Mapping[str, ArrayType], orders: Orders) -> tuple[Binder, Binder, Reduce] | None:
    """The rows, the columns and the sum of the group's first tile."""
    for m in group.members:
        if m.inner and m.stmt.where is None:
            for r in outermost_reductions(m.stmt.value):
                row = tile_rows(r, reversed(group.outer), m.inner[-1], arrays, orders)
                if row is not None and IndexRef(row.index) in m.stmt.indices:
                    return row, m.inner[-1], r
    return None

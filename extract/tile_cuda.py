"""Turns a group that is a contraction into blocks of rows and columns whose operands are staged in shared memory.

Any sum of products of which one factor reads no column and the other no row is one, whatever the factors compute: a matrix product,
batched, transposed, gathered or converted on the way. The product is the kernel's own, so that no flag is needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from extract.blocks import blocks_of
from extract.groups import Group
from extract.names import Names
from extract.split_cuda import certain, replaced
from kernel_ir.dtypes import F32, F64, I64
from kernel_ir.nodes import Binder, Call, Const, Expr, Fold, IndexRef, Load, Local, Reduce, const
from kernel_ir.plan import BlockTile, Loop, LoopKind, Node
from kernel_ir.walk import free, subtrees


@dataclass(frozen=True, slots=True)
class TileShape:
    """Rows, columns and terms that a block stages, what each of its threads keeps, and whether it loads a step ahead."""

    height: int
    width: int
    depth: int
    each: tuple[int, int]
    ahead: bool = False

    @property
    def threads(self) -> int:
        return (self.height // self.each[0]) * (self.width // self.each[1])


SHAPES: Final = {
    "tile128": TileShape(128, 128, 8, (8, 8)),
    "tile64": TileShape(64, 64, 16, (4, 4)),
    "tile32": TileShape(32, 32, 16, (2, 2)),
    "ahead128": TileShape(128, 128, 8, (8, 8), True),
    "ahead64": TileShape(64, 64, 16, (4, 4), True),
}
"""All of 256 threads. 128 by 128 keeps 64 totals a thread, which hides the latency of shared memory without spilling (127 registers)."""


@dataclass(frozen=True, slots=True)
class _Contraction:
    reduce: Reduce
    left: Expr
    right: Expr
    rows: Binder
    columns: Binder


def tiled(group: Group, shape: TileShape, names: Names) -> tuple[Node, ...] | None:
    """The launch of a contraction as loops over blocks around a tile; None for any other group."""
    if len(group.members) != 1:
        return None
    (member,) = group.members
    stmt, binders = member.stmt, (*group.outer, *member.inner)
    if stmt.op != "=" or stmt.where is not None or not all(map(rectangular, binders)):
        return None
    found = _contraction(stmt.value, binders)
    if found is None:
        return None
    total = names.fresh("total")
    result = replaced(stmt.value, found.reduce, Local(total, found.reduce.dtype))
    row_block, column_block = names.fresh("row_block"), names.fresh("column_block")
    (reduction,) = found.reduce.binders
    tile = BlockTile(
        stmt.target, stmt.indices, result, total, found.left, found.right, found.rows, found.columns, reduction,
        row_block, column_block, shape.height, shape.width, shape.depth, shape.each, shape.ahead,
    )  # fmt: skip
    blocks = [(column_block, blocks_of(found.columns.hi, shape.width)), (row_block, blocks_of(found.rows.hi, shape.height))]
    blocks += [(b.index, b.hi) for b in reversed(binders) if b not in (found.rows, found.columns)]
    return block_loops(blocks, tile)


def block_loops(loops: Iterable[tuple[str, Expr]], tile: Node) -> tuple[Node, ...]:
    """A tile in loops over blocks, each given by its index and its extent, the innermost first."""
    nodes: tuple[Node, ...] = (tile,)
    for index, hi in loops:
        nodes = (Loop(index, const(0, I64), hi, LoopKind.BLOCK, nodes),)
    return nodes


def rectangular(b: Binder) -> bool:
    """Whether a range begins at 0 and ends where no index says."""
    return isinstance(b.lo, Const) and b.lo.value == 0 and not free(b.hi)


def _contraction(value: Expr, binders: tuple[Binder, ...]) -> _Contraction | None:
    """The one sum in `value` as a product of a factor without columns and one without rows."""
    loops = [x for x in subtrees(value) if isinstance(x, Reduce | Fold)]
    r = loops[0] if len(loops) == 1 else None
    if not isinstance(r, Reduce) or r.kind != "sum" or r.dtype not in (F32, F64) or len(r.binders) != 1 or not rectangular(r.binders[0]):
        return None
    if r not in certain(value):
        return None  # what is not always computed may read outside where it is not
    (body,) = r.bodies
    if not (isinstance(body, Call) and body.op == "mul"):
        return None
    first, second = body.args
    names = [b.index for b in binders]
    only_first = [n for n in names if n in free(first) and n not in free(second)]
    only_second = [n for n in names if n in free(second) and n not in free(first)]
    if not only_first or not only_second:
        return None
    # The later index of the target is the column: neighbouring threads write neighbouring elements.
    one, other = only_first[-1], only_second[-1]
    by_name = {b.index: b for b in binders}
    if names.index(one) < names.index(other):
        return _Contraction(r, first, second, by_name[one], by_name[other])
    return _Contraction(r, second, first, by_name[other], by_name[one])


def near(e: Expr, index: str, orders: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the loads of `e` are nearer along `index` than along anything else: it is their last index in memory."""
    loads = [x for x in subtrees(e) if isinstance(x, Load) and x.indices]
    return any(x.indices[orders[x.array][-1]] == IndexRef(index) for x in loads if x.array in orders)

"""Turns a group that is a plain product of two matrices (or a batch of them) into one library call."""

from collections.abc import Mapping

from extract.groups import Group
from extract.strides import Orders
from kernel_ir.dtypes import F32, F64, I64
from kernel_ir.nodes import ArrayType, Binder, Call, Expr, IndexRef, Load, Reduce, const
from kernel_ir.plan import Matmul

Operand = tuple[str, tuple[Expr, ...], bool]


def product(group: Group, arrays: Mapping[str, ArrayType], orders: Orders) -> Matmul | None:
    """`out[…, i, j] = sum(k: a[…, i, k] * b[…, k, j])`, whole arrays in C order, or None where the group is not that.

    `leading` of an operand are the batch indices, or the last ones of them: the library broadcasts over the first. Transposed operands
    are allowed.
    """
    if len(group.members) != 1 or group.members[0].inner or len(group.outer) < 2:
        return None
    stmt = group.members[0].stmt
    if stmt.where is not None or stmt.indices != tuple(IndexRef(b.index) for b in group.outer):
        return None
    r = stmt.value
    if not isinstance(r, Reduce) or r.kind != "sum" or len(r.binders) != 1 or r.dtype not in (F32, F64):
        return None
    body = r.bodies[0]
    if not isinstance(body, Call) or body.op != "mul" or not all(isinstance(x, Load) and x.default is None for x in body.args):
        return None
    k = r.binders[0]
    i, j = group.outer[-2:]
    batch = tuple(IndexRef(b.index) for b in group.outer[:-2])
    for a, b in (body.args, body.args[::-1]):
        assert isinstance(a, Load) and isinstance(b, Load)
        left, right = _operand(a, batch, i, k), _operand(b, batch, k, j)
        ranges = {**{o.index: o for o in group.outer}, k.index: k}
        whole = all(_whole(x, ranges, arrays[x.array]) for x in (a, b, Load(stmt.target, stmt.indices, r.dtype)))
        straight = all(orders.get(n, ()) in ((), tuple(range(arrays[n].rank))) for n in (a.array, b.array, stmt.target))
        if left and right and whole and straight and all(arrays[n].dtype == r.dtype for n in (a.array, b.array, stmt.target)):
            return Matmul((stmt.target, batch, False), left, right)
    return None


def _operand(x: Load, batch: tuple[Expr, ...], row: Binder, column: Binder) -> Operand | None:
    r, c = IndexRef(row.index), IndexRef(column.index)
    leading, matrix = x.indices[:-2], x.indices[-2:]
    if leading != batch[len(batch) - len(leading) :]:
        return None
    return (x.array, leading, matrix == (c, r)) if matrix in ((r, c), (c, r)) else None


def _whole(x: Load, ranges: Mapping[str, Binder], array: ArrayType) -> bool:
    """Whether the indices run over the whole array."""
    for index, extent in zip(x.indices, array.shape, strict=True):
        if not isinstance(index, IndexRef) or (ranges[index.name].lo, ranges[index.name].hi) != (const(0, I64), extent):
            return False
    return True

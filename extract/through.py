"""Turns a pass over the rows of a matrix and a sum over the same rows into one pass: each row adds to the sums while it is in the cache.

    t[i] = sum(j: a[i, j] * x[j])           for each i:  t = sum(j: a[i, j] * x[j])
    y[j] = sum(i: a[i, j] * t[i])     ⇒                  for each j:  total[j] += a[i, j] * t
                                            for each j:  y[j] = total[j]

The threads add into copies of their own. A sum has no order, so any grouping of its terms is right.
"""

from collections.abc import Mapping
from dataclasses import replace

from extract.groups import Group, Grouping, Member, RepeatGroups, Work, groups, loads, relocated
from extract.names import Names
from extract.reductions import loads_of, outermost_reductions, over_nothing, replaced
from extract.strides import Orders, Stride, stride
from kernel_ir.dtypes import I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Expr, Fold, IndexRef, Kernel, Load, Param, Reduce, const
from kernel_ir.walk import free, statements, substitute, subtrees


def through(grouped: Grouping, kernel: Kernel, orders: Orders) -> Grouping | None:
    """The groups with every such pair joined; None where there is none."""
    indices = {b.index for s in statements(kernel.body) for b in s.binders} | {b.index for g in groups(grouped.work) for b in g.outer}
    names = Names({*kernel.arrays, *kernel.sizes, *(p.name for p in grouped.temps), *indices, kernel.name})
    totals: list[Param] = []

    def visit(work: tuple[Work, ...]) -> tuple[Work, ...]:
        out: list[Work] = []
        for one in work:
            if isinstance(one, RepeatGroups):
                out.append(replace(one, body=visit(one.body)))
                continue
            before = out[-1] if out else None
            found = _sum_over_rows(before, one, orders) if isinstance(before, Group) else None
            if found is None or not isinstance(before, Group):
                out.append(one)
                continue
            out[-1:] = _joined(before, one, found, names, totals)
        return tuple(out)

    work = visit(grouped.work)
    return relocated(Grouping(work, (*grouped.temps, *totals))) if totals else None


def _sum_over_rows(rows: Group, after: Group, orders: Orders) -> Reduce | None:
    """The sum of the first member of `after` over the rows of the group before it, whose terms lie along those rows."""
    stmt = after.members[0].stmt
    if rows.accumulates or any(m.stmt.op != "=" for m in rows.members) or not rows.outer:
        return None
    if len(after.outer) != 1 or after.members[0].inner or stmt.op != "=" or stmt.where is not None:
        return None
    (row, *_), (column,) = rows.outer, after.outer
    if column.lo != const(0, I64) or free(column.hi) or free(row.lo) | free(row.hi):
        return None
    for r in outermost_reductions(stmt.value):
        if r.kind == "sum" and [(b.lo, b.hi) for b in r.binders] == [(row.lo, row.hi)] and _fits(r, rows, column, orders):
            return r
    return None


def _fits(r: Reduce, rows: Group, column: Binder, orders: Orders) -> bool:
    (b,), (body,) = r.binders, r.bodies
    if free(body) - {b.index, column.index} or any(isinstance(x, Reduce | Fold) for x in subtrees(body)):
        return False
    written = {m.stmt.target for m in rows.members}
    reads = list(loads_of(body))
    if any(x.array in written and (not x.indices or x.indices[0] != IndexRef(b.index)) for x in reads):
        return False
    touched = written | {x.array for m in rows.members for x in loads(m.stmt)}
    return any(x.array in touched and _along(x, b.index, column.index, orders) for x in reads)


def _along(x: Load, row: str, column: str, orders: Orders) -> bool:
    far = stride(x.array, x.indices, row, orders) is Stride.FAR
    return far and stride(x.array, x.indices, column, orders) is Stride.UNIT


def _joined(rows: Group, after: Group, r: Reduce, names: Names, totals: list[Param]) -> tuple[Group, Group, Group]:
    """Zeros, the rows that add to them, and what follows from the totals."""
    (row, *inner), (column,) = rows.outer, after.outer
    first, *rest = after.members
    total, index, zero = names.fresh(f"{first.stmt.target}_total"), names.fresh(column.index), names.fresh(column.index)
    totals.append(Param(total, ArrayType(r.dtype, (column.hi,))))
    along = Binder(index, column.lo, column.hi)
    named: Mapping[str, Expr] = {r.binders[0].index: IndexRef(row.index), column.index: IndexRef(index)}
    term = Assign(total, (IndexRef(index),), "+=", substitute(r.bodies[0], dict(named)), (row, along))
    none = Assign(total, (IndexRef(zero),), "=", over_nothing("sum", r.dtype), (Binder(zero, column.lo, column.hi),))
    members = tuple(Member(m.stmt, (*inner, *m.inner)) for m in rows.members)
    value = replaced(first.stmt.value, r, Load(total, (IndexRef(column.index),), r.dtype))
    return (
        Group(none.binders, (Member(none, ()),)),
        replace(rows, outer=(row,), members=(*members, Member(term, (along,)))),
        replace(after, members=(Member(replace(first.stmt, value=value), ()), *rest)),
    )

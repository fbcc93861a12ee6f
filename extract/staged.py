"""Turns a group whose one long loop would run on one thread into blocks in parallel, the join of them, and a last step."""

from collections.abc import Mapping
from dataclasses import replace

from extract.blocks import cut
from extract.groups import Group, Member
from extract.names import Names
from extract.reductions import scans_over
from kernel_ir.dtypes import I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Const, Expr, IndexRef, Load, Param, Reduce, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.walk import children, free, map_children

Stages = tuple[tuple[Group, ...], tuple[Param, ...]]


def staged(group: Group, arrays: Mapping[str, ArrayType], names: Names, block: int) -> Stages | None:
    """The groups that replace `group`, in order, and their new temporaries; None where it is parallel enough as it is."""
    if len(group.members) != 1 or group.members[0].inner or group.members[0].stmt.where is not None:
        return None
    stmt = group.members[0].stmt
    found = [r for r in _reductions(stmt.value) if REDUCTIONS[r.kind].combine is not None]
    if len(found) != 1:
        return None
    (r,) = found
    if not group.outer and not free(r.binders[0].lo) | free(r.binders[0].hi):
        return _whole_reduction(group, stmt, r, names, block) if not _short(r.binders[0], block) else None
    return _running(group, stmt, r, names, block) if len(group.outer) == 1 and _runs(r, group.outer[0]) else None


def _runs(r: Reduce, row: Binder) -> bool:
    """Whether the reduction is over `0..i + 1` along a row from 0."""
    zero, one = const(0, I64), const(1, I64)
    (b, *_) = r.binders
    i = IndexRef(row.index)
    through = (Call("add", (i, one), I64), Call("add", (one, i), I64))
    return scans_over(r, row) and row.lo == zero and b.lo == zero and b.hi in through


def _short(b: Binder, block: int) -> bool:
    return isinstance(b.lo, Const) and isinstance(b.hi, Const) and int(b.hi.value) - int(b.lo.value) <= block


def _whole_reduction(group: Group, stmt: Assign, r: Reduce, names: Names, block: int) -> Stages:
    """One partial result a block, in parallel; then the join of them."""
    outer, inner, _ = cut(r.binders[0], block, names)
    partial = names.fresh(f"{stmt.target}_partial")
    kept = Param(partial, ArrayType(r.dtype, (outer.hi,)))
    first = Assign(partial, (IndexRef(outer.index),), "=", replace(r, binders=(inner, *r.binders[1:])), (outer,))
    joined = Reduce(r.kind, (outer,), (Load(partial, (IndexRef(outer.index),), r.dtype),), r.dtype)
    last = replace(stmt, value=_replaced(stmt.value, r, joined))
    return (Group((outer,), (Member(first, ()),)), Group((), (Member(last, ()),), group.locals)), (kept,)


def _running(group: Group, stmt: Assign, r: Reduce, names: Names, block: int) -> Stages:
    """Totals of blocks in parallel; the running total before each block; then each block by itself in parallel."""
    (row,), (b,) = group.outer, r.binders
    outer, inner, _ = cut(row, block, names)
    total, before = names.fresh(f"{stmt.target}_total"), names.fresh(f"{stmt.target}_before")
    at = IndexRef(outer.index)
    totals = Assign(total, (at,), "=", replace(r, binders=(Binder(b.index, inner.lo, inner.hi),)), (outer,))
    earlier = names.fresh("earlier")
    run = Reduce(r.kind, (Binder(earlier, const(0, I64), at),), (Load(total, (IndexRef(earlier),), r.dtype),), r.dtype)
    befores = Assign(before, (at,), "=", run, (outer,))
    combine = REDUCTIONS[r.kind].combine
    assert combine is not None
    inside = replace(r, binders=(Binder(b.index, inner.lo, b.hi),))
    value = _replaced(stmt.value, r, Call(combine, (Load(before, (at,), r.dtype), inside), r.dtype))
    last = Assign(stmt.target, stmt.indices, "=", value, (outer, inner))
    kept = ArrayType(r.dtype, (outer.hi,))
    return (
        Group((outer,), (Member(totals, ()),)),
        Group((), (Member(befores, (outer,)),)),
        Group((outer,), (Member(last, (inner,)),), group.locals),
    ), (Param(total, kept), Param(before, kept))


def _reductions(e: Expr) -> list[Reduce]:
    if isinstance(e, Reduce):
        return [e]
    return [r for child in children(e) for r in _reductions(child)]


def _replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    return new if e == old else map_children(lambda child: _replaced(child, old, new), e)

"""Turns reads that stride across a row into reads along it, from a transposed copy that one launch makes beforehand."""

from dataclasses import dataclass, replace

from extract.groups import Group, Member
from extract.names import Names
from extract.reductions import reads_nearer
from extract.strides import Orders, Stride, stride
from kernel_ir.dtypes import I64, DType
from kernel_ir.nodes import ArrayType, Assign, Binder, Expr, IndexRef, Load, Param, Reduce, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.walk import children, free, map_children, subtrees


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy to make before the launch: the group that makes it, and its type."""

    group: Group
    temp: Param


@dataclass(frozen=True, slots=True)
class Packing:
    """The group that reads from the copies."""

    group: Group
    copies: tuple[Copy, ...]


def packed(group: Group, arrays: dict[str, ArrayType], orders: Orders, constant: frozenset[str], names: Names) -> Packing:
    """The group with each reduction that would run along a row, were an array transposed, reading from such a copy.

    Only arrays in `constant` (that no statement writes) are copied, and only where an outer loop reads the copy again and again.
    """
    copies: dict[tuple[str, tuple[int, ...]], Copy] = {}
    members: list[Member] = []
    for m in group.members:
        value = m.stmt.value
        for r in _reductions(value):
            found = {} if not m.inner else _turned(r, m.inner[-1].index, group, orders, constant)
            made: dict[Load, Load] = {}
            for x, order in found.items():
                key = (x.array, order)
                if key not in copies:
                    copies[key] = _copy(x.array, order, arrays[x.array], x.dtype, names)
                made[x] = replace(x, array=copies[key].temp.name, indices=tuple(x.indices[d] for d in order))
            if made:
                value = _replaced(value, r, _reread(r, made))
        members.append(replace(m, stmt=replace(m.stmt, value=value)))
    return Packing(replace(group, members=tuple(members)), tuple(copies.values()))


def packs(group: Group, orders: Orders, constant: frozenset[str]) -> bool:
    """Whether `packed` would make copies for the group."""
    return any(_turned(r, m.inner[-1].index, group, orders, constant) for m in group.members if m.inner for r in _reductions(m.stmt.value))


def turns(group: Group, row: str, orders: Orders, constant: frozenset[str]) -> bool:
    """Whether copies would make some reduction of the group run along `row`, a loop around it."""
    return any(_turned(r, row, group, orders, constant) for m in group.members for r in _reductions(m.stmt.value))


def _turned(r: Reduce, row: str, group: Group, orders: Orders, constant: frozenset[str]) -> dict[Load, tuple[int, ...]]:
    """Each load to turn, with the dimensions of its copy; empty where that does not bring the row's reads together."""
    if row not in free(r) or REDUCTIONS[r.kind].combine is None or reads_nearer(r, row, orders):
        return {}
    turned: dict[Load, tuple[int, ...]] = {}
    for x in (y for body in r.bodies for y in subtrees(body) if isinstance(y, Load)):
        if stride(x.array, x.indices, row, orders) is not Stride.FAR:
            continue
        plain = [i.name for i in x.indices if isinstance(i, IndexRef)]
        again = any(b.index not in free(x) for b in group.outer)
        straight = x.array in constant and orders.get(x.array, ()) in ((), tuple(range(len(x.indices))))
        if x.default is not None or len(set(plain)) != len(x.indices) or not again or not straight:
            return {}
        at = plain.index(row)
        turned[x] = (*(d for d in range(len(plain)) if d != at), at)
    trial = _reread(r, {x: replace(x, array="·", indices=tuple(x.indices[d] for d in order)) for x, order in turned.items()})
    return turned if turned and isinstance(trial, Reduce) and reads_nearer(trial, row, orders) else {}


def _copy(array: str, order: tuple[int, ...], kind: ArrayType, dtype: DType, names: Names) -> Copy:
    name = names.fresh(f"{array}_turned")
    binders = tuple(Binder(names.fresh(f"{array}_{d}"), const(0, I64), extent) for d, extent in enumerate(kind.shape))
    source = tuple(IndexRef(b.index) for b in binders)
    at = tuple(source[d] for d in order)
    outer = tuple(binders[d] for d in order)
    stmt = Assign(name, at, "=", Load(array, source, dtype), outer)
    return Copy(Group(outer, (Member(stmt, ()),)), Param(name, ArrayType(dtype, tuple(kind.shape[d] for d in order))))


def _reductions(e: Expr) -> list[Reduce]:
    if isinstance(e, Reduce):
        return [e]
    return [r for child in children(e) for r in _reductions(child)]


def _reread(e: Expr, made: dict[Load, Load]) -> Expr:
    if isinstance(e, Load) and e in made:
        return made[e]
    return map_children(lambda child: _reread(child, made), e)


def _replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    return new if e == old else map_children(lambda child: _replaced(child, old, new), e)

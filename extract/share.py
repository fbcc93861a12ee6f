"""Turns a group into one that computes less: what several passes over a row need is kept in a row, and rows shrink to what is read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from extract.groups import Group, Member
from extract.names import Names
from extract.reductions import two_pass
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Expr, Fold, IndexRef, Load, Reduce, const
from kernel_ir.ops import OPS, Unit
from kernel_ir.walk import children, free, map_children, substitute, subtrees

Arrays = dict[str, ArrayType]
Extent = Callable[[Binder], Expr]
"""The length of a buffer over a binder's index."""


def shared(group: Group, arrays: Mapping[str, ArrayType], names: Names) -> tuple[Group, Arrays]:
    """The group with a local temporary for each costly value that two passes over a row use, and the new temporaries' types."""
    members = tuple(replace(m, stmt=replace(m.stmt, value=_desugared(m.stmt.value))) for m in group.members)
    group = replace(group, members=members)
    new: Arrays = {}
    for _ in range(8):
        found = _most_costly(group)
        if found is None:
            break
        group, name, array = _kept(group, *found, names, {**arrays, **new})
        new[name] = array
    return _narrowed(group), new


def _desugared(e: Expr) -> Expr:
    e = map_children(_desugared, e)
    match e:
        case Reduce(kind="expsum"):
            return two_pass(e)
        case Reduce(kind="argmax" | "argmin", binders=(b,)):
            return _first_place(e, b)
        case _:
            return e


def _first_place(r: Reduce, b: Binder) -> Expr:
    """argmax and argmin as two loops that vectorise: the extreme value, then the least index that has it (or the first NaN)."""
    (body,) = r.bodies
    extreme = Reduce("max" if r.kind == "argmax" else "min", r.binders, r.bodies, body.dtype)
    here: Expr = Call("eq", (body, extreme), BOOL)
    if body.dtype.is_float:
        here = Call("or", (here, Call("ne", (body, body), BOOL)), BOOL)
    return Reduce("min", r.binders, (Call("select", (here, IndexRef(b.index), b.hi), I64),), I64)


# -- what is used twice

Use = tuple[int, int, str, Expr]
"""Member's number, pass number, the row's index there, the value there."""


def _most_costly(group: Group) -> tuple[Binder, Expr, int] | None:
    """The largest costly value over one row that at least two passes use: (row, value over the row's index, first member)."""
    outer = {b.index for b in group.outer}
    uses: dict[tuple[Expr, Expr, Expr], list[Use]] = {}
    for number, m in enumerate(group.members):
        passes = list(_passes(m))
        for p, (row, value) in enumerate(passes):
            for e in _costly(value):
                if row.index in free(e) and free(e) <= outer | {row.index}:
                    key = (row.lo, row.hi, substitute(e, {row.index: IndexRef("·")}))
                    uses.setdefault(key, []).append((number, p, row.index, e))
    best: tuple[Binder, Expr, int] | None = None
    size = 0
    for (lo, hi, _), found in uses.items():
        if free(lo) | free(hi) <= outer and len({(n, p) for n, p, _, _ in found}) > 1:
            number, _, index, e = found[0]
            extent = sum(1 for _ in subtrees(e))
            if extent > size:
                best, size = (Binder(index, lo, hi), e, number), extent
    return best


def _passes(m: Member) -> Iterator[tuple[Binder, Expr]]:
    """Each loop over a row with what it computes there: the member's own last loop, and every one-index reduction."""
    if m.inner:
        yield m.inner[-1], m.stmt.value
    for x in subtrees(m.stmt.value):
        if isinstance(x, Reduce) and len(x.binders) == 1:
            for body in x.bodies:
                yield x.binders[0], body


def _costly(e: Expr) -> Iterator[Expr]:
    """Costly values (transcendental, or a reduction) that are computed whenever `e` is, but not in a loop inside it."""
    match e:
        case Reduce() | Fold():
            yield e
            return
        case Call(op="select" | "and" | "or"):
            yield from _costly(e.args[0])
            return
        case Call() if OPS[e.op].unit in (Unit.EXP, Unit.TRIG):
            yield e
        case _:
            pass
    for child in children(e):
        yield from _costly(child)


def _kept(group: Group, row: Binder, value: Expr, first: int, names: Names, arrays: Arrays) -> tuple[Group, str, ArrayType]:
    """The group with `value` stored into a new row before member `first`, and read from it wherever it is used."""
    name = names.fresh("row")
    outer = tuple(IndexRef(b.index) for b in group.outer)
    index = names.fresh(row.index)
    at = (*outer, IndexRef(index))
    binders = (*group.outer, Binder(index, row.lo, row.hi))
    stmt = Assign(name, at, "=", substitute(value, {row.index: IndexRef(index)}), binders)
    pattern = substitute(value, {row.index: IndexRef("·")})

    def reread(e: Expr, open_rows: tuple[Binder, ...]) -> Expr:
        for b in reversed(open_rows):
            if b.index in free(e) and substitute(e, {b.index: IndexRef("·")}) == pattern and (b.lo, b.hi) == (row.lo, row.hi):
                return Load(name, (*outer, IndexRef(b.index)), value.dtype)
        if isinstance(e, Reduce):
            inner = (*open_rows, *e.binders)
            return replace(e, bodies=tuple(reread(x, inner) for x in e.bodies))
        return map_children(lambda child: reread(child, open_rows), e)

    members = [replace(m, stmt=replace(m.stmt, value=reread(m.stmt.value, m.inner))) for m in group.members]
    members.insert(first, Member(stmt, (Binder(index, row.lo, row.hi),)))
    hi = row.hi if not free(row.hi) else _rectangle(group, row)
    shape = (*(b.hi for b in group.outer), hi)
    return replace(group, members=tuple(members), locals=(*group.locals, name)), name, ArrayType(value.dtype, shape)


def _rectangle(group: Group, row: Binder) -> Expr:
    """An upper bound of the row's end that reads no index: each outer index at its last value (ends that grow with them)."""
    hi = row.hi
    for b in reversed(group.outer):
        if b.index in free(hi):
            hi = substitute(hi, {b.index: Call("sub", (b.hi, const(1, I64)), I64)})
    return hi


# -- rows that are read in part


def _narrowed(group: Group) -> Group:
    """Local rows computed over no more than the one range over which they are read."""
    members = list(group.members)
    for n, m in enumerate(members):
        if m.stmt.target not in group.locals or len(m.inner) != 1 or m.stmt.where is not None:
            continue
        ranges = {r for other in members for r in _read_ranges(other, m.stmt.target)}
        outer = {b.index for b in group.outer}
        if len(ranges) != 1:
            continue
        ((lo, hi),) = ranges
        if lo is None or hi is None or not free(lo) | free(hi) <= outer:
            continue
        row = Binder(m.inner[0].index, lo, hi)
        members[n] = Member(replace(m.stmt, binders=(*m.stmt.binders[:-1], row)), (row,))
    return replace(group, members=tuple(members))


def _read_ranges(m: Member, array: str) -> Iterator[tuple[Expr, Expr] | tuple[None, None]]:
    """The range of the last index of each read of `array`; (None, None) where it is not a loop's own index."""

    def visit(e: Expr, ranges: dict[str, tuple[Expr, Expr]]) -> Iterator[tuple[Expr, Expr] | tuple[None, None]]:
        if isinstance(e, Load) and e.array == array:
            last = e.indices[-1]
            yield ranges.get(last.name, (None, None)) if isinstance(last, IndexRef) else (None, None)
        inside = ranges
        if isinstance(e, Reduce):
            inside = {**ranges, **{b.index: (b.lo, b.hi) for b in e.binders}}
        elif isinstance(e, Fold):
            inside = {k: v for k, v in ranges.items() if k != e.binder.index}
        for child in children(e):
            yield from visit(child, inside)

    yield from visit(m.stmt.value, {b.index: (b.lo, b.hi) for b in m.inner})
    if m.stmt.where is not None:
        yield from visit(m.stmt.where, {})

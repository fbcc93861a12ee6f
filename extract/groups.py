"""Turns a kernel into groups: runs of statements that can share their outer loops, whatever the target.

A group is one loop nest over `outer`; its members run in order inside one iteration. Two statements share a group where their
leading target indices run over the same ranges and every array that one of them writes is met by the others at exactly these
indices, so that no iteration sees another's work:

    m[r]    = max(c: x[r, c])                     Group(outer=(r), members=(m: inner (),
    z[r]    = sum(c: exp(x[r, c] - m[r]))    →                              z: inner (),
    y[r, c] = exp(x[r, c] - m[r]) / z[r]                                    y: inner (c)), locals=(m, z))

A temporary that only its own group touches is local: a scalar of the iteration where its rank is the depth of `outer`, else a
buffer over its inner indices. Every other temporary is a whole array that outlives its launch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from extract.domains import explicit
from kernel_ir.dtypes import I64, DType
from kernel_ir.nodes import ArrayType, Assign, Binder, Const, Expr, IndexRef, Kernel, Load, Param, Repeat, Stmt, const
from kernel_ir.walk import expressions, free, map_children, statements, substitute, subtrees

Fusion = Literal["through", "most", "equal", "none"]
"""through: as most, and sums over the rows of a group join it (`through.py`); most: share any common prefix of outer loops; equal: only
statements whose loops all agree; none: one group a statement."""


@dataclass(frozen=True, slots=True)
class Member:
    """One statement of a group, its leading indices renamed to the group's; `inner` are the binders that remain its own."""

    stmt: Assign
    inner: tuple[Binder, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One loop nest: for every point of `outer` (independent of each other), the members in order.

    `locals` names the temporaries that live inside one iteration. An accumulating statement (`+=`, `max=`, `min=`) is alone in
    its group, and its iterations meet in the target.
    """

    outer: tuple[Binder, ...]
    members: tuple[Member, ...]
    locals: tuple[str, ...] = ()

    @property
    def accumulates(self) -> bool:
        return self.members[0].stmt.op != "="


@dataclass(frozen=True, slots=True)
class RepeatGroups:
    """Groups in order, `steps` times."""

    index: str | None
    steps: Expr
    body: "tuple[Work, ...]"


Work = Group | RepeatGroups


@dataclass(frozen=True, slots=True)
class Grouping:
    """All the work of a kernel in order, and its temporaries: the kernel's own, then copies that keep an array as it was before."""

    work: tuple[Work, ...]
    temps: tuple[Param, ...]


def grouping(kernel: Kernel, fusion: Fusion = "most", alone: frozenset[str] = frozenset()) -> Grouping:
    """The groups of `kernel`, in the order of its statements; those that define the arrays of `alone` share their loops with none."""
    body, copies = _keep_before(_live(explicit(kernel), kernel), kernel)
    written = {s.target for s in statements(body)}
    temps = tuple(p for p in (*kernel.temps, *copies) if p.name in written)
    return Grouping(_with_locals(_groups(body, fusion, alone), frozenset(p.name for p in temps)), temps)


def _live(body: tuple[Stmt, ...], kernel: Kernel) -> tuple[Stmt, ...]:
    """The statements without those of temporaries that no other statement reads."""
    temps = {p.name for p in kernel.temps}
    read = {x.array for s in statements(body) for x in loads(s) if x.array != s.target}
    read |= {x.array for r in body if isinstance(r, Repeat) for x in subtrees(r.steps) if isinstance(x, Load)}
    dead = temps & {s.target for s in statements(body)} - read
    return _live(_without(body, dead), kernel) if dead else body


def _without(body: tuple[Stmt, ...], targets: set[str]) -> tuple[Stmt, ...]:
    kept: list[Stmt] = []
    for stmt in body:
        if isinstance(stmt, Repeat):
            inner = _without(stmt.body, targets)
            kept += [replace(stmt, body=inner)] if inner else []
        elif stmt.target not in targets:
            kept.append(stmt)
    return tuple(kept)


def groups(work: tuple[Work, ...]) -> Iterator[Group]:
    """Every group, those inside repeats included."""
    for one in work:
        match one:
            case Group():
                yield one
            case RepeatGroups():
                yield from groups(one.body)


def loads(stmt: Assign) -> Iterator[Load]:
    """Every load of a statement."""
    return (x for top in expressions(stmt) for x in subtrees(top) if isinstance(x, Load))


def relocated(grouped: Grouping) -> Grouping:
    """The grouping with its local temporaries found anew."""
    return replace(grouped, work=_with_locals(grouped.work, frozenset(p.name for p in grouped.temps)))


# -- a statement reads arrays as they were before it


def _keep_before(body: tuple[Stmt, ...], kernel: Kernel) -> tuple[tuple[Stmt, ...], tuple[Param, ...]]:
    """Gives each statement that reads its own target at other elements a copy of it, made just before."""
    used = set(kernel.arrays) | set(kernel.sizes) | {b.index for s in statements(kernel.body) for b in s.binders}
    copies: list[Param] = []

    def visit(stmts: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for stmt in stmts:
            if isinstance(stmt, Repeat):
                result.append(replace(stmt, body=visit(stmt.body)))
            elif any(x.array == stmt.target and (stmt.op != "=" or _may_meet(x.indices, stmt.indices)) for x in loads(stmt)):
                result.extend(copy_first(stmt))
            else:
                result.append(stmt)
        return tuple(result)

    def copy_first(stmt: Assign) -> tuple[Assign, Assign]:
        array = kernel.arrays[stmt.target]
        name = _fresh(f"{stmt.target}_before", used)
        copies.append(Param(name, replace(array, layout="rows")))
        binders = tuple(Binder(_fresh(f"i{q}", used), const(0, I64), extent) for q, extent in enumerate(array.shape))
        at = tuple(IndexRef(b.index) for b in binders)
        value = Load(stmt.target, at, _read_type(stmt, stmt.target))
        return Assign(name, at, "=", value, binders), _redirect(stmt, name)

    return visit(body), tuple(copies)


def _may_meet(read: tuple[Expr, ...], written: tuple[Expr, ...]) -> bool:
    """Whether a read may be of an element that another iteration of the statement writes: not of its own element, nor of another field."""
    apart = any(isinstance(a, Const) and isinstance(b, Const) and a != b for a, b in zip(read, written, strict=True))
    return read != written and not apart


def _read_type(stmt: Assign, array: str) -> DType:
    return next(x.dtype for x in loads(stmt) if x.array == array)


def _redirect(stmt: Assign, copy: str) -> Assign:
    """The statement with every load of its target taken from `copy`."""

    def visit(e: Expr) -> Expr:
        e = map_children(visit, e)
        return replace(e, array=copy) if isinstance(e, Load) and e.array == stmt.target else e

    where = None if stmt.where is None else visit(stmt.where)
    binders = tuple(Binder(b.index, visit(b.lo), visit(b.hi)) for b in stmt.binders)
    return replace(stmt, value=visit(stmt.value), indices=tuple(map(visit, stmt.indices)), where=where, binders=binders)


def _fresh(name: str, used: set[str]) -> str:
    number, candidate = 0, name
    while candidate in used:
        number += 1
        candidate = f"{name}{number}"
    used.add(candidate)
    return candidate


# -- fusing neighbours


def _groups(body: tuple[Stmt, ...], fusion: Fusion, apart: frozenset[str]) -> tuple[Work, ...]:
    result: list[Work] = []
    for stmt in body:
        if isinstance(stmt, Repeat):
            result.append(RepeatGroups(stmt.index, stmt.steps, _groups(stmt.body, fusion, apart)))
            continue
        alone = _alone(stmt)
        last = result[-1] if result else None
        shares = isinstance(last, Group) and not {stmt.target, last.members[-1].stmt.target} & apart
        fused = _fuse(last, alone, fusion) if shares and isinstance(last, Group) else None
        if fused is None:
            result.append(alone)
        else:
            result[-1] = fused
    return tuple(result)


def _alone(stmt: Assign) -> Group:
    """One statement as a group; its loops in the order of its target's indices where its ranges allow that."""
    by_name = {b.index: b for b in stmt.binders}
    order = [i.name for i in stmt.indices if isinstance(i, IndexRef) and i.name in by_name]
    order += [name for name in by_name if name not in order]
    binders = tuple(by_name[name] for name in order)
    seen: set[str] = set()
    for b in binders:
        if (free(b.lo) | free(b.hi)) & set(by_name) - seen:
            binders = stmt.binders  # a range reads a later index: keep the order of the text
            break
        seen.add(b.index)
    return Group(binders, (Member(replace(stmt, binders=binders), ()),))


def _fuse(group: Group, new: Group, fusion: Fusion) -> Group | None:
    """`group` with the only member of `new` added, sharing as many outer loops as is legal; None where that is none."""
    stmt = new.members[0].stmt
    if fusion == "none" or group.accumulates or new.accumulates:
        return None
    limit = _common(group, new.outer, stmt)
    if fusion == "equal" and (limit < len(group.outer) or limit < len(new.outer) or any(m.inner for m in group.members)):
        return None
    for depth in range(limit, 0, -1):
        candidate = _joined(group, stmt, depth)
        if _pointwise(candidate):
            return candidate
    return None


def _common(group: Group, binders: tuple[Binder, ...], stmt: Assign) -> int:
    """How many leading loops run over the same ranges, and index the leading dimensions of every target."""
    names: dict[str, Expr] = {}
    for depth, (mine, theirs) in enumerate(zip(group.outer, binders, strict=False)):
        same = (substitute(theirs.lo, names), substitute(theirs.hi, names)) == (mine.lo, mine.hi)
        leads = _leads(stmt, depth, theirs.index) and all(_leads(m.stmt, depth, mine.index) for m in group.members)
        if not (same and leads):
            return depth
        names[theirs.index] = IndexRef(mine.index)
    return min(len(group.outer), len(binders))


def _leads(stmt: Assign, depth: int, index: str) -> bool:
    return depth < len(stmt.indices) and stmt.indices[depth] == IndexRef(index)


def _joined(group: Group, stmt: Assign, depth: int) -> Group:
    outer = group.outer[:depth]
    members = tuple(Member(m.stmt, (*group.outer[depth:], *m.inner)) for m in group.members)
    return Group(outer, (*members, _renamed(stmt, outer)))


def _renamed(stmt: Assign, outer: tuple[Binder, ...]) -> Member:
    """The statement with its first loops called as in `outer`; its own later loops give way where names collide."""
    depth = len(outer)
    names: dict[str, Expr] = {b.index: IndexRef(o.index) for b, o in zip(stmt.binders, outer, strict=False)}
    taken = {o.index for o in outer}
    inner: list[Binder] = []
    used = taken | {b.index for b in stmt.binders}
    for b in stmt.binders[depth:]:
        name = b.index
        lo, hi = substitute(b.lo, names), substitute(b.hi, names)
        if name in taken:
            name = _fresh(name, used)
            names[b.index] = IndexRef(name)
        inner.append(Binder(name, lo, hi))
    where = None if stmt.where is None else substitute(stmt.where, names)
    indices = tuple(substitute(i, names) for i in stmt.indices)
    whole = replace(stmt, value=substitute(stmt.value, names), indices=indices, where=where, binders=(*outer, *inner))
    return Member(whole, tuple(inner))


def _pointwise(group: Group) -> bool:
    """Whether every array that a member writes is met, in all members, at the outer indices alone."""
    at = tuple(IndexRef(b.index) for b in group.outer)
    written = {m.stmt.target for m in group.members}
    for m in group.members:
        if m.stmt.indices[: len(at)] != at:
            return False
        if any(x.array in written and x.indices[: len(at)] != at for x in loads(m.stmt)):
            return False
    return True


# -- which temporaries stay inside


def _with_locals(work: tuple[Work, ...], temps: frozenset[str]) -> tuple[Work, ...]:
    every = list(groups(work))
    touched = [_touches(g) for g in every]
    local: dict[int, tuple[str, ...]] = {}
    for n, group in enumerate(every):
        elsewhere = frozenset[str]().union(*(t for other, t in enumerate(touched) if other != n))
        own = dict.fromkeys(m.stmt.target for m in group.members if m.stmt.target in temps - elsewhere)
        local[id(group)] = () if group.accumulates else tuple(name for name in own if _defined_before_read(group, name))

    def visit(one: Work) -> Work:
        if isinstance(one, RepeatGroups):
            return replace(one, body=tuple(map(visit, one.body)))
        return replace(one, locals=local[id(one)])

    return tuple(map(visit, work))


def _touches(group: Group) -> frozenset[str]:
    return frozenset(name for m in group.members for name in (m.stmt.target, *(x.array for x in loads(m.stmt))))


def _defined_before_read(group: Group, name: str) -> bool:
    """Whether each iteration writes the temporary before it reads it (one in a `repeat` may carry over)."""
    for m in group.members:
        if any(x.array == name for x in loads(m.stmt)):
            return False
        if m.stmt.target == name:
            return True
    return False


def local_rank(group: Group, array: ArrayType) -> int:
    """Dimensions of a local temporary's buffer: 0 for a scalar of the iteration."""
    return array.rank - len(group.outer)

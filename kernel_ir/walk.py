"""Turns a core tree into its parts: children, rebuilt trees, free variables, substitution, statement iteration."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from operator import is_
from typing import Final

from kernel_ir.nodes import (
    Assign,
    Binder,
    Call,
    Carry,
    Const,
    Expr,
    Fold,
    IndexRef,
    Load,
    Local,
    ParamRef,
    Reduce,
    Repeat,
    SizeRef,
    Stmt,
)

LEAVES: Final = frozenset({Const, SizeRef, ParamRef, IndexRef, Local})
"""The nodes without parts: by far the most, and asked for first."""


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions, bounds of binders included, in textual order."""
    if type(e) in LEAVES:
        return ()
    match e:
        case Call():
            return e.args
        case Load():
            return e.indices if e.default is None else (*e.indices, e.default)
        case Reduce():
            return (*(b for binder in e.binders for b in (binder.lo, binder.hi)), *e.bodies)
        case Fold():
            whole = (e.binder.lo, e.binder.hi, *(c.init for c in e.carries))
            return (*whole, *(() if e.condition is None else (e.condition,)), *(c.update for c in e.carries))
        case _:
            return ()


def map_children(f: Callable[[Expr], Expr], e: Expr) -> Expr:
    """The same node with `f` applied to each direct subexpression (blind to binding); the node itself where that changes nothing."""
    if type(e) in LEAVES:
        return e
    match e:
        case Call():
            args = tuple(map(f, e.args))
            return e if _same(args, e.args) else Call(e.op, args, e.dtype, span=e.span)
        case Load():
            indices, default = tuple(map(f, e.indices)), None if e.default is None else f(e.default)
            return e if default is e.default and _same(indices, e.indices) else Load(e.array, indices, e.dtype, default, span=e.span)
        case Reduce():
            return replace(e, binders=tuple(map_binder(f, b) for b in e.binders), bodies=tuple(map(f, e.bodies)))
        case Fold():
            carries = tuple(Carry(c.name, f(c.init), f(c.update)) for c in e.carries)
            condition = None if e.condition is None else f(e.condition)
            return replace(e, binder=map_binder(f, e.binder), carries=carries, condition=condition)
        case _:
            return e


def _same(new: tuple[Expr, ...], old: tuple[Expr, ...]) -> bool:
    return all(map(is_, new, old))


def map_binder(f: Callable[[Expr], Expr], b: Binder) -> Binder:
    """The binder with `f` applied to its bounds."""
    return Binder(b.index, f(b.lo), f(b.hi))


def subtrees(e: Expr) -> Iterator[Expr]:
    """`e` and everything below it, parents first."""
    waiting = [e]  # no recursion: a generator inside each generator costs each node its depth
    while waiting:
        e = waiting.pop()
        yield e
        if type(e) not in LEAVES:
            waiting.extend(children(e)[::-1])


_NONE: Final = frozenset[str]()


def free(e: Expr) -> frozenset[str]:
    """Names of the index variables and locals that are free in `e`."""
    match e:
        case IndexRef() | Local():
            return frozenset((e.name,))
        case Reduce():
            names = frozenset[str]().union(*map(free, e.bodies))
            for binder in reversed(e.binders):
                names = (names - {binder.index}) | free(binder.lo) | free(binder.hi)
            return names
        case Fold():
            step = [c.update for c in e.carries] + ([] if e.condition is None else [e.condition])
            inner = frozenset[str]().union(*map(free, step)) - {e.binder.index, *(c.name for c in e.carries)}
            return inner.union(free(e.binder.lo), free(e.binder.hi), *(free(c.init) for c in e.carries))
        case Call() | Load():
            return _NONE.union(*map(free, children(e)))
        case _:
            return _NONE


def substitute(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """`e` with free indices and locals replaced, renaming binders that would capture."""
    if not values:
        return e
    match e:
        case IndexRef() | Local():
            return values.get(e.name, e)
        case Reduce():
            inner = dict(values)
            binders: list[Binder] = []
            for b in e.binders:
                lo, hi = substitute(b.lo, inner), substitute(b.hi, inner)
                name = _bind(b.index, inner, e)
                binders.append(Binder(name, lo, hi))
            return replace(e, binders=tuple(binders), bodies=tuple(substitute(x, inner) for x in e.bodies))
        case Fold():
            inner = dict(values)
            lo, hi = substitute(e.binder.lo, values), substitute(e.binder.hi, values)
            binder = Binder(_bind(e.binder.index, inner, e), lo, hi)
            for c in e.carries:
                inner.pop(c.name, None)
            # A carried name is seen by the fold alone, so only index names can capture; carries are unique in a kernel.
            carries = tuple(Carry(c.name, substitute(c.init, values), substitute(c.update, inner)) for c in e.carries)
            condition = None if e.condition is None else substitute(e.condition, inner)
            return replace(e, binder=binder, carries=carries, condition=condition)
        case _:
            return map_children(lambda child: substitute(child, values), e)


def _bind(name: str, values: dict[str, Expr], scope: Expr) -> str:
    """Makes `name` bound in `values`: shadows an outer value, or is renamed where a value would be captured."""
    values.pop(name, None)
    taken = frozenset[str]().union(*(free(v) for v in values.values()))
    if name not in taken:
        return name
    used = taken | {x.name for x in subtrees(scope) if isinstance(x, IndexRef | Local)}
    number = 1
    while f"{name}{number}" in used:
        number += 1
    values[name] = IndexRef(f"{name}{number}")
    return f"{name}{number}"


def statements(body: tuple[Stmt, ...]) -> Iterator[Assign]:
    """Every assignment, those inside `repeat` included, in textual order."""
    for stmt in body:
        match stmt:
            case Assign():
                yield stmt
            case Repeat():
                yield from statements(stmt.body)


def expressions(stmt: Assign) -> Iterator[Expr]:
    """Top expressions of a statement: value, target indices, bounds, condition."""
    yield stmt.value
    yield from stmt.indices
    for b in stmt.binders:
        yield from (b.lo, b.hi)
    if stmt.where is not None:
        yield stmt.where

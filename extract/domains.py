"""Turns `… otherwise` statements into statements with explicit ranges or conditions, so that schedules see plain domains."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce

from kernel_ir.dtypes import BOOL, I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Const, Expr, IndexRef, Kernel, Repeat, Stmt, const
from kernel_ir.walk import free, substitute

Box = tuple[tuple[Expr, Expr], ...]
"""Half-open bounds, one pair a dimension of the target, that read no index variable."""


def explicit(kernel: Kernel) -> tuple[Stmt, ...]:
    """The body of `kernel` without `otherwise`: what one rectangle leaves becomes slabs around it, the rest a condition."""
    return _explicit(kernel.body, kernel.arrays, {})


def conjunction(conditions: tuple[Expr, ...]) -> Expr:
    """All of the conditions (true for none)."""
    return reduce(lambda a, b: Call("and", (a, b), BOOL), conditions) if conditions else const(True, BOOL)


def _explicit(body: tuple[Stmt, ...], arrays: dict[str, ArrayType], earlier: dict[str, list[Assign]]) -> tuple[Stmt, ...]:
    result: list[Stmt] = []
    for stmt in body:
        match stmt:
            case Repeat():
                result.append(replace(stmt, body=_explicit(stmt.body, arrays, {})))
            case Assign(otherwise=True):
                result.extend(_rest(stmt, arrays[stmt.target].shape, earlier.get(stmt.target, [])))
            case Assign():
                earlier.setdefault(stmt.target, []).append(stmt)
                result.append(stmt)
    return tuple(result)


def _rest(stmt: Assign, shape: tuple[Expr, ...], earlier: list[Assign]) -> Iterator[Assign]:
    plain = replace(stmt, otherwise=False)
    if not earlier:
        yield plain
        return
    box = _box(earlier[0]) if len(earlier) == 1 else None
    ranges = {b.index: b for b in stmt.binders}
    if box is None or not all(isinstance(i, IndexRef) for i in stmt.indices):
        uncovered = tuple(Call("not", (_covers(one, stmt.indices),), BOOL) for one in earlier)
        where = conjunction((*uncovered, *(() if stmt.where is None else (stmt.where,))))
        yield replace(plain, where=where)
        return
    names = [i.name for i in stmt.indices if isinstance(i, IndexRef)]
    for q, (name, (lo, hi)) in enumerate(zip(names, box, strict=True)):
        first = _least(lo, shape[q])
        inside = {n: Binder(n, a, b) for n, (a, b) in zip(names[:q], box[:q], strict=True)}
        for below, above in ((const(0, I64), first), (_greatest(hi, first), shape[q])):
            if below == above:
                continue
            chosen = {**ranges, **inside, name: Binder(name, below, above)}
            yield replace(plain, binders=tuple(chosen[b.index] for b in stmt.binders))


def _box(stmt: Assign) -> Box | None:
    """The rectangle that a statement defines, or None where its domain is not one."""
    if stmt.where is not None:
        return None
    ranges = {b.index: (b.lo, b.hi) for b in stmt.binders}
    sides: list[tuple[Expr, Expr]] = []
    for index in stmt.indices:
        match index:
            case IndexRef(name) if name in ranges:
                sides.append(ranges[name])
            case Const(bits):
                sides.append((index, const(bits + 1, I64)))
            case _:
                return None
    return None if any(free(bound) for side in sides for bound in side) else tuple(sides)


def _covers(stmt: Assign, at: tuple[Expr, ...]) -> Expr:
    """Whether `stmt` defines the element of its target at the indices `at`."""
    values: dict[str, Expr] = {}
    conditions: list[Expr] = []
    for index, place in zip(stmt.indices, at, strict=True):
        if isinstance(index, IndexRef):
            values[index.name] = place
        else:
            conditions.append(Call("eq", (place, index), BOOL))
    for b in stmt.binders:
        lo, hi = substitute(b.lo, values), substitute(b.hi, values)
        conditions += [Call("le", (lo, values[b.index]), BOOL), Call("lt", (values[b.index], hi), BOOL)]
    if stmt.where is not None:
        conditions.append(substitute(stmt.where, values))
    return conjunction(tuple(conditions))


def _least(a: Expr, b: Expr) -> Expr:
    return a if a == b or a == const(0, I64) else Call("min", (a, b), I64)


def _greatest(a: Expr, b: Expr) -> Expr:
    return a if a == b or b == const(0, I64) else Call("max", (a, b), I64)

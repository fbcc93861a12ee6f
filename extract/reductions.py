"""Turns reductions into others of the same value, and answers what a schedule asks about one: how far it reaches, where it runs best."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from extract.strides import Orders, access_cost, coefficient
from kernel_ir.dtypes import I64, DType
from kernel_ir.nodes import Binder, Call, Const, Expr, Load, Reduce, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.walk import children, free, map_children, substitute, subtrees

UNROLL: Final = 8
"""Constant extents up to this are written out."""


def two_pass(r: Reduce) -> Expr:
    """`expsum(j: s, v)` as its definition: the maximum first, then the sum."""
    s, v = r.bodies
    maximum = Reduce("max", r.binders, (s,), r.dtype)
    weight = Call("exp", (Call("sub", (s, maximum), r.dtype),), r.dtype)
    body = weight if isinstance(v, Const) and v.value == 1.0 else Call("mul", (weight, v), r.dtype)
    return Reduce("sum", r.binders, (body,), r.dtype)


def reads_nearer(r: Reduce, row: str, orders: Orders) -> bool:
    """Whether the body's accesses are nearer along `row` than along the reduction's own best loop."""
    if any(row in free(b.lo) | free(b.hi) for b in r.binders):
        return False
    accesses = [x for body in r.bodies for x in loads_of(body)]
    own = min(access_cost(accesses, b.index, orders) for b in r.binders)
    return access_cost(accesses, row, orders) < own


def scans_over(r: Reduce, row: Binder) -> bool:
    """Whether the reduction over `lo..row + c`, with the first row's range not empty, can run along with the row."""
    if REDUCTIONS[r.kind].combine is None or len(r.binders) != 1:
        return False
    (b,) = r.binders
    names = free(b.lo) | (free(r.bodies[0]) - {b.index})
    if row.index in names or coefficient(b.hi, row.index) != 1:
        return False
    first = first_term(r, row)
    return first in (b.lo, less_one(b.lo)) or (isinstance(first, Const) and isinstance(b.lo, Const) and first.value >= b.lo.value)


def first_term(r: Reduce, row: Binder) -> Expr:
    """The last term of the row's first element."""
    return less_one(substitute(r.binders[0].hi, {row.index: row.lo}))


def less_one(e: Expr) -> Expr:
    return simplified(Call("sub", (e, const(1, I64)), I64))


def over_nothing(kind: str, dtype: DType) -> Const:
    """The value of a reduction over nothing: for integers, the least or greatest value of the dtype."""
    value = REDUCTIONS[kind].over_nothing
    assert value is not None
    if dtype.is_int and kind in ("max", "min"):
        half = 1 << (dtype.bits - 1)
        return const(-half if kind == "max" else half - 1, dtype)
    return const(value, dtype)


def simplified(e: Expr) -> Expr:
    """Integer sums with their constants joined: `i + 1 - 1` is `i`."""
    match e:
        case Call("add" | "sub", (a, b)) if e.dtype is I64:
            a, b = simplified(a), simplified(b)
            if e.op == "sub" and a == b:
                return const(0, I64)
            terms, constant = _split(replace(e, args=(a, b)))
            if terms is None:
                return const(constant, I64)
            if constant == 0:
                return terms
            op = "add" if constant > 0 else "sub"
            return Call(op, (terms, const(abs(constant), I64)), I64)
        case _:
            return e


def _split(e: Expr) -> tuple[Expr | None, int]:
    """`e` as (what is not constant, the constant)."""
    match e:
        case Const():
            return None, int(e.value)
        case Call("add" | "sub", (a, b)):
            (left, c), (right, d) = _split(a), _split(b)
            total = c + d if e.op == "add" else c - d
            if left == right and e.op == "sub":
                return None, total
            if right is None:
                return left, total
            if left is None:
                return (right, total) if e.op == "add" else (Call("neg", (right,), I64), total)
            return Call(e.op, (left, right), I64), total
        case _:
            return e, 0


def written_out(r: Reduce) -> Expr:
    """A reduction that `is_written_out` as one expression."""
    combine = REDUCTIONS[r.kind].combine
    assert combine is not None
    terms: list[Expr] = [r.bodies[0]]
    for b in r.binders:
        assert isinstance(b.lo, Const)
        values = range(int(b.lo.value), int(b.lo.value) + (constant_extent(b) or 0))
        terms = [substitute(t, {b.index: const(n, I64)}) for t in terms for n in values]
    total = terms[0]
    for t in terms[1:]:
        total = Call(combine, (total, t), r.dtype)
    return total


def constant_extent(b: Binder) -> int | None:
    if isinstance(b.lo, Const) and isinstance(b.hi, Const):
        return max(0, int(b.hi.value) - int(b.lo.value))
    return None


def extents(binders: tuple[Binder, ...]) -> int:
    total = 1
    for b in binders:
        total *= constant_extent(b) or 0
    return total


def has_few_terms(r: Reduce) -> bool:
    """Whether the terms of a reduction are few, perhaps none, whatever the sizes."""
    return all(constant_extent(b) is not None for b in r.binders) and extents(r.binders) <= UNROLL


def is_written_out(r: Reduce) -> bool:
    """Whether a reduction becomes its terms, one after the other: few, and of a kind whose terms an op joins."""
    return REDUCTIONS[r.kind].combine is not None and has_few_terms(r) and extents(r.binders) > 0


def loads_of(e: Expr) -> list[Load]:
    return [x for x in subtrees(e) if isinstance(x, Load)]


def outermost_reductions(e: Expr) -> Iterator[Reduce]:
    if isinstance(e, Reduce):
        yield e
        return
    for child in children(e):
        yield from outermost_reductions(child)


def replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    return new if e == old else map_children(lambda child: replaced(child, old, new), e)

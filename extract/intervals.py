"""An integer expression over indices becomes bounds that read sizes alone: what a launch must cover, and how wide an index must be."""

from collections.abc import Mapping

from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, SizeRef, const

Ranges = Mapping[str, tuple[Expr, Expr]]
"""Least and greatest value of each index (both included), over sizes alone."""


def least(e: Expr, ranges: Ranges) -> Expr | None:
    """An expression over sizes that is never above `e`; None where none is seen."""
    return _bound(e, ranges, 0)


def greatest(e: Expr, ranges: Ranges) -> Expr | None:
    """An expression over sizes that is never below `e`; None where none is seen.

    >>> from kernel_ir.nodes import Call, IndexRef, SizeRef, const
    >>> ranges = {"i": (const(0, I64), SizeRef("N"))}
    >>> greatest(Call("mul", (IndexRef("i"), const(2, I64)), I64), ranges) == Call("mul", (SizeRef("N"), const(2, I64)), I64)
    True
    """
    return _bound(e, ranges, 1)


def enclosing(b: Binder, ranges: Ranges) -> tuple[Expr, Expr] | None:
    """The half-open range that holds the binder's for all values of outer indices; None where none is seen."""
    lo, hi = least(b.lo, ranges), greatest(b.hi, ranges)
    return None if lo is None or hi is None else (lo, hi)


def with_binder(b: Binder, ranges: Ranges) -> Ranges:
    """`ranges` inside the loop of `b`, as far as its bounds are seen."""
    hull = enclosing(b, ranges)
    inner = {name: r for name, r in ranges.items() if name != b.index}
    return inner if hull is None else {**inner, b.index: (hull[0], _call("sub", hull[1], const(1, I64)))}


def nonnegative(e: Expr, ranges: Ranges) -> bool:
    """Whether `e` is seen to be at least 0, sizes being at least 0."""
    match e:
        case Const():
            return e.value >= 0
        case SizeRef():
            return True
        case IndexRef(name):
            return name in ranges and nonnegative(ranges[name][0], {})
        case Call("add" | "mul" | "floordiv" | "min" | "band", (a, b)):
            return nonnegative(a, ranges) and nonnegative(b, ranges)
        case Call("mod", (_, b)):
            return nonnegative(b, ranges)
        case Call("max", (a, b)):
            return nonnegative(a, ranges) or nonnegative(b, ranges)
        case Call("select", (_, a, b)):
            return nonnegative(a, ranges) and nonnegative(b, ranges)
        case _:
            return False


def _bound(e: Expr, ranges: Ranges, side: int) -> Expr | None:
    match e:
        case Const() | SizeRef():
            return e
        case IndexRef(name):
            return ranges[name][side] if name in ranges else None
        case Call("add" | "min" | "max", (a, b)):
            return _both(e.op, _bound(a, ranges, side), _bound(b, ranges, side))
        case Call("sub", (a, b)):
            return _both("sub", _bound(a, ranges, side), _bound(b, ranges, 1 - side))
        case Call("mul", (a, b)) if nonnegative(a, ranges) and nonnegative(b, ranges):
            return _both("mul", _bound(a, ranges, side), _bound(b, ranges, side))
        case Call("floordiv", (a, Const() as b)) if int(b.value) > 0 and nonnegative(a, ranges):
            return _both("floordiv", _bound(a, ranges, side), b)
        case Call("mod", (a, Const() as b)) if int(b.value) > 0 and nonnegative(a, ranges):
            return const(0 if side == 0 else int(b.value) - 1, I64)
        case Call("floordiv" | "mod", (a, b)) if nonnegative(a, ranges) and nonnegative(b, ranges):
            return const(0, I64) if side == 0 else _bound(a, ranges, 1)
        case Call("select", (_, a, b)):
            return _both("max" if side else "min", _bound(a, ranges, side), _bound(b, ranges, side))
        case _:
            return None


def _both(op: str, a: Expr | None, b: Expr | None) -> Expr | None:
    return None if a is None or b is None else _call(op, a, b)


def _call(op: str, a: Expr, b: Expr) -> Expr:
    match op, a, b:
        case "add" | "sub", _, Const(0):
            return a
        case "add", Const(0), _:
            return b
        case "sub", Call("add", (x, Const(m))), Const(n):
            return _call("add", x, const(m - n, I64)) if m >= n else Call("sub", (x, const(n - m, I64)), I64)
        case "add", Call("sub", (x, Const(m))), Const(n):
            return _call("add", x, const(n - m, I64)) if n >= m else Call("sub", (x, const(m - n, I64)), I64)
        case _, Const(), Const():
            x, y = int(a.value), int(b.value)
            if op == "floordiv":
                return const(x // y, I64)
            return const({"add": x + y, "sub": x - y, "mul": x * y, "min": min(x, y), "max": max(x, y)}[op], I64)
        case _:
            return a if op in ("min", "max") and a == b else Call(op, (a, b), I64)

"""Integer expressions of a kernel become numbers, for the sizes that a user expects: what schedules and costs are weighed with."""

from collections.abc import Mapping
from typing import Final

from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, Load, Local, ParamRef, SizeRef
from kernel_ir.walk import subtrees

DEFAULT: Final = 1024
"""The extent of a size that nobody gave."""


def number(e: Expr, sizes: Mapping[str, int]) -> int:
    """The value of an i64 expression, indices and data being estimated as half the default extent.

    >>> from kernel_ir.dtypes import I64
    >>> from kernel_ir.nodes import const
    >>> number(Call("add", (SizeRef("N"), const(1, I64)), I64), {"N": 7})
    8
    """
    match e:
        case Const():
            return int(e.value)
        case SizeRef(name):
            return sizes.get(name, DEFAULT)
        case IndexRef(name) | Local(name) | ParamRef(name) if name in sizes:
            return sizes[name]
        case Call("add" | "sub" | "mul" | "floordiv" | "mod" | "min" | "max" | "shl" | "shr", (a, b)):
            return _joined(e.op, number(a, sizes), number(b, sizes))
        case Call("neg", (a,)):
            return -number(a, sizes)
        case Call("select", (condition, a, b)):
            match truth(condition, sizes):
                case None:
                    return max(number(a, sizes), number(b, sizes))
                case held:
                    return number(a if held else b, sizes)
        case _:
            return DEFAULT // 2


def truth(e: Expr, sizes: Mapping[str, int]) -> bool | None:
    """Whether a condition on integers holds for such sizes; None where that is not seen.

    >>> from kernel_ir.dtypes import BOOL, I64
    >>> from kernel_ir.nodes import const
    >>> truth(Call("lt", (SizeRef("N"), const(8, I64)), BOOL), {"N": 7})
    True
    """
    match e:
        case Const(value) if isinstance(value, bool):
            return value
        case Call("and" | "or", (a, b)):
            known = [truth(x, sizes) for x in (a, b)]
            decides = e.op == "or"
            return decides if decides in known else None if None in known else not decides
        case Call("not", (a,)):
            held = truth(a, sizes)
            return None if held is None else not held
        case Call("lt" | "le" | "gt" | "ge" | "eq" | "ne", (a, b)) if not any(isinstance(x, Load) for x in subtrees(e)) and a.dtype.is_int:
            left, right = number(a, sizes), number(b, sizes)
            return {
                "lt": left < right,
                "le": left <= right,
                "gt": left > right,
                "ge": left >= right,
                "eq": left == right,
                "ne": left != right,
            }[e.op]
        case _:
            return None


def extent_of(b: Binder, sizes: Mapping[str, int]) -> int:
    """The length of a range, at least 0."""
    return max(0, number(b.hi, sizes) - number(b.lo, sizes))


def _joined(op: str, a: int, b: int) -> int:
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "floordiv":
            return a // b if b else 0
        case "mod":
            return a % b if b else 0
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
        case "shl":
            return a << max(0, min(b, 63))
        case _:
            return a >> max(0, min(b, 63))

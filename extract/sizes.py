"""Integer expressions of a kernel become numbers, for the sizes that a user expects: what schedules and costs are weighed with."""

from collections.abc import Mapping
from typing import Final

from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, Local, SizeRef

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
        case IndexRef(name) | Local(name) if name in sizes:
            return sizes[name]
        case Call("add" | "sub" | "mul" | "floordiv" | "mod" | "min" | "max" | "shl" | "shr", (a, b)):
            return _joined(e.op, number(a, sizes), number(b, sizes))
        case Call("neg", (a,)):
            return -number(a, sizes)
        case Call("select", (_, a, b)):
            return max(number(a, sizes), number(b, sizes))
        case _:
            return DEFAULT // 2


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

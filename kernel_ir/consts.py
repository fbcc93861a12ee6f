"""Turns the expression of a `const` into its number."""

from collections.abc import Callable
from typing import Final

import numpy as np

from kernel_ir.errors import KernelError, TypeError_
from kernel_ir.ops import BINARY_SYMBOLS, FUNCTIONS, OPS
from kernel_ir.syntax import Binary, CallSyntax, Number, SyntaxExpr, Unary

_INTEGER: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}
_POWERS: Final[dict[str, Callable[[int, int], int]]] = {
    "**": lambda a, b: int(a**b),
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
}


def evaluate(e: SyntaxExpr) -> int | float:
    """The value of an expanded expression of numbers: exact for integers, float64 as soon as a float is met."""
    match e:
        case Number():
            return e.value
        case Unary(op="-"):
            return -evaluate(e.operand)
        case Binary():
            return _binary(e, evaluate(e.left), evaluate(e.right))
        case CallSyntax() if e.function.name in FUNCTIONS:
            return _apply(e.function.name, *map(evaluate, e.args))
        case _:
            raise TypeError_(
                "a constant is computed when the file is read: from numbers, other constants and functions of floats",
                e.span,
                "write a number, or make it a `fn` or a parameter",
            )


def _binary(e: Binary, a: int | float, b: int | float) -> int | float:
    whole = isinstance(a, int) and isinstance(b, int)
    if e.op == "/" and whole:
        raise TypeError_("`/` is for floats, and both sides are integers", e.span, "write `//` to round down, or `1.0 / 2` for a float")
    if e.op in ("//", "%") and b == 0:
        raise KernelError(f"`{e.op}` by zero in a constant", e.span, "divide by another number")
    if isinstance(a, int) and isinstance(b, int) and (e.op in _INTEGER or (e.op in _POWERS and b >= 0)):
        value = 2**63 if e.op in _POWERS and b > 63 else (_INTEGER | _POWERS)[e.op](a, b)
        if not -(2**63) <= value < 2**63:
            raise TypeError_("this constant does not fit i64", e.span, "make it a float: write one of its numbers with `.0`")
        return value
    if e.op not in BINARY_SYMBOLS or e.op in ("and", "or", "&", "|", "^", "<<", ">>"):
        raise TypeError_(f"`{e.op}` does not give a number here", e.span, "a constant is a number")
    return _apply(BINARY_SYMBOLS[e.op], a, b)


def _apply(op: str, *args: int | float) -> float:
    with np.errstate(all="ignore"):
        return float(OPS[op].numpy(*(np.float64(a) for a in args)))

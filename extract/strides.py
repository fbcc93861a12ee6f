"""Turns an access and an index into how far apart in memory neighbouring iterations reach: what decides which loop is innermost."""

from collections.abc import Mapping
from enum import Enum

from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, Local, ParamRef, SizeRef
from kernel_ir.walk import free

Orders = Mapping[str, tuple[int, ...]]
"""Dimensions of each array, slowest in memory first; C order where an array is not listed."""


class Stride(Enum):
    """Distance between the elements that consecutive values of an index reach; the value is a relative cost of a vector access."""

    NONE = 0.0  # the same element
    UNIT = 1.0  # the next element
    FAR = 8.0  # another cache line, or unknown


def coefficient(e: Expr, index: str) -> int | None:
    """The integer c where `e` is c * index + (something free of it), None where that is not seen.

    >>> from kernel_ir.dtypes import I64
    >>> from kernel_ir.nodes import const
    >>> i = IndexRef("i")
    >>> coefficient(Call("sub", (i, const(1, I64)), I64), "i"), coefficient(Call("mul", (i, i), I64), "i")
    (1, None)
    """
    if index not in free(e):
        return 0
    match e:
        case IndexRef():
            return 1
        case Call("add", (a, b)):
            return _join(coefficient(a, index), coefficient(b, index), 1)
        case Call("sub", (a, b)):
            return _join(coefficient(a, index), coefficient(b, index), -1)
        case Call("neg", (a,)):
            return _join(0, coefficient(a, index), -1)
        case Call("mul", (Const(c), a)) | Call("mul", (a, Const(c))):
            inner = coefficient(a, index)
            return None if inner is None else inner * c
        case Const() | SizeRef() | ParamRef() | Local() | Load() | Call() | _:
            return None


def _join(a: int | None, b: int | None, sign: int) -> int | None:
    return None if a is None or b is None else a + sign * b


def stride(array: str, indices: tuple[Expr, ...], index: str, orders: Orders) -> Stride:
    """How the access `array[indices]` moves with `index`."""
    if not indices:
        return Stride.NONE
    order = orders.get(array) or tuple(range(len(indices)))
    found = [coefficient(indices[d], index) for d in order]
    if all(c == 0 for c in found):
        return Stride.NONE
    return Stride.UNIT if found[-1] == 1 and all(c == 0 for c in found[:-1]) else Stride.FAR


def access_cost(loads: list[Load], index: str, orders: Orders) -> float:
    """Relative cost of the loads with `index` as the vector loop."""
    return sum(stride(x.array, x.indices, index, orders).value for x in loads)

"""Turns the extents of a kernel's arrays into the order in which a call's shapes give its sizes."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kernel_ir.dtypes import I64
from kernel_ir.errors import KernelError
from kernel_ir.nodes import Call, Const, Expr, Kernel, SizeRef, const
from kernel_ir.walk import subtrees

Sizes = Mapping[str, int]
Value = Callable[[Sizes], int]


@dataclass(frozen=True, slots=True)
class Step:
    """`size` follows from the extent of `array` in `dim`, as `extent == slope * size + rest` with both known by then."""

    size: str
    array: str
    dim: int
    slope: Value
    rest: Value
    plain: bool
    """Whether the extent is the size itself."""
    certain: bool
    """Whether the slope is a number, so that the extent always tells the size."""


@dataclass(frozen=True, slots=True)
class Solution:
    """How the sizes come out of a call: those that are read off, solved, and left open."""

    steps: tuple[Step, ...]
    unknown: tuple[str, ...]


def integer_function(e: Expr) -> Value:
    """An expression over sizes as a function of their values, in Python's unbounded integers."""
    match e:
        case Const():
            number = int(e.value)
            return lambda sizes: number
        case SizeRef():
            name = e.name
            return lambda sizes: sizes[name]
        case Call(op=op, args=(a,)) if op in _UNARY:
            one, f = integer_function(a), _UNARY[op]
            return lambda sizes: f(one(sizes))
        case Call(op=op, args=(a, b)) if op in _BINARY:
            left, right, g = integer_function(a), integer_function(b), _BINARY[op]
            return lambda sizes: g(left(sizes), right(sizes))
        case Call(op="select", args=(c, a, b)):
            test, then, other = map(integer_function, (c, a, b))
            return lambda sizes: then(sizes) if test(sizes) else other(sizes)
        case _:
            raise KernelError("this expression needs more than sizes", e.span)


def is_of_sizes(e: Expr) -> bool:
    """Whether an expression is made of sizes and integers alone."""
    return all(
        not x.dtype.is_float and (isinstance(x, Const | SizeRef) or (isinstance(x, Call) and x.op in (*_UNARY, *_BINARY, "select")))
        for x in subtrees(e)
    )


def solution(kernel: Kernel, given: frozenset[str] = frozenset()) -> Solution:
    """How the shapes of the inputs give the sizes, where the named sizes are given by the caller."""
    extents = [(p.name, dim, e) for p in kernel.params for dim, e in enumerate(p.type.shape)]
    known = set(given)
    steps: list[Step] = []
    progress = True
    while progress:
        progress = False
        for array, dim, extent in extents:
            missing = {x.name for x in subtrees(extent) if isinstance(x, SizeRef)} - known
            if len(missing) != 1:
                continue
            (name,) = missing
            line = _linear(extent, name)
            if line is not None:
                slope, rest = map(integer_function, line)
                certain = not any(isinstance(x, SizeRef) for x in subtrees(line[0]))
                steps.append(Step(name, array, dim, slope, rest, isinstance(extent, SizeRef), certain))
                known.add(name)
                progress = True
    return Solution(tuple(steps), tuple(n for n in kernel.sizes if n not in known))


def open_sizes(kernel: Kernel) -> tuple[str, ...]:
    """Sizes that a call must give by name as no input fixes them: of `f32[H * W]` it is `W`, from which `H` follows."""
    chosen: set[str] = set()
    while unknown := solution(kernel, frozenset(chosen)).unknown:
        chosen.add(unknown[-1])
    return tuple(n for n in kernel.sizes if n in chosen)


def optional_sizes(kernel: Kernel) -> tuple[str, ...]:
    """Sizes that a call may give by name, and must where the extent that tells them does not: `H` of `f32[H * W]`, where `W` is 0."""
    return tuple(s.size for s in solution(kernel, frozenset(open_sizes(kernel))).steps if not s.certain)


ZERO: Final = const(0, I64)
ONE: Final = const(1, I64)


def _linear(e: Expr, name: str) -> tuple[Expr, Expr] | None:
    """`(a, b)` with `e == a * name + b` and no `name` in either."""
    if not any(isinstance(x, SizeRef) and x.name == name for x in subtrees(e)):
        return ZERO, e
    match e:
        case SizeRef():
            return ONE, ZERO
        case Call(op="neg", args=(x,)):
            line = _linear(x, name)
            return line and (Call("neg", (line[0],), e.dtype), Call("neg", (line[1],), e.dtype))
        case Call(op="add" | "sub", args=(x, y)):
            left, right = _linear(x, name), _linear(y, name)
            return left and right and (Call(e.op, (left[0], right[0]), e.dtype), Call(e.op, (left[1], right[1]), e.dtype))
        case Call(op="mul", args=(x, y)):
            left, right = _linear(x, name), _linear(y, name)
            if left is None or right is None or ZERO not in (left[0], right[0]):
                return None
            line, factor = (left, y) if right[0] == ZERO else (right, x)
            return Call("mul", (line[0], factor), e.dtype), Call("mul", (line[1], factor), e.dtype)
        case _:
            return None


def _floordiv(a: int, b: int) -> int:
    return a // b if b else 0


def _mod(a: int, b: int) -> int:
    return a % b if b else 0


_UNARY: Final[dict[str, Callable[..., Any]]] = {"neg": operator.neg, "not": operator.not_, "abs": abs}
_BINARY: Final[dict[str, Callable[..., Any]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": _floordiv,
    "mod": _mod,
    "powi": int.__pow__,
    "min": min,
    "max": max,
    "and": int.__and__,
    "or": int.__or__,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}

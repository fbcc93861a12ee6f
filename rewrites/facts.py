"""Turns a kernel's facts (`where N >= 2, 0 <= idx, idx < V`) into what the analyses know of terms."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from kernel_ir.nodes import Call, Const, Expr, IndexRef, Kernel, Load, Reduce
from kernel_ir.walk import subtrees
from rewrites.adapter import Fact
from rewrites.declare import CODES
from rewrites.terms import Term

Encode = Callable[[Expr], int]
SWAPPED: Final = {"gt": "lt", "ge": "le"}


LARGEST: Final = 2**47 - 1
"""The most elements of an array along one dimension: 47 bits address all of user space."""


def shape_facts(kernel: Kernel, encode: Encode) -> tuple[Fact, ...]:
    """An array that is passed exists, so a product in its shape (`x: f32[H * W]`) is the true product, and not large."""
    found: dict[Fact, None] = {}
    for param in (*kernel.params, *kernel.outputs):
        for extent in param.type.shape:
            if isinstance(extent, Call) and extent.op == "mul":
                a, b, product = encode(extent.args[0]), encode(extent.args[1]), encode(extent)
                facts = (Fact("nw_mul", (a, b), code=CODES["i64"]), Fact("lo", (product,), 0), Fact("hi", (product,), LARGEST))
                found.update(dict.fromkeys(facts))
    return tuple(found)


def kernel_facts(kernel: Kernel, encode: Encode, terms: Sequence[Term]) -> tuple[Fact, ...]:
    """Facts about terms: `encode` gives the term of a scalar expression, `terms` is what the statements read.

    A fact about an array holds for each element that a term reads from the array as it was at the call.
    """
    found: dict[Fact, None] = {}
    for fact in (*kernel.facts, *kernel.implied):
        for part in _conjuncts(fact):
            for name, a, b in _comparisons(part):
                for x in _readings(a, kernel, encode, terms):
                    for y in _readings(b, kernel, encode, terms):
                        found.update(dict.fromkeys(_facts(name, a, x, b, y)))
    return tuple(found)


def _conjuncts(e: Expr) -> Iterator[Expr]:
    """The parts of a fact; one about an array is `all(i: … a[i] …)`, and holds for each element."""
    match e:
        case Call(op="and"):
            for arg in e.args:
                yield from _conjuncts(arg)
        case Reduce(kind="all"):
            yield from _conjuncts(e.bodies[0])
        case _:
            yield e


def _comparisons(e: Expr) -> Iterator[tuple[str, Expr, Expr]]:
    if isinstance(e, Call) and len(e.args) == 2:
        a, b = e.args
        if e.op in SWAPPED:
            yield SWAPPED[e.op], b, a
        elif e.op in ("lt", "le", "eq"):
            yield e.op, a, b


def _readings(e: Expr, kernel: Kernel, encode: Encode, terms: Sequence[Term]) -> tuple[int, ...]:
    """The terms that an operand stands for: each element read of an array, or the one scalar."""
    if isinstance(e, Load) and all(isinstance(i, IndexRef) for i in e.indices):
        name = f"Load{kernel.arrays[e.array].rank}"
        return tuple(i for i, term in enumerate(terms) if term.name == name and term.args[1] == e.array)
    if any(isinstance(x, IndexRef | Load) for x in subtrees(e)):
        return ()
    return (encode(e),)


def _facts(name: str, a: Expr, x: int, b: Expr, y: int) -> Iterator[Fact]:
    """What `a name b` says, x and y being their terms."""
    if a.dtype.is_float:
        yield from _float_facts(name, a, x, b, y)
    elif a.dtype.is_int:
        yield from _integer_facts(name, a, x, b, y)


def _integer_facts(name: str, a: Expr, x: int, b: Expr, y: int) -> Iterator[Fact]:
    if name == "eq":
        yield Fact("union", (x, y))
        return
    yield Fact("Lt" if name == "lt" else "Le", (x, y))
    step = 1 if name == "lt" else 0
    if isinstance(a, Const):
        yield Fact("lo", (y,), int(a.value) + step)
    if isinstance(b, Const):
        yield Fact("hi", (x,), int(b.value) - step)


def _float_facts(name: str, a: Expr, x: int, b: Expr, y: int) -> Iterator[Fact]:
    # A comparison that holds has no NaN in it.
    yield Fact("NotNan", (x,))
    yield Fact("NotNan", (y,))
    if isinstance(a, Const) and math.isfinite(a.value):
        yield Fact("flo", (y,), float(a.value))
    if isinstance(b, Const) and math.isfinite(b.value):
        yield Fact("fhi", (x,), float(b.value))
    if isinstance(a, Const) and name != "eq" and a.value >= 0.0:
        positive = a.value > 0.0 or name == "lt"
        yield Fact("Positive" if positive else "NonNeg", (y,))
    if isinstance(b, Const) and name != "eq" and (b.value < 0.0 or (b.value == 0.0 and name == "lt")):
        yield Fact("NonZero", (x,))

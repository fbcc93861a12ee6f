"""Turns conditions into cases: lists of literals (an integer polynomial >= 0, or the truth of an opaque condition) that hold together."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Final

from kernel_ir.dtypes import BOOL
from kernel_ir.nodes import Call, Const, Expr
from kernel_ir.polynomial import Polynomial

MAX_CASES: Final = 16


@dataclass(frozen=True, slots=True)
class Truth:
    """An opaque condition and its value.

    `key` names it: ("is", text), or for comparisons that are not integer polynomials ("lt" | "le" | "eq", left, right), of which floats
    may be unordered: `not (a < b)` is not `a >= b`.
    """

    key: tuple[str, ...]
    value: bool


Literal = Polynomial | Truth
Case = tuple[Literal, ...]
"""Literals that hold together; the empty case always holds."""


def negated(literal: Literal) -> Literal:
    """The literal that holds where this one does not."""
    return Truth(literal.key, not literal.value) if isinstance(literal, Truth) else -literal - 1


def consequences(truth: Truth) -> tuple[Truth, ...]:
    """The truth and what follows from it about other comparisons of the same operands.

    >>> [t.key[0] for t in consequences(Truth(("eq", "a", "b"), True)) if t.value]
    ['eq', 'le', 'le']
    """
    op, *operands = truth.key
    if op == "is":
        return (truth,)
    a, b = operands
    match op, truth.value:
        case "lt", True:
            more = [("le", a, b, True), ("lt", b, a, False), ("le", b, a, False), ("eq", *sorted((a, b)), False)]
        case "eq", True:
            more = [("le", a, b, True), ("le", b, a, True), ("lt", a, b, False), ("lt", b, a, False)]
        case "le", True:
            more = [("lt", b, a, False)]
        case "le", False:
            more = [("lt", a, b, False), ("eq", *sorted((a, b)), False)]
        case _:
            more = []
    return (truth, *(Truth(key, value) for *names, value in more if (key := tuple(map(str, names)))))


def cases(condition: Expr, value: bool, compare: Callable[[Call, bool], tuple[Case, ...]], key: Callable[[Expr], str]) -> tuple[Case, ...]:
    """The cases in which `condition` is `value`; none if it never is. Together they hold where the condition does, no more and no less.

    `compare` gives the cases of one comparison, `key` names an opaque condition.
    """
    match condition:
        case Const():
            return ((),) if condition.value == value else ()
        case Call(op="not"):
            return cases(condition.args[0], not value, compare, key)
        case Call(op="and" | "or", args=(left, right)):
            both = [cases(side, value, compare, key) for side in (left, right)]
            if (condition.op == "and") != value:
                return tuple(dict.fromkeys(both[0] + both[1]))
            if len(both[0]) * len(both[1]) > MAX_CASES:
                return ((Truth(("is", key(condition)), value),),)
            return tuple(dict.fromkeys(a + b for a, b in product(*both)))
        case Call(op="select", args=(test, then, other), dtype=dtype) if dtype is BOOL:
            chosen = Call("and", (test, then), BOOL)
            passed = Call("and", (Call("not", (test,), BOOL), other), BOOL)
            return cases(Call("or", (chosen, passed), BOOL), value, compare, key)
        case Call(op="lt" | "le" | "gt" | "ge" | "eq" | "ne"):
            return compare(condition, value)
        case _:
            return ((Truth(("is", key(condition)), value),),)

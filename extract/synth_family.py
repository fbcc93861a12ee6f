"""Turns the functions of a vocabulary into workloads of term shapes: what a function makes of sums, products and other functions.

A plain enumeration meets `f(a) * g(b) + g(a) * f(b)` late, if ever. Here applications of one or two functions count as leaves, and what
is built of them is compared with applications to compound terms (Pal et al. 2023, Enumo: rules guided by the shapes of terms). To divide
by a common number, and what remains then, are functions of this kind as well.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from extract.synth_terms import Workload
from extract.synth_trees import Leaf, Node, Tree
from extract.synth_values import MULTIPLE, POSITIVE, POWER, REAL, REAL_POSITIVE, SMALL, UNIT, Domain
from kernel_ir.ops import OPS

Function = Callable[[Tree], Tree]
A, B, C = ((Leaf(name, "x"),) for name in "abc")
POWERS: Final = (2, 3, 4)
PARTIAL: Final = ("sqrt", "rsqrt", "log", "log2", "log10", "pow")
INVERSE: Final = ("asin", "acos", "atanh")
"""Functions of numbers within -1 and 1 alone."""
MOST: Final = 60_000
"""Terms of a workload."""
PAIRS: Final = 24


def number(value: float) -> Tree:
    """A float literal."""
    return (Leaf(repr(value), "x", value),)


def apply(op: str, *args: Tree) -> Tree:
    """The term of an op."""
    return (Node(op), *args)


def _function(op: str) -> Function:
    return lambda t: apply(op, t)


def _by_common(op: str) -> Function:
    return lambda t: apply(op, t, C)


ONE, TWO, HALF = number(1.0), number(2.0), number(0.5)


def of_functions(ops: Sequence[str]) -> Iterator[Workload]:
    """Workloads of the float functions among the ops, alone and in pairs."""
    names = [op for op in ops if OPS[op].arity == 1 and OPS[op].cast is None and (OPS[op].ulp > 0 or op == "sqrt")]
    for name in names:
        domains = (REAL_POSITIVE,) if name in PARTIAL else (UNIT,) if name in INVERSE else (REAL,)
        for domain in domains:
            yield from _of_one(domain, _function(name))
    for one, two in itertools.combinations(names, 2):
        domain = REAL_POSITIVE if one in PARTIAL or two in PARTIAL else UNIT if one in INVERSE or two in INVERSE else REAL
        yield from _of_two(domain, _function(one), _function(two))


def of_division() -> Iterator[Workload]:
    """Workloads of quotients and remainders by one common number `c`."""
    by, left = _by_common("floordiv"), _by_common("mod")
    both = (by, left)
    plus, minus, times = apply("add", A, B), apply("sub", A, B), apply("mul", A, C)
    composed = tuple(h(apply(op, *order)) for h in both for k in both for op in ("add", "sub") for order in ((k(A), B), (B, k(A))))
    targets = (
        *(h(k(A)) for h in both for k in both),
        *(h(apply(op, k(A), k(B))) for h in both for k in (left,) for op in ("add", "sub", "mul")),
        *(h(apply(op, times, B)) for h in both for op in ("add", "sub")),
        *(h(apply("sub", B, times)) for h in both),
        *(h(apply("mul", A, B)) for h in both),
        *(h(apply("mul", left(A), B)) for h in both),
        *composed,
    )
    variables = tuple(t[0] for t in (A, B, C))
    for domain in (SMALL, POSITIVE):
        atoms = (by(A), left(A), by(B), left(B), by(plus), left(plus), by(minus), left(minus))
        yield Workload(domain, _nodes("add", "sub"), variables, 5, MOST, 3 * PAIRS, atoms, targets)
        yield Workload(domain, _nodes("add", "sub", "mul"), (A[0], C[0]), 7, MOST, PAIRS, (by(A), left(A)))
        yield Workload(domain, _nodes("lt", "le"), variables, 5, MOST, PAIRS, (by(A), left(A), apply("mul", by(A), C)))


def of_multiples() -> Iterator[Workload]:
    """Workloads where `c` is a multiple of `b`, and where `b` is a power of two besides."""
    variables = tuple(t[0] for t in (A, B, C))
    for domain in (MULTIPLE, POWER):
        yield Workload(domain, _nodes("mul", "floordiv", "mod"), variables, 5, MOST, 2 * PAIRS)
        yield Workload(domain, _nodes("add", "sub", "floordiv", "mod"), variables, 7, MOST, 2 * PAIRS)


def _nodes(*ops: str) -> tuple[Node, ...]:
    return tuple(map(Node, ops))


_SUM: Final = _nodes("add", "sub", "mul")
_FIELD: Final = _nodes("add", "sub", "mul", "div")


def _of_one(domain: Domain, f: Function) -> Iterator[Workload]:
    """One function: of opposites, multiples, powers, numbers; and quotients of what is left and right of it."""
    a, one, two, half = A[0], ONE[0], TWO[0], HALF[0]
    negative, double = apply("neg", A), apply("mul", A, TWO)
    square, cube = apply("mul", A, A), apply("mul", apply("mul", A, A), A)
    shapes = (negative, double, apply("mul", A, HALF), apply("div", ONE, A), square, cube)
    multiples = tuple(f(apply("mul", A, number(float(n)))) for n in POWERS)
    powers = tuple(f((Node("powi", n), A)) for n in (*POWERS, -1, -2))
    several = tuple(apply("mul", f(A), number(float(n))) for n in POWERS)
    yield Workload(domain, _FIELD, (one, two), 7, MOST, PAIRS, (f(A),), tuple(map(f, shapes)))
    yield Workload(domain, tuple(Node("powi", n) for n in (*POWERS, -1, -2)), (a,), 3, MOST, PAIRS, (f(A),), multiples)
    yield Workload(domain, (), (a,), 1, MOST, PAIRS, several, (*powers, f(square), f(cube)))
    yield Workload(domain, _FIELD, (a, one), 7, MOST, PAIRS, (f(A), f(negative)))
    yield Workload(domain, _FIELD, (a, B[0]), 5, MOST, PAIRS, (f(A), f(B), f(negative)), tuple(f(apply(op, A, B)) for op in _names()))
    usual = tuple(number(v) for v in (0.0, 1.0, 2.0, 0.5, -1.0))
    yield Workload(domain, (), tuple(t[0] for t in usual), 1, MOST, PAIRS, (), tuple(map(f, usual)))
    yield Workload(domain, (), (a, half), 1, MOST, PAIRS, (), (f(f(A)),))


def _names() -> tuple[str, ...]:
    return tuple(n.op for n in _FIELD)


def _of_two(domain: Domain, f: Function, g: Function) -> Iterator[Workload]:
    """Two functions: of sums, of each other, of half and double."""
    one, two, half = ONE[0], TWO[0], HALF[0]
    sums = tuple(h(apply(op, A, B)) for h in (f, g) for op in _names())
    nested = tuple(
        h(apply(op, *order))
        for h, k in ((f, g), (g, f))
        for op in _names()
        for order in ((A, k(B)), (k(B), A))
        if op in ("sub", "div") or order[0] == A
    )
    yield Workload(domain, _SUM, (), 7, MOST, PAIRS, (f(A), f(B), g(A), g(B)), sums)
    yield Workload(domain, _FIELD, (A[0], B[0], one), 5, MOST, PAIRS, (f(A), f(B), g(A), g(B)), (*sums, *nested, f(g(A)), g(f(A))))
    double, halved = apply("mul", A, TWO), apply("mul", A, HALF)
    opposite = apply("neg", A)
    yield Workload(domain, _SUM, (one, two), 7, MOST, PAIRS, (f(A), g(A)), tuple(h(t) for h in (f, g) for t in (double, opposite, halved)))
    yield Workload(domain, _SUM, (two, half), 5, MOST, PAIRS, (f(A), g(A), f(double), g(double)))
    for one_, other in ((f, g), (g, f)):
        yield Workload(domain, _SUM, (one, half), 7, MOST, PAIRS, (one_(A), other(halved), one_(halved)))

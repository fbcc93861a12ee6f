"""Turns a vocabulary (ops and constants of some kernels) into workloads: small enumerations over few ops at a time, that together cover it.

All ops at once would drown the few interesting terms; rules hold two or three ops, so pairs of ops are enumerated deeply with three
variables, triples around the arithmetic with two (Pal et al. 2023, Enumo: rules found by parts of a grammar).
"""

import itertools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from extract import synth_values as domains
from extract.synth_family import of_division, of_functions, of_multiples
from extract.synth_terms import Workload
from extract.synth_trees import Leaf, Node
from extract.synth_values import Domain
from kernel_ir.dtypes import BOOL, F32, DType
from kernel_ir.nodes import Call, Const, Kernel
from kernel_ir.ops import OPS
from kernel_ir.walk import expressions, statements, subtrees

ARITHMETIC: Final = ("add", "sub", "mul", "neg", "div", "floordiv", "mod")
COMPARISONS: Final = ("lt", "le", "gt", "ge", "eq", "ne")
CONNECTIVES: Final = ("and", "or", "not")
PARTIAL: Final = ("sqrt", "rsqrt", "log", "log2", "log10", "pow")
EXPONENTS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, -1, -2, -3)
VARIABLES: Final = tuple(Leaf(n, "x") for n in "abc")
TRUTHS: Final = tuple(Leaf(n, "b") for n in "pqr")
EXTREMES: Final = ("min", "max", "fmin", "fmax")
ENDS: Final = (Leaf("inf", "x", math.inf), Leaf("-inf", "x", -math.inf))
"""What extremes keep, and what they are kept by."""
CONSTANTS: Final = (Leaf("true", "b", 1), Leaf("false", "b", 0))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The ops used on floats, on integers and on truth values, and the numbers."""

    floats: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    numbers: tuple[float, ...] = field(default=(0.0, 1.0, -1.0, 2.0))
    whole: tuple[int, ...] = field(default=(0, 1, -1, 2))

    @classmethod
    def of(cls, kernels: Collection[Kernel]) -> "Vocabulary":
        """The vocabulary of kernels: their ops, in the op table's order, and the usual numbers with a few of their own."""
        used: set[tuple[str, str]] = set()
        numbers: dict[float, None] = dict.fromkeys((0.0, 1.0, -1.0, 2.0))
        for kernel in kernels:
            for e in (e for s in statements(kernel.body) for root in expressions(s) for e in subtrees(root)):
                match e:
                    case Call():
                        used.add((e.op, _class(e.args[-1].dtype if e.op == "select" else e.args[0].dtype)))
                    case Const() if e.dtype.is_float and len(numbers) < 6:
                        numbers[float(e.value)] = None
                    case _:
                        pass
        floats, integers, truths = (tuple(op for op in OPS if (op, c) in used) for c in "fib")
        return cls(floats, integers, truths, tuple(numbers))


def _class(dtype: DType) -> str:
    return "b" if dtype is BOOL else "f" if dtype.is_float else "i"


def workloads(words: Vocabulary) -> Iterator[Workload]:
    """All workloads, those of one op before those of several."""
    words = _compared_alike(words)
    yield from _connectives(words)
    if words.floats:
        yield from _class_of(words.floats, domains.FLOATS, words.numbers)
        yield from _arithmetic(domains.REAL, words.floats, ("add", "sub", "mul", "div"), words.numbers)
        yield from of_functions(words.floats)
        yield from _scaled(words.floats)
    if words.integers:
        yield from _class_of(words.integers, domains.INTEGERS, words.whole)
        yield from _arithmetic(domains.WRAP, words.integers, ("add", "sub", "mul", "floordiv", "mod"), words.whole)
    if {"floordiv", "mod", "mul", "add", "sub"} <= set(words.integers):
        yield from of_division()
        yield from of_multiples()


def _compared_alike(words: Vocabulary) -> Vocabulary:
    """With each comparison of one class of numbers for the other as well: rules say `on number`."""
    used = {op for op in (*words.floats, *words.integers) if op in COMPARISONS}
    floats, integers = (tuple(op for op in OPS if op in ops or (ops and op in used)) for ops in (words.floats, words.integers))
    return replace(words, floats=floats, integers=integers)


def _arithmetic(domain: Domain, ops: tuple[str, ...], all_: tuple[str, ...], numbers: tuple[float, ...]) -> Iterator[Workload]:
    """All of a class's arithmetic at once, over two variables, and one number at a time; the ring's alone over three."""
    nodes = tuple(Node(op) for op in all_ if op in ops)
    ring = tuple(n for n in nodes if n.op in ("add", "sub", "mul"))
    yield Workload(domain, nodes, VARIABLES[:2], 7, limit=60_000)
    yield Workload(domain, ring, VARIABLES, 7, limit=60_000)
    yield Workload(domain, tuple(n for n in nodes if n.op in ("mul", "div")), VARIABLES, 7, limit=40_000)
    for literal in _literals(domain, numbers):
        yield Workload(domain, nodes, (*VARIABLES[:2], literal), 7, limit=50_000, pairs=30)


def _scaled(ops: tuple[str, ...]) -> Iterator[Workload]:
    """Bits of floats where one variable is a power of two."""
    nodes = tuple(Node(op) for op in ("mul", "div", "add", "sub") if op in ops)
    for pair in itertools.combinations(nodes, 2):
        yield Workload(domains.FLOAT_POWER, pair, (*VARIABLES[:2], Leaf("1.0", "x", 1.0)), 5)


def _connectives(words: Vocabulary) -> Iterator[Workload]:
    nodes = tuple(Node(op) for op in CONNECTIVES if op in words.truths)
    if nodes:
        yield Workload(domains.WRAP, nodes, (*TRUTHS, *CONSTANTS), 7)


def _class_of(ops: tuple[str, ...], where: tuple[Domain, ...], numbers: tuple[float, ...]) -> Iterator[Workload]:
    plain = tuple(n for op in ops for n in _nodes(op))
    compared = tuple(n for n in plain if n.op in COMPARISONS)
    numeric = tuple(n for n in plain if n.op not in COMPARISONS and n.op not in ("select", "powi"))
    powers = tuple(n for n in plain if n.op == "powi")
    for domain in where:
        constants = _literals(domain, numbers)
        leaves = (*VARIABLES, *constants)
        # Functions without a value everywhere are what positive reals are for.
        partial = domain is not domains.REAL_POSITIVE
        for node in numeric:
            yield Workload(domain, (node,), (*leaves, *(ENDS if node.op in EXTREMES and domain is domains.BITS else ())), 5)
        if domain is not domains.ORDINARY:
            yield from _powers(domain, powers, numeric, constants)
        for pair in itertools.combinations(numeric, 2):
            if not partial and not any(n.op in PARTIAL for n in pair):
                continue
            yield Workload(domain, pair, (*VARIABLES[:2], *constants), 5)
            deep = any(n.op in ARITHMETIC or OPS[n.op].arity > 1 for n in pair) and domain is not domains.ORDINARY
            if deep:
                yield Workload(domain, pair, (*VARIABLES, *constants[:2]), 5 if domain is domains.BITS else 7, limit=20_000)
        yield from _triples(domain, numeric, constants)
        yield from _comparing(domain, compared, numeric, constants)


def _powers(domain: Domain, powers: tuple[Node, ...], numeric: tuple[Node, ...], constants: tuple[Leaf, ...]) -> Iterator[Workload]:
    """Each power beside the next smaller one, its half and its opposite, and with what commutes with it: all at once nest for ever."""
    steps = tuple(n for n in numeric if n.op in ("mul", "div"))
    for power in powers:
        n = power.exponent or 0
        near = tuple(p for p in powers if (p.exponent in {n - 1, n // 2, -n} - {0, 1} and p != power and n > 1) or p.exponent == -n > 0)
        yield Workload(domain, (power, *near, *steps), (VARIABLES[0], *constants[1:2]), 5, pairs=12)
    square = tuple(p for p in powers if p.exponent == 2)
    yield Workload(domain, (*square, *(n for n in numeric if n.op in ("mul", "neg", "abs", "exp"))), VARIABLES[:2], 5)


def _triples(domain: Domain, numeric: tuple[Node, ...], constants: tuple[Leaf, ...]) -> Iterator[Workload]:
    """Three ops, of which two at least are arithmetic. Bits of floats survive few steps: there, pairs show what there is."""
    if domain.is_float and domain.exact:
        return
    leaves = (*VARIABLES[:2], *constants[1:2]) if domain.is_float else (*VARIABLES, *constants[1:2])
    for triple in itertools.combinations(numeric, 3):
        if sum(n.op in ARITHMETIC for n in triple) >= 2 and (domain is not domains.REAL_POSITIVE or any(n.op in PARTIAL for n in triple)):
            yield Workload(domain, triple, leaves, 7, limit=30_000)


def _comparing(domain: Domain, compared: tuple[Node, ...], numeric: tuple[Node, ...], constants: tuple[Leaf, ...]) -> Iterator[Workload]:
    if not compared or not domain.exact:
        return
    connectives = tuple(Node(op) for op in CONNECTIVES)
    yield Workload(domain, (*compared, *connectives), (*VARIABLES[:2], CONSTANTS[0], CONSTANTS[1]), 7, limit=12_000)
    if domain is domains.ORDINARY:
        return
    for node in numeric:
        yield Workload(domain, (*compared, node), (*VARIABLES, *constants), 7, limit=8_000)
        yield Workload(domain, (*compared, node, *connectives[:2]), VARIABLES, 7, limit=8_000)
    if not domain.is_float:
        for pair in itertools.combinations([n for n in numeric if n.op in ARITHMETIC], 2):
            yield Workload(domain, (*compared, *pair), VARIABLES, 7, limit=12_000)


def _nodes(op: str) -> Iterator[Node]:
    """The ops that the enumeration can use: casts between types are not among them."""
    row = OPS[op]
    if op == "powi":
        yield from (Node(op, n) for n in EXPONENTS)
    elif row.cast is None or row.cast.name in ("f16", "bf16"):
        yield Node(op)


def _literals(domain: Domain, numbers: tuple[float, ...]) -> tuple[Leaf, ...]:
    if not domain.is_float:
        return tuple(Leaf(str(int(v)), "x", int(v)) for v in numbers)
    signed = (-0.0,) if domain.dtype is F32 and domain.region == "edges" else ()
    return tuple(Leaf(repr(float(v)), "x", float(v)) for v in (*numbers, *signed))

"""Turns terms into what their forms show: free variables, integer intervals, order, float facts. It judges guards without an e-graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kernel_ir.arguments import MAX_SIZE
from kernel_ir.dtypes import DTYPES, DType
from kernel_ir.integers import value_range
from kernel_ir.nodes import Binder, Kernel
from kernel_ir.polynomial import Polynomial
from kernel_ir.prover import Prover
from rewrites.adapter import Fact
from rewrites.declare import OP_OF_CONSTRUCTOR, result_dtype
from rewrites.encode import Encoding
from rewrites.known_floats import Floats
from rewrites.plain import Plain
from rewrites.sharing import Ranges, free_of, ranges
from rewrites.temporaries import unversioned
from rewrites.terms import Dag, Term

Interval = tuple[int, int]


@dataclass(slots=True)
class Known:
    """What is known of the terms of `dag`, which may grow."""

    kernel: Kernel
    dag: Dag
    variables: Mapping[str, tuple[int, int]]
    """The terms of each variable's range."""
    facts: Sequence[Fact]
    closure: Ranges
    floats: Floats = field(init=False)
    plain: Plain = field(init=False)
    _free: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    _intervals: dict[int, Interval] = field(default_factory=dict[int, Interval])
    _provers: dict[frozenset[str], Prover] = field(default_factory=dict[frozenset[str], Prover])

    def __post_init__(self) -> None:
        self.floats = Floats(self.dag.terms, self.facts, self.interval)
        self.plain = Plain(self.dag.terms)

    @classmethod
    def of(cls, encoding: Encoding, dag: Dag) -> "Known":
        """What is known of an encoded kernel's terms: `dag` begins with them."""
        bounds = {name: (v.lo, v.hi) for name, v in encoding.variables.items()}
        return cls(encoding.kernel, dag, bounds, encoding.facts, ranges(encoding.terms, encoding.variables))

    def free(self, number: int) -> frozenset[str]:
        """The free variables of a term, with all that their ranges read."""
        if number not in self._free:
            term = self.dag.terms[number]
            self._free[number] = free_of(term, {c: self.free(c) for c in term.children}, self.closure)
        return self._free[number]

    def dtype(self, number: int) -> DType:
        """The dtype of a term's value."""
        term = self.dag.terms[number]
        return result_dtype(term.name, term.code)

    # integers

    def interval(self, number: int) -> Interval:
        """Ends of an integer term's value (of its dtype, where nothing better is known)."""
        if number not in self._intervals:
            low, high = _RANGES[self.dtype(number).name]
            shown = self._interval(self.dag.terms[number])
            if shown is not None and low <= shown[0] and shown[1] <= high:
                low, high = shown
            for f in self.facts:
                if f.terms == (number,) and f.value is not None:
                    low = max(low, int(f.value)) if f.name == "lo" else low
                    high = min(high, int(f.value)) if f.name == "hi" else high
            self._intervals[number] = low, high
        return self._intervals[number]

    def _interval(self, term: Term) -> Interval | None:
        """Ends of the exact value; None where they are not known."""
        match term.name:
            case "Lit":
                return int(term.args[1]), int(term.args[1])
            case "Size":
                return 0, MAX_SIZE
            case "Ix":
                lo, hi = self.variables[term.variables[0]]
                return self.interval(lo)[0], self.interval(hi)[1] - 1
            case name if name.startswith("Load") and not name.startswith("LoadElse"):
                return value_range(self.kernel.arrays[unversioned(str(term.args[1]))].dtype)
            case name if name in OP_OF_CONSTRUCTOR and term.code in (1, 2):
                op = OP_OF_CONSTRUCTOR[name]
                cast = value_range(DTYPES[op.name]) if op.cast is not None else None
                inner = op_interval(op.name, [self.interval(c) for c in term.children if self.dtype(c).is_int])
                return cast if inner is None or (cast is not None and not (cast[0] <= inner[0] and inner[1] <= cast[1])) else inner
            case _:
                return None

    def exact(self, number: int) -> bool:
        """Whether the operation at a term's root gives the mathematical result."""
        term = self.dag.terms[number]
        shown = self._interval(term)
        low, high = _RANGES[self.dtype(number).name]
        if shown is not None and low <= shown[0] and shown[1] <= high:
            return True
        prover = self.prover(number)
        return prover.is_exact(prover.polynomial(self.plain.expr(number)))

    def prover(self, *numbers: int) -> Prover:
        """A prover inside the ranges of the terms' free variables."""
        free = frozenset[str]().union(*map(self.free, numbers))
        if free not in self._provers:
            prover = Prover.of(self.kernel)
            for name, (lo, hi) in self.variables.items():
                if name in free:
                    prover = prover.bind(Binder(name, self.plain.expr(lo), self.plain.expr(hi)))
            self._provers[free] = prover
        return self._provers[free]

    def polynomial(self, number: int, prover: Prover) -> Polynomial:
        """The machine value of an integer term."""
        return prover.value(self.plain.expr(number))


_RANGES: Final = {"bool": (0, 1), "i32": (-(2**31), 2**31 - 1), "i64": (-(2**63), 2**63 - 1)}


def op_interval(op: str, of: Sequence[Interval]) -> Interval | None:
    """Ends of an integer operation's exact result; None where none is seen."""
    match op, of:
        case ("i64" | "i32", [a]):
            return a
        case "neg", [(a, b)]:
            return -b, -a
        case "abs", [(a, b)]:
            return (0 if a <= 0 <= b else min(abs(a), abs(b))), max(abs(a), abs(b))
        case "sign", [_]:
            return -1, 1
        case "add", [(a, b), (c, d)]:
            return a + c, b + d
        case "sub", [(a, b), (c, d)]:
            return a - d, b - c
        case "mul", [(a, b), (c, d)]:
            corners = [x * y for x in (a, b) for y in (c, d)]
            return min(corners), max(corners)
        case "floordiv", [(a, b), (c, d)] if c > 0:
            corners = [x // y for x in (a, b) for y in (c, d)]
            return min(corners), max(corners)
        case "floordiv", [(a, b), (c, _)] if a >= 0 and c >= 0:
            return 0, b
        case "mod", [(a, b), (c, d)] if c >= 0:
            return 0, max(0, min(b, d - 1)) if a >= 0 else max(0, d - 1)
        case "mod", [_, (c, d)] if d < 0:
            return c + 1, 0
        case "min" | "max" as f, [(a, b), (c, d)]:
            pick = min if f == "min" else max
            return pick(a, c), pick(b, d)
        case "select", [(a, b), (c, d)]:
            return min(a, c), max(b, d)
        case "band", [(a, b), (c, d)] if a >= 0 or c >= 0:
            return 0, min(y for x, y in ((a, b), (c, d)) if x >= 0)
        case "bor", [(a, _), (c, _)] if a >= 0 and c >= 0:
            return max(a, c), 2**63 - 1
        case "shr", [(a, b), (c, d)] if c == d and 0 <= c <= 63:
            return a >> c, b >> c
        case "shl", [(a, b), (c, d)] if c == d and 0 <= c <= 63:
            return a << c, b << c
        case _:
            return None

"""Turns a guard and what stands for its variables into a verdict, from what the terms show: no e-graph is asked, and unknown means no."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kernel_ir.polynomial import Polynomial, constant
from kernel_ir.prover import Prover
from rewrites.guards import COMPARISONS, WRAPPING, Guard
from rewrites.known import Interval, Known, op_interval
from rewrites.matching import Binding, Types, instance
from rewrites.pattern import Apply, Index, Lit, Pattern, Var, subpatterns, variables
from rewrites.rule import Rule

_FACTS: Final = {"nonneg": "NonNeg", "positive": "Positive", "nonzero": "NonZero", "finite": "Finite", "notnan": "NotNan"}
_FLOAT_COMPARISONS: Final = {"gt": ("Positive",), "ge": ("NonNeg", "NotNan"), "ne": ("NonZero",)}
_EXACT: Final[dict[str, Callable[[int, int], bool]]] = {
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip


def refused(rule: Rule, binding: Binding, known: Known) -> Guard | None:
    """The first guard of the rule that is not known to hold; None if all are."""
    judge = _Judge(binding, rule.types, known)
    return next((g for g in rule.guards if not judge.holds(g)), None)


@dataclass(slots=True)
class _Judge:
    binding: Binding
    types: Types
    known: Known

    def holds(self, g: Guard) -> bool:
        """Whether the guard is known to hold."""
        a = g.args[0]
        match g.kind:
            case "absent":
                index, variable = g.args
                assert isinstance(index, Index) and isinstance(variable, Var)
                return self.binding.indices[index.name] not in self.known.free(self.binding.terms[variable.name])
            case "varies":
                return isinstance(a, Var) and bool(self.known.free(self.binding.terms[a.name]))
            case "is_const":
                return self._bits(a) is not None
            case "pow2":
                return self._power_of_two(a)
            case "divides":
                divisor, dividend = (self._bits(x) for x in g.args)
                return divisor is not None and dividend is not None and divisor != 0 and dividend % divisor == 0
            case "nowrap":
                return self._nowrap(a)
            case kind if kind in COMPARISONS:
                return self._float_comparison(kind, a, g.args[1]) if self._is_float(a) else self._compared(kind, a, g.args[1])
            case kind if kind in _FACTS and isinstance(a, Var):
                return _FACTS[kind] in self.known.floats.known(self.binding.terms[a.name]) if self._is_float(a) else self._sign(kind, a)
            case _:
                return False

    def _is_float(self, p: Pattern) -> bool:
        return isinstance(p, Var) and self.known.dtype(self.binding.terms[p.name]).is_float

    def _bits(self, p: Pattern) -> int | None:
        """The bits of a variable that is a literal."""
        term = self.known.dag.terms[self.binding.terms[p.name]] if isinstance(p, Var) else None
        return int(term.args[1]) if term is not None and term.name == "Lit" else None

    def _power_of_two(self, p: Pattern) -> bool:
        bits = self._bits(p)
        if bits is None:
            return False
        if not self._is_float(p):
            return bits > 0 and bits & (bits - 1) == 0
        # Value and reciprocal must be normal in f32 too.
        return bits & (2**52 - 1) == 0 and 897 <= (bits >> 52) & 2047 <= 1149

    def _sign(self, kind: str, p: Var) -> bool:
        low, high = self._interval(p)
        if kind == "nonzero":
            return low > 0 or high < 0
        return self._compared("gt" if kind == "positive" else "ge", p, Lit(0, p.type))

    def _float_comparison(self, kind: str, a: Pattern, b: Pattern) -> bool:
        if not isinstance(a, Var) or not isinstance(b, Lit):
            return False
        number = self.binding.terms[a.name]
        if b.value == 0 and kind in _FLOAT_COMPARISONS:
            return set(_FLOAT_COMPARISONS[kind]) <= self.known.floats.known(number)
        low, high = self.known.floats.interval(number)
        return low >= b.value if kind == "ge" else high <= b.value if kind == "le" else False

    # comparisons over the mathematical integers

    def _compared(self, kind: str, a: Pattern, b: Pattern) -> bool:
        if kind in ("gt", "ge"):
            return self._compared({"gt": "lt", "ge": "le"}[kind], b, a)
        if kind == "ne":
            return self._compared("lt", a, b) or self._compared("lt", b, a)
        (low, high), (least, most) = self._interval(a), self._interval(b)
        if kind == "eq":
            return (low == high == least == most) or (self._proved(a, b, 0) and self._proved(b, a, 0))
        return (high < least if kind == "lt" else high <= least) or self._proved(a, b, int(kind == "lt"))

    def _proved(self, a: Pattern, b: Pattern, gap: int) -> bool:
        """Whether `b - a >= gap` follows from what holds there."""
        numbers = [self.binding.terms[n] for p in (a, b) for n in variables(p)]
        numbers += [self._index_term(p) for x in (a, b) for p in subpatterns(x) if isinstance(p, Index)]
        prover = self.known.prover(*numbers)
        x, y = self._polynomial(a, prover), self._polynomial(b, prover)
        return x is not None and y is not None and prover.nonneg(y - x - gap)

    def _polynomial(self, p: Pattern, prover: Prover) -> Polynomial | None:
        match p:
            case Lit():
                return constant(int(p.value))
            case Var():
                return self.known.polynomial(self.binding.terms[p.name], prover)
            case Index():
                return self.known.polynomial(self._index_term(p), prover)
            case Apply():
                parts = [self._polynomial(x, prover) for x in p.args]
                return _combined(p.op, [x for x in parts if x is not None]) if None not in parts else None
            case _:
                return None

    def _index_term(self, p: Index) -> int:
        return self.known.dag.add("Ix", self.binding.indices[p.name])

    def _interval(self, p: Pattern) -> Interval:
        """Ends of an integer pattern's exact value."""
        match p:
            case Lit():
                return int(p.value), int(p.value)
            case Var():
                return self.known.interval(self.binding.terms[p.name])
            case Index():
                return self.known.interval(self._index_term(p))
            case Apply():
                found = op_interval(p.op, [self._interval(x) for x in p.args])
                return found if found is not None else (-(2**200), 2**200)
            case _:
                return -(2**200), 2**200

    def _nowrap(self, p: Pattern) -> bool:
        """Whether every operation of the pattern gives the mathematical result."""
        parts = [x for x in subpatterns(p) if isinstance(x, Apply) and x.op in WRAPPING]
        return all(self.known.exact(instance(x, self.binding, self.types, self.known.dag)) for x in parts)


def _combined(op: str, parts: list[Polynomial]) -> Polynomial | None:
    match op, parts:
        case "neg", [a]:
            return -a
        case "add", [a, b]:
            return a + b
        case "sub", [a, b]:
            return a - b
        case "mul", [a, b]:
            return a * b
        case "mod", [a, b] if a.constant is not None and b.constant:
            return constant(a.constant % b.constant)
        case _:
            return None

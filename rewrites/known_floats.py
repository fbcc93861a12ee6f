"""Turns a float term into what its form shows of its value: no NaN, finite, sign, not zero, an interval. No e-graph is asked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kernel_ir.dtypes import F64
from kernel_ir.nodes import Const
from rewrites.adapter import Fact
from rewrites.terms import Term

Names = frozenset[str]
Interval = tuple[float, float]
ANYWHERE: Final[Interval] = (-math.inf, math.inf)
LARGE: Final = 1e38
"""Bounds beyond this are not kept: an f32 of such a size may be infinite."""
ROUNDING: Final = 3e-7
"""More than one rounding of an f32."""

_UNARY_NOTNAN: Final = frozenset(("exp", "exp2", "expm1", "abs", "neg", "floor", "ceil", "round", "trunc", "sign", "cbrt", "sinh", "cosh"))
_UNARY_FINITE: Final = frozenset(("abs", "neg", "floor", "ceil", "round", "trunc", "cbrt", "sin", "cos"))
_BOUNDED: Final = {"erf": 1.0, "tanh": 1.0, "sign": 1.0, "atan": math.pi / 2, "sin": 1.0, "cos": 1.0, "asin": math.pi / 2}
_ALWAYS_NONNEG: Final = frozenset(("exp", "exp2", "abs", "sqrt", "hypot"))
_KEEPS_NONNEG: Final = frozenset(
    ("floor", "ceil", "round", "trunc", "sign", "cbrt", "erf", "tanh", "atan", "sinh", "expm1", "log1p", "f32", "f64", "f16", "bf16")
)


@dataclass(slots=True)
class Floats:
    """What is known of float terms; `integer` gives the interval of an integer term."""

    terms: Sequence[Term]
    facts: Sequence[Fact]
    integer: Callable[[int], tuple[int, int]]
    _facts: dict[int, Names] = field(default_factory=dict[int, Names])
    _intervals: dict[int, Interval] = field(default_factory=dict[int, Interval])

    def known(self, number: int) -> Names:
        """The names among NotNan, Finite, NonNeg (perhaps -0 or NaN), NonZero (perhaps NaN) and Positive that hold."""
        if number not in self._facts:
            low, high = self.interval(number)
            given = {f.name for f in self.facts if f.terms == (number,)}
            found = _closed(self._shown(self.terms[number]) | given)
            if low > 0 or (low >= 0 and "NotNan" in found):
                found |= {"NonNeg"} | ({"NonZero"} if low > 0 else set())
            if high < 0:
                found |= {"NonZero"}
            if "NotNan" in found and low >= -LARGE and high <= LARGE:
                found |= {"Finite"}
            self._facts[number] = frozenset(_closed(found))
        return self._facts[number]

    def _shown(self, term: Term) -> set[str]:
        op = term.name[2:]
        if term.name == "Lit":
            return _literal(float(Const(int(term.args[1]), F64).value))
        if term.name in ("c_f32", "c_f64", "c_f16", "c_bf16") and term.code <= 2:
            low, high = self.integer(term.children[0])
            return _true(Finite=True, NonNeg=low >= 0, NonZero=low > 0 or high < 0)
        if term.name.startswith("R_"):
            return self._reduction(op, term)
        if not term.name.startswith(("f_", "c_")) or term.name in ("f_lt", "f_le", "f_gt", "f_ge", "f_eq", "f_ne"):
            return set()
        of = [self.known(c) if not (op in ("select", "powi") and n == (0 if op == "select" else 1)) else frozenset[str]() for n, c in
              enumerate(term.children)]  # fmt: skip
        return self._operation(op, term, of)

    def _operation(self, op: str, term: Term, of: Sequence[Names]) -> set[str]:
        a = of[0]
        found: set[str] = set()
        if len(of) == 1:
            settles = op in _BOUNDED and op not in ("sin", "cos", "asin")  # these are NaN at infinities, or beyond 1
            found |= _true(
                NotNan=op in _UNARY_NOTNAN and "NotNan" in a,
                Finite=(op in _UNARY_FINITE and "Finite" in a) or (settles and "NotNan" in a),
                NonNeg=op in _ALWAYS_NONNEG or (op in _KEEPS_NONNEG and "NonNeg" in a),
                NonZero=op in ("neg", "abs", "sqrt") and "NonZero" in a,
            )
            if (op in ("exp", "exp2") and {"NonNeg", "NotNan"} <= a) or (op == "cosh" and "NotNan" in a):
                found |= {"Positive"}
            if op == "sqrt" and "NonNeg" in a:
                found |= a & {"NotNan", "Finite"}
            if term.name in ("c_f32", "c_f64", "c_f16", "c_bf16"):
                found |= a & {"NotNan"}
            if term.name == "c_f64":
                found |= a & {"Finite", "NonZero"}
            return found
        return found | self._several(op, term, of)

    def _several(self, op: str, term: Term, of: Sequence[Names]) -> set[str]:
        match op:
            case "select":
                return set(of[1] & of[2])
            case "min" | "max":
                shared = set(of[0] & of[1])
                other = {"NonNeg"} if op == "max" and any("NonNeg" in x for x in of) else set[str]()
                positive = op == "max" and any("Positive" in x and "NotNan" in y for x, y in (of, of[::-1]))
                return shared | other | ({"Positive"} if positive else set())
            case "mul":
                square = term.children[0] == term.children[1]
                # Positive times infinity is infinity: only 0 * inf is NaN.
                notnan = any(all(name in x for x in of) for name in ("Finite", "Positive")) or (square and "NotNan" in of[0])
                return _true(NonNeg=square or all("NonNeg" in x for x in of), NotNan=notnan)
            case "add":
                nonneg = all("NonNeg" in x for x in of)
                notnan = all("NotNan" in x for x in of)
                positive = nonneg and notnan and any("Positive" in x for x in of)
                finite = all("Finite" in x for x in of)
                return _true(NonNeg=nonneg, NotNan=finite or (nonneg and notnan), Positive=positive)
            case "sub":
                return {"NotNan"} if all("Finite" in x for x in of) else set()
            case "div":
                nonneg = "NonNeg" in of[0] and "Positive" in of[1]
                notnan = "NotNan" in of[0] and {"NonZero", "Finite"} <= of[1]
                return _true(NonNeg=nonneg, NotNan=notnan)
            case "fma":
                square = term.children[0] == term.children[1]
                return {"NonNeg"} if "NonNeg" in of[2] and (square or {"NonNeg"} <= of[0] & of[1]) else set()
            case "powi":
                exponent = self.terms[term.children[1]]
                return {"NonNeg"} if exponent.name == "Lit" and int(exponent.args[1]) % 2 == 0 else set()
            case "hypot":
                return {"NonNeg"}
            case _:
                return set()

    def _reduction(self, kind: str, term: Term) -> set[str]:
        if term.code <= 2:
            return set()
        body = self.known(term.children[-1])
        match kind:
            case "sum":
                return _true(NonNeg="NonNeg" in body, NotNan={"NonNeg", "NotNan"} <= body)
            case "expsum":
                return _true(NonNeg="NonNeg" in body)
            case "max" | "min":
                return set(body & {"NotNan", "NonZero"}) | _true(NonNeg=kind == "min" and "NonNeg" in body)
            case _:
                return set()

    def interval(self, number: int) -> Interval:
        """Ends between which each value lies that is no NaN."""
        if number not in self._intervals:
            term = self.terms[number]
            low, high = self._within(term)
            for f in self.facts:
                if f.terms == (number,) and f.value is not None:
                    low = max(low, float(f.value)) if f.name == "flo" else low
                    high = min(high, float(f.value)) if f.name == "fhi" else high
            self._intervals[number] = low, high
        return self._intervals[number]

    def _within(self, term: Term) -> Interval:
        op = term.name[2:]
        if term.name == "Lit" and term.code >= 3:
            value = float(Const(int(term.args[1]), F64).value)
            return ANYWHERE if math.isnan(value) else (value, value)
        if term.name in ("c_f32", "c_f64"):
            return _wider(*(self.interval(term.children[0]) if term.code >= 3 else self.integer(term.children[0])))
        if term.name.startswith("R_") and op in ("max", "min") and term.code >= 3:
            low, high = self.interval(term.children[2])
            return (-math.inf, high) if op == "max" else (low, math.inf)
        if not term.name.startswith("f_"):
            return ANYWHERE
        if op == "select":
            (a, b), (c, d) = (self.interval(x) for x in term.children[1:])
            return min(a, c), max(b, d)
        if op in _BOUNDED:
            bound = _BOUNDED[op] * (1 + 1e-6)
            return -bound, bound
        return self._computed(op, [self.interval(c) for c in term.children] if op != "powi" else [])

    def _computed(self, op: str, of: Sequence[Interval]) -> Interval:
        match op, of:
            case "neg", [(a, b)]:
                return -b, -a
            case "abs", [(a, b)]:
                return (0.0 if a <= 0 <= b else min(abs(a), abs(b))), max(abs(a), abs(b))
            case "add", [(a, b), (c, d)]:
                return _wider(a + c, b + d)
            case "sub", [(a, b), (c, d)]:
                return _wider(a - d, b - c)
            case "mul", [(a, b), (c, d)] if all(map(math.isfinite, (a, b, c, d))):
                corners = [x * y for x in (a, b) for y in (c, d)]
                return _wider(min(corners), max(corners))
            case "div", [(a, b), (c, _)] if c > 0:
                return _wider(min(0.0, a / c), max(0.0, b / c))
            case "max", [(a, b), (c, d)]:
                return max(a, c), max(b, d)
            case "min", [(a, b), (c, d)]:
                return min(a, c), min(b, d)
            case "exp" | "exp2" | "sqrt" as f, [(a, b)]:
                return _rising(f, a, b)
            case "acos", _:
                return 0.0, 3.1416
            case _:
                return ANYWHERE


def _literal(value: float) -> set[str]:
    return _true(NotNan=not math.isnan(value), Finite=math.isfinite(value), NonNeg=math.copysign(1, value) > 0, NonZero=value != 0)


def _true(**names: bool) -> set[str]:
    """The names of what is true."""
    return {name for name, yes in names.items() if yes}


def _closed(names: set[str] | Names) -> set[str]:
    """With all that follows."""
    found = set(names)
    if "Positive" in found:
        found |= {"NonNeg", "NonZero", "NotNan"}
    if "Finite" in found:
        found |= {"NotNan"}
    if {"NonNeg", "NonZero", "NotNan"} <= found:
        found |= {"Positive"}
    return found


def _wider(low: float, high: float) -> Interval:
    """Bounds of rounded results from bounds of exact ones."""
    bottom, top = low - (abs(low) * ROUNDING + 1e-40), high + (abs(high) * ROUNDING + 1e-40)
    return (bottom if bottom >= -LARGE else -math.inf), (top if top <= LARGE else math.inf)


def _rising(f: str, low: float, high: float) -> Interval:
    """The image of an interval under exp, exp2 or sqrt, whose results may be a few ulp off and underflow to zero."""
    bottom = 0.0 if f != "sqrt" and low < -80 else _applied(f, min(low, 80.0)) * (1 - 1e-5)
    top = math.inf if not math.isfinite(high) or (f != "sqrt" and high > 80) else _applied(f, high) * (1 + 1e-5)
    return bottom, top


def _applied(f: str, x: float) -> float:
    match f:
        case "exp":
            return math.exp(x)
        case "exp2":
            return math.pow(2.0, x)
        case _:
            return math.sqrt(max(0.0, x))

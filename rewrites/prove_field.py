"""Turns a rule without reductions into a question of real algebra, for sympy: is left - right zero as a function of its variables?

Each variable is a positive or a negative number; the rule is proved in every case of signs that its guards leave. There roots of
products, logarithms of products and absolute values have one meaning, and what remains is a rational function of independent
atoms, which is zero or is not. What has no algebra (`floor`, a cast, a comparison) is an atom of its argument: equal arguments, equal
values, and nothing more. So are the functions, unless the rule may use their laws. `max(a, b)` is `a + relu(b - a)`.
"""

import itertools
import math
import operator as untyped_operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sympy as untyped_sympy  # pyright: ignore[reportMissingTypeStubs]

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.ops import OPS
from rewrites.guards import Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, subpatterns
from rewrites.prove_error import interval
from rewrites.prove_unroll import BOOLEAN, Ground
from rewrites.prove_verdict import Deadline, Outcome

sp: Any = untyped_sympy
operator: Any = untyped_operator
Real = Any  # a sympy expression

MOST_CASES: Final = 512
LN2, LN10 = (sp.Symbol(f"ln{n}", positive=True) for n in (2, 10))
_CONSTANTS: Final = {
    0.6931471805599453: LN2,
    1.4426950408889634: 1 / LN2,
    2.302585092994046: LN10,
    0.4342944819032518: 1 / LN10,
    0.30102999566398120: LN2 / LN10,
    3.321928094887362: LN10 / LN2,
    0.3333333333333333: sp.Rational(1, 3),
    1.5707963267948966: sp.pi / 2,
    3.141592653589793: sp.pi,
}
"""What a rounded constant stands for, where a rule may use another formula of a function."""


class Unsupported(Exception):
    """Something in the rule has no translation."""


class _Undefined(Exception):
    """The side has no real value in this case."""


class _Branch(Exception):
    """The value depends on a condition that was not decided yet."""


@dataclass(slots=True)
class _Field:
    """One case: the sign of each variable, and the truth of each condition."""

    dtypes: Mapping[int, DType]
    signs: Mapping[str, int]
    truths: Mapping[str, bool]
    functions: bool
    sums: bool
    split: bool
    intervals: Mapping[str, tuple[float, float]]
    monotone: dict[Real, tuple[str, Real]] = field(default_factory=dict[Real, "tuple[str, Real]"])
    """Of values of monotone functions, the function and its argument: they compare as their arguments do."""

    def dtype(self, t: int) -> DType:
        return BOOL if t == BOOLEAN else self.dtypes[t]

    def value(self, p: Pattern) -> Real:
        match p:
            case Var() if self.dtype(p.type) is BOOL:
                return self.truth(p.name)
            case Var() if self.dtype(p.type).is_float:
                return self.signs[p.name] * sp.Symbol(p.name, positive=True)
            case Var():
                return sp.Symbol(p.name, integer=True)
            case Lit():
                return self.number(p)
            case Apply(op="select", args=(c, a, b)):
                return self.value(a) if self.value(c) else self.value(b)
            case Apply():
                args = [self.value(a) for a in p.args]
                result = self.applied(p, args)
                if self.functions and p.op in (*_INCREASING, *_DECREASING):
                    self.monotone[result] = p.op, args[0]
                return result
            case _:
                raise Unsupported(str(p))

    def truth(self, name: str) -> bool:
        if name not in self.truths:
            raise _Branch(name)
        return self.truths[name]

    def number(self, p: Lit) -> Real:
        if isinstance(p.value, bool):
            return p.value
        if p.value != p.value or abs(p.value) == float("inf"):
            raise Unsupported("an infinity or a NaN")
        if self.functions and abs(p.value) in _CONSTANTS:
            return _CONSTANTS[abs(p.value)] * (1 if p.value > 0 else -1)
        return sp.Rational(p.value)

    def applied(self, p: Apply, args: list[Real]) -> Real:
        dtype = self.dtype(p.type)
        if p.op in ("and", "or", "not"):
            return bool(OPS[p.op].numpy(*args))
        if p.op in ("lt", "le", "gt", "ge", "eq", "ne"):
            return self.compared(p.op, *args)
        if OPS[p.op].cast is not None:
            return self.cast(p, args[0], dtype)
        if not dtype.is_float:
            return self.whole(p, args)
        if p.op in ("add", "sub") and not self.sums:
            return self.opaque(p.op, *args)
        if self.split and p.op in ("max", "min", "fmax", "fmin", "abs"):
            return self.chosen(p.op, *args)
        if p.op in _ALGEBRA:
            return _ALGEBRA[p.op](*args)
        if p.op == "powi":
            return args[0] ** args[1]
        if self.functions and p.op in ("asin", "acos", "atan", "atan2"):
            return self.inverse(p.op, *args)
        if self.functions and p.op in _FUNCTIONS:
            return _FUNCTIONS[p.op](*args)
        return self.opaque(p.op, *args)

    def chosen(self, op: str, a: Real, b: Real | None = None) -> Real:
        """A maximum, minimum or absolute value, by the case of which operand is the greater."""
        other = -a if b is None else b
        return a if self.compared("lt", other, a) == (op in ("max", "fmax", "abs")) else other

    def inverse(self, op: str, x: Real, other: Real | None = None) -> Real:
        """An inverse function: of its own function it is the argument, where that is in its range."""
        if op == "atan2":
            if other is None or not other.is_positive:
                raise Unsupported("atan2 of two signs")
            return self.inverse("atan", x / other)
        ends = {"asin": (-1.57, 1.57), "acos": (0.0, 3.14), "atan": (-1.57, 1.57)}[op]
        for name, (lo, hi) in self.intervals.items():
            if name in self.signs and ends[0] <= lo and hi <= ends[1]:
                angle = self.signs[name] * sp.Symbol(name, positive=True)
                if _normal(x - _FUNCTIONS[op[1:]](angle)) == 0:
                    return angle
        return _FUNCTIONS[op](x)

    def whole(self, p: Apply, args: list[Real]) -> Real:
        """Integer arithmetic: of numbers alone, or where nothing can wrap because a guard says so."""
        if all(a.is_Integer for a in args):
            import numpy as np

            with np.errstate(all="ignore"):
                return sp.Integer(int(OPS[p.op].numpy(*(self.dtype(p.type).numpy.type(int(a)) for a in args))))
        return self.opaque(p.op, *args)

    def compared(self, op: str, a: Real, b: Real) -> bool:
        if op in ("gt", "ge"):
            return self.compared({"gt": "lt", "ge": "le"}[op], b, a)
        if op == "ne":
            return not self.compared("eq", a, b)
        (left, x), (right, y) = (self.monotone.get(v, ("", v)) for v in (a, b))
        if left and left == right:
            return self.compared(op, y, x) if left in _DECREASING else self.compared(op, x, y)
        difference = _unscaled(_normal(a - b))
        known = {"lt": difference.is_negative, "le": difference.is_nonpositive, "eq": difference.is_zero}[op]
        return bool(known) if known is not None else self.truth(f"{op} {difference}")

    def cast(self, p: Apply, x: Real, source: DType) -> Real:
        target, holder = OPS[p.op].cast, self.dtype(p.result)
        assert target is not None
        if target is source or (target.is_float and source.is_float and target is holder and target.bits > source.bits):
            return x
        if isinstance(x, bool) and target.is_float:
            return sp.Integer(int(x))
        exact = not isinstance(x, bool) and x.is_Integer and abs(x) < 2**11
        if exact and not source.is_float and (target.is_float or target is holder):
            return x
        return self.opaque(f"{p.op} {source}", sp.Integer(int(x)) if isinstance(x, bool) else x)

    def opaque(self, op: str, *args: Real) -> Real:
        """An atom named by its argument's normal form."""
        normal = [_normal(a) for a in args]
        if op in ("exp", "exp2") and normal[0] == 0:
            return sp.Integer(1)  # exactly so in every arithmetic
        if op in OPS and OPS[op].commutative:
            normal.sort(key=str)
        return sp.Symbol(f"{op}({', '.join(map(str, normal))})", real=True, **({"positive": True} if op in _POSITIVE else {}))


_POSITIVE: Final = ("exp", "exp2", "cosh")
_INCREASING: Final = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sinh", "tanh", "erf", "asin", "atan",
)  # fmt: skip
_DECREASING: Final = ("rsqrt", "acos")
"""Over the reals, and strictly, wherever they are defined."""


def _unscaled(x: Real) -> Real:
    """What has the sign of x: its factors without those that are known to be positive."""
    numerator, denominator = sp.fraction(sp.factor(x))
    kept = [f for part in (numerator, denominator) for f in sp.Mul.make_args(part) if not (f.is_positive and not f.is_Number)]
    return sp.expand(sp.Mul(*kept))


def _relu(x: Real) -> Real:
    """The positive part of x, an atom; for -x, what it is by that of x."""
    x = _normal(x)
    if x.is_nonnegative:
        return x
    if x.is_nonpositive:
        return sp.Integer(0)
    scaled = sp.cancel(x / LN2)
    if x.has(LN2) and not scaled.has(LN2):
        return LN2 * _relu(scaled)
    if x.could_extract_minus_sign():
        return sp.Symbol(f"relu({-x})", nonnegative=True) + x
    return sp.Symbol(f"relu({x})", nonnegative=True)


def _sqrt(x: Real) -> Real:
    x = sp.factor(x)
    if x.is_negative:
        raise _Undefined
    return sp.sqrt(x)


def _log(x: Real) -> Real:
    x = sp.factor(x)
    if x.is_nonpositive:
        raise _Undefined
    return sp.expand_log(sp.log(x)).xreplace({sp.log(2): LN2, sp.log(10): LN10})


def _cbrt(x: Real) -> Real:
    x = sp.factor(x)
    if x.is_negative:
        return -sp.cbrt(-x)
    return sp.cbrt(x) if x.is_nonnegative else sp.Symbol(f"cbrt({_normal(x)})", real=True)


def _pow(x: Real, y: Real) -> Real:
    if y.is_Integer:
        return x**y
    if x.is_negative:
        raise _Undefined
    return sp.exp(y * _log(x))


def _exp(x: Real) -> Real:
    return sp.exp(sp.expand(x))


def _abs(x: Real) -> Real:
    return sp.Abs(sp.factor(x))


def _max(a: Real, b: Real) -> Real:
    return a + _relu(b - a)


def _min(a: Real, b: Real) -> Real:
    return a - _relu(a - b)


def _fma(a: Real, b: Real, c: Real) -> Real:
    return a * b + c


def _scaled(function: Callable[[Real], Real], before: Real, after: Real) -> Callable[[Real], Real]:
    def scaled(x: Real) -> Real:
        return function(x * before) * after

    return scaled


def _rsqrt(x: Real) -> Real:
    return 1 / _sqrt(x)


def _hypot(a: Real, b: Real) -> Real:
    return _sqrt(a**2 + b**2)


def _expm1(x: Real) -> Real:
    return _exp(x) - 1


def _log1p(x: Real) -> Real:
    return _log(1 + x)


def _sin(x: Real) -> Real:
    return sp.sin(sp.expand(x))


def _cos(x: Real) -> Real:
    return sp.cos(sp.expand(x))


def _tan(x: Real) -> Real:
    return _sin(x) / _cos(x)


def _asin(x: Real) -> Real:
    return sp.asin(_normal(x))


def _acos(x: Real) -> Real:
    return sp.pi / 2 - _asin(x)


def _atan(x: Real) -> Real:
    """Of u / sqrt(1 - u ** 2) it is the arc sine of u."""
    square = sp.cancel(sp.together(x**2 / (1 + x**2)))
    root = sp.sqrt(square)
    if root.is_Symbol and x.has(sp.sqrt(1 - square)):
        return sp.asin(root if _normal(x / root).subs(root, sp.Rational(1, 2)) > 0 else -root)
    return sp.atan(_normal(x))


def _sinh(x: Real) -> Real:
    return (_exp(x) - _exp(-x)) / 2


def _cosh(x: Real) -> Real:
    return (_exp(x) + _exp(-x)) / 2


def _tanh(x: Real) -> Real:
    return _sinh(x) / _cosh(x)


_ALGEBRA: Final[dict[str, Callable[..., Real]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "fma": _fma,
    "abs": _abs,
    "max": _max,
    "min": _min,
    "fmax": _max,
    "fmin": _min,
}
_FUNCTIONS: Final[dict[str, Callable[..., Real]]] = {
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "cbrt": _cbrt,
    "hypot": _hypot,
    "pow": _pow,
    "exp": _exp,
    "exp2": _scaled(_exp, LN2, 1),
    "expm1": _expm1,
    "log": _log,
    "log2": _scaled(_log, 1, 1 / LN2),
    "log10": _scaled(_log, 1, 1 / LN10),
    "log1p": _log1p,
    "sin": _sin,
    "cos": _cos,
    "tan": _tan,
    "asin": _asin,
    "acos": _acos,
    "atan": _atan,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
}


def _normal(x: Real) -> Real:
    """A rational function of the atoms, cancelled."""
    return x if x.is_Atom else sp.cancel(sp.together(sp.expand(x, power_base=False)))


def _is_zero(x: Real) -> bool:
    """Whether it vanishes: its numerator, a polynomial in powers of the atoms, with sin ** 2 as 1 - cos ** 2."""
    x = sp.expand_trig(_whole_angles(x))
    numerator = sp.numer(sp.together(sp.powdenest(sp.expand(x, power_base=False))))
    for _ in range(3):
        numerator = sp.expand(numerator)
        if numerator == 0:
            return True
        numerator = sp.numer(sp.together(numerator.replace(_square_of_sine, _by_cosine)))
    return sp.expand(numerator) == 0


def _vanishes(x: Real) -> bool:
    """Whether it is zero; with logarithms in it, also where its exponential is one."""
    if _is_zero(x):
        return True
    return bool(x.has(sp.log)) and _is_zero(sp.exp(sp.expand(x)).expand(power_exp=True) - 1)


def _whole_angles(x: Real) -> Real:
    """With each variable scaled so that no angle is a fraction of it."""
    angles = [a for f in x.atoms(sp.sin, sp.cos) for a in sp.Add.make_args(sp.expand(f.args[0]))]
    scale = math.lcm(*(int(a.as_coeff_Mul()[0].q) for a in angles if a.as_coeff_Mul()[0].is_Rational))
    return x if scale == 1 else x.subs({s: scale * s for s in x.free_symbols}, simultaneous=True)


def _square_of_sine(x: Real) -> bool:
    return x.is_Pow and isinstance(x.base, sp.sin) and x.exp.is_Integer and x.exp >= 2


def _by_cosine(x: Real) -> Real:
    (angle,) = x.base.args
    return (1 - sp.cos(angle) ** 2) ** (x.exp // 2) * x.base ** (x.exp % 2)


def identical(ground: Ground, deadline: Deadline, functions: bool, sums: bool = True) -> Outcome:
    """Whether the sides are equal over the reals in every case. It proves or gives up."""
    rule = ground.rule
    names = sorted({p.name for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var) and _is_float(p, ground)})
    positive: set[str] = {n for g in rule.guards for n in _positive(g)}
    signed = any(_signed(p, ground) for side in (rule.lhs, rule.rhs) for p in subpatterns(side))
    if not signed and (len(set(names) - positive) > 6 or not functions):
        # Without laws of functions a sign matters to abs and comparisons alone, which then stay atoms.
        positive |= set(names)
    found = _in_all(ground, names, positive, functions, sums, False, deadline)
    if found.proved or not any(_extreme(p) for side in (rule.lhs, rule.rhs) for p in subpatterns(side)):
        return found
    return _in_all(ground, names, positive, functions, sums, True, deadline)


def _in_all(
    ground: Ground, names: list[str], positive: set[str], functions: bool, sums: bool, split: bool, deadline: Deadline
) -> Outcome:  # fmt: skip
    """The outcome over every case of signs."""
    intervals = {n: (max(w.lo, -1e300), min(w.hi, 1e300)) for n in names for w in [interval(ground.rule, n)]}
    cases = 0
    for signs in itertools.product(*[(1,) if n in positive else (1, -1) for n in names]):
        worker = _Field(ground.dtypes, dict(zip(names, signs, strict=True)), {}, functions, sums, split, intervals)
        for why in _case(ground, worker):
            cases += 1
            if why or cases > MOST_CASES or deadline.passed:
                return Outcome("unknown", why=why or "too many cases")
    return Outcome("proved")


def _extreme(p: Pattern) -> bool:
    return isinstance(p, Apply) and p.op in ("max", "min", "fmax", "fmin", "abs")


def _case(ground: Ground, worker: _Field) -> Iterator[str]:
    """For each way to decide the conditions that are met: "", or what is missing."""
    try:
        try:
            left = worker.value(ground.rule.lhs)
        except _Undefined:
            yield ""  # what the right side may be there is checked at points
            return
        right = worker.value(ground.rule.rhs)
        if isinstance(left, bool) or isinstance(right, bool):
            yield "" if left == right else "a condition changes"
        else:
            yield "" if _vanishes(left - right) else f"no identity was found{_where(worker.signs)}"
    except _Branch as branch:
        for truth in (True, False):
            yield from _case(ground, replace(worker, truths={**worker.truths, str(branch): truth}))
    except _Undefined:
        yield "the right side is not defined where the left side is"
    except Unsupported as missing:
        yield f"no translation of {missing}"


def _where(signs: Mapping[str, int]) -> str:
    negative = [n for n, s in signs.items() if s < 0]
    return f" for negative {', '.join(negative)}" if negative else ""


def _is_float(p: Var, ground: Ground) -> bool:
    return p.type != BOOLEAN and ground.dtypes[p.type].is_float


def _positive(g: Guard) -> Iterator[str]:
    match g:
        case Guard("positive" | "nonneg", (Var() as x,)) | Guard("gt" | "ge", (Var() as x, Lit(value=0))):
            yield x.name
        case _:
            pass


def _signed(p: Pattern, ground: Ground) -> bool:
    return isinstance(p, Apply) and p.op in ("abs", "lt", "le", "gt", "ge", "eq", "ne") and ground.dtypes[p.type].is_float

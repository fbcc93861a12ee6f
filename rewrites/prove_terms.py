"""Turns patterns and guards without reductions into z3 terms: integers are bit vectors, floats IEEE 754 numbers of their format.

Functions that are not correctly rounded (`exp`, `sin` …) become uninterpreted: of equal arguments equal results, and no more.
"""

import operator as untyped_operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import z3 as untyped_z3  # pyright: ignore[reportMissingTypeStubs]

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.ops import OPS
from rewrites.guards import COMPARISONS, SCOPE, WRAPPING, Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, multiplied_out, subpatterns, type_of
from rewrites.prove_unroll import BOOLEAN

z3: Any = untyped_z3
operator: Any = untyped_operator
Term = Any  # a z3 expression: its stubs know too little of them

FORMATS: Final = {"f16": (5, 11), "bf16": (8, 8), "f32": (8, 24), "f64": (11, 53)}
"""Bits of exponent and significand, the hidden one counted: z3's way to name a format."""
WIDTHS: Final = {"i32": 32, "i64": 64}


COSTLY: Final = ("mul", "floordiv", "mod")
COSTLY_FLOAT: Final = ("add", "sub", "mul", "div", "sqrt", "fma", "floor", "ceil", "round", "trunc")
"""What z3 takes long for, and whose meaning many a rule does not depend on."""


class Unsupported(Exception):
    """Something in the rule has no translation."""


@dataclass(slots=True)
class Encoding:
    """A translation for one choice of dtypes; `zero` is what min and max of zeros of both signs give: no rule may rely on it."""

    dtypes: Mapping[int, DType]
    widths: Mapping[str, int] = field(default_factory=lambda: WIDTHS)
    zero: float = 0.0
    abstract: bool = False
    """Whether costly operations are uninterpreted too, but for their commutativity."""
    axioms: list[Term] = field(default_factory=list[Term])
    opaque: bool = False
    """Whether a function was left uninterpreted: then a model proves nothing."""

    def dtype(self, t: int) -> DType:
        return BOOL if t == BOOLEAN else self.dtypes[t]

    def sort(self, dtype: DType) -> Term:
        if dtype is BOOL:
            return z3.BoolSort()
        return z3.FPSort(*FORMATS[dtype.name]) if dtype.is_float else z3.BitVecSort(self.widths[dtype.name])

    def value(self, p: Pattern) -> Term:
        """The term of a pattern."""
        match p:
            case Var():
                return z3.Const(p.name, self.sort(self.dtype(p.type)))
            case Lit():
                return self.literal(p)
            case Apply():
                return self.applied(p)
            case _:
                raise Unsupported(str(p))

    def literal(self, p: Lit) -> Term:
        dtype = self.dtype(p.type)
        if dtype is BOOL:
            return z3.BoolVal(bool(p.value))
        if dtype.is_float:
            return z3.FPVal(float(dtype.numpy.type(p.value)), self.sort(dtype))
        return z3.BitVecVal(int(p.value), self.widths[dtype.name])

    def applied(self, p: Apply) -> Term:
        dtype = self.dtype(p.type)
        if p.op == "powi":
            product = multiplied_out(p)
            if product is None or (not dtype.is_float and isinstance(product, Apply) and product.op == "div"):
                raise Unsupported("this power")
            return self.value(product)
        args = [self.value(a) for a in p.args]
        if OPS[p.op].cast is not None:
            return self.cast(p, args[0], dtype)
        if p.op in PLAIN and not (p.op in ("eq", "ne") and dtype.is_float):
            return PLAIN[p.op](*args)
        if p.op in ("min", "max", "fmin", "fmax") and dtype.is_float:
            return _float_extreme(p.op, args[0], args[1], z3.FPVal(self.zero, self.sort(dtype)))
        table = _FLOAT if dtype.is_float else _INTEGER
        if p.op in table and not (self.abstract and p.op in (COSTLY_FLOAT if dtype.is_float else COSTLY)):
            return table[p.op](*args)
        if not dtype.is_float and p.op not in table:
            raise Unsupported(p.op)
        self.opaque = True
        function = z3.Function(p.op, *(a.sort() for a in args), self.sort(dtype))
        if OPS[p.op].commutative:
            self.axioms.append(function(*args) == function(*args[::-1]))
        if p.op in ("mul", "div"):
            self.axioms += _signs(function, *args)
        return function(*args)

    def cast(self, p: Apply, x: Term, source: DType) -> Term:
        target, holder = OPS[p.op].cast, self.dtype(p.result)
        assert target is not None
        if target is BOOL:
            return x if source is BOOL else z3.Not(z3.fpIsZero(x)) if source.is_float else x != 0
        if target.is_float:
            if source is BOOL:
                one, zero = (z3.FPVal(v, self.sort(holder)) for v in (1.0, 0.0))
                return z3.If(x, one, zero)
            if not source.is_float:
                return (
                    z3.fpSignedToFP(z3.RNE(), x, self.sort(target))
                    if target is holder
                    else self.stored(z3.fpSignedToFP(z3.RNE(), x, self.sort(holder)), target, holder)
                )
            return self.stored(x, target, holder)
        if source.is_float or self.widths is not WIDTHS:
            raise Unsupported("a cast of this kind")
        whole = z3.If(x, z3.BitVecVal(1, 64), z3.BitVecVal(0, 64)) if source is BOOL else z3.SignExt(64 - x.size(), x)
        cut = z3.Extract(target.bits - 1, 0, whole)
        wide = self.widths[holder.name] - target.bits
        return z3.ZeroExt(wide, cut) if target.kind == "uint" else z3.SignExt(wide, cut)

    def stored(self, x: Term, target: DType, holder: DType) -> Term:
        """A float rounded to `target` and read back as `holder`."""
        rounded = x if x.sort() == self.sort(target) else z3.fpToFP(z3.RNE(), x, self.sort(target))
        return rounded if target is holder else z3.fpToFP(z3.RNE(), rounded, self.sort(holder))

    # guards

    def guard(self, g: Guard) -> Term:
        """The guard's truth; a comparison of integers is of mathematical integers."""
        a = g.args[0]
        dtype = self.dtype(type_of(a))
        match g.kind:
            case kind if kind in SCOPE:
                return z3.BoolVal(True)
            case "nowrap":
                return z3.And(*(self.exact_op(x) for x in subpatterns(a) if isinstance(x, Apply) and x.op in WRAPPING), True)
            case "divides":
                d, n = self.value(a), self.value(g.args[1])
                return z3.And(d != 0, z3.SRem(n, d) == 0)
            case kind if kind in COMPARISONS and dtype is not BOOL and not dtype.is_float:
                left, right = _widened(self.exact(a), self.exact(g.args[1]))
                return _INTEGER[kind](left, right) if kind not in PLAIN else PLAIN[kind](left, right)
            case kind if kind in COMPARISONS:
                x, y = self.value(a), self.value(g.args[1])
                holds = _FLOAT[kind](x, y)
                assert isinstance(g.args[1], Lit)
                return holds if g.args[1].value == 0 else z3.Or(holds, z3.fpIsNaN(x))
            case kind:
                x = self.value(a)
                return _float_guard(kind, x) if dtype.is_float else _integer_guard(kind, x)

    def exact_op(self, p: Apply) -> Term:
        """Whether a wrapping operation gives the mathematical result."""
        a, *rest = (self.value(x) for x in p.args)
        match p.op:
            case "add":
                return z3.And(z3.BVAddNoOverflow(a, rest[0], True), z3.BVAddNoUnderflow(a, rest[0]))
            case "sub":
                return z3.And(z3.BVSubNoOverflow(a, rest[0]), z3.BVSubNoUnderflow(a, rest[0], True))
            case "mul":
                return z3.And(z3.BVMulNoOverflow(a, rest[0], True), z3.BVMulNoUnderflow(a, rest[0]))
            case _:
                return z3.BVSNegNoOverflow(a)

    def exact(self, p: Pattern) -> Term:
        """An integer expression of a guard, wide enough to be exact."""
        if not isinstance(p, Apply):
            return self.value(p)
        args = [self.exact(a) for a in p.args]
        bits = sum(a.size() for a in args) if p.op == "mul" else max(a.size() for a in args) + 1
        args = [z3.SignExt(bits - a.size(), a) for a in args]
        if p.op not in _INTEGER:
            raise Unsupported(p.op)
        return _INTEGER[p.op](*args)


def _signs(product: Callable[[Term, Term], Term], a: Term, b: Term) -> list[Term]:
    """A product, or a quotient of floats, takes its sign from both operands: bit for bit, wrapping integers included."""
    minus: Callable[[Term], Term] = z3.fpNeg if z3.is_fp(a) else operator.neg
    whole = product(a, b)
    return [product(minus(a), minus(b)) == whole, product(minus(a), b) == minus(whole), product(a, minus(b)) == minus(whole)]


def _widened(a: Term, b: Term) -> tuple[Term, Term]:
    bits = max(a.size(), b.size())
    return z3.SignExt(bits - a.size(), a), z3.SignExt(bits - b.size(), b)


def _floordiv(a: Term, b: Term) -> Term:
    remainder = z3.SRem(a, b)
    down = z3.And(remainder != 0, (remainder < 0) != (b < 0))
    return z3.If(b == 0, z3.BitVecVal(0, a.size()), z3.If(down, a / b - 1, a / b))


def _mod(a: Term, b: Term) -> Term:
    return z3.If(b == 0, z3.BitVecVal(0, a.size()), a % b)


def _sign(a: Term) -> Term:
    one = z3.BitVecVal(1, a.size())
    return z3.If(a > 0, one, z3.If(a < 0, -one, z3.BitVecVal(0, a.size())))


def _float_sign(a: Term) -> Term:
    one, zero = (z3.FPVal(v, a.sort()) for v in (1.0, 0.0))
    return z3.If(z3.fpIsNaN(a), a, z3.If(z3.fpIsZero(a), zero, z3.If(z3.fpIsNegative(a), z3.fpNeg(one), one)))


def _float_extreme(op: str, a: Term, b: Term, zero: Term) -> Term:
    first = z3.fpLT(a, b) if op.endswith("min") else z3.fpLT(b, a)
    number = z3.If(z3.And(z3.fpIsZero(a), z3.fpIsZero(b), a != b), zero, z3.If(first, a, b))
    if op.startswith("f"):
        return z3.If(z3.fpIsNaN(a), b, z3.If(z3.fpIsNaN(b), a, number))
    return z3.If(z3.fpIsNaN(a), a, z3.If(z3.fpIsNaN(b), b, number))


def _rounding(mode: Callable[[], Term]) -> Callable[..., Term]:
    def rounded(x: Term) -> Term:
        return z3.fpRoundToIntegral(mode(), x)

    return rounded


def _with_rne(function: Callable[..., Term]) -> Callable[..., Term]:
    def nearest(*args: Term) -> Term:
        return function(z3.RNE(), *args)

    return nearest


def _not(a: Term) -> Term:
    return z3.Not(a)


def _and(a: Term, b: Term) -> Term:
    return z3.And(a, b)


def _or(a: Term, b: Term) -> Term:
    return z3.Or(a, b)


def _select(c: Term, a: Term, b: Term) -> Term:
    return z3.If(c, a, b)


def _abs(a: Term) -> Term:
    return z3.If(a < 0, -a, a)


def _min(a: Term, b: Term) -> Term:
    return z3.If(a < b, a, b)


def _max(a: Term, b: Term) -> Term:
    return z3.If(a > b, a, b)


PLAIN: Final[dict[str, Callable[..., Term]]] = {
    "and": _and,
    "or": _or,
    "not": _not,
    "select": _select,
    "eq": operator.eq,
    "ne": operator.ne,
}
"""Operations of every type."""
ORDER: Final[dict[str, Callable[..., Term]]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "min": _min,
    "max": _max,
}
RING: Final[dict[str, Callable[..., Term]]] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "neg": operator.neg}
_INTEGER: Final[dict[str, Callable[..., Term]]] = {
    **RING,
    **ORDER,
    "floordiv": _floordiv,
    "mod": _mod,
    "band": operator.and_,
    "bor": operator.or_,
    "bxor": operator.xor,
    "bnot": operator.invert,
    # A count past the width, read unsigned, shifts everything out: so do the language's counts, negative ones included.
    "shl": operator.lshift,
    "shr": operator.rshift,
    "abs": _abs,
    "sign": _sign,
}
_FLOAT: Final[dict[str, Callable[..., Term]]] = {
    "add": _with_rne(z3.fpAdd),
    "sub": _with_rne(z3.fpSub),
    "mul": _with_rne(z3.fpMul),
    "div": _with_rne(z3.fpDiv),
    "neg": z3.fpNeg,
    "abs": z3.fpAbs,
    "sign": _float_sign,
    "sqrt": _with_rne(z3.fpSqrt),
    "fma": _with_rne(z3.fpFMA),
    "lt": z3.fpLT,
    "le": z3.fpLEQ,
    "gt": z3.fpGT,
    "ge": z3.fpGEQ,
    "eq": z3.fpEQ,
    "ne": z3.fpNEQ,
    "floor": _rounding(z3.RTN),
    "ceil": _rounding(z3.RTP),
    "round": _rounding(z3.RNE),
    "trunc": _rounding(z3.RTZ),
}


def _integer_guard(kind: str, x: Term) -> Term:
    match kind:
        case "pow2":
            return z3.And(x > 0, x & (x - 1) == 0)
        case "nonneg":
            return x >= 0
        case "positive":
            return x > 0
        case "nonzero":
            return x != 0
        case _:
            raise Unsupported(kind)


def _float_guard(kind: str, x: Term) -> Term:
    zero = z3.FPVal(0.0, x.sort())
    match kind:
        case "pow2":
            return _power_of_two(x)
        case "nonneg":
            return z3.Not(z3.fpLT(x, zero))
        case "positive":
            return z3.fpGT(x, zero)
        case "nonzero":
            return z3.Not(z3.fpIsZero(x))
        case "finite":
            return z3.Not(z3.Or(z3.fpIsNaN(x), z3.fpIsInf(x)))
        case "notnan":
            return z3.Not(z3.fpIsNaN(x))
        case _:
            raise Unsupported(kind)


def _power_of_two(x: Term) -> Term:
    """A zero significand, and an exponent whose reciprocal is normal in f32 as well (see the guard)."""
    bits, wide = z3.fpToIEEEBV(x), x.sbits() - 1
    exponent = z3.ZeroExt(4, z3.Extract(wide + x.ebits() - 1, wide, bits))
    bias = 2 ** (x.ebits() - 1) - 1
    return z3.And(z3.Extract(wide - 1, 0, bits) == 0, z3.UGE(exponent, bias - 126), z3.ULE(exponent, bias + 126))

"""The op table: one row an operator or function, the single source for its name, types, meaning, facts and cost unit.

Parser, checker, printer, evaluator, e-graph, rule checker, cost model and backends read it. To add an op is to add a row, and
a line in each backend where its name alone does not do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

import numpy as np

from kernel_ir import meaning
from kernel_ir.dtypes import ARITHMETIC, BOOL, DTYPES, F32, F64, I32, I64, STORAGE, DType, reads_as


class Unit(Enum):
    """The kind of hardware unit that runs an op; machine files give throughput and latency by unit and dtype."""

    ADD = auto()  # add, subtract, compare, min, max, negate
    MUL = auto()
    FMA = auto()
    DIV = auto()
    SQRT = auto()
    EXP = auto()  # exponentials, logarithms
    TRIG = auto()  # trigonometric, hyperbolic, erf, pow: long polynomial code
    LOGIC = auto()  # bits, booleans, selection
    SHIFT = auto()
    IDIV = auto()  # integer division and modulus
    CONVERT = auto()


SLOW: Final = frozenset({Unit.DIV, Unit.SQRT, Unit.EXP, Unit.TRIG})
"""Units that take many cycles a vector, whatever its width."""


class Types(Enum):
    """The arithmetic types over which the type variable T of a signature ranges."""

    FLOAT = (F32, F64)
    INT = (I32, I64)
    NUMBER = (I32, I64, F32, F64)
    ANY = ARITHMETIC
    BOOL = (BOOL,)

    def __contains__(self, dtype: object) -> bool:
        return dtype in self.value


@dataclass(frozen=True, slots=True)
class Op:
    """One row.

    `signature`: a letter an argument, `->`, the result: T the type variable (over `types`), b bool, i i64, x any type.
    `numpy`: the reference meaning over arrays of the argument dtypes, in the result's dtype; transcendental ops are
    computed in float64 and rounded once. `mpmath`: the attribute of an mpmath context that is its meaning over the reals
    (operators: a function of (mp, *args)), None where the NumPy meaning is exact. `ulp`: worst error, in ulp, that any
    backend of ours may make (0: correctly rounded or exact, the same bits everywhere). `symbol`, `precedence`: how an operator prints.
    """

    name: str
    signature: str
    types: Types
    unit: Unit
    numpy: Callable[..., Any] = field(repr=False)
    mpmath: str | Callable[..., Any] | None = field(default=None, repr=False)
    ulp: float = 0.0
    symbol: str = ""
    precedence: int = 0
    commutative: bool = False
    cast: DType | None = None

    @property
    def arity(self) -> int:
        return len(self.signature.partition("->")[0])

    @property
    def exact(self) -> bool:
        """Whether every backend gives the reference's bits."""
        return self.ulp == 0.0

    def result(self, args: tuple[DType, ...]) -> DType | None:
        """The result's dtype for these argument dtypes, or None where the op does not exist for them.

        >>> OPS["add"].result((F32, F32)), OPS["lt"].result((I64, I64)), OPS["add"].result((F32, F64))
        (F32, BOOL, None)
        """
        letters, _, out = self.signature.partition("->")
        bound: DType | None = None
        if len(letters) != len(args):
            return None
        for letter, dtype in zip(letters, args, strict=True):
            match letter:
                case "T" if dtype in self.types and bound in (None, dtype):
                    bound = dtype
                case "b" if dtype is BOOL:
                    pass
                case "i" if dtype is I64:
                    pass
                case "x":
                    pass
                case _:
                    return None
        if self.cast is not None:
            return reads_as(self.cast)
        return {"T": bound, "b": BOOL, "i": I64}[out]


# Precedence, loosest first, as in Python; the printer and the grammar agree on these numbers.
SELECT, OR, AND, NOT, COMPARE, BOR, BXOR, BAND, SHIFT, SUM, PRODUCT, UNARY, POWER = range(1, 14)

N, F, I, A, B = Types.NUMBER, Types.FLOAT, Types.INT, Types.ANY, Types.BOOL  # noqa: E741  (column headings)


def _real1(f: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A meaning over the reals of one argument: (mpmath context, a)."""
    return f


def _real2(f: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """A meaning over the reals of two arguments."""
    return f


def _real3(f: Callable[[Any, Any, Any, Any], Any]) -> Callable[..., Any]:
    """A meaning over the reals of three arguments."""
    return f


def _casts() -> tuple[Op, ...]:
    return tuple(
        Op(t.name, "x->T", A, Unit.CONVERT, meaning.cast_to(t), "convert" if t.is_float else None, cast=t) for t in (*ARITHMETIC, *STORAGE)
    )


def _function(name: str, unit: Unit, ulp: float, mpmath: str | Callable[..., Any], arity: int = 1) -> Op:
    """A float function whose reference is its float64 meaning rounded once."""
    return Op(name, "T" * arity + "->T", F, unit, meaning.rounded(name), mpmath, ulp)


_ROWS: Final = (
    # name, signature, types, unit, reference, real meaning
    Op("add", "TT->T", N, Unit.ADD, np.add, _real2(lambda mp, a, b: a + b), symbol="+", precedence=SUM, commutative=True),
    Op("sub", "TT->T", N, Unit.ADD, np.subtract, _real2(lambda mp, a, b: a - b), symbol="-", precedence=SUM),
    Op("mul", "TT->T", N, Unit.MUL, np.multiply, _real2(lambda mp, a, b: a * b), symbol="*", precedence=PRODUCT, commutative=True),
    Op("div", "TT->T", F, Unit.DIV, np.divide, _real2(lambda mp, a, b: a / b), symbol="/", precedence=PRODUCT),
    Op("floordiv", "TT->T", N, Unit.IDIV, meaning.floordiv, _real2(lambda mp, a, b: mp.floor(a / b)), symbol="//", precedence=PRODUCT),
    Op("mod", "TT->T", N, Unit.IDIV, meaning.mod, _real2(lambda mp, a, b: a - b * mp.floor(a / b)), symbol="%", precedence=PRODUCT),
    Op("neg", "T->T", N, Unit.ADD, np.negative, _real1(lambda mp, a: -a), symbol="-", precedence=UNARY),
    Op("powi", "Ti->T", N, Unit.MUL, meaning.powi, _real2(lambda mp, a, n: a ** int(n)), symbol="**", precedence=POWER),
    Op("pow", "TT->T", F, Unit.TRIG, meaning.rounded("pow"), "power", 2.0, symbol="**", precedence=POWER),
    # comparisons: false with NaN, but `!=`
    Op("lt", "TT->b", N, Unit.ADD, np.less, _real2(lambda mp, a, b: a < b), symbol="<", precedence=COMPARE),
    Op("le", "TT->b", N, Unit.ADD, np.less_equal, _real2(lambda mp, a, b: a <= b), symbol="<=", precedence=COMPARE),
    Op("gt", "TT->b", N, Unit.ADD, np.greater, _real2(lambda mp, a, b: a > b), symbol=">", precedence=COMPARE),
    Op("ge", "TT->b", N, Unit.ADD, np.greater_equal, _real2(lambda mp, a, b: a >= b), symbol=">=", precedence=COMPARE),
    Op("eq", "TT->b", A, Unit.ADD, np.equal, _real2(lambda mp, a, b: a == b), symbol="==", precedence=COMPARE, commutative=True),
    Op("ne", "TT->b", A, Unit.ADD, np.not_equal, _real2(lambda mp, a, b: a != b), symbol="!=", precedence=COMPARE, commutative=True),
    # booleans and selection
    Op("and", "bb->b", B, Unit.LOGIC, np.logical_and, symbol="and", precedence=AND, commutative=True),
    Op("or", "bb->b", B, Unit.LOGIC, np.logical_or, symbol="or", precedence=OR, commutative=True),
    Op("not", "b->b", B, Unit.LOGIC, np.logical_not, symbol="not", precedence=NOT),
    Op("select", "bTT->T", A, Unit.LOGIC, np.where, precedence=SELECT),
    # bits
    Op("band", "TT->T", I, Unit.LOGIC, np.bitwise_and, symbol="&", precedence=BAND, commutative=True),
    Op("bor", "TT->T", I, Unit.LOGIC, np.bitwise_or, symbol="|", precedence=BOR, commutative=True),
    Op("bxor", "TT->T", I, Unit.LOGIC, np.bitwise_xor, symbol="^", precedence=BXOR, commutative=True),
    Op("bnot", "T->T", I, Unit.LOGIC, np.invert, symbol="~", precedence=UNARY),
    Op("shl", "TT->T", I, Unit.SHIFT, meaning.shl, symbol="<<", precedence=SHIFT),
    Op("shr", "TT->T", I, Unit.SHIFT, meaning.shr, symbol=">>", precedence=SHIFT),
    # exact or correctly rounded functions
    Op("abs", "T->T", N, Unit.ADD, np.abs, "fabs"),
    Op("sign", "T->T", N, Unit.ADD, np.sign, "sign"),
    Op("floor", "T->T", F, Unit.CONVERT, np.floor, "floor"),
    Op("ceil", "T->T", F, Unit.CONVERT, np.ceil, "ceil"),
    Op("round", "T->T", F, Unit.CONVERT, np.rint, "nint"),
    Op("trunc", "T->T", F, Unit.CONVERT, np.trunc, _real1(lambda mp, a: mp.sign(a) * mp.floor(abs(a)))),
    Op("sqrt", "T->T", F, Unit.SQRT, np.sqrt, "sqrt"),
    Op("fma", "TTT->T", F, Unit.FMA, meaning.fma, _real3(lambda mp, a, b, c: a * b + c)),
    Op("min", "TT->T", N, Unit.ADD, np.minimum, _real2(lambda mp, a, b: min(a, b)), commutative=True),
    Op("max", "TT->T", N, Unit.ADD, np.maximum, _real2(lambda mp, a, b: max(a, b)), commutative=True),
    Op("fmin", "TT->T", F, Unit.ADD, np.fmin, _real2(lambda mp, a, b: min(a, b)), commutative=True),
    Op("fmax", "TT->T", F, Unit.ADD, np.fmax, _real2(lambda mp, a, b: max(a, b)), commutative=True),
    # transcendental functions; ULP bounds: the CUDA C++ Programming Guide's maxima for f32/f64, NumPy's own (f32 exp 2.52, log 3.83) and
    # our CPU code's, whichever is largest
    _function("rsqrt", Unit.SQRT, 2.0, _real1(lambda mp, a: 1 / mp.sqrt(a))),
    _function("cbrt", Unit.TRIG, 2.0, _real1(lambda mp, a: mp.sign(a) * mp.cbrt(abs(a)))),
    _function("exp", Unit.EXP, 3.0, "exp"),
    _function("exp2", Unit.EXP, 3.0, _real1(lambda mp, a: mp.power(2, a))),
    _function("expm1", Unit.EXP, 3.0, "expm1"),
    _function("log", Unit.EXP, 4.0, "log"),
    _function("log2", Unit.EXP, 2.0, _real1(lambda mp, a: mp.log(a, 2))),
    _function("log10", Unit.EXP, 3.0, "log10"),
    _function("log1p", Unit.EXP, 2.0, "log1p"),
    _function("sin", Unit.TRIG, 2.0, "sin"),
    _function("cos", Unit.TRIG, 2.0, "cos"),
    _function("tan", Unit.TRIG, 4.0, "tan"),
    _function("asin", Unit.TRIG, 4.0, "asin"),
    _function("acos", Unit.TRIG, 4.0, "acos"),
    _function("atan", Unit.TRIG, 3.0, "atan"),
    _function("atan2", Unit.TRIG, 4.0, "atan2", 2),
    _function("sinh", Unit.TRIG, 4.0, "sinh"),
    _function("cosh", Unit.TRIG, 4.0, "cosh"),
    _function("tanh", Unit.TRIG, 3.0, "tanh"),
    _function("erf", Unit.TRIG, 4.0, "erf"),
    _function("hypot", Unit.TRIG, 3.0, "hypot", 2),
    *_casts(),
)

OPS: Final[dict[str, Op]] = {op.name: op for op in _ROWS}
FUNCTIONS: Final = frozenset(
    op.name for op in _ROWS if (not op.symbol or op.name == "pow") and op.name != "select" and op.name not in DTYPES
)
"""Names that a user calls with parentheses (casts, which are DTYPES, apart)."""
BINARY_SYMBOLS: Final[dict[str, str]] = {op.symbol: op.name for op in _ROWS if op.symbol and op.arity == 2 and op.name not in ("powi",)}
CONSTANTS: Final[dict[str, float]] = {"inf": float("inf"), "nan": float("nan"), "pi": float(np.pi), "e": float(np.e)}


@dataclass(frozen=True, slots=True)
class Reduction:
    """One row of the reduction table: value over nothing, the op that joins two partial results (None for arg…, expsum)."""

    name: str
    combine: str | None
    types: Types
    over_nothing: float | bool | None


REDUCTIONS: Final[dict[str, Reduction]] = {
    r.name: r
    for r in (
        Reduction("sum", "add", N, 0),
        Reduction("prod", "mul", N, 1),
        Reduction("max", "max", N, float("-inf")),
        Reduction("min", "min", N, float("inf")),
        Reduction("any", "or", B, False),
        Reduction("all", "and", B, True),
        Reduction("argmax", None, N, None),
        Reduction("argmin", None, N, None),
        Reduction("expsum", None, F, 0.0),
    )
}
"""For integers, max and min over nothing are the dtype's own least and greatest value."""

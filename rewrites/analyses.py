"""Turns the op table's facts into egglog rules for the analyses: intervals, exact (non-wrapping) nodes, order, float facts, folding.

All are rules of the ruleset `analysis`, run to saturation between other phases. Each fact is about the value of an e-class, but for
`nw_add`, `nw_sub`, `nw_mul`, `nw_neg`: they are about one e-node, whose exact result is what the machine computes. (A class could hold
one node that wraps and another that does not.) egglog's i64 arithmetic is checked: in a rule's body an overflow is just no match.
"""

from typing import Final

from kernel_ir.arguments import MAX_SIZE
from rewrites import float_ranges

I32_CODE, I64_CODE = 1, 2
SIZE_LIMIT: Final = MAX_SIZE
"""What every call is held to."""

DECLARATIONS: Final = (
    "(relation nw_add (i64 E E))",
    "(relation nw_sub (i64 E E))",
    "(relation nw_mul (i64 E E))",
    "(relation nw_neg (i64 E))",
    *float_ranges.DECLARATIONS,
    "(function least (i64) i64 :no-merge)",
    "(function greatest (i64) i64 :no-merge)",
)
SETUP: Final = (
    f"(set (least {I32_CODE}) {-(2**31)})",
    f"(set (least {I64_CODE}) {-(2**63)})",
    f"(set (greatest {I32_CODE}) {2**31 - 1})",
    f"(set (greatest {I64_CODE}) {2**63 - 1})",
)

_A = ("(= la (lo a))", "(= ha (hi a))")
_B = ("(= lb (lo b))", "(= hb (hi b))")
_FITS = ("(= m (least t))", "(= n (greatest t))", "(>= l m)", "(<= h n)")
_SET = ("(set (lo e) l)", "(set (hi e) h)")


def _floor(x: str, y: str) -> str:
    """The floor of x / y for y > 0, from egglog's truncating division."""
    return f"(/ (- {x} (% (+ (% {x} {y}) {y}) {y})) {y})"


def _least(*terms: str) -> str:
    return terms[0] if len(terms) == 1 else f"(min {terms[0]} {_least(*terms[1:])})"


def _greatest(*terms: str) -> str:
    return terms[0] if len(terms) == 1 else f"(max {terms[0]} {_greatest(*terms[1:])})"


_PRODUCTS = ("(* la lb)", "(* la hb)", "(* ha lb)", "(* ha hb)")
_QUOTIENTS = tuple(_floor(x, y) for x in ("la", "ha") for y in ("lb", "hb"))

# name, facts, actions. `t` is a dtype code, `e` the class that learns.
_INTERVALS: Final = (
    ("lit", ("(= e (Lit t v))", "(>= t 1)", "(<= t 2)"), ("(set (lo e) v)", "(set (hi e) v)")),
    ("size", ("(= e (Size s))",), ("(set (lo e) 0)", f"(set (hi e) {SIZE_LIMIT})")),
    ("index_lo", ("(= e (Ix x))", "(= b (XLo x))", "(= l (lo b))"), ("(set (lo e) l)",)),
    ("index_hi", ("(= e (Ix x))", "(= b (XHi x))", "(= h (- (hi b) 1))"), ("(set (hi e) h)",)),
    ("add", ("(= e (i_add t a b))", *_A, *_B, "(= l (+ la lb))", "(= h (+ ha hb))", *_FITS), (*_SET, "(nw_add t a b)")),
    ("sub", ("(= e (i_sub t a b))", *_A, *_B, "(= l (- la hb))", "(= h (- ha lb))", *_FITS), (*_SET, "(nw_sub t a b)")),
    ("neg", ("(= e (i_neg t a))", *_A, "(= l (- 0 ha))", "(= h (- 0 la))", *_FITS), (*_SET, "(nw_neg t a)")),
    (
        "mul",
        ("(= e (i_mul t a b))", *_A, *_B, f"(= l {_least(*_PRODUCTS)})", f"(= h {_greatest(*_PRODUCTS)})", *_FITS),
        (*_SET, "(nw_mul t a b)"),
    ),
    (
        "floordiv",
        ("(= e (i_floordiv t a b))", *_A, *_B, "(> lb 0)", f"(= l {_least(*_QUOTIENTS)})", f"(= h {_greatest(*_QUOTIENTS)})"),
        _SET,
    ),
    ("floordiv_lo", ("(= e (i_floordiv t a b))", "(>= (lo a) 0)", "(>= (lo b) 0)"), ("(set (lo e) 0)",)),
    ("floordiv_hi", ("(= e (i_floordiv t a b))", "(= h (hi a))", "(>= (lo a) 0)", "(>= (lo b) 0)"), ("(set (hi e) h)",)),
    ("mod_lo", ("(= e (i_mod t a b))", "(>= (lo b) 0)"), ("(set (lo e) 0)",)),
    ("mod_hi", ("(= e (i_mod t a b))", "(> (lo b) 0)", "(= h (- (hi b) 1))"), ("(set (hi e) h)",)),
    ("mod_dividend", ("(= e (i_mod t a b))", "(>= (lo a) 0)", "(>= (lo b) 0)", "(= h (hi a))"), ("(set (hi e) h)",)),
    (
        "mod_multiple",
        (
            "(= e (i_mod t (i_mul t a (Lit t c)) (Lit t d)))",
            "(nw_mul t a (Lit t c))",
            "(> c 0)",
            "(> d 0)",
            "(= 0 (% d c))",
            "(= h (- d c))",
        ),
        ("(set (hi e) h)",),
    ),
    ("mod_negative", ("(= e (i_mod t a b))", "(< (hi b) 0)", "(= l (+ (lo b) 1))"), ("(set (lo e) l)", "(set (hi e) 0)")),
    ("min_hi_left", ("(= e (i_min t a b))", "(= h (hi a))"), ("(set (hi e) h)",)),
    ("min_hi_right", ("(= e (i_min t a b))", "(= h (hi b))"), ("(set (hi e) h)",)),
    ("min_lo", ("(= e (i_min t a b))", "(= l (min (lo a) (lo b)))"), ("(set (lo e) l)",)),
    ("max_lo_left", ("(= e (i_max t a b))", "(= l (lo a))"), ("(set (lo e) l)",)),
    ("max_lo_right", ("(= e (i_max t a b))", "(= l (lo b))"), ("(set (lo e) l)",)),
    ("max_hi", ("(= e (i_max t a b))", "(= h (max (hi a) (hi b)))"), ("(set (hi e) h)",)),
    ("select_lo", ("(= e (i_select t c a b))", "(= l (min (lo a) (lo b)))"), ("(set (lo e) l)",)),
    ("select_hi", ("(= e (i_select t c a b))", "(= h (max (hi a) (hi b)))"), ("(set (hi e) h)",)),
    ("abs", ("(= e (i_abs t a))", *_A, "(= l 0)", "(= h (max ha (- 0 la)))", *_FITS), _SET),
    ("sign", ("(= e (i_sign t a))",), ("(set (lo e) -1)", "(set (hi e) 1)")),
    ("band_left", ("(= e (i_band t a b))", "(>= (lo a) 0)", "(= h (hi a))"), ("(set (lo e) 0)", "(set (hi e) h)")),
    ("band_right", ("(= e (i_band t a b))", "(>= (lo b) 0)", "(= h (hi b))"), ("(set (lo e) 0)", "(set (hi e) h)")),
    ("bor", ("(= e (i_bor t a b))", "(>= (lo a) 0)", "(>= (lo b) 0)", "(= l (max (lo a) (lo b)))"), ("(set (lo e) l)",)),
    ("shr", ("(= e (i_shr t a (Lit t c)))", *_A, "(>= c 0)", "(<= c 63)", "(= l (>> la c))", "(= h (>> ha c))"), _SET),
    (
        "shl",
        ("(= e (i_shl t a (Lit t c)))", *_A, "(>= c 0)", "(<= c 31)", "(= l (* la (<< 1 c)))", "(= h (* ha (<< 1 c)))", *_FITS),
        _SET,
    ),
    ("widen", ("(= e (c_i64 1 a))", "(= l (lo a))", "(= h (hi a))"), _SET),
    ("narrow", ("(= e (c_i32 2 a))", "(= l (lo a))", "(= h (hi a))", f"(>= l {-(2**31)})", f"(<= h {2**31 - 1})"), _SET),
    ("i8", ("(= e (c_i8 t a))",), ("(set (lo e) -128)", "(set (hi e) 127)")),
    ("u8", ("(= e (c_u8 t a))",), ("(set (lo e) 0)", "(set (hi e) 255)")),
    ("i16", ("(= e (c_i16 t a))",), ("(set (lo e) -32768)", "(set (hi e) 32767)")),
    ("u16", ("(= e (c_u16 t a))",), ("(set (lo e) 0)", "(set (hi e) 65535)")),
    ("i32", ("(= e (c_i32 t a))",), (f"(set (lo e) {-(2**31)})", f"(set (hi e) {2**31 - 1})")),
    ("u32", ("(= e (c_u32 t a))",), ("(set (lo e) 0)", f"(set (hi e) {2**32 - 1})")),
    ("nonzero_above", ("(> (lo e) 0)",), ("(NonZero e)",)),
    ("nonzero_below", ("(< (hi e) 0)",), ("(NonZero e)",)),
    *(
        (f"point_{op}", (f"(= e (i_{op} t a b))", "(= v (lo e))", "(= v (hi e))"), ("(union e (Lit t v))",))
        for op in ("add", "sub", "mul", "floordiv", "mod", "min", "max")
    ),
)

_ORDER: Final = (
    ("index_below", ("(= e (Ix x))", "(= b (XHi x))"), ("(Lt e b)",)),
    ("index_from", ("(= e (Ix x))", "(= b (XLo x))"), ("(Le b e)",)),
    ("mod_below", ("(= e (i_mod t a b))", "(> (lo b) 0)"), ("(Lt e b)",)),
    ("min_left", ("(= e (i_min t a b))",), ("(Le e a)", "(Le e b)")),
    ("max_left", ("(= e (i_max t a b))",), ("(Le a e)", "(Le b e)")),
    ("next", ("(Lt a b)", "(= e (i_add t a (Lit t 1)))"), ("(Le e b)",)),
    ("add_positive", ("(= e (i_add t a b))", "(nw_add t a b)", "(> (lo b) 0)"), ("(Lt a e)",)),
    ("add_nonneg", ("(= e (i_add t a b))", "(nw_add t a b)", "(>= (lo b) 0)"), ("(Le a e)",)),
    ("add_negative", ("(= e (i_add t a b))", "(nw_add t a b)", "(< (hi b) 0)"), ("(Lt e a)",)),
    ("add_nonpos", ("(= e (i_add t a b))", "(nw_add t a b)", "(<= (hi b) 0)"), ("(Le e a)",)),
    ("sub_positive", ("(= e (i_sub t a b))", "(nw_sub t a b)", "(> (lo b) 0)"), ("(Lt e a)",)),
    ("sub_nonneg", ("(= e (i_sub t a b))", "(nw_sub t a b)", "(>= (lo b) 0)"), ("(Le e a)",)),
    # A row-major index: 0 <= i < h, 0 <= j < w and h * w fits, so i * w, i * w + j and (i * w + j < h * w) are exact.
    (
        "row",
        ("(nw_mul t h w)", "(Lt i h)", "(>= (lo i) 0)", "(= e (i_mul t i w))", "(>= (lo w) 0)"),
        ("(nw_mul t i w)", "(set (lo e) 0)", "(Le e (i_mul t h w))"),
    ),
    (
        "row_major",
        ("(nw_mul t h w)", "(Lt i h)", "(>= (lo i) 0)", "(= r (i_mul t i w))", "(= e (i_add t r j))", "(Lt j w)", "(>= (lo j) 0)"),
        ("(nw_add t r j)", "(set (lo e) 0)", "(Lt e (i_mul t h w))"),
    ),
    (
        "row_hi",
        ("(nw_mul t h w)", "(Lt i h)", "(>= (lo i) 0)", "(= e (i_mul t i w))", "(>= (lo w) 0)", "(= top (hi (i_mul t h w)))"),
        ("(set (hi e) top)",),
    ),
    (
        "row_major_hi",
        (
            "(nw_mul t h w)", "(Lt i h)", "(>= (lo i) 0)", "(= r (i_mul t i w))", "(= e (i_add t r j))", "(Lt j w)", "(>= (lo j) 0)",
            "(= top (hi (i_mul t h w)))",
        ),
        ("(set (hi e) top)",),
    ),
)  # fmt: skip

_EXPONENT, _MANTISSA = 0x7FF0000000000000, 0x000FFFFFFFFFFFFF
_MAGNITUDE = "(& v 9223372036854775807)"

# Facts about floats. NonNeg: not below zero, perhaps -0 or NaN. NonZero: neither zero, perhaps NaN. Positive: above zero, not NaN.
_FLOATS: Final = (
    ("lit_notnan", ("(= e (Lit t v))", "(>= t 3)", f"(<= {_MAGNITUDE} {_EXPONENT})"), ("(NotNan e)",)),
    ("lit_finite", ("(= e (Lit t v))", "(>= t 3)", f"(< {_MAGNITUDE} {_EXPONENT})"), ("(Finite e)",)),
    ("lit_nonneg", ("(= e (Lit t v))", "(>= t 3)", "(>= v 0)"), ("(NonNeg e)",)),
    ("lit_nonzero", ("(= e (Lit t v))", "(>= t 3)", f"(!= {_MAGNITUDE} 0)"), ("(NonZero e)",)),
    ("positive", ("(Positive e)",), ("(NonNeg e)", "(NonZero e)", "(NotNan e)")),
    ("finite", ("(Finite e)",), ("(NotNan e)",)),
    ("to_positive", ("(NonNeg e)", "(NonZero e)", "(NotNan e)"), ("(Positive e)",)),
    # exp underflows to zero and overflows to infinity: from an unknown argument it is only not negative.
    *((f"{f}_nonneg", (f"(= e (f_{f} t a))",), ("(NonNeg e)",)) for f in ("exp", "exp2", "abs", "sqrt")),
    ("hypot_nonneg", ("(= e (f_hypot t a b))",), ("(NonNeg e)",)),
    *((f"{f}_positive", (f"(= e (f_{f} t a))", "(NonNeg a)", "(NotNan a)"), ("(Positive e)",)) for f in ("exp", "exp2")),
    *(
        (f"{f}_notnan", (f"(= e (f_{f} t a))", "(NotNan a)"), ("(NotNan e)",))
        for f in ("exp", "exp2", "expm1", "abs", "neg", "floor", "ceil", "round", "trunc", "sign", "cbrt", "sinh", "cosh")
    ),
    *(
        (f"{f}_finite", (f"(= e (f_{f} t a))", "(Finite a)"), ("(Finite e)",))
        for f in ("abs", "neg", "floor", "ceil", "round", "trunc", "cbrt", "sin", "cos")
    ),
    *((f"{f}_bounded", (f"(= e (f_{f} t a))", "(NotNan a)"), ("(Finite e)",)) for f in ("erf", "tanh", "atan", "sign")),
    *(
        (f"{f}_keeps_nonneg", (f"(= e (f_{f} t a))", "(NonNeg a)"), ("(NonNeg e)",))
        for f in ("floor", "ceil", "round", "trunc", "sign", "cbrt", "erf", "tanh", "atan", "sinh", "expm1", "log1p")
    ),
    ("cosh_positive", ("(= e (f_cosh t a))", "(NotNan a)"), ("(Positive e)",)),
    ("neg_nonzero", ("(= e (f_neg t a))", "(NonZero a)"), ("(NonZero e)",)),
    ("abs_nonzero", ("(= e (f_abs t a))", "(NonZero a)"), ("(NonZero e)",)),
    ("sqrt_notnan", ("(= e (f_sqrt t a))", "(NonNeg a)", "(NotNan a)"), ("(NotNan e)",)),
    ("sqrt_finite", ("(= e (f_sqrt t a))", "(NonNeg a)", "(Finite a)"), ("(Finite e)",)),
    ("sqrt_nonzero", ("(= e (f_sqrt t a))", "(NonZero a)"), ("(NonZero e)",)),
    ("square", ("(= e (f_mul t a a))",), ("(NonNeg e)",)),
    ("square_notnan", ("(= e (f_mul t a a))", "(NotNan a)"), ("(NotNan e)",)),
    ("powi_even", ("(= e (f_powi t a (Lit 2 n)))", "(= 0 (% n 2))"), ("(NonNeg e)",)),
    ("mul_nonneg", ("(= e (f_mul t a b))", "(NonNeg a)", "(NonNeg b)"), ("(NonNeg e)",)),
    ("mul_finite", ("(= e (f_mul t a b))", "(Finite a)", "(Finite b)"), ("(NotNan e)",)),
    ("mul_positive", ("(= e (f_mul t a b))", "(Positive a)", "(Positive b)"), ("(NotNan e)",)),
    ("add_nonneg", ("(= e (f_add t a b))", "(NonNeg a)", "(NonNeg b)"), ("(NonNeg e)",)),
    ("add_notnan", ("(= e (f_add t a b))", "(NonNeg a)", "(NotNan a)", "(NonNeg b)", "(NotNan b)"), ("(NotNan e)",)),
    ("add_positive", ("(= e (f_add t a b))", "(Positive a)", "(NonNeg b)", "(NotNan b)"), ("(Positive e)",)),
    ("add_positive_right", ("(= e (f_add t a b))", "(NonNeg a)", "(NotNan a)", "(Positive b)"), ("(Positive e)",)),
    ("add_finite", ("(= e (f_add t a b))", "(Finite a)", "(Finite b)"), ("(NotNan e)",)),
    ("sub_finite", ("(= e (f_sub t a b))", "(Finite a)", "(Finite b)"), ("(NotNan e)",)),
    ("div_nonneg", ("(= e (f_div t a b))", "(NonNeg a)", "(Positive b)"), ("(NonNeg e)",)),
    ("div_notnan", ("(= e (f_div t a b))", "(NotNan a)", "(NonZero b)", "(Finite b)"), ("(NotNan e)",)),
    ("fma_nonneg", ("(= e (f_fma t a b c))", "(NonNeg a)", "(NonNeg b)", "(NonNeg c)"), ("(NonNeg e)",)),
    ("fma_square", ("(= e (f_fma t a a c))", "(NonNeg c)"), ("(NonNeg e)",)),
    ("max_nonneg", ("(= e (f_max t a b))", "(NonNeg a)"), ("(NonNeg e)",)),
    ("max_nonneg_right", ("(= e (f_max t a b))", "(NonNeg b)"), ("(NonNeg e)",)),
    ("max_positive", ("(= e (f_max t a b))", "(Positive a)", "(NotNan b)"), ("(Positive e)",)),
    ("max_positive_right", ("(= e (f_max t a b))", "(NotNan a)", "(Positive b)"), ("(Positive e)",)),
    ("min_nonneg", ("(= e (f_min t a b))", "(NonNeg a)", "(NonNeg b)"), ("(NonNeg e)",)),
    *(
        (f"{f}_{fact.lower()}", (f"(= e (f_{f} t a b))", f"({fact} a)", f"({fact} b)"), (f"({fact} e)",))
        for f in ("min", "max")
        for fact in ("NotNan", "Finite", "NonZero")
    ),
    *(
        (f"select_{fact.lower()}", ("(= e (f_select t c a b))", f"({fact} a)", f"({fact} b)"), (f"({fact} e)",))
        for fact in ("NotNan", "Finite", "NonNeg", "NonZero")
    ),
    ("sum_nonneg", ("(= e (R_sum t x l h a))", "(>= t 3)", "(NonNeg a)"), ("(NonNeg e)",)),
    ("sum_notnan", ("(= e (R_sum t x l h a))", "(>= t 3)", "(NonNeg a)", "(NotNan a)"), ("(NotNan e)",)),
    ("expsum_nonneg", ("(= e (R_expsum t x l h a v))", "(NonNeg v)"), ("(NonNeg e)",)),
    *(
        (f"{r}_reduce_{fact.lower()}", (f"(= e (R_{r} t x l h a))", "(>= t 3)", f"({fact} a)"), (f"({fact} e)",))
        for r in ("max", "min")
        for fact in ("NotNan", "NonZero")
    ),
    ("min_reduce_nonneg", ("(= e (R_min t x l h a))", "(>= t 3)", "(NonNeg a)"), ("(NonNeg e)",)),
    *(
        (f"{c}_of_int", (f"(= e ({c} t a))", "(<= t 2)"), ("(Finite e)",))
        for c in ("c_f32", "c_f64")
    ),
    *((f"{c}_of_nonneg_int", (f"(= e ({c} t a))", "(<= t 2)", "(>= (lo a) 0)"), ("(NonNeg e)",)) for c in ("c_f32", "c_f64")),
    *((f"{c}_of_nonzero_int", (f"(= e ({c} t a))", "(<= t 2)", "(NonZero a)"), ("(NonZero e)",)) for c in ("c_f32", "c_f64")),
    *(
        (f"{c}_{fact.lower()}", (f"(= e ({c} t a))", "(>= t 3)", f"({fact} a)"), (f"({fact} e)",))
        for c in ("c_f32", "c_f64", "c_f16", "c_bf16")
        for fact in ("NotNan", "NonNeg")
    ),
    *((f"widen_{fact.lower()}", ("(= e (c_f64 3 a))", f"({fact} a)"), (f"({fact} e)",)) for fact in ("Finite", "NonZero")),
)  # fmt: skip


def _wrapped(value: str) -> str:
    """`value` wrapped to 32 bits."""
    return f"(- (^ (& {value} 4294967295) 2147483648) 2147483648)"


_SHARED_ARITHMETIC: Final = {"add": "(+ x y)", "sub": "(- x y)", "mul": "(* x y)"}
_BITWISE: Final = {"band": "(& x y)", "bor": "(| x y)", "bxor": "(^ x y)", "min": "(min x y)", "max": "(max x y)"}
_COMPARE: Final = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=", "ne": "!="}
_INVERSE: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "="}


def _folding() -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    """Integer and boolean operators of literals; an i64 overflow is no match, and then the operator stays."""
    rows: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []

    def row(name: str, pattern: str, *facts: str, ty: str = "t") -> None:
        rows.append((f"fold_{name}", (f"(= e {pattern})", *facts), (f"(union e (Lit {ty} v))",)))

    for op, value in _SHARED_ARITHMETIC.items():
        row(f"{op}_i64", f"(i_{op} 2 (Lit 2 x) (Lit 2 y))", f"(= v {value})", ty="2")
        row(f"{op}_i32", f"(i_{op} 1 (Lit 1 x) (Lit 1 y))", f"(= w {value})", f"(= v {_wrapped('w')})", ty="1")
    for op, value in _BITWISE.items():
        row(op, f"(i_{op} t (Lit t x) (Lit t y))", f"(= v {value})")
    row("neg_i64", "(i_neg 2 (Lit 2 x))", "(= v (- 0 x))", ty="2")
    row("neg_i32", "(i_neg 1 (Lit 1 x))", f"(= v {_wrapped('(- 0 x)')})", ty="1")
    row("bnot", "(i_bnot t (Lit t x))", "(= v (not-i64 x))")
    row("abs", "(i_abs t (Lit t x))", "(= m (least t))", "(!= m x)", "(= v (max x (- 0 x)))")
    row("floordiv", "(i_floordiv t (Lit t x) (Lit t y))", "(> y 0)", f"(= v {_floor('x', 'y')})")
    row(
        "floordiv_negative",
        "(i_floordiv t (Lit t x) (Lit t y))",
        "(< y 0)",
        "(= m (least t))",
        "(!= m x)",
        f"(= v {_floor('(- 0 x)', '(- 0 y)')})",
    )
    row("floordiv_zero", "(i_floordiv t (Lit t x) (Lit t 0))", "(= v 0)")
    row("mod", "(i_mod t (Lit t x) (Lit t y))", "(!= y 0)", "(= v (% (+ (% x y) y) y))")
    row("mod_zero", "(i_mod t (Lit t x) (Lit t 0))", "(= v 0)")
    row("shl_i64", "(i_shl 2 (Lit 2 x) (Lit 2 y))", "(>= y 0)", "(<= y 62)", "(= v (* x (<< 1 y)))", ty="2")
    row("shr", "(i_shr t (Lit t x) (Lit t y))", "(>= y 0)", "(<= y 31)", "(= v (>> x y))")
    row("widen", "(c_i64 1 (Lit 1 v))", ty="2")
    row("narrow", "(c_i32 2 (Lit 2 x))", f"(= v {_wrapped('x')})", ty="1")
    for op, symbol in _COMPARE.items():
        row(f"{op}_true", f"(i_{op} t (Lit t x) (Lit t y))", f"({symbol} x y)", "(= v 1)", ty="0")
        row(f"{op}_false", f"(i_{op} t (Lit t x) (Lit t y))", f"({_INVERSE[symbol]} x y)", "(= v 0)", ty="0")
    row("and", "(b_and 0 (Lit 0 x) (Lit 0 y))", "(= v (& x y))", ty="0")
    row("or", "(b_or 0 (Lit 0 x) (Lit 0 y))", "(= v (| x y))", ty="0")
    row("not", "(b_not 0 (Lit 0 x))", "(= v (- 1 x))", ty="0")
    return tuple(rows)


def analysis_rules() -> list[str]:
    """The egglog rules of every analysis but the free indices, one command a line, each with a unique name."""
    families = {"interval": _INTERVALS, "order": _ORDER, "float": _FLOATS, "real": tuple(float_ranges.rules()), "": _folding()}
    return [
        f'(rule ({" ".join(facts)}) ({" ".join(actions)}) :ruleset analysis :name "analysis:{family}{"_" if family else ""}{name}")'
        for family, rows in families.items()
        for name, facts, actions in rows
    ]

"""Turns float operators into egglog rules that know their literals' values, fold arithmetic of literals, and bound values by intervals.

`real` is the value of a literal's class; `flo` and `fhi` bound a class: each value of it is NaN or lies between them. A folded result is
the machine's, bit for bit: computed in binary64, and for f32 rounded once more, which is innocuous for one `+ - * /` (Figueroa 1995).
Literals of other magnitudes than 2**-60 to 2**62 are not folded, and neither is a zero, whose sign egglog's own f64 loses.
"""

from collections.abc import Iterator
from typing import Final

Row = tuple[str, tuple[str, ...], tuple[str, ...]]

DECLARATIONS: Final = (
    "(function real (E) f64 :merge old)",
    "(function flo (E) f64 :merge (max old new))",
    "(function fhi (E) f64 :merge (min old new))",
    "(relation folded (E i64 f64))",
)

SIGN: Final = -(2**63)
_MANTISSA: Final = 2**52 - 1
_MAGNITUDE: Final = f"(& v {2**63 - 1})"
_LARGE: Final = "1e38"
"""Bounds beyond this are not kept: an f32 of such a size may be infinite."""


def rules() -> Iterator[Row]:
    """Rows (name, facts, actions) of all rules of this module."""
    yield from _literals()
    yield from _folding()
    yield from _intervals()


def _literals() -> Iterator[Row]:
    normal = ("(= e (Lit t v))", "(>= t 3)", f"(= x (>> {_MAGNITUDE} 52))", "(> x 0)", "(< x 2047)")
    value = f"(= r (* (to-f64 (| (& v {_MANTISSA}) {2**52})) (^ 2.0 (to-f64 (- x 1075)))))"
    known = ("(set (real e) s)", "(set (flo e) s)", "(set (fhi e) s)")
    yield "literal", (*normal, value, "(>= v 0)", "(= s r)"), known
    yield "literal_negative", (*normal, value, "(< v 0)", "(= s (neg r))"), known
    yield "literal_zero", ("(= e (Lit t v))", "(>= t 3)", f"(= 0 {_MAGNITUDE})", "(= s 0.0)"), known


_BINARY: Final = {"add": "+", "sub": "-", "mul": "*", "div": "/", "min": "min", "max": "max"}
_COMPARE: Final = {"lt": ("<", ">="), "le": ("<=", ">"), "gt": (">", "<="), "ge": (">=", "<"), "eq": ("=", "!="), "ne": ("!=", "=")}


def _folding() -> Iterator[Row]:
    for op, symbol in _BINARY.items():
        facts = (f"(= e (f_{op} t a b))", "(= x (real a))", "(= y (real b))", "(!= x 0.0)", "(!= y 0.0)", f"(= r ({symbol} x y))")
        yield f"fold_{op}", facts, ("(folded e t r)",)
    for op, (true, false) in _COMPARE.items():
        facts = (f"(= e (f_{op} t a b))", "(= x (real a))", "(= y (real b))")
        yield f"fold_{op}", (*facts, f"({true} x y)"), ("(union e (Lit 0 1))",)
        yield f"fold_{op}_not", (*facts, f"({false} x y)"), ("(union e (Lit 0 0))",)
    number = ("(= e (f_{} t (Lit t v)))", f"(<= {_MAGNITUDE} {2047 << 52})")
    yield "fold_neg", (number[0].format("neg"), number[1], f"(= w (^ v {SIGN}))"), ("(union e (Lit t w))",)
    yield "fold_abs", (number[0].format("abs"), number[1], f"(= w {_MAGNITUDE})"), ("(union e (Lit t w))",)
    yield (
        "fold_trunc",
        ("(= e (f_trunc t a))", "(= x (real a))", "(< (abs x) 4503599627370496.0)", "(= r (to-f64 (to-i64 x)))"),
        ("(folded e t r)",),
    )
    yield "fold_widen", ("(= e (c_f64 3 (Lit 3 v)))",), ("(union e (Lit 4 v))",)
    yield "fold_narrow", ("(= e (c_f32 4 a))", "(= r (real a))"), ("(folded e 3 r)",)
    for cast, code in (("c_f32", 3), ("c_f64", 4)):
        exact = (f"(= e ({cast} t (Lit t n)))", "(<= t 2)", f"(< n {2**53})", f"(< {-(2**53)} n)")
        yield f"fold_{cast}_int", (*exact, "(= r (to-f64 n))"), (f"(folded e {code} r)",)
        yield f"fold_{cast}_zero", (f"(= e ({cast} t (Lit t 0)))", "(<= t 2)"), (f"(union e (Lit {code} 0))",)
    yield from _rounded()


def _rounded() -> Iterator[Row]:
    """From a folded value to the literal: exponent and mantissa by integer arithmetic, for f32 rounded to nearest even."""
    near = "(= q (<< (>> (+ m (+ 268435455 (& (>> m 29) 1))) 29) 29))"
    sides = (
        ("", ("(>= a 1.0)", f"(< a {2**62}.0)", "(= k (log2 (to-i64 a)))")),
        ("_small", ("(< a 1.0)", f"(>= a {2.0**-60:.20f})", f"(= k (- (log2 (to-i64 (* a {2**60}.0))) 60))")),
    )
    for dtype, code, rounded in (("f32", 3, near), ("f64", 4, "(= q m)")):
        for name, exponent in sides:
            facts = (
                f"(folded e {code} r)", "(= a (abs r))", *exponent, "(= m (to-i64 (* a (^ 2.0 (to-f64 (- 52 k))))))", rounded,
                f"(= w (| (+ (<< (+ k 1022) 52) q) (& (to-i64 (/ r a)) {SIGN})))",
            )  # fmt: skip
            yield f"fold_to_{dtype}{name}", facts, (f"(union e (Lit {code} w))",)


_A: Final = ("(= la (flo a))", "(= ha (fhi a))")
_B: Final = ("(= lb (flo b))", "(= hb (fhi b))")
_BOUNDED: Final = (f"(>= l -{_LARGE})", f"(<= h {_LARGE})")
_SET: Final = ("(set (flo e) l)", "(set (fhi e) h)")


def _wider(low: str, high: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bounds `l` and `h` of rounded results from bounds of exact ones."""
    below = (f"(= u {low})", "(= l (- u (+ (* (abs u) 0.0000003) 1e-40)))")
    above = (f"(= w {high})", "(= h (+ w (+ (* (abs w) 0.0000003) 1e-40)))")
    return below, above


def _corners(pick: str, symbol: str) -> str:
    corners = [f"({symbol} {x} {y})" for x in ("la", "ha") for y in ("lb", "hb")]
    return f"({pick} ({pick} {corners[0]} {corners[1]}) ({pick} {corners[2]} {corners[3]}))"


def _intervals() -> Iterator[Row]:
    def row(name: str, pattern: str, *facts: str, actions: tuple[str, ...] = _SET) -> Row:
        return f"range_{name}", (f"(= e {pattern})", *facts), actions

    yield row("neg_low", "(f_neg t a)", "(= l (neg (fhi a)))", actions=_SET[:1])
    yield row("neg_high", "(f_neg t a)", "(= h (neg (flo a)))", actions=_SET[1:])
    yield row("abs", "(f_abs t a)", *_A, "(= h (max ha (neg la)))", "(= l (max 0.0 (max la (neg ha))))")
    for op, pick in (("add", ("(+ la lb)", "(+ ha hb)")), ("sub", ("(- la hb)", "(- ha lb)"))):
        low, high = _wider(*pick)
        yield row(op, f"(f_{op} t a b)", *_A, *_B, *low, *high, *_BOUNDED)
    low, high = _wider(_corners("min", "*"), _corners("max", "*"))
    yield row("mul", "(f_mul t a b)", *_A, *_B, *low, *high, *_BOUNDED)
    # One end alone: what is not negative often has no known upper end.
    low, _ = _wider("(+ (flo a) (flo b))", "0.0")
    yield row("add_low", "(f_add t a b)", *low, f"(>= l -{_LARGE})", actions=_SET[:1])
    low, high = _wider("(min 0.0 (/ la lb))", "(max 0.0 (/ ha lb))")
    yield row("div", "(f_div t a b)", *_A, "(= lb (flo b))", "(> lb 0.0)", *low, *high, *_BOUNDED)
    for op in ("min", "max", "fmin", "fmax"):
        one, other, hull = ("flo", "fhi", "max") if op.endswith("max") else ("fhi", "flo", "min")
        for side in ("a", "b"):
            notnan = (f"(NotNan {side})",) if op.startswith("f") else ()  # fmin and fmax drop a NaN
            yield row(f"{op}_{side}", f"(f_{op} t a b)", *notnan, f"(= k ({one} {side}))", actions=(f"(set ({one} e) k)",))
        both = f"(= k ({hull} ({other} a) ({other} b)))"
        yield row(f"{op}_hull", f"(f_{op} t a b)", both, actions=(f"(set ({other} e) k)",))
    yield row("select_low", "(f_select t c a b)", "(= l (min (flo a) (flo b)))", actions=_SET[:1])
    yield row("select_high", "(f_select t c a b)", "(= h (max (fhi a) (fhi b)))", actions=_SET[1:])
    # Documented errors are a few ulp.
    for op, bound in (("sin", 1), ("cos", 1), ("tanh", 1), ("erf", 1), ("sign", 1), ("atan", 1.5708), ("asin", 1.5708)):
        yield row(op, f"(f_{op} t a)", f"(= h {bound * (1.0 if op == 'sign' else 1.000001)!r})", "(= l (neg h))")
    yield row("acos", "(f_acos t a)", "(= l 0.0)", "(= h 3.1416)")
    # exp underflows to zero; its base is a little more than e, for positive arguments.
    for op, base in (("exp", "2.718281829"), ("exp2", "2.0")):
        rising = f"(= h (* 1.00001 (^ {base} (fhi a))))"
        yield row(f"{op}_high", f"(f_{op} t a)", rising, f"(<= h {_LARGE})", actions=_SET[1:])
        falling = f"(= l (* 0.99999 (^ {base} (flo a))))"
        yield row(f"{op}_low", f"(f_{op} t a)", "(> (flo a) -80.0)", falling, f"(<= l {_LARGE})", actions=_SET[:1])
    yield row("sqrt_high", "(f_sqrt t a)", "(>= (fhi a) 0.0)", "(= h (* 1.000001 (^ (fhi a) 0.5)))", actions=_SET[1:])
    yield row("sqrt_low", "(f_sqrt t a)", "(>= (flo a) 0.0)", "(= l (* 0.999999 (^ (flo a) 0.5)))", actions=_SET[:1])
    for cast in ("c_f32", "c_f64"):
        for source, of, (low_of, high_of) in (("float", "(>= t 3)", ("flo", "fhi")), ("int", "(<= t 2)", ("lo", "hi"))):
            value = "{}" if source == "float" else "(to-f64 {})"
            low, high = _wider(value.format(f"({low_of} a)"), value.format(f"({high_of} a)"))
            yield row(f"{cast}_{source}_low", f"({cast} t a)", of, *low, actions=_SET[:1])
            yield row(f"{cast}_{source}_high", f"({cast} t a)", of, *high, actions=_SET[1:])
    yield row("max_reduce", "(R_max t x p q a)", "(>= t 3)", "(= h (fhi a))", actions=_SET[1:])  # over nothing: -inf
    yield row("min_reduce", "(R_min t x p q a)", "(>= t 3)", "(= l (flo a))", actions=_SET[:1])
    yield "nonneg", ("(NonNeg e)",), ("(set (flo e) 0.0)",)
    yield "positive", ("(> (flo e) 0.0)", "(NotNan e)"), ("(Positive e)",)
    yield "from_zero", ("(>= (flo e) 0.0)",), ("(NonNeg e)",)
    yield "below_zero", ("(< (fhi e) 0.0)",), ("(NonZero e)",)
    yield "finite", ("(NotNan e)", f"(>= (flo e) -{_LARGE})", f"(<= (fhi e) {_LARGE})"), ("(Finite e)",)

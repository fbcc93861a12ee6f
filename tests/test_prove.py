"""The prover: wrong rules are refuted, right ones proved by the method that fits, and what is not proved does not hold."""

import ml_dtypes
import numpy as np
import pytest
import z3

from kernel_ir.dtypes import BOOL, F32, F64, I32, I64
from kernel_ir.fastmath import Flag
from kernel_ir.ops import OPS
from rewrites.books import load_book
from rewrites.pattern import Apply, Var
from rewrites.prove import check_rule
from rewrites.prove_small import FORMATS, encoded, values
from rewrites.prove_sweep import parity, reference_fault
from rewrites.prove_terms import Encoding, Unsupported


def one(text):
    (rule,) = load_book(f"rule r: {text}\n")
    return rule


WRONG = [
    # classics
    "x * 0.0 => 0.0",
    "x / x => 1.0",
    "x / x => 1.0 if nonzero(x)",
    "(a * b) / b => a",
    "(a * b) // b => a on int",
    "(a * b) // b => a on int if b != 0",
    "a < a + 1 => true on int",
    "0 < a - b => b < a on int",
    "max(a, b) => (a if a > b else b) on float",
    "abs(x) >= 0 => true on int",
    "-x // n => -(x // n) on int",
    "x // (a * b) => (x // a) // b on int",
    "x % n + y % n => (x + y) % n on int",
    "(x + y) // n => x // n + y // n on int",
    "x // n * n <= x => true on int",
    "(x * 2) // 2 => x on int",
    "x >> 1 => x // 2 + 1 on int",
    "(x + n - 1) // n => x // n + 1 on int if n > 0",
    "min(i: c * f) <=> c * min(i: f) if i not in c, c > 0.0, notnan(c)",
    "((x + c) // n) * n - x => -x % n on int if is_const(c), is_const(n), n > 0, c + 1 == n, nowrap(x + c)",
    "(x + c) // d => min(x, 1) on int if is_const(c), is_const(d), d > 0, c + 1 == d, 0 <= x, x <= d",
    "max(a + c, b + c) => max(a, b) + c on float",
    # zeros
    "0.0 - x => -x",
    "x + 0.0 => x",
    # the flag that is given licenses something else
    "(a + b) + c => a + (b + c) needs contract",
    "(a + b) + c => a + (b + c) needs arcp",
    "(a + b) + c => a + (b + c) needs afn",
    "(a + b) - b => a needs contract",
    "(a + b) - b => a needs afn",
    "exp(a) * exp(b) => exp(a + b) needs reassoc",
    "a * b + c => fma(a, b, c) needs nnan",
    "1.0 / (1.0 + exp(-x)) * (1.0 - 1.0 / (1.0 + exp(-x))) => exp(-x) / ((1.0 + exp(-x)) * (1.0 + exp(-x))) needs afn, ninf",
    # nearly everywhere is not everywhere
    "a < b => a <= b on float needs reassoc",
    "a == b => false on float needs reassoc",
    "floor(x) => ceil(x) - 1.0 needs reassoc",
    "(a if x == 12345.678 else b) => b needs reassoc",
    "f16(x) => x on f32 needs reassoc",
    "f64(f32(x)) => x needs afn",
    "x * 1.0000000000000002 => x needs reassoc",
    "x + 1e-60 => x needs reassoc",
    "sqrt(x) * sqrt(x) => x needs afn",
    "a * b - c => fma(a, b, -c) on float needs reassoc",
    "log(a * b) => log(a) + log(b) needs afn",
    # approximations
    "tanh(x) => x * (27.0 + x * x) / (27.0 + 9.0 * x * x) if -3.0 <= x, x <= 3.0 needs afn within 1e-2",
    "tanh(x) => x * (27.0 + x * x) / (27.0 + 9.0 * x * x) needs afn within 2.4e-2",
    "exp(x) => 1.0 + x if x <= 0.1 needs afn within 1e-2",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_rule_does_not_hold(text):
    assert not check_rule(one(text)).holds


PROVED = [
    ("a + b => b + a on int", "z3 bit vectors", "all i32; all i64"),
    ("(a * n + b) // n => a on int if 0 <= b, b < n, nowrap(a * n + b)", "z3 integers", "all i32; all i64"),
    ("x * 1.0 => x", "z3 floats", "all f32; all f64; edge grids of f32 and f64"),
    ("add == add => true on int", "z3 bit vectors", "all i32; all i64"),
    ("abs(exp(x)) => exp(x)", "exhaustive", "all values of e5m2 and e4m3; edge grids of f32 and f64"),
    ("sum(i: f + g) <=> sum(i: f) + sum(i: g) on int", "normal forms", "all i32; all i64; reductions of 0 to 4 terms"),
    ("sum(i: sum(j: a)) => sum(j: sum(i: a)) on f32", "z3 multisets", "any meaning of the float operations; reductions of 0 to 4 terms"),
    ("(a + b) + c <=> a + (b + c) on float needs reassoc", "sympy", "the reals; 50 digits at 80 random points"),
    ("log(a / b) => log(a) - log(b) if a > 0.0, b > 0.0 needs afn", "sympy", "the reals; 50 digits at 80 random points"),
    ("a * b + c => fma(a, b, c) needs contract", "identity", "edge grids of f32 and f64"),
]


@pytest.mark.parametrize(("text", "method", "domain"), PROVED)
def test_method_and_domain(text, method, domain):
    verdict = check_rule(one(text))
    assert (verdict.holds, verdict.method, verdict.domain) == (True, method, domain), verdict


PADE = "tanh(x) => x * (27.0 + x * x) / (27.0 + 9.0 * x * x) on {} if {} needs afn within 2e-2"


def test_approximation_is_measured_at_every_f32():
    verdict = check_rule(one(PADE.format("f32", "0.5 <= x, x <= 1.0")))
    assert verdict.holds
    assert (verdict.method, verdict.domain) == (
        "measured",
        "every f32 of [0.5, 1] (8,388,609 values) and NaN, in f32: worst error 0.0162",
    )


def test_error_at_one_single_f32_is_found():
    """1 / (x - 1.25) + x is wrong next to 1.25 alone: at a value that no coarse grid meets."""
    close = float(np.nextafter(np.float32(0.7000123), np.float32(1)))
    text = f"sin(x) => x * x * (x - {close!r}) / (x - {close!r}) on f32 if 0.5 <= x, x <= 1.0 needs afn within 2.0"
    verdict = check_rule(one(text))
    assert not verdict.holds
    assert f"x={close!r}" in verdict.why


def test_f64_and_functions_are_sampled_and_say_so():
    verdict = check_rule(one(PADE.format("f64", "0.5 <= x, x <= 1.0")))
    assert verdict.holds
    assert "each 3th f32" in verdict.domain or "in f64" in verdict.domain


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("tanh(x) => x * (27.0 + x * x)", ("odd", "odd")),
        ("cos(x) => 1.0 - x * x", ("even", "even")),
        ("exp(x) => 1.0 + x", ("", "")),
        ("sin(x) => x ** 3 - x", ("odd", "odd")),
    ],
)
def test_parity(text, sides):
    rule = one(f"{text} needs afn")
    assert (parity(rule.lhs), parity(rule.rhs)) == sides


def test_reference_is_compared_with_more_digits():
    points = np.linspace(0.1, 3.0, 9).astype(np.float32)
    assert not reference_fault(one("tanh(x) => x needs afn").lhs, points)
    assert "no reference" in reference_fault(one("(x + 1e20) - 1e20 => x needs reassoc").lhs, points)


def test_guards_and_flags_that_are_not_needed_are_told():
    assert check_rule(one("x * 1.0 => x if notnan(x)")).spare_guards == ("notnan(x)",)
    assert check_rule(one("x - x => 0.0 if finite(x)")).spare_guards == ()
    assert check_rule(one("x - x => 0.0 needs nnan, ninf")).spare == {Flag.NINF}


def test_out_of_time_is_no_proof():
    verdict = check_rule(one("x * 1.0 => x"), seconds=1e-9)
    assert not verdict.holds
    assert not verdict.refuted


def test_small_formats_round_as_ml_dtypes():
    rng = np.random.default_rng(0)
    for form, dtype in zip(FORMATS[:2], (ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3), strict=True):
        table = values(form)
        finite = table[: form.infinity]
        x = np.concatenate([rng.standard_normal(20_000) * np.exp2(rng.integers(-20, 20, 20_000)), table, (finite[1:] + finite[:-1]) / 2])
        x = x.astype(np.float32)
        with np.errstate(all="ignore"):
            theirs = x.astype(dtype).astype(np.float64)
        ours = table[encoded(x.astype(np.float64), form)]
        assert np.array_equal(ours, theirs, equal_nan=True)
        assert np.array_equal(np.signbit(ours[~np.isnan(ours)]), np.signbit(theirs[~np.isnan(theirs)]))


VALUES = {
    BOOL: [False, True],
    I32: [0, 1, -1, 7, -8, 33, 2**31 - 1, -(2**31)],
    I64: [0, 1, -1, 7, -8, 65, 2**63 - 1, -(2**63)],
    F32: [0.0, -0.0, 1.5, -2.5, 3e38, 1e-45, float("inf"), float("-inf"), float("nan")],
    F64: [0.0, -0.0, 1.5, -2.5, 1e308, 5e-324, float("inf"), float("nan")],
}


@pytest.mark.parametrize("name", [op.name for op in OPS.values() if op.signature in ("T->T", "TT->T", "TT->b", "bb->b", "b->b")])
def test_translation_to_z3_means_what_the_op_table_says(name):
    """Each op at edge values: the z3 term, simplified, is the reference's bits."""
    op = OPS[name]
    tried = 0
    for dtype in (t for t in (I32, I64, F32, F64, BOOL) if t in op.types.value):
        encoding = Encoding({1: dtype, 2: op.result((dtype,) * op.arity)})
        pattern = Apply(name, tuple(Var(f"v{i}", 1) for i in range(op.arity)), 1, 2)
        try:
            term = encoding.value(pattern)
        except Unsupported:
            continue
        if encoding.opaque or (name in ("min", "max", "fmin", "fmax") and dtype.is_float):
            continue
        for first in VALUES[dtype]:
            for second in VALUES[dtype][:: 1 if op.arity == 2 else 100]:
                chosen = (first, second)[: op.arity]
                with np.errstate(all="ignore"):
                    expected = op.numpy(*(np.array([v], dtype.numpy) for v in chosen))[0]
                given = [(z3.Const(f"v{i}", encoding.sort(dtype)), literal(encoding, dtype, v)) for i, v in enumerate(chosen)]
                want = literal(encoding, op.result((dtype,) * op.arity), expected.item())
                assert z3.is_true(z3.simplify(z3.substitute(term, *given) == want)), (dtype, chosen, expected)
                tried += 1
    assert tried or name not in ("add", "sub", "mul", "floordiv", "mod", "lt", "band", "shl", "shr", "and")


def literal(encoding, dtype, value):
    if dtype is BOOL:
        return z3.BoolVal(bool(value))
    return z3.FPVal(value, encoding.sort(dtype)) if dtype.is_float else z3.BitVecVal(int(value), encoding.sort(dtype))

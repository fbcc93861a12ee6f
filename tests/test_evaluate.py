"""The reference evaluator against hand-computed results: every op of the table on every dtype, every form of statement."""

import math
import warnings

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.dtypes import ARITHMETIC, BOOL, DTYPES, F32, F64, I32, I64, DType
from kernel_ir.errors import ArgumentError, BoundsError
from kernel_ir.evaluate import evaluate, evaluate_expr
from kernel_ir.nodes import Assign, Binder, Call, IndexRef, Load, Local, Reduce, SizeRef, const
from kernel_ir.ops import OPS

INF, NAN = math.inf, math.nan
I32_MIN, I64_MIN = -(2**31), -(2**63)

FLOAT_CASES: dict[str, list[tuple[tuple[float, ...], float | bool]]] = {
    "add": [((1.5, 2.25), 3.75), ((INF, -INF), NAN), ((-0.0, 0.0), 0.0)],
    "sub": [((1.5, 2.25), -0.75), ((INF, INF), NAN)],
    "mul": [((1.5, -2.0), -3.0), ((0.0, INF), NAN)],
    "div": [((1.0, 4.0), 0.25), ((1.0, 0.0), INF), ((1.0, -0.0), -INF), ((0.0, 0.0), NAN)],
    "floordiv": [((7.0, 2.0), 3.0), ((-7.0, 2.0), -4.0)],
    "mod": [((7.0, 2.0), 1.0), ((-7.0, 2.0), 1.0), ((7.0, -2.0), -1.0)],
    "neg": [((1.5,), -1.5), ((0.0,), -0.0)],
    "pow": [((2.0, 0.5), math.sqrt(2.0)), ((-8.0, 1.5), NAN), ((0.0, 0.0), 1.0)],
    "lt": [((1.0, 2.0), True), ((2.0, 2.0), False), ((NAN, 1.0), False)],
    "le": [((2.0, 2.0), True), ((NAN, NAN), False)],
    "gt": [((2.0, 1.0), True), ((NAN, 1.0), False)],
    "ge": [((2.0, 2.0), True), ((1.0, 2.0), False)],
    "eq": [((0.0, -0.0), True), ((NAN, NAN), False)],
    "ne": [((NAN, NAN), True), ((1.0, 1.0), False)],
    "abs": [((-1.5,), 1.5), ((-INF,), INF), ((-0.0,), 0.0)],
    "sign": [((-3.0,), -1.0), ((0.0,), 0.0), ((NAN,), NAN)],
    "floor": [((-1.5,), -2.0)],
    "ceil": [((-1.5,), -1.0), ((-0.5,), -0.0)],
    "round": [((2.5,), 2.0), ((3.5,), 4.0)],
    "trunc": [((-1.75,), -1.0)],
    "sqrt": [((2.25,), 1.5), ((-1.0,), NAN), ((-0.0,), -0.0)],
    "fma": [((2.0, 3.0, 4.0), 10.0), ((INF, 0.0, 1.0), NAN)],
    "min": [((1.0, 2.0), 1.0), ((NAN, 1.0), NAN), ((1.0, NAN), NAN)],
    "max": [((1.0, 2.0), 2.0), ((NAN, 1.0), NAN)],
    "fmin": [((NAN, 1.0), 1.0), ((NAN, NAN), NAN)],
    "fmax": [((1.0, NAN), 1.0)],
    "rsqrt": [((4.0,), 0.5), ((0.0,), INF)],
    "cbrt": [((-27.0,), -3.0)],
    "exp": [((0.0,), 1.0), ((-INF,), 0.0), ((1.0,), math.e)],
    "exp2": [((3.0,), 8.0)],
    "expm1": [((0.0,), 0.0), ((-INF,), -1.0)],
    "log": [((1.0,), 0.0), ((0.0,), -INF), ((-1.0,), NAN)],
    "log2": [((8.0,), 3.0)],
    "log10": [((1000.0,), 3.0)],
    "log1p": [((0.0,), 0.0), ((-1.0,), -INF)],
    "sin": [((0.0,), 0.0), ((INF,), NAN)],
    "cos": [((0.0,), 1.0)],
    "tan": [((0.0,), 0.0)],
    "asin": [((1.0,), math.pi / 2), ((2.0,), NAN)],
    "acos": [((1.0,), 0.0)],
    "atan": [((INF,), math.pi / 2)],
    "atan2": [((1.0, -1.0), 3 * math.pi / 4), ((0.0, -0.0), math.pi)],
    "sinh": [((0.0,), 0.0)],
    "cosh": [((0.0,), 1.0)],
    "tanh": [((INF,), 1.0), ((-INF,), -1.0)],
    "erf": [((0.0,), 0.0), ((INF,), 1.0)],
    "hypot": [((3.0, 4.0), 5.0), ((INF, NAN), INF)],
}
INT_CASES: dict[str, list[tuple[tuple[int, ...], int | bool]]] = {
    "add": [((2, 3), 5)],
    "sub": [((2, 3), -1)],
    "mul": [((-2, 3), -6)],
    "floordiv": [((7, 2), 3), ((-7, 2), -4), ((7, 0), 0)],
    "mod": [((-7, 2), 1), ((7, -2), -1), ((7, 0), 0)],
    "neg": [((5,), -5)],
    "lt": [((1, 2), True)],
    "le": [((2, 2), True)],
    "gt": [((1, 2), False)],
    "ge": [((2, 2), True)],
    "eq": [((2, 2), True)],
    "ne": [((2, 2), False)],
    "band": [((12, 10), 8), ((-1, 5), 5)],
    "bor": [((12, 10), 14)],
    "bxor": [((12, 10), 6)],
    "bnot": [((0,), -1)],
    "shl": [((1, 4), 16), ((1, 64), 0), ((1, -1), 0)],
    "shr": [((-16, 2), -4), ((-16, 64), -1), ((16, 64), 0)],
    "abs": [((-5,), 5)],
    "sign": [((-5,), -1), ((0,), 0)],
    "min": [((1, -2), -2)],
    "max": [((1, -2), 1)],
}
BOOL_CASES = {
    "and": [((True, False), False), ((True, True), True)],
    "or": [((True, False), True), ((False, False), False)],
    "not": [((True,), False)],
    "eq": [((True, True), True)],
    "ne": [((True, False), True)],
}
EXTREMES = [
    ("add", I32, (2**31 - 1, 1), I32_MIN),
    ("add", I64, (2**63 - 1, 1), I64_MIN),
    ("mul", I32, (65536, 65536), 0),
    ("neg", I32, (I32_MIN,), I32_MIN),
    ("abs", I64, (I64_MIN,), I64_MIN),
    ("floordiv", I32, (I32_MIN, -1), I32_MIN),
    ("mod", I32, (I32_MIN, -1), 0),
    ("fma", F32, (float(np.float32(0.1)), 10.0, -1.0), float(np.float32(0.1)) * 10.0 - 1.0),
    ("fma", F64, (0.1, 10.0, -1.0), 5.551115123125783e-17),
    ("add", F32, (16777216.0, 1.0), 16777216.0),
    ("mul", F32, (1e-30, 1e-10), 1e-40),
]


def apply(op: str, args: tuple[object, ...], dtype: DType) -> object:
    names = [Local(f"a{n}", dtype) for n in range(len(args))]
    result = OPS[op].result(tuple(n.dtype for n in names))
    assert result is not None
    values = {f"a{n}": np.asarray(v, dtype.numpy) for n, v in enumerate(args)}
    value = evaluate_expr(Call(op, tuple(names), result), values)
    assert value.dtype == result.numpy
    return value.item()


def same(value: object, expected: object, dtype: DType, ulp: float) -> bool:
    if isinstance(expected, float) and isinstance(value, float):
        if math.isnan(expected):
            return math.isnan(value)
        rounded = float(dtype.numpy.type(expected))
        if ulp == 0 or math.isinf(rounded) or rounded == 0:
            return value == rounded and math.copysign(1, value) == math.copysign(1, rounded)
        return abs(value - rounded) <= float(np.spacing(dtype.numpy.type(abs(rounded))))
    return value == expected


TABLE = [
    (op, dtype, args, expected)
    for cases, dtypes in ((FLOAT_CASES, (F32, F64)), (INT_CASES, (I32, I64)), (BOOL_CASES, (BOOL,)))
    for op, rows in cases.items()
    for dtype in dtypes
    for args, expected in rows
] + EXTREMES


@pytest.mark.parametrize(("op", "dtype", "args", "expected"), TABLE)
def test_op(op: str, dtype: DType, args: tuple[object, ...], expected: object) -> None:
    assert same(apply(op, args, dtype), expected, dtype, OPS[op].ulp)


def test_every_op_has_a_case() -> None:
    covered = {*FLOAT_CASES, *INT_CASES, *BOOL_CASES, "select", "powi", *DTYPES}
    assert covered == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_every_dtype_of_an_op_has_a_case(op: str) -> None:
    if op in ("select", "powi") or OPS[op].cast is not None:
        return
    wanted = {d for d in ARITHMETIC if OPS[op].result((d,) * OPS[op].arity) is not None}
    assert wanted == {dtype for name, dtype, _, _ in TABLE if name == op}


@pytest.mark.parametrize("dtype", ARITHMETIC)
def test_select(dtype: DType) -> None:
    a, b, c = Local("a", dtype), Local("b", dtype), Local("c", BOOL)
    value = evaluate_expr(Call("select", (c, a, b), dtype), {"a": 1, "b": 0, "c": np.array([True, False])})
    assert value.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [I32, I64, F32, F64])
@pytest.mark.parametrize(("base", "exponent", "expected"), [(3, 0, 1), (3, 1, 3), (-3, 2, 9), (-3, 3, -27), (2, 10, 1024)])
def test_powi(dtype: DType, base: int, exponent: int, expected: int) -> None:
    value = evaluate_expr(Call("powi", (Local("a", dtype), const(exponent, I64)), dtype), {"a": base})
    assert value == expected


@pytest.mark.parametrize(
    ("to", "source", "value", "expected"),
    [
        ("i32", F64, 2.9, 2), ("i32", F64, -2.9, -2), ("i32", F64, 1e20, 2**31 - 1), ("i32", F64, NAN, 0), ("i64", F32, -INF, I64_MIN),
        ("f32", F64, 0.1, 0.10000000149011612), ("f32", I64, 2**24 + 1, 2.0**24), ("f64", I64, 7, 7.0), ("bool", F32, NAN, True),
        ("bool", I32, 0, False), ("i8", I32, 200, -56), ("u8", I32, -1, 255), ("i16", I32, 40000, -25536), ("u16", I32, -1, 65535),
        ("u32", I64, -1, 2**32 - 1), ("u64", I64, -1, -1), ("f16", F32, 65520.0, INF), ("f16", F32, 1.0005, 1.0009765625),
        ("bf16", F32, 1.00390625, 1.0), ("bf16", F32, 1.01171875, 1.015625), ("i32", BOOL, True, 1), ("f32", BOOL, True, 1.0),
    ],
)  # fmt: skip
def test_cast(to: str, source: DType, value: object, expected: object) -> None:
    assert apply(to, (value,), source) == expected


CAST_TARGETS = {"i32", "i64", "f32", "f64", "bool", "i8", "u8", "i16", "u16", "u32", "u64", "f16", "bf16"}


def test_every_cast_has_a_case() -> None:
    assert set(DTYPES) == CAST_TARGETS


def run(text: str, **inputs: object) -> object:
    module = kir.parse(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return next(iter(module.values()))(**inputs)


A = np.array([3.0, 1.0, 2.0])
M = np.arange(6.0).reshape(2, 3)

STATEMENTS = [
    ("elementwise", "(x: f64[N]) -> (y: f64[N]) { y[i] = 2.0 * x[i] + 1.0 }", {"x": A}, [7.0, 3.0, 5.0]),
    ("transposed target", "(x: f64[N, M]) -> (y: f64[M, N]) { y[j, i] = x[i, j] }", {"x": M}, [[0, 3], [1, 4], [2, 5]]),
    ("scalar output", "(x: f64[N]) -> (s: f64) { s = sum(i: x[i]) }", {"x": A}, 6.0),
    ("temporary", "(x: f64[N]) -> (y: f64[N]) { s = sum(i: x[i])\n y[i] = x[i] / s }", {"x": A}, [0.5, 1 / 6, 1 / 3]),
    ("else", "(x: f64[N]) -> (y: f64[N]) { y[i] = x[i-1 else 9.0] }", {"x": A}, [9.0, 3.0, 1.0]),
    ("dependent range", "(x: f64[N]) -> (y: f64[N]) { y[i] = sum(j in 0..i+1: x[j]) }", {"x": A}, [3.0, 4.0, 6.0]),
    ("over nothing", "(x: f64[N]) -> (y: f64[N]) { y[i] = max(j in 0..i: x[j]) }", {"x": A}, [-INF, 3.0, 3.0]),
    ("prod", "(x: f64[N]) -> (y: f64[N]) { y[i] = prod(j in 0..i: x[j]) }", {"x": A}, [1.0, 3.0, 3.0]),
    ("min", "(x: f64[N]) -> (y: f64[N]) { y[i] = min(j in 0..i: x[j]) }", {"x": A}, [INF, 3.0, 1.0]),
    ("any", "(x: f64[N]) -> (y: i32[N]) { y[i] = 1 if any(j in 0..i: x[j] < 2.0) else 0 }", {"x": A}, [0, 0, 1]),
    ("all", "(x: f64[N]) -> (y: i32[N]) { y[i] = 1 if all(j in 0..i: x[j] > 2.0) else 0 }", {"x": A}, [1, 1, 0]),
    ("NaN in max", "(x: f64[N]) -> (s: f64) { s = max(i: x[i]) }", {"x": np.array([1.0, NAN, 2.0])}, NAN),
    ("argmax ties", "(x: f64[N]) -> (s: i64) where N >= 1 { s = argmax(i: x[i]) }", {"x": np.array([1.0, 2.0, 2.0])}, 1),
    ("argmin NaN", "(x: f64[N]) -> (s: i64) where N >= 1 { s = argmin(i: x[i]) }", {"x": np.array([1.0, NAN, NAN])}, 1),
    ("argmax from 1", "(x: f64[N]) -> (s: i64) where N >= 2 { s = argmax(i in 1..N: x[i]) }", {"x": A}, 2),
    ("expsum", "(x: f64[N]) -> (s: f64) { s = expsum(i: x[i], 1.0) }", {"x": np.array([1000.0, 1000.0])}, 2.0),
    ("expsum of -inf", "(x: f64[N]) -> (s: f64) { s = expsum(i: x[i], 1.0) }", {"x": np.array([-INF, -INF])}, NAN),
    ("expsum of nothing", "(x: f64[N]) -> (s: f64) { s = expsum(i: x[i], 1.0) }", {"x": np.zeros(0)}, 0.0),
    ("two indices", "(x: f64[N, N]) -> (s: f64) { s = sum(i, j in 0..i+1: x[i, j]) }", {"x": np.arange(9.0).reshape(3, 3)}, 28.0),
    ("fold", "(x: f64[N]) -> (y: f64[N]) { y[i] = fold(k in 0..3, z = x[i]: z * 2.0).z }", {"x": A}, [24.0, 8.0, 16.0]),
    ("fold while", "(x: f64[N]) -> (y: i64[N]) { y[i] = fold(k in 0..9, z = x[i], n = 0 while z < 10.0: z * 2.0, n + 1).n }", {"x": A},
     [2, 4, 3]),
    ("fold sees the step before", "(x: f64[N]) -> (s: f64) { s = fold(k in 0..4, a = 0.0, b = 1.0: b, a + b).a }", {"x": A}, 3.0),
    ("parts", "(x: f64[N]) -> (y: f64[N]) where N >= 2 { y[0] = 5.0\n y[i] = x[i] for i in 1..N }", {"x": A}, [5.0, 1.0, 2.0]),
    ("otherwise",
     "(x: f64[N]) -> (y: f64[N]) where N >= 2 { y[i] = 0.0 for i in 1..N-1\n y[i] = x[i] otherwise }", {"x": A}, [3.0, 0.0, 2.0]),
    ("accumulate", "(p: i64[N], x: f64[N]) -> (h: f64[B]) where 0 <= p, p < B { h[p[i]] += x[i] for i in 0..N }",
     {"p": np.array([1, 1, 0]), "x": A, "B": 2}, [2.0, 4.0]),
    ("accumulate where", "(p: i64[N], x: f64[N]) -> (h: f64[B]) { h[p[i]] += x[i] for i in 0..N where 0 <= p[i] and p[i] < B }",
     {"p": np.array([1, 7, -1]), "x": A, "B": 2}, [0.0, 3.0]),
    ("max=", "(p: i64[N], x: f64[N]) -> (h: f64[B]) where 0 <= p, p < B { h[p[i]] max= x[i] for i in 0..N }",
     {"p": np.array([1, 1, 0]), "x": A, "B": 3}, [2.0, 3.0, 0.0]),
    ("min=", "(p: i64[N], x: f64[N]) -> (h: f64[B]) where 0 <= p, p < B { h[p[i]] min= -x[i] for i in 0..N }",
     {"p": np.array([1, 1, 0]), "x": A, "B": 3}, [-2.0, -3.0, 0.0]),
    ("integers wrap on writing", "(x: i32[N]) -> (y: u8[N]) { y[i] = x[i] }", {"x": np.array([-1, 256, 300], np.int32)}, [255, 0, 44]),
    ("f16 rounds on writing", "(x: f32[N]) -> (y: f16[N]) { y[i] = x[i] }", {"x": np.array([1.0005, 1e6], np.float32)},
     [1.0009765625, INF]),
    ("division by zero", "(x: i64[N]) -> (y: i64[N]) { y[i] = 5 // x[i] + 5 % x[i] }", {"x": np.array([0, 2])}, [0, 3]),
    ("data-dependent read", "(x: f64[N], p: i64[M]) -> (y: f64[M]) where 0 <= p, p < N { y[i] = x[p[i]] }",
     {"x": A, "p": np.array([2, 0])}, [2.0, 3.0]),
    ("empty", "(x: f64[N]) -> (y: f64[N]) { y[i] = x[i] + 1.0 }", {"x": np.zeros(0)}, []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "inputs", "expected"), [case[1:] for case in STATEMENTS], ids=[case[0] for case in STATEMENTS])
def test_statement(text: str, inputs: dict[str, object], expected: object) -> None:
    result = run("kernel k" + text, **inputs)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_inout_reads_old_values_and_keeps_the_rest() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert run("kernel k(inout a: f64[N]) where N >= 2 { a[i] = a[i-1] + a[i] for i in 1..N-1 }", a=a) is None
    assert a.tolist() == [1.0, 3.0, 5.0, 4.0]


def test_repeat_runs_in_order_and_counts() -> None:
    a = np.array([1.0, 1.0])
    run("kernel k(inout a: f64[N], steps: i64) { repeat t in steps { a[i] = a[i] * 2.0 + f64(t) } }", a=a, steps=3)
    assert a.tolist() == [12.0, 12.0]


def test_several_outputs_come_as_a_named_tuple() -> None:
    result = run("kernel k(x: f64[N]) -> (lo: f64, hi: f64) { lo = min(i: x[i])\n hi = max(i: x[i]) }", x=A)
    assert result._fields == ("lo", "hi") and tuple(result) == (1.0, 3.0)


def test_evaluate_leaves_its_inputs_alone() -> None:
    k = kir.parse("kernel k(inout a: f64[N]) { a[i] = 0.0 }")["k"]
    a = np.ones(3)
    assert evaluate(k, {"a": a}, {"N": 3})["a"].tolist() == [0, 0, 0] and a.tolist() == [1, 1, 1]


def test_an_index_outside_an_accumulation_is_an_error() -> None:
    n, i = SizeRef("N"), IndexRef("i")
    k = kir.parse("kernel k(p: i64[N]) -> (h: f64[N]) where 0 <= p, p < N { h[p[i]] += 1.0 for i in 0..N }")["k"]
    loose = Assign("h", (Load("p", (i,), I64),), "+=", const(1.0, F64), (Binder("i", const(0, I64), n),))
    wrong = type(k)(k.name, k.params, k.outputs, (), (loose,), k.sizes, ())
    with pytest.raises(BoundsError, match="index 5 is outside 'h'"):
        evaluate(wrong, {"p": np.array([0, 5])}, {"N": 2})


def test_argmax_of_nothing_is_an_error() -> None:
    e = Reduce("argmax", (Binder("i", const(0, I64), const(0, I64)),), (const(1.0, F64),), I64)
    with pytest.raises(ArgumentError, match="argmax over nothing"):
        evaluate_expr(e, {})


def test_large_statements_run_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "kernel k(x: f64[N, M]) -> (y: f64[N]) { y[i] = sum(j in 0..i+1: x[i % N, j else 1.0] * 2.0) }"
    k = kir.parse(text)["k"]
    x = np.random.default_rng(0).standard_normal((37, 11))
    whole = evaluate(k, {"x": x}, {"N": 37, "M": 11})["y"]
    monkeypatch.setattr("kernel_ir.interpret.CHUNK", 7)
    np.testing.assert_allclose(evaluate(k, {"x": x}, {"N": 37, "M": 11})["y"], whole, rtol=1e-14)


def test_lanes_of_an_expression() -> None:
    x = Local("x", F64)
    j = IndexRef("j")
    e = Reduce("sum", (Binder("j", const(0, I64), const(3, I64)),), (Call("mul", (x, Load("a", (j,), F64)), F64),), F64)
    value = evaluate_expr(e, {"x": np.array([[1.0, 2.0]])}, arrays={"a": (A, F64)})
    assert value.tolist() == [[6.0, 12.0]]


def test_fma_of_f64_is_rounded_once() -> None:
    """What sums without error settle is what rational arithmetic gives, near ties, cancellation and the ends of the range as well."""
    from fractions import Fraction

    from kernel_ir.meaning import fma

    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 3000))
    near = 1.0 + rng.integers(0, 2**26, (2, 3000)) * 2.0**-26
    cases = [
        (a, b, c),
        (a, b, -a * b),
        (a, b, -a * b * (1.0 + 2.0**-52)),
        (near[0], near[1], np.ldexp(rng.choice([-1.0, 1.0, 0.5, 3.0], 3000), rng.integers(-60, 56, 3000))),
        tuple(np.ldexp(x, rng.integers(-1070, 340, 3000)) for x in (a, b, c)),
    ]
    for x, y, z in cases:
        wanted = [float(Fraction(p) * Fraction(q) + Fraction(r)) for p, q, r in zip(x.tolist(), y.tolist(), z.tolist(), strict=True)]
        assert np.array_equal(fma(x, y, z), wanted)

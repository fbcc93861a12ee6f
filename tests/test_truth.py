"""Truth against mpmath: its value is exact enough, its bound holds for working-precision results, and unknown means unknown."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import kernel_ir as kir
from kernel_ir import meaning
from kernel_ir.dtypes import F32, F64, I64, DType
from kernel_ir.evaluate import evaluate
from kernel_ir.fastmath import flags
from kernel_ir.generate import kernels
from kernel_ir.inputs import sampled
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, IndexRef, Kernel, Load, Local, Param, SizeRef, const
from kernel_ir.ops import OPS
from kernel_ir.truth import SLACK, is_exact, judge, truth, truth_expr, zero_signs_matter

KERNELS = Path(__file__).parent.parent / "examples" / "kernels"
INF, NAN = math.inf, math.nan
FLOAT_OPS = sorted(
    name
    for name, op in OPS.items()
    if op.cast is None and op.mpmath is not None and (r := op.result((F32,) * op.arity)) is not None and r.is_float and name != "powi"
)


def op_kernel(op: str, dtype: DType) -> Kernel:
    """`y[i] = op(a0[i], a1[i], …)`."""
    i, n = IndexRef("i"), SizeRef("N")
    names = [f"a{k}" for k in range(OPS[op].arity)]
    value = Call(op, tuple(Load(name, (i,), dtype) for name in names), dtype)
    array = ArrayType(dtype, (n,))
    body = (Assign("y", (i,), "=", value, (Binder("i", const(0, I64), n),)),)
    return Kernel("k", tuple(Param(name, array) for name in names), (Param("y", array),), (), body, ("N",), ())


def operands(op: str, dtype: DType, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(map(ord, op)))
    arrays = []
    for _ in range(OPS[op].arity):
        x = rng.standard_normal(count) * 10.0 ** rng.uniform(-3, 2, count)
        x = np.clip(x, -1, 1) if op in ("asin", "acos", "exp", "pow", "expm1", "exp2", "sinh", "cosh") else x
        arrays.append((np.abs(x) if op in ("log", "log2", "log10", "sqrt", "rsqrt", "log1p", "pow") else x).astype(dtype.numpy))
    return arrays


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("op", FLOAT_OPS)
def test_ops_against_mpmath(op: str, dtype: DType) -> None:
    import mpmath

    count = 40
    kernel, arrays = op_kernel(op, dtype), operands(op, dtype, count)
    values = {f"a{k}": a for k, a in enumerate(arrays)}
    found = truth(kernel, values, {"N": count})["y"]
    ours = evaluate(kernel, values, {"N": count})["y"]
    locals_ = tuple(Local(f"a{k}", dtype) for k in range(len(arrays)))
    for n in range(count):
        exact = truth_expr(Call(op, locals_, dtype), {f"a{k}": a[n] for k, a in enumerate(arrays)})
        if not math.isfinite(found.bound[n]):
            continue
        with mpmath.workdps(50):
            near = float(found.value[n])
            high = mpmath.mpf(near) + mpmath.mpf(float(found.value[n] - np.longdouble(near)))
            assert abs(high - exact) <= found.bound[n] * 0.1 + abs(exact) * 1e-12 * (dtype is F32), (op, n)
            assert abs(mpmath.mpf(float(ours[n])) - exact) <= found.bound[n] * SLACK, (op, n)


PUBLIC = [(path.name, name) for path in sorted(KERNELS.glob("*.kir")) for name in kir.parse_file(path)]


def within(kernel: Kernel, seed: int) -> None:
    drawn = sampled([kernel], seed)
    results = evaluate(kernel, drawn.values, drawn.sizes)
    for name, found in truth(kernel, drawn.values, drawn.sizes).items():
        x = meaning.read(results[name], kernel.arrays[name].dtype)
        with np.errstate(all="ignore"):
            near = np.abs(x.astype(found.value.dtype) - found.value) <= found.bound * SLACK
        fine = near | np.isinf(found.bound) | (x == found.value) | (np.isnan(x) & np.isnan(found.value))
        assert fine.all(), (name, drawn.sizes, x[~fine][0], found.value[~fine][0], found.bound[~fine][0])


@pytest.mark.parametrize(("file", "name"), PUBLIC)
def test_bounds_hold_on_public_kernels(file: str, name: str) -> None:
    kernel = kir.parse_file(KERNELS / file)[name]
    for seed in range(6):
        within(kernel, seed)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(kernels())
def test_bounds_hold_on_drawn_kernels(kernel: Kernel) -> None:
    within(kernel, 0)


def one(text: str, fast_math: str = "none", **values: object) -> tuple[float, float]:
    """Value and bound of the scalar output y."""
    kernel = kir.parse(f"kernel k{text}")["k"]
    arrays = {p.name: np.asarray(values[p.name], p.type.dtype.numpy) for p in kernel.params}
    sizes = {name: next(a.shape[0] for a in arrays.values() if a.ndim) for name in kernel.sizes}
    found = truth(kernel, arrays, sizes, flags(fast_math))["y"]
    return float(found.value), float(found.bound)


UNKNOWN = [
    ("near comparison", "(a: f32, b: f32) -> (y: f32) { y = 1.0 if exp(a) < b else 0.0 }", {"a": 0.0, "b": 1.0}, 1.0),
    ("far comparison", "(a: f32, b: f32) -> (y: f32) { y = 1.0 if exp(a) < b else 0.0 }", {"a": 0.0, "b": 1.1}, 0.0),
    ("near branches agree", "(a: f32) -> (y: f32) { y = exp(a) if exp(a) > 1.0 else 1.0 }", {"a": 0.0}, 1e-6),
    ("floor at an integer", "(a: f32) -> (y: f32) { y = floor(exp(a)) }", {"a": 0.0}, 1.0),
    ("integer of an integer", "(a: f32) -> (y: i32) { y = i32(exp(a)) }", {"a": 0.0}, INF),
    ("tied argmax", "(x: f32[N]) -> (y: i64) where N >= 1 { y = argmax(i: exp(x[i])) }", {"x": [1.0, 1.0]}, INF),
    ("exact argmax", "(x: f32[N]) -> (y: i64) where N >= 1 { y = argmax(i: x[i]) }", {"x": [1.0, 1.0]}, 0.0),
    ("overflow for certain", "(a: f32) -> (y: f32) { y = exp(a) }", {"a": 100.0}, 0.0),
    ("overflow or not", "(a: f32) -> (y: f32) { y = exp(a) }", {"a": 88.722839}, INF),
    ("partial sums overflow", "(x: f32[N]) -> (y: f32) { y = sum(i: x[i]) }", {"x": [3e38, 3e38, -3e38]}, INF),
    ("sum overflows", "(x: f32[N]) -> (y: f32) { y = sum(i: x[i]) }", {"x": [3e38, 3e38]}, 0.0),
    ("divisor near zero", "(a: f32) -> (y: f32) { y = 1.0 / (exp(a) - 1.0) }", {"a": 0.0}, INF),
    ("NaN for certain", "(a: f32) -> (y: f32) { y = sqrt(a) }", {"a": -1.0}, 0.0),
    ("one term is exact", "(x: f32[N]) -> (y: f32) { y = sum(i: x[i]) }", {"x": [0.1]}, 1e-15),
]


@pytest.mark.parametrize(("text", "values", "most"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
def test_unknown(text: str, values: dict[str, object], most: float) -> None:
    _, bound = one(text, **values)
    assert math.isinf(bound) if math.isinf(most) else bound <= most * 1.001


def test_sum_bound_is_the_a_priori_one() -> None:
    x = np.full(1001, 0.1, np.float32)
    _, bound = one("(x: f32[N]) -> (y: f32) { y = sum(i: x[i]) }", x=x)
    assert bound == pytest.approx(1000 * 2.0**-24 * 100.1, rel=1e-3)


@pytest.mark.parametrize(("flag", "value"), [("nnan", NAN), ("ninf", INF)])
def test_flags_make_their_values_unknown(flag: str, value: float) -> None:
    text = "(a: f32) -> (y: f32) { y = 1.0 / (1.0 + abs(a)) }"
    assert one(text, a=value)[1] == 0.0 and math.isinf(one(text, flag, a=value)[1])


@pytest.mark.parametrize(
    ("text", "values", "flag"),
    [
        ("(a: f32, b: f32) -> (y: f32) { y = a * b / b }", {"a": 1e38, "b": 1e3}, "reassoc"),
        ("(a: f32, b: f32) -> (y: f32) { y = (a + b) - a }", {"a": INF, "b": 1.0}, "reassoc"),
        ("(a: f32, b: f32) -> (y: f32) { y = a * b - a }", {"a": 1e38, "b": 1e3}, "contract"),
        ("(a: f32, b: f32) -> (y: f32) { y = b / a }", {"a": 1e-40, "b": 1e3}, "arcp"),
        ("(x: f32[N]) -> (y: f32) { y = sum(i: x[i]) }", {"x": [3e38, 3e38]}, "reassoc"),
    ],
)
def test_where_rearranging_overflows_elsewhere_is_unknown(text: str, values: dict[str, object], flag: str) -> None:
    assert math.isinf(one(text, flag, **values)[1]) and one(text, **values)[1] == 0.0


def test_folded_constants_may_be_rounded_under_flags() -> None:
    text = "(a: f32) -> (y: f32) { y = a * 0.1 }"
    assert one(text, "arcp", a=1.0)[1] > 2 * one(text, a=1.0)[1]
    assert one(text.replace("0.1", "0.5"), "arcp", a=1.0) == one(text.replace("0.1", "0.5"), a=1.0)


@pytest.mark.parametrize(
    ("expression", "exact", "signs"),
    [("x[i] * 2.0 + 1.0", True, True), ("exp(x[i])", False, True), ("max(x[i], 0.0)", True, False), ("sum(j in 0..i: x[j])", False, True)],
)
def test_what_is_compared_by_bits(expression: str, exact: bool, signs: bool) -> None:
    k = kir.parse(f"kernel k(x: f32[N]) -> (y: f32[N]) {{ y[i] = {expression} }}")["k"]
    assert is_exact(k) is exact and zero_signs_matter(k) is signs


def test_judge_in_bits_tells_zeros_apart_but_not_nans() -> None:
    k = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 2.0 }")["k"]
    found = truth(k, {"x": np.zeros(3, np.float32)}, {"N": 3})["y"]
    x, y = np.array([0.0, NAN, 1.0], np.float32), np.array([-0.0, -NAN, 1.0], np.float32)
    assert judge(k, k).agree(x, y, found, found, F32).tolist() == [False, True, True]
    assert judge(k, k, flags("nsz")).agree(x, y, found, found, F32).all()


def test_tolerance_is_relative_to_truth() -> None:
    k = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = exp(x[i]) }")["k"]
    found = truth(k, {"x": np.zeros(2, np.float32)}, {"N": 2})["y"]
    x, y = np.ones(2, np.float32), np.array([1.001, 1.1], np.float32)
    assert judge(k, k).agree(x, y, found, found, F32).tolist() == [False, False]
    assert judge(k, k, tolerance=0.01).agree(x, y, found, found, F32).tolist() == [True, False]


def test_truth_expr_of_reductions_and_folds() -> None:
    k = kir.parse("kernel k(x: f64[N]) -> (y: f64[N]) { y[i] = sum(j in 0..N: x[j]) + fold(t in 0..2, z = 1.0: z * 2.0).z }")["k"]
    assert truth_expr(k.body[0].value, {"x": [1.0, 2.0]}, {"N": 2}) == 7

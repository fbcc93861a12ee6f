"""tolerance= is an error budget: what flags license is taken only as far as measured errors allow, and the report says what was refused."""

import json
import math

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.accuracy import Tally, error, measured
from kernel_ir.cli import main
from kernel_ir.dtypes import F16, F32, I32
from kernel_ir.error_budget import ErrorBudget
from kernel_ir.errors import EquivalenceError, UsageError
from kernel_ir.fastmath import flags
from kernel_ir.truth import Truth

VECTOR = "kernel k(a: f32[N], b: f32[N], c: f32[N]) -> (y: f32[N]) "
ROW = "kernel k(x: f32[R, C]) -> (y: f32[R, C]) where C >= 1 "
SQUARES = VECTOR + "{ y[i] = a[i] * a[i] - b[i] * b[i] + 0.0 * c[i] }"
POLYNOMIAL = "kernel k(x: f64[N]) -> (y: f64[N]) { y[i] = 1.0 + x[i] * (0.5 + x[i] * (0.25 + x[i] * 0.125)) }"
QUOTIENT = "kernel k(x: f32[R, C]) -> (y: f32[R, C]) where C >= 1 { s[r] = sum(c: abs(x[r, c]))\n y[r, c] = x[r, c] / (s[r] + 1.0) }"
SOFTMAX = ROW + "{ m[r] = max(c: x[r, c])\n z[r] = sum(c: exp(x[r, c] - m[r]))\n y[r, c] = exp(x[r, c] - m[r]) / z[r] }"


FLAGS = flags("reassoc,contract,arcp")


def one(text):
    (kernel,) = kir.parse(text).values()
    return kernel


def optimized(text, tolerance, fast_math="reassoc,contract,arcp,afn,nsz"):
    return kir.optimize(one(text), target="cpu", fast_math=fast_math, tolerance=tolerance)


WITHIN = [
    # original, form, the least of these tolerances that takes it (None: none does)
    ("itself", VECTOR + "{ y[i] = a[i] * b[i] + c[i] }", VECTOR + "{ y[i] = a[i] * b[i] + c[i] }", 0.0),
    ("a fused product is rounded once", VECTOR + "{ y[i] = a[i] * b[i] + c[i] }", VECTOR + "{ y[i] = fma(a[i], b[i], c[i]) }", 0.0),
    ("half of a difference of squares fused", VECTOR + "{ y[i] = a[i] * a[i] - b[i] * b[i] }",
     VECTOR + "{ y[i] = fma(a[i], a[i], -(b[i] * b[i])) }", 1e-3),
    ("the reciprocal of a subnormal overflows", VECTOR + "{ y[i] = a[i] / b[i] }", VECTOR + "{ y[i] = a[i] * (1.0 / b[i]) }", None),
    ("a fact keeps it away", VECTOR + "where b >= 1.0 { y[i] = a[i] / b[i] }",
     VECTOR + "where b >= 1.0 { y[i] = a[i] * (1.0 / b[i]) }", 1e-6),
    ("a sum in another order", ROW + "{ y[r, c] = sum(k: x[r, k]) }", ROW + "{ y[r, c] = sum(k in 0..C: x[r, C - 1 - k]) }", 1e-6),
    ("another constant", VECTOR + "{ y[i] = a[i] * 0.5 }", VECTOR + "{ y[i] = a[i] * 0.5001 }", 1e-3),
    ("a wrong formula", VECTOR + "{ y[i] = a[i] * 0.5 }", VECTOR + "{ y[i] = a[i] * 0.6 }", None),
    ("NaN for a number", VECTOR + "{ y[i] = a[i] }", VECTOR + "{ y[i] = a[i] * a[i] / a[i] }", None),
    ("whole numbers have no error", "kernel k(a: i32[N]) -> (y: i32[N]) { y[i] = a[i] }",
     "kernel k(a: i32[N]) -> (y: i32[N]) { y[i] = a[i] + 1 }", None),
    ("overflow on the way is an error of the original", "kernel k(a: f32[N]) -> (y: f32[N]) { y[i] = sqrt(a[i] * a[i]) }",
     "kernel k(a: f32[N]) -> (y: f32[N]) { y[i] = abs(a[i]) }", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("original", "form", "least"), [w[1:] for w in WITHIN], ids=[w[0] for w in WITHIN])
def test_the_least_tolerance_that_takes_a_form(original, form, least):
    taken = [t for t in (0.0, 1e-6, 1e-3) if ErrorBudget(one(original), t, FLAGS).accuracy(one(form)).excess is None]
    assert taken == [t for t in (0.0, 1e-6, 1e-3) if least is not None and t >= least]


REFUSED = [("polynomial", POLYNOMIAL), ("quotient", QUOTIENT), ("softmax", SOFTMAX)]


@pytest.mark.parametrize("text", [text for _, text in REFUSED], ids=[name for name, _ in REFUSED])
def test_zero_refuses_what_errs_more_and_a_loose_budget_takes_it(text):
    loose, strict, free = optimized(text, 1e-3), optimized(text, 0.0), optimized(text, None)
    assert loose.cycles == free.cycles < free.baseline_cycles and not loose.refused
    assert strict.refused and strict.cycles > loose.cycles
    assert strict.accuracy.excess is None and free.accuracy is None
    for refusal in strict.refused:
        assert refusal.accuracy.excess is not None and refusal.kernel != strict.kernel
    # never worse than as written, on samples that it was not chosen by
    assert ErrorBudget(one(text), 1e-6, seed=7).accuracy(strict.kernel).excess is None


def test_the_next_best_is_tried_without_the_rule_to_blame():
    # The fused form is refused; x * 1.0 still goes, by a rule that needs no flag.
    strict = optimized("kernel k(a: f32[N], b: f32[N]) -> (y: f32[N]) { y[i] = a[i] * 1.0 * a[i] - b[i] * b[i] }", 0.0, "contract")
    loose = optimized("kernel k(a: f32[N], b: f32[N]) -> (y: f32[N]) { y[i] = a[i] * 1.0 * a[i] - b[i] * b[i] }", 1e-3, "contract")
    assert "1.0" not in strict.text and strict.cycles < strict.baseline_cycles
    assert "fma" not in strict.text and loose.cycles <= strict.cycles


def test_report_and_json_say_what_was_refused_and_measured(tmp_path, capsys):
    path = tmp_path / "k.kir"
    path.write_text(POLYNOMIAL)
    words = ["optimize", str(path), "--target", "cpu", "--fast-math", "contract", "--tolerance", "0"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert (
        "error at most" in said and "ULP" in said and "as written" in said and "refused under tolerance 0: a form by fuse_multiply" in said
    )
    assert main([*words, "--explain"]) == 0 and "refused under tolerance 0" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["kernels"]
    assert entry["accuracy"]["error"]["ulp"] <= entry["accuracy"]["as_written"]["ulp"]
    assert entry["refused"][0]["rules"] == ["fuse_multiply"] and entry["refused"][0]["excess"]["place"].startswith("y[")


def test_code_under_a_budget_contracts_nothing_by_itself():
    assert "FAST = {'contract'}" in optimized(SQUARES, None, "contract").source
    assert "FAST = False" in optimized(SQUARES, 0.0, "contract").source


def test_compiled_code_is_held_to_the_budget():
    text = "kernel k(a: f32[N]) -> (y: f32[N]) { y[i] = exp(a[i]) }"
    assert optimized(text, 0.0).compile()(np.float32([0.0])).tolist() == [1.0]
    with pytest.raises(EquivalenceError, match="compiled code exceeds the error budget of 1e-06: y") as raised:
        wrong = kir.optimize(one(text.replace("exp(a[i])", "exp(a[i]) * 1.001")), target="numpy").compile()
        ErrorBudget(one(text), 1e-6).demand(wrong)
    assert "raise the tolerance" in str(raised.value)


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, -1e-30])
def test_a_tolerance_below_zero_is_refused(tolerance):
    with pytest.raises(UsageError, match="relative error of at least 0"):
        optimized(SQUARES, tolerance)


def test_errors_near_zero_and_beyond_the_range():
    exact = np.array([1e-60, 7e4, 65519.0, np.nan], np.longdouble)
    found = measured(np.float16([0.0, np.inf, 65504.0, np.nan]), Truth(exact, np.zeros(4)), F16)
    assert found.error.tolist() == [pytest.approx(1e-60), 0.0, 15.0, 0.0]
    tally = Tally()
    tally.add(found.error, found)
    figures = tally.figures()
    assert figures.lost == 0 and figures.ulp < 0.5 and figures.relative < 2.0**-11
    assert error(np.int32([1, 2]), np.int32([1, 3])).tolist() == [0.0, np.inf]
    assert measured(np.int32([1]), Truth(np.int32([1]), np.zeros(1)), I32).error.tolist() == [0.0]
    assert measured(np.float32([1]), Truth(np.array([1.0]), np.array([1.0])), F32).ill.tolist() == [True]

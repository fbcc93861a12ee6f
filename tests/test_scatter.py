"""Sums into places that data names: private copies with a spare place, several of them in turns; every term counts once, or not at all."""

from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.target import target
from extract.schedule_cpu import plans
from kernel_ir.compiled import Compiled, compiled
from kernel_ir.testing import quick_check

WHERE = "where 0 <= bin[i] and bin[i] < B"
FORMS = {
    "all terms": "kernel k(p: i64[N], x: f64[N]) -> (h: f64[B]) where 0 <= p, p < B { h[p[i]] += x[i] for i in 0..N }",
    "largest": f"kernel k(bin: i32[N], x: f32[N]) -> (h: f32[B]) {{ h[bin[i]] max= x[i] for i in 0..N {WHERE} }}",
    "two indices": "kernel k(p: i32[N], q: i32[N]) -> (h: i64[A, B]) "
    "{ h[p[i], q[i]] += 1 for i in 0..N where 0 <= p[i] and p[i] < A and 0 <= q[i] and q[i] < B }",
    "two loops": "kernel k(bin: i32[N, M], x: f32[M]) -> (h: f32[B]) "
    "{ h[bin[i, j]] += x[j] for i in 0..N, j in 0..M where 0 <= bin[i, j] and bin[i, j] < B }",
    "a value that its condition guards": "kernel k(p: i64[N], x: f64[M]) -> (h: f64[M]) "
    "{ h[p[i]] += x[p[i]] for i in 0..N where 0 <= p[i] and p[i] < M }",
    "into what is there": f"kernel k(bin: i32[N], inout h: f16[B]) {{ h[bin[i]] += 1.0 for i in 0..N {WHERE} }}",
}


pytestmark = pytest.mark.usefixtures("kept_code")


def made(text: str, **sizes: int) -> Compiled:
    return compiled(plans(kir.parse(text)["k"], sizes=sizes)[0], target("cpu"))


@pytest.mark.parametrize("bins", [7, 2000])
def test_each_term_counts_once(bins: int) -> None:
    function = made(f"kernel k(bin: i32[N]) -> (h: i32[B]) {{ h[bin[i]] += 1 for i in 0..N {WHERE} }}", N=1 << 20, B=bins)
    for n in (0, 1, 3, 5, 1023, 20_011):
        bin_: Any = np.random.default_rng(n).integers(-2, bins + 2, n, np.int32)
        inside = bin_[(bin_ >= 0) & (bin_ < bins)]
        assert np.array_equal(function(bin_, B=bins), np.bincount(inside, minlength=bins))
        assert np.array_equal(function(np.zeros_like(bin_), B=bins)[:1], [n])
    assert not function(np.full(9000, -1, np.int32), B=bins).any()


def test_integers_wrap_as_they_do_in_one_copy() -> None:
    function = made("kernel k(p: i64[N], x: i32[N]) -> (h: i32[B]) where 0 <= p, p < B { h[p[i]] += x[i] for i in 0..N }", B=4)
    x = np.full(10_000, 2**31 - 1, np.int32)
    expected = int(x.astype(np.int64).sum()) % 2**32
    assert function(np.zeros(10_000, np.int64), x, B=4)[0] == (expected - 2**32 if expected >= 2**31 else expected)


@pytest.mark.parametrize("text", FORMS.values(), ids=list(FORMS))
def test_scatters_of_many_forms(text: str) -> None:
    quick_check(kir.parse(text)["k"], made(text), examples=8)


def test_copies_are_as_many_as_fit_and_a_guarded_value_keeps_its_branch() -> None:
    text = f"kernel k(bin: i32[N], x: f32[N]) -> (h: f32[B]) {{ h[bin[i]] += x[i] for i in 0..N {WHERE} }}"
    for bins, copies in ((1000, "(2 * parts, B + 1)"), (2000, "(parts, B + 1)")):
        assert copies in cpu_source(plans(kir.parse(text)["k"], sizes={"B": bins})[0])
    guarded = cpu_source(plans(kir.parse(FORMS["a value that its condition guards"])["k"], sizes={"M": 100})[0])
    assert "(parts, M)" in guarded
    assert "        if uint64(p[uint64(i)]) < uint64(M):" in guarded

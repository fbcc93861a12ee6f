"""Rules that put a term in an index's place: one-hot sums, diagonal matrices; refused where the place may lie outside, or cannot move."""

import numpy as np
import pytest

import kernel_ir as kir
from rewrites.books import load_book
from rewrites.derive import derivable
from rewrites.prove import check_rule
from rewrites.wording import rule_text

ZEROS = "reassoc,nnan,nsz"


def optimized(text, flags):
    (kernel,) = kir.parse(text).values()
    return kir.optimize(kernel, target="cpu", fast_math=flags)


FOUND = [
    ("(d: f32[N], b: f32[N, M]) -> (y: f32[N, M]) { g[i, k] = d[i] if i == k else 0.0 for i in 0..N, k in 0..N\n"
     "  y[i, j] = sum(k: g[i, k] * b[k, j]) }", ZEROS, "y[i, j] = b[i, j] * d[i]", "sum_diagonal"),
    ("(d: f32[N], b: f32[M, N]) -> (y: f32[M, N]) { y[i, j] = sum(k: b[i, k] * (d[k] if k == j else 0.0)) }",
     ZEROS, "y[i, j] = b[i, j] * d[j]", "sum_diagonal"),
    ("(w: f32[V, D], t: i64[T]) -> (y: f32[T, D]) where 0 <= t, t < V { y[i, d] = sum(v: (w[v, d] if v == t[i] else 0.0)) }",
     "reassoc", "y[i, d] = w[t[i], d]", "sum_one_hot"),
    ("(w: f32[V, D], t: i64[T]) -> (y: f32[T, D]) where 0 <= t, t < V { y[i, d] = sum(v: f32(t[i] == v) * w[v, d]) }",
     ZEROS, "y[i, d] = w[t[i], d]", "sum_indicator_f32"),
    ("(a: f32[N, N]) -> (y: f32) { y = sum(i, j: (a[i, j] if i == j else 0.0)) }", "reassoc", "y = sum(i: a[i, i])", "sum_one_hot"),
    ("(x: i32[N]) -> (y: i32[N]) { y[i] = sum(k: (x[k] if k == i else 0)) }", "none", "y[i] = x[i]", "isum_one_hot"),
    ("(x: f32[N]) -> (y: f32[N]) { y[i] = max(k: (x[k] if i == k else -inf)) }", "none", "y[i] = x[i]", "max_one_hot"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "flags", "expected", "rule"), FOUND, ids=[f"{r}-{n}" for n, (*_, r) in enumerate(FOUND)])
def test_what_is_read_at_one_place_needs_no_loop(text, flags, expected, rule):
    result = optimized(f"kernel k{text}", flags)
    assert expected in result.text
    assert rule in result.provenance
    if rule != "sum_diagonal":  # with every flag on, to search for its chain takes seconds
        assert kir.replay(result.chain) == result.chain.result


KEPT = [
    # the place may lie outside of the range
    "kernel k(w: i32[V], t: i64[T]) -> (y: i32[T]) { y[i] = sum(v: (w[v] if v == t[i] else 0)) }",
    # there is no such flag
    "kernel k(w: f32[V], t: i64[T]) -> (y: f32[T]) where 0 <= t, t < V { y[i] = sum(v: (w[v] if v == t[i] else 0.0)) }",
    # the place reads the index
    "kernel k(w: i32[N], t: i64[N]) -> (y: i32) where 0 <= t, t < N { y = sum(v: (w[v] if v == t[v] else 0)) }",
    # the inner range reads the index
    "kernel k(w: i32[N]) -> (y: i32[N]) { y[i] = sum(v in 0..N: (max(j in 0..v + 1: w[j]) if v == i else 0)) }",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_is_not_known_keeps_its_loop(text):
    assert "sum(" in optimized(text, "none").text


def test_an_inner_loop_stays_whole():
    text = "kernel k(a: i32[N, M], b: i32[M]) -> (y: i32[N]) { y[i] = sum(v in 0..N: (sum(j: a[v, j] * b[j]) if v == i else 0)) }"
    result = optimized(text, "none")
    assert "y[i] = sum(j: b[j] * a[i, j])" in result.text
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (5, 7), dtype=np.int32), rng.integers(-9, 9, 7, dtype=np.int32)
    assert (result.compile()(a=a, b=b) == a @ b).all()


WRONG = [
    "sum(k in l..h: (f[k] if k == e else 0)) => f[e] on int if k not in e",
    "sum(k in l..h: (f[k] if k == e else 0)) => f[e] on int if k not in e, l <= e",
    "sum(k in l..h: (f[k] if k <= e else 0)) => f[e] on int if k not in e, l <= e, e < h",
    "sum(k in l..h: (f[k] if k == e else 1)) => f[e] on int if k not in e, l <= e, e < h",
    "max(k in l..h: (f[k] if k == e else -inf)) => f[l] if k not in e, l <= e, e < h",
    "sum(k in l..h: (f[k] if k == e else 0.0)) => f[e] if k not in e, l <= e, e < h",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_substitution_is_refuted(text):
    assert not check_rule(load_book(f"rule r: {text}\n")[0]).holds


def test_text_and_derivation_know_places():
    text = "rule r: sum(k in l..h: f[k] if k == e else 0) => f[e] on int if k not in e, l <= e, e < h"
    (rule,) = load_book(f"{text}\n")
    assert rule_text(rule) == text
    assert not derivable(rule, ())

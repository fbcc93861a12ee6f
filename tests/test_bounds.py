"""Accesses that must be proved to lie inside; what must not be is in tests/bad/bounds_*.kir, with the exact messages."""

# ruff: noqa: E501  (one kernel a line)

import pytest

from kernel_ir.bounds import check_bounds
from kernel_ir.errors import BoundsError
from kernel_ir.parser import parse, parse_file
from kernel_ir.printer import expr_text
from tests.conftest import PUBLIC

INSIDE = {
    "implied": "kernel f(x: f32[N]) -> (y: f32[M]) { y[i] = x[0] for i in 0..M }",
    "argmin_implied": "kernel f(x: f32[N, K]) -> (y: i64[N]) { y[i] = argmin(k: x[i, k]) }",
    "reverse": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[N-1-i] }",
    "guard_select": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i-1] if i > 0 else 0.0 }",
    "guard_and": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = 1.0 if i > 0 and x[i-1] > 0.0 else 0.0 }",
    "guard_or": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = 1.0 if i < 1 or x[i-1] > 0.0 else x[i] }",
    "clamp": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[min(i + 1, N - 1)] + x[max(i - 1, 0)] }",
    "clamp_both": "kernel f(x: f32[N], k: i64) -> (y: f32[M]) { y[i] = x[min(max(k, 0), N - 1)] for i in 0..M }",
    "wrap": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[(i + 1) % N] + x[(i - 1) % N] }",
    "mod_fact": "kernel f(x: f32[N]) -> (y: f32[N // 4]) where N % 4 == 0 { y[i] = x[4*i] + x[4*i+1] + x[4*i + 2] + x[4*i + 3] }",
    "floor": "kernel f(x: f32[N]) -> (y: f32[N // 4]) { y[i] = x[4*i + 3] }",
    "equal_fact": "kernel f(x: f32[N], z: f32[M]) -> (y: f32[N]) where N == 2*M { y[i] = x[i] + z[i // 2] }",
    "upsample": "kernel f(x: f32[H, W]) -> (y: f32[2*H, 2*W]) { y[i, j] = x[i // 2, j // 2] }",
    "pool": "kernel f(x: f32[2*H, 2*W]) -> (y: f32[H, W]) { y[i, j] = max(a in 0..2, b in 0..2: x[2*i + a, 2*j + b]) }",
    "patch": "kernel f(x: f32[B * T, D]) -> (y: f32[B, T, D]) { y[b, t, d] = x[b * T + t, d] }",
    "flatten3": "kernel f(x: f32[A, B, C]) -> (y: f32[A * B * C]) { y[i] = x[i // (B * C), i // C % B, i % C] }",
    "heads": "kernel f(x: f32[T, H * D]) -> (y: f32[H, T, D]) { y[h, t, d] = x[t, h * D + d] }",
    "csr": "kernel f(p: i64[N + 1], c: i64[Z], v: f32[Z], x: f32[M]) -> (y: f32[N]) where 0 <= p, p <= Z, 0 <= c, c < M { y[i] = sum(k in p[i]..p[i+1]: v[k] * x[c[k]]) for i in 0..N }",
    "lut": "kernel f(t: f32[256], x: u8[N]) -> (y: f32[N]) { y[i] = t[x[i]] }",
    "scatter_where": "kernel f(x: f32[N], id: i64[N]) -> (y: f32[M]) { y[id[i] + 1] += x[i] for i in 0..N where 0 <= id[i] + 1 and id[i] + 1 < M }",
    "hash": "kernel f(x: f32[N], id: i64[N]) -> (y: f32[M]) { y[id[i] % M] += x[i] for i in 0..N }",
    "stride": "kernel f(x: f32[N], w: f32[K]) -> (y: f32[(N - K) // 2 + 1]) where N >= K { y[i] = sum(k: x[2*i + k] * w[k]) }",
    "dilate": "kernel f(x: f32[N], w: f32[K]) -> (y: f32[N - 2*K + 2]) where N >= 2*K, K >= 1 { y[i] = sum(k: x[i + 2*k] * w[k]) }",
    "param": "kernel f(x: f32[N], n: i64) -> (y: f32[M]) where 0 <= n, n <= N { y[i] = sum(j in 0..n: x[j]) for i in 0..M }",
    "band": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = sum(j in max(i-2, 0)..min(i+3, N): x[j]) for i in 0..N }",
    "window_else": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = sum(j in i-2..i+3: x[j else 0.0]) for i in 0..N }",
    "const_dims": "kernel f(x: f32[N, 3]) -> (y: f32[N]) { y[i] = x[i, 0] + x[i, 1] + x[i, 2] }",
    "rot_select": "kernel f(x: f32[T, 2*D]) -> (y: f32[T, 2*D]) { y[t, d] = x[t, d + D] if d < D else x[t, d - D] }",
    "index_select": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i if i < N // 2 else N - 1 - i] }",
    "shift_bits": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i >> 1] }",
    "xor_none": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i & 3 else 0.0] }",
    "argmax_idx": "kernel f(x: f32[N, K], t: f32[K]) -> (y: f32[N]) where K >= 1 { y[i] = t[argmax(k: x[i, k])] }",
    "while_guard": "kernel f(x: f32[N]) -> (y: f32[M]) { y[i] = fold(k in 0..N, s = 0.0, n = 0 while n < N and n >= 0: s + x[n], n + 1).s for i in 0..M }",
    "page": "kernel f(k: f32[P, S, D], table: i64[B, M]) -> (y: f32[B, M * S, D]) where 0 <= table, table < P { y[b, t, d] = k[table[b, t // S], t % S, d] }",
    "ring": "kernel f(x: f32[N], o: i64) -> (y: f32[N]) { y[i] = x[(i + o) % N] }",
    "blocked": "kernel f(x: f32[N]) -> (y: f32[(N + 31) // 32]) { y[b] = sum(t in 0..min(32, N - 32*b): x[32*b + t]) }",
    "blocked2": "kernel f(x: f32[N]) -> (y: f32[(N + 31) // 32]) { y[b] = sum(t in 0..32: x[32*b + t] if 32*b + t < N else 0.0) }",
    "dynamic_tile": "kernel f(x: f32[N], w: f32[T]) -> (y: f32[(N + T - 1) // T]) where T >= 1 { y[b] = sum(t in 0..T: x[T*b + t else 0.0] * w[t]) }",
}
IMPLIED = {"implied": ["N >= 1"], "argmin_implied": ["K >= 1"], "clamp_both": ["N >= 1"], "hash": ["M >= 1"], "ring": []}


@pytest.mark.parametrize("name", INSIDE)
def test_inside(name):
    kernel = parse(INSIDE[name], name)["f"]
    assert [expr_text(f) for f in kernel.implied] == IMPLIED.get(name, [])


@pytest.mark.parametrize("name", PUBLIC)
def test_public_kernels_need_no_more_than_their_facts(name):
    path, kernel = PUBLIC[name]
    assert check_bounds(parse_file(path)[kernel]) == ()


GUARDED = """kernel f(x: f32[N], id: i64[N], k: i64) -> (y: f32[N]) {{
  y[i] = {value} for i in 0..N
}}
"""
OUTSIDE = {
    "x[i - 1] if i >= 0 else 0.0": "i - 1",
    "x[i - 1] if i > 0 or k > 0 else 0.0": "i - 1",
    "0.0 if i > 0 else x[i - 1]": "i - 1",
    "1.0 if x[i + 1] > 0.0 and i < N - 1 else 0.0": "i + 1",
    "1.0 if i < N - 1 or x[i + 1] > 0.0 else 0.0": "i + 1",
    "x[min(i, k)]": "min(i, k)",
    "x[max(i, k)]": "max(i, k)",
    "x[i % k]": "i % k",
    "x[i // k]": "i // k",
    "x[k] if k < N else 0.0": "k",
    "x[k + 1] if k + 2 > 0 and k + 1 < N else 0.0": "k + 1",
    "x[id[i]] if id[0] >= 0 and id[0] < N else 0.0": "id[i]",
    "sum(j in i..N+1: x[j])": "j",
    "sum(j in -1..i: x[j])": "j",
    "fold(t in 0..N, s = 0.0, n = 0 while n < N: s + x[n], n + 1).s": "n",
    "x[i ^ 1]": "i ^ 1",
    "x[i * i // N] if i == N else x[2 * i // 2 + 1]": "2 * i // 2 + 1",
}


@pytest.mark.parametrize("value", OUTSIDE)
def test_outside(value):
    with pytest.raises(BoundsError) as error:
        parse(GUARDED.format(value=value))
    span = error.value.span
    assert span is not None and error.value.hint
    assert span.source.line(span.line)[span.column - 1 : span.end_column - 1] == OUTSIDE[value]


INSIDE_BY_GUARD = [
    "x[i - 1] if i > 0 else 0.0",
    "x[i - 1] if not (i <= 0) else 0.0",
    "x[k] if 0 <= k and k < N else 0.0",
    "x[k] if 0 <= k < N else 0.0",
    "0.0 if k < 0 or k >= N else x[k]",
    "x[k + 1] if k + 1 >= 0 and k + 1 < N else 0.0",
    "x[id[i]] if id[i] >= 0 and id[i] < N else 0.0",
    "x[i] if i != 0 else x[N - 1]",
    "x[i - 1] if i != 0 else 0.0",
    "x[(i + k) % N]",
    "sum(j in 0..min(k, N): x[j])",
    "sum(j in max(k, 0)..N: x[j])",
    "fold(t in 0..N, s = 0.0, n = 0 while 0 <= n and n < N: s + x[n], n + 1).s",
    "x[(i if i < N // 2 else N - 1 - i)]",
]


@pytest.mark.parametrize("value", INSIDE_BY_GUARD)
def test_inside_by_its_guard(value):
    assert parse(GUARDED.format(value=value))["f"].implied == ()


def test_facts_about_inout_arrays_do_not_last():
    text = """kernel f(inout id: i64[N], x: f32[N]) -> (y: f32[N]) where 0 <= id, id < N {
  id[i] = id[i] + 1
  y[i] = x[id[i]]
}"""
    with pytest.raises(BoundsError):
        parse(text)


def test_facts_about_pairs_of_elements():
    text = """kernel f(p: i64[N + 1], x: f32[Z]) -> (y: f32[N]) where all(i in 0..N: p[i] < p[i+1]), 0 <= p, p <= Z {
  y[i] = x[p[i + 1] - 1] for i in 0..N
}"""
    assert parse(text)["f"].implied == ()

"""Definitions that cover each element exactly once; what does not is in tests/bad/coverage_*.kir, with the exact messages."""

# ruff: noqa: E501  (one kernel a line)

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_ir.errors import CoverageError
from kernel_ir.parser import parse

COVERED = {
    "triangular_pieces": "kernel f(x: f32[N, N]) -> (y: f32[N, N]) { y[i, j] = x[i, j] for i in 0..N, j in 0..i+1\n y[i, j] = 0.0 for i in 0..N, j in i+1..N }",
    "complement_where": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] for i in 0..N where x[i] > 0.0\n y[i] = 0.0 for i in 0..N where not (x[i] > 0.0) }",
    "int_complement": "kernel f(x: f32[N], k: i64) -> (y: f32[N]) { y[i] = x[i] for i in 0..N where i < k\n y[i] = 0.0 for i in 0..N where i >= k }",
    "parity": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] for i in 0..N where i % 2 == 0\n y[i] = 0.0 for i in 0..N where i % 2 == 1 }",
    "halves": "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] for i in 0..N//2\n y[i] = 0.0 for i in N//2..N }",
    "boxes": "kernel f(x: f32[H, W]) -> (y: f32[H, W]) where H >= 1, W >= 1 { y[0, j] = 0.0\n y[i, 0] = 0.0 for i in 1..H\n y[i, j] = x[i-1, j-1] for i in 1..H, j in 1..W }",
    "constants": "kernel f(x: f32[N]) -> (y: f32[3]) where N >= 3 { y[0] = x[0]\n y[1] = x[1]\n y[2] = x[2] }",
    "otherwise_excl": "kernel f(x: f32[N]) -> (y: f32[N]) { y[0] = 0.0\n y[i] = x[i-1] otherwise }",
    "temp_tri": "kernel f(x: f32[N]) -> (y: f32[N]) { s[i, j] = x[i] - x[j] for i in 0..N, j in 0..i+1\n y[i] = sum(j in 0..i+1: s[i, j]) }",
    "repeat_temp": "kernel f(inout a: f32[N], steps: i64) { repeat steps { t[i] = a[i] * 2.0\n a[i] = t[i] } }",
    "repeat_const": "kernel f(x: f32[N]) -> (y: f32[N]) { repeat 3 { y[i] = x[i] } }",
    "inout_again": "kernel f(inout a: f32[N]) { a[i] = a[i] + 1.0\n a[i] = a[i] * 2.0 }",
    "inout_partial": "kernel f(inout a: f32[N]) where N >= 2 { a[0] = 0.0\n a[i] = 1.0 for i in N-1..N }",
    "diag": "kernel f(x: f32[N]) -> (y: f32[N, N]) { y[i, i] = x[i]\n y[i, j] = 0.0 otherwise }",
    "diag_pieces": "kernel f(x: f32[N]) -> (y: f32[N, N]) { y[i, i] = x[i] for i in 0..N\n y[i, j] = 0.0 for i in 0..N, j in 0..N where i != j }",
    "rot_half": "kernel f(x: f32[T, 2*D]) -> (y: f32[T, 2*D]) { y[t, d] = x[t, d + D] for t in 0..T, d in 0..D\n y[t, d] = x[t, d - D] for t in 0..T, d in D..2*D }",
    "concat": "kernel f(a: f32[N], b: f32[M]) -> (y: f32[N + M]) { y[i] = a[i] for i in 0..N\n y[i] = b[i - N] for i in N..N+M }",
}


@pytest.mark.parametrize("name", COVERED)
def test_covered(name):
    parse(COVERED[name], name)


GAP, TWICE, EARLY = "is not defined", "is defined twice", "is read"
FAULTS = [
    ("y[i] = 1.0 for i in 0..N where i < k\n y[i] = 2.0 for i in 0..N where i > k", GAP),
    ("y[i] = 1.0 for i in 0..N where i <= k\n y[i] = 2.0 for i in 0..N where i >= k", TWICE),
    ("y[i] = 1.0 for i in 0..N where i % 3 == 0\n y[i] = 2.0 for i in 0..N where i % 3 == 1", GAP),
    ("y[i] = 1.0 for i in 0..N where i % 2 == 0\n y[i] = 2.0 for i in 0..N where i % 3 != 0", TWICE),
    ("t[i] = x[i] for i in 0..N where x[i] > 0.0\n y[i] = t[i]", EARLY),
    ("y[i] = t[i] otherwise", "needs an earlier"),
    ("t[i] = 1.0 for i in 1..N\n y[i] = t[i] for i in 0..N", EARLY),
    ("repeat k { t[i] = x[i] }\n y[i] = t[i]", "no step"),
    ("y[i] += x[i]\n y[i] max= x[i]", "is written with"),
]


@pytest.mark.parametrize(("body", "message"), FAULTS)
def test_faults(body, message):
    with pytest.raises(Exception) as error:
        parse(f"kernel f(x: f32[N], k: i64) -> (y: f32[N]) {{ {body} }}")
    assert message in str(error.value) and error.value.span is not None


bound = st.sampled_from(["0", "1", "2", "N", "N-1", "N-2", "N//2", "M", "M+1", "min(M, N)", "max(N-M, 0)"])
VALUES = {"N": range(2, 6), "M": range(6)}


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(bound, bound), min_size=1, max_size=3))
def test_what_is_accepted_covers_each_element_once(pieces):
    body = "\n".join(f"  y[i] = {n}.0 for i in max({lo}, 0)..min({hi}, N)" for n, (lo, hi) in enumerate(pieces))
    try:
        parse(f"kernel f(x: f32[N], z: f32[M]) -> (y: f32[N]) where N >= 2 {{\n{body}\n}}")
    except CoverageError as error:
        assert error.hint
        return
    for n, m in product(VALUES["N"], VALUES["M"]):
        names = {"N": n, "M": m, "min": min, "max": max}
        ranges = [range(max(eval(lo, names), 0), min(eval(hi, names), n)) for lo, hi in pieces]
        assert all(sum(i in r for r in ranges) == 1 for i in range(n)), (n, m)

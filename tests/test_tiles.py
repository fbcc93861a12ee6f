"""Products in registers whose columns are copied: what is cut into blocks, and that every element is right at sizes around a block."""

import numpy as np
import pytest

import kernel_ir as kir
from backends.target import target
from extract.machine import load_machine
from extract.schedule_cpu import plans
from kernel_ir import fastmath
from kernel_ir.compiled import compiled
from kernel_ir.plan import Launch, Plan

GEMM = """kernel gemm(alpha: f64, beta: f64, inout c: f64[M, N], a: f64[M, K], b: f64[K, N]) {
  c[i, j] = alpha * sum(k: a[i, k] * b[k, j]) + beta * c[i, j]
}"""
BIASED = """kernel biased(x: f32[M, K], w: f32[K, N], v: f32[N]) -> (y: f32[M, N]) {
  p[i, j] = sum(k: x[i, k] * w[k, j])
  y[i, j] = max(p[i, j] + v[j], 0.0)
}"""
NORMED = """kernel normed(x: f32[M, K], w: f32[K, N]) -> (y: f32[M, N]) where N >= 1 {
  p[i, j] = sum(k: x[i, k] * w[k, j])
  m[i]    = max(j: p[i, j])
  y[i, j] = p[i, j] - m[i]
}"""
LARGE = {"M": 1000, "N": 1100, "K": 1200}
SIZES = [(1, 1, 1), (5, 31, 7), (7, 33, 3), (13, 70, 2), (509, 65, 5), (3, 4, 0), (0, 5, 3), (4, 0, 3)]


def tiled(text: str) -> Plan:
    """The plan in registers, made for large matrices."""
    (kernel,) = kir.parse(text).values()
    return next(p for p in plans(kernel, load_machine("cpu"), LARGE, fastmath.flags("contract")) if dict(p.schedule)["products"] == "loops")


def blocks(plan: Plan) -> set[str]:
    (launch,) = plan.steps
    assert isinstance(launch, Launch)
    return {name for name in ("i_block", "j_block") if name in repr(launch)}


def test_rows_and_columns_are_cut_where_columns_are_independent():
    assert blocks(tiled(GEMM)) == blocks(tiled(BIASED)) == {"i_block", "j_block"}


def test_rows_alone_are_cut_where_a_whole_row_is_read():
    assert blocks(tiled(NORMED)) == {"i_block"}


@pytest.mark.parametrize("text", [BIASED, NORMED], ids=["biased", "normed"])
def test_products_at_sizes_around_a_block(text: str):
    f = compiled(tiled(text), target("cpu"))
    rng = np.random.default_rng(0)
    for m, n, k in SIZES:
        if n == 0 and "N >= 1" in text:
            continue
        x, w, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n), (n,)))
        p = x @ w
        truth = p - p.max(1, keepdims=True) if "N >= 1" in text else np.maximum(p + v, 0)
        got = f(x=x, w=w) if "N >= 1" in text else f(x=x, w=w, v=v)
        np.testing.assert_allclose(got, truth, rtol=1e-4, atol=1e-5)


def test_products_that_update_their_target():
    f = compiled(tiled(GEMM), target("cpu"))
    rng = np.random.default_rng(0)
    for m, n, k in SIZES:
        a, b, c = (rng.standard_normal(shape) for shape in ((m, k), (k, n), (m, n)))
        truth = 1.5 * (a @ b) + 0.5 * c
        f(alpha=1.5, beta=0.5, c=c, a=a, b=b)
        np.testing.assert_allclose(c, truth, rtol=1e-12, atol=1e-12)


def test_what_lies_past_the_last_column_is_not_read():
    f = compiled(tiled(BIASED), target("cpu"))
    wide = np.full((4, 40), np.nan, np.float32)
    w = wide[:3, :33]
    w[...] = 1.0
    got = f(x=np.ones((2, 3), np.float32), w=w, v=np.zeros(33, np.float32))
    np.testing.assert_array_equal(got, np.full((2, 33), 3.0, np.float32))

"""Products inside of values are stored apart: what becomes a library call, what stays, and that the plans compute the same."""

import numpy as np
import pytest

import kernel_ir as kir
from extract.apart import apart
from extract.cost import cost
from extract.machine import load_machine
from extract.schedule_cpu import plans
from kernel_ir.inputs import sample_inputs
from kernel_ir.printer import kernel_text
from kernel_ir.schedule import Choice, Schedule, schedule_of

LINEAR = """kernel linear(x: f32[B, K], w: f32[N, K], b: f32[N]) -> (y: f32[B, N]) {
  y[i, n] = max(sum(k: x[i, k] * w[n, k]) + b[n], 0.0)
}"""
DEQUANTISED = """kernel dequantised(q: i8[N, G * S], scale: f16[N, G], x: f32[M, G * S]) -> (y: f32[M, N]) {
  y[m, n] = sum(k: x[m, k] * (f32(q[n, k]) * scale[n, k // S]))
}"""
HALVES = """kernel halves(x: f16[B, S, K], w: f16[N, K]) -> (y: f16[B, S, N]) {
  y[i, s, n] = f16(sum(k: x[i, s, k] * w[n, k]))
}"""
HEADS = """kernel heads(q: f32[B, S, H, D], k: f32[B, S, H, D], v: f32[B, S, H, D]) -> (o: f32[B, S, H, D]) where S >= 1 {
  p[b, h, i, j] = sum(d: q[b, i, h, d] * k[b, j, h, d]) / sqrt(f32(D))
  m[b, h, i]    = max(j: p[b, h, i, j])
  z[b, h, i]    = sum(j: exp(p[b, h, i, j] - m[b, h, i]))
  o[b, i, h, d] = sum(j: exp(p[b, h, i, j] - m[b, h, i]) * v[b, j, h, d]) / z[b, h, i]
}"""


def only(text: str) -> kir.Kernel:
    (kernel,) = kir.parse(text).values()
    return kernel


def statements(text: str) -> list[str]:
    made = apart(only(text))
    assert made is not None
    return [line.strip() for line in kernel_text(made.kernel).splitlines()[1:-1]]


def test_a_product_inside_a_value_is_stored_first():
    first, second = statements(LINEAR)
    assert first == "product[i, n] = sum(k: x[i, k] * w[n, k])"
    assert second == "y[i, n] = max(product[i, n] + b[n], 0.0)"


def test_an_operand_that_is_computed_or_of_another_type_is_stored_along_memory():
    first, second = statements(DEQUANTISED)
    assert first.startswith("operand[n, k] = f32(q[n, k]) * ") and second == "y[m, n] = sum(k: x[m, k] * operand[n, k])"
    made = ["operand[i, s, k]", "operand2[n, k]", "product[i, s, n]", "y[i, s, n]"]
    assert [line.partition(" = ")[0] for line in statements(HALVES)] == made
    assert [
        line.partition(" = ")[0] for line in statements(HALVES.replace("f16(sum(k: x[i, s, k] * w[n, k]))", "sum(k: x[i, s, k] * w[n, k])"))
    ] == made


@pytest.mark.parametrize(
    "text",
    [
        "kernel f(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }",  # plain already
        "kernel f(a: f32[M, K], x: f32[K]) -> (y: f32[M]) { y[i] = sum(k: a[i, k] * x[k]) + 1.0 }",  # a vector
        "kernel f(a: f32[M, 4], b: f32[4, N]) -> (c: f32[M, N]) { c[i, j] = sum(k in 0..4: a[i, k] * b[k, j]) + 1.0 }",  # short
        "kernel f(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) { c[i, j] = sum(k in 0..min(i + 1, K): a[i, k] * b[k, j]) + 1.0 }",
        "kernel f(a: i64[M, K], b: i64[K, N]) -> (c: i64[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) + 1 }",
        # where nothing is stored, nothing is read: rows of `a` past its own are not
        """kernel f(a: f32[M, K], b: f32[K, N]) -> (c: f32[2 * M, N]) {
             c[i, j] = sum(k: a[i, k else 0.0] * b[k, j]) if i < M else 0.0
           }""",
    ],
)
def test_what_is_no_product_of_matrices_stays(text):
    assert apart(only(text)) is None


@pytest.mark.parametrize(
    ("text", "way"),
    [
        *((text, "apart") for text in (LINEAR, DEQUANTISED, HALVES, HEADS)),
        *((text, "loops_of_stored_operands") for text in (DEQUANTISED, HEADS)),
    ],
)
def test_the_plan_computes_the_same(text, way):
    kernel = only(text)
    pinned = Schedule(kernel.name, "cpu", (Choice("products", (way,)), Choice("fuse", ("most",))))
    result = kir.optimize(kernel, target="cpu", schedule=pinned)
    assert ("np.matmul(" in result.source) == (way == "apart") and f"products = {way}" in str(schedule_of(result.plan))
    compiled = result.compile()
    for extent in (1, 9):
        values = sample_inputs(kernel, 1, dict.fromkeys(kernel.sizes, extent))
        np.testing.assert_allclose(compiled(**values), kernel(**values), rtol=2e-3, atol=1e-4)


def test_operands_alone_are_stored_with_columns_side_by_side():
    made = apart(only(DEQUANTISED), "operands")
    assert made is not None
    first, second = (line.strip() for line in kernel_text(made.kernel).splitlines()[1:-1])
    assert first.startswith("operand[k, n] = ") and second == "y[m, n] = sum(k: x[m, k] * operand[k, n])"
    assert apart(only(LINEAR), "operands") is None


def test_a_product_of_rows_with_rows_can_run_in_registers():
    kernel = only(LINEAR)
    pinned = Schedule("linear", "cpu", (Choice("products", ("loops",)), Choice("copies", ("turned",))))
    result = kir.optimize(kernel, target="cpu", schedule=pinned)
    assert "w_turned" in result.source
    values = sample_inputs(kernel, 1, {"B": 21, "K": 33, "N": 70})
    np.testing.assert_allclose(result.compile()(**values), kernel(**values), rtol=1e-4, atol=1e-4)


def test_threads_that_wait_awake_cost_where_the_library_and_loops_take_turns():
    machine, sizes = load_machine("avx512"), {"B": 512, "K": 256, "N": 1024}
    found = {dict(p.schedule)["products"]: cost(p, machine, sizes) for p in plans(only(LINEAR), machine, sizes)}
    assert found["apart"].overhead > 2 * machine.extra["library_handoff"] > found["loops"].overhead
    plain = only("kernel f(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }")
    alone = [cost(p, machine, {}) for p in plans(plain, machine, {}) if dict(p.schedule)["products"] == "library"]
    assert all(c.overhead < machine.extra["library_handoff"] for c in alone)


def test_a_reduction_that_is_written_out_leaves_the_loop_along_memory_inside():
    kernel = only(
        """kernel pool(x: f32[C, 2 * H, 2 * W]) -> (y: f32[C, H, W]) {
             y[c, i, j] = max(p in 0..2, q in 0..2: x[c, 2 * i + p, 2 * j + q])
           }"""
    )
    result = kir.optimize(kernel, target="cpu", sizes={"C": 16, "H": 64, "W": 64})
    assert "for j in range(W):" in result.source
    values = sample_inputs(kernel, 1, {"C": 2, "H": 3, "W": 21})
    np.testing.assert_array_equal(result.compile()(**values), kernel(**values))

"""Rows asked for one ahead: the same results at every size, and only where a row is gone over again and the model finds it worth it."""

from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.target import target
from extract.ahead import CHOICE, row_ahead
from extract.cost import cost
from extract.machine import load_machine
from extract.schedule_cpu import plans
from kernel_ir.compiled import compiled
from kernel_ir.plan import Plan
from kernel_ir.testing import quick_check

SOFTMAX = (
    "kernel k(x: f32[M, N]) -> (y: f32[M, N]) where N >= 1"
    " { m[i] = max(j: x[i, j]) e[i, j] = exp(x[i, j] - m[i]) y[i, j] = e[i, j] / sum(j: e[i, j]) }"
)
FORMS = {
    "softmax": SOFTMAX,
    "a loss": "kernel k(x: f64[M, N], t: i64[M]) -> (y: f64[M]) where N >= 1, 0 <= t, t < N"
    " { m[i] = max(j: x[i, j]) y[i] = log(sum(j: exp(x[i, j] - m[i]))) - x[i, t[i]] }",
    "two arrays": "kernel k(x: f32[M, N], z: f32[M, N]) -> (y: f32[M]) where N >= 1"
    " { m[i] = max(j: x[i, j] + z[i, j]) y[i] = sum(j: exp(x[i, j] + z[i, j] - m[i])) }",
    "rows of planes": "kernel k(x: f32[B, M, N]) -> (y: f32[B, M]) where N >= 1"
    " { m[b, i] = max(j: x[b, i, j]) y[b, i] = sum(j: exp(x[b, i, j] - m[b, i])) }",
    "every other row": "kernel k(x: f32[2*M, N]) -> (y: f32[M]) where N >= 1"
    " { m[i] = max(j: x[2*i, j]) for i in 0..M y[i] = sum(j: exp(x[2*i, j] - m[i])) for i in 0..M }",
}
NOT = {
    "once": "kernel k(x: f32[M, N]) -> (y: f32[M]) { y[i] = sum(j: exp(x[i, j])) }",
    "the same row": "kernel k(x: f32[N], z: f32[M]) -> (y: f32[M]) where N >= 1"
    " { m[i] = max(j: x[j] * z[i]) y[i] = sum(j: exp(x[j] * z[i] - m[i])) }",
    "rows of anywhere": "kernel k(x: f32[V, N], t: i64[M]) -> (y: f32[M]) where N >= 1, 0 <= t, t < V"
    " { m[i] = max(j: x[t[i], j]) y[i] = sum(j: exp(x[t[i], j] - m[i])) }",
    "columns": "kernel k(x: f32[N, M]) -> (y: f32[M]) where N >= 1 { m[i] = max(j: x[j, i]) y[i] = sum(j: exp(x[j, i] - m[i])) }",
}
LARGE = dict.fromkeys("BMNV", 4096)

pytestmark = pytest.mark.usefixtures("kept_code")


def ahead(text: str) -> Plan | None:
    machine, kernel = load_machine("cpu"), kir.parse(text)["k"]
    made = (row_ahead(plan, machine, LARGE, lambda b: len(b.shape) > 1) for plan in plans(kernel, machine))
    return next((plan for plan in made if plan is not None), None)


@pytest.mark.parametrize("text", FORMS.values(), ids=list(FORMS))
def test_the_same_results(text: str) -> None:
    plan = ahead(text)
    assert plan is not None
    assert "prefetch(x, (" in cpu_source(plan)
    quick_check(kir.parse(text)["k"], compiled(plan, target("cpu")), examples=8)


@pytest.mark.parametrize("text", NOT.values(), ids=list(NOT))
def test_only_rows_that_follow_each_other_and_are_gone_over_again(text: str) -> None:
    assert ahead(text) is None


def test_rows_around_a_piece_and_of_one_row() -> None:
    plan = ahead(SOFTMAX)
    assert plan is not None
    function = compiled(plan, target("cpu"))
    for shape in ((0, 5), (1, 1), (1, 4096), (3, 511), (2, 513), (40, 1025)):
        x: Any = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        e = np.exp(x - x.max(axis=1, keepdims=True))
        np.testing.assert_allclose(function(x), e / e.sum(axis=1, keepdims=True), rtol=2e-5)


def test_the_model_asks_for_large_rows_only() -> None:
    def best(sizes: dict[str, int]) -> Plan:
        machine = load_machine("avx512")
        return min(plans(kir.parse(SOFTMAX)["k"], machine, sizes), key=lambda plan: cost(plan, machine, sizes).cycles)

    assert CHOICE in best({"M": 4096, "N": 4096}).schedule
    assert CHOICE not in best({"M": 64, "N": 4096}).schedule  # 1 MiB is in the caches
    assert CHOICE not in best({"M": 1 << 20, "N": 16}).schedule


def test_a_schedule_made_for_large_rows_holds_at_any_size() -> None:
    kernel = kir.parse(SOFTMAX)["k"]
    made = kir.optimize(kernel, target="cpu:avx512", sizes={"M": 4096, "N": 4096}, check=False)
    assert "reads = row_ahead" in str(made.schedule)
    again = kir.optimize(kernel, target="cpu:avx512", schedule=made.schedule, check=False)
    assert again.schedule == made.schedule
    assert again.plan.steps == made.plan.steps
    with pytest.raises(kir.KernelError, match=r"^no plan for `k` on cpu has a choice `reads`"):
        once = kir.parse("kernel k(x: f32[M, N]) -> (y: f32[M]) { y[i] = sum(j: exp(x[i, j])) }")["k"]
        kir.optimize(once, target="cpu:avx512", schedule=made.schedule, check=False)

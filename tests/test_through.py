"""Sums over the rows of an earlier pass join that pass: what is joined, what is not, and that the results are right at any size."""

from collections.abc import Iterator

import pytest

import kernel_ir as kir
from backends.target import target
from extract.fuse import walk
from extract.machine import load_machine
from extract.rows import ROWS
from extract.schedule_cpu import Choice, plan, plans
from kernel_ir.compiled import compiled
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Launch, Loop, Plan, Store
from kernel_ir.testing import quick_check

JOINED = {
    "both ways": "kernel k(a: f64[M, N], x: f64[N]) -> (y: f64[N]) {\n  t[i] = sum(j: a[i, j] * x[j])\n  y[j] = sum(i: a[i, j] * t[i])\n}",
    "update and sum": "kernel k(a: f64[N, N], u: f64[N], v: f64[N], z: f64[N]) -> (b: f64[N, N], x: f64[N], w: f64[N]) {\n"
    "  b[i, j] = a[i, j] + u[i] * v[j]\n  x[i] = 2.0 * sum(j: b[j, i] * v[j]) + z[i]\n  w[i] = sum(j: b[i, j] * x[j])\n}",
    "whole numbers": "kernel k(a: i32[M, N]) -> (s: i32[M], t: i32[N]) { s[i] = sum(j: a[i, j])\n  t[j] = sum(i: a[i, j] * s[i]) }",
    "again and again": "kernel k(a: f64[M, N], inout x: f64[N], steps: i64) {\n"
    "  repeat steps {\n    t[i] = sum(j: a[i, j] * x[j])\n    x[j] = sum(i: a[i, j] * t[i]) * 0.001\n  }\n}",
}
APART = {
    "other rows": "kernel k(a: f64[N, N], x: f64[N]) -> (t: f64[N], y: f64[N]) {\n"
    "  t[i] = sum(j: a[i, j] * x[j])\n  y[j] = sum(i: a[i, j] * t[N - 1 - i])\n}",
    "along the rows": "kernel k(a: f64[N, N], x: f64[N]) -> (y: f64[N]) {\n"
    "  t[i] = sum(j: a[i, j] * x[j])\n  y[j] = sum(i: a[j, i] * t[i])\n}",
    "the greatest": "kernel k(a: f64[M, N]) -> (s: f64[M], t: f64[N]) where M >= 1 {\n"
    "  s[i] = sum(j: a[i, j])\n  t[j] = max(i: a[i, j] * s[i])\n}",
    "other data": "kernel k(a: f64[M, N], b: f64[M, N]) -> (s: f64[M], t: f64[N]) { s[i] = sum(j: b[i, j])\n  t[j] = sum(i: a[i, j]) }",
}


pytestmark = pytest.mark.usefixtures("kept_code")


def joined(text: str) -> tuple[Kernel, Plan | None]:
    (kernel,) = kir.parse(text).values()
    return kernel, plan(kernel, Choice("through", library=False, pack=False))


def shared(nodes: tuple[object, ...]) -> Iterator[Store]:
    for node in nodes:
        if isinstance(node, Store) and node.atomic:
            yield node
        yield from shared(getattr(node, "body", ()))


@pytest.mark.parametrize("text", JOINED.values(), ids=list(JOINED))
def test_a_sum_over_the_rows_of_a_pass_joins_it(text: str) -> None:
    kernel, found = joined(text)
    assert found is not None
    if "repeat" not in text:
        assert any(list(shared(step.body)) for step in found.steps if isinstance(step, Launch))
    quick_check(kernel, compiled(found, target("cpu")), examples=10)


@pytest.mark.parametrize("text", APART.values(), ids=list(APART))
def test_other_sums_stay_apart(text: str) -> None:
    kernel, found = joined(text)
    assert found is None
    assert plans(kernel)


def steps_of(found: Plan) -> set[int]:
    return {node.step for step in found.steps if isinstance(step, Launch) for node in walk(step.body) if isinstance(node, Loop)}


@pytest.mark.parametrize("name", ["both ways", "update and sum", "whole numbers"])
def test_four_rows_add_at_once(name: str) -> None:
    _, found = joined(JOINED[name])
    assert found is not None
    assert ROWS in steps_of(found)


MATRIX = "kernel k(a: f64[M, N], x: f64[N]) -> (y: f64[M]) { y[i] = sum(j: a[i, j] * x[j]) }"


@pytest.mark.parametrize(
    ("text", "rows", "steps"),
    [
        (MATRIX, 4000, {1, ROWS}),
        (MATRIX, 12, {1}),  # too few for the cores
        (MATRIX.replace("a[i, j] * x[j]", "exp(a[i, j] * x[j])"), 4000, {1}),
        (MATRIX.replace(" * x[j]", ""), 4000, {1}),
    ],
    ids=["a matrix times a vector", "few rows", "slow terms", "nothing shared"],
)
def test_rows_that_share_a_vector_run_together(text: str, rows: int, steps: set[int]) -> None:
    kernel = kir.parse(text)["k"]
    found = plan(kernel, Choice("none", library=False, pack=False), machine=load_machine("cpu"), sizes={"M": rows, "N": 500})
    assert found is not None
    assert steps_of(found) == steps
    if ROWS in steps:
        quick_check(kernel, compiled(found, target("cpu")), examples=10)


def test_rows_with_a_fold_run_one_by_one() -> None:
    _, found = joined(
        "kernel k(a: f64[M, N]) -> (m: f64[M], t: f64[N]) {\n"
        "  m[i] = fold(j in 0..N, s = 0.0: 0.5 * s + a[i, j]).s\n  t[j] = sum(i: a[i, j])\n}"
    )
    assert found is not None
    assert steps_of(found) == {1}


def test_equal_blocks_are_dealt_in_one_piece() -> None:
    kernel = kir.parse("kernel k(x: f64[N]) -> (y: f64[N]) { y[i] = sum(j in 0..i+1: x[j]) }")["k"]
    assert {step.deal for found in plans(kernel) for step in found.steps if isinstance(step, Launch) if "total" in step.name} == {"block"}


def test_the_choice_prints_and_is_found_again() -> None:
    kernel = kir.parse(JOINED["both ways"])["k"]
    result = kir.optimize(kernel, target="cpu", fast_math="reassoc", sizes={"M": 4000, "N": 5000})
    assert "fuse = through" in result.record
    module = kir.parse(result.record)
    again = kir.optimize(module["k"], target="cpu", fast_math="reassoc", schedule=module.schedule("k", "cpu"))
    assert again.plan == result.plan

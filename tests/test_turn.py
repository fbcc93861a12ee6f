"""Tiles that are turned through registers: every element of every type, at sizes around a square and a tile."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.target import target
from extract.schedule_cpu import plans
from kernel_ir.compiled import compiled
from kernel_ir.plan import Launch, Plan, Turn
from kernel_ir.testing import quick_check

SIZES = ((0, 3), (1, 1), (1, 64), (7, 130), (16, 16), (63, 65), (64, 64), (67, 15), (131, 97))
ADD = "kernel k(a: {0}[M, N], b: {0}[N, M]) -> (c: {0}[M, N]) {{ c[i, j] = a[i, j] + b[j, i] }}"
FORMS = {
    "of a stack": "kernel k(b: f32[K, N, M]) -> (c: f32[K, M, N]) { c[k, i, j] = b[k, j, i] }",
    "moved": "kernel k(b: f64[N + 2, M + 1]) -> (c: f64[M, N]) { c[i, j] = b[j + 2, i + 1] - b[j, i] }",
    "with a border": "kernel k(b: f32[N, M]) -> (c: f32[M, N]) { c[i, j] = b[j, i] + b[j - 1, i else 0.0] }",
    "in place": "kernel k(inout a: f32[N, N]) { a[i, j] = a[j, i] + a[i, j] }",
    "narrow": "kernel k(a: f16[M, N], b: f16[N, M]) -> (c: f16[M, N]) { c[i, j] = a[i, j] + b[j, i] }",
}


pytestmark = pytest.mark.usefixtures("kept_code")


def turns(plan: Plan) -> Iterator[Turn]:
    return (node for step in plan.steps if isinstance(step, Launch) for node in _inside(step.body) if isinstance(node, Turn))


def _inside(nodes: tuple[object, ...]) -> Iterator[object]:
    for node in nodes:
        yield node
        yield from _inside(getattr(node, "body", ()))


@pytest.mark.parametrize("dtype", ["f32", "i64"])
def test_a_turned_tile_holds_every_element(dtype: str) -> None:
    plan = plans(kir.parse(ADD.format(dtype))["k"])[0]
    assert len(list(turns(plan))) == 1
    function = compiled(plan, target("cpu"))
    for m, n in SIZES:
        a: Any = np.arange(m * n).reshape(m, n).astype(plan.buffers[0].dtype.numpy)
        b = (1000 + np.arange(m * n)[::-1]).reshape(n, m).astype(a.dtype)
        assert np.array_equal(function(a, b), np.add(a, b.T))


@pytest.mark.parametrize("text", FORMS.values(), ids=list(FORMS))
def test_tiles_of_many_forms(text: str) -> None:
    kernel = kir.parse(text)["k"]
    quick_check(kernel, compiled(plans(kernel)[0], target("cpu")), examples=10)


def test_a_load_that_a_condition_guards_is_not_turned() -> None:
    """The other one reads what is there in any case, so the guarded one may read the same tile."""
    guarded, free = (
        "kernel k(a: f32[M, N], b: f32[N, M]) -> (c: f32[M, N]) { c[i, j] = b[j, i] if a[i, j] > 0.0 else a[i, j] }",
        "kernel k(a: f32[M, N], b: f32[N, M]) -> (c: f32[M, N]) { c[i, j] = (b[j, i] if a[i, j] > 0.0 else a[i, j]) + b[j, i] }",
    )
    assert not list(turns(plans(kir.parse(guarded)["k"])[0]))
    plan = plans(kir.parse(free)["k"])[0]
    assert len(list(turns(plan))) == 1
    assert cpu_source(plan).count("b[") == 2  # what is left of a tile, along either side

"""Results that are written past the caches: every element of every type, at sizes around a piece, and only where nothing reads them."""

from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.target import target
from extract.cost import cost
from extract.machine import load_machine
from extract.schedule_cpu import plans
from extract.stream import CHOICE, streamed
from kernel_ir.compiled import compiled
from kernel_ir.plan import Plan
from kernel_ir.testing import quick_check

SIZES = (0, 1, 7, 63, 511, 513, 1024, 4099)
FORMS = {
    "rows": "kernel k(x: f32[M, N]) -> (y: f32[M, N]) where N >= 1 { m[i] = max(j: x[i, j]) y[i, j] = x[i, j] - m[i] }",
    "gathered": "kernel k(x: f64[V, D], id: i64[T]) -> (y: f64[T, D]) where 0 <= id, id < V { y[t, d] = x[id[t], d] }",
    "turned": "kernel k(a: f32[M, N], b: f32[N, M]) -> (c: f32[M, N]) { c[i, j] = a[i, j] + b[j, i] }",
    "two results": "kernel k(x: f16[N], z: u8[N]) -> (y: f16[N], w: u8[N]) { y[i] = x[i] * 2.0 w[i] = z[i] + 1 }",
    "with a border": "kernel k(x: f32[M, N]) -> (y: f32[M, N]) { y[i, j] = x[i, j - 1 else 0.0] + x[i, j + 2 else 1.0] }",
    "of truth values": "kernel k(x: f32[N]) -> (y: bool[N]) { y[i] = x[i] > 0.0 }",
    "running": "kernel k(x: f64[N]) -> (y: f64[N]) { y[i] = sum(j in 0..i + 1: x[j]) }",
}


pytestmark = pytest.mark.usefixtures("kept_code")


def past(plan: Plan) -> Plan | None:
    return streamed(plan, lambda b: b.space == "output", lambda _, b, around: b.space == "output")


def first(text: str) -> Plan:
    return next(made for plan in plans(kir.parse(text)["k"]) if (made := past(plan)) is not None)


@pytest.mark.parametrize("dtype", ["f32", "u8", "i64"])
def test_every_element_is_written(dtype: str) -> None:
    function = compiled(first(f"kernel k(x: {dtype}[N]) -> (y: {dtype}[N]) {{ y[i] = x[i] + x[i] }}"), target("cpu"))
    for n in SIZES:
        x: Any = (np.arange(n) % 100).astype({"f32": np.float32, "u8": np.uint8, "i64": np.int64}[dtype])
        assert np.array_equal(function(x), x + x)


@pytest.mark.parametrize("text", FORMS.values(), ids=list(FORMS))
def test_streams_of_many_forms(text: str) -> None:
    quick_check(kir.parse(text)["k"], compiled(first(text), target("cpu")), examples=8)


def test_rows_that_begin_anywhere_in_a_line() -> None:
    function = compiled(first("kernel k(x: f32[M, N]) -> (y: f32[M, N]) { y[i, j] = 3.0 * x[i, j] }"), target("cpu"))
    for n in (1, 15, 37, 521):
        x = np.arange(40 * n, dtype=np.float32).reshape(40, n)
        assert np.array_equal(function(x), 3 * x)


def test_a_plain_copy_needs_no_scratch() -> None:
    plan = first(FORMS["gathered"])
    source = cpu_source(plan)
    assert "stream(y, (uint64(t), 0), x, (uint64(id_[uint64(t)]), 0), " in source
    assert "_line" not in source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kernel k(inout x: f32[N]) { x[i] = x[i] + 1.0 }", set[str]()),
        ("kernel k(x: f32[N]) -> (y: f32[N], z: f32[N]) { y[i] = x[i] + 1.0 z[i] = y[N - 1 - i] }", {"y", "z"}),
        ("kernel k(bin: i64[N]) -> (h: f32[B]) { h[bin[i]] += 1.0 for i in 0..N where 0 <= bin[i] and bin[i] < B }", set[str]()),
        ("kernel k(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }", set[str]()),
    ],
)
def test_what_a_launch_reads_again_is_stored_as_ever(text: str, expected: set[str]) -> None:
    made = (past(plan) for plan in plans(kir.parse(text)["k"]))
    lines = (line for plan in made if plan is not None for line in cpu_source(plan).splitlines())
    assert {line.split("stream(")[1].split(",")[0] for line in lines if line.strip().startswith("stream(")} <= expected


def test_only_large_results_go_past_the_caches() -> None:
    machine = load_machine("avx512")
    kernel = kir.parse("kernel k(x: f32[N], z: f32[N]) -> (y: f32[N]) { y[i] = x[i] + z[i] }")["k"]
    assert all(CHOICE not in plan.schedule for plan in plans(kernel, machine, {"N": 1 << 16}))
    large = plans(kernel, machine, {"N": 1 << 24})
    best = min(large, key=lambda plan: cost(plan, machine, {"N": 1 << 24}).cycles)
    assert CHOICE in best.schedule


def test_the_long_part_of_a_row_with_borders_goes_past_the_caches() -> None:
    """Where parts begin and end has names that are known once the row is: the middle is long, what is left at its ends is not."""
    plan = next(
        p for p in plans(kir.parse(FORMS["with a border"])["k"], load_machine("avx512"), {"M": 9000, "N": 9000}) if CHOICE in p.schedule
    )
    text = cpu_source(plan)
    (written,) = (line.split(" in ")[1] for line in text.splitlines() if line.lstrip().startswith("for j_block"))
    assert "j_end - j_begin" in written and text.count("    stream(") == 1


def test_the_schedule_says_so_and_parses_back() -> None:
    kernel = "kernel k(x: f32[N], z: f32[N]) -> (y: f32[N]) { y[i] = x[i] + z[i] }"
    result = kir.optimize(kir.parse(kernel)["k"], target="cpu:avx512", sizes={"N": 1 << 24})
    assert "stores = past_caches" in str(result.schedule)
    again = kir.parse(f"{kernel}\n\n{result.schedule}")
    pinned = kir.optimize(again["k"], target="cpu:avx512", sizes={"N": 1 << 24}, schedule=again.schedule("k", "cpu"))
    assert pinned.source == result.source

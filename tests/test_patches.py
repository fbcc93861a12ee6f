"""Stencils in patches of rows: bit for bit what single points give, for any sizes and threads; nothing else is read or written."""

from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.load import load
from backends.target import target
from extract.cost import cost
from extract.machine import load_machine
from extract.patch import CHOICE
from extract.schedule_cpu import plans
from kernel_ir.compiled import compiled
from kernel_ir.plan import Plan
from kernel_ir.testing import quick_check
from tests.conftest import sweeps_of
from tests.test_sweeps import IN_PLACE

WIDE = load_machine("avx512")
CUBE = """kernel k(inout a: f64[N, M, L], inout b: f64[N, M, L], steps: i64) where N >= 3, M >= 3, L >= 3 {
  repeat steps {
    b[i, j, l] = 0.5 * (a[i-1, j, l] + a[i+1, j, l] - a[i, j-1, l]) + a[i, j+1, l] * a[i, j, l-1] - a[i, j, l+1] + a[i, j, l]
      for i in 1..N-1, j in 1..M-1, l in 1..L-1
    a[i, j, l] = b[i-1, j, l] - b[i+1, j, l] / 3.0 + b[i, j, l-1] + b[i, j, l+1] for i in 1..N-1, j in 1..M-1, l in 1..L-1
  }
}"""
BOX = """kernel k(x: f32[H, W], c: f32, w: f32[H]) -> (y: f32[H - 2, W - 5]) where H >= 2, W >= 5 {
  y[i, j] = c * (x[i, j] + x[i+1, j+2]) - w[i] * x[i+2, j+5] + fma(x[i, j+1], 0.25, -x[i+1, j])
}"""
FAR = """kernel k(x: f64[H, W]) -> (y: f64[H - 3, W - 40]) where H >= 3, W >= 40 {
  y[i, j] = x[i, j+20] + x[i+1, j+20] - x[i+2, j+20] * 0.5 + x[i+3, j+20] + x[i+1, j+40]
}"""
BORDER = "kernel k(x: f32[H, W]) -> (y: f32[H, W]) { y[i, j] = x[i, j-1 else 0.0] + x[i+1, j else 1.0] }"
FEW = "kernel k(x: f32[H, W]) -> (y: f32[H - 1, W]) where H >= 1 { y[i, j] = x[i, j] - x[i + 1, j] }"
POINTS = "kernel k(x: f32[H, W]) -> (y: f32[H, W]) { y[i, j] = x[i, j] * 2.0 + 1.0 }"
INTEGERS = "kernel k(x: i32[H, W]) -> (y: i32[H - 2, W]) where H >= 2 { y[i, j] = x[i, j] + x[i + 1, j] + x[i + 2, j] }"
FUNCTION = "kernel k(x: f32[H, W]) -> (y: f32[H - 1, W]) where H >= 1 { y[i, j] = exp(x[i, j]) - x[i + 1, j] }"

pytestmark = pytest.mark.usefixtures("kept_code")


def both(text: str, flags: tuple[str, ...] = ()) -> tuple[Plan, Plan | None]:
    """The first plan by points, and the first by patches."""
    found = plans(kir.parse(text)["k"], WIDE, fast_math=flags, every=True)
    return found[0], next((plan for plan in found if CHOICE in plan.schedule), None)


def cube(a: Any, b: Any) -> None:
    mid = slice(1, -1)
    b[mid, mid, mid] = (
        0.5 * (a[:-2, mid, mid] + a[2:, mid, mid] - a[mid, :-2, mid])
        + a[mid, 2:, mid] * a[mid, mid, :-2]
        - a[mid, mid, 2:]
        + a[mid, mid, mid]
    )
    a[mid, mid, mid] = b[:-2, mid, mid] - b[2:, mid, mid] / 3.0 + b[mid, mid, :-2] + b[mid, mid, 2:]


def test_a_repeat_of_patches() -> None:
    _, patches = both(CUBE)
    assert patches is not None
    module: Any = load(cpu_source(patches), "k").module
    passes = sweeps_of(module)
    rng = np.random.default_rng(0)
    for shape in ((3, 3, 3), (4, 3, 9), (5, 5, 10), (6, 4, 12), (9, 7, 19), (34, 6, 27), (67, 12, 35)):
        for parts in (1, 2, 3, 5):
            a, b = rng.standard_normal((2, *shape))
            a[1, 1, 1] = np.nan
            wanted = a.copy(), b.copy()
            for _ in range(3):
                cube(*wanted)
            passes(parts, 6, a, b, *shape)
            assert np.array_equal(a, wanted[0], equal_nan=True) and np.array_equal(b, wanted[1], equal_nan=True), (shape, parts)


@pytest.mark.parametrize("text", [BOX, FAR], ids=["box", "far"])
def test_one_sweep_of_patches(text: str) -> None:
    points, patches = both(text)
    assert patches is not None
    one, other = (compiled(plan, target("cpu")) for plan in (points, patches))
    rng = np.random.default_rng(0)
    kind: Any = np.float32 if text is BOX else np.float64
    for rows in (3, 4, 5, 6, 7, 9, 33, 130):
        for columns in (5, 6, 20, 21, 22, 36, 37, 38, 52, 70, 333) if text is BOX else (40, 41, 47, 48, 49, 57, 133):
            x = rng.standard_normal((rows, columns)).astype(kind)
            more = (np.float32(0.3), rng.standard_normal(rows).astype(kind)) if text is BOX else ()
            assert np.array_equal(one(x, *more), other(x, *more)), (rows, columns)


@pytest.mark.parametrize("flags", [(), ("contract", "nsz")], ids=["exact", "contract"])
def test_patches_against_the_interpreter(flags: tuple[str, ...]) -> None:
    _, patches = both(BOX, flags)
    assert patches is not None
    quick_check(kir.parse(BOX)["k"], compiled(patches, target("cpu")), fast_math=flags, examples=8)


@pytest.mark.parametrize(
    "text", [IN_PLACE, BORDER, FEW, POINTS, FUNCTION, INTEGERS], ids=["in place", "border", "few", "points", "function", "integers"]
)
def test_no_patches(text: str) -> None:
    """What reads what it writes cannot be done twice; guarded loads, functions, points alone gain nothing; vectors hold floats."""
    assert both(text)[1] is None


def test_the_model_chooses_patches_where_rows_are_long() -> None:
    kernel = kir.parse(CUBE)["k"]
    for length, chosen in ((70, True), (16, False)):
        sizes = {"N": 70, "M": 70, "L": length}
        best = min(plans(kernel, WIDE, sizes), key=lambda plan: cost(plan, WIDE, sizes).cycles)
        assert (CHOICE in best.schedule) is chosen
    assert all(CHOICE not in plan.schedule for plan in plans(kernel, load_machine("avx2"), every=True))


def test_a_schedule_keeps_patches() -> None:
    result = kir.optimize(kir.parse(CUBE)["k"], target="cpu:avx512", sizes={"N": 70, "M": 70, "L": 70})
    assert "stencils = patches_in_registers" in str(result.schedule)
    pinned = kir.parse(f"{result.text}\n{result.schedule}").schedules[0]
    assert pinned == result.schedule
    small = kir.optimize(result.kernel, target="cpu:avx512", sizes={"N": 9, "M": 9, "L": 9}, schedule=pinned)
    assert "read_lanes(" in small.source

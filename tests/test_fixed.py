"""Launches written for the sizes given, beside those for any: both right, each where it should run, and a schedule keeps them."""

from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.target import target
from extract.cost import cost
from extract.fixed import KEY, pinned_values
from extract.machine import load_machine
from extract.schedule_cpu import plans
from kernel_ir.compiled import compiled
from kernel_ir.errors import NameError_
from kernel_ir.plan import Launch, Plan

WIDE = load_machine("avx512")
FILTER = """kernel k(x: f32[C, H, W], w: f32[K, C, R, S_x]) -> (y: f32[K, H - R + 1, W - S_x + 1]) where H >= R, W >= S_x {
  y[k, i, j] = sum(c, r, s: x[c, i + r, j + s] * w[k, c, r, s])
}"""
WINDOW = "kernel k(x: f64[N], w: f64[R]) -> (y: f64[N - R + 1]) where N >= R { y[i] = sum(r: x[i + r] * w[r]) }"
SIZES = {"C": 16, "H": 64, "W": 64, "K": 32, "R": 3, "S_x": 3}

pytestmark = pytest.mark.usefixtures("kept_code")


def beside(text: str, sizes: dict[str, int]) -> Plan | None:
    return next((plan for plan in plans(kir.parse(text)["k"], WIDE, sizes) if dict(plan.schedule).get(KEY)), None)


def test_a_filter_of_any_size() -> None:
    plan = beside(FILTER, SIZES)
    assert plan is not None and dict(plan.schedule)[KEY] == "R 3,S_x 3"
    source = cpu_source(plan)
    assert "if R == 3 and S_x == 3:" in source and "for r in range(3):" in source and "for r in range(R):" in source
    function = compiled(plan, target("cpu"))
    rng = np.random.default_rng(0)
    for c, h, w, k, r, s in (
        (2, 5, 19, 3, 3, 3),
        (1, 3, 3, 1, 3, 3),
        (0, 4, 4, 2, 3, 3),
        (2, 5, 7, 2, 3, 2),
        (2, 4, 4, 3, 1, 1),
        (1, 2, 3, 2, 0, 3),
    ):
        x, f = rng.standard_normal((c, h, w)).astype(np.float32), rng.standard_normal((k, c, r, s)).astype(np.float32)
        wanted = np.zeros((k, h - r + 1, w - s + 1))
        for a, b in np.ndindex(r, s):
            part = x[:, a : a + h - r + 1, b : b + w - s + 1].astype(np.float64)
            wanted += np.einsum("chw,kc->khw", part, f[:, :, a, b].astype(np.float64))
        assert np.allclose(function(x, f), wanted, atol=1e-5), (c, h, w, k, r, s)


def test_a_window_that_is_written_out() -> None:
    plan = beside(WINDOW, {"N": 1000, "R": 4})
    assert plan is not None
    function: Any = compiled(plan, target("cpu"))
    for n, r in ((4, 4), (37, 4), (5, 2), (9, 9), (3, 0)):
        x, w = np.arange(n, dtype=float), np.arange(1.0, r + 1)
        assert np.array_equal(function(x, w), [sum(x[i + a] * w[a] for a in range(r)) for i in range(n - r + 1)]), (n, r)


@pytest.mark.parametrize("sizes", [{}, {"N": 4}, {"R": 9}, {"R": 0}])
def test_only_for_sizes_given_that_are_few_turns(sizes: dict[str, int]) -> None:
    assert beside(WINDOW, sizes) is None


def test_the_model_chooses_it_and_prices_other_sizes_as_what_runs() -> None:
    kernel = kir.parse(FILTER)["k"]
    found = plans(kernel, WIDE, SIZES)
    best = min(found, key=lambda plan: cost(plan, WIDE, SIZES).cycles)
    assert KEY in dict(best.schedule)
    (launch,) = best.steps
    assert isinstance(launch, Launch) and launch.otherwise is not None
    other = {**SIZES, "R": 5}
    plain = next(plan for plan in found if plan.steps == (launch.otherwise,))
    assert cost(best, WIDE, other) == cost(plain, WIDE, other)


def test_a_schedule_keeps_it() -> None:
    kernel = kir.parse(FILTER)["k"]
    result = kir.optimize(kernel, target="cpu:avx512", sizes=SIZES)
    assert "written_for = R_3, S_x_3" in str(result.schedule)
    pinned = kir.parse(f"{result.text}\n{result.schedule}").schedules[0]
    again = kir.optimize(kernel, target="cpu:avx512", sizes={"R": 5}, schedule=pinned)
    assert again.schedule == result.schedule and "if R == 3 and S_x == 3:" in again.source
    wrong = kir.parse(f"{result.text}\nschedule k on cpu {{ written_for = Q_3 }}").schedules[0]
    with pytest.raises(NameError_, match="written_for"):
        kir.optimize(kernel, target="cpu:avx512", schedule=wrong)


def test_sizes_of_a_schedule() -> None:
    kernel = kir.parse("kernel k(x: f32[R, S_x, T]) -> (y: f32[T]) { y[t] = sum(r, s: x[r, s, t]) }")["k"]
    assert pinned_values({"written_for": ("R_3", "S_x_7", "T_12", "odd", "Q_2"), "fuse": ("most_1",)}, kernel) == {"R": 3, "S_x": 7}

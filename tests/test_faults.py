"""Faults seeded in CUDA kernels: each kind is made and caught on the CPU, and none is called equivalent but by proof."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from benchmarks.fault_cases import extents
from benchmarks.fault_seeds import Fault, faults, spread
from benchmarks.fault_trial import Trial, equivalent
from extract.schedule_cuda import cuda_plans
from kernel_ir.inputs import sample_inputs
from kernel_ir.plan import Plan

ROWS = Path(__file__).parent.parent / "examples" / "kernels" / "rows.kir"
NORM = "kernel norm(x: f32[R, C]) -> (y: f32[R, C]) { z[r] = sum(c: x[r, c])  y[r, c] = x[r, c] / z[r] }"
SCALED = "kernel scaled(x: f32[R, C], w: f32[C]) -> (y: f32[R, C]) { y[r, c] = x[r, c] * w[c] }"

ONE_PASS = """kernel attention(q: f32[M, K], k: f32[N, K], v: f32[N, D]) -> (o: f32[M, D]) where N >= 1 {
  s[i, j] = sum(c: q[i, c] * k[j, c])
  o[i, d] = expsum(j: s[i, j], v[j, d]) / expsum(j: s[i, j], 1.0)
}"""


def plan_of(source: str, **wanted: str) -> Plan:
    (kernel,) = kir.parse(source).values()
    found = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 128))
    return next(p for p in found if dict(p.schedule).items() >= wanted.items())


def trial_of(plan: Plan) -> Trial:
    sizes = extents(plan)
    values: dict[str, Any] = sample_inputs(plan.kernel, 3, sizes)
    return Trial(plan.kernel, plan, values, sizes)


def test_each_kind_is_seeded_and_spread() -> None:
    softmax = str(kir.parse_file(ROWS)["softmax"])
    found = list(faults(plan_of(softmax, fusion="most", map="block", products="plain", neighbours="4")))
    kinds = {"bound slipped", "index slipped", "stale buffer", "alignment slipped", "barrier removed"}
    assert {f.kind for f in found} == kinds
    assert sorted(f.kind for f in spread(found, 1)) == sorted(kinds)


def test_faults_are_caught_and_the_right_code_is_not() -> None:
    plan = plan_of(NORM, fusion="most", map="block", products="plain")
    trial = trial_of(plan)
    assert trial.caught(Fault("none", "", plan)) == ""
    for fault in spread(faults(plan), 1):
        assert trial.caught(fault) in ("error", "result"), fault.where


def test_one_point_more_is_proved_to_make_no_step_and_one_less_is_not() -> None:
    plan = plan_of(SCALED, fusion="most", products="plain", neighbours="4")
    assert np.prod(list(extents(plan).values())) % 4 == 0
    by_where = {f.where: f for f in faults(plan) if f.kind == "bound slipped"}
    assert "no further step" in equivalent(by_where["y: c < hi + 1"], plan)
    assert equivalent(by_where["y: c < hi - 1"], plan) == ""
    assert equivalent(by_where["y: r < hi + 1"], plan) == ""


def test_a_barrier_less_in_a_pass_by_blocks_of_rows_is_caught() -> None:
    plan = plan_of(ONE_PASS, products="rows64x128")
    assert extents(plan) == {"M": 70, "N": 37, "K": 37, "D": 70}
    trial = trial_of(plan)
    barriers = [f for f in faults(plan) if f.kind == "barrier removed"]
    assert len(barriers) == 4
    for fault in barriers[2:]:  # that of the warp, and the last of a step
        assert trial.caught(fault) == "error", fault.where
    assert {"i < hi + 1", "j < hi - 1"} <= {f.where.partition(": ")[2] for f in faults(plan)}

"""Barriers of CUDA plans: those that order nothing go, all others stay, and the shadow sees no race without the ones that went."""

from pathlib import Path

import numpy as np
import pytest

import kernel_ir as kir
from backends.simt_errors import SimtError
from kernel_ir.plan import Plan

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from backends.cuda import CudaOnCpu
from extract.schedule_cuda import cuda_plans

CONTRACTIONS = Path(__file__).parent.parent / "examples" / "kernels" / "contractions.kir"
OWN = "kernel own(x: f32[R, C]) -> (t: f32[R, C], y: f32[R]) { t[r, c] = x[r, c] * x[r, c]  y[r] = sum(c: t[r, c]) }"
MIRRORED = (
    "kernel mirrored(x: f32[R, C]) -> (t: f32[R, C], y: f32[R]) { t[r, c] = x[r, c] * 2.0  y[r] = sum(c: t[r, C - 1 - c] * x[r, c]) }"
)
PARTLY = "kernel partly(x: f32[R, C]) -> (t: f32[R, C], y: f32[R]) where C >= 1 { t[r, c] = x[r, c]  y[r] = sum(c in 1..C: t[r, c]) }"
TURNED = (
    "kernel turned(x: f32[R, C, C]) -> (t: f32[R, C, C], y: f32[R]) { t[r, c, d] = x[r, c, d]  y[r] = sum(c, d: t[r, d, c] * x[r, c, d]) }"
)


def plan_of(source: str, mapping: str, neighbours: str = "") -> Plan:
    (kernel,) = kir.parse(source).values()
    wanted = {"fusion": "most", "map": mapping, "products": "plain"} | ({"neighbours": neighbours} if neighbours else {})
    return next(p for p in cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64)) if dict(p.schedule) == wanted)


def barriers(plan: Plan) -> int:
    """Barriers before the row's one join, which has another where a block has several warps."""
    body = CudaOnCpu(plan).source.partition("def kernels(index)")[2]
    return body.partition("cuda.shfl")[0].count("cuda.sync")


@pytest.mark.parametrize("mapping", ["nearest", "block"])
def test_a_thread_that_reads_what_it_wrote_waits_for_nobody(mapping: str) -> None:
    assert barriers(plan_of(OWN, mapping)) == 0


@pytest.mark.parametrize("mapping", ["nearest", "block"])
@pytest.mark.parametrize("source", [MIRRORED, PARTLY, TURNED], ids=["mirrored", "partly", "turned"])
def test_what_another_thread_wrote_is_waited_for(source: str, mapping: str) -> None:
    plan = plan_of(source, mapping)
    assert barriers(plan) == 1
    run = CudaOnCpu(plan)
    before, _, after = run.source.rpartition("def kernels(index)")
    for wait in ("cuda.syncthreads()", "cuda.syncwarp()"):
        after = after.replace(wait, "pass", 1)
    x = np.ones((2, 70, 70)[: plan.kernel.params[0].type.rank], np.float32)
    run(x)
    with pytest.raises(SimtError, match="data race"):
        CudaOnCpu(plan, 1, f"{before}def kernels(index){after}")(x)


def test_loops_that_are_dealt_out_otherwise_need_a_barrier() -> None:
    """Scores are written one a thread, and read four a thread."""
    attention = kir.parse_file(CONTRACTIONS)["attention"]
    assert barriers(plan_of(str(attention), "block", "4")) == 1
    assert barriers(plan_of(str(attention), "block")) == 0


@pytest.mark.parametrize("mapping", ["nearest", "block"])
def test_results_are_the_same_without(mapping: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 77)).astype(np.float32)
    for seed in (0, 1, 2):
        t, y = CudaOnCpu(plan_of(OWN, mapping), seed)(x)
        assert (t == x * x).all()
        np.testing.assert_allclose(y, (x * x).sum(1), rtol=1e-5)

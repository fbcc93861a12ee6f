"""CUDA kernels executed on the CPU against the reference evaluator: every public kernel and every construct, under each schedule."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import kernel_ir as kir
from kernel_ir.generate import kernels as drawn_kernels
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

KERNELS = Path(__file__).parent.parent / "examples" / "kernels"

# One construct a line: what the public kernels do not show.
CONSTRUCTS = """
kernel online(x: f32[R, C], v: f32[C]) -> (y: f32[R]) { y[r] = expsum(c: x[r, c], v[c]) }
kernel wide_online(x: f64[R, C, D]) -> (y: f64[R]) { y[r] = expsum(c, d: x[r, c, d], 1.0) }
kernel products(x: f32[R, C]) -> (y: f32[R]) { y[r] = prod(c: x[r, c]) }
kernel extremes(x: f32[R, C], k: i32[R, C]) -> (a: f32[R], b: f32[R], c: i32[R], d: i32[R]) {
  a[r] = max(q: x[r, q])
  b[r] = min(q: x[r, q])
  c[r] = max(q: k[r, q])
  d[r] = min(q: k[r, q])
}
kernel logic(x: f32[R, C]) -> (a: bool[R], b: bool[R]) {
  a[r] = any(c: x[r, c] > 0.0)
  b[r] = all(c: x[r, c] > 0.0)
}
kernel first_greatest(x: f32[R, C]) -> (y: i64[R]) where C >= 1 { y[r] = argmax(c: x[r, c]) }
kernel flat_least(k: i32[R, C, D]) -> (y: i64[R]) where C >= 1, D >= 1 { y[r] = argmin(c, d: k[r, c, d]) }
kernel whole(x: f32[N]) -> (s: f32) { s = sum(i: x[i] * x[i]) }
kernel folded(x: f32[R, C]) -> (y: f32[R]) { y[r] = fold(c in 0..C, z = 0.0 while z < 100.0: z * 0.5 + x[r, c]).z }
kernel fold_with_sum(x: f32[R, C]) -> (y: f32[R]) { y[r] = fold(k in 0..3, z = 1.0: z * 0.5 + sum(c: x[r, c] * z)).z }
kernel largest_seen(at: i32[N], w: f32[N]) -> (h: f32[B]) { h[at[i]] max= w[i] for i in 0..N where 0 <= at[i] and at[i] < B }
kernel counted(at: i32[N]) -> (h: i64[B]) { h[at[i]] += 1 for i in 0..N where 0 <= at[i] and at[i] < B }
kernel narrow_sums(at: i32[N], w: f16[N], inout h: f16[B]) { h[at[i]] += w[i] for i in 0..N where 0 <= at[i] and at[i] < B }
kernel columns(x: f32[M, N] @ cols, y: f32[N, M]) -> (z: f32[M, N] @ cols) { z[i, j] = x[i, j] + y[j, i] }
kernel upper(x: f32[N, N]) -> (y: f32[N, N]) {
  y[i, j] = x[i, j] * 2.0 for i in 0..N, j in 0..i+1
  y[i, j] = x[j, i] otherwise
}
kernel corner(x: f32[N, N], b: i64) -> (y: f32[N, N]) {
  y[i, j] = 1.0 for i in 0..N, j in 0..N where i + j < b
  y[i, j] = x[i, j] otherwise
}
kernel rounds(inout a: f32[N], steps: i64) { repeat t in steps { a[i] = a[i] * 0.5 + f32(t) } }
kernel shifted(inout a: f32[N]) { a[i] = a[i] + a[i-1 else 0.0] }
kernel reversed(x: i32[N]) -> (y: i32[N]) { y[i] = x[N - 1 - i] * 3 - (i32(i) // 2) % 5 }
kernel brain(x: bf16[R, C], w: bf16[C]) -> (y: bf16[R]) { y[r] = sum(c: x[r, c] * w[c]) }
kernel bytes(x: u8[N], k: i8[N]) -> (y: u8[N], z: i16[N]) {
  y[i] = x[i] + k[i]
  z[i] = (x[i] << 4) * k[i]
}
kernel guarded(x: f32[N], p: bool[N]) -> (y: f32[N]) { y[i] = sum(j in 0..i: x[j]) if p[i] else exp(x[i]) }
kernel doubled(x: f32[R, C]) -> (y: f32[R, C]) {
  n[r]    = sum(c: x[r, c] * x[r, c])
  u[r, c] = x[r, c] / sqrt(n[r] + 1.0)
  y[r, c] = u[r, c] + max(k: u[r, k])
}
kernel batched(a: f16[B, M, K], b: f32[B, N, K], s: f32[N]) -> (c: f32[B, M, N]) {
  c[q, i, j] = max(sum(k: a[q, i, k] * b[q, j, k]) + s[j], 0.0)
}
kernel gathered(x: f64[M, K], w: f64[V, N], at: i32[K]) -> (y: f64[N, M] @ cols) where 0 <= at, at < V {
  y[j, i] = sum(k: exp(x[i, k] * 0.1) * w[at[k], j])
}
kernel index_words(index: f32[N], lane: f32[N], points: f32) -> (thread: f32[N]) { thread[row] = index[row] + lane[row] * points }
"""


@cache
def kernels() -> dict[str, Kernel]:
    found: dict[str, Kernel] = {}
    for path in sorted(KERNELS.glob("*.kir")):
        found |= dict(kir.parse_file(path))
    return found | dict(kir.parse(CONSTRUCTS))


@cache
def plans(name: str) -> tuple[Plan, ...]:
    """Every mapping with the most fusion (wide accesses where rows go to threads, or to blocks), and the plainest without any."""
    from extract.schedule_cuda import cuda_plans

    # Small sizes to expect: blocks of two warps do all that larger ones do.
    found = cuda_plans(kernels()[name], "cuda-on-cpu", dict.fromkeys(kernels()[name].sizes, 64))
    most = [p for p in found if p.schedule[0] == ("fusion", "most") and not (p.schedule[1][1] in ("point", "warp") and len(p.schedule) > 3)]
    return (*most, *[p for p in found if p.schedule[0] == ("fusion", "none")][:1])


CASES = [(name, "-".join(how for _, how in p.schedule), n) for name in kernels() for n, p in enumerate(plans(name))]


@pytest.mark.parametrize(("name", "how", "number"), CASES, ids=[f"{name}-{how}" for name, how, _ in CASES])
def test_cuda_code_computes_what_the_kernel_says(name: str, how: str, number: int) -> None:
    from backends.cuda import CudaOnCpu, build
    from backends.target import target
    from kernel_ir.compiled import Compiled
    from kernel_ir.testing import quick_check

    kernel, plan = kernels()[name], plans(name)[number]
    run = build(plan, "cuda-on-cpu")
    assert isinstance(run, CudaOnCpu)
    for run.seed in (0, 7):
        quick_check(kernel, Compiled(kernel, plan, target("cuda-on-cpu"), run.source, run, ()), seed=run.seed, examples=2)


LARGE = [
    ("saxpy", {"N": 700}),
    ("softmax", {"R": 3, "C": 2100}),
    ("blur", {"H": 37, "W": 29}),
    ("cumsum", {"N": 300}),
    ("nearest", {"N": 40, "K": 70, "D": 3}),
]


@pytest.mark.parametrize(("name", "sizes"), LARGE, ids=[name for name, _ in LARGE])
def test_more_than_one_block(name: str, sizes: dict[str, int]) -> None:
    from backends.cuda import build
    from kernel_ir.evaluate import evaluate
    from kernel_ir.inputs import sample_inputs

    kernel = kernels()[name]
    values = sample_inputs(kernel, 3, sizes)
    expected = evaluate(kernel, values, sizes)[kernel.outputs[0].name]
    for plan in plans(name):
        given = build(plan, "cuda-on-cpu", seed=5)(*(values[p.name] for p in kernel.params))
        assert np.allclose(given, expected, rtol=2e-5, atol=1e-5, equal_nan=True), plan.schedule


@pytest.mark.parametrize("name", ["softmax", "blur", "upper", "reversed", "histogram", "gather_rows", "reshape_scale"])
def test_64_bit_indices_give_the_same(name: str) -> None:
    from backends.cuda import build
    from backends.target import target
    from kernel_ir.compiled import Compiled
    from kernel_ir.testing import quick_check

    kernel, plan = kernels()[name], plans(name)[0]
    run = build(plan, "cuda-on-cpu")
    run._emitted = type(run._emitted)(run.source.replace("2**31", "0"), run._emitted.signatures)
    assert "< 0 else (np.uint64, wide)" in run.source
    quick_check(kernel, Compiled(kernel, plan, target("cuda-on-cpu"), run.source, run, ()), examples=3)


WIDE = ["saxpy", "silu_and_mul", "rgb_to_gray", "softmax", "fused_add_rmsnorm", "gather_rows", "bytes", "brain"]


@pytest.mark.parametrize("name", WIDE)
def test_wide_accesses_where_rows_fit_them_and_where_not(name: str) -> None:
    from backends.cuda import build
    from benchmarks.fault_trial import outputs, reference
    from kernel_ir.inputs import sample_inputs

    kernel = kernels()[name]
    plan = next(p for p in reversed(plans(name)) if p.schedule[-1][0] == "neighbours")
    run = build(plan, "cuda-on-cpu", seed=3)
    for extent in (8, 40, 41):
        sizes = dict.fromkeys(kernel.sizes, extent)
        values = sample_inputs(kernel, 5, sizes)
        expected, given = reference(kernel, values, sizes), outputs(run, kernel, values, sizes)
        for array in expected:
            assert np.allclose(given[array], expected[array], rtol=1e-3, atol=1e-5, equal_nan=True), (array, extent)


def test_wide_accesses_ask_for_aligned_arrays_and_fitting_rows() -> None:
    from backends.cuda import _load, emit

    plan = next(p for p in plans("silu_and_mul") if p.schedule[-1] == ("neighbours", "8"))
    source = emit(plan)
    assert "if D % 8 == 0 and aligned(x, y):" in source

    class At:
        def __init__(self, address: int) -> None:
            self.__cuda_array_interface__ = {"data": (address, False)}

    aligned = _load(source)["aligned"]
    assert aligned(At(32), At(4096))
    assert not aligned(At(32), At(4104))


SPLIT = """
kernel norm(x: f32[N]) -> (y: f32[N], small: bool) where N >= 1 {
  m    = max(i: x[i])
  y[i] = exp(x[i] - m) / sum(k: exp(x[k] - m))
  small = all(i: x[i] < 100.0)
}
kernel few(x: f64[R, C], k: i32[R, C]) -> (y: f64[R, C], n: i32[R]) {
  y[r, c] = x[r, c] - max(q: x[r, q])
  n[r]    = sum(c: k[r, c]) + prod(c: 1 - k[r, c] // 64)
}
"""


@pytest.mark.parametrize("name", ["norm", "few"])
def test_long_reductions_are_split_over_the_grid(name: str) -> None:
    from backends.cuda import build
    from benchmarks.fault_trial import outputs, reference
    from extract.schedule_cuda import cuda_plans
    from kernel_ir.inputs import sample_inputs

    kernel = kir.parse(SPLIT)[name]
    found = [p for p in cuda_plans(kernel, "cuda-on-cpu", {"N": 1 << 20, "R": 8, "C": 1 << 16}) if ("parts", "64") in p.schedule]
    for plan in (found[0], next(p for p in found if p.schedule[-1][0] == "neighbours")):
        run = build(plan, "cuda-on-cpu", seed=2)
        for extent in (1, 1000):
            sizes = {"N": extent, "R": 3, "C": extent}
            sizes = {size: sizes[size] for size in kernel.sizes}
            values = sample_inputs(kernel, 7, sizes)
            expected, given = reference(kernel, values, sizes), outputs(run, kernel, values, sizes)
            for array in expected:
                assert np.allclose(given[array], expected[array], rtol=1e-4, atol=1e-6, equal_nan=True), (array, extent)


RUNNING = """
kernel cumsum(x: f64[N]) -> (y: f64[N]) { y[i] = sum(j in 0..i+1: x[j]) }
kernel records(x: i32[R, N]) -> (y: i32[R, N]) { y[r, i] = max(j in 0..i: x[r, j]) + x[r, i] }
"""


@pytest.mark.parametrize("name", ["cumsum", "records"])
def test_long_running_reductions_go_by_runs(name: str) -> None:
    from backends.cuda import build
    from benchmarks.fault_trial import outputs, reference
    from extract.cost import cost
    from extract.machine import load_machine
    from extract.schedule_cuda import cuda_plans
    from kernel_ir.inputs import sample_inputs

    kernel = kir.parse(RUNNING)[name]
    large = {"N": 1 << 20, "R": 8}
    plan = min(cuda_plans(kernel, "cuda-on-cpu", large), key=lambda p: cost(p, load_machine("sm_80"), large).cycles)
    assert plan.schedule[-1] == ("scan", "runs")
    run = build(plan, "cuda-on-cpu", seed=2)
    for extent in (1, 33, 300):
        sizes = {size: {"N": extent, "R": 3}[size] for size in kernel.sizes}
        values = sample_inputs(kernel, 7, sizes)
        expected, given = reference(kernel, values, sizes), outputs(run, kernel, values, sizes)
        assert np.allclose(given["y"], expected["y"], rtol=1e-12, atol=1e-12, equal_nan=True), extent


def test_a_large_histogram_is_made_in_shared_memory_first() -> None:
    from backends.cuda import build
    from benchmarks.fault_trial import outputs, reference
    from extract.cost import cost
    from extract.machine import load_machine
    from extract.schedule_cuda import cuda_plans
    from kernel_ir.inputs import sample_inputs

    kernel = kernels()["histogram"]
    large = {"N": 1 << 24, "B": 1024}
    plan = min(cuda_plans(kernel, "cuda-on-cpu", large), key=lambda p: cost(p, load_machine("sm_80"), large).cycles)
    assert plan.schedule[-1] == ("scatter", "shared")
    run = build(plan, "cuda-on-cpu", seed=2)
    assert "if B <= 4096:" in run.source
    for sizes in ({"N": 1500, "B": 40}, {"N": 300, "B": 5000}):
        values = sample_inputs(kernel, 7, sizes)
        expected, given = reference(kernel, values, sizes), outputs(run, kernel, values, sizes)
        assert np.allclose(given["h"], expected["h"], rtol=1e-5, atol=1e-5, equal_nan=True)


def test_empty_arrays_launch_nothing() -> None:
    from backends.cuda import build

    assert build(plans("saxpy")[0], "cuda-on-cpu")(np.float32(1), np.zeros(0, np.float32), np.zeros(0, np.float32)).shape == (0,)
    assert build(plans("softmax")[0], "cuda-on-cpu")(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_running_exponentials_of_minus_infinity() -> None:
    from backends.cuda import build

    x = np.array([[-np.inf, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf], [np.inf, 0.0, 1.0], [np.nan, 0.0, 1.0]], np.float32)
    v = np.array([1.0, 2.0, 3.0], np.float32)
    for plan in plans("online"):
        y = build(plan, "cuda-on-cpu")(x, v)
        assert np.array_equal(y, np.array([3.0, np.nan, np.nan, np.nan], np.float32), equal_nan=True)
        assert build(plan, "cuda-on-cpu")(np.zeros((2, 0), np.float32), np.zeros(0, np.float32)).tolist() == [0.0, 0.0]


def test_a_wide_access_off_its_alignment_is_caught() -> None:
    from benchmarks.fault_cases import extents
    from benchmarks.fault_seeds import faults
    from benchmarks.fault_trial import Trial
    from kernel_ir.inputs import sample_inputs

    kernel = kernels()["saxpy"]
    plan = next(p for p in plans("saxpy") if p.schedule[-1] == ("neighbours", "4"))
    sizes = extents(plan)
    values = sample_inputs(kernel, 3, sizes)
    trial = Trial(kernel, plan, values, sizes)
    seeded = [f for f in faults(plan) if f.kind == "alignment slipped"]
    assert len(seeded) == 3
    assert trial.caught(seeded[0]) == trial.caught(seeded[-1]) == "error"


def test_seeded_faults_are_caught() -> None:
    from benchmarks.fault_cases import EXTENT
    from benchmarks.fault_seeds import faults
    from benchmarks.fault_trial import Trial
    from kernel_ir.inputs import sample_inputs

    for name, kinds in (("softmax", {"barrier removed", "index slipped", "stale buffer"}), ("histogram", {"not atomic", "index slipped"})):
        kernel = kernels()[name]
        plan = next(p for p in plans(name) if name != "softmax" or ("map", "block") in p.schedule)
        sizes = dict.fromkeys(kernel.sizes, EXTENT)
        values = sample_inputs(kernel, 3, sizes)
        trial = Trial(kernel, plan, values, sizes)
        seeded = [f for f in faults(plan) if f.kind in kinds]
        assert {f.kind for f in seeded} == kinds
        for fault in seeded[::2] if len(seeded) > 8 else seeded:
            assert trial.caught(fault) in ("error", "result"), fault.where


@settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(drawn_kernels())
def test_drawn_kernels(kernel: Kernel) -> None:
    from backends.cuda import build
    from backends.target import target
    from extract.schedule_cuda import cuda_plans
    from kernel_ir.compiled import Compiled
    from kernel_ir.testing import quick_check

    for plan in cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64))[:2]:
        run = build(plan, "cuda-on-cpu", seed=3)
        quick_check(kernel, Compiled(kernel, plan, target("cuda-on-cpu"), run.source, run, ()), examples=2)

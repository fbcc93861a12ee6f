"""Reductions over contractions by blocks of rows, in one pass (attention): found, chosen by cost, right at odd sizes, within registers."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from extract.fuse import walk
from extract.rows_cuda import ROW_SHAPES, shared_elements
from extract.schedule_cuda import cuda_plans
from kernel_ir.evaluate import evaluate
from kernel_ir.inputs import sample_inputs
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Launch, Plan, RowTile

KERNELS = Path(__file__).parent.parent / "examples" / "kernels" / "contractions.kir"
FLAGS = "reassoc,contract,arcp,afn,nsz"
SIZES = {"B": 1, "H": 8, "M": 1024, "N": 1024, "K": 64, "D": 64}
ATTENTION = """
kernel attention(q: f32[H, M, K], k: f32[H, N, K], v: f32[H, N, D], scale: f32) -> (o: f32[H, M, D], l: f32[H, M]) where N >= 1 {
  s[h, i, j] = scale * sum(c: q[h, i, c] * k[h, j, c])
  z[h, i] = expsum(j: s[h, i, j], 1.0)
  o[h, i, d] = expsum(j: s[h, i, j], v[h, j, d]) / z[h, i]
  l[h, i] = log(z[h, i]) + max(j: s[h, i, j])
}
"""
CAUSAL = """
kernel causal(q: f32[N, K], k: f32[K, N], v: f32[N, D]) -> (o: f32[N, D]) {
  o[i, d] = expsum(j in 0..i+1: sum(c: q[i, c] * k[c, j]), v[j, d]) / expsum(j in 0..i+1: sum(c: q[i, c] * k[c, j]), 1.0)
}
"""
LINEAR = """
kernel linear(a: f32[M, K], b: f16[N, K], c: f16[N, D]) -> (y: f32[M, D], least: f32[M]) {
  s[i, j] = sum(k: a[i, k] * f32(b[j, k]))
  y[i, d] = sum(j: max(s[i, j], 0.0) ** 2 * f32(c[j, d]))
  least[i] = min(j: s[i, j])
}
"""
HALVES = """
kernel halves(q: f16[M, K], k: bf16[N, K], v: f16[N, D], b: f16[M, N]) -> (o: f16[M, D], l: f32[M]) {
  s[i, j] = sum(c: q[i, c] * k[j, c]) + b[i, j]
  z[i] = expsum(j: s[i, j], 1.0)
  o[i, d] = expsum(j: s[i, j], v[j, d]) / z[i]
  l[i] = log(z[i])
}
"""
DOUBLES = ATTENTION.replace("f32", "f64")
needs_cuda = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


def kernel_of(text: str) -> Kernel:
    (kernel,) = kir.parse(text).values()
    return kernel


def tile_of(plan: Plan) -> RowTile | None:
    nodes = (n for step in plan.steps if isinstance(step, Launch) for n in walk(step.body))
    return next((n for n in nodes if isinstance(n, RowTile)), None)


@cache
def by_rows(text: str, products: str) -> Plan:
    """The plan of a shape; "wide" before its name: with loads of 128 bits."""
    kernel = kernel_of(text)
    found = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64), every=True)
    wide = products.startswith("wide ")
    shape = ("products", products.removeprefix("wide "))
    return next(p for p in found if shape in p.schedule and wide == (("staging", "wide") in p.schedule))


def test_attention_is_chosen_by_cost_and_its_schedule_parses_back() -> None:
    name = "causal_attention"
    kernel = kir.parse_file(KERNELS)[name]
    sizes = {n: s for n, s in SIZES.items() if n in kernel.sizes}
    result = kir.optimize(kernel, target="cuda:sm_80", fast_math=FLAGS, sizes=sizes, check=False)
    assert tile_of(result.plan) is not None
    assert result.cycles * 2 < result.baseline_cycles
    assert [b.name for b in result.plan.buffers if b.space == "global"] == []  # no scores in memory
    module = kir.parse(result.record)
    pinned = module.schedule(name, "cuda:sm_80")
    again = kir.optimize(module[name], target="cuda:sm_80", fast_math=FLAGS, sizes=sizes, schedule=pinned, check=False)
    assert again.plan.steps == result.plan.steps


@pytest.mark.parametrize("k", ["K", "64"])
def test_what_a_call_does_not_fit_runs_as_the_plan_without_it(k: str) -> None:
    """Wide and kept, then wide, then kept, then neither; of a contraction that is known to be short, wide and not."""
    text = ATTENTION.replace("K]", f"{k}]")
    launch = by_rows(text, "wide ahead_rows64").steps[0]
    found: list[tuple[bool, bool]] = []
    while isinstance(launch, Launch):
        tile = next(n for n in walk(launch.body) if isinstance(n, RowTile))
        found.append((tile.wide, tile.kept))
        launch = launch.otherwise
    assert found == ([(True, True), (True, False), (False, True), (False, False)] if k == "K" else [(True, True), (False, True)])


HEADS = """
kernel heads(q: f32[B, M, H, K], k: f32[B, N, G, K], v: f32[B, N, G, D], bias: f32[H, M, N], scale: f32) -> (o: f32[B, M, H, D])
  where N >= 1, H <= 4 * G {
  score[b, h, i, j] = (scale * sum(c: k[b, j, h // 4, c] * q[b, i, h, c]) + bias[h, i, j]) if j <= i else -inf
  m[b, h, i] = max(j: score[b, h, i, j])
  raw[b, i, h, d] = sum(t: v[b, t, h // 4, d] * exp(score[b, h, i, t] - m[b, h, i]))
  norm[b, h, i] = sum(j: exp(score[b, h, i, j] - m[b, h, i]))
  o[b, i, h, d] = raw[b, i, h, d] / norm[b, h, i]
}
"""


def test_heads_beside_one_another_in_memory_and_in_groups_are_recognised() -> None:
    """Two batch dimensions, another order of dimensions in what is kept between, a mask, a bias, the sums in another order."""
    kernel = kernel_of(HEADS)
    sizes = {"B": 2, "H": 8, "M": 512, "N": 512, "G": 2, "K": 64, "D": 64}
    result = kir.optimize(kernel, target="cuda:sm_80", fast_math=FLAGS, sizes=sizes, check=False)
    tile = tile_of(result.plan)
    assert tile is not None
    assert tile.exponent is not None
    assert [b.name for b in result.plan.buffers if b.space == "global"] == []


def test_what_has_no_reduction_over_products_has_no_plan_by_rows() -> None:
    for kernel in (kir.parse_file(KERNELS)[name] for name in ("matmul", "attention")):  # as written, attention takes three passes
        assert not [p for p in cuda_plans(kernel, "cuda:sm_80", SIZES) if dict(p.schedule)["products"] in ROW_SHAPES]


def test_without_a_licence_the_three_passes_stay() -> None:
    kernel = kir.parse_file(KERNELS)["attention"]
    result = kir.optimize(kernel, target="cuda:sm_80", sizes=SIZES, check=False)
    tile = tile_of(result.plan)
    assert tile is None or tile.exponent is None


def test_shapes_fit_in_shared_memory_and_share_rows_within_a_warp() -> None:
    for shape in ROW_SHAPES:
        tile = tile_of(by_rows(ATTENTION, shape))
        assert tile is not None
        assert shared_elements(tile) * 4 <= 48 * 1024
        assert 32 % tile.threads[1] == 0


@pytest.mark.parametrize(
    "text",
    [
        # What a row without terms has is never read.
        "kernel k(q: f32[N, K], b: f32[N, K], v: f32[N, D]) -> (o: f32[N, D])"
        " { o[i, d] = expsum(j in 0..i: sum(c: q[i - 1, c] * b[j, c]) if i > 0 else 0.0, v[j, d]) }",
        # A second product regroups what is multiplied, which is not licensed here.
        "kernel k(q: f32[M, K], b: f32[N, K], v: f32[N, D], w: f32[D]) -> (o: f32[M, D])"
        " { o[i, d] = sum(j: sum(c: q[i, c] * b[j, c]) * v[j, d] * w[d]) }",
        # Ranges that start later for later rows are not looked through.
        "kernel k(q: f32[N, K], b: f32[N, K], v: f32[N, D]) -> (o: f32[N, D])"
        " { o[i, d] = sum(j in max(0, i - 3)..i + 1: sum(c: q[i, c] * b[j, c]) * v[j, d]) }",
    ],
)
def test_what_is_not_proved_is_left_alone(text: str) -> None:
    kernel = kernel_of(text)
    assert all(tile_of(p) is None for p in cuda_plans(kernel, "cuda:sm_80", dict.fromkeys(kernel.sizes, 64)))


def inputs(kernel: Kernel, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    values = dict(sample_inputs(kernel, seed, sizes))
    for p in kernel.params:
        if p.type.dtype.name != "bf16":  # whose bits they are
            values[p.name] = rng.standard_normal(np.shape(values[p.name])).astype(np.asarray(values[p.name]).dtype)
            values[p.name] = values[p.name] if p.type.rank else np.float32(0.3)
    return values


@cache
def compiled(text: str, products: str, flags: frozenset[str]) -> Any:
    from backends.cuda import CudaOnCpu

    return CudaOnCpu(replace(by_rows(text, products), fast_math=flags))


def agree(text: str, products: str, sizes: Mapping[str, int], values: Mapping[str, Any], flags: frozenset[str], seed: int) -> None:
    kernel = kernel_of(text)
    run = compiled(text, products, flags)
    run.seed = seed
    found = run(*values.values(), **{n: s for n, s in sizes.items() if n in run.__signature__.parameters})
    expected = evaluate(kernel, dict(values), sizes)
    for output, got in zip(kernel.outputs, found if len(kernel.outputs) > 1 else (found,), strict=True):
        wanted = expected[output.name]
        greatest = np.abs(wanted, where=np.isfinite(wanted), out=np.zeros_like(wanted)).max(initial=1.0)
        close = 2e-3 if wanted.dtype == np.float16 else 3e-5 * (1e-8 if wanted.dtype == np.float64 else 1.0)
        np.testing.assert_allclose(got, wanted, rtol=close, atol=close / 10 * greatest, equal_nan=True)


CONTRACT = frozenset({"contract"})
CASES = [
    (ATTENTION, "rows64", CONTRACT, ({"H": 2, "M": 70, "N": 37, "K": 64, "D": 64}, {"H": 1, "M": 65, "N": 33, "K": 80, "D": 80})),
    (CAUSAL, "rows32", CONTRACT, ({"N": 67, "K": 5, "D": 70}, {"N": 1, "K": 65, "D": 1}, {"N": 0, "K": 3, "D": 2})),
    (LINEAR, "rows64x128", frozenset[str](), ({"M": 66, "N": 65, "K": 33, "D": 130}, {"M": 3, "N": 0, "K": 2, "D": 2})),
    (ATTENTION, "wide ahead_rows64", CONTRACT, ({"H": 1, "M": 66, "N": 36, "K": 36, "D": 68}, {"H": 1, "M": 1, "N": 1, "K": 4, "D": 0})),
    (CAUSAL, "ahead_rows32", CONTRACT, ({"N": 35, "K": 5, "D": 70}, {"N": 1, "K": 1, "D": 1}, {"N": 0, "K": 3, "D": 2})),
    (LINEAR, "ahead_rows64x128", frozenset[str](), ({"M": 66, "N": 65, "K": 33, "D": 130}, {"M": 3, "N": 2, "K": 0, "D": 2})),
    (HALVES, "wide ahead_rows64x256", CONTRACT, ({"M": 5, "N": 40, "K": 40, "D": 264}, {"M": 5, "N": 3, "K": 7, "D": 9})),
    (DOUBLES, "rows64", CONTRACT, ({"H": 2, "M": 66, "N": 35, "K": 17, "D": 66}, {"H": 1, "M": 1, "N": 1, "K": 0, "D": 1})),
]


@needs_cuda
@pytest.mark.parametrize(("text", "products", "flags", "sizes"), CASES, ids=[f"{kernel_of(case[0]).name}-{case[1]}" for case in CASES])
def test_blocks_of_rows_are_right_at_odd_sizes(text: str, products: str, flags: frozenset[str], sizes: tuple[dict[str, int], ...]) -> None:
    for seed, one in enumerate(sizes):
        agree(text, products, one, inputs(kernel_of(text), one), flags, seed)


@needs_cuda
@pytest.mark.parametrize("products", ["rows32", "ahead_rows32"])
def test_no_number_of_another_row_gets_in(products: str) -> None:
    sizes = {"N": 67, "K": 5, "D": 70}
    values = inputs(kernel_of(CAUSAL), sizes)
    values["v"][40:] = np.inf  # beyond what the first rows read
    values["v"][66, 3] = np.nan
    values["k"][:, 0] = -np.inf  # exponents of -inf and inf, and NaN
    agree(CAUSAL, products, sizes, values, CONTRACT, 3)
    values["k"][:, 0] = 0.0
    values["q"][20] = np.nan
    agree(CAUSAL, products, sizes, values, CONTRACT, 4)


@needs_cuda
def test_rows_that_are_masked_whole_or_hold_no_numbers_are_as_the_kernel_says() -> None:
    sizes = {"M": 66, "N": 40, "K": 40, "D": 72}
    values = inputs(kernel_of(HALVES), sizes)
    values["b"][3] = -np.inf
    values["b"][5, 2] = np.nan
    values["b"][64, 1:] = -np.inf  # one term is left
    values["q"][7] = np.inf
    values["v"][39, 71] = np.nan
    agree(HALVES, "wide ahead_rows64x256", sizes, values, CONTRACT, 5)


@needs_cuda
@pytest.mark.parametrize(
    ("text", "products", "registers"), [(CAUSAL, "rows64", 128), (ATTENTION, "rows64x128", 168), (DOUBLES, "rows64", 176)]
)
def test_what_is_summed_stays_in_registers(text: str, products: str, registers: int) -> None:
    from backends.cuda import build

    plan = replace(by_rows(text, products), fast_math=CONTRACT)
    for cubin in build(plan, "cuda:sm_80").cubins().values():
        assert (cubin.stack, cubin.spill_stores, cubin.spill_loads) == (0, 0, 0)
        assert cubin.registers <= registers


@needs_cuda
def test_a_product_that_a_condition_keeps_inside_is_no_tile() -> None:
    """The last column's sum reads row N of `b`, and is not asked for: a tile computes all sums."""
    text = "kernel f(a: f32[M, K], b: f32[N, K]) -> (y: f32[M, N]) { y[i, j] = sum(k: a[i, k] * b[j + 1, k]) if j + 1 < N else 0.0 }"
    kernel = kernel_of(text)
    sizes = {"M": 33, "K": 7, "N": 6}
    assert not [c for p in cuda_plans(kernel, "cuda-on-cpu", sizes) for c in p.schedule if c[1].startswith(("tile", "rows"))]
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((33, 7)).astype(np.float32), rng.standard_normal((6, 7)).astype(np.float32)
    y = kir.optimize(kernel, target="cuda-on-cpu", fast_math=FLAGS, sizes=sizes).compile()(a, b)
    np.testing.assert_allclose(y[:, :-1], a @ b[1:].T, rtol=1e-5, atol=1e-5)
    assert not y[:, -1].any()

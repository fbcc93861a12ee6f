"""Every public kernel, and edge cases of the language, on the CPU: compiled code against the reference evaluator."""

from pathlib import Path

import pytest

import kernel_ir as kir
from backends.target import target
from extract.cost import cost
from extract.machine import load_machine
from extract.schedule_cpu import plans
from kernel_ir.compiled import compiled
from kernel_ir.testing import quick_check

FILES = sorted((Path(__file__).parents[1] / "examples" / "kernels").glob("*.kir"))
PUBLIC = [(kernel.name, kernel) for file in FILES for kernel in kir.parse_file(file).values()]
EDGES = {
    "whole reduction": "kernel dot(x: f32[N], y: f32[N]) -> (s: f32) { s = sum(i: x[i] * y[i]) }",
    "maximum by index": "kernel top(k: i64[N], x: f32[N]) -> (m: f32[B]) { m[k[i]] max= x[i] for i in 0..N where 0 <= k[i] and k[i] < B }",
    "reads itself": "kernel near(inout a: f32[N]) where N >= 3 { a[i] = a[i-1] + a[i+1] for i in 1..N-1 }",
    "integers": "kernel ints(a: i32[N], b: i32[N]) -> (c: i32[N], d: i32[N], e: i32[N]) {\n"
    "  c[i] = a[i] // b[i]\n  d[i] = a[i] % b[i] + (a[i] << b[i])\n  e[i] = (a[i] >> b[i]) * a[i]\n}",
    "float division": "kernel floats(a: f32[N], b: f32[N]) -> (c: f32[N], d: f32[N]) { c[i] = a[i] // b[i]\n  d[i] = a[i] % b[i] + sign(a[i]) }",
    "casts": "kernel casts(x: f32[N], b: bf16[N], u: u8[N]) -> (a: i32[N], c: bf16[N], e: u8[N]) {\n"
    "  a[i] = i32(x[i])\n  c[i] = b[i] * x[i]\n  e[i] = u[i] * 3\n}",
    "columns": "kernel cols(a: f32[M, N] @ cols, b: f32[M, N]) -> (c: f32[M, N] @ cols) { c[i, j] = a[i, j] + b[i, j] }",
    "argmax": "kernel am(x: f32[R, C]) -> (k: i64[R]) where C >= 1 { k[r] = argmax(c: x[r, c]) }",
}


@pytest.fixture(autouse=True)
def _kept_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is kept between runs of the suite."""
    monkeypatch.setenv("KIR_CACHE_DIR", str(request.config.cache.mkdir("kir")))


@pytest.mark.parametrize("kernel", [k for _, k in PUBLIC], ids=[n for n, _ in PUBLIC])
def test_public_kernel(kernel: kir.Kernel) -> None:
    machine = load_machine("cpu")
    best = min(plans(kernel, machine), key=lambda p: cost(p, machine).cycles)
    quick_check(kernel, compiled(best, target("cpu")), examples=8)


@pytest.mark.parametrize("text", EDGES.values(), ids=list(EDGES))
def test_edge_of_the_language(text: str) -> None:
    (kernel,) = kir.parse(text).values()
    quick_check(kernel, compiled(plans(kernel)[0], target("cpu")), examples=12)


@pytest.mark.parametrize("kernel", [k for _, k in PUBLIC], ids=[n for n, _ in PUBLIC])
def test_plans_and_source_are_deterministic(kernel: kir.Kernel) -> None:
    from backends.cpu_source import cpu_source

    first, again = plans(kernel), plans(kernel)
    assert first == again
    assert [cpu_source(p) for p in first] == [cpu_source(p) for p in again]

"""Every public kernel, and edge cases of the language, on the CPU: compiled code against the reference evaluator."""

from pathlib import Path

import numpy as np
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
    "float division": "kernel floats(a: f32[N], b: f32[N]) -> (c: f32[N], d: f32[N]) {\n"
    "  c[i] = a[i] // b[i]\n  d[i] = a[i] % b[i] + sign(a[i])\n}",
    "casts": "kernel casts(x: f32[N], b: bf16[N], u: u8[N]) -> (a: i32[N], c: bf16[N], e: u8[N]) {\n"
    "  a[i] = i32(x[i])\n  c[i] = b[i] * x[i]\n  e[i] = u[i] * 3\n}",
    "columns": "kernel cols(a: f32[M, N] @ cols, b: f32[M, N]) -> (c: f32[M, N] @ cols) { c[i, j] = a[i, j] + b[i, j] }",
    "fields": "kernel fields(x: u8[R, C, 3], inout p: f32[N, 4] @ any, h: f16[N, 2]) -> (y: f32[R, C], o: i32[N, 2]) {\n"
    "  y[r, c] = f32(x[r, c, 2]) - f32(x[r, C - 1 - c, 0])\n  p[i, 3] = p[i, 3] + 2.0 * p[i, 1] for i in 0..N\n"
    "  o[i, 1] = i32(h[i, 1])\n  o[i, 0] = i32(h[N - 1 - i, 0])\n}",
    "sweeps": "kernel sweeps(inout a: f32[N, M], inout b: f32[N, M], steps: i64) where N >= 5 {\n  repeat steps {\n"
    "    b[i, j] = a[i - 2, j] + a[i + 1, j] for i in 2..N-2, j in 0..M\n"
    "    a[i, j] = b[i - 1, j] - b[i + 2, j] for i in 2..N-2, j in 0..M\n  }\n}",
    "argmax": "kernel am(x: f32[R, C]) -> (k: i64[R]) where C >= 1 { k[r] = argmax(c: x[r, c]) }",
}


pytestmark = pytest.mark.usefixtures("kept_code")


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


NAMES = {
    "of the module": "kernel k(part: f32[Parts, Np], math: f32) -> (row: f32[Parts, Np]) { row[i, prange] = part[i, prange] * math }",
    "of numba": "kernel k(float32: f32[N], at: f32[N]) -> (int64: f32[N]) { int64[i] = exp(float32[i]) + at[i] * 2.0 }",
    "kernel launch": "kernel launch(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] + 1.0 }",
    "kernel np": "kernel np(x: f32[N]) -> (y: f32[N]) { y[i] = exp(x[i]) + floor(x[i]) }",
    "kernel of a helper": "kernel exp_f32(x: f32[N]) -> (y: f32[N]) { y[i] = exp(x[i]) }",
    "formulas": "kernel turned(polynomial: f64[N]) -> (Numbers: f64[N]) { Numbers[i] = sin(polynomial[i]) }",
    "arrays": "kernel k(launch: f32[N]) -> (restrict: f32[N]) { restrict[i] = launch[i] + 1.0 }",
    "Python's words": "kernel k(lambda: f32[N, CACHE], def: f32) -> (class: f32[N, CACHE]) { class[i, j] = lambda[i, j] * def }",
    "builtins": "kernel k(range: f32[N], id: f32[N]) -> (len: f32, int: f32[N]) { len = sum(i: range[i])\n  int[i] = id[i] + 1.0 }",
    "indices": "kernel k(x: f32[M, N], y: i32[N]) -> (z: f32[M, N], w: i32[M, N]) {\n"
    "  z[first, last] = exp(x[first, last])\n  w[parts, part] = y[part] // 3\n}",
    "ends": "kernel a_b_part(x: f32[N]) -> (b_part: f32[N], b: f32[N]) { b_part[i] = x[i] * 2.0\n  b[i] = x[i] + 1.0 }",
}


@pytest.mark.parametrize("text", NAMES.values(), ids=list(NAMES))
def test_names_that_the_module_needs_itself(text: str) -> None:
    (kernel,) = kir.parse(text).values()
    quick_check(kernel, compiled(plans(kernel)[0], target("cpu")), examples=3)


def test_renamed_parameters_keep_their_keywords() -> None:
    import numpy as np

    (kernel,) = kir.parse(NAMES["of numba"]).values()
    x = np.ones(3, np.float32)
    assert compiled(plans(kernel)[0], target("cpu"))(float32=x, at=x).shape == (3,)


def test_functions_without_a_vector_form_cost_as_much() -> None:
    from backends.cpu_expr import MATH
    from backends.vector_math import VECTOR

    machine = load_machine("cpu")
    assert machine.scalar >= MATH - {op for op, _ in VECTOR}
    kernels = kir.parse(
        "kernel a(x: f32[N]) -> (y: f32[N]) { y[i] = log1p(x[i]) }\nkernel b(x: f32[N]) -> (y: f32[N]) { y[i] = log(1.0 + x[i]) }"
    )
    sizes = {"N": 1 << 20}
    slow, fast = (min(cost(p, machine, sizes).cycles for p in plans(k, machine, sizes)) for k in kernels.values())
    assert slow > 2.0 * fast


def test_memory_of_a_result_is_reused_once_nobody_holds_it():
    module = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] + 1.0 }")
    function = kir.optimize(module["k"], target="cpu").compile(check=False)
    x = np.zeros(1 << 19, np.float32)
    first = function(x)
    part = first[5:]  # a view holds the memory as well
    place = first.ctypes.data
    del first
    second = function(x + np.float32(1.0))
    assert second.ctypes.data != place
    assert np.all(part == 1.0) and np.all(second == 2.0)
    del part
    third = function(x)
    assert third.ctypes.data == place
    assert np.all(third == 1.0) and np.all(second == 2.0)

"""NumPy code against the reference evaluator: public kernels, each op, each statement form, drawn kernels; and that it runs alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import kernel_ir as kir
from backends.numpy_source import numpy_source
from kernel_ir.binding import bind
from kernel_ir.evaluate import surface
from kernel_ir.nodes import Kernel
from kernel_ir.testing import kernels, quick_check, sample_inputs

EXAMPLES = Path(__file__).parent.parent / "examples" / "kernels"
PUBLIC = {name: k for path in sorted(EXAMPLES.glob("*.kir")) for name, k in kir.parse_file(path).items()}


class Emitted:
    """The emitted module as a compiled kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.names: dict[str, Any] = {}
        exec(compile(numpy_source(kernel), kernel.name, "exec"), self.names)

    def __call__(self, **arguments: Any) -> Any:
        bound = bind(self.kernel, (), arguments, allocate=True)
        self.names["launch"](*bound.values.values(), *bound.outputs, *bound.sizes.values())
        bound.finish()
        return surface(self.kernel, {p.name: a for p, a in zip(self.kernel.outputs, bound.outputs, strict=True)})


@pytest.mark.parametrize("name", PUBLIC)
def test_public_kernels(name: str) -> None:
    quick_check(PUBLIC[name], Emitted(PUBLIC[name]), examples=25)


FORMS = [
    "(x: f32[N]) -> (y: f32[N]) { y[i] = x[i-1 else 2.0] + x[i+1 else 3.0] }",
    "(x: f32[N]) -> (y: f32[N]) { y[i] = max(j in 0..i: x[j]) }",
    "(x: f32[N]) -> (y: i64[N]) where N >= 1 { y[i] = argmax(j in 0..i+1: x[j]) }",
    "(x: i32[N]) -> (y: i64) where N >= 2 { y = argmin(j in 1..N: x[j]) }",
    "(x: f32[N, M]) -> (y: f32) { y = sum(i, j: x[i, j]) }",
    "(x: f32[N, N]) -> (y: f32[N]) { y[i] = expsum(j in 0..i+1: x[i, j], x[j, i]) }",
    "(x: f32[N], v: f32[N, D]) -> (y: f32[D]) { y[d] = expsum(j: x[j], v[j, d]) }",
    "(x: f64[N]) -> (y: i32[N]) { y[i] = fold(k in 0..i, z = x[i], n = 0 while z < 10.0: z * 2.0 + f64(k), n + 1).n }",
    "(x: f16[N]) -> (y: bf16[N]) { y[i] = x[i] * 2.0 }",
    "(x: f64[N]) -> (y: u8[N]) { y[i] = i32(x[i]) }",
    "(x: bool[N], a: i32[N]) -> (y: bool[N]) { y[i] = not x[i] and (a[i] > 0 or any(j: x[j])) }",
    "(x: i64[N]) -> (y: i64[N]) { y[i] = (x[i] << 3) ^ (x[i] >> 70) | ~x[i] & 5 }",
    "(x: i32[N], a: i32) -> (y: i32[N]) { y[i] = x[i] // a + x[i] % a - -x[i] ** 3 }",
    "(x: f32[N], a: f32) -> (y: f32[N]) { y[i] = fma(x[i], a, 1.0) + rsqrt(abs(x[i])) + x[i] ** 5 + pow(a, 2.0) }",
    "(p: i64[N], x: f16[N]) -> (h: f16[B]) where 0 <= p, p < B { h[p[i]] += x[i] for i in 0..N where x[i] > 0.0 }",
    "(p: i64[N], x: i32[N]) -> (h: i32[B]) where 0 <= p, p < B { h[p[i]] max= x[i] for i in 0..N }",
    "(inout a: f32[N]) where N >= 2 { repeat t in 3 { a[i] = a[i-1] + f32(t) for i in 1..N\n a[i] = a[i] * 2.0 otherwise } }",
    "(x: f32[N]) -> (y: f32[N, N]) { y[i, j] = x[j] for i in 0..N, j in 0..i+1\n y[i, j] = 0.0 otherwise }",
    "(x: f32[N, M]) -> (y: f32[M, N]) { y[j, i] = x[i, j] for i in 0..N, j in 0..M }",
    "(x: f32[N]) -> (y: f32[N]) where N >= 3 { y[0] = x[1]\n y[i] = x[i] for i in 1..N }",
]


@pytest.mark.parametrize("text", FORMS)
def test_forms(text: str) -> None:
    kernel = kir.parse("kernel k" + text)["k"]
    quick_check(kernel, Emitted(kernel), examples=40)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(kernels())
def test_drawn_kernels(kernel: Kernel) -> None:
    quick_check(kernel, Emitted(kernel), examples=3)


def test_source_is_what_a_person_would_write() -> None:
    source = numpy_source(PUBLIC["softmax"])
    assert "m[...] = np.max(x, axis=-1, initial=-np.inf)" in source
    assert "y[...] = np.exp(x - m[:, None]) / z[:, None]" in source
    assert "c[...] = a @ b" in numpy_source(PUBLIC["matmul"])


@pytest.mark.parametrize("name", ["softmax", "black_scholes", "histogram", "reshape_scale"])
def test_source_runs_alone(name: str, tmp_path: Path) -> None:
    kernel = PUBLIC[name]
    arguments = sample_inputs(kernel, 0, dict.fromkeys(kernel.sizes, 4))
    (tmp_path / "emitted.py").write_text(numpy_source(kernel))
    np.savez(tmp_path / "inputs.npz", **arguments)
    code = (
        "import sys, numpy as np, emitted\n"
        "given = {k: v[()] for k, v in np.load('inputs.npz').items()}\n"
        f"y = emitted.{name}(**given)\n"
        "assert not any('kernel_ir' in m for m in sys.modules)\n"
        "np.save('y.npy', np.asarray(y))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.asarray(kernel(**arguments)), rtol=1e-5)


def test_source_is_the_same_every_time() -> None:
    assert all(numpy_source(k) == numpy_source(k) for k in PUBLIC.values())

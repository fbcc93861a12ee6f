"""kir as a compiler pass: kernel text in, a compiled function and its source out."""

import numpy as np

import kernel_ir as kir

TEXT = """
kernel rmsnorm(x: f32[N, D], w: f32[D], eps: f32) -> (y: f32[N, D]) {
  ms[n]   = sum(d: x[n, d] ** 2) / D
  y[n, d] = x[n, d] * w[d] / sqrt(ms[n] + eps)
}
"""


def main() -> None:
    """Optimizes for the CPU, runs, and compares with NumPy."""
    kernel = kir.parse(TEXT)["rmsnorm"]
    result = kir.optimize(kernel, target="cpu", fast_math="reassoc,contract,arcp,afn", sizes={"N": 1024, "D": 1024})
    print(result.text)
    rmsnorm = result.compile()
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((64, 100), dtype=np.float32), rng.standard_normal(100, dtype=np.float32)
    y = rmsnorm(x=x, w=w, eps=np.float32(1e-6))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, wide * w / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6), rtol=1e-5)
    print("equal to NumPy in float64, within 1e-5")


if __name__ == "__main__":
    main()

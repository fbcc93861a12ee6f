"""The kernels on which `benchmarks/model_sass.py` compares instructions: those that the model was fitted to, those whose misses showed
later what it counted wrongly, and those that were written when it was finished."""

from typing import Final

from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse

SETS: Final = ("tuned", "held_out", "fresh")

STRAIGHT: Final[dict[str, dict[str, str]]] = {
    "tuned": {
        "add": "x[i] + y[i]",
        "axpy": "a * x[i] + y[i]",
        "cubic": "((a * x[i] + b) * x[i] + a) * x[i] + b",
        "clamp": "min(max(x[i], a), b) * x[i] + y[i]",
        "pick": "a * x[i] + b if x[i] < y[i] else y[i] * b",
        "mean": "(x[i] + y[i] + z[i]) * a",
        "norm": "x[i] * x[i] + y[i] * y[i] + z[i] * z[i]",
        "decay": "exp(a * x[i]) * y[i]",
        "gauss": "exp(-(x[i] * x[i])) * a + exp(-(y[i] * y[i])) * b",
        "gelu": "0.5 * x[i] * (1.0 + erf(x[i] * 0.70710678))",
        "logs": "log(x[i]) * a + log(y[i]) * b",
        "softplus": "log(1.0 + exp(x[i]))",
        "squash": "tanh(a * x[i] + y[i])",
        "scale": "x[i] * rsqrt(y[i] + a)",
    },
    "held_out": {
        "difference": "x[i] - y[i] * z[i]",
        "length": "sqrt(x[i] * x[i] + y[i] * y[i])",
        "ratio": "x[i] / y[i]",
        "relu": "max(x[i], 0.0)",
        "leaky": "x[i] if x[i] > 0.0 else a * x[i]",
        "sigmoid": "1.0 / (1.0 + exp(-x[i]))",
        "swish": "x[i] / (1.0 + exp(-x[i])) * y[i]",
        "logistic": "log1p(exp(x[i])) + y[i]",
        "powers": "exp2(x[i] * a) + z[i]",
        "horner": "((((0.1 * x[i] + 0.2) * x[i] + 0.3) * x[i] + 0.4) * x[i] + 0.5) * x[i] + 0.6",
        "lerp": "x[i] + a * (y[i] - x[i])",
        "square": "(x[i] - y[i]) * (x[i] - y[i])",
        "absolute": "abs(x[i]) + abs(y[i])",
        "root": "cbrt(x[i])",
    },
    "fresh": {
        "softplus": "log(1.0 + exp(x[i]))",
        "blend": "x[i] * z[i] + y[i] * (1.0 - z[i])",
        "distance": "sqrt((x[i] - y[i]) * (x[i] - y[i]) + z[i] * z[i])",
        "gate": "x[i] * tanh(y[i])",
        "scale": "(x[i] + y[i]) / a",
    },
}
"""Values of elements from three f32 arrays and two scalars."""

ROWS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "tuned": {
        "sum": ("sum", "x[i, j]"),
        "dot": ("sum", "x[i, j] * y[j]"),
        "weight": ("sum", "exp(x[i, j] - m[i])"),
        "greatest": ("max", "x[i, j]"),
        "squares": ("sum", "x[i, j] * x[i, j] + z[i, j]"),
        "line": ("sum", "(a * x[i, j] + b) * z[i, j]"),
        "logs": ("sum", "log(x[i, j])"),
        "columns": ("sum", "t[j, i]"),
    },
    "held_out": {
        "norm": ("sum", "x[i, j] * x[i, j]"),
        "affine": ("sum", "x[i, j] * y[j] + z[i, j]"),
        "least": ("min", "x[i, j] * a"),
        "distance": ("sum", "(x[i, j] - z[i, j]) * (x[i, j] - z[i, j])"),
        "variance": ("sum", "(x[i, j] - m[i]) * (x[i, j] - m[i])"),
        "entropy": ("sum", "x[i, j] * log(x[i, j])"),
        "logits": ("sum", "exp(x[i, j] + y[j])"),
        "crossed": ("sum", "t[j, i] * y[j]"),
    },
    "fresh": {
        "energy": ("sum", "exp2(x[i, j] * a) * z[i, j]"),
        "weighted": ("sum", "(x[i, j] - m[i]) * y[j]"),
        "furthest": ("max", "abs(x[i, j] - z[i, j])"),
        "roots": ("sum", "rsqrt(x[i, j]) * y[j]"),
        "residual": ("sum", "(a * x[i, j] + b - z[i, j]) * y[j]"),
        "down": ("sum", "t[j, i] * t[j, i] * y[j]"),
    },
}
"""Reductions of rows, and of columns (`t`), to one value each."""

PRODUCTS: Final[dict[str, dict[str, tuple[str, tuple[str, ...]]]]] = {
    "tuned": {
        "product": ("sum(k: p[i, k] * q[k, j])", ("plain", "tile128", "tile32", "ahead64")),
    },
    "held_out": {
        "product_bt": ("sum(k: p[i, k] * s[j, k])", ("plain", "tile64", "tile32", "ahead128")),
        "scaled": ("sum(k: (a * p[i, k]) * q[k, j]) + b", ("tile128", "tile64")),
    },
    "fresh": {
        "exponential": ("exp(sum(k: p[i, k] * s[j, k]))", ("plain", "tile128", "ahead64")),
        "doubled": ("sum(k: p[i, k] * (q[k, j] + q[k, j] * a))", ("tile64", "tile32", "ahead128")),
    },
}
"""Contractions, and the schedules that are tried."""


def straight_kernel(body: str) -> Kernel:
    return parse(f"kernel k({_arrays(body, x='N', y='N', z='N')}a: f32, b: f32) -> (r: f32[N]) {{ r[i] = {body} }}")["k"]


def row_kernel(op: str, body: str) -> Kernel:
    arrays = _arrays(body, x="M, N", z="M, N", y="N", m="M", t="N, M")
    return parse(f"kernel k({arrays}a: f32, b: f32) -> (r: f32[M]) where N >= 1 {{ r[i] = {op}(j: {body}) }}")["k"]


def product_kernel(value: str) -> Kernel:
    arrays = _arrays(value, p="M, K", q="K, N", s="N, K")
    return parse(f"kernel k({arrays}a: f32, b: f32) -> (r: f32[M, N]) {{ r[i, j] = {value} }}")["k"]


def _arrays(body: str, **shapes: str) -> str:
    return "".join(f"{name}: f32[{shape}], " for name, shape in shapes.items() if f"{name}[" in body)

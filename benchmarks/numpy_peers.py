"""Turns each public kernel into idiomatic vectorised NumPy.

Run on inputs widened to f64, these functions are also the reference of the full-size runs, where the language's own evaluator would
take minutes; the tests hold them to that evaluator at small sizes. They keep to the dtype of their inputs; inout arrays are
updated in place.
"""

import math
from typing import Any

import numpy as np

try:
    from scipy.special import erf
except ImportError:  # NumPy has no erf of its own
    erf = np.vectorize(math.erf, otypes=[np.float64])

Array = np.ndarray[Any, Any]


def _wide(x: Array) -> Array:
    """f16 as f32, which is what the kernels compute in; other dtypes as they are."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + erf(x * x.dtype.type(0.7071067811865476)))


def saxpy(a, x, y):
    return a * x + y


def gelu(x):
    return x * _normal_cdf(x)


def silu_and_mul(x):
    half = x.shape[1] // 2
    gate, up = _wide(x[:, :half]), _wide(x[:, half:])
    return (gate / (1.0 + np.exp(-gate)) * up).astype(x.dtype)


def polynomial(x):
    return 1.0 + x + x**2 / 2.0 + x**3 / 6.0 + x**4 / 24.0 + x**5 / 120.0


def black_scholes(s, k, t, r, v):
    spread = v * np.sqrt(t)
    d1 = (np.log(s / k) + (r + v * v / 2.0) * t) / spread
    d2 = d1 - spread
    discounted = k * np.exp(-r * t)
    return s * _normal_cdf(d1) - discounted * _normal_cdf(d2), discounted * _normal_cdf(-d2) - s * _normal_cdf(-d1)


def haversine(lat1, lon1, lat2, lon2, radius):
    u, w = np.sin((lat2 - lat1) / 2.0), np.sin((lon2 - lon1) / 2.0)
    return 2.0 * radius * np.arcsin(np.sqrt(u * u + np.cos(lat1) * np.cos(lat2) * w * w))


def mandelbrot(cr, ci):
    c = cr[None, :] + 1j * ci[:, None]
    z, n = np.zeros_like(c), np.zeros(c.shape, np.int32)
    live = np.ones(c.shape, bool)
    for _ in range(200):
        live[live] = z.real[live] ** 2 + z.imag[live] ** 2 <= 4.0
        if not live.any():
            break
        z[live] = z[live] ** 2 + c[live]
        n[live] += 1
    return n


def jacobi2d(a, b, steps):
    for _ in range(steps):
        b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
        a[1:-1, 1:-1] = 0.2 * (b[1:-1, 1:-1] + b[1:-1, :-2] + b[1:-1, 2:] + b[2:, 1:-1] + b[:-2, 1:-1])


def blur(x):
    padded = np.pad(x, 1)
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (rows[:-2] + rows[1:-1] + rows[2:]) / x.dtype.type(9.0)


def conv2d(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("bcijrs,kcrs->bkij", windows, w, optimize=True)


def edge_copy(x):
    y = x.copy()
    y[1:-1] = (x[:-2] + x[2:]) / x.dtype.type(2.0)
    return y


def transpose_add(a, b):
    return a + b.T


def gravity(p, eps):
    dx, dy, dz = (p[None, :, c] - p[:, None, c] for c in range(3))
    r2 = dx * dx + dy * dy + dz * dz + eps
    weight = p[None, :, 3] / (r2 * np.sqrt(r2))
    return np.stack([(weight * d).sum(axis=1) for d in (dx, dy, dz)], axis=1)


def rgb_to_gray(image):
    return (image @ np.array([0.299, 0.587, 0.114], np.float32)) / np.float32(255.0)


def reshape_scale(x, a, *, W):  # noqa: N803 - the kernel's own names of its sizes
    return a * x.reshape(-1, W)


def gather_rows(table, id):
    return table[id]


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def layernorm(x, g, b, eps):
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + eps) * g + b


def fused_add_rmsnorm(x, residual, w, eps):
    residual += x
    wide = _wide(residual)
    return (wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + eps) * _wide(w)).astype(x.dtype)


def merge_attn_states(va, sa, vb, sb):
    m = np.maximum(sa, sb)
    ea, eb = np.exp(sa - m), np.exp(sb - m)
    total = ea + eb
    v = _wide(va) * (ea / total)[:, :, None] + _wide(vb) * (eb / total)[:, :, None]
    return v.astype(va.dtype), np.log(total) + m


def cross_entropy(logits, label):
    m = logits.max(axis=1)
    return np.log(np.exp(logits - m[:, None]).sum(axis=1)) + m - logits[np.arange(len(label)), label]


def nearest(p, centre):
    return np.argmin((centre * centre).sum(axis=1) - 2.0 * (p @ centre.T), axis=1)


def cumsum(x):
    return np.cumsum(x)


def histogram(bin, w, *, B):  # noqa: N803 - the kernel's own name of its size
    inside = (bin >= 0) & (bin < B)
    return np.bincount(bin[inside], w[inside], B).astype(w.dtype)


def matmul(a, b):
    return a @ b


def matmul_chain(a, b, v):
    return np.linalg.multi_dot([a, b, v])


def attention(q, k, v, scale):
    s = scale * (q @ k.swapaxes(-1, -2))
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    return (p / p.sum(axis=-1, keepdims=True)) @ v


def causal_attention(q, k, v, scale):
    s = np.where(np.tri(q.shape[1], dtype=bool), scale * (q @ k.swapaxes(-1, -2)), -np.inf)
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    return (p / p.sum(axis=-1, keepdims=True)) @ v


def gemver(alpha, beta, a, u1, v1, u2, v2, y, z):
    b = a + np.outer(u1, v1) + np.outer(u2, v2)
    x = beta * (y @ b) + z
    return b, x, alpha * (b @ x)

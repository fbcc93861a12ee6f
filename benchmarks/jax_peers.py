"""Turns public kernels into JAX: jitted, functional; each inout array, updated, follows the outputs."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import erf


def _normal_cdf(x):
    return 0.5 * (1.0 + erf(x * 0.7071067811865476))


def saxpy(a, x, y):
    return a * x + y


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def silu_and_mul(x):
    gate, up = jnp.split(x.astype(jnp.float32), 2, axis=1)
    return (jax.nn.silu(gate) * up).astype(x.dtype)


def polynomial(x):
    return 1.0 + x + x**2 / 2.0 + x**3 / 6.0 + x**4 / 24.0 + x**5 / 120.0


def black_scholes(s, k, t, r, v):
    spread = v * jnp.sqrt(t)
    d1 = (jnp.log(s / k) + (r + v * v / 2.0) * t) / spread
    d2 = d1 - spread
    discounted = k * jnp.exp(-r * t)
    return s * _normal_cdf(d1) - discounted * _normal_cdf(d2), discounted * _normal_cdf(-d2) - s * _normal_cdf(-d1)


def haversine(lat1, lon1, lat2, lon2, radius):
    u, w = jnp.sin((lat2 - lat1) / 2.0), jnp.sin((lon2 - lon1) / 2.0)
    return 2.0 * radius * jnp.arcsin(jnp.sqrt(u * u + jnp.cos(lat1) * jnp.cos(lat2) * w * w))


def mandelbrot(cr, ci):
    shape = (ci.size, cr.size)
    real, imaginary = jnp.broadcast_to(cr, shape), jnp.broadcast_to(ci[:, None], shape)

    def step(_, state):
        zr, zi, n = state
        live = zr * zr + zi * zi <= 4.0
        zr, zi = jnp.where(live, zr * zr - zi * zi + real, zr), jnp.where(live, 2.0 * zr * zi + imaginary, zi)
        return zr, zi, n + live.astype(jnp.int32)

    return lax.fori_loop(0, 200, step, (jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(shape, jnp.int32)))[2]


def jacobi2d(a, b, steps):
    def sweep(x, y):
        return y.at[1:-1, 1:-1].set(0.2 * (x[1:-1, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] + x[2:, 1:-1] + x[:-2, 1:-1]))

    def step(_, state):
        a, b = state
        b = sweep(a, b)
        return sweep(b, a), b

    return lax.fori_loop(0, steps, step, (a, b))


def blur(x):
    padded = jnp.pad(x, 1)
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (rows[:-2] + rows[1:-1] + rows[2:]) / 9.0


def conv2d(x, w):
    return lax.conv(x, w, (1, 1), "VALID")


def edge_copy(x):
    return x.at[1:-1].set((x[:-2] + x[2:]) / 2.0)


def transpose_add(a, b):
    return a + b.T


def gravity(p, eps):
    d = p[None, :, :3] - p[:, None, :3]
    r2 = (d * d).sum(axis=-1) + eps
    return ((p[None, :, 3] / (r2 * jnp.sqrt(r2)))[:, :, None] * d).sum(axis=1)


def rgb_to_gray(image):
    return (image.astype(jnp.float32) @ jnp.array([0.299, 0.587, 0.114], jnp.float32)) / 255.0


def reshape_scale(x, a, *, W):  # noqa: N803 - the kernel's own names of its sizes
    return a * x.reshape(-1, W)


def gather_rows(table, id):
    return jnp.take(table, id, axis=0)


def softmax(x):
    return jax.nn.softmax(x, axis=1)


def log_softmax(x):
    return jax.nn.log_softmax(x, axis=1)


def layernorm(x, g, b, eps):
    return jax.nn.standardize(x, axis=1, epsilon=eps) * g + b


def fused_add_rmsnorm(x, residual, w, eps):
    residual = x + residual
    wide = residual.astype(jnp.float32)
    y = wide * lax.rsqrt((wide * wide).mean(axis=1, keepdims=True) + eps) * w
    return y.astype(x.dtype), residual


def merge_attn_states(va, sa, vb, sb):
    s = jnp.logaddexp(sa, sb)
    v = va * jnp.exp(sa - s)[:, :, None] + vb * jnp.exp(sb - s)[:, :, None]
    return v.astype(va.dtype), s


def cross_entropy(logits, label):
    return jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, label[:, None], axis=1)[:, 0]


def nearest(p, centre):
    return jnp.argmin(((p[:, None, :] - centre[None, :, :]) ** 2).sum(axis=-1), axis=1)


def cumsum(x):
    return jnp.cumsum(x)


def histogram(bin, w, *, B):  # noqa: N803 - the kernel's own name of its size
    # A negative index counts from the end in JAX; B, one past it, is dropped.
    return jnp.zeros(B, w.dtype).at[jnp.where(bin >= 0, bin, B)].add(w, mode="drop")


def matmul(a, b):
    return a @ b


def matmul_chain(a, b, v):
    return jnp.linalg.multi_dot([a, b, v])


def attention(q, k, v, scale):
    p = jax.nn.softmax(scale * jnp.einsum("bhic,bhjc->bhij", q, k), axis=-1)
    return jnp.einsum("bhij,bhjd->bhid", p, v)


def causal_attention(q, k, v, scale):
    s = scale * jnp.einsum("hic,hjc->hij", q, k)
    p = jax.nn.softmax(jnp.where(jnp.tri(q.shape[1], dtype=bool), s, -jnp.inf), axis=-1)
    return jnp.einsum("hij,hjd->hid", p, v)


def gemver(alpha, beta, a, u1, v1, u2, v2, y, z):
    b = a + jnp.outer(u1, v1) + jnp.outer(u2, v2)
    x = beta * (y @ b) + z
    return b, x, alpha * (b @ x)

"""Turns each public kernel into the numba code that a competent user writes by hand: what ours is measured against.

Straightforward loops under `@njit(parallel=True, fastmath=True)`, `prange` on the outermost loop where that is legal, outputs
allocated inside, f32 arithmetic kept in f32. One function a kernel, named as the kernel, arguments in the kernel's order, then by
keyword the sizes that no input fixes. Several outputs come as a tuple; inout arrays are updated in place. Numba has no float16 on the
CPU, so kernels on f16 convert their arrays outside of the compiled loops, as a user has to.
"""

import math
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

Array = np.ndarray[Any, Any]

parallel = njit(parallel=True, fastmath=True, cache=True)
serial = njit(fastmath=True, cache=True)

ZERO = np.float32(0.0)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
SQRT1_2 = np.float32(0.7071067811865476)


# ---- element by element ----


@parallel
def saxpy(a, x, y):
    z = np.empty_like(x)
    for i in prange(x.size):
        z[i] = a * x[i] + y[i]
    return z


@parallel
def gelu(x):
    y = np.empty_like(x)
    for i in prange(x.size):
        y[i] = x[i] * HALF * (ONE + math.erf(x[i] * SQRT1_2))
    return y


@parallel
def _silu_and_mul(x):
    tokens, width = x.shape
    half = width // 2
    y = np.empty((tokens, half), np.float32)
    for t in prange(tokens):
        for d in range(half):
            y[t, d] = x[t, d] / (ONE + math.exp(-x[t, d])) * x[t, d + half]
    return y


def silu_and_mul(x: Array) -> Array:
    return _silu_and_mul(x.astype(np.float32)).astype(np.float16)


@parallel
def polynomial(x):
    y = np.empty_like(x)
    for i in prange(x.size):
        y[i] = 1.0 + x[i] + x[i] ** 2 / 2.0 + x[i] ** 3 / 6.0 + x[i] ** 4 / 24.0 + x[i] ** 5 / 120.0
    return y


@serial
def _normal_cdf(x):
    return 0.5 * (1.0 + math.erf(x * 0.7071067811865476))


@parallel
def black_scholes(s, k, t, r, v):
    call = np.empty_like(s)
    put = np.empty_like(s)
    for i in prange(s.size):
        spread = v * math.sqrt(t[i])
        d1 = (math.log(s[i] / k[i]) + (r + v * v / 2.0) * t[i]) / spread
        d2 = d1 - spread
        discounted = k[i] * math.exp(-r * t[i])
        call[i] = s[i] * _normal_cdf(d1) - discounted * _normal_cdf(d2)
        put[i] = discounted * _normal_cdf(-d2) - s[i] * _normal_cdf(-d1)
    return call, put


@parallel
def haversine(lat1, lon1, lat2, lon2, radius):
    km = np.empty_like(lat1)
    for i in prange(lat1.size):
        u = math.sin((lat2[i] - lat1[i]) / 2.0)
        w = math.sin((lon2[i] - lon1[i]) / 2.0)
        km[i] = 2.0 * radius * math.asin(math.sqrt(u * u + math.cos(lat1[i]) * math.cos(lat2[i]) * w * w))
    return km


@parallel
def mandelbrot(cr, ci):
    n = np.empty((ci.size, cr.size), np.int32)
    for y in prange(ci.size):
        for x in range(cr.size):
            zr = 0.0
            zi = 0.0
            count = 0
            while count < 200 and zr * zr + zi * zi <= 4.0:
                zr, zi = zr * zr - zi * zi + cr[x], 2.0 * zr * zi + ci[y]
                count += 1
            n[y, x] = count
    return n


# ---- grids ----


@parallel
def jacobi2d(a, b, steps):
    n = a.shape[0]
    for _ in range(steps):
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                b[i, j] = 0.2 * (a[i, j] + a[i, j - 1] + a[i, j + 1] + a[i + 1, j] + a[i - 1, j])
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                a[i, j] = 0.2 * (b[i, j] + b[i, j - 1] + b[i, j + 1] + b[i + 1, j] + b[i - 1, j])


@serial
def _box(x, i, j):
    """The sum around a point at the border: only of what lies inside."""
    total = ZERO
    for r in range(max(i - 1, 0), min(i + 2, x.shape[0])):
        for c in range(max(j - 1, 0), min(j + 2, x.shape[1])):
            total += x[r, c]
    return total


@parallel
def blur(x):
    height, width = x.shape
    y = np.empty_like(x)
    ninth = ONE / np.float32(9.0)
    for i in prange(height):
        if i == 0 or i == height - 1:
            for j in range(width):
                y[i, j] = _box(x, i, j) * ninth
        else:
            y[i, 0] = _box(x, i, 0) * ninth
            for j in range(1, width - 1):
                above = x[i - 1, j - 1] + x[i - 1, j] + x[i - 1, j + 1]
                here = x[i, j - 1] + x[i, j] + x[i, j + 1]
                below = x[i + 1, j - 1] + x[i + 1, j] + x[i + 1, j + 1]
                y[i, j] = (above + here + below) * ninth
            y[i, width - 1] = _box(x, i, width - 1) * ninth
    return y


@parallel
def conv2d(x, w):
    batch, channels, height, width = x.shape
    filters, _, rows, cols = w.shape
    y = np.empty((batch, filters, height - rows + 1, width - cols + 1), np.float32)
    for b in prange(batch):
        for k in range(filters):
            for i in range(height - rows + 1):
                for j in range(width - cols + 1):
                    total = ZERO
                    for c in range(channels):
                        for r in range(rows):
                            for s in range(cols):
                                total += x[b, c, i + r, j + s] * w[k, c, r, s]
                    y[b, k, i, j] = total
    return y


@parallel
def edge_copy(x):
    y = np.empty_like(x)
    last = x.size - 1
    y[0] = x[0]
    y[last] = x[last]
    for i in prange(1, last):
        y[i] = (x[i - 1] + x[i + 1]) / np.float32(2.0)
    return y


# ---- layouts ----


@parallel
def transpose_add(a, b):
    c = np.empty_like(a)
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            c[i, j] = a[i, j] + b[j, i]
    return c


@parallel
def gravity(p, eps):
    n = p.shape[0]
    f = np.empty((n, 3), np.float32)
    for i in prange(n):
        fx = ZERO
        fy = ZERO
        fz = ZERO
        for j in range(n):
            dx = p[j, 0] - p[i, 0]
            dy = p[j, 1] - p[i, 1]
            dz = p[j, 2] - p[i, 2]
            r2 = dx * dx + dy * dy + dz * dz + eps
            weight = p[j, 3] / (r2 * math.sqrt(r2))
            fx += weight * dx
            fy += weight * dy
            fz += weight * dz
        f[i, 0] = fx
        f[i, 1] = fy
        f[i, 2] = fz
    return f


@parallel
def rgb_to_gray(image):
    height, width, _ = image.shape
    gray = np.empty((height, width), np.float32)
    red, green, blue, full = np.float32(0.299), np.float32(0.587), np.float32(0.114), np.float32(255.0)
    for y in prange(height):
        for x in range(width):
            r, g, b = np.float32(image[y, x, 0]), np.float32(image[y, x, 1]), np.float32(image[y, x, 2])
            gray[y, x] = (red * r + green * g + blue * b) / full
    return gray


@parallel
def _reshape_scale(x, a, height, width):
    y = np.empty((height, width), np.float32)
    for i in prange(height):
        for j in range(width):
            y[i, j] = a * x[((i * width + j) // width) * width + (i * width + j) % width]
    return y


def reshape_scale(x: Array, a: np.float32, *, W: int) -> Array:  # noqa: N803 - the kernel's own names of its sizes
    return _reshape_scale(x, a, x.size // W, W)


@parallel
def gather_rows(table, id):
    y = np.empty((id.size, table.shape[1]), table.dtype)
    for t in prange(id.size):
        for d in range(table.shape[1]):
            y[t, d] = table[id[t], d]
    return y


# ---- rows ----


@parallel
def softmax(x):
    rows, cols = x.shape
    y = np.empty_like(x)
    for r in prange(rows):
        m = x[r, 0]
        for c in range(1, cols):
            m = max(m, x[r, c])
        z = ZERO
        for c in range(cols):
            y[r, c] = math.exp(x[r, c] - m)
            z += y[r, c]
        for c in range(cols):
            y[r, c] /= z
    return y


@parallel
def log_softmax(x):
    rows, cols = x.shape
    y = np.empty_like(x)
    for r in prange(rows):
        m = x[r, 0]
        for c in range(1, cols):
            m = max(m, x[r, c])
        z = ZERO
        for c in range(cols):
            z += math.exp(x[r, c] - m)
        shift = m + math.log(z)
        for c in range(cols):
            y[r, c] = x[r, c] - shift
    return y


@parallel
def layernorm(x, g, b, eps):
    rows, cols = x.shape
    y = np.empty_like(x)
    for r in prange(rows):
        total = ZERO
        for c in range(cols):
            total += x[r, c]
        mu = total / np.float32(cols)
        squares = ZERO
        for c in range(cols):
            squares += (x[r, c] - mu) ** 2
        scale = ONE / math.sqrt(squares / np.float32(cols) + eps)
        for c in range(cols):
            y[r, c] = (x[r, c] - mu) * scale * g[c] + b[c]
    return y


@parallel
def _fused_add_rmsnorm(x, residual, w, eps):
    rows, cols = x.shape
    y = np.empty_like(x)
    for t in prange(rows):
        squares = ZERO
        for d in range(cols):
            residual[t, d] += x[t, d]
            squares += residual[t, d] ** 2
        scale = ONE / math.sqrt(squares / np.float32(cols) + eps)
        for d in range(cols):
            y[t, d] = residual[t, d] * scale * w[d]
    return y


def fused_add_rmsnorm(x: Array, residual: Array, w: Array, eps: np.float32) -> Array:
    wide = residual.astype(np.float32)
    y = _fused_add_rmsnorm(x.astype(np.float32), wide, w.astype(np.float32), eps)
    residual[...] = wide
    return y.astype(np.float16)


@parallel
def _merge_attn_states(va, sa, vb, sb):
    tokens, heads, depth = va.shape
    v = np.empty_like(va)
    s = np.empty_like(sa)
    for t in prange(tokens):
        for h in range(heads):
            m = max(sa[t, h], sb[t, h])
            ea = math.exp(sa[t, h] - m)
            eb = math.exp(sb[t, h] - m)
            total = ea + eb
            for d in range(depth):
                v[t, h, d] = va[t, h, d] * (ea / total) + vb[t, h, d] * (eb / total)
            s[t, h] = math.log(total) + m
    return v, s


def merge_attn_states(va: Array, sa: Array, vb: Array, sb: Array) -> tuple[Array, Array]:
    v, s = _merge_attn_states(va.astype(np.float32), sa, vb.astype(np.float32), sb)
    return v.astype(np.float16), s


@parallel
def cross_entropy(logits, label):
    rows, cols = logits.shape
    loss = np.empty(rows, np.float32)
    for r in prange(rows):
        m = logits[r, 0]
        for c in range(1, cols):
            m = max(m, logits[r, c])
        z = ZERO
        for c in range(cols):
            z += math.exp(logits[r, c] - m)
        loss[r] = math.log(z) + m - logits[r, label[r]]
    return loss


@parallel
def nearest(p, centre):
    points, dims = p.shape
    which = np.empty(points, np.int64)
    for n in prange(points):
        best = 0
        least = np.float32(np.inf)
        for k in range(centre.shape[0]):
            distance = ZERO
            for d in range(dims):
                distance += (p[n, d] - centre[k, d]) ** 2
            if k == 0 or distance < least:
                least = distance
                best = k
        which[n] = best
    return which


@serial
def cumsum(x):
    y = np.empty_like(x)
    total = 0.0
    for i in range(x.size):
        total += x[i]
        y[i] = total
    return y


@parallel
def _histogram(bin, w, bins, threads):
    parts = np.zeros((threads, bins), np.float32)
    for thread in prange(threads):
        for i in range(thread * bin.size // threads, (thread + 1) * bin.size // threads):
            if 0 <= bin[i] < bins:
                parts[thread, bin[i]] += w[i]
    return parts.sum(axis=0)


def histogram(bin: Array, w: Array, *, B: int) -> Array:  # noqa: N803 - the kernel's own name of its size
    return _histogram(bin, w, B, get_num_threads())


# ---- contractions ----


@parallel
def matmul(a, b):
    rows, inner = a.shape
    cols = b.shape[1]
    c = np.empty((rows, cols), np.float32)
    for i in prange(rows):
        for j in range(cols):
            total = ZERO
            for k in range(inner):
                total += a[i, k] * b[k, j]
            c[i, j] = total
    return c


@parallel
def matmul_chain(a, b, v):
    rows, inner = a.shape
    y = np.empty(rows, np.float32)
    for i in prange(rows):
        result = ZERO
        for j in range(v.size):
            total = ZERO
            for k in range(inner):
                total += a[i, k] * b[k, j]
            result += total * v[j]
        y[i] = result
    return y


@parallel
def attention(q, k, v, scale):
    batch, heads, queries, inner = q.shape
    keys, depth = v.shape[2], v.shape[3]
    o = np.zeros((batch, heads, queries, depth), np.float32)
    for head in prange(batch * heads):  # one loop over both: a batch of one would leave one thread alone
        b, h = head // heads, head % heads
        p = np.empty(keys, np.float32)
        for i in range(queries):
            m = np.float32(-np.inf)
            for j in range(keys):
                total = ZERO
                for c in range(inner):
                    total += q[b, h, i, c] * k[b, h, j, c]
                p[j] = total * scale
                m = p[j] if j == 0 else max(m, p[j])
            z = ZERO
            for j in range(keys):
                p[j] = math.exp(p[j] - m)
                z += p[j]
            for j in range(keys):
                weight = p[j] / z
                for d in range(depth):
                    o[b, h, i, d] += weight * v[b, h, j, d]
    return o


@parallel
def causal_attention(q, k, v, scale):
    heads, length, inner = q.shape
    depth = v.shape[2]
    o = np.zeros((heads, length, depth), np.float32)
    for h in prange(heads):
        p = np.empty(length, np.float32)
        for i in range(length):
            m = np.float32(-np.inf)
            for j in range(i + 1):
                total = ZERO
                for c in range(inner):
                    total += q[h, i, c] * k[h, j, c]
                p[j] = total * scale
                m = p[j] if j == 0 else max(m, p[j])
            z = ZERO
            for j in range(i + 1):
                p[j] = math.exp(p[j] - m)
                z += p[j]
            for j in range(i + 1):
                weight = p[j] / z
                for d in range(depth):
                    o[h, i, d] += weight * v[h, j, d]
    return o


@parallel
def gemver(alpha, beta, a, u1, v1, u2, v2, y, z):
    n = a.shape[0]
    b = np.empty_like(a)
    x = np.empty(n)
    w = np.empty(n)
    for i in prange(n):
        for j in range(n):
            b[i, j] = a[i, j] + u1[i] * v1[j] + u2[i] * v2[j]
    for i in prange(n):
        total = 0.0
        for j in range(n):
            total += b[j, i] * y[j]
        x[i] = beta * total + z[i]
    for i in prange(n):
        total = 0.0
        for j in range(n):
            total += b[i, j] * x[j]
        w[i] = alpha * total
    return b, x, w

"""Turns each NPBench kernel into the numba code that a competent user writes by hand, as `naive.py` does for the public kernels."""

import math

import numpy as np
from numba import prange

from benchmarks.naive import jacobi2d, parallel


@parallel
def arc_distance(theta_1, phi_1, theta_2, phi_2):
    distance = np.empty_like(theta_1)
    for i in prange(theta_1.size):
        u = math.sin((theta_2[i] - theta_1[i]) / 2.0)
        w = math.sin((phi_2[i] - phi_1[i]) / 2.0)
        t = u * u + math.cos(theta_1[i]) * math.cos(theta_2[i]) * w * w
        distance[i] = 2.0 * math.atan2(math.sqrt(t), math.sqrt(1.0 - t))
    return distance


@parallel
def compute(array_1, array_2, a, b, c):
    r = np.empty_like(array_1)
    for i in prange(array_1.shape[0]):
        for j in range(array_1.shape[1]):
            r[i, j] = min(max(array_1[i, j], 2), 10) * a + array_2[i, j] * b + c
    return r


@parallel
def gemm(alpha, beta, c, a, b):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] *= beta
        for k in range(a.shape[1]):
            for j in range(c.shape[1]):
                c[i, j] += alpha * a[i, k] * b[k, j]


@parallel
def atax(a, x):
    m, n = a.shape
    t = np.empty(m)
    for i in prange(m):
        total = 0.0
        for j in range(n):
            total += a[i, j] * x[j]
        t[i] = total
    y = np.zeros(n)
    for j in prange(n):
        total = 0.0
        for i in range(m):
            total += a[i, j] * t[i]
        y[j] = total
    return y


@parallel
def gesummv(alpha, beta, a, b, x):
    n = x.size
    y = np.empty_like(x)
    for i in prange(n):
        first = 0.0
        second = 0.0
        for j in range(n):
            first += a[i, j] * x[j]
            second += b[i, j] * x[j]
        y[i] = alpha * first + beta * second
    return y


def jacobi_2d(tsteps, a, b):
    jacobi2d(a, b, tsteps)


@parallel
def heat_3d(tsteps, a, b):
    n = a.shape[0]
    for _ in range(tsteps):
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                for k in range(1, n - 1):
                    here = 2.0 * a[i, j, k]
                    along_i = 0.125 * (a[i + 1, j, k] - here + a[i - 1, j, k])
                    along_j = 0.125 * (a[i, j + 1, k] - here + a[i, j - 1, k])
                    b[i, j, k] = along_i + along_j + 0.125 * (a[i, j, k + 1] - here + a[i, j, k - 1]) + a[i, j, k]
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                for k in range(1, n - 1):
                    here = 2.0 * b[i, j, k]
                    along_i = 0.125 * (b[i + 1, j, k] - here + b[i - 1, j, k])
                    along_j = 0.125 * (b[i, j + 1, k] - here + b[i, j - 1, k])
                    a[i, j, k] = along_i + along_j + 0.125 * (b[i, j, k + 1] - here + b[i, j, k - 1]) + b[i, j, k]


@parallel
def softmax_4d(x):
    batch, heads, rows, cols = x.shape
    y = np.empty_like(x)
    for row in prange(batch * heads * rows):
        n, h, i = row // (heads * rows), row // rows % heads, row % rows
        top = x[n, h, i, 0]
        for j in range(cols):
            top = max(top, x[n, h, i, j])
        total = np.float32(0.0)
        for j in range(cols):
            y[n, h, i, j] = math.exp(x[n, h, i, j] - top)
            total += y[n, h, i, j]
        for j in range(cols):
            y[n, h, i, j] /= total
    return y

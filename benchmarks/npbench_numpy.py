"""Turns each NPBench kernel into NumPy, as NPBench itself has it; inout arrays are updated in place."""

import numpy as np


def arc_distance(theta_1, phi_1, theta_2, phi_2):
    t = np.sin((theta_2 - theta_1) / 2) ** 2 + np.cos(theta_1) * np.cos(theta_2) * np.sin((phi_2 - phi_1) / 2) ** 2
    return 2 * np.arctan2(np.sqrt(t), np.sqrt(1 - t))


def compute(array_1, array_2, a, b, c):
    return np.clip(array_1, 2, 10) * a + array_2 * b + c


def gemm(alpha, beta, c, a, b):
    c[:] = alpha * a @ b + beta * c


def atax(a, x):
    return (a @ x) @ a


def gesummv(alpha, beta, a, b, x):
    return alpha * a @ x + beta * b @ x


def jacobi_2d(tsteps, a, b):
    for _ in range(tsteps):
        b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
        a[1:-1, 1:-1] = 0.2 * (b[1:-1, 1:-1] + b[1:-1, :-2] + b[1:-1, 2:] + b[2:, 1:-1] + b[:-2, 1:-1])


def _heat(x):
    here = x[1:-1, 1:-1, 1:-1]
    along_i = 0.125 * (x[2:, 1:-1, 1:-1] - 2.0 * here + x[:-2, 1:-1, 1:-1])
    along_j = 0.125 * (x[1:-1, 2:, 1:-1] - 2.0 * here + x[1:-1, :-2, 1:-1])
    return along_i + along_j + 0.125 * (x[1:-1, 1:-1, 2:] - 2.0 * here + x[1:-1, 1:-1, :-2]) + here


def heat_3d(tsteps, a, b):
    for _ in range(tsteps):
        b[1:-1, 1:-1, 1:-1] = _heat(a)
        a[1:-1, 1:-1, 1:-1] = _heat(b)


def softmax_4d(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)

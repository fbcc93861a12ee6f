"""Turns each NPBench kernel into JAX; each inout array, updated, follows the outputs."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.jax_peers import jacobi2d


def arc_distance(theta_1, phi_1, theta_2, phi_2):
    t = jnp.sin((theta_2 - theta_1) / 2) ** 2 + jnp.cos(theta_1) * jnp.cos(theta_2) * jnp.sin((phi_2 - phi_1) / 2) ** 2
    return 2 * jnp.arctan2(jnp.sqrt(t), jnp.sqrt(1 - t))


def compute(array_1, array_2, a, b, c):
    return jnp.clip(array_1, 2, 10) * a + array_2 * b + c


def gemm(alpha, beta, c, a, b):
    return alpha * (a @ b) + beta * c


def atax(a, x):
    return (a @ x) @ a


def gesummv(alpha, beta, a, b, x):
    return alpha * (a @ x) + beta * (b @ x)


def jacobi_2d(tsteps, a, b):
    return jacobi2d(a, b, tsteps)


def heat_3d(tsteps, a, b):
    def sweep(x, y):
        here = x[1:-1, 1:-1, 1:-1]
        along_i = 0.125 * (x[2:, 1:-1, 1:-1] - 2.0 * here + x[:-2, 1:-1, 1:-1])
        along_j = 0.125 * (x[1:-1, 2:, 1:-1] - 2.0 * here + x[1:-1, :-2, 1:-1])
        along_k = 0.125 * (x[1:-1, 1:-1, 2:] - 2.0 * here + x[1:-1, 1:-1, :-2])
        return y.at[1:-1, 1:-1, 1:-1].set(along_i + along_j + along_k + here)

    def step(_, state):
        a, b = state
        b = sweep(a, b)
        return sweep(b, a), b

    return lax.fori_loop(0, tsteps, step, (a, b))


def softmax_4d(x):
    return jax.nn.softmax(x, axis=-1)

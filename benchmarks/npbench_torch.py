"""Turns each NPBench kernel into PyTorch, eager; inout arrays are updated in place."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from benchmarks.torch_peers import jacobi2d, jacobi_step


def arc_distance(theta_1, phi_1, theta_2, phi_2):
    t = torch.sin((theta_2 - theta_1) / 2) ** 2 + torch.cos(theta_1) * torch.cos(theta_2) * torch.sin((phi_2 - phi_1) / 2) ** 2
    return 2 * torch.atan2(torch.sqrt(t), torch.sqrt(1 - t))


def compute(array_1, array_2, a, b, c):
    return torch.clamp(array_1, 2, 10) * a + array_2 * b + c


def gemm(alpha, beta, c, a, b):
    c.addmm_(a, b, beta=beta, alpha=alpha)


def atax(a, x):
    return (a @ x) @ a


def gesummv(alpha, beta, a, b, x):
    return torch.addmv(alpha * (a @ x), b, x, alpha=beta)


def jacobi_2d(tsteps, a, b, step=jacobi_step):
    jacobi2d(a, b, tsteps, step)


def heat_step(a, b):
    def sweep(x, y):
        here = x[1:-1, 1:-1, 1:-1]
        along_i = 0.125 * (x[2:, 1:-1, 1:-1] - 2.0 * here + x[:-2, 1:-1, 1:-1])
        along_j = 0.125 * (x[1:-1, 2:, 1:-1] - 2.0 * here + x[1:-1, :-2, 1:-1])
        y[1:-1, 1:-1, 1:-1] = along_i + along_j + 0.125 * (x[1:-1, 1:-1, 2:] - 2.0 * here + x[1:-1, 1:-1, :-2]) + here

    sweep(a, b)
    sweep(b, a)


def heat_3d(tsteps, a, b, step=heat_step):
    for _ in range(tsteps):
        step(a, b)


def softmax_4d(x):
    return F.softmax(x, dim=-1)

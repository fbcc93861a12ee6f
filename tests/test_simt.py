"""NVVM IR on the CPU: threads, barriers, shuffles, votes, atomics, and the faults that it must find."""

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from numba import cuda, float32, float64, int32, int64, uint32

from backends.cuda_compile import lower
from backends.simt_intrinsics import definition, inline_name
from backends.simt_run import SimtError, SimtKernel
from kernel_ir.errors import TargetError

F, K, L = float32[::1], int32[::1], int64[::1]


def native(function: Any, *types: Any) -> SimtKernel:
    return SimtKernel(lower(function, types, (8, 0)))


def test_threads_know_their_places_in_three_dimensions() -> None:
    def places(out):  # type: ignore[no-untyped-def]
        t, b, n, g = cuda.threadIdx, cuda.blockIdx, cuda.blockDim, cuda.gridDim
        thread = t.x + n.x * (t.y + n.y * t.z)
        block = b.x + g.x * (b.y + g.y * b.z)
        out[block * n.x * n.y * n.z + thread] = thread + 1000 * block

    out = np.full(2 * 3 * 2 * 4 * 3 * 2, -1, np.int32)
    native(places, K)((2, 3, 2), (4, 3, 2), (out,))
    assert out.tolist() == [t + 1000 * b for b in range(12) for t in range(24)]


def reversed_through_shared(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(128, float32)
    t = uint32(cuda.threadIdx.x)
    s[t] = x[t]
    cuda.syncthreads()
    y[t] = s[uint32(127) - t]


def reversed_without_barrier(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(128, float32)
    t = uint32(cuda.threadIdx.x)
    s[t] = x[t]
    y[t] = s[uint32(127) - t]
    cuda.syncthreads()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_missing_barrier_shows_in_the_result(seed: int) -> None:
    x = np.arange(1, 129, dtype=np.float32)
    good, bad = np.zeros_like(x), np.zeros_like(x)
    native(reversed_through_shared, F, F)((1,), (128,), (good, x), seed)
    native(reversed_without_barrier, F, F)((1,), (128,), (bad, x), seed)
    assert (good == x[::-1]).all()
    assert np.isnan(bad).any()  # shared memory that nobody has written yet


def some_return_early(y):  # type: ignore[no-untyped-def]
    if uint32(cuda.threadIdx.x) < 5:
        return
    cuda.syncthreads()
    y[0] = 1.0


def two_barriers(y):  # type: ignore[no-untyped-def]
    if uint32(cuda.threadIdx.x) < 5:
        cuda.syncthreads()
        y[0] = 1.0
    else:
        cuda.syncthreads()
        y[1] = 1.0


def half_a_shuffle(y):  # type: ignore[no-untyped-def]
    if uint32(cuda.threadIdx.x) % uint32(32) < 5:
        y[0] = cuda.shfl_xor_sync(0xFFFFFFFF, y[1], 1)
    cuda.syncthreads()


def unnamed_lane(y):  # type: ignore[no-untyped-def]
    y[uint32(cuda.threadIdx.x)] = cuda.shfl_xor_sync(0x0000FFFF, y[0], 1)


FAULTS = [
    (some_return_early, "divergent barrier: of the 64 threads of a block, 59 wait at a barrier of the block, 5 have returned"),
    (two_barriers, "threads of one block wait at different barriers"),
    (half_a_shuffle, "divergent barrier: of the 64 threads of a block, 54 wait at a barrier of the block, 10 wait for lanes of their warp"),
    (unnamed_lane, "a lane waits at a warp operation whose mask 0x0000ffff does not name it"),
]


@pytest.mark.parametrize(("function", "message"), FAULTS, ids=[f.__name__ for f, _ in FAULTS])
@pytest.mark.parametrize("seed", [0, 4])
def test_threads_that_would_hang_are_reported(function: Any, message: str, seed: int) -> None:
    with pytest.raises(SimtError) as error:
        native(function, F)((1,), (64,), (np.zeros(64, np.float32),), seed)
    assert str(error.value) == f"{function.__name__}: {message}"


def test_shuffles_of_each_mode_and_type() -> None:
    def shuffles(y, z, k):  # type: ignore[no-untyped-def]
        t = cuda.threadIdx.x
        y[t] = cuda.shfl_up_sync(0xFFFFFFFF, float32(t), 3)
        y[32 + t] = cuda.shfl_down_sync(0xFFFFFFFF, float32(t), 5)
        z[t] = cuda.shfl_xor_sync(0xFFFFFFFF, float64(t) + 0.5, 7)
        k[t] = cuda.shfl_sync(0xFFFFFFFF, int64(t) << 40, 9)

    y, z, k = np.zeros(64, np.float32), np.zeros(32), np.zeros(32, np.int64)
    native(shuffles, F, float64[::1], L)((1,), (32,), (y, z, k), 3)
    lane = np.arange(32)
    assert (y[:32] == np.where(lane < 3, lane, lane - 3)).all()
    assert (y[32:] == np.where(lane + 5 > 31, lane, lane + 5)).all()
    assert (z == (lane ^ 7) + 0.5).all()
    assert (k == 9 << 40).all()


def test_votes() -> None:
    def votes(out):  # type: ignore[no-untyped-def]
        t = cuda.threadIdx.x
        out[t] = cuda.ballot_sync(0xFFFFFFFF, t % 3 == 0)
        out[32 + t] = (
            int32(cuda.any_sync(0xFFFFFFFF, t == 7))
            + 2 * int32(cuda.all_sync(0xFFFFFFFF, t < 31))
            + 4 * int32(cuda.all_sync(0xFFFFFFFF, t < 32))
        )

    out = np.zeros(64, np.int64)
    native(votes, L)((1,), (32,), (out,), 2)
    assert (out[:32] & 0xFFFFFFFF == sum(1 << n for n in range(0, 32, 3))).all()
    assert (out[32:] == 5).all()


def test_atomics() -> None:
    def atomics(f, d, k, n):  # type: ignore[no-untyped-def]
        t = cuda.grid(1)
        cuda.atomic.add(f, 0, float32(1))
        cuda.atomic.add(d, 0, 0.5)
        cuda.atomic.add(k, 0, int32(t))
        cuda.atomic.max(k, 1, int32(t))
        cuda.atomic.min(n, 0, int64(-t))

    f, d, k, n = np.zeros(1, np.float32), np.zeros(1), np.zeros(2, np.int32), np.zeros(1, np.int64)
    native(atomics, F, float64[::1], K, L)((3,), (50,), (f, d, k, n), 9)
    assert (f[0], d[0], k.tolist(), n[0]) == (150, 75.0, [150 * 149 // 2, 149], -149)


def test_the_order_of_threads_is_a_function_of_the_seed() -> None:
    def order(at, out):  # type: ignore[no-untyped-def]
        out[cuda.atomic.add(at, 0, int32(1))] = cuda.grid(1)

    def run(seed: int) -> list[int]:
        at, out = np.zeros(1, np.int32), np.zeros(64, np.int32)
        kernel((2,), (32,), (at, out), seed)
        return out.tolist()

    kernel = native(order, K, K)
    assert run(0) == list(range(64))
    assert run(1) == run(1) != run(2)
    assert sorted(run(1)) == list(range(64))


def test_libdevice_slow_paths() -> None:
    """Arguments that take the paths with directed rounding and double-width integers."""

    def functions(y, z, x, w):  # type: ignore[no-untyped-def]
        t = cuda.grid(1)
        y[t] = math.sin(x[t])
        z[t] = math.sin(w[t])

    x = np.array([1e5, 3e9, 1e20, 3e38, 7.0], np.float32)
    w = np.array([1e6, 1e17, 1e100, 1e300, 7.0])
    y, z = np.zeros_like(x), np.zeros_like(w)
    native(functions, F, float64[::1], F, float64[::1])((1,), (5,), (y, z, x, w))
    assert np.allclose(y, np.sin(x.astype(np.float64)), rtol=3e-7, atol=0)
    assert np.allclose(z, np.sin(w), rtol=1e-15, atol=0)


def test_what_the_cpu_cannot_run_is_refused() -> None:
    assert definition("nvvm.mma.m16n8k16.row.col.f32.f32", "float", ("i32",)) is None
    assert inline_name("cp.async.wait_all;", "~{memory}") is None
    with pytest.raises(SimtError, match="cannot be launched with grid"):
        native(some_return_early, F)((1,), (2048,), (np.zeros(1, np.float32),))
    with pytest.raises(TargetError, match="a kernel of 1 arguments was given 2"):
        native(some_return_early, F)((1,), (8,), (np.zeros(1, np.float32), 3))

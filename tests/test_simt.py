"""NVVM IR on the CPU: threads, barriers, shuffles, votes, atomics, and the faults that it must find."""

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from numba import cuda, float32, float64, int32, int64, uint32, uint64

from backends.cuda_compile import lower
from backends.simt_errors import SimtError
from backends.simt_intrinsics import definition, inline_name
from backends.simt_run import SimtKernel
from kernel_ir.errors import TargetError

F, K, L = float32[::1], int32[::1], int64[::1]


def native(function: Any, *types: Any, checked: bool = True) -> SimtKernel:
    return SimtKernel(lower(function, types, (8, 0)), checked)


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
    native(reversed_without_barrier, F, F, checked=False)((1,), (128,), (bad, x), seed)
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


def stale(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(64, float32)
    t = uint32(cuda.threadIdx.x)
    s[t] = x[t]
    cuda.syncthreads()
    y[t] = s[uint32(63) - t]
    s[t] = float32(2.0)
    cuda.syncthreads()
    y[t] += s[t]


def past_the_end(y, x):  # type: ignore[no-untyped-def]
    t = uint32(cuda.threadIdx.x)
    y[t] = x[t + uint32(1)]


def before_the_start(y, x):  # type: ignore[no-untyped-def]
    t = uint64(cuda.threadIdx.x)
    y[t - uint64(1)] = x[t]


def past_shared(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(64, float32)
    r = cuda.shared.array(64, float32)
    t = uint32(cuda.threadIdx.x)
    r[t] = x[t]
    s[t + uint32(1)] = x[t]
    cuda.syncthreads()
    y[t] = r[uint32(63) - t] + s[t]


def one_sum_of_all(y, x):  # type: ignore[no-untyped-def]
    y[0] += x[cuda.threadIdx.x]


def blocks_meet(y, x):  # type: ignore[no-untyped-def]
    y[cuda.threadIdx.x] = x[cuda.threadIdx.x]


def unfenced(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(64, float32)
    t = uint32(cuda.threadIdx.x)
    s[t] = x[t]
    y[t] = cuda.shfl_xor_sync(0xFFFFFFFF, x[t], 1) + s[t ^ uint32(1)]


def across_warps(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(64, float32)
    t = uint32(cuda.threadIdx.x)
    s[t] = x[t]
    cuda.syncwarp()
    y[t] = s[t ^ uint32(32)]


def peeks(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(1, float32)
    if cuda.threadIdx.x == 0:
        s[0] = float32(0.0)
    cuda.syncthreads()
    cuda.atomic.add(s, 0, x[cuda.threadIdx.x])
    y[cuda.threadIdx.x] = s[0]


ACCESSES = [
    (stale, 1, "data race: thread .* writes shared array 0.*thread .* reads it, with no barrier between|reads .* writes it"),
    (past_the_end, 1, r"thread 63 of block 0 reads outside of every array, nearest x\[64\] of 64"),
    (before_the_start, 1, r"thread 0 of block 0 writes outside of every array, nearest y\[-1\] of 64"),
    (
        past_shared,
        1,
        r"thread 63 of block 0 writes outside of every array, nearest shared array \d\[64\] of 64|which no thread of its block wrote",
    ),
    (one_sum_of_all, 1, r"data race: thread 1 of block 0 reads y\[0\], and thread 0 of block 0 writes it"),
    (blocks_meet, 2, r"data race: thread 0 of block 1 writes y\[0\], and thread 0 of block 0 writes it"),
    (peeks, 1, r"data race: thread 1 of block 0 updates shared array 0\[0\], and thread 0 of block 0 reads it"),
    (unfenced, 1, "data race|which no thread of its block wrote"),
    (across_warps, 1, "data race|which no thread of its block wrote"),
]


@pytest.mark.parametrize(("function", "blocks", "message"), ACCESSES, ids=[f.__name__ for f, _, _ in ACCESSES])
def test_wrong_accesses_are_reported(function: Any, blocks: int, message: str) -> None:
    x, y = np.ones(64, np.float32), np.zeros(64, np.float32)
    with pytest.raises(SimtError, match=message):
        native(function, F, F)((blocks,), (64,), (y, x))
    native(function, F, F, checked=False)((blocks,), (32,), (np.zeros(66, np.float32)[1:], np.ones(66, np.float32)))


def greatest(y, x):  # type: ignore[no-untyped-def]
    here = x[cuda.threadIdx.x]
    seen = y[0]
    while seen < here:
        seen = cuda.atomic.cas(y, 0, seen, here)


def test_compare_and_swap_may_read_first() -> None:
    x, y = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    native(greatest, K, K)((2,), (64,), (y, x))
    assert y[0] == 63


def fenced(y, x):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(64, float32)
    t = uint32(cuda.threadIdx.x)
    s[t] = x[t]
    cuda.syncwarp()
    y[t] = s[t ^ uint32(1)]
    cuda.syncwarp()
    s[t] = y[t]
    cuda.atomic.add(y, 64, s[t])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accesses_in_order_are_not(seed: int) -> None:
    x, y = np.arange(64, dtype=np.float32), np.zeros(65, np.float32)
    native(fenced, F, F)((1,), (64,), (y, x), seed)
    assert (y[:64] == x.reshape(32, 2)[:, ::-1].ravel()).all()
    assert y[64] == x.sum()


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

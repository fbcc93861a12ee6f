"""Turns a description of a loop into the seconds that one turn of it takes here, by numba and our own backend."""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Final

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads

from backends.cpu_source import cpu_source
from backends.load import load
from backends.vector_math import helper_text
from kernel_ir.parser import parse
from kernel_ir.timing import alternating

ELEMENTS: Final = 1024
"""Elements of a loop that stays in the first-level cache, input and output."""
SHORT, LONG = 4, 12
"""Steps of the two loops whose difference is a unit's time."""
NUMPY: Final = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}


def threads() -> int:
    return int(get_num_threads())


def seconds(call: Callable[[], Any], rounds: int = 9, limit: float = 0.15) -> float:
    """The least time of a call: what others do on this machine only adds."""
    return min(alternating({"call": call}, rounds, limit)["call"].seconds)


def repeated(call: Callable[[int], Any], least: float = 5e-4, rounds: int = 60) -> float:
    """Seconds of one round of a function that takes how many rounds to run: the least of many short runs, which others disturb less."""
    count = 1
    while count < 1 << 28 and seconds(partial(call, count), 3) < least:
        count *= 2
    return seconds(partial(call, count), rounds) / count


def _made(text: str, name: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(compile(text, "<calibrate>", "exec"), namespace)
    return namespace[name]


_LOOP: Final = """
import math
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.core import cgutils

{helpers}

@njit(error_model="numpy")
def loop(rounds, x, y, a, b):
    wide()
    for _ in range(rounds):
        for i in range(x.size):
            v = x[i]
{steps}
            y[i] = v
"""


def element_seconds(step: str, dtype: str, constants: tuple[float, float]) -> float:
    """Seconds an element of one step: of long rows of steps less those of short ones."""
    kind = NUMPY[dtype]
    helpers = helper_text(frozenset({"wide", "fmadd"}), frozenset())
    x, y = np.full(ELEMENTS, 3, kind), np.empty(ELEMENTS, kind)
    a, b = (kind(c) for c in constants)
    taken: dict[int, float] = {}
    held = f"np.{np.dtype(kind).name}"
    for count in (SHORT, LONG):
        row = "\n".join(f"            {step}\n            v = {held}(v)" for _ in range(count))
        loop = _made(_LOOP.format(helpers=helpers, steps=row), "loop")
        taken[count] = repeated(lambda n, loop=loop: loop(n, x, y, a, b)) / ELEMENTS
    return (taken[LONG] - taken[SHORT]) / (LONG - SHORT)


def clock_ghz() -> float:
    """GHz, by a chain of additions and exclusive ors of which each waits for the one before: a cycle each."""

    @njit
    def chain(n: int, x: int, a: int) -> int:
        for i in range(n):
            x = (x + a) ^ i
        return x

    return 2e-9 / repeated(lambda n: chain(n, 1, 0x9E3779B9))


def latency_seconds() -> float:
    """Seconds between dependent additions of floats."""

    @njit
    def chain(n: int, x: float, a: float) -> float:
        for _ in range(n):
            x = x + a
        return x

    return repeated(lambda n: chain(n, 1.0, 1e-9))


def function_seconds(name: str, dtype: str) -> float:
    """Seconds an element of a function as our backend compiles it, on one thread."""
    from extract.schedule_cpu import plans

    two = name in ("pow", "atan2", "hypot")
    called = ("x[i] ** z[i]" if name == "pow" else f"{name}(x[i], z[i])") if two else f"{name}(x[i])"
    more = f", z: {dtype}[N]" if two else ""
    kernel = parse(f"kernel timed(x: {dtype}[N]{more}) -> (y: {dtype}[N]) {{ y[i] = {called} }}")["timed"]
    module = load(cpu_source(plans(kernel, sizes={"N": ELEMENTS})[0]), f"timed_{name}").module
    part = next(value for key, value in vars(module).items() if key.endswith("_part"))
    x = np.linspace(0.1, 0.9, ELEMENTS, dtype=NUMPY[dtype])
    arrays = (x, x[::-1].copy(), np.empty_like(x)) if two else (x, np.empty_like(x))

    @njit
    def of_one(n: int, x: Any, y: Any) -> None:
        for _ in range(n):
            part(0, 1, x, y, x.size)

    @njit
    def of_two(n: int, x: Any, z: Any, y: Any) -> None:
        for _ in range(n):
            part(0, 1, x, z, y, x.size)

    loop: Any = of_two if two else of_one
    return repeated(lambda n: loop(n, *arrays)) / ELEMENTS


def on_threads(count: int, call: Callable[[], float]) -> float:
    kept = get_num_threads()
    set_num_threads(count)
    try:
        return call()
    finally:
        set_num_threads(kept)


def sum_seconds(size: int, count: int) -> float:
    """Seconds of reading so many bytes."""
    source = """
from numba import njit, prange
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

{helpers}

@njit(fastmath={{"reassoc"}}, error_model="numpy")
def part(x, first, last):
    wide()
    total, share = 0.0, x[first:last]
    for i in range(share.size):
        total += share[i]
    return total

@njit
def one(rounds, x):
    total = 0.0
    for _ in range(rounds):
        total += part(x, 0, x.size)
    return total

@njit(parallel=True)
def all_of(rounds, x, parts):
    total = 0.0
    for _ in range(rounds):
        for p in prange(parts):
            total += part(x, p * x.size // parts, (p + 1) * x.size // parts)
    return total
"""
    text = source.format(helpers=helper_text(frozenset({"wide"}), frozenset()))
    x = np.ones(size // 8)
    if count == 1:
        one = _made(text, "one")
        return repeated(lambda n: one(n, x))
    every = _made(text, "all_of")
    return on_threads(count, lambda: seconds(lambda: every(1, x, count), 40, 0.6))


def copy_seconds(size: int, count: int) -> float:
    """Seconds of reading so many bytes and writing as many."""

    @njit
    def one(rounds: int, x: Any, y: Any) -> None:
        for r in range(rounds):
            for i in range(x.size):
                y[i] = x[i] + r

    @njit(parallel=True)
    def every(rounds: int, x: Any, y: Any) -> None:
        for r in range(rounds):
            for i in prange(x.size):
                y[i] = x[i] + r

    x = np.ones(size // 8)
    y = np.ones_like(x)
    if count == 1:
        return repeated(lambda n: one(n, x, y))
    return on_threads(count, lambda: seconds(lambda: every(1, x, y), 40, 0.6))


def past_seconds(size: int) -> float:
    """Seconds in which all threads read so many bytes and write as many past the caches."""
    source = """
import numpy as np
from llvmlite import ir
from numba import njit, prange, types, uint64
from numba.core import cgutils
from numba.extending import intrinsic

{helpers}

@njit
def part(x, y, line, first, last):
    restrict()
    for at in range(first, last, 256):
        for i in range(256):
            line[uint64(i)] = x[uint64(at + i)] + 1.0
        stream(y, (at,), line, (0,), 256)
    drain()

@njit(parallel=True)
def every(x, y, parts):
    for p in prange(parts):
        line = aligned(256, np.float64)
        part(x, y, line, p * (x.size // 256) // parts * 256, (p + 1) * (x.size // 256) // parts * 256)
"""
    every = _made(source.format(helpers=helper_text(frozenset({"aligned", "restrict", "stream"}), frozenset())), "every")
    x = np.ones(size // 8)
    y = np.ones_like(x)
    return on_threads(threads(), lambda: seconds(lambda: every(x, y, threads()), 40, 0.6))


def launch_seconds() -> float:
    """Seconds of starting a parallel loop that does nothing."""

    @njit(parallel=True)
    def nothing(rounds: int, x: Any) -> None:
        for _ in range(rounds):
            for i in prange(x.size):
                x[i] = i

    x = np.empty(max(2, threads()), np.int64)
    return seconds(lambda: nothing(10, x), 200, 0.5) / 10


def loop_seconds() -> float:
    """Seconds of starting an inner loop over a row, beyond its elements: short rows less one long one of the same elements."""

    @njit(error_model="numpy")
    def rows(rounds: int, x: Any, y: Any, length: int) -> None:
        for _ in range(rounds):
            for r in range(x.size // length):
                for i in range(r * length, r * length + length):
                    y[i] = x[i] * np.float32(3)

    x = np.ones(4096, np.float32)
    y = np.ones_like(x)
    times = {length: repeated(lambda n, length=length: rows(n, x, y, length)) for length in (64, 4096)}
    return (times[64] - times[4096]) / (4096 // 64 - 1)


def call_seconds() -> float:
    """Seconds of calling a compiled kernel from Python, its work aside: checks, allocation, dispatch."""
    from extract.schedule_cpu import plans

    kernel = parse("kernel called(x: f32[N], z: f32[N]) -> (y: f32[N]) { y[i] = x[i] + z[i] }")["called"]
    module = load(cpu_source(plans(kernel, sizes={"N": 1})[0]), "called").module
    x = np.ones(8, np.float32)
    run: Any = module.called
    return repeated(lambda n: [run(x, x) for _ in range(n)])


def turn_seconds() -> float:
    """Seconds an element of turning an array of structures into planes."""
    x = np.zeros((540, 960, 3), np.uint8)
    return seconds(lambda: np.ascontiguousarray(x.transpose(2, 0, 1))) / x.size


def product_seconds(side: int) -> float:
    """Seconds of the library's product of two square f32 matrices."""
    a = np.ones((side, side), np.float32)
    out = np.empty_like(a)
    return seconds(lambda: np.matmul(a, a, out=out), 30, 0.6)


def handoff_seconds(side: int) -> float:
    """Seconds that a product and a parallel loop in turns take longer than each of them alone, at each change from one to the other.

    Threads that have nothing to do wait awake for some milliseconds, on cores that the others want: those of OpenMP, of the library.
    """

    @njit(parallel=True)
    def loop(x: Any) -> None:
        for i in prange(x.size):
            x[i] = x[i] * np.float32(0.5) + np.float32(1.0)

    a = np.ones((side, side), np.float32)
    out = np.empty_like(a)
    x = np.ones(1 << 16, np.float32)

    def both() -> None:
        np.matmul(a, a, out=out)
        loop(x)

    apart = seconds(lambda: np.matmul(a, a, out=out), 30, 0.3) + seconds(lambda: loop(x), 30, 0.3)
    return max(0.0, median(alternating({"both": both}, 30, 0.6)["both"].seconds) - apart) / 2

"""Measures what `extract/targets/cpu.toml` states of this machine: vector functions, memory by size and threads, starting threads.

    python benchmarks/calibrate.py [--clock 2.6]

Cycles are nanoseconds times `--clock` (GHz, the file's by default): the processor's own clock may differ from it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads

from extract.machine import load_machine
from kernel_ir.timing import alternating

FUNCTIONS: Final = ("exp", "log", "erf", "tanh", "sin", "pow")
ELEMENTS: Final = 2048
"""Elements of a loop that times a function: they stay in the first-level cache."""
REPEATS: Final = 200
COPIED: Final = (1 << 20, 8 << 20, 64 << 20, 256 << 20)
"""Bytes read, and as many written, by the copies."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clock", type=float, default=load_machine("cpu").clock_ghz, help="GHz (default: that of cpu.toml)")
    clock = parser.parse_args().clock
    for dtype in ("f32", "f64"):
        for name in FUNCTIONS:
            print(f"{name} {dtype}: {function_cycles(name, dtype, clock):.2f} cycles an element")
    everything = get_num_threads()
    for threads in sorted({1, everything}):
        for size in COPIED:
            print(f"copy of {size >> 20} MiB, {threads} threads: {copy_bytes(size, threads, clock):.2f} bytes a cycle, read and written")
    print(f"parallel loop with nothing to do, {everything} threads: {launch_cycles(clock):.0f} cycles")
    print(f"turning u8[2160, 3840, 3] into planes (NumPy): {turning_cycles(clock):.2f} cycles an element")


def seconds(call: Callable[[], Any]) -> float:
    """The median time of a call."""
    call()
    return alternating({"call": call}, 15, 0.4)["call"].median


def function_cycles(name: str, dtype: str, clock: float) -> float:
    """Cycles an element of a function of one argument (pow: x to the y) as our backend compiles it, on one thread."""
    import kernel_ir as kir

    applied = "x[i] ** x[i]" if name == "pow" else f"{name}(x[i])"
    kernel = kir.parse(f"kernel one(x: {dtype}[N]) -> (y: {dtype}[N]) {{ y[i] = {applied} }}")["one"]
    module_run = kir.optimize(kernel, target="cpu", sizes={"N": ELEMENTS}).compile(check=False)
    part = next(v for k, v in sys.modules[module_run._run.__module__].__dict__.items() if k.endswith("_part"))
    x = np.linspace(0.5, 2.0, ELEMENTS, dtype=np.float32 if dtype == "f32" else np.float64)
    y = np.empty_like(x)

    @njit
    def repeated(n, x, y):
        for _ in range(n):
            part(0, 1, x, y, x.size)

    return seconds(lambda: repeated(REPEATS, x, y)) * clock * 1e9 / REPEATS / ELEMENTS


def copy_bytes(size: int, threads: int, clock: float) -> float:
    """Bytes read and written a cycle by a parallel copy, all threads together."""

    @njit(parallel=True)
    def copied(x, y):
        for i in prange(x.size):
            y[i] = x[i]

    kept = get_num_threads()
    set_num_threads(threads)
    try:
        x = np.ones(size // 4, np.float32)
        y = np.ones_like(x)
        return 2 * size / (seconds(lambda: copied(x, y)) * clock * 1e9)
    finally:
        set_num_threads(kept)


def launch_cycles(clock: float) -> float:
    """Cycles of a parallel loop that does nothing."""

    @njit(parallel=True)
    def nothing(x):
        for i in prange(x.size):
            x[i] = i

    x = np.empty(2, np.int64)
    return seconds(lambda: nothing(x)) * clock * 1e9


def turning_cycles(clock: float) -> float:
    """Cycles an element of turning an array of structures into planes."""
    x = np.zeros((2160, 3840, 3), np.uint8)
    return seconds(lambda: np.ascontiguousarray(x.transpose(2, 0, 1))) * clock * 1e9 / x.size


if __name__ == "__main__":
    main()

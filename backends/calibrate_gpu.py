"""Measures the first GPU into a machine file: its clock, multiprocessors, memory bandwidth, what a launch and an argument cost.

Everything else is that of the built-in file of its architecture. Not run on a device yet.
"""

import tomllib
from typing import Any

import numpy as np

from backends.cuda_compile import numba_cuda
from backends.target import target
from extract.machine import machine_text
from extract.machine_text import machine_file
from kernel_ir.timing import alternating

COPIED = 1 << 28
"""Bytes of the copy that is timed."""
MEASURED = "measured on this machine by `kir targets calibrate`"


def measured_gpu() -> tuple[str, str]:
    """The name of the device's architecture, and its machine file."""
    cuda = numba_cuda()
    name = target("cuda").machine
    figures: dict[str, Any] = tomllib.loads(machine_text(name))
    sources = dict(figures.pop("sources", {}))
    device = cuda.get_current_device()
    figures["units"] = int(device.MULTIPROCESSOR_COUNT)
    figures["clock_ghz"] = _rounded(device.CLOCK_RATE / 1e6)
    hertz = figures["clock_ghz"] * 1e9

    @cuda.jit
    def copied(x: Any, y: Any) -> None:
        i = cuda.grid(1)
        if i < x.size:
            y[i] = x[i]

    @cuda.jit
    def nothing() -> None:
        pass

    x = cuda.to_device(np.ones(COPIED // 4, np.float32))
    y = cuda.device_array_like(x)

    def run(kernel: Any, blocks: int, *arrays: Any) -> float:
        def call() -> None:
            kernel[blocks, 256](*arrays)
            cuda.synchronize()

        return min(alternating({"call": call}, 30, 1.0)["call"].seconds)

    empty, two = run(nothing, 1), run(copied, 1, x, y)
    seconds = run(copied, COPIED // 4 // 256, x, y)
    figures["launch_cycles"] = _rounded(empty * hertz)
    figures["extra"]["argument_cycles"] = _rounded(max(0.0, two - empty) / 2 * hertz)
    figures["levels"][-1]["bytes_per_cycle"] = _rounded(2 * COPIED / seconds / hertz / figures["units"])
    for key in ("units", "clock_ghz", "launch_cycles", "extra.argument_cycles", "levels.memory"):
        sources[key] = MEASURED
    return name, machine_file(figures, sources, f"{device.name.decode() if isinstance(device.name, bytes) else device.name}")


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")

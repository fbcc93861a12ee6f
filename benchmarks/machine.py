"""Turns this machine into a description of it: processor, caches, versions, threads, and how fast memory copies."""

import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import get_num_threads, njit, prange

PACKAGES: Final = ("numpy", "scipy", "numba", "llvmlite", "egglog", "jax", "torch")
KEPT: Final = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
COPIES: Final = (16, 64, 256)
"""MiB of the arrays copied."""


@njit(parallel=True, cache=True)
def copy_into(source, target):
    """The parallel copy that every memory-bound kernel is held against."""
    for i in prange(source.size):
        target[i] = source[i]


def keep_memory() -> None:
    """Starts this program again under a malloc that keeps freed memory, unless it already runs so.

    By default glibc gives a large block back to the kernel when it is freed, and every call of a function that allocates its
    output then pays for a page fault each 4 KiB: several times the copy itself, and the same for every contender that calls malloc.
    """
    if os.environ.get("GLIBC_TUNABLES") != KEPT:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"GLIBC_TUNABLES": KEPT})


def description() -> dict[str, Any]:
    """Everything about the machine that a figure depends on; no dates, no host name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": get_num_threads(),
        "caches": _caches(),
        "huge_pages": _first_line(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "freed_memory": "kept" if os.environ.get("GLIBC_TUNABLES") == KEPT else "returned",
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "blas": _blas(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def copy_speeds() -> list[dict[str, float]]:
    """GB/s, read and written together, of a parallel copy into an array that is there, and into a fresh one for each copy."""
    return [_copy_speed(mebibytes) for mebibytes in COPIES]


def settle(step: float = 0.012, limit: float = 0.3) -> float:
    """Waits until this program's threads sleep, and says how long that took. Those of a BLAS spin for up to 0.1 s after a product, on
    a core that the next contender's threads need: one library would pay for another. A step is several ticks of the kernel's clock, which
    counts what other threads use."""
    began = time.perf_counter()
    while time.perf_counter() - began < limit:
        used = time.process_time()
        time.sleep(step)
        if time.process_time() - used < 0.25 * step:
            break
    return time.perf_counter() - began


def busy_cores(seconds: float = 0.3) -> float | None:
    """How many cores other programs keep busy (this one sleeps meanwhile); None where the system does not say."""
    before = _processor_ticks()
    time.sleep(seconds)
    after = _processor_ticks()
    if before is None or after is None:
        return None
    busy, total = (b - a for a, b in zip(before, after, strict=True))
    return round((os.cpu_count() or 1) * busy / max(total, 1), 2)


def _processor_ticks() -> tuple[int, int] | None:
    """Ticks of all processors since the start: busy ones, and all."""
    first = _first_line(Path("/proc/stat")).split()
    if first[0] != "cpu":
        return None
    ticks = [int(word) for word in first[1:9]]  # user nice system idle iowait irq softirq steal: proc_stat(5)
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _copy_speed(mebibytes: int) -> dict[str, float]:
    source = np.ones(mebibytes << 18, np.float32)
    target = np.empty_like(source)

    def rate(make_target: Any) -> float:
        times: list[float] = []
        for _ in range(12):
            start = time.perf_counter()
            copy_into(source, make_target())
            times.append(time.perf_counter() - start)
        return round(2 * source.nbytes / sorted(times[2:])[5] / 1e9, 1)

    return {"MiB": mebibytes, "existing": rate(lambda: target), "fresh": rate(lambda: np.empty_like(source))}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _caches() -> dict[str, str]:
    """Level and kind → size of the first core's caches."""
    found: dict[str, str] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_first_line(index / part) for part in ("level", "type", "size"))
        found[f"L{level} {kind}"] = size
    return found


def _blas() -> str:
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

"""Times what a user waits for: importing, parsing, optimizing each kernel (first and again; the search alone), the first call of its
code, which LLVM compiles then unless a cache has it, a bound call.

python benchmarks/latency.py [--json OUT]

Figures are CPU seconds of this process (`time.process_time`), so that other programs' load does not count; imports are wall
seconds of a fresh process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kernel_ir as kir
from backends.target import target as target_named
from benchmarks.ours import FLAGS
from extract.candidates import candidates
from extract.machine import load_machine
from kernel_ir.binding import binding
from kernel_ir.fastmath import flags
from kernel_ir.inputs import sample_inputs
from kernel_ir.optimizer import DEFAULT_EXTENT
from rewrites.books import rules_of

KERNELS = Path(__file__).resolve().parent.parent / "examples" / "kernels"
SETS = {"no flags": "none", "flags": FLAGS}
CACHE = "KIR_CACHE_DIR"
SMALL = 16
"""Extents of the first call: its arithmetic is nothing beside the compiler's."""
PROCESSES = (("elementwise.kir", "saxpy", "none"), ("rows.kir", "softmax", "none"), ("rows.kir", "softmax", "all"))


def spent(call: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def searched(kernel: kir.Kernel, fast_math: str) -> float:
    """CPU seconds to saturate the kernel as it is and to extract candidates: no plans, no check."""
    sizes = dict.fromkeys(kernel.sizes, DEFAULT_EXTENT)
    machine, rules = load_machine(target_named("cpu").machine), rules_of(None)
    return spent(lambda: candidates(kernel, flags(fast_math), sizes, machine, rules))


def first_call(kernel: kir.Kernel, fast_math: str) -> float:
    """CPU seconds from the optimized kernel to its first results: its code is emitted and compiled, and no cache has it."""
    result = kir.optimize(kernel, target="cpu", fast_math=fast_math, check=False)
    arguments = sample_inputs(kernel, 0, dict.fromkeys(kernel.sizes, SMALL))
    usual = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory() as fresh:
        os.environ[CACHE] = fresh
        try:
            return spent(lambda: result.compile(check=False)(**arguments))
        finally:
            del os.environ[CACHE]
            os.environ.update({} if usual is None else {CACHE: usual})


def import_seconds() -> float:
    """Median wall seconds that `import kernel_ir` adds to starting Python."""
    code = "import time; t = time.perf_counter(); import kernel_ir; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)]
    return statistics.median(float(run.stdout) for run in runs)


def process_seconds(file: str, kernel: str, fast_math: str) -> float:
    """Median wall seconds of `kir optimize` on one kernel, a fresh process each, after one that fills the caches."""
    command = [sys.executable, "-m", "kernel_ir.cli", "optimize", str(KERNELS / file), "-k", kernel, "--target", "cpu"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: list[float] = []
    for _ in range(6):
        start = time.perf_counter()
        subprocess.run([*command, "--fast-math", fast_math, "-o", os.devnull], capture_output=True, check=True, env=environment)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def call_seconds() -> float:
    """CPU seconds to bind one call of saxpy: shapes, sizes, dtypes."""
    bound = binding(kir.parse_file(KERNELS / "elementwise.kir")["saxpy"])
    a, x = np.float32(2), np.ones(8, np.float32)
    return min(spent(lambda: [bound((a, x, x), {}) for _ in range(1000)]) for _ in range(5)) / 1000


def main() -> None:
    """Prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="OUT")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for path in sorted(KERNELS.glob("*.kir")):
        for name, kernel in kir.parse_file(path).items():
            row: dict[str, Any] = {"kernel": name}
            for title, fast_math in SETS.items():
                row[f"{title}, first"] = spent(lambda k=kernel, f=fast_math: kir.optimize(k, target="cpu", fast_math=f))
                row[title] = statistics.median(
                    spent(lambda k=kernel, f=fast_math: kir.optimize(k, target="cpu", fast_math=f)) for _ in range(3)
                )
                row[f"{title}, search"] = statistics.median(searched(kernel, fast_math) for _ in range(3))
            row["flags, first call"] = first_call(kernel, FLAGS)
            rows.append(row)
    columns = [key for key in rows[0] if key != "kernel"]
    medians = {key: statistics.median(row[key] for row in rows) for key in columns}
    processes = {f"{kernel}, {licence}": process_seconds(file, kernel, licence) for file, kernel, licence in PROCESSES}
    imported, bound = import_seconds(), call_seconds()
    result = {"import": imported, "bind_call": bound, "process": processes, "median": medians, "kernels": rows}
    table = Table("optimize, CPU seconds", *columns)
    for row in [*rows, {"kernel": "median", **medians}]:
        table.add_row(row["kernel"], *(f"{row[key]:.2f}" for key in columns))
    out = Console()
    out.print(table)
    out.print(f"import kernel_ir: {imported:.3f} s; binding a call: {bound * 1e6:.1f} µs")
    for name, seconds in processes.items():
        out.print(f"kir optimize, {name}: {seconds:.2f} s, the whole process")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

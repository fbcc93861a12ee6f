"""Turns the public kernels into a table of times: ours against hand-written numba, NumPy, JAX and torch, alternating in one run.

    python benchmarks/cpu.py [-k softmax gelu] [--quick] [--peers numba numpy] [--json results.json]

Every contender is verified before it is timed, and again afterwards on other values; one that fails or is wrong is shown as such.
Ratios are medians, over the rounds, of how many times as long as ours a contender took. `copy` is a parallel copy, into memory that is
already there, of as many bytes as the kernel's inputs and outputs have: the floor of a memory-bound kernel. All contenders use their
own default number of threads and allocate their outputs in each call. A timed call follows another of the same contender, which has
woken its threads, and that one a pause in which those of the contender before went to sleep: a BLAS's spin for 0.1 s.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.inputs import CASES, NPBENCH
from benchmarks.machine import busy_cores, copy_speeds, description, keep_memory
from benchmarks.measure import Row, measured
from benchmarks.ours import FLAGS, variants
from benchmarks.peers import PEERS
from benchmarks.reference import signature
from benchmarks.table import into_readme, sizes_text
from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse_file
from kernel_ir.timing import Timing, readable

KERNELS: Final = Path(__file__).resolve().parents[1] / "examples" / "kernels"
NPBENCH_KERNELS: Final = Path(__file__).resolve().parent / "npbench.kir"
VARIANTS: Final = ("exact", "written")
BUSY: Final = 0.1
"""Cores in use by others from which on the times are doubtful: a parallel loop waits for the thread that lost its core."""
DEFAULT: Final = (*VARIANTS, *PEERS)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where a contender failed or was wrong."""
    arguments = _arguments(argv)
    if arguments.keep_memory:
        keep_memory()
    console = Console(stderr=True, highlight=False)
    kernels = _kernels(arguments.kernels)
    busy = busy_cores()
    if busy is not None and busy > BUSY:
        console.print(f"[yellow]other programs keep {busy:.1f} cores busy: parallel times will be too long, unevenly[/]")
    with console.status("measuring copies"):
        copies = copy_speeds()
    rows: list[Row] = []
    for number, kernel in enumerate(kernels, 1):
        with console.status(f"{kernel.name} ({number} of {len(kernels)})"):
            rows.append(_row(kernel, arguments))
        console.print(_summary(rows[-1]))
    names = ["ours", *arguments.peers, "copy"]
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(_table(rows, names, arguments.keep_memory))
    results = _results(rows, names, arguments) | {"copies": copies, "busy_cores": busy}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if arguments.readme:
        arguments.readme.write_text(into_readme(results, arguments.readme.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if any(row.faults for row in rows) else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times the public kernels and those of NPBench: ours against hand-written numba, NumPy, JAX and torch."
    )
    parser.add_argument("-k", "--kernels", metavar="NAME", nargs="+", choices=sorted(CASES | NPBENCH), help="only these kernels")
    parser.add_argument("--peers", metavar="NAME", nargs="*", choices=(*VARIANTS, *PEERS), default=list(DEFAULT),
                        help=f"contenders besides ours, of {', '.join((*VARIANTS, *PEERS))} (default: {' '.join(DEFAULT)})")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: whether all works, not how fast it is")
    parser.add_argument("--rounds", type=int, help="rounds a kernel at most (default 15, or 5 with --quick; three at least)")
    parser.add_argument("--seconds", type=float, help="about how long to time a kernel (default 5, or 0.5 with --quick)")
    parser.add_argument("--keep-memory", action="store_true", help="malloc keeps freed memory (glibc): no contender pays for page faults")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results and a description of the machine to FILE")
    parser.add_argument("--readme", metavar="FILE", type=Path, help="write the table into FILE, between its marks")
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 15)
    arguments.seconds = arguments.seconds or (0.5 if arguments.quick else 5.0)
    return arguments


def _kernels(chosen: Sequence[str] | None) -> list[Kernel]:
    files = (*sorted(KERNELS.glob("*.kir")), NPBENCH_KERNELS)
    found = {kernel.name: kernel for path in files for kernel in parse_file(path).values()}
    return [found[name] for name in chosen or CASES | NPBENCH]


def _row(kernel: Kernel, arguments: argparse.Namespace) -> Row:
    case = (CASES | NPBENCH)[kernel.name]
    sizes = case.quick if arguments.quick else case.full
    which = signature(kernel)
    ours = variants(kernel, sizes, which)
    makers = {name: ours[name] if name in ours else lambda name=name: PEERS[name](which) for name in ("ours", *arguments.peers)}
    return measured(kernel, case, sizes, makers, arguments.rounds, arguments.seconds)


def _summary(row: Row) -> str:
    times = ", ".join(f"{name} {readable(timing.median)}" for name, timing in row.timings.items())
    faults = "".join(f"\n  [red]{name}: {_escaped(fault)}[/]" for name, fault in row.faults.items())
    return f"[bold]{row.kernel}[/]: {times}{faults}"


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _table(rows: Sequence[Row], names: Sequence[str], kept: bool) -> Table:
    title = f"times as long as ours ({FLAGS})" + (", freed memory kept" if kept else "")
    table = Table("kernel", "sizes", "ours", "quartiles", title=title, box=None)
    for name in names[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.kernel, sizes_text(dict(row.sizes)), *_ours(row), *(_cell(row, name) for name in names[1:]))
    means = _means(rows, names)
    table.add_row("[bold]geometric mean[/]", "", "", "", *(f"[bold]{means[n]:.2f}×[/]" if n in means else "" for n in names[1:]))
    return table


def _ours(row: Row) -> tuple[str, str]:
    timing = row.timings.get("ours")
    if timing is None:
        return "[red]failed[/]", ""
    return readable(timing.median), f"{readable(timing.low)} – {readable(timing.high)}"


def _cell(row: Row, name: str) -> str:
    ratio = row.ratio(name)
    if ratio is not None:
        return f"{ratio:.2f}×"
    if name in row.timings:
        return readable(row.timings[name].median)
    return "[red]failed[/]" if name in row.faults else "–"


def _means(rows: Sequence[Row], names: Sequence[str]) -> dict[str, float]:
    """Geometric means of the ratios, by contender, over the kernels where both ran."""
    ratios = {name: [ratio for row in rows if (ratio := row.ratio(name)) is not None] for name in names}
    return {name: math.exp(sum(map(math.log, values)) / len(values)) for name, values in ratios.items() if values}


def _results(rows: Sequence[Row], names: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "machine": description(),
        "settings": {"flags": FLAGS, "rounds": arguments.rounds, "seconds": arguments.seconds, "quick": arguments.quick},
        "kernels": [
            {
                "kernel": row.kernel,
                "sizes": dict(row.sizes),
                "bytes": row.bytes,
                "contenders": {name: _timing(timing, row.ratio(name)) for name, timing in row.timings.items()},
                "faults": row.faults,
                "absent": row.absent,
            }
            for row in rows
        ],
        "geometric_means": _means(rows, names),
    }


def _timing(timing: Timing, ratio: float | None) -> dict[str, Any]:
    """In seconds; `ratio` is how many times as long as ours."""
    return {"median": timing.median, "low": timing.low, "high": timing.high, "rounds": len(timing.seconds), "ratio": ratio}


if __name__ == "__main__":
    sys.exit(main())

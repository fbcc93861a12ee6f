"""Turns the public kernels into a table of times on the GPU that is here: ours against naive numba.cuda, torch, torch.compile, a copy.

    python benchmarks/gpu.py [-k softmax gelu] [--seconds 1] [--minutes 8] [--json results.json]
    python benchmarks/gpu.py --check        # no GPU needed: every contender once, at small sizes, ours and naive run on the CPU

Every contender is verified before it is timed and again afterwards on other values. Ratios are medians, over the rounds, of how many
times as long as ours a contender took; a call includes its launches and ends when the GPU is done. `copy` is a copy on the device of as
many bytes as the kernel's inputs and outputs have: `bandwidth` is ours as a share of it. Besides the public kernels at their usual sizes,
the three kernels of SGLang run at SGLang's own shapes, first; Triton, where it is installed, runs these and softmax.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from backends.target import cuda_device_present
from benchmarks.gpu_peers import contenders, copies
from benchmarks.inputs import CASES, Sizes
from benchmarks.machine import description
from benchmarks.measure import Row, measured
from benchmarks.reference import signature
from benchmarks.table import sizes_text
from kernel_ir.parser import parse_file
from kernel_ir.timing import readable

KERNELS: Final = Path(__file__).resolve().parents[1] / "examples" / "kernels"
NAMES: Final = ("ours", "naive", "torch", "torch.compile", "triton", "copy")
SGLANG: Final[dict[str, tuple[dict[str, int], ...]]] = {
    "silu_and_mul": tuple(
        {"T": batch * sequence, "D": d} for batch, sequence, d in ((1, 1, 128), (1, 512, 4096), (16, 512, 11008), (16, 128, 16384))
    ),
    "fused_add_rmsnorm": tuple({"T": t, "D": d} for t, d in ((1, 111), (19, 4096), (99, 8192), (989, 16384))),
    "merge_attn_states": ({"T": 512, "H": 40, "D": 128}, {"T": 768, "H": 32, "D": 256}),
}
"""Shapes of SGLang's own tests and benchmarks of these kernels, the extremes and two between."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0; 1 where a contender failed or was wrong; 2 where no GPU is here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", "--kernels", metavar="NAME", nargs="+", choices=sorted(CASES), help="only these kernels")
    parser.add_argument("--check", action="store_true", help="run everything once at small sizes, without a GPU")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long to time a kernel (default 1)")
    parser.add_argument("--minutes", type=float, default=7.5, help="begin no kernel after so many minutes (default 7.5)")
    parser.add_argument("--json", metavar="FILE", type=Path)
    arguments = parser.parse_args(argv)
    err = Console(stderr=True, highlight=False)
    if not arguments.check and not cuda_device_present():
        err.print("no GPU is here; `--check` runs everything on the CPU instead, untimed")
        return 2
    target = "cuda-on-cpu" if arguments.check else "cuda"
    found = {k.name: k for path in sorted(KERNELS.glob("*.kir")) for k in parse_file(path).values()}
    rows: list[Row] = []
    left: list[str] = []
    started = time.monotonic()
    for name in arguments.kernels or (*SGLANG, *(name for name in CASES if name not in SGLANG)):
        for sizes in _sizes(name, arguments.check):
            if not arguments.check and time.monotonic() - started > arguments.minutes * 60:
                left.append(f"{name} {sizes_text(dict(sizes))}")
                continue
            with err.status(f"{name} {sizes_text(dict(sizes))}"):
                which = signature(found[name])
                makers = contenders(found[name], sizes, which, target)
                rounds, seconds = (3, 0.01) if arguments.check else (arguments.rounds, arguments.seconds)
                rows.append(measured(found[name], CASES[name], sizes, makers, rounds, seconds, copies(target)))
            for contender, fault in rows[-1].faults.items():
                err.print(f"{name}: {contender}: {fault}", markup=False)
    Console(highlight=False).print(_table(rows))
    if left:
        err.print(f"no time was left for {', '.join(left)}: --minutes gives more", markup=False)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"device": _device(target), "machine": description(), "rows": list(map(_row, rows))}, indent=1) + "\n"
        )
    return 1 if any(row.faults for row in rows) else 0


def _sizes(name: str, small: bool) -> tuple[Sizes, ...]:
    return (CASES[name].small,) if small else (CASES[name].full, *SGLANG.get(name, ()))


def _table(rows: Sequence[Row]) -> Table:
    table = Table("kernel", "sizes", "ours", *NAMES[1:], "bandwidth", title="times as long as ours", box=None)
    for row in rows:
        ours = row.timings.get("ours")
        ratios = (f"{ratio:.2f}×" if (ratio := row.ratio(n)) is not None else "–" for n in NAMES[1:])
        share = row.ratio("copy")
        table.add_row(
            row.kernel, sizes_text(dict(row.sizes)), readable(ours.median) if ours else "failed", *ratios, f"{share:.0%}" if share else "–"
        )
    return table


def _row(row: Row) -> dict[str, Any]:
    timings = {n: {"median": t.median, "low": t.low, "high": t.high, "ratio": row.ratio(n)} for n, t in row.timings.items()}
    return {
        "kernel": row.kernel,
        "sizes": dict(row.sizes),
        "bytes": row.bytes,
        "timings": timings,
        "faults": row.faults,
        "absent": row.absent,
    }


def _device(target: str) -> str:
    if target == "cuda-on-cpu":
        return "none: executed on the CPU"
    from numba import cuda

    return str(cuda.get_current_device().name)


if __name__ == "__main__":
    sys.exit(main())

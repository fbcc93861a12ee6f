"""Turns the public kernels into a table of times on the GPU that is here: ours against naive numba.cuda, torch, torch.compile, a copy.

    python benchmarks/gpu.py [-k softmax gelu] [--seconds 1] [--minutes 7] [--json results.json]
    python benchmarks/gpu.py --check        # no GPU needed: every contender, ours and naive run on the CPU, on a few rows

Every contender is verified before it is timed and again afterwards on other values. Ratios are medians, over the rounds, of how many
times as long as ours a contender took; a call includes its launches and ends when the GPU is done. `copy` is a copy on the device of as
many bytes as the kernel's inputs and outputs have: `bandwidth` is ours as a share of it. Besides the public kernels at their usual sizes,
the three kernels of SGLang run at SGLang's own shapes, first; Triton, where it is installed, runs these and softmax.

Of the minutes, each case has its share: when twice that is gone, contenders that have not begun are left out, and said to be (torch.compile
comes last). The JSON is written after each case. `--check` takes the schedule that the full sizes would have, and runs it on small ones.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from backends.cuda_compile import numba_cuda
from backends.target import cuda_device_present
from benchmarks.gpu_peers import contenders, copies
from benchmarks.inputs import CASES, Sizes
from benchmarks.machine import description
from benchmarks.measure import Row, measured
from benchmarks.peers import Absent, Contender
from benchmarks.reference import signature
from benchmarks.table import sizes_text
from kernel_ir.nodes import Kernel
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
    parser.add_argument("--minutes", type=float, default=7.0, help="begin no contender after so many minutes (default 7)")
    parser.add_argument("--json", metavar="FILE", type=Path)
    arguments = parser.parse_args(argv)
    err = Console(stderr=True, highlight=False)
    if not arguments.check and not cuda_device_present():
        err.print("no GPU is here; `--check` runs everything on the CPU instead, untimed")
        return 2
    found = {k.name: k for path in sorted(KERNELS.glob("*.kir")) for k in parse_file(path).values()}
    cases = [(name, sizes) for name in arguments.kernels or (*SGLANG, *(n for n in CASES if n not in SGLANG)) for sizes in _sizes(name)]
    clock = Clock(float("inf") if arguments.check else arguments.minutes * 60)
    rows: list[Row] = []
    left: list[str] = []
    for number, (name, sizes) in enumerate(cases):
        told = f"{name} {sizes_text(dict(sizes))}"
        if clock.over:
            left.append(told)
            continue
        with err.status(f"{number + 1} of {len(cases)}: {told}"):
            started = time.monotonic()
            rows.append(_measured(found[name], sizes, clock.within(len(cases) - number), arguments))
            err.print(f"{number + 1} of {len(cases)}: {told}: {time.monotonic() - started:.0f} s", markup=False, soft_wrap=True)
        for contender, fault in rows[-1].faults.items():
            err.print(f"{name}: {contender}: {fault}", markup=False)
        if arguments.json:
            answer = {"device": _device(arguments.check), "machine": description(), "rows": list(map(_row, rows))}
            arguments.json.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    Console(highlight=False).print(_checked(rows) if arguments.check else _table(rows))
    if left:
        err.print(f"no time was left for {', '.join(left)}: --minutes gives more", markup=False)
    return 1 if any(row.faults for row in rows) else 0


class Clock:
    """How much of the time that there is has gone."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end

    def within(self, cases: int) -> float:
        """The moment after which the first of so many cases begins nothing more: twice its share."""
        now = time.monotonic()
        return min(self.end, now + 2 * (self.end - now) / cases)


def _measured(kernel: Kernel, sizes: Sizes, end: float, arguments: argparse.Namespace) -> Row:
    target = "cuda-on-cpu" if arguments.check else "cuda"
    makers = {n: _until(end, make) for n, make in contenders(kernel, sizes, signature(kernel), target).items()}
    run_at = _few(kernel.name, sizes) if arguments.check else sizes
    rounds, seconds = (1, 0.0) if arguments.check else (arguments.rounds, arguments.seconds)
    return measured(kernel, CASES[kernel.name], run_at, makers, rounds, seconds, copies(target))


def _until(end: float, make: Callable[[], Contender]) -> Callable[[], Contender]:
    """The contender, unless it is made too late."""

    def made() -> Contender:
        if time.monotonic() > end:
            raise Absent("the time of this case was over: --minutes gives more")
        return make()

    return made


def _few(name: str, sizes: Sizes) -> Sizes:
    """The small sizes of a kernel; of SGLang's shapes the rows as they are, but three of them."""
    return {**sizes, "T": min(3, sizes["T"])} if sizes in SGLANG.get(name, ()) else CASES[name].small


def _sizes(name: str) -> list[Sizes]:
    """The usual sizes, where they are not SGLang's, and SGLang's."""
    shapes = SGLANG.get(name, ())
    return [*(() if CASES[name].full in shapes else (CASES[name].full,)), *shapes]


def _checked(rows: Sequence[Row]) -> str:
    """What the dry run found: times on the CPU say nothing."""
    right = sum(len(row.timings) - 1 for row in rows if row.timings)
    return f"{len(rows)} cases: {right} contenders right, {sum(len(row.faults) for row in rows)} wrong"


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


def _device(check: bool) -> str:
    """The GPU's name and compute capability."""
    if check:
        return "none: executed on the CPU"
    device: Any = numba_cuda().get_current_device()
    major, minor = device.compute_capability
    return f"{device.name.decode() if isinstance(device.name, bytes) else device.name}, compute capability {major}.{minor}"


if __name__ == "__main__":
    sys.exit(main())

"""Seeds faults into generated CUDA code and counts how many the execution on the CPU catches.

python benchmarks/faults.py [-k NAME …] [--limit N] [--json OUT]

A fault is one change to the plan or source of one schedule of one kernel: a barrier removed, an index or a bound slipped by one, a
wide access slipped off its alignment, a buffer taken for another, an update that is no longer atomic. Caught means that the run raised
SimtError, or that its result differs from the reference evaluator's, under one of two orders of the threads. A fault that is not caught
is called equivalent only where that is proved: its module is the same text, or its kernels are the same PTX and the host's side the
same text, or a proof of its kind is written down (`fault_trial.py`). All others are misses, and are listed. Schedules already in OUT are
not run again.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fault_cases import FEW, MANY, cases, extents
from benchmarks.fault_seeds import faults, spread
from benchmarks.fault_trial import Trial, equivalent
from kernel_ir.inputs import sample_inputs
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan


def main() -> None:
    """Prints the table and the misses, writes the JSON after each schedule."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", "--kernel", action="append", default=[])
    parser.add_argument("--limit", type=int, default=10, help="faults of each kind, kernel and schedule, evenly spread")
    parser.add_argument("--json", metavar="OUT", type=Path)
    arguments = parser.parse_args()
    err, out = Console(stderr=True), Console()
    done: list[dict[str, Any]] = []
    if arguments.json and arguments.json.exists():
        done = json.loads(arguments.json.read_text(encoding="utf-8"))["schedules"]
    known = {(one["kernel"], one["schedule"]) for one in done}
    todo = [(kernel, plan) for kernel, plans in cases(arguments.kernel) for plan in plans]
    for kernel, plan in track(todo, "seeding faults", console=err):
        if (kernel.name, schedule_text(plan)) in known:
            continue
        done.append(_tried(kernel, plan, arguments.limit))
        if arguments.json:
            arguments.json.write_text(json.dumps(summary_of(done), indent=1) + "\n", encoding="utf-8")
    summary = summary_of(done)
    table = Table("fault", "seeded", *HOW)
    for kind, count in summary["kinds"].items():
        table.add_row(kind, str(sum(count.values())), *(str(count.get(how, 0)) for how in HOW))
    out.print(table)
    for one in done:
        for miss in one["missed"]:
            out.print(f"{one['kernel']} {one['schedule']}: {miss}", markup=False, soft_wrap=True)
    out.print(f"caught {summary['caught']} of {summary['seeded']} faults that are not proved to be without effect: {summary['share']:.2%}")


HOW = ("error", "result", "refused", "equivalent", "missed")


def _tried(kernel: Kernel, plan: Plan, limit: int) -> dict[str, Any]:
    """What became of the faults of one schedule."""
    sizes = extents(plan)
    values: dict[str, Any] = sample_inputs(kernel, 3, sizes)
    if MANY in sizes.values():  # or hardly an element would be met twice
        values = {n: v % FEW if np.ndim(v) and np.asarray(v).dtype.kind == "i" else v for n, v in values.items()}
    trial = Trial(kernel, plan, values, sizes)
    counts: dict[str, Counter[str]] = {}
    missed: list[str] = []
    proofs: dict[str, str] = {}
    for fault in spread(faults(plan), limit):
        how = trial.caught(fault)
        told = f"{fault.kind}: {fault.where}"
        if not how and (proof := equivalent(fault, plan)):
            how, proofs[told] = "equivalent", proof
        elif not how:
            how = "missed"
            missed.append(told)
        counts.setdefault(fault.kind, Counter())[how] += 1
    kinds = {k: dict(c) for k, c in counts.items()}
    return {"kernel": kernel.name, "schedule": schedule_text(plan), "limit": limit, "kinds": kinds, "missed": missed, "equivalent": proofs}


def schedule_text(plan: Plan) -> str:
    """The choices that made a plan, in one line."""
    return " ".join(f"{key}={value}" for key, value in plan.schedule)


def summary_of(done: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts over all schedules, and these."""
    kinds: dict[str, Counter[str]] = {}
    for one in done:
        for kind, count in one["kinds"].items():
            kinds.setdefault(kind, Counter()).update(count)
    seeded = sum(c.total() - c["equivalent"] for c in kinds.values())
    caught = seeded - sum(c["missed"] for c in kinds.values())
    return {
        "seeded": seeded, "caught": caught, "share": caught / max(1, seeded),
        "equivalent": sum(c["equivalent"] for c in kinds.values()),
        "kinds": {k: {how: c[how] for how in HOW if c[how]} for k, c in kinds.items()}, "schedules": done,
    }  # fmt: skip


if __name__ == "__main__":
    main()

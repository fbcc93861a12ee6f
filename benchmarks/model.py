"""Turns kernels into a judgement of the cycle model: every variant timed on this CPU beside what the model says of it.

    python benchmarks/model.py [-k softmax gelu] [--json benchmarks/results/model.json] [--variants FILE] [--limit 100] [--again]
        [--prepare | --predict]

A point is one kernel, form (of those the e-graph offers), schedule and size. The JSON file is written after each group of variants, and
groups that it holds are not timed again (but with `--again`), so a long run can be cut in pieces (`--limit`). `--variants` names a file
that keeps the plans: `--prepare` searches for them, compiles them and times nothing; `--predict` only predicts anew what was timed.
The machine file is that of the target cpu: what `kir targets calibrate` wrote of this machine, else the generic one.
"""

import argparse
import json
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from backends.target import target
from benchmarks.cpu import _kernels as kernels_named
from benchmarks.machine import description
from benchmarks.model_judge import judged, lines
from benchmarks.variants import Variant, case_of, compiled_call, sizes_of, variants
from extract.cost import cost
from extract.machine import load_machine
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Launch, Matmul

ROUNDS: Final = (8, 20)
"""Rounds at least, and at most."""
AGREE: Final = 0.03
"""What the two halves of the rounds may differ by."""
ROW: Final = 4
"""Calls of one variant in a row: the first finds the caches, and waiting threads, as another variant left them, and does not count."""
PAUSE: Final = 0.05
"""Seconds before a row where some variant calls the library, whose threads keep a core busy for a while after each call."""
HALF: Final = ("points", "spearman_overall", "spearman_within_kernel_and_size_median", "typical_error", "fastest_in_top_5")
"""What is also said of the kernels whose points were looked at when the model was last changed, and of the others."""
SLOW: Final = 0.25
"""Seconds from which on one call is enough."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    err = Console(stderr=True, highlight=False)
    found: dict[str, Any] = json.loads(arguments.json.read_text("utf-8")) if arguments.json and arguments.json.exists() else {}
    points: list[dict[str, Any]] = found.get("points", [])
    plans = Plans(arguments.variants)
    began = time.perf_counter()
    left = 0
    for kernel in kernels_named(arguments.kernels):
        for sizes in sizes_of(kernel.name):
            mine = [p for p in points if p["kernel"] == kernel.name and p["sizes"] == sizes]
            if not (arguments.prepare or (mine if arguments.predict else arguments.again or not mine)):
                continue
            if arguments.limit and time.perf_counter() - began > arguments.limit:
                left += 1
                continue
            every = plans.variants(kernel, sizes)
            if arguments.prepare:
                small = case_of(kernel.name).inputs(case_of(kernel.name).small)
                for one in every:
                    compiled_call(one, small)()
            elif arguments.predict:
                _predicted(mine, every)
            else:
                points = [p for p in points if p not in mine] + _timed(every)
                _written(arguments.json, points)
            err.print(f"{kernel.name} {dict(sizes)}: {len(every)} variants", markup=False)
    if arguments.prepare:
        return 0
    for line in lines(_written(arguments.json, points)):
        print(line)
    if left:
        print(f"{left} groups are left: run it again", file=sys.stderr)
    return 3 if left else 0


def _written(path: Path | None, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The verdict on all points, which the file holds with them from now on."""
    verdict = judged(points)
    names = [k.name for k in kernels_named(None)]
    for which, some in (("kernels_looked_at", names[::2]), ("kernels_held_out", names[1::2])):
        part = judged([p for p in points if p["kernel"] in some])
        verdict[which] = {key: part[key] for key in HALF}
    if path:
        data = {"machine": description(), "machine_file": load_machine(target("cpu").machine).name, "verdict": verdict, "points": points}
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return verdict


class Plans:
    """The variants of kernels, kept in a file of one's own making where one is named: to search for them takes longer than to time them."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.kept: dict[str, list[Variant]] = pickle.loads(path.read_bytes()) if path and path.exists() else {}

    def variants(self, kernel: Kernel, sizes: Mapping[str, int]) -> list[Variant]:
        key = f"{kernel} {dict(sizes)}"
        if key not in self.kept:
            self.kept[key] = list(variants(kernel, sizes))
            if self.path:
                self.path.write_bytes(pickle.dumps(self.kept))
        return self.kept[key]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times variants of every kernel beside the cycle model's prediction.")
    parser.add_argument("-k", "--kernels", metavar="NAME", nargs="+", help="only these kernels")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where results are, and are added to")
    parser.add_argument("--limit", metavar="SECONDS", type=float, help="begin no group after so long; exit code 3 says that some are left")
    parser.add_argument("--variants", metavar="FILE", type=Path, help="where the plans are kept between runs")
    parser.add_argument("--again", action="store_true", help="time anew what was timed before, too")
    parser.add_argument("--prepare", action="store_true", help="only compile, so that a timed run waits for nothing")
    parser.add_argument("--predict", action="store_true", help="only predict anew what was timed before")
    return parser.parse_args(argv)


def _timed(every: Sequence[Variant]) -> list[dict[str, Any]]:
    """A point a variant of one kernel and size."""
    inputs = case_of(every[0].kernel).inputs(every[0].sizes)
    calls = [compiled_call(one, inputs) for one in every]
    library = any(isinstance(step, Launch) and isinstance(step.body[0], Matmul) for one in every for step in one.plan.steps)
    times, noises = in_rows(calls, pause=PAUSE if library else 0.0)
    points: list[dict[str, Any]] = []
    for one, seconds, noise in zip(every, times, noises, strict=True):
        point = {"kernel": one.kernel, "sizes": dict(one.sizes), "form": str(one.form), "schedule": one.schedule, "code": one.code}
        points.append({**point, "seconds": seconds, "noise": noise, "predicted": predicted(one)})
    return points


def _predicted(points: Sequence[dict[str, Any]], every: Sequence[Variant]) -> None:
    """Writes what the model says now into points whose code is as it was."""
    known = {(str(one.form), one.schedule, one.code): one for one in every}
    for point in points:
        one = known.get((point["form"], point["schedule"], point.get("code", "")))
        if one is not None:
            point["predicted"] = predicted(one)


def predicted(one: Variant) -> float:
    """Seconds, by the machine file of the target cpu."""
    machine = load_machine(target("cpu").machine)
    return cost(one.plan, machine, one.numbers).cycles / machine.clock_ghz / 1e9


def in_rows(calls: Sequence[Callable[[], Any]], pause: float = 0.0) -> tuple[list[float], list[float]]:
    """Seconds of each call, and by what share two halves of its rounds differ: the least over rounds of a few calls in a row, every second
    round in reverse order. Whatever disturbs a call only makes it slower; rounds go on until the halves agree, or there are many."""
    slow: dict[int, float] = {}
    for n, call in enumerate(calls):
        call()
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        if taken > SLOW:
            slow[n] = taken
    halves: tuple[dict[int, float], dict[int, float]] = ({}, {})
    noises = [0.0 for _ in calls]
    for number in range(ROUNDS[1]):
        half = halves[number % 4 // 2]  # each half has rounds of both directions
        for n in range(len(calls)) if number % 2 == 0 else reversed(range(len(calls))):
            if n not in slow:
                time.sleep(pause)
                half[n] = min(half.get(n, inf), _row(calls[n]))
        if number % 4 == 3:
            noises = [0.0 if n in slow else abs(halves[0][n] / halves[1][n] - 1.0) for n in range(len(calls))]
            if number + 1 >= ROUNDS[0] and max(noises) <= AGREE:
                break
    return [slow.get(n) or min(halves[0][n], halves[1][n]) for n in range(len(calls))], noises


def _row(call: Callable[[], Any]) -> float:
    call()
    times: list[float] = []
    for _ in range(ROW - 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())

"""Turns the public kernels into a comparison of rule sets: what each pack finds, predicted and measured, against our default books.

    python benchmarks/packs.py [-k softmax gelu] [--quick] [--predict] [--json benchmarks/results/packs.json]

Every pack goes through the same e-graph, budget, cost model, scheduler and backend: only the rules differ. Predicted cycles are for this
repository's `cpu` machine file. Measured: the compiled results in turn, alternating in one run, each verified before and after; a pack
whose code is the same text as another's shares its time. Ratios are how many times as long as the default's result takes.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

import kernel_ir as kir
from benchmarks.inputs import CASES, Sizes
from benchmarks.machine import busy_cores, description
from benchmarks.measure import measured
from benchmarks.ours import FLAGS
from benchmarks.peers import Contender, on_arrays
from benchmarks.reference import signature
from kernel_ir.nodes import Kernel
from kernel_ir.optimizer import Result
from kernel_ir.parser import parse_file
from rewrites.books import pack_names

KERNELS: Final = Path(__file__).resolve().parents[1] / "examples" / "kernels"
DEFAULT: Final = "ours"
"""The contender of the built-in books; the benchmarks' ratios are against it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What each rule set made of one kernel, by its name, at sizes for costing."""

    kernel: Kernel
    sizes: Sizes
    results: dict[str, Result]

    def twin(self, name: str) -> str:
        """The first rule set whose code is the same."""
        source = self.results[name].source
        return next(other for other, result in self.results.items() if result.source == source)


def found(kernel: Kernel, sizes: Sizes) -> Found:
    """The results of the default books and of every pack."""
    extents = {name: sizes[name] for name in kernel.sizes}
    sets = {DEFAULT: None, **{name: name for name in pack_names()}}
    return Found(
        kernel, sizes, {name: kir.optimize(kernel, target="cpu", fast_math=FLAGS, sizes=extents, pack=pack) for name, pack in sets.items()}
    )


def row(kernel: Kernel, quick: bool, timed: bool, rounds: int, seconds: float) -> dict[str, Any]:
    """The JSON of one kernel: predicted cycles, rules used, measured ratios where timed."""
    case = CASES[kernel.name]
    sizes = case.quick if quick else case.full
    made = found(kernel, sizes)
    sets: dict[str, dict[str, Any]] = {
        name: {"cycles": result.cycles, "rules": list(result.provenance), "same_code_as": made.twin(name)}
        for name, result in made.results.items()
    }
    baseline = made.results[DEFAULT].baseline_cycles
    shown: dict[str, Any] = {"kernel": kernel.name, "sizes": dict(sizes), "as_written_cycles": baseline, "sets": sets, "faults": {}}
    if timed:
        _time(made, sets, shown, rounds, seconds)
    return shown


def _time(made: Found, sets: dict[str, dict[str, Any]], shown: dict[str, Any], rounds: int, seconds: float) -> None:
    which = signature(made.kernel)
    different = list(dict.fromkeys(map(made.twin, made.results)))

    def maker(name: str) -> Callable[[], Contender]:
        return lambda: on_arrays(made.results[name].compile(), which)

    timing = measured(made.kernel, CASES[made.kernel.name], made.sizes, {name: maker(name) for name in different}, rounds, seconds)
    shown["faults"] = timing.faults
    for name, one in sets.items():
        twin = made.twin(name)
        one["ratio"] = timing.ratio(twin)
        one["seconds"] = timing.timings[twin].median if twin in timing.timings else None


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric means over the kernels of cycles and times, as multiples of the default's, by pack."""
    result: dict[str, dict[str, float]] = {}
    for name in pack_names():
        ratios = {
            "predicted": [r["sets"][name]["cycles"] / r["sets"][DEFAULT]["cycles"] for r in rows],
            "measured": [r["sets"][name]["ratio"] for r in rows if r["sets"][name].get("ratio")],
        }
        result[name] = {what: math.exp(sum(map(math.log, values)) / len(values)) for what, values in ratios.items() if values}
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where a result was wrong."""
    parser = argparse.ArgumentParser(description="Each pack of rules against the default books, on the public kernels.")
    parser.add_argument("-k", "--kernels", metavar="NAME", nargs="+", choices=sorted(CASES), help="only these kernels")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--predict", action="store_true", help="predicted cycles alone: nothing is compiled or timed")
    parser.add_argument("--rounds", type=int, default=9, help="rounds a kernel at most (default 9)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long to time a kernel (default 2)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results to FILE")
    arguments = parser.parse_args(argv)
    kernels = {kernel.name: kernel for path in sorted(KERNELS.glob("*.kir")) for kernel in parse_file(path).values()}
    err = Console(stderr=True, highlight=False)
    busy = busy_cores()
    rows: list[dict[str, Any]] = []
    chosen = arguments.kernels or list(CASES)
    for number, name in enumerate(chosen, 1):
        with err.status(f"{name} ({number} of {len(chosen)})"):
            rows.append(row(kernels[name], arguments.quick, not arguments.predict, arguments.rounds, arguments.seconds))
    result = {
        "machine": description(),
        "settings": {
            "flags": FLAGS,
            "quick": arguments.quick,
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "busy_cores": busy,
        },
        "kernels": rows,
        "geometric_means": means(rows),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _show(result)
    return 1 if any(r["faults"] for r in rows) else 0


def _show(result: dict[str, Any]) -> None:
    table = Table("kernel", *pack_names(), title="predicted, measured: times as long as with the default books", box=None)
    for r in result["kernels"]:
        table.add_row(r["kernel"], *(cell(r, name) for name in pack_names()))
    table.add_row("geometric mean", *(", ".join(f"{v:.2f}×" for v in result["geometric_means"][name].values()) for name in pack_names()))
    Console(highlight=False).print(table)


def cell(r: dict[str, Any], name: str) -> str:
    """Predicted and measured ratio of one pack on one kernel; `=` for the default's own code."""
    one, default = r["sets"][name], r["sets"][DEFAULT]
    if one["same_code_as"] == DEFAULT:
        return "="
    predicted = f"{one['cycles'] / default['cycles']:.2f}×"
    if one["same_code_as"] in r["faults"]:
        return f"{predicted}, fails"
    return f"{predicted}, {one['ratio']:.2f}×" if one.get("ratio") else predicted


if __name__ == "__main__":
    sys.exit(main())

"""Measures how far the extractors are from the optimum: tree, greedy DAG and branch and bound over the public kernels' e-graphs.

python benchmarks/extraction.py [--seconds 10] [--fast-math LIST] [-k NAME …] [--json OUT]

Costs are those of the e-graph (cycles, each value at its outermost loop, paid once): gaps are relative to the best proved lower bound.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kernel_ir as kir
from benchmarks.ours import FLAGS
from extract.candidates import costed
from extract.exact import exact
from extract.extractor import choices
from extract.machine import load_machine
from kernel_ir.fastmath import flags
from kernel_ir.nodes import Kernel
from rewrites.books import default_rules

KERNELS = Path(__file__).resolve().parent.parent / "examples" / "kernels"


def measured(kernel: Kernel, licence: str, seconds: float) -> dict[str, Any] | None:
    """One row: costs of tree, DAG and exact choices, the bound, how the search ended; None where the e-graph does not hold the kernel."""
    graph = costed(kernel, flags(licence), {}, load_machine("cpu"), default_rules())
    if graph is None:
        return None
    costs, sources = graph
    start = time.perf_counter()
    found = choices(costs, sources)
    greedy_seconds = time.perf_counter() - start
    start = time.perf_counter()
    best = exact(costs, sources, seconds)
    if best is None:
        return None
    named = dict(zip(("tree", "dag"), found, strict=False))
    return {
        "kernel": kernel.name,
        "nodes": costs.size,
        "program": best.nodes,
        "bound": best.bound,
        "ending": best.ending,
        "greedy_seconds": round(greedy_seconds, 4),
        "exact_seconds": round(time.perf_counter() - start, 2),
        **{f"{name}_gap": choice.cost / best.bound - 1 for name, choice in named.items()},
        "exact_gap": best.gap,
    }


def main() -> None:
    """Prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--fast-math", default=FLAGS)
    parser.add_argument("-k", "--kernel", action="append", default=[])
    parser.add_argument("--json", metavar="OUT")
    arguments = parser.parse_args()
    kernels = [k for path in sorted(KERNELS.glob("*.kir")) for k in kir.parse_file(path).values()]
    kernels = [k for k in kernels if not arguments.kernel or k.name in arguments.kernel]
    err = Console(stderr=True)
    rows = [row for k in track(kernels, "extracting", console=err) if (row := measured(k, arguments.fast_math, arguments.seconds))]
    table = Table("kernel", "e-nodes", "program", "tree", "greedy DAG", "branch and bound", "ended", title="gap to the proved lower bound")
    for row in rows:
        gaps = (f"{row[f'{way}_gap']:.2%}" if f"{way}_gap" in row else "-" for way in ("tree", "dag", "exact"))
        table.add_row(row["kernel"], str(row["nodes"]), str(row["program"]), *gaps, f"{row['ending']}, {row['exact_seconds']:.2f} s")
    out = Console()
    out.print(table)
    proved = [row for row in rows if row["ending"] == "proved"]
    best = [min(row["tree_gap"], row.get("dag_gap", row["tree_gap"])) for row in proved]
    out.print(
        f"{len(proved)} of {len(rows)} proved; there the better greedy choice is at most {max(best, default=0):.2%} above the optimum"
    )
    if arguments.json:
        result = {"seconds": arguments.seconds, "fast_math": arguments.fast_math, "kernels": rows}
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

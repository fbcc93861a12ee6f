"""Turns the JSON of `cpu.py` into the Markdown table of the README.

python benchmarks/table.py results.json
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, Final

COLUMNS: Final = {
    "written": "as written",
    "exact": "no flags",
    "numba": "naive numba",
    "numpy": "NumPy",
    "jax": "JAX",
    "torch": "torch",
    "torch.compile": "torch.compile",
}
"""Contender → column title; a contender that no kernel has gets no column."""

PEERS: Final = ("numba", "jax", "torch", "torch.compile")
"""Those of which the best counts in the last column."""
BEGIN, END = "<!-- measured: table -->\n", "<!-- /measured: table -->"
UNITS: Final = ((1 << 20, "M"), (1 << 10, "k"))


def markdown(results: dict[str, Any]) -> str:
    """One line a kernel: size, our time, naive numba's, and how many times as long as ours each contender takes."""
    shown = [name for name in COLUMNS if any(name in row["contenders"] for row in results["kernels"])]
    lines = [
        _line("kernel", "sizes", "ours, ms", "naive numba, ms", *(COLUMNS[name] for name in shown), "best peer"),
        _line("---", "---", *("--:" for _ in range(len(shown) + 3))),
    ]
    for row in results["kernels"]:
        times = (_milliseconds(row["contenders"].get(name)) for name in ("ours", "numba"))
        lines.append(
            _line(f"`{row['kernel']}`", sizes_text(row["sizes"]), *times, *(_cell(row, name) for name in shown), _ratio(best(row)))
        )
    means = (_ratio(results["geometric_means"].get(name)) for name in shown)
    bests = [ratio for row in results["kernels"] if (ratio := best(row)) is not None]
    mean = _ratio(math.exp(sum(map(math.log, bests)) / len(bests)) if bests else None)
    lines.append(_line("**geometric mean**", "", "", "", *(f"**{x}**" if x else "" for x in (*means, mean))))
    return "\n".join(lines) + "\n"


def best(row: dict[str, Any]) -> float | None:
    """How many times as long as ours the fastest of numba, JAX and torch takes, where one ran."""
    return min((row["contenders"][name]["ratio"] for name in PEERS if name in row["contenders"]), default=None)


def into_readme(results: dict[str, Any], text: str) -> str:
    """The README's text with its table made anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + markdown(results) + END + rest.split(END)[1]


def sizes_text(sizes: dict[str, int]) -> str:
    """
    >>> sizes_text({"R": 4096, "C": 32000, "N": 1 << 24, "K": 3})
    'R=4k C=32000 N=16M K=3'
    """
    return " ".join(f"{name}={_short(value)}" for name, value in sizes.items())


def _short(value: int) -> str:
    for unit, letter in UNITS:
        if value >= unit and value % unit == 0:
            return f"{value // unit}{letter}"
    return str(value)


def _milliseconds(timing: dict[str, Any] | None) -> str:
    return f"{timing['median'] * 1e3:.3g}" if timing else ""


def _cell(row: dict[str, Any], name: str) -> str:
    if name in row["faults"]:
        return "fails"
    timing = row["contenders"].get(name)
    return _ratio(timing["ratio"]) if timing else "–"


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}×" if value < 9.995 else f"{value:.0f}×"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The README's table from the JSON of benchmarks/cpu.py.")
    parser.add_argument("results", type=Path)
    print(markdown(json.loads(parser.parse_args().results.read_text(encoding="utf-8"))), end="")

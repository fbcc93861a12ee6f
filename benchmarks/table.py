"""Turns the JSON of `cpu.py` into the Markdown table of the README.

python benchmarks/table.py results.json
"""

import argparse
import json
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

UNITS: Final = ((1 << 20, "M"), (1 << 10, "k"))


def markdown(results: dict[str, Any]) -> str:
    """One line a kernel: size, our time, naive numba's, and how many times as long as ours each contender takes."""
    shown = [name for name in COLUMNS if any(name in row["contenders"] for row in results["kernels"])]
    lines = [
        _line("kernel", "sizes", "ours, ms", "naive numba, ms", *(COLUMNS[name] for name in shown)),
        _line("---", "---", *("--:" for _ in range(len(shown) + 2))),
    ]
    for row in results["kernels"]:
        times = (_milliseconds(row["contenders"].get(name)) for name in ("ours", "numba"))
        lines.append(_line(f"`{row['kernel']}`", sizes_text(row["sizes"]), *times, *(_cell(row, name) for name in shown)))
    means = (_ratio(results["geometric_means"].get(name)) for name in shown)
    lines.append(_line("**geometric mean**", "", "", "", *(f"**{mean}**" if mean else "" for mean in means)))
    return "\n".join(lines) + "\n"


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

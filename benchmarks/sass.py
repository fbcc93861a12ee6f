"""Turns a dozen kernels' CUDA schedules into figures of their machine code, for sm_80 and sm_90, without a GPU.

    python benchmarks/sass.py [-k NAME …] [--json OUT]

Registers, stack and spills are what the assembler says; instructions are counted in the code that it makes, by opcode, and those that
move 128 bits by their full names. `tests/test_cuda_gates.py` holds the compiler to the figures in `results/sass.json`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from backends.cuda import build
from backends.cuda_compile import instruction_counts, sass
from extract.schedule_cuda import cuda_plans
from kernel_ir.parser import parse, parse_file
from kernel_ir.plan import Plan

KERNELS: Final = Path(__file__).resolve().parents[1] / "examples" / "kernels"
RESULTS: Final = Path(__file__).resolve().parent / "results" / "sass.json"
MACHINES: Final = ("sm_80", "sm_90")
SCHEDULES: Final[dict[str, str]] = {
    "saxpy": "most nearest plain 4",
    "gelu": "most nearest plain 4",
    "silu_and_mul": "most nearest plain 8",
    "polynomial": "most nearest plain 2",
    "black_scholes": "most nearest plain 2",
    "rgb_to_gray": "most nearest plain 4",
    "gather_rows": "most nearest plain 4",
    "transpose_add": "most nearest plain squares",
    "jacobi2d": "most nearest plain squares",
    "softmax": "most nearest plain 4",
    "layernorm": "most block plain 4",
    "fused_add_rmsnorm": "most block plain 8",
    "merge_attn_states": "most nearest plain 8",
    "cross_entropy": "most block plain 512 4",
    "histogram": "most nearest plain shared",
    "matmul": "most nearest tile128",
    "attention_64": "most nearest ahead_rows64 wide",
    "attention_128": "most nearest ahead_rows64x128 wide",
}
"""The schedule of each kernel, as its choices in order."""
LARGE: Final = 1 << 20
ATTENTION: Final = """
kernel attention_{width}(q: {dtype}[H, M, {width}], k: {dtype}[H, N, {width}], v: {dtype}[H, N, {width}], scale: f32)
  -> (o: {dtype}[H, M, {width}]) where N >= 1 {{
  s[h, i, j] = scale * sum(c: q[h, i, c] * k[h, j, c])
  o[h, i, d] = expsum(j: s[h, i, j], v[h, j, d]) / expsum(j: s[h, i, j], 1.0)
}}
"""
"""What the rules make of attention."""


def planned(name: str, machine: str) -> Plan:
    """The plan of a kernel whose figures are kept, products and sums fused."""
    modules = [parse(ATTENTION.format(width=width, dtype=dtype)) for width, dtype in ((64, "f32"), (128, "f16"))]
    (kernel,) = (k for module in (*map(parse_file, sorted(KERNELS.glob("*.kir"))), *modules) for k in module.values() if k.name == name)
    sizes = {size: 8 if n == 0 and name == "cross_entropy" else LARGE for n, size in enumerate(kernel.sizes)}
    found = {" ".join(how for _, how in p.schedule): p for p in cuda_plans(kernel, f"cuda:{machine}", sizes)}
    return replace(found[SCHEDULES[name]], fast_math=frozenset({"contract"}))


def figures(name: str, machine: str) -> dict[str, dict[str, Any]]:
    """What is known of the machine code of each of the plan's kernels, by name."""
    found: dict[str, dict[str, Any]] = {}
    for function, cubin in build(planned(name, machine), f"cuda:{machine}").cubins().items():
        code = sass(cubin.code)
        found[function] = {
            "registers": cubin.registers,
            "stack": cubin.stack,
            "spills": cubin.spill_loads + cubin.spill_stores,
            "instructions": len(code),
            "wide": dict(sorted(Counter(i for i in code if ".128" in i).items())),
            "mix": instruction_counts(code),
        }
    return found


def main() -> None:
    """Prints a row a function, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", "--kernels", nargs="+", choices=sorted(SCHEDULES), default=list(SCHEDULES))
    parser.add_argument("--json", metavar="OUT", type=Path)
    arguments = parser.parse_args()
    made = {machine: {name: figures(name, machine) for name in arguments.kernels} for machine in MACHINES}
    table = Table("function", "machine", "registers", "stack", "spills", "instructions", "128 bits", box=None)
    for machine, kernels in made.items():
        for function, row in (pair for kernel in kernels.values() for pair in kernel.items()):
            table.add_row(
                function, machine, *(str(row[key]) for key in ("registers", "stack", "spills", "instructions")), _wide(row["wide"])
            )
    Console(highlight=False).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _wide(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


if __name__ == "__main__":
    main()

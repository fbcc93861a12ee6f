"""Turns kernels into a comparison, without a GPU: instructions by unit as the model counts them and as ptxas makes them.

    python benchmarks/model_sass.py [--json benchmarks/results/model_sass.json] [--set tuned held_out fresh] [--functions]

Compared are whole threads of kernels that run from their first to their last instruction, and one turn of the innermost loop of rows
and of tiled products; how many iterations a turn has, ptxas or NVVM chose: the power of two by which the accesses agree best.
`float` is arithmetic, comparison and selection of floats and special functions; `memory` loads and stores; `integer` everything else but
ends, jumps and barriers. The model was fitted to the kernels of the first set; misses in the second, which it had not seen till then,
showed three classes that it counted wrongly; the third was written after that, and run once. `--functions` counts what each function
takes, from which the machine files' `functions` are made.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backends.cuda import build
from backends.cuda_compile import disassembly
from benchmarks import sass_loops
from benchmarks.model_sass_kernels import PRODUCTS, ROWS, SETS, STRAIGHT, product_kernel, row_kernel, straight_kernel
from benchmarks.sass_loops import UNITS, Counts, Instruction
from extract.cost import cost
from extract.fuse import walk
from extract.machine import Machine, load_machine
from extract.schedule_cuda import cuda_plans
from kernel_ir.dtypes import I32
from kernel_ir.nodes import Kernel
from kernel_ir.ops import Unit
from kernel_ir.plan import BlockTile, Launch, Plan

ARCHITECTURES: Final = ("sm_80", "sm_90")
SIZE: Final = 1 << 24
ROW: Final = 1 << 13
MANY: Final = 1 << 17
"""Rows, so many that every multiprocessor has some."""
WITHIN: Final = 0.15
SIMPLE: Final = ("ADD", "MUL", "FMA", "LOGIC", "SHIFT", "CONVERT")
"""Units whose ops are one instruction each; what the others take is given in additions."""
FUNCTIONS: Final = (
    "exp", "exp2", "log", "log2", "erf", "tanh", "rsqrt", "sqrt", "cosh", "expm1", "log1p", "cbrt", "sinh", "asin", "acos", "atan",
)  # fmt: skip
ROW_SCHEDULES: Final = ("most point plain", "most nearest plain", "most nearest plain 4", "most block plain 4")


@dataclass(frozen=True, slots=True)
class Case:
    """A plan, and the size along which its innermost loop runs ("" where there is none)."""

    name: str
    schedule: str
    plan: Plan
    along: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--set", nargs="+", choices=SETS, default=SETS, help="kernels that the model was fitted to, and the others")
    parser.add_argument("--functions", action="store_true", help="count what each function takes")
    arguments = parser.parse_args(argv)
    if arguments.functions:
        for name in ARCHITECTURES:
            for function in (*FUNCTIONS, "div"):
                print(name, function, function_instructions(function, load_machine(name)), flush=True)
        return 0
    rows: list[dict[str, Any]] = []
    for one in arguments.set:
        for name in ARCHITECTURES:
            machine = load_machine(name)
            for case in cases(one, machine):
                rows.append({"set": one} | compared(case, machine))
                print(_line(rows[-1]), flush=True)
    verdict = judged(rows)
    print(json.dumps(verdict, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps({**verdict, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def cases(which: str, machine: Machine) -> Iterator[Case]:
    """The plans of one set."""
    for name, body in STRAIGHT[which].items():
        yield Case(name, "point", plan_of(straight_kernel(body), machine))
    for name, (op, body) in ROWS[which].items():
        for schedule, plan in _plans(row_kernel(op, body), machine, ROW_SCHEDULES).items():
            yield Case(name, schedule, plan, "N")
    for name, (text, schedules) in PRODUCTS[which].items():
        for schedule, plan in _plans(product_kernel(text), machine, [f"most nearest {one}" for one in schedules]).items():
            yield Case(name, schedule, plan, "K")


def _plans(kernel: Kernel, machine: Machine, schedules: Sequence[str]) -> dict[str, Plan]:
    found = {
        " ".join(how for _, how in p.schedule): p for p in cuda_plans(kernel, f"cuda:{machine.name}", dict.fromkeys(kernel.sizes, ROW))
    }
    return {name: replace(found[name], fast_math=frozenset({"contract"})) for name in schedules if name in found}


def plan_of(kernel: Kernel, machine: Machine) -> Plan:
    """The plan of one point a thread."""
    found = cuda_plans(kernel, f"cuda:{machine.name}", {"N": SIZE})
    plain = next(p for p in found if dict(p.schedule).get("neighbours", "1") == "1")
    return replace(plain, fast_math=frozenset({"contract"}))


def compared(case: Case, machine: Machine) -> dict[str, Any]:
    """The counts of both: of a thread, or of one turn of the loop."""
    code = machine_code(case.plan, machine)
    row: dict[str, Any] = {"kernel": case.name, "schedule": case.schedule, "machine": machine.name}
    if not case.along:
        return row | {"sass": sass_loops.straight(code), "model": predicted(case.plan, machine)}
    each = iteration(case, machine)
    tile = next((n for step in case.plan.steps if isinstance(step, Launch) for n in walk(step.body) if isinstance(n, BlockTile)), None)
    if tile is not None:
        iterations = tile.each[0] * tile.each[1] * tile.depth
        turn = sass_loops.nested_turn(code, iterations)
    else:
        turn = max(sass_loops.loops(code), key=lambda one: one["float"] + one["memory"])  # the others do what is left over
        iterations = min((2**n for n in range(8)), key=lambda n: abs(turn["memory"] - n * each["memory"]))
    return row | {"iterations": iterations, "sass": turn, "model": {unit: round(each[unit] * iterations, 1) for unit in UNITS}}


def machine_code(plan: Plan, machine: Machine) -> tuple[Instruction, ...]:
    """The instructions of the plan's first launch."""
    cubin = next(iter(build(plan, f"cuda:{machine.name}").cubins().values()))
    found = sass_loops.functions(disassembly(cubin.code)).values()
    return next(code for code in found if any(one.opcode == "EXIT" for one in code))


def predicted(plan: Plan, machine: Machine) -> dict[str, float]:
    """Instructions of a thread by unit."""
    return {unit: round(count / SIZE, 1) for unit, count in _instructions(plan, machine, {"N": SIZE}).items()}


def iteration(case: Case, machine: Machine) -> dict[str, float]:
    """Instructions of one iteration of the innermost loop: what loops twice as long take more."""
    sizes = dict.fromkeys(case.plan.kernel.sizes, MANY)
    short, long = (_instructions(case.plan, machine, {**sizes, case.along: n}) for n in (ROW, 2 * ROW))
    return {unit: (long[unit] - short[unit]) / (MANY ** (len(sizes) - 1) * ROW) for unit in UNITS}


def _instructions(plan: Plan, machine: Machine, sizes: dict[str, int]) -> dict[str, float]:
    """Instructions of all threads together, from the model's cycles."""
    units = dict(cost(plan, machine, sizes).arithmetic)
    counted = {name: units.pop(name, 0.0) for name in ("address", "index", "loop", "access")}
    rates = {unit.name: cycles for (unit, kind), cycles in machine.throughput.items() if kind == "f32"}
    i32 = machine.instruction_cycles(Unit.ADD, I32)
    threads = machine.units * machine.lanes_bits / 32
    memory = counted.pop("access")
    return {
        "float": sum(cycles / rates[name if name in SIMPLE else "ADD"] for name, cycles in units.items()) * threads,
        "memory": memory * threads / i32,
        "integer": sum(counted.values()) * threads / i32,
    }


def judged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The shares of cases whose counts agree, by set, shape and unit."""

    def shares(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"cases": len(some)} | {unit: sum(agrees(r, unit) for r in some) / len(some) for unit in UNITS}

    found: dict[str, Any] = {}
    for which in dict.fromkeys(r["set"] for r in rows):
        mine = [r for r in rows if r["set"] == which]
        parts = {"straight": [r for r in mine if "iterations" not in r], "loops": [r for r in mine if "iterations" in r], "all": mine}
        found[which] = {name: shares(part) for name, part in parts.items() if part}
    return {"within_15_percent": found | {"all": shares(rows)}}


def agrees(row: dict[str, Any], unit: str) -> bool:
    return abs(row["model"][unit] - row["sass"][unit]) <= WITHIN * row["sass"][unit]


def _line(row: dict[str, Any]) -> str:
    each = "  ".join(f"{unit} {row['sass'][unit]} {row['model'][unit]:g}{'' if agrees(row, unit) else ' <<'}" for unit in UNITS)
    return f"{row['set']} {row['machine']} {row['kernel']}, {row['schedule']}: {each}" + (
        f"  ({row['iterations']} a turn)" if "iterations" in row else ""
    )


def function_instructions(name: str, machine: Machine) -> str:
    """Float instructions of one function and one less where it ends in a product that a sum takes in; integer ones each, and once."""

    def of(body: str) -> Counts:
        return sass_loops.straight(machine_code(plan_of(straight_kernel(body), machine), machine))

    def call(x: str) -> str:
        return f"{x} / z[i]" if name == "div" else f"{name}({x})"

    bodies = [" * ".join(call(x) if n < calls else x for n, x in enumerate(("x[i]", "y[i]", "z[i]"))) for calls in range(4)]
    none, one, two, three = map(of, bodies)
    added = of(f"{call('x[i]')} + y[i]")["float"] - of("x[i] + y[i]")["float"]
    each = three["integer"] - two["integer"]
    once = two["integer"] - none["integer"] - 2 * each
    floats = (one["float"] - none["float"], three["float"] - two["float"])
    return f"float {floats} added {added}, integer {each} and once {once}"


if __name__ == "__main__":
    sys.exit(main())

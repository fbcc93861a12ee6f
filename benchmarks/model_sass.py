"""Turns kernels without loops into a comparison, without a GPU: instructions by unit as the model counts them and as ptxas makes them.

    python benchmarks/model_sass.py [--json benchmarks/results/model_sass.json] [--functions]

Only code that runs from its first to its last instruction is compared: there the instructions of the file are those that a thread runs.
`float` is arithmetic, comparison and selection of floats and special functions; `memory` loads and stores; `integer` everything else but
ends and branches. `--functions` counts what each function takes, from which the machine files' `functions` are made.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backends.cuda import build
from backends.cuda_compile import sass
from extract.cost import cost
from extract.machine import Machine, load_machine
from extract.schedule_cuda import cuda_plans
from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse
from kernel_ir.plan import Plan

ARCHITECTURES: Final = ("sm_80", "sm_90")
SIZE: Final = 1 << 24
FLOAT: Final = frozenset({"FADD", "FMUL", "FFMA", "FSETP", "FSEL", "FMNMX", "MUFU", "FCHK", "DADD", "DMUL", "DFMA", "DSETP", "F2F", "FRND"})
MEMORY: Final = frozenset({"LDG", "STG", "LDS", "STS"})
CONTROL: Final = frozenset({"EXIT", "BRA", "NOP", "BSSY", "BSYNC", "CALL", "RET"})
FUNCTIONS: Final = ("exp", "exp2", "log", "log2", "erf", "tanh", "rsqrt", "cosh", "expm1", "log1p", "cbrt", "sinh", "asin", "acos", "atan")
BODIES: Final = {
    "add": "x[i] + y[i]",
    "axpy": "a * x[i] + y[i]",
    "cubic": "((a * x[i] + b) * x[i] + a) * x[i] + b",
    "clamp": "min(max(x[i], a), b) * x[i] + y[i]",
    "pick": "a * x[i] + b if x[i] < y[i] else y[i] * b",
    "mean": "(x[i] + y[i] + z[i]) * a",
    "norm": "x[i] * x[i] + y[i] * y[i] + z[i] * z[i]",
    "decay": "exp(a * x[i]) * y[i]",
    "gauss": "exp(-(x[i] * x[i])) * a + exp(-(y[i] * y[i])) * b",
    "gelu": "0.5 * x[i] * (1.0 + erf(x[i] * 0.70710678))",
    "logs": "log(x[i]) * a + log(y[i]) * b",
    "softplus": "log(1.0 + exp(x[i]))",
    "squash": "tanh(a * x[i] + y[i])",
    "scale": "x[i] * rsqrt(y[i] + a)",
}
"""Bodies of kernels over three f32 arrays and two scalars."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--functions", action="store_true", help="count what each function takes")
    arguments = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for name in ARCHITECTURES:
        machine = load_machine(name)
        if arguments.functions:
            for function in FUNCTIONS:
                print(name, function, function_instructions(function, name))
            continue
        for body in BODIES:
            rows.append(compared(body, machine))
            print(rows[-1])
    if rows:
        shares = {
            unit: sum(abs(r["model"][unit] / max(1, r["sass"][unit]) - 1.0) <= 0.15 for r in rows) / len(rows) for unit in rows[0]["sass"]
        }
        print("within 15 %:", {unit: f"{share:.0%}" for unit, share in shares.items()})
        if arguments.json:
            arguments.json.write_text(json.dumps({"within_15_percent": shares, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def kernel_of(body: str) -> Kernel:
    arrays = ", ".join(f"{n}: f32[N]" for n in "xyz" if f"{n}[i]" in body)
    text = f"kernel k({arrays}, a: f32, b: f32) -> (r: f32[N]) {{ r[i] = {body} }}"
    return parse(text)["k"]


def plan_of(kernel: Kernel, machine: Machine) -> Plan:
    """The plan of one point a thread."""
    found = cuda_plans(kernel, f"cuda:{machine.name}", {"N": SIZE})
    plain = next(p for p in found if dict(p.schedule).get("neighbours", "1") == "1")
    return replace(plain, fast_math=frozenset({"contract"}))


def compared(body: str, machine: Machine) -> dict[str, Any]:
    plan = plan_of(kernel_of(BODIES[body]), machine)
    return {"kernel": body, "machine": machine.name, "sass": counted(plan, machine), "model": predicted(plan, machine)}


def counted(plan: Plan, machine: Machine) -> dict[str, int]:
    """Instructions of a thread by unit, from machine code up to its last end."""
    (cubin,) = build(plan, f"cuda:{machine.name}").cubins().values()
    names = [one.split(".")[0] for one in sass(cubin.code)]
    names = names[: len(names) - names[::-1].index("EXIT")]
    found = {"float": 0, "memory": 0, "integer": 0}
    for one in names:
        if one not in CONTROL:
            found["float" if one in FLOAT else "memory" if one in MEMORY else "integer"] += 1
    return found


def predicted(plan: Plan, machine: Machine) -> dict[str, float]:
    """Instructions of a thread by unit, from the model's cycles."""
    units = dict(cost(plan, machine, {"N": SIZE}).arithmetic)
    per_thread = machine.units / SIZE * machine.lanes_bits / 32
    integer = units.pop("address", 0.0) + units.pop("loop", 0.0)
    accesses = units.pop("access", 0.0)
    f32, i32 = (
        machine.throughput[next(u for u, t in machine.throughput if t == kind and u.name == "ADD"), kind] for kind in ("f32", "i32")
    )
    return {
        "float": round(sum(units.values()) * per_thread / f32, 1),
        "memory": round(accesses * per_thread / i32, 1),
        "integer": round(integer * per_thread / i32, 1),
    }


def function_instructions(name: str, architecture: str) -> int:
    """Float instructions of one function."""
    machine = load_machine(architecture)
    with_it, without = (counted(plan_of(kernel_of(body), machine), machine) for body in (f"{name}(x[i]) + y[i]", "x[i] + y[i]"))
    return with_it["float"] - without["float"]


if __name__ == "__main__":
    sys.exit(main())

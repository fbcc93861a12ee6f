"""Seeds faults into generated CUDA code and counts how many the execution on the CPU catches.

python benchmarks/faults.py [-k NAME …] [--limit N] [--json OUT]

A fault is one change to the plan or source of one schedule of one kernel: a barrier removed, an index or a bound slipped by one, a
buffer taken for another, an update that is no longer atomic. Caught means that the run raised SimtError, or that its result differs
from the reference evaluator's, under one of two orders of the threads. What is not caught is listed: a miss, or a fault without effect.
"""

import argparse
import ast
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kernel_ir as kir
from backends.cuda import CudaOnCpu
from backends.simt_errors import SimtError
from extract.schedule_cuda import cuda_plans
from kernel_ir.dtypes import I64
from kernel_ir.evaluate import evaluate
from kernel_ir.inputs import sample_inputs
from kernel_ir.nodes import Call, Expr, Kernel, Load, const
from kernel_ir.plan import Barrier, Buffer, Launch, Loop, Node, Plan, RepeatLaunch, Step, Store
from kernel_ir.walk import children, map_children

KERNELS = Path(__file__).resolve().parent.parent / "examples" / "kernels"
EXTENT = 37
"""The extent of every size: more than a warp, no multiple of one, and different rows differ."""
SEEDS = (1, 2)


@dataclass(frozen=True, slots=True)
class Fault:
    """One seeded fault: its kind, where it is, and the plan or source that has it."""

    kind: str
    where: str
    plan: Plan
    source: str = ""


def faults(plan: Plan) -> Iterator[Fault]:
    """Every fault of a plan, in a fixed order."""
    buffers = {b.name: b for b in plan.buffers}
    for kind, where, steps in _steps(plan.steps, buffers):
        yield Fault(kind, where, replace(plan, steps=steps))
    source = CudaOnCpu(plan).source
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if "cuda.syncthreads()" in line or "cuda.syncwarp()" in line:
            without = line.replace("cuda.syncthreads()", "pass").replace("cuda.syncwarp()", "pass")
            yield Fault("barrier removed", f"line {number + 1}", plan, "".join((*lines[:number], without, *lines[number + 1 :])))
        plain = _plain(line)
        if plain != line:
            yield Fault("not atomic", f"line {number + 1}", plan, "".join((*lines[:number], plain, *lines[number + 1 :])))


def _plain(line: str) -> str:
    """The line with an atomic addition as one that is not."""
    head, found, rest = line.partition("cuda.atomic.add(")
    if not found:
        return line
    call = ast.parse(found + rest.strip(), mode="eval").body
    assert isinstance(call, ast.Call)
    array, place, value = map(ast.unparse, call.args)
    return f"{head}{array}[{place}] += {value}\n"


def _steps(steps: tuple[Step, ...], buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, tuple[Step, ...]]]:
    for n, step in enumerate(steps):
        around = lambda other, n=n: (*steps[:n], other, *steps[n + 1 :])  # noqa: E731
        match step:
            case Launch():
                for kind, where, body in _nodes(step.body, buffers):
                    yield kind, f"{step.name}: {where}", around(replace(step, body=body))
            case RepeatLaunch():
                for kind, where, body in _steps(step.body, buffers):
                    yield kind, where, around(replace(step, body=body))


def _nodes(nodes: tuple[Node, ...], buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, tuple[Node, ...]]]:
    for n, node in enumerate(nodes):
        if isinstance(node, Barrier):
            continue  # taken out of the source, where those of joins are too
        for kind, where, other in _node(node, buffers):
            yield kind, where, (*nodes[:n], other, *nodes[n + 1 :])


def _node(node: Node, buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, Node]]:
    if isinstance(node, Loop):
        yield "bound slipped", f"{node.index} < hi + 1", replace(node, hi=_slipped(node.hi, 1))
        yield "bound slipped", f"{node.index} < hi - 1", replace(node, hi=_slipped(node.hi, -1))
    if isinstance(node, Store):
        for other in _others(node.buffer, buffers):
            yield "stale buffer", f"{node.buffer} written as {other}", replace(node, buffer=other)
        for position, index in enumerate(node.indices):
            slipped = (*node.indices[:position], _slipped(index, 1), *node.indices[position + 1 :])
            yield "index slipped", f"{node.buffer}[…] = written at index {position} + 1", replace(node, indices=slipped)
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Expr):
            if not (isinstance(node, Loop) and field.name in ("lo", "hi")):
                yield from ((kind, where, replace(node, **{field.name: e})) for kind, where, e in _expr(value, buffers))
        elif isinstance(value, tuple) and value and isinstance(value[0], Node):
            yield from ((kind, where, replace(node, **{field.name: body})) for kind, where, body in _nodes(value, buffers))
        elif isinstance(value, tuple) and value and isinstance(value[0], Expr):
            for n, e in enumerate(value):
                for kind, where, other in _expr(e, buffers):
                    yield kind, where, replace(node, **{field.name: (*value[:n], other, *value[n + 1 :])})


def _expr(e: Expr, buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, Expr]]:
    if isinstance(e, Load):
        for position, index in enumerate(e.indices):
            slipped = (*e.indices[:position], _slipped(index, 1), *e.indices[position + 1 :])
            yield "index slipped", f"{e.array}[…] read at index {position} + 1", replace(e, indices=slipped)
        for other in _others(e.array, buffers):
            yield "stale buffer", f"{e.array} read as {other}", replace(e, array=other)
    for n, child in enumerate(children(e)):
        for kind, where, other in _expr(child, buffers):
            count = iter(range(len(children(e))))
            yield kind, where, map_children(lambda c, n=n, other=other, count=count: other if next(count) == n else c, e)


def _slipped(e: Expr, by: int) -> Expr:
    return Call("add", (e, const(by, I64)), I64)


def _others(name: str, buffers: Mapping[str, Buffer]) -> list[str]:
    """Buffers that could be taken for this one: the same type, rank and space kind."""
    if name not in buffers:
        return []
    b = buffers[name]
    return [o.name for o in buffers.values() if o.name != name and (o.dtype, len(o.shape)) == (b.dtype, len(b.shape))]


def caught(fault: Fault, kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int], expected: Mapping[str, Any]) -> str:
    """How the fault showed: `error`, `result`, `refused` (the code does not compile), or nothing."""
    for seed in SEEDS:
        try:
            run = CudaOnCpu(fault.plan, seed)
            if fault.source:
                run._emitted = type(run._emitted)(fault.source, run._emitted.signatures)
            got = outputs(run, kernel, values, sizes)
        except SimtError:
            return "error"
        except Exception:
            return "refused"
        if not all(_agree(got[name], expected[name]) for name in expected):
            return "result"
    return ""


def outputs(run: Any, kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """What one run returns or updates, by name."""
    own = {p.name: np.copy(values[p.name]) if p.inout else values[p.name] for p in kernel.params}
    returned = run(*own.values(), **{n: s for n, s in sizes.items() if n in run.__signature__.parameters})
    names = [p.name for p in kernel.outputs]
    arrays = dict(zip(names, [returned] if len(names) == 1 else returned or (), strict=True))
    return arrays | {p.name: own[p.name] for p in kernel.params if p.inout}


def _agree(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "fV":
        return bool(np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=3e-5, atol=1e-6, equal_nan=True))
    return bool((a == b).all())


def cases(names: list[str]) -> Iterator[tuple[Kernel, Plan]]:
    """Each kernel with each of its schedules that fuses most."""
    for path in sorted(KERNELS.glob("*.kir")):
        for kernel in kir.parse_file(path).values():
            if not names or kernel.name in names:
                plans = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64))
                yield from ((kernel, p) for p in plans if ("fusion", "most") in p.schedule or p is plans[0])


def main() -> None:
    """Prints the table and the misses, writes the JSON."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", "--kernel", action="append", default=[])
    parser.add_argument("--limit", type=int, default=10, help="faults of each kind, kernel and schedule, evenly spread")
    parser.add_argument("--json", metavar="OUT")
    arguments = parser.parse_args()
    err, out = Console(stderr=True), Console()
    counts: dict[str, Counter[str]] = {}
    missed: list[dict[str, str]] = []
    for kernel, plan in track(list(cases(arguments.kernel)), "seeding faults", console=err):
        sizes = dict.fromkeys(kernel.sizes, EXTENT)
        values = sample_inputs(kernel, 3, sizes)
        expected = outputs_of_reference(kernel, values, sizes)
        for fault in _spread(list(faults(plan)), arguments.limit):
            how = caught(fault, kernel, values, sizes, expected)
            counts.setdefault(fault.kind, Counter())[how or "missed"] += 1
            if not how:
                missed.append({"kernel": kernel.name, "schedule": str(plan.schedule), "kind": fault.kind, "where": fault.where})
    table = Table("fault", "seeded", "error", "result", "refused", "not caught")
    for kind, count in counts.items():
        row = (str(count[how]) for how in ("error", "result", "refused", "missed"))
        table.add_row(kind, str(count.total()), *row)
    out.print(table)
    for one in missed:
        out.print(f"{one['kernel']} {one['schedule']}: {one['kind']}: {one['where']}", markup=False, soft_wrap=True)
    total = sum(c.total() for c in counts.values())
    out.print(f"caught {total - len(missed)} of {total}")
    if arguments.json:
        result = {"seeded": total, "caught": total - len(missed), "kinds": {k: dict(c) for k, c in counts.items()}, "missed": missed}
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def outputs_of_reference(kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """What the reference evaluator gives for every output and updated array."""
    copies = {name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}
    found = evaluate(kernel, copies, sizes)
    names = [*(p.name for p in kernel.outputs), *(p.name for p in kernel.params if p.inout)]
    return {name: found[name] for name in names}


def _spread(found: list[Fault], limit: int) -> list[Fault]:
    """At most `limit` of each kind, evenly spread."""
    kept: list[Fault] = []
    for kind in dict.fromkeys(f.kind for f in found):
        mine = [f for f in found if f.kind == kind]
        step = max(1.0, len(mine) / limit)
        kept += [mine[int(n * step)] for n in range(min(len(mine), limit))]
    return kept


if __name__ == "__main__":
    main()

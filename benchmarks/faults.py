"""Seeds faults into generated CUDA code and counts how many the execution on the CPU catches.

python benchmarks/faults.py [-k NAME …] [--limit N] [--json OUT]

A fault is one change to the plan or source of one schedule of one kernel: a barrier removed, an index or a bound slipped by one, a
wide access slipped off its alignment, a buffer taken for another, an update that is no longer atomic. Caught means that the run raised
SimtError, or that its result differs from the reference evaluator's, under one of two orders of the threads. A fault that is not caught
is called equivalent only where that is proved: its module is the same text, or its kernels are the same PTX and the host's side the
same text, or a proof of its kind is written down below (`PROVED`). All others are misses, and are listed. Kernels already in OUT are
not run again.
"""

import argparse
import ast
import json
import re
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
from backends.cuda_nodes import grid_of
from backends.simt_errors import SimtError
from extract.schedule_cuda import cuda_plans
from kernel_ir.dtypes import I64
from kernel_ir.evaluate import evaluate
from kernel_ir.inputs import sample_inputs
from kernel_ir.nodes import Call, Expr, Kernel, Load, SizeRef, const
from kernel_ir.plan import Barrier, Buffer, Launch, Loop, LoopKind, Node, Plan, RepeatLaunch, Step, Store
from kernel_ir.walk import children, map_children, subtrees

KERNELS = Path(__file__).resolve().parent.parent / "examples" / "kernels"
EXTENT = 37
"""The extent of every size: more than a warp, no multiple of one, and different rows differ."""
FITTING = 40
"""The extent where a launch asks for multiples of a few elements."""
FEW, MANY = 5, 2100
"""The extents of a target that blocks have copies of, and of what they accumulate into it."""
SHORT, WORK = 8, 2e6
"""The extent that sizes fall to, first ones first, where the product of all is greater than that."""
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
    # What stands in for a guarded launch does not run; it has faults of its own under the schedule without the guard.
    guarded = {name.removesuffix("_guarded") for name in re.findall(r"def (\w+_guarded)\(", source)}
    runs = True
    for number, line in enumerate(lines):
        if (head := re.match(r"    def (\w+)\(|(?=\S)", line)) is not None:
            runs = head[1] not in guarded
        if not runs:
            continue
        if "cuda.syncthreads()" in line or "cuda.syncwarp()" in line:
            without = line.replace("cuda.syncthreads()", "pass").replace("cuda.syncwarp()", "pass")
            yield Fault("barrier removed", f"line {number + 1}", plan, "".join((*lines[:number], without, *lines[number + 1 :])))
        slipped = re.sub(r"(wide_(?:load|store)\(\w+, )(.*)(, \w+, \d+\))", r"\1index(\2 + index(1))\3", line)
        if slipped != line and "def " not in line:
            yield Fault("alignment slipped", f"line {number + 1}", plan, "".join((*lines[:number], slipped, *lines[number + 1 :])))
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
    try:
        run = CudaOnCpu(fault.plan)
    except Exception:
        return "refused"
    if fault.source:
        run._emitted = type(run._emitted)(fault.source, run._emitted.signatures)
    for run.seed in SEEDS:
        try:
            got = outputs(run, kernel, values, sizes)
        except SimtError:
            return "error"
        except Exception:
            return "refused"
        if not all(_agree(got[name], expected[name]) for name in expected):
            return "result"
    return ""


PROVED: tuple[tuple[str, str, str], ...] = (
    (
        "bound slipped",
        r"(row_block|column_block)\d* < hi \+ 1",
        "a block past the last has no points: they start at side * ceil(extent / side) >= extent, and code tests each against the extent",
    ),
    (
        "bound slipped",
        r"\bblock < hi \+ 1",
        "a block past the last has no terms, since blocks * ceil(n / blocks) >= n, and adds zeros (-0.0 for floats), which changes nothing",
    ),
)
"""Faults without effect: their kind, a pattern of where they are, and the proof."""


def equivalent(fault: Fault, plan: Plan) -> str:
    """The proof that the fault changes nothing; empty where there is none.

    Either one of `PROVED`; or the host runs the same text, but for which width of index it takes (both give the same results), and the
    kernels are the same text or the same PTX. Texts are compared after `(n + 1) // w` is made `n // w` where a guard demands that w, at
    least 2, divides n: n = w * q gives (w * q + 1) // w = q.
    """
    for kind, where, proof in PROVED:
        if fault.kind == kind and re.search(where, fault.where):
            return proof
    right, wrong = CudaOnCpu(plan), CudaOnCpu(fault.plan)
    if fault.source:
        wrong._emitted = type(wrong._emitted)(fault.source, wrong._emitted.signatures)
    texts = [_settled(run.source) for run in (right, wrong)]
    if texts[0] == texts[1]:
        return "the same source"
    host = [text.partition("narrow, wide = kernels")[2] for text in texts]
    return "the same PTX" if host[0] == host[1] and right.ptx == wrong.ptx else ""


def _settled(source: str) -> str:
    """The source without the line that chooses the width of indices, and with quotients that its guards settle made plain."""
    source = re.sub(r"^    index, \(.*\n", "", source, flags=re.MULTILINE)

    known = set(re.findall(r"(\w+ % \d+) == 0", source))

    def quotient(match: re.Match[str]) -> str:
        size, width = match["size"], match["width"]
        plain = f"index({size} // index({width}))" if match[0].startswith("index") else f"{size} // {width}"
        return plain if f"{size} % {width}" in known else match[0]

    source = re.sub(r"index\(index\((?P<size>\w+) \+ index\(1\)\) // index\((?P<width>\d+)\)\)", quotient, source)
    return re.sub(r"max\(0, \((?P<size>\w+) \+ 1\)\) // (?P<width>\d+)", quotient, source)


def extents(plan: Plan) -> dict[str, int]:
    """Extents that make the plan's own launches run, not those that stand in for them, and give every block of a private copy work."""
    sizes = dict.fromkeys(plan.kernel.sizes, EXTENT)
    for launch in _launches(plan.steps):
        if launch.guard is not None and launch.guard.multiples:
            sizes |= dict.fromkeys(sizes, FITTING)
        elif launch.guard is not None and launch.guard.at_most:
            few = {x.name for e, _ in launch.guard.at_most for x in subtrees(e) if isinstance(x, SizeRef)}
            sizes = {name: FEW if name in few else MANY for name in sizes}
    for name in plan.kernel.sizes:  # the first ones give way where all together are too much work
        if np.prod(list(sizes.values()), dtype=np.float64) > WORK:
            sizes[name] = SHORT
    return sizes


def _launches(steps: tuple[Step, ...]) -> Iterator[Launch]:
    for step in steps:
        yield from _launches(step.body) if isinstance(step, RepeatLaunch) else (step,)


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


def cases(names: list[str]) -> Iterator[tuple[Kernel, list[Plan]]]:
    """Each kernel with a schedule of each kind: by thread, warp or block, plain or wide, staged, tiled, private copies, split."""
    for path in sorted(KERNELS.glob("*.kir")):
        for kernel in kir.parse_file(path).values():
            if not names or kernel.name in names:
                plans = cuda_plans(kernel, "cuda-on-cpu", dict.fromkeys(kernel.sizes, 64))
                long = cuda_plans(kernel, "cuda-on-cpu", {size: 8 if n == 0 else 4096 for n, size in enumerate(kernel.sizes)})
                parts = [p for p in long if ("parts", "64") in p.schedule][:1]
                yield kernel, [*_of_each_kind(plans), *parts]


def _of_each_kind(plans: tuple[Plan, ...]) -> list[Plan]:
    """The first plan of each kind of launch, the wide ones of each width, by blocks where there are blocks."""
    kinds: dict[tuple[Any, ...], Plan] = {}
    for plan in plans:
        made = dict(plan.schedule)
        tiled = made["products"] != "plain"
        teams = frozenset(grid_of(launch).kind for launch in _launches(plan.steps))
        if made["fusion"] != "most" and not tiled:
            continue
        extra = plan.schedule[3:]
        if extra and (LoopKind.BLOCK not in teams and any(LoopKind.BLOCK in key[2] for key in kinds)):
            continue  # rows by warps: the same code but for the barrier
        kinds.setdefault((tiled, extra, teams), plan)
    return list(kinds.values())


def main() -> None:
    """Prints the table and the misses, writes the JSON after each kernel."""
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
    known = {one["kernel"] for one in done}
    for kernel, plans in track(list(cases(arguments.kernel)), "seeding faults", console=err):
        if kernel.name in known:
            continue
        done += [_tried(kernel, plan, arguments.limit) for plan in plans]
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
    values = sample_inputs(kernel, 3, sizes)
    if MANY in sizes.values():  # or hardly an element would be met twice
        values = {n: v % FEW if isinstance(v, np.ndarray) and v.dtype.kind == "i" else v for n, v in values.items()}
    expected = outputs_of_reference(kernel, values, sizes)
    counts: dict[str, Counter[str]] = {}
    missed: list[str] = []
    proofs: dict[str, str] = {}
    for fault in _spread(list(faults(plan)), limit):
        how = caught(fault, kernel, values, sizes, expected)
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

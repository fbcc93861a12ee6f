"""Turns the plan of a CUDA kernel into plans and sources with one fault each: a barrier removed, an index or a bound slipped by one, …"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from backends.cuda import CudaOnCpu
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, Load, const
from kernel_ir.plan import Barrier, Buffer, Launch, Loop, Node, Plan, RepeatLaunch, RowTile, Step, Store
from kernel_ir.walk import children, map_children


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
            runs = head[1] not in guarded and not re.search(r"_guarded\d+$", head[1] or "")
        if not runs:
            continue
        if "cuda.syncthreads()" in line or "cuda.syncwarp()" in line:
            without = line.replace("cuda.syncthreads()", "pass").replace("cuda.syncwarp()", "pass")
            yield Fault("barrier removed", f"line {number + 1}", plan, "".join((*lines[:number], without, *lines[number + 1 :])))
        off = re.sub(r"(wide_(?:load|store)\(\w+, )(.*)(, \w+, \d+\))", r"\1index(\2 + index(1))\3", line)
        if off != line and "def " not in line:
            yield Fault("alignment slipped", f"line {number + 1}", plan, "".join((*lines[:number], off, *lines[number + 1 :])))
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
        before, after = steps[:n], steps[n + 1 :]
        match step:
            case Launch():
                for kind, where, body in _nodes(step.body, buffers):
                    yield kind, f"{step.name}: {where}", (*before, replace(step, body=body), *after)
            case RepeatLaunch():
                for kind, where, inner in _steps(step.body, buffers):
                    yield kind, where, (*before, replace(step, body=inner), *after)


def _nodes(nodes: tuple[Node, ...], buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, tuple[Node, ...]]]:
    for n, node in enumerate(nodes):
        if isinstance(node, Barrier):
            continue  # taken out of the source, where those of joins are too
        for kind, where, other in _node(node, buffers):
            yield kind, where, (*nodes[:n], other, *nodes[n + 1 :])


def _node(node: Node, buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, Node]]:
    if isinstance(node, Loop):
        yield "bound slipped", f"{node.index} < hi + 1", replace(node, hi=slipped(node.hi, 1))
        yield "bound slipped", f"{node.index} < hi - 1", replace(node, hi=slipped(node.hi, -1))
    if isinstance(node, Store):
        for other in _others(node.buffer, buffers):
            yield "stale buffer", f"{node.buffer} written as {other}", replace(node, buffer=other)
        for position, index in enumerate(node.indices):
            moved = (*node.indices[:position], slipped(index, 1), *node.indices[position + 1 :])
            yield "index slipped", f"{node.buffer}[…] = written at index {position} + 1", replace(node, indices=moved)
    if isinstance(node, RowTile):
        yield from _row_tile(node, buffers)
    for field in fields(node):
        value: Any = getattr(node, field.name)
        if isinstance(value, Expr):
            if not (isinstance(node, Loop) and field.name in ("lo", "hi")):
                yield from ((kind, where, replace(node, **{field.name: e})) for kind, where, e in _expr(value, buffers))
        elif _all(value, Node):
            yield from ((kind, where, replace(node, **{field.name: body})) for kind, where, body in _nodes(value, buffers))
        elif _all(value, Expr):
            for n, e in enumerate(value):
                for kind, where, other in _expr(e, buffers):
                    yield kind, where, replace(node, **{field.name: (*value[:n], other, *value[n + 1 :])})


def _row_tile(node: RowTile, buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, Node]]:
    """Faults in the ranges of a tile of rows, and in what it sums."""
    for name in ("rows", "terms", "columns", "reduction"):
        b = getattr(node, name)
        if isinstance(b, Binder):
            yield "bound slipped", f"{b.index} < hi + 1", replace(node, **{name: replace(b, hi=slipped(b.hi, 1))})
            yield "bound slipped", f"{b.index} < hi - 1", replace(node, **{name: replace(b, hi=slipped(b.hi, -1))})
    for n, one in enumerate(node.sums):
        for kind, where, e in _expr(one.value, buffers):
            yield kind, where, replace(node, sums=(*node.sums[:n], replace(one, value=e), *node.sums[n + 1 :]))


def _all(value: Any, kind: Any) -> bool:
    """Whether the field of a node is some nodes, or some expressions."""
    parts = cast("tuple[Any, ...]", value) if type(value) is tuple else ()
    return bool(parts) and isinstance(parts[0], kind)


def _expr(e: Expr, buffers: Mapping[str, Buffer]) -> Iterator[tuple[str, str, Expr]]:
    if isinstance(e, Load):
        for position, index in enumerate(e.indices):
            moved = (*e.indices[:position], slipped(index, 1), *e.indices[position + 1 :])
            yield "index slipped", f"{e.array}[…] read at index {position} + 1", replace(e, indices=moved)
        for other in _others(e.array, buffers):
            yield "stale buffer", f"{e.array} read as {other}", replace(e, array=other)
    for n, child in enumerate(children(e)):
        for kind, where, other in _expr(child, buffers):
            count = iter(range(len(children(e))))
            yield kind, where, map_children(lambda c, n=n, other=other, count=count: other if next(count) == n else c, e)


def slipped(e: Expr, by: int) -> Expr:
    """`e + by`."""
    return Call("add", (e, const(by, I64)), I64)


def _others(name: str, buffers: Mapping[str, Buffer]) -> list[str]:
    """Buffers that could be taken for this one: the same type, rank and space kind."""
    if name not in buffers:
        return []
    b = buffers[name]
    return [o.name for o in buffers.values() if o.name != name and (o.dtype, len(o.shape)) == (b.dtype, len(b.shape))]


def spread(found: Iterable[Fault], limit: int) -> list[Fault]:
    """At most `limit` of each kind, evenly spread."""
    kept: list[Fault] = []
    kinds: dict[str, list[Fault]] = {}
    for f in found:
        kinds.setdefault(f.kind, []).append(f)
    for mine in kinds.values():
        step = max(1.0, len(mine) / limit)
        kept += [mine[int(n * step)] for n in range(min(len(mine), limit))]
    return kept

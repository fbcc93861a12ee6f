"""Turns one CPU launch into cycles: its arithmetic in vector or scalar loops, its traffic by cache level, shared by the cores."""

from collections.abc import Mapping
from math import prod

from extract.cpu_traffic import Traffic, in_one_pass, traffic
from extract.cpu_work import Work
from extract.cycles import Cost
from extract.fixed import that_runs
from extract.fuse import Nodes
from extract.launches import SERIAL_BELOW, peeled, product_of
from extract.machine import Machine
from extract.patch import shared_loads
from extract.sizes import extent_of, number
from extract.sweeps import Sweeps, in_a_pass, shared_by_rows
from kernel_ir.ops import Unit
from kernel_ir.plan import Alloc, Buffer, FoldLoop, Launch, Loop, Matmul, Plan, RepeatLaunch, Step, Stream, Tile

LIBRARY_CALL = 4000.0
"""Cycles of calling the library from Python."""
LIBRARY_SERIAL = 1 << 18
"""Multiplications up to which OpenBLAS starts no threads."""
PRODUCT_EFFICIENCY = 0.8
"""Share of the multiply-add peak that a library's matrix product reaches."""
HIDDEN = 0.8
"""Share of what is not the bottleneck that runs in its shadow."""


def launch_cost(launch: Launch, plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The cost of one launch, at these sizes."""
    return _launch(launch, plan, machine, sizes, 1, 1.0)


def swept_cost(both: Sweeps, rounds: int, plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The cost of two sweeps, done `rounds` times: several in one pass over memory, and what is left between threads after it."""
    buffers = {b.name: b for b in plan.buffers}
    rows = max(0, number(both.loops[0].hi, sizes) - number(both.loops[0].lo, sizes))
    held = sum(_bytes(buffers[name], sizes) for name in both.written)
    parts = max(1, min(machine.units, rows // (4 * both.reach))) if _threaded(both.first.body, sizes) else 1
    sweeps = max(1, min(in_a_pass(both, rows, held, parts), 2 * rounds))
    each = Cost(0.0)
    for launch, loop in zip((both.first, both.second), both.loops, strict=True):
        each = each.plus(_launch(launch, plan, machine, sizes, sweeps, shared_by_rows(launch, loop)))
    edge = sweeps * (sweeps - 1) * both.reach  # rows that one thread does after a pass, while its neighbour waits
    waits = 1.0 + edge / max(1, rows * sweeps) if parts > 1 else 1.0
    return each.times(rounds * waits)


def _bytes(buffer: Buffer, sizes: Mapping[str, int]) -> float:
    return buffer.dtype.itemsize * prod(float(max(0, number(extent, sizes))) for extent in buffer.shape)


def _launch(launch: Launch, plan: Plan, machine: Machine, sizes: Mapping[str, int], sweeps: int, shared: float) -> Cost:
    """The cost of a launch of which so many follow each other in one pass; `shared`: the share of its loads that rows leave each other."""
    launch = that_runs(launch, sizes)
    buffers = {b.name: b for b in plan.buffers}
    product = product_of(launch)
    if product is not None:
        return _product(product, buffers, machine, sizes)
    buffers |= {n.buffer.name: n.buffer for n in launch.body if isinstance(n, Alloc)}
    loops, _ = peeled(launch.body)
    extents = [max(0, number(loop.hi, sizes) - number(loop.lo, sizes)) for loop in loops]
    kept = shared_loads(launch, buffers) * shared
    work = Work(machine, dict(sizes), buffers, launch.body, flat=len(loops) > 1, contract="contract" in plan.fast_math, kept=kept)
    parallel = _threaded(launch.body, sizes)
    turns = prod(extents)
    left = turns % machine.units if parallel and turns > machine.units else 0
    cores = max(1.0, turns / -(-turns // machine.units)) if parallel else 1.0  # the last turns leave cores idle
    moved = traffic(work.accesses, buffers, machine, cores, frozenset(loop.index for loop in loops))
    alone = 1.0 if cores == 1.0 else left / turns
    cycles, near, memory, draining = 0.0, 0.0, 0.0, 0.0
    for loop in work.core.keys() | moved.keys():
        levels = moved.get(loop, [Traffic()] * len(machine.levels))
        if sweeps > 1:
            levels = moved[loop] = in_one_pass(levels, sweeps)
        caches = sum(level.cycles(t.read, t.written) for level, t in zip(machine.levels[:-1], levels[:-1], strict=True)) / cores
        far = levels[-1]
        last, drained = (
            alone * machine.levels[-1].cycles(*bytes_, alone=True) + (1.0 - alone) * machine.levels[-1].cycles(*bytes_)
            for bytes_ in ((far.read, far.written, 0.0), (0.0, 0.0, far.past))
        )
        # What one loop computes runs while it waits for memory; what the next does, hardly.
        every = (work.core.get(loop, 0.0) / cores, caches, last)
        cycles += max(every) + (1.0 - HIDDEN) * (sum(every) - max(every))
        near, memory, draining = near + caches, memory + last + drained, draining + drained
    # Stores past the caches leave the core at once: memory takes them while the next loops run.
    cycles = max(cycles + (1.0 - HIDDEN) * draining, memory)
    access = sum(work.units.get(name, 0.0) for name in ("load", "store")) / cores
    compute = sum(work.units.values()) / cores - access
    overhead = machine.launch_cycles / sweeps if parallel else 0.0
    parts = {"arithmetic": compute, "loads and stores": access, "caches": near, "memory": memory}
    delivered = {
        level.name: sum(levels[n].read + levels[n].written + levels[n].past for levels in moved.values())
        for n, level in enumerate(machine.levels)
    }
    return Cost(cycles + overhead, dict(sorted(work.units.items())), delivered, overhead, parts)


def entry_cost(plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The cost of bringing arrays, which callers hold in C order, into the layouts that the plan chose for them, and outputs back from
    tiles (of any other layout the caller gets a view); nothing for those that the caller packs."""
    elements = 0.0
    for p in (*plan.kernel.params, *plan.kernel.outputs):
        layout = plan.layout(p.name)
        if layout is None or layout.is_rows or p.name in plan.packed or (p in plan.kernel.outputs and not layout.tiled):
            continue
        count = 2.0 if p.inout else 1.0
        for extent in p.type.shape:
            count *= max(0, number(extent, sizes))
        elements += count
    cycles = elements * machine.extra.get("turn_cycles", 0.0) + machine.extra.get("call_cycles", 0.0)
    return Cost(cycles, overhead=cycles)


def handoff_cost(plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """What it costs that threads of the library and of our loops, which wait awake for some time, want the same cores in turns; calls
    follow each other."""
    cycles = _changes(plan.steps, plan, sizes) * machine.extra.get("library_handoff", 0.0)
    return Cost(cycles, overhead=cycles)


def _changes(steps: tuple[Step, ...], plan: Plan, sizes: Mapping[str, int]) -> int:
    """How often the work of `steps`, done again and again, goes from the library to our threads or back."""
    buffers = {b.name: b for b in plan.buffers}
    workers: list[bool] = []
    inside = 0
    for step in steps:
        if isinstance(step, RepeatLaunch):
            inside += max(0, number(step.steps, sizes)) * _changes(step.body, plan, sizes)
        elif (product := product_of(step)) is not None:
            if _multiplications(product, buffers, sizes) > LIBRARY_SERIAL:
                workers.append(True)
        elif _threaded(step.body, sizes):
            workers.append(False)
    return inside + sum(a != b for a, b in zip(workers, (*workers[1:], *workers[:1]), strict=True))


def _threaded(body: Nodes, sizes: Mapping[str, int]) -> bool:
    """Whether threads share the work."""
    return bool(peeled(body)[0]) and _turns(body, sizes) >= SERIAL_BELOW


def _turns(body: Nodes, sizes: Mapping[str, int]) -> float:
    """Turns of the innermost loops; where they are few, one thread does all."""
    most = 1.0
    for node in body:
        if isinstance(node, Loop):
            lo, hi = number(node.lo, sizes), number(node.hi, sizes)
            most = max(most, max(0, hi - lo) * _turns(node.body, {**sizes, node.index: max(lo, (lo + hi - 1) // 2)}))
        elif isinstance(node, Tile):
            most = max(most, prod(extent_of(b, sizes) for b in (node.rows, node.columns, *node.reduction)))
        elif isinstance(node, Stream):
            most = max(most, extent_of(node.along, sizes))
        elif isinstance(node, FoldLoop):
            most = max(most, (number(node.hi, sizes) - number(node.lo, sizes)) * _turns(node.body, sizes))
    return most


def _multiplications(node: Matmul, buffers: Mapping[str, Buffer], sizes: Mapping[str, int]) -> int:
    out, a = buffers[node.out[0]], buffers[node.a[0]]
    inner = max(0, number(a.shape[-2 if node.a[2] else -1], sizes))
    return inner * prod(max(0, number(extent, sizes)) for extent in out.shape)


def _product(node: Matmul, buffers: Mapping[str, Buffer], machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """A library's matrix product: multiply-adds at the share of their peak that it reaches, or the bytes of the matrices."""
    out = buffers[node.out[0]]
    efficiency = machine.extra.get("product_efficiency", PRODUCT_EFFICIENCY)
    rate = machine.lanes(out.dtype) / machine.instruction_cycles(Unit.FMA, out.dtype) * machine.units * efficiency
    work = _multiplications(node, buffers, sizes) / rate
    total = sum(
        buffers[b].dtype.itemsize * prod(max(0, number(extent, sizes)) for extent in buffers[b].shape)
        for b in {node.out[0], node.a[0], node.b[0]}
    )
    last = len(machine.levels) - 1
    level = next((n for n, x in enumerate(machine.levels) if n and total <= x.bytes), last)
    memory = machine.levels[level].cycles(total, 0.0) / (1 if level == last else machine.units)
    parts = {"arithmetic": work, "memory" if level == last else "caches": memory}
    moved = {machine.levels[level].name: float(total)}
    return Cost(max(work, memory) + LIBRARY_CALL, {"FMA": work * machine.units}, moved, LIBRARY_CALL, parts)

"""A kernel becomes plans for a GPU: one point a thread, one row a warp, or one row a block, over each way to group its statements.

A launch runs one group. Its outer loops are the grid; what remains of a member's own loops, and the reductions of a row, is shared
by the threads of the warp or block that has the row (joined by shuffles, and through shared memory between warps). Accumulating
statements add atomically. Ranges that depend on outer indices run over the enclosing rectangle under a condition.
"""

import keyword
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, Literal

from extract.aligned import aligned
from extract.barriers_cuda import lean
from extract.domains import conjunction
from extract.fuse import walk
from extract.groups import Fusion, Group, Grouping, RepeatGroups, Work, grouping
from extract.intervals import Ranges, enclosing, with_binder
from extract.lower_cuda import Team, ThreadLowering
from extract.names import Names
from extract.rows_cuda import ROW_SHAPES, RowShape, fits, row_launch
from extract.rows_staged import widened_rows
from extract.scan_cuda import scanned
from extract.scatter_cuda import privatised
from extract.sizes import extent_of
from extract.split_cuda import PARTS, split
from extract.staged_cuda import staged
from extract.strides import access_cost
from extract.tile_cuda import SHAPES, TileShape, tiled
from extract.wide_cuda import widened, widths
from kernel_ir.dtypes import BOOL, F32, F64, I32, I64, DType, reads_as
from kernel_ir.layout import Layouts
from kernel_ir.nodes import (
    ArrayType,
    Assign,
    AssignOp,
    Binder,
    Call,
    Expr,
    IndexRef,
    Kernel,
    Load,
    Param,
    Reduce,
    ReduceKind,
    Repeat,
    Stmt,
    const,
)
from kernel_ir.plan import Buffer, Launch, Loop, LoopKind, Node, Plan, RepeatLaunch, RowTile, Space, Step, Store, When
from kernel_ir.walk import free, statements, subtrees

Share = Literal["point", "warp", "block", "nearest"]
"""Who runs an iteration of the outer loops; nearest: for each group, a warp or a thread, by which reads memory more closely."""
MAPPINGS: Final[tuple[Share, ...]] = ("nearest", "point", "warp", "block")
PRODUCTS: Final = ("plain", *SHAPES, *ROW_SHAPES)
"""How sums of products run: like any sum, in tiles of shared memory, or (those inside of reductions) by blocks of rows, in one pass."""
FIRST: Final = next(iter(ROW_SHAPES))
"""The shape of blocks of rows that fits wherever any does."""
_SHAPED: Final[dict[str, TileShape | RowShape]] = {**SHAPES, **ROW_SHAPES}
FUSIONS: Final[tuple[Fusion, ...]] = ("most", "equal", "none")
THREADS: Final[dict[Literal["point", "warp"], int]] = {"point": 256, "warp": 128}
_TEAMS: Final[dict[Share, Team | None]] = {"point": None, "warp": "warp", "block": "block"}
ATOMIC: Final = (I32, I64, F32, F64)
"""Dtypes of arrays that the GPU can accumulate into; others go through an array of their arithmetic type."""
_JOINED: Final[dict[AssignOp, ReduceKind]] = {"+=": "sum", "max=": "max", "min=": "min"}
_WORDS: Final = """
    bool cuda float16 float32 float64 index int16 int32 int64 int8 intrinsic ir kernels lane launch libdevice math max min narrow noalias
    aligned first np other part pieces place point points rest row seen swapped found thread types value
    first_row first_column row_part column_part start term item totals left right u v uint16 uint32 uint64 uint8 warp wide
    at halves left_next right_next wide_load wide_store word
    factor_next first_term gathered inside last_row last_term left_at next_start next_term
    part_end right_at row_base row_inside row_next row_scale row_top row_wrong whole_end
"""
RESERVED: Final = frozenset((*keyword.kwlist, *_WORDS.split()))
"""Words of the generated source that no loop or scalar may be called."""


def cuda_plans(kernel: Kernel, target: str, sizes: Mapping[str, int], layouts: Layouts = (), every: bool = False) -> tuple[Plan, ...]:
    """Every schedule of `kernel` that is worth costing for a GPU, in a fixed order, each once.

    `sizes` are the extents to expect (1024 where absent): they choose the threads of a block, and never what is correct. `layouts` are
    orders of dimensions, for arrays that do not lie in C order. `every`: whether to split reductions though they are too short for it
    to pay, so that a schedule made for other sizes is among the plans.
    """
    plans: dict[tuple[Step, ...], Plan] = {}

    def offer(plan: Plan | None) -> None:
        if plan is not None:
            plan = replace(plan, steps=tuple(map(lean, plan.steps)))
            plans.setdefault(plan.steps, plan)

    turned = aligned(kernel, {one.name for one in layouts})
    for fusion in FUSIONS:
        found, by_rows = grouping(kernel, fusion), True
        choices: list[tuple[Share, str]] = [*((m, "plain") for m in MAPPINGS), *((MAPPINGS[0], p) for p in PRODUCTS[1:])]
        for mapping, products in choices:
            if products in ROW_SHAPES and not by_rows:
                continue
            schedule = (("fusion", fusion), ("map", mapping), ("products", products))
            scheduled, groups = (turned, grouping(turned, fusion)) if turned is not kernel and products in ROW_SHAPES else (kernel, found)
            plan = _plan(kernel, scheduled, groups, target, mapping, _SHAPED.get(products), sizes, schedule, layouts)
            if products in ROW_SHAPES:
                # Without a launch by rows these are plans by tiles.
                tiles = [n for launch in _launches(plan.steps) for n in walk(launch.body) if isinstance(n, RowTile)]
                by_rows = bool(tiles) or products != FIRST
                if not any(every or fits(tile, sizes) for tile in tiles):
                    continue
            offer(plan)
            if products in ROW_SHAPES:
                offer(_with(plan, ("staging", "wide"), widened_rows))
            if products == "plain":
                for width in (2, 4, 8):
                    offer(_with_neighbours(plan, width))
                offer(_with(plan, ("scatter", "shared"), _private))
                offer(_with(plan, ("staging", "squares"), staged))
        runs = scanned(kernel, None if every else sizes, _all_names(kernel))
        if runs is not None:
            schedule = (("fusion", fusion), ("map", MAPPINGS[0]), ("products", "plain"), ("scan", "runs"))
            offer(_plan(kernel, runs, grouping(runs, fusion), target, MAPPINGS[0], None, sizes, schedule, layouts))
        for parts in PARTS:
            halves = split(kernel, parts, None if every else sizes, _all_names(kernel))
            if halves is not None:
                schedule = (("fusion", fusion), ("map", "block"), ("products", "plain"), ("parts", str(parts)))
                plan = _plan(kernel, halves, grouping(halves, fusion), target, "block", None, sizes, schedule, layouts)
                offer(plan)
                for width in (2, 4, 8):
                    offer(_with_neighbours(plan, width))
    return tuple(plans.values())


def _launches(steps: tuple[Step, ...]) -> Iterator[Launch]:
    for step in steps:
        yield from _launches(step.body) if isinstance(step, RepeatLaunch) else (step,)


def _with(plan: Plan, choice: tuple[str, str], made: Callable[[Launch, Mapping[str, Buffer], set[str]], Launch | None]) -> Plan | None:
    """The plan with each launch as `made` makes it, where it makes any."""
    buffers = {b.name: b for b in plan.buffers}
    taken = {*buffers, *_taken(plan.kernel)}

    def visit(step: Step) -> Step:
        if isinstance(step, RepeatLaunch):
            return replace(step, body=tuple(map(visit, step.body)))
        return made(step, buffers, taken) or step

    steps = tuple(map(visit, plan.steps))
    return None if steps == plan.steps else replace(plan, steps=steps, schedule=(*plan.schedule, choice))


def _private(launch: Launch, buffers: Mapping[str, Buffer], taken: set[str]) -> Launch | None:
    found = (privatised(launch, b, taken) for b in buffers.values() if b.dtype in ATOMIC)
    return next((other for other in found if other is not None), None)


def _with_neighbours(plan: Plan, width: int) -> Plan:
    """The plan with threads that take `width` neighbours at a time, where that fills 128 bits of some element."""
    buffers = {b.name: b for b in plan.buffers}

    def visit(step: Step) -> Step:
        if isinstance(step, RepeatLaunch):
            return replace(step, body=tuple(map(visit, step.body)))
        return (widened(step, buffers, width) if width in widths(step, buffers) else None) or step

    return replace(plan, steps=tuple(map(visit, plan.steps)), schedule=(*plan.schedule, ("neighbours", str(width))))


def _plan(
    kernel: Kernel,
    scheduled: Kernel,
    found: Grouping,
    target: str,
    mapping: Share,
    shape: TileShape | RowShape | None,
    sizes: Mapping[str, int],
    schedule: tuple[tuple[str, str], ...],
    layouts: Layouts = (),
) -> Plan:
    builder = _Builder(scheduled, found, mapping, shape, sizes, {one.name: one.layout.order for one in layouts})
    steps = (*builder.starts(), *builder.steps(found.work))
    said = (*schedule, *((f"layout {one.name}", ",".join(one.layout.values)) for one in layouts))
    return Plan(kernel, target, builder.buffers(), steps, said, layouts=layouts)


def cuda_plan(kernel: Kernel, target: str, sizes: Mapping[str, int], layouts: Layouts) -> Plan:
    """The plainest schedule: one point or one row a thread."""
    schedule = (("fusion", FUSIONS[0]), ("map", MAPPINGS[0]), ("products", "plain"))
    return _plan(kernel, kernel, grouping(kernel, FUSIONS[0]), target, MAPPINGS[0], None, sizes, schedule, layouts)


class _Builder:
    """Makes the launches of one plan."""

    def __init__(
        self,
        kernel: Kernel,
        found: Grouping,
        mapping: Share,
        shape: TileShape | RowShape | None,
        sizes: Mapping[str, int],
        orders: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.kernel = kernel
        self.orders = orders
        self.mapping: Share = mapping
        self.shape = shape
        self.sizes = sizes
        self.temps = found.temps
        self.arrays: dict[str, ArrayType] = {**kernel.arrays, **{p.name: p.type for p in found.temps}}
        self.wide = {
            s.target: ArrayType(reads_as(self.arrays[s.target].dtype), self.arrays[s.target].shape)
            for s in statements(kernel.body)
            if s.op != "=" and self.arrays[s.target].dtype not in ATOMIC
        }
        self.gone: set[str] = set()
        """Temporaries that the launches made so far do without."""
        self.scalars = frozenset[str]()
        for one in found.work:
            self._classify(one)

    def _classify(self, one: Work) -> None:
        """Decides which temporaries are scalars of an iteration: written once, whole, by a group that alone has them."""
        if isinstance(one, RepeatGroups):
            for inner in one.body:
                self._classify(inner)
            return
        targets = [m.stmt.target for m in one.members]
        whole = {m.stmt.target for m in one.members if not m.inner and m.stmt.where is None and self._indexed_by(one, m.stmt)}
        self.scalars |= {name for name in one.locals if name in whole and targets.count(name) == 1}

    def _indexed_by(self, group: Group, stmt: Assign) -> bool:
        return stmt.indices == tuple(IndexRef(b.index) for b in group.outer)

    # -- buffers

    def buffers(self) -> tuple[Buffer, ...]:
        """Every array: the caller's, then the temporaries that outlive an iteration."""
        arguments = [self._buffer(p, "argument") for p in self.kernel.params if p.type.rank or p.inout]
        outputs = [self._buffer(p, "output") for p in self.kernel.outputs]
        temps = [self._buffer(p, "global") for p in self.temps if p.name not in self.scalars | self.gone]
        wide = [self._buffer(Param(_work(name), t), "global") for name, t in self.wide.items()]
        return (*arguments, *outputs, *temps, *wide)

    def _buffer(self, p: Param, space: Space) -> Buffer:
        order = tuple(range(p.type.rank))
        usual = order[::-1] if p.type.layout == "cols" else order
        return Buffer(p.name, p.type.dtype, p.type.shape, space, self.orders.get(p.name, usual))

    # -- steps

    def starts(self) -> Iterator[Step]:
        """Zeros for the targets that statements accumulate into before anything defines them."""
        defined = {p.name for p in self.kernel.params}
        for stmt in statements(self.kernel.body):
            if stmt.target not in defined and stmt.op != "=":
                zero = const(0, reads_as(self.arrays[stmt.target].dtype))
                yield self._over_array(stmt.target, f"{stmt.target}_start", lambda at, name=stmt.target, zero=zero: Store(name, at, zero))
            defined.add(stmt.target)

    def steps(self, work: tuple[Work, ...]) -> Iterator[Step]:
        """The launches of the kernel's groups, in order."""
        for one in work:
            match one:
                case RepeatGroups():
                    yield RepeatLaunch(one.index, one.steps, tuple(self.steps(one.body)))
                case Group() if one.accumulates:
                    yield from self._accumulating(one)
                case Group():
                    yield self._launch(one)

    def _over_array(self, name: str, launch: str, node: Callable[[tuple[Expr, ...]], Node]) -> Launch:
        names = self._names(())
        shape = self.arrays[name].shape
        binders = tuple(Binder(names.fresh(f"i{n}"), const(0, I64), extent) for n, extent in enumerate(shape))
        body = (node(tuple(IndexRef(b.index) for b in binders)),)
        return Launch(launch, self._grid(binders, body, names), THREADS["point"])

    def _accumulating(self, group: Group) -> Iterator[Step]:
        (member,) = group.members
        stmt = member.stmt
        dtype = self.arrays[stmt.target].dtype
        target = stmt.target
        if target in self.wide:
            target = _work(stmt.target)
            yield self._copy(stmt.target, target, dtype)
        names = self._names(group.outer)
        parallel, serial = _split(group.outer)
        nodes = ThreadLowering(group, frozenset(), names, None, self._extent).accumulation(target, _JOINED[stmt.op])
        for b in reversed(serial):
            nodes = (Loop(b.index, b.lo, b.hi, LoopKind.SERIAL, nodes),)
        yield Launch(stmt.target, self._grid(parallel, nodes, names), THREADS["point"])
        if stmt.target in self.wide:
            yield self._copy(target, stmt.target, dtype)

    def _copy(self, source: str, target: str, dtype: DType) -> Launch:
        name = source if source in self.arrays else target
        return self._over_array(name, f"{target}_copy", lambda at: Store(target, at, Load(source, at, reads_as(dtype))))

    def _launch(self, group: Group) -> Launch:
        team = self._team(group)
        name = group.members[-1].stmt.target
        names = self._names(group.outer)
        if isinstance(self.shape, RowShape):
            made = row_launch(name, group, self.shape, names, self.arrays)
            if made is not None:
                self.gone |= set(group.locals)
                return made
        shape = self.shape.others if isinstance(self.shape, RowShape) else self.shape
        tile = None if shape is None else tiled(group, shape, names)
        if tile is not None and shape is not None:
            return Launch(name, tile, shape.threads)
        lowering = ThreadLowering(group, self.scalars, names, team, self._extent)
        parallel, serial = _split(group.outer)
        nodes = lowering.nodes()
        for b in reversed(serial):
            nodes = (Loop(b.index, b.lo, b.hi, LoopKind.SERIAL, nodes),)
        if team is None:
            return Launch(name, self._grid(parallel, nodes, names), THREADS["point"])
        kind = LoopKind.BLOCK if team == "block" else LoopKind.WARP
        return Launch(name, self._grid(parallel, nodes, names, kind), self._threads(group, team))

    def _team(self, group: Group) -> Team | None:
        """The team that shares a row, where the group has rows to share and every outer loop can be a row of the grid."""
        _, serial = _split(group.outer)
        rows = any(m.inner or any(isinstance(x, Reduce) for x in subtrees(m.stmt.value)) for m in group.members)
        if not rows or serial:
            return None
        if self.mapping != "nearest":
            return _TEAMS[self.mapping]
        return "warp" if self._nearer_along_rows(group) else None

    def _nearer_along_rows(self, group: Group) -> bool:
        """Whether neighbouring elements of a row lie nearer in memory than the same element of neighbouring rows."""
        if not group.outer:
            return True
        along, across = 0.0, 0.0
        for m in group.members:
            inner = (*m.inner[-1:], *(b for x in subtrees(m.stmt.value) if isinstance(x, Reduce) for b in x.binders[-1:]))
            accesses = [x for x in subtrees(m.stmt.value) if isinstance(x, Load)]
            accesses += [Load(m.stmt.target, m.stmt.indices, I64)] if m.inner else []
            for b in inner:
                if self._extent(b) >= 32:
                    over = [x for x in accesses if any(b.index in free(i) for i in x.indices)]
                    along += access_cost(over, b.index, {})
                    across += access_cost(over, group.outer[-1].index, {})
        return 0.0 < along < across

    def _threads(self, group: Group, team: Team) -> int:
        if team == "warp":
            return THREADS["warp"]
        ranges = [b for m in group.members for b in (*m.inner, *_reduced(m.stmt.value))]
        longest = max((self._extent(b) for b in ranges), default=1)
        threads = 64
        while threads < 512 and threads * 8 <= longest:
            threads *= 2
        return threads

    def _extent(self, b: Binder) -> int:
        return extent_of(b, self.sizes)

    def _names(self, outer: tuple[Binder, ...]) -> Names:
        taken = {*self.arrays, *map(_work, self.wide), *_taken(self.kernel)}
        return Names(taken | {b.index for b in outer})

    def _grid(self, binders: tuple[Binder, ...], nodes: tuple[Node, ...], names: Names, kind: LoopKind = LoopKind.GRID) -> tuple[Node, ...]:
        """The nodes inside loops that are the grid: enclosing rectangles, with a condition where the exact range is smaller."""
        ranges: Ranges = {}
        loops: list[tuple[str, Expr, Expr]] = []
        conditions: list[Expr] = []
        for b in binders:
            hull = enclosing(b, ranges)
            assert hull is not None
            if b.lo != hull[0]:
                conditions.append(Call("le", (b.lo, IndexRef(b.index)), BOOL))
            if b.hi != hull[1]:
                conditions.append(Call("lt", (IndexRef(b.index), b.hi), BOOL))
            loops.append((b.index, *hull))
            ranges = with_binder(b, ranges)
        if not loops:
            loops.append((names.fresh("one"), const(0, I64), const(1, I64)))
        if conditions:
            nodes = (When(conjunction(tuple(conditions)), nodes),)
        for index, lo, hi in reversed(loops):
            nodes = (Loop(index, lo, hi, kind, nodes),)
        return nodes


def _split(outer: tuple[Binder, ...]) -> tuple[tuple[Binder, ...], tuple[Binder, ...]]:
    """Leading loops that the grid can run, and those whose enclosing range is not seen: one thread runs these in order."""
    ranges: Ranges = {}
    for number, b in enumerate(outer):
        if enclosing(b, ranges) is None:
            return outer[:number], outer[number:]
        ranges = with_binder(b, ranges)
    return outer, ()


def _all_names(kernel: Kernel) -> Names:
    indices = {b.index for s in statements(kernel.body) for b in s.binders}
    indices |= {b.index for s in statements(kernel.body) for x in subtrees(s.value) if isinstance(x, Reduce) for b in x.binders}
    return Names(_taken(kernel) | indices)


def _taken(kernel: Kernel) -> set[str]:
    """Names that no index or scalar of a launch may have."""
    return {*kernel.arrays, *kernel.sizes, *RESERVED, *_repeat_indices(kernel)}


def _work(name: str) -> str:
    """The array of the arithmetic type in which a narrow target is accumulated."""
    return f"{name}_sum"


def _reduced(e: Expr) -> Iterator[Binder]:
    for x in subtrees(e):
        if isinstance(x, Reduce):
            yield from x.binders


def _repeat_indices(kernel: Kernel) -> set[str]:
    def visit(body: tuple[Stmt, ...]) -> Iterator[str]:
        for stmt in body:
            if isinstance(stmt, Repeat):
                if stmt.index is not None:
                    yield stmt.index
                yield from visit(stmt.body)

    return set(visit(kernel.body))

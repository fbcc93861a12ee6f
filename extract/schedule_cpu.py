"""Turns a kernel into plans for a CPU: parallel rows or blocks, contiguous vector loops, few passes, library products where they fit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from extract.ahead import CHOICE as AHEAD
from extract.ahead import row_ahead
from extract.apart import Apart, What, apart, fitting
from extract.blocks import cut
from extract.borders import split
from extract.fixed import beside, few_turns, fixed, pinned_values
from extract.forward import forwarded
from extract.fuse import fused, scalarised
from extract.groups import Fusion, Group, Grouping, Member, RepeatGroups, Work, grouping
from extract.jam import jammed
from extract.lanes import stepped
from extract.lower import Lowering
from extract.machine import Machine, load_machine
from extract.matmul import product
from extract.names import Names
from extract.pack import packed, packs, turns
from extract.patch import patched
from extract.reductions import is_written_out, reads_nearer, scans_over
from extract.relaid import relaid
from extract.rows import enough, several_rows
from extract.scatter import Ways, scattered, ways
from extract.share import shared
from extract.staged import staged
from extract.stream import CHOICE as PAST
from extract.stream import anywhere, far, streamed, wide
from extract.strides import Orders, Stride, access_cost, stride
from extract.through import through
from extract.tile import Shapes, row_blocks, shapes
from extract.turn import turned
from kernel_ir.dtypes import I64
from kernel_ir.layout import ArrayLayout, Layout, Layouts, rows_of
from kernel_ir.layout_proof import is_bijection
from kernel_ir.nodes import ArrayType, Binder, Expr, Fold, Kernel, Load, Param, Reduce
from kernel_ir.plan import Alloc, Buffer, Launch, Loop, LoopKind, Node, Plan, RepeatLaunch, Step
from kernel_ir.walk import free, statements, subtrees

BLOCK: Final = 1024
"""Elements of a block where a one-dimensional row is cut for threads; its buffers stay in the first-level cache."""
TILE: Final = 64
"""Side of the square tiles of a transposition: 64 rows of 64 f32 fill half a first-level cache."""


Sizes = Mapping[str, int]
ANYWHERE: Final[Mapping[str, tuple[str, ...]]] = {AHEAD[0]: AHEAD[1:], PAST[0]: PAST[1:]}
"""Choices that, where a schedule names them, are made for every plan that can have them, whatever the sizes."""
PRODUCTS: Final[Mapping[What, str]] = {"products": "apart", "operands": "loops of stored operands"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to schedule: how far statements fuse, whether products go to the library, how arrays lie that may lie anyhow."""

    fusion: Fusion
    library: bool
    pack: bool
    stages: bool = True
    layouts: tuple[ArrayLayout, ...] = ()
    """Of `@ any` arrays, and of temporaries that do not lie in C order."""
    apart: What | None = None
    """Whether products inside of values are stored first, for the library, or what they multiply, for registers."""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return (
            ("fuse", self.fusion),
            ("products", PRODUCTS[self.apart] if self.apart else "library" if self.library else "loops"),
            ("copies", "turned" if self.pack else "none"),
            ("one loop", "staged" if self.stages else "serial"),
            *((f"layout {one.name}", ",".join(one.layout.values)) for one in self.layouts),
        )


FUSIONS: Final[tuple[Fusion, ...]] = ("most", "none", "through")
CHOICES: Final = tuple(Choice(fusion, library, pack) for library in (False, True) for fusion in FUSIONS for pack in (False, True))
APART: Final[Mapping[What, tuple[Choice, ...]]] = {
    "products": tuple(Choice(fusion, library=True, pack=False, apart="products") for fusion in ("most", "none")),
    "operands": tuple(Choice(fusion, library=False, pack=True, apart="operands") for fusion in ("most", "none")),
}


@dataclass(slots=True)
class Context:
    """What the groups of one plan share."""

    kernel: Kernel
    arrays: dict[str, ArrayType]
    names: Names
    orders: Orders
    library: bool
    pack: bool
    constant: frozenset[str]
    shapes: Shapes
    enough: Callable[[Binder], bool]
    ways: Ways
    stages: bool = True
    cut: bool = False
    """Whether a long loop was cut into stages: then the plan that does not is another one."""
    products: bool = False
    """Whether the library could do a group: where not, the plan with the library is the plan without it."""
    copies: bool = False
    """Whether copies would help: where not, the plan with copies is the plan without them."""
    buffers: list[Buffer] = field(default_factory=list[Buffer])


def plans(
    kernel: Kernel,
    machine: Machine | None = None,
    sizes: Mapping[str, int] | None = None,
    fast_math: Iterable[object] = (),
    layouts: Iterable[Layouts] = (),
    every: bool = False,
    named: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> tuple[Plan, ...]:
    """Every different plan of the choices above, in a fixed order; the cost model chooses among them.

    `layouts` (of `extract/layouts.py`): how arrays may lie that have a say in it; without any, all lie in C order. `every`: those too
    that store much at these sizes. `named`: the choices of a schedule, made perhaps for other sizes.
    """
    found: dict[tuple[object, ...], Plan] = {}
    flags = frozenset(map(str, fast_math))
    here = machine or load_machine("cpu")
    tiles, many, copies = shapes(here, sizes or {}), enough(here, sizes or {}), ways(here, sizes or {})
    large, long = far(here, sizes or {}), wide(here, sizes or {})
    parts: dict[What, Apart | None] = {
        what: apart(kernel, what) if every else apart(kernel, what, fitting(kernel, sizes or {})) for what in APART
    }
    choices = (*CHOICES, *(choice for what, more in APART.items() if parts[what] is not None for choice in more))
    groupings = _Groupings(kernel, parts)
    values = pinned_values(named, kernel) or few_turns(kernel, sizes or {})
    short = fixed(kernel, values)
    shorter = _Groupings(short, {})
    for laid in tuple(layouts) or (rows_of(kernel),):
        seen = _Seen()
        for one in choices:
            choice = replace(one, layouts=laid)
            grouped = groupings.of(one)
            if grouped is None or seen.twin(one, grouped):
                continue
            made, context = _planned(kernel, choice, flags, tiles, many, copies, grouped)
            seen.note(one, grouped, context)
            if made is not None:
                found.setdefault((made.buffers, made.steps), made)
                if values and not choice.apart and (again := shorter.of(one)) is not None:
                    special, _ = _planned(short, choice, flags, tiles, many, copies, again)
                    both = beside(made, special, values)
                    if both is not None:
                        found.setdefault((both.buffers, both.steps), both)
            if context.cut:  # memory may be no faster for several threads: one pass on one thread moves fewer bytes
                made, context = _planned(kernel, replace(choice, stages=False), flags, tiles, many, copies, grouped)
                seen.note(one, grouped, context)
                if made is not None:
                    found.setdefault((made.buffers, made.steps), made)
    before = (row_ahead(plan, here, sizes or {}, large) for plan in found.values())
    if AHEAD[0] in named:
        before = (one or row_ahead(plan, here, None, anywhere) for plan, one in zip(found.values(), before, strict=True))
    every_order = (*found.values(), *(plan for plan in before if plan is not None))
    past = (streamed(plan, large, long) for plan in every_order)
    if PAST[0] in named:
        past = (one or streamed(plan, anywhere, lambda loop, b, around: True) for plan, one in zip(every_order, past, strict=True))
    patches = (patched(plan, here, sizes or {}, every) for plan in found.values())
    return (*every_order, *(plan for plan in (*past, *patches) if plan is not None))


def plan(
    kernel: Kernel, choice: Choice, fast_math: frozenset[str] = frozenset(), machine: Machine | None = None, sizes: Sizes | None = None
) -> Plan | None:
    """The plan of one choice (on the machine called "cpu"); None where it cannot be made for the layouts."""
    here = machine or load_machine("cpu")
    parts: dict[What, Apart | None] = {}
    if choice.apart:
        parts[choice.apart] = apart(kernel, choice.apart)
    grouped = _Groupings(kernel, parts).of(choice)
    tiles, many, copies = shapes(here, sizes or {}), enough(here, sizes or {}), ways(here, sizes or {})
    return None if grouped is None else _planned(kernel, choice, fast_math, tiles, many, copies, grouped)[0]


class _Groupings:
    """The groups of a kernel by how far they fuse and what stands apart, each found once."""

    def __init__(self, kernel: Kernel, parts: Mapping[What, Apart | None]) -> None:
        self._kernel, self._parts = kernel, parts
        self._found: dict[tuple[Fusion, What | None], Grouping | None] = {}

    def of(self, choice: Choice) -> Grouping | None:
        """The groups of a choice; None where it has none of its own."""
        key = choice.fusion, choice.apart
        if key not in self._found:
            self._found[key] = self._made(choice)
        return self._found[key]

    def _made(self, choice: Choice) -> Grouping | None:
        kernel, parts = self._kernel, self._parts[choice.apart] if choice.apart else None
        grouped = grouping(kernel, choice.fusion) if parts is None else grouping(parts.kernel, choice.fusion, parts.products)
        if choice.fusion == "through":
            return through(grouped, kernel, {p.name: _order(p, {}) for p in (*kernel.params, *kernel.outputs)})
        return grouped


@dataclass(slots=True)
class _Seen:
    """What was planned of one kernel and its layouts, to tell without planning which choices make the same plan again."""

    found: dict[tuple[bool, bool], list[tuple[Grouping, Context]]] = field(
        default_factory=dict[tuple[bool, bool], "list[tuple[Grouping, Context]]"]
    )

    def note(self, choice: Choice, grouped: Grouping, context: Context) -> None:
        self.found.setdefault((choice.library, choice.pack), []).append((grouped, context))

    def twin(self, choice: Choice, grouped: Grouping) -> bool:
        """Whether a choice before this one made the plan: the same groups, and what else it allows is of no use to them."""
        same = self._contexts(choice.library, choice.pack, grouped)
        without_library = self._contexts(False, False, grouped) if choice.library else []
        without_copies = self._contexts(choice.library, False, grouped) if choice.pack else []
        unused = without_library and not any(c.products for c in without_library)
        return bool(same or unused or (without_copies and not any(c.copies for c in without_copies)))

    def _contexts(self, library: bool, pack: bool, grouped: Grouping) -> list[Context]:
        return [context for other, context in self.found.get((library, pack), []) if other is grouped or other == grouped]


def _planned(
    kernel: Kernel,
    choice: Choice,
    fast_math: frozenset[str],
    tiles: Shapes,
    many: Callable[[Binder], bool],
    copies: Ways,
    grouped: Grouping,
) -> tuple[Plan | None, Context]:
    """The plan of one choice, if there is one, and what became of its groups."""
    laid = {one.name: one.layout for one in choice.layouts}
    orders = {p.name: _order(p, laid) for p in (*kernel.params, *kernel.outputs)}
    orders |= {p.name: laid[p.name].order for p in grouped.temps if p.name in laid}
    taken = {*kernel.arrays, *kernel.sizes, *(p.name for p in grouped.temps), "parts", "part", kernel.name}
    arrays = {**kernel.arrays, **{p.name: p.type for p in grouped.temps}}
    context = Context(
        kernel, arrays, Names(taken), orders, choice.library, choice.pack, _unwritten(kernel), tiles, many, copies, choice.stages
    )
    context.buffers += [_argument(p, "argument", orders) for p in kernel.params]
    context.buffers += [_argument(p, "output", orders) for p in kernel.outputs]
    local = local_arrays(grouped.work)
    context.buffers += [_temporary(p, orders) for p in grouped.temps if p.name not in local]
    steps, buffers = _steps(grouped, context), tuple(context.buffers)
    held = {b.name for b in buffers}
    layouts = tuple(one for one in choice.layouts if one.name in held)
    cut = {one.name: one.layout for one in layouts if not one.layout.plain}
    if cut:
        if not all(is_bijection(layout, arrays[name].shape) for name, layout in cut.items()):
            return None, context
        made = relaid(steps, buffers, cut, context.names)
        if made is None:
            return None, context
        steps, buffers = made
    return Plan(kernel, "cpu", buffers, steps, replace(choice, layouts=layouts).pairs(), fast_math, layouts), context


def _unwritten(kernel: Kernel) -> frozenset[str]:
    """Arrays that no statement writes."""
    return frozenset(p.name for p in kernel.params if p.type.rank) - {s.target for s in statements(kernel.body)}


def _order(p: Param, laid: Mapping[str, Layout]) -> tuple[int, ...]:
    """The dimensions, slowest first; where they are cut into tiles, as the elements of one tile lie."""
    if p.name in laid:
        return laid[p.name].order
    dims = tuple(range(p.type.rank))
    return dims[::-1] if p.type.layout == "cols" else dims


def _argument(p: Param, space: str, orders: Orders) -> Buffer:
    return Buffer(p.name, p.type.dtype, p.type.shape, "argument" if space == "argument" else "output", orders[p.name])


def local_arrays(work: tuple[Work, ...]) -> frozenset[str]:
    """Temporaries that live inside one iteration of a group's loops."""
    names: set[str] = set()
    for one in work:
        names |= set(one.locals) if isinstance(one, Group) else local_arrays(one.body)
    return frozenset(names)


def _steps(grouped: Grouping, context: Context) -> tuple[Step, ...]:
    def visit(work: tuple[Work, ...]) -> tuple[Step, ...]:
        steps: list[Step] = []
        for one in work:
            if isinstance(one, RepeatGroups):
                steps.append(RepeatLaunch(one.index, one.steps, visit(one.body)))
            else:
                steps.extend(_launches(one, context))
        return tuple(steps)

    return visit(grouped.work)


def _launches(group: Group, context: Context) -> list[Launch]:
    name = context.names.fresh(f"{context.kernel.name}_{group.members[-1].stmt.target}")
    if group.accumulates:
        return [scattered(name, group, context.arrays, context.names, context.orders, context.ways)]
    made = product(group, context.arrays, context.orders)
    context.products |= made is not None
    if made is not None and context.library:
        return [Launch(name, (made,), note="library product")]
    stages = staged(group, context.arrays, context.names, BLOCK)
    context.cut |= stages is not None
    if stages is not None and not context.stages:
        return _launch(name, _demoted(group, len(group.outer)) if group.outer else group, context)
    if stages is not None:
        groups, temps = stages
        for p in temps:
            context.arrays[p.name] = p.type
            context.buffers.append(_temporary(p))
        made_names = [context.names.fresh(f"{context.kernel.name}_{g.members[0].stmt.target}") for g in groups]
        return [launch for n, g in zip(made_names, groups, strict=True) for launch in _launch(n, g, context)]
    return _launch(name, group, context)


def _launch(name: str, group: Group, context: Context) -> list[Launch]:
    """The launch of a group, after those that make the copies it reads."""
    lanes = stepped(group, context.names)
    if lanes is not None:
        outer = (*group.outer[:-1], lanes.block)
        body = (*(Alloc(b) for b in lanes.buffers), *_around(outer, lanes.nodes))
        return [Launch(name, body, note="lanes that step together", deal="cyclic")]
    shaped, bases, note = _shaped(group, context)
    shaped, more = shared(shaped, context.arrays, context.names)
    before: list[Launch] = []
    context.copies |= packs(shaped, context.orders, context.constant)
    if context.pack:
        packing = packed(shaped, context.arrays, context.orders, context.constant, context.names)
        shaped = packing.group
        for copy in packing.copies:
            context.arrays[copy.temp.name] = copy.temp.type
            context.buffers.append(_temporary(copy.temp))
            before += _launch(context.names.fresh(f"{context.kernel.name}_{copy.temp.name}"), copy.group, context)
    arrays = {**context.arrays, **more}
    shaped, blocks = row_blocks(shaped, arrays, context.orders, context.names, context.shapes)
    lowering = Lowering(shaped, arrays, context.names, context.orders, bases | blocks, context.shapes)
    nodes = fused(lowering.nodes())
    nodes, gone = scalarised(nodes, frozenset(b.name for b in lowering.buffers))
    nodes = forwarded(nodes, context.arrays, context.names)
    nodes = jammed(split(nodes, context.arrays, context.names), context.names)
    nodes, tiles = turned(nodes, bases, arrays, context.orders, context.names)
    allocs = tuple(Alloc(b) for b in (*lowering.buffers, *tiles) if b.name not in gone)
    deal = "cyclic" if _uneven(shaped) else "block"
    outer = shaped.outer
    if not allocs and all(map(context.enough, outer)):
        outer, nodes = several_rows(outer, nodes, context.names, context.orders)
    return [*before, Launch(name, (*allocs, *_around(outer, nodes)), note=note, deal=deal)]


def _temporary(p: Param, orders: Orders | None = None) -> Buffer:
    rows = tuple(range(p.type.rank))
    return Buffer(p.name, p.type.dtype, p.type.shape, "global", (orders or {}).get(p.name, rows))


def _around(outer: tuple[Binder, ...], nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """The nodes inside the outer loops: parallel as long as their ranges read no outer index."""
    names = {b.index for b in outer}
    independent = 0
    for b in outer:
        if (free(b.lo) | free(b.hi)) & names:
            break
        independent += 1
    for n in reversed(range(len(outer))):
        b = outer[n]
        nodes = (Loop(b.index, b.lo, b.hi, LoopKind.PARALLEL if n < independent else LoopKind.SERIAL, nodes),)
    return nodes


def _uneven(group: Group) -> bool:
    """Whether an iteration's work depends on its index: triangular ranges, folds that stop early."""
    outer = {b.index for b in group.outer if not b.index.endswith("_block")}  # the last of equal blocks alone is shorter
    for m in group.members:
        if any((free(b.lo) | free(b.hi)) & outer for b in m.inner):
            return True
        for x in subtrees(m.stmt.value):
            if isinstance(x, Fold) and x.condition is not None:
                return True
            if isinstance(x, Reduce) and any((free(b.lo) | free(b.hi)) & outer for b in x.binders):
                return True
    return False


# -- which loops are outer, which inner


Shaped = tuple[Group, dict[str, tuple[Expr, int]], str]


def _shaped(group: Group, context: Context) -> Shaped:
    """The group with the loop that should run along memory made inner; cut in blocks or tiles where threads or caches need it."""
    if not group.outer or any(m.inner for m in group.members):
        return group, {}, "rows"
    if any((free(b.lo) | free(b.hi)) for b in group.outer):
        return group, {}, "points"
    values = [m.stmt.value for m in group.members]
    # A reduction that is written out is a value like any other: the loop around it runs along memory.
    loops = [x for v in values for x in subtrees(v) if isinstance(x, Reduce) and not is_written_out(x)]
    if loops:
        return _shaped_reductions(group, loops, context)
    if len(group.outer) == 1:
        return group, {}, "points"
    return _shaped_points(group, context)


def _shaped_reductions(group: Group, loops: list[Reduce], context: Context) -> Shaped:
    last = group.outer[-1]
    if len(group.outer) > 1 and any(scans_over(r, last) for r in loops):
        return _demoted(group, 1), {}, "rows that a running reduction goes along"
    reads = any(last.index in free(r) for r in loops)
    along = any(last.index in free(r) and reads_nearer(r, last.index, context.orders) for r in loops)
    outside = any(last.index not in free(r) for r in loops)
    turned = not along and len(group.outer) > 1 and turns(_demoted(group, 1), last.index, context.orders, context.constant)
    context.copies |= turned
    along |= context.pack and turned
    if not (reads and along) and not (outside and len(group.outer) > 1):
        return group, {}, "rows"
    if len(group.outer) > 1:
        return _demoted(group, 1), {}, "rows"
    return _blocked(group, context)


def _demoted(group: Group, count: int) -> Group:
    outer, inner = group.outer[:-count], group.outer[-count:]
    return replace(group, outer=outer, members=tuple(Member(m.stmt, (*inner, *m.inner)) for m in group.members))


def _blocked(group: Group, context: Context) -> Shaped:
    """The last outer loop in blocks of BLOCK: the blocks are outer, the loop inside a block inner."""
    block, inner, base = cut(group.outer[-1], BLOCK, context.names)
    members = tuple(Member(m.stmt, (inner, *m.inner)) for m in group.members)
    shaped = replace(group, outer=(*group.outer[:-1], block), members=members)
    return shaped, {inner.index: (base, BLOCK)}, f"blocks of {BLOCK}"


def _shaped_points(group: Group, context: Context) -> Shaped:
    """One point after another along memory; square tiles where one array runs along another index than the rest."""
    accesses = [x for m in group.members for x in subtrees(m.stmt.value) if isinstance(x, Load)]
    accesses += [Load(m.stmt.target, m.stmt.indices, I64) for m in group.members if m.stmt.target not in group.locals for _ in range(2)]
    costs = [access_cost(accesses, b.index, context.orders) for b in group.outer]
    best = min(range(len(costs)), key=lambda n: (costs[n], -n))
    row = group.outer[best]
    outer = (*group.outer[:best], *group.outer[best + 1 :], row)
    moved = replace(group, outer=outer)
    across = [x for x in accesses if stride(x.array, x.indices, row.index, context.orders) is Stride.FAR]
    for b in outer[:-1]:
        if any(stride(x.array, x.indices, b.index, context.orders) is Stride.UNIT for x in across):
            return _tiled(moved, b, context)
    return _demoted(moved, 1), {}, "rows"


def _tiled(group: Group, other: Binder, context: Context) -> Shaped:
    rest = tuple(b for b in group.outer[:-1] if b is not other)
    outer_a, inner_a, base_a = cut(other, TILE, context.names)
    outer_b, inner_b, base_b = cut(group.outer[-1], TILE, context.names)
    members = tuple(Member(m.stmt, (inner_a, inner_b)) for m in group.members)
    shaped = replace(group, outer=(*rest, outer_a, outer_b), members=members)
    return shaped, {inner_a.index: (base_a, TILE), inner_b.index: (base_b, TILE)}, f"tiles of {TILE} x {TILE}"

"""Turns the operands that a row tile stages in shared memory into how its threads bring them: their shares, and loads of 128 bits.

Neighbouring threads have neighbours in memory. Where those are terms, which lie far apart in shared memory, a warp takes a few terms of
several items: whole sectors, each element in a bank of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from extract.tile_cuda import near
from extract.wide_cuda import LANE_BYTES, Wide, wide_value
from kernel_ir.nodes import Binder, Expr, Load
from kernel_ir.plan import Buffer, Guard, Launch, Loop, Node, RowTile
from kernel_ir.walk import subtrees

PAD: Final = 4
"""Elements added to each staged row: 128-bit reads fit, and what a warp stages hits different banks."""
_WARP: Final = 32
_TERMS: Final = (8, 2)
"""Threads of a warp along the terms where these are neighbours in memory: of single elements, and of 128 bits."""


@dataclass(frozen=True, slots=True)
class Operand:
    """`terms` by `items` elements of a value, in shared memory one row of `stride` a term."""

    value: Expr
    terms: tuple[Binder, int]
    items: tuple[Binder, int]
    stride: int


@dataclass(frozen=True, slots=True)
class Share:
    """How the threads of a block share an operand: each takes `passes` times `width` neighbours, along terms or along items.

    The first three are (along terms, along items): threads of a warp, or of the block; elements between those of one pass and those of
    the next; passes. `over`: warps beside one another along the terms. `near`: whether neighbours in memory are terms.
    """

    lanes: tuple[int, int]
    step: tuple[int, int]
    passes: tuple[int, int]
    over: int
    near: bool
    width: int = 1

    @property
    def elements(self) -> int:
        """Elements of a thread."""
        return self.passes[0] * self.passes[1] * self.width


def operands(t: RowTile) -> dict[str, Operand]:
    """What a tile stages, by the names of the shared arrays."""
    found = {
        "left": Operand(t.left, (t.reduction, t.depth), (t.rows, t.height), t.height + PAD),
        "right": Operand(t.right, (t.reduction, t.depth), (t.terms, t.width), t.width + PAD),
    }
    if t.factor is not None and t.columns is not None:
        found["factor"] = Operand(t.factor, (t.terms, t.width), (t.columns, t.span), t.span)
    return found


def share(o: Operand, threads: int, orders: Mapping[str, tuple[int, ...]], width: int = 1) -> Share:
    """Who brings what, `width` neighbours a thread at a time."""
    (terms, many), (_, items) = o.terms, o.items
    if near(o.value, terms.index, orders):
        along, warps = _TERMS[width > 1], threads // _WARP
        over = max(1, min(warps, many // (along * width)))
        lanes = along, _WARP // along
        step = along * width * over, lanes[1] * (warps // over)
    else:
        over, beside = 1, min(threads, items // width)
        lanes = threads // beside, beside
        step = lanes[0], beside * width
    return Share(lanes, step, (max(1, many // step[0]), max(1, items // step[1])), over, near(o.value, terms.index, orders), width)


def wide_operand(o: Operand, buffers: Mapping[str, Buffer]) -> tuple[int, Wide] | None:
    """How many neighbours loads of 128 bits bring, and which loads those are; None where none can be."""
    orders = {b.name: b.order for b in buffers.values()}
    fast = o.terms[0] if near(o.value, o.terms[0].index, orders) else o.items[0]
    sizes = [buffers[x.array].dtype.itemsize for x in subtrees(o.value) if isinstance(x, Load) and x.array in buffers]
    width = min(8, LANE_BYTES // max(sizes, default=LANE_BYTES))
    found = wide_value(o.value, fast, width, buffers) if width > 1 else None
    return None if found is None else (width, found)


def widened_rows(launch: Launch, buffers: Mapping[str, Buffer], _: set[str]) -> Launch | None:
    """The launch of a row tile with operands loaded 128 bits at a time, and as it was for calls that do not fit; None of another kind."""
    tile = next((n for n in _tiles(launch.body)), None)
    found = [] if tile is None else [w for o in operands(tile).values() if (w := wide_operand(o, buffers)) is not None]
    if tile is None or not found:
        return None
    most: dict[Expr, int] = {}
    for e, n in (m for _, w in found for m in w.guard.multiples):
        most[e] = max(n, most.get(e, 1))
    aligned = tuple(dict.fromkeys(a for _, w in found for a in w.guard.aligned))
    return _wide(launch, Guard(tuple(most.items()), aligned=aligned))


def _wide(launch: Launch, guard: Guard) -> Launch:
    """The launch wide where both guards hold; then, wide where this one does, what stands in for it; then it as it was."""
    most = () if launch.guard is None else launch.guard.at_most
    longer = launch.otherwise
    instead = launch if longer is None else replace(_wide(longer, guard), otherwise=launch)
    return replace(launch, body=_widened(launch.body), guard=replace(guard, at_most=most), otherwise=instead)


def _widened(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(
        replace(n, wide=True) if isinstance(n, RowTile) else replace(n, body=_widened(n.body)) if isinstance(n, Loop) else n for n in nodes
    )


def _tiles(nodes: tuple[Node, ...]) -> Iterator[RowTile]:
    for n in nodes:
        if isinstance(n, RowTile):
            yield n
        elif isinstance(n, Loop):
            yield from _tiles(n.body)

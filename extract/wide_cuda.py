"""Turns a launch of a GPU plan into one whose threads take several neighbours at once, by loads and stores of up to 128 bits.

An access is wide where the loop's index moves it by one element, nothing else can take it off its alignment, and no condition may keep
it from being made: then the neighbours lie side by side, from a multiple of their number. What that asks of the sizes and of where the
arrays start is the launch's guard; where a call does not meet it, the launch as it was runs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from extract.fuse import expressions_of
from extract.strides import coefficient
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Const, Expr, Fold, IndexRef, Load, Reduce, SizeRef, const
from kernel_ir.plan import Buffer, Combine, Guard, Launch, Let, Loop, LoopKind, Node, Store
from kernel_ir.ranges import polynomial
from kernel_ir.walk import children, free, substitute, subtrees

LANE_BYTES: Final = 16
"""What one thread moves at most by one instruction."""
Place = tuple[str, tuple[Expr, ...]]
"""An array and the indices at which it is met."""


@dataclass(frozen=True, slots=True)
class Wide:
    """The wide accesses of one loop: places that are loaded before its neighbours, those that are stored after them, and what they ask."""

    loads: tuple[Place, ...]
    stores: tuple[Place, ...]
    guard: Guard


def widened(launch: Launch, buffers: Mapping[str, Buffer], width: int) -> Launch | None:
    """The launch with `width` neighbours a thread, and itself for calls that do not fit; None where no access would be wide."""
    guards: list[Guard] = []
    body = _nodes(launch.body, buffers, width, guards, ())
    if not guards:
        return None
    # All are powers of two: a multiple of one is one of those below.
    most: dict[Expr, int] = {}
    for e, n in (m for g in guards for m in g.multiples):
        most[e] = max(n, most.get(e, 1))
    multiples = tuple(most.items())
    aligned = tuple(dict.fromkeys(a for g in guards for a in g.aligned))
    return replace(launch, body=body, guard=Guard(multiples, aligned=aligned), otherwise=launch)


def widths(launch: Launch, buffers: Mapping[str, Buffer]) -> tuple[int, ...]:
    """The numbers of neighbours worth trying: those that make the largest, or the smallest, of the elements met fill 128 bits."""
    sizes = {buffers[name].dtype.itemsize for name in _arrays(launch.body) if name in buffers}
    found = {min(8, LANE_BYTES // size) for size in (min(sizes, default=16), max(sizes, default=16))}
    return tuple(sorted(w for w in found if w > 1))


def wide_accesses(loop: Loop, width: int, buffers: Mapping[str, Buffer], rows: bool = True) -> Wide | None:
    """What is wide in a loop whose body is straight-line code; None where it is not, or nothing is.

    `rows`: whether a row of an array may start elsewhere than at a multiple of `width`.
    """
    if not all(isinstance(n, Let | Store | Combine) for n in loop.body):
        return None
    loads = dict.fromkeys(place for n in loop.body for e in expressions_of(n) for place in certain_loads(e))
    stores = dict.fromkeys((n.buffer, n.indices) for n in loop.body if isinstance(n, Store) and n.kind is None)
    every: dict[str, set[tuple[Expr, ...]]] = {}
    for array, indices in (*_met(loop.body), *stores):
        every.setdefault(array, set()).add(indices)
    written = {n.buffer for n in loop.body if isinstance(n, Store)}
    first = _stored_first(loop.body)
    kept: dict[Place, tuple[tuple[Expr, int], ...]] = {}
    for place in (*loads, *stores):
        array, indices = place
        # What is stored may be met at that place alone, and is loaded before it for certain or not at all.
        apart = array not in written or (len(every[array]) == 1 and place in stores and (place in first or place in loads))
        if array in buffers and buffers[array].space != "shared" and apart:
            asked = _asked(buffers[array], indices, loop.index, width, rows)
            if asked is not None:
                kept[place] = asked
    if not kept:
        return None
    guard = Guard(tuple(dict.fromkeys(m for asked in kept.values() for m in asked)), aligned=tuple(dict.fromkeys(a for a, _ in kept)))
    return Wide(tuple(p for p in loads if p in kept and p not in first), tuple(p for p in stores if p in kept), guard)


def wide_value(value: Expr, b: Binder, width: int, buffers: Mapping[str, Buffer]) -> Wide | None:
    """The wide loads of a value that is made for `width` neighbours of an index from each multiple of `width` on; None where none is."""
    found = wide_accesses(Loop(b.index, b.lo, b.hi, LoopKind.THREAD, (Let(b.index, value),), width), width, buffers)
    ends = _multiples((b.lo, b.hi), width)
    if found is None or ends is None:
        return None
    return replace(found, guard=replace(found.guard, multiples=tuple(dict.fromkeys((*ends, *found.guard.multiples)))))


def takes_rest(loops: tuple[Loop, ...], buffers: Mapping[str, Buffer]) -> bool:
    """Whether the points of the grid's loops are one row, so that those left over by wide threads can have threads of their own."""
    return (len(loops) == 1 and loops[0].lo == const(0, I64)) or flat(loops, buffers)


def flat(loops: tuple[Loop, ...], buffers: Mapping[str, Buffer]) -> bool:
    """Whether the loops run over all elements of every array that their body meets, in memory order, and need no index but for that."""
    names = tuple(IndexRef(loop.index) for loop in loops)
    if any(loop.lo != const(0, I64) for loop in loops):
        return False
    named = {n.name for n in names}
    body = loops[-1].body
    for array, indices in _met(body):
        if array not in buffers or not any(free(i) & named for i in indices):
            continue
        order, shape = buffers[array].order, buffers[array].shape
        if tuple(indices[d] for d in order) != names or tuple(shape[d] for d in order[1:]) != tuple(loop.hi for loop in loops[1:]):
            return False
    # An index that stands for more than a place would have to be divided out of the point's number.
    return not any(isinstance(x, IndexRef) and x in names for n in body for e in expressions_of(n) for x in _outside_loads(e))


def _nodes(
    nodes: tuple[Node, ...], buffers: Mapping[str, Buffer], width: int, guards: list[Guard], grid: tuple[Loop, ...] | None
) -> tuple[Node, ...]:
    """`grid`: the loops of the grid around the nodes, where nothing else is."""
    return tuple(_node(n, buffers, width, guards, grid if len(nodes) == 1 else None) for n in nodes)


def _node(node: Node, buffers: Mapping[str, Buffer], width: int, guards: list[Guard], grid: tuple[Loop, ...] | None) -> Node:
    if not isinstance(node, Loop):
        return node
    loops = None if grid is None or node.kind is not LoopKind.GRID else (*grid, node)
    innermost = loops is not None and not any(isinstance(n, Loop) and n.kind is LoopKind.GRID for n in node.body)
    if not innermost and node.kind is not LoopKind.THREAD:
        return replace(node, body=_nodes(node.body, buffers, width, guards, loops))
    guard = _guard(node, loops, buffers, width)
    if guard is None:
        return node
    guards.append(guard)
    return replace(node, step=width)


def _guard(loop: Loop, loops: tuple[Loop, ...] | None, buffers: Mapping[str, Buffer], width: int) -> Guard | None:
    """What a loop with `width` neighbours a thread asks; None where it stays as it is."""
    if loop.step != 1 or _points(loop) < width:
        return None
    rows = loops is None or not flat(loops, buffers)
    found = wide_accesses(loop, width, buffers, rows)
    if found is None:
        return None
    if loops is not None and takes_rest(loops, buffers):
        return found.guard
    ends = _multiples((loop.lo, loop.hi), width)
    return None if ends is None else replace(found.guard, multiples=tuple(dict.fromkeys((*ends, *found.guard.multiples))))


def _points(loop: Loop) -> float:
    """The most points that the loop can have, whatever the sizes: infinity where no number is seen."""
    gaps = [polynomial(hi) - polynomial(lo) for hi in _parts(loop.hi, "min") for lo in _parts(loop.lo, "max")]
    return min((sum(c for _, c in gap.terms) for gap in gaps if not gap.atoms), default=math.inf)


def _parts(e: Expr, op: str) -> Iterator[Expr]:
    """The arguments of nested calls of `op`; `e` itself where it is none."""
    if isinstance(e, Call) and e.op == op:
        for x in e.args:
            yield from _parts(x, op)
    else:
        yield e


def _asked(buffer: Buffer, indices: tuple[Expr, ...], index: str, width: int, rows: bool) -> tuple[tuple[Expr, int], ...] | None:
    """What must be multiples of what for the places from each multiple of `width` on to be aligned neighbours; None where nothing helps."""
    if not indices:
        return None
    *outer, last = (indices[d] for d in buffer.order)
    if any(index in free(i) for i in outer) or coefficient(last, index) != 1:
        return None
    rest = substitute(last, {index: const(0, I64)})
    row = () if not rows or all(i == const(0, I64) for i in outer) else (buffer.shape[buffer.order[-1]],)
    return _multiples((*_terms(rest), *row), width)


def _multiples(terms: tuple[Expr, ...], width: int) -> tuple[tuple[Expr, int], ...] | None:
    """The terms that a call must have as multiples of `width`; None where one is none, or depends on more than sizes."""
    found: dict[tuple[Expr, int], None] = {}
    for term in terms:
        match term:
            case Const(value):
                if int(value) % width:
                    return None
            case Call("mul", (Const(value), other)) | Call("mul", (other, Const(value))) if math.gcd(int(value), width) > 1:
                part = width // math.gcd(int(value), width)
                within = () if part == 1 else _multiples((other,), part)
                if within is None:
                    return None
                found |= dict.fromkeys(within)
            case Call("min" | "max" | "add" | "sub", ends) if any(free(x) for x in ends):
                within = _multiples(ends, width)
                if within is None:
                    return None
                found |= dict.fromkeys(within)
            case Call("mul", factors) if any(_multiples((x,), width) == () for x in factors):
                pass
            case _ if all(isinstance(x, SizeRef | Const | Call) for x in subtrees(term)):
                found[term, width] = None
            case _:
                return None
    return tuple(found)


def _terms(e: Expr) -> tuple[Expr, ...]:
    match e:
        case Call("add" | "sub", (a, b)):
            return (*_terms(a), *_terms(b))
        case _:
            return (e,)


def certain_loads(e: Expr) -> Iterator[Place]:
    """The loads that are made whatever the data: not those of one branch, of a default, or of a loop."""
    match e:
        case Load():
            if e.default is None:
                yield e.array, e.indices
            for i in e.indices:
                yield from certain_loads(i)
        case Call("select" | "and" | "or", (first, *_)):
            yield from certain_loads(first)
        case Reduce() | Fold():
            return
        case _:
            for child in children(e):
                yield from certain_loads(child)


def _met(nodes: tuple[Node, ...]) -> Iterator[Place]:
    """Every place that straight-line code loads or stores."""
    for n in nodes:
        if isinstance(n, Store):
            yield n.buffer, n.indices
        for e in expressions_of(n):
            yield from ((x.array, x.indices) for x in subtrees(e) if isinstance(x, Load))


def _outside_loads(e: Expr) -> Iterator[Expr]:
    yield e
    if not isinstance(e, Load):
        for child in children(e):
            yield from _outside_loads(child)


def _stored_first(nodes: tuple[Node, ...]) -> set[Place]:
    """The places that are stored before anything loads them."""
    loaded: set[Place] = set()
    first: set[Place] = set()
    for n in nodes:
        loaded |= {(x.array, x.indices) for e in expressions_of(n) for x in subtrees(e) if isinstance(x, Load)}
        if isinstance(n, Store) and (n.buffer, n.indices) not in loaded:
            first.add((n.buffer, n.indices))
    return first


def _arrays(nodes: tuple[Node, ...]) -> Iterator[str]:
    for n in nodes:
        if isinstance(n, Loop):
            yield from _arrays(n.body)
        yield from (array for array, _ in _met((n,)))

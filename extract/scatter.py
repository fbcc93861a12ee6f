"""Turns an accumulating statement (`h[e] += …`) into one launch whose threads add into copies of their own.

A term that a condition leaves out goes to a spare place behind the copy: nothing branches on data. A thread with small copies has several
and uses them in turns: an addition need not wait for the one before, which may have been to the same place.

    if 0 <= bin[i] < B: h[bin[i]] += w[i]   ⇒   h[bin[i] if 0 <= bin[i] < B else B] += w[i]
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Final

from extract.blocks import cut
from extract.fuse import Nodes, expressions_of
from extract.groups import Group, Member
from extract.lower import JOINS, Lowering
from extract.machine import Machine
from extract.names import Names
from extract.sizes import number
from extract.strides import Orders
from kernel_ir.dtypes import I64
from kernel_ir.nodes import ArrayType, Binder, Call, Const, Expr, IndexRef, Load, Local, Reduce, ReduceKind, const
from kernel_ir.plan import Launch, Let, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import free, map_children, substitute, subtrees

BLOCK: Final = 1024
"""Terms of a piece of work, where threads share one long loop."""
WAYS: Final = 2
"""Copies of a thread: more leave the streams of terms less of the cache."""

Ways = Callable[[ArrayType], int]
"""How many copies of a target a thread has."""


def ways(machine: Machine, sizes: Mapping[str, int]) -> Ways:
    """Two, where both fit a quarter of the first-level cache at these sizes, which another thread of the core may share."""
    room = machine.levels[0].bytes // 4

    def chosen(array: ArrayType) -> int:
        size = array.dtype.itemsize * prod(max(1, number(n, sizes)) for n in array.shape)
        return WAYS if WAYS * size <= room else 1

    return chosen


def scattered(name: str, group: Group, arrays: Mapping[str, ArrayType], names: Names, orders: Orders, ways: Ways) -> Launch:
    """The launch: its stores are `atomic`, which on a CPU means a private copy of the target for each thread, joined at the end."""
    stmt = group.members[0].stmt
    kind = JOINS[stmt.op]
    plain = replace(group, members=(Member(replace(stmt, op="="), ()),))
    lowering = Lowering(plain, arrays, names, orders)
    nodes = tuple(_joining(node, stmt.target, kind) for node in lowering.nodes())
    nodes = _unconditional(nodes, group.outer, arrays, orders, names)
    uneven = any(isinstance(x, Reduce) for x in subtrees(stmt.value))
    count = ways(arrays[stmt.target])
    if count > 1 and all(isinstance(node, Let | Store) for node in nodes):
        return Launch(name, _in_turns(group.outer, nodes, count, names), note="private copies, in turns")
    return Launch(name, _parallel(group.outer, nodes), note="private copies", deal="cyclic" if uneven else "block")


def _joining(node: Node, target: str, kind: ReduceKind) -> Node:
    match node:
        case Store(buffer=buffer) if buffer == target:
            return replace(node, kind=kind, atomic=True)
        case When():
            return replace(node, body=tuple(_joining(x, target, kind) for x in node.body))
        case _:
            return node


def _unconditional(nodes: Nodes, loops: tuple[Binder, ...], arrays: Mapping[str, ArrayType], orders: Orders, names: Names) -> Nodes:
    """The nodes without their condition, the terms that it leaves out going to the spare place; as they were where what it guards may not
    be read without it."""
    match nodes:
        case (*lets, When(condition=condition, body=(*inner, Store() as store), otherwise=())) if store.indices:
            pass
        case _:
            return nodes
    if not all(isinstance(node, Let) for node in (*lets, *inner)):
        return nodes
    ranges = {b.index: b for b in loops}
    loads = {x: None for node in (*inner, store) for e in (condition, *expressions_of(node)) for x in subtrees(e) if isinstance(x, Load)}
    if not all(_is_there(x, ranges, arrays) for x in loads):
        return nodes
    known: dict[Load, Local] = {x: Local(names.fresh(f"{x.array}_value"), x.dtype) for x in loads}

    def reread(e: Expr) -> Expr:
        return known[e] if isinstance(e, Load) else map_children(reread, e)

    (slowest, *_) = orders.get(store.buffer) or range(len(store.indices))
    held = Local(names.fresh("held"), condition.dtype)
    spare = (arrays[store.buffer].shape[d] if d == slowest else const(0, I64) for d in range(len(store.indices)))
    places = tuple(Call("select", (held, reread(i), other), I64) for i, other in zip(store.indices, spare, strict=True))
    return (
        *lets,
        *(Let(local.name, load) for load, local in known.items()),
        *(replace(node, value=reread(node.value)) for node in inner if isinstance(node, Let)),
        Let(held.name, reread(condition)),
        replace(store, indices=places, value=reread(store.value), spare=True),
    )


def _is_there(x: Load, ranges: Mapping[str, Binder], arrays: Mapping[str, ArrayType]) -> bool:
    """Whether a load reads an element that exists in every turn of the loops."""
    if x.default is not None:
        return False
    for i, extent in zip(x.indices, arrays[x.array].shape, strict=True):
        b = ranges.get(i.name) if isinstance(i, IndexRef) else None
        if b is None or b.hi != extent or not isinstance(b.lo, Const) or int(b.lo.value) < 0:
            return False
    return True


def _in_turns(outer: tuple[Binder, ...], nodes: Nodes, count: int, names: Names) -> Nodes:
    """The loops with the last one, or a piece of it that a thread takes, written out for the copies in turns."""
    *around, last = outer
    if not around:
        block, last, _ = cut(last, BLOCK, names)
        around = [block]
    end = names.fresh(f"{last.index}_whole")
    size = const(count, I64)
    whole = Call("floordiv", (Call("max", (Call("sub", (last.hi, last.lo), I64), const(0, I64)), I64), size), I64)
    body = (
        Let(end, Call("add", (last.lo, Call("mul", (whole, size), I64)), I64)),
        Loop(last.index, last.lo, Local(end, I64), LoopKind.SERIAL, _written_out(nodes, last.index, count, names), step=count),
        Loop(last.index, Local(end, I64), last.hi, LoopKind.SERIAL, nodes),
    )
    return _parallel(tuple(around), body)


def _written_out(nodes: Nodes, index: str, count: int, names: Names) -> Nodes:
    """The nodes for so many terms, all values before the first store."""
    lets: list[Node] = []
    stores: list[Node] = []
    for way in range(count):
        known: dict[str, Expr] = {index: Call("add", (IndexRef(index), const(way, I64)), I64)} if way else {}
        for node in nodes:
            if isinstance(node, Let):
                name = names.fresh(node.name)
                lets.append(Let(name, substitute(node.value, known)))
                known[node.name] = Local(name, node.value.dtype)
            elif isinstance(node, Store):
                at = tuple(substitute(i, known) for i in node.indices)
                stores.append(replace(node, indices=at, value=substitute(node.value, known), way=way))
    return (*lets, *stores)


def _parallel(outer: tuple[Binder, ...], nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Parallel over the first loop alone: later ranges may read it."""
    for n in reversed(range(len(outer))):
        b = outer[n]
        assert n or not free(b.lo) | free(b.hi)
        nodes = (Loop(b.index, b.lo, b.hi, LoopKind.SERIAL if n else LoopKind.PARALLEL, nodes),)
    return nodes

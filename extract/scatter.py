"""Turns an accumulating statement (`h[e] += …`) into one launch whose threads add into copies of their own."""

from collections.abc import Mapping
from dataclasses import replace

from extract.groups import Group, Member
from extract.lower import JOINS, Lowering
from extract.names import Names
from extract.strides import Orders
from kernel_ir.nodes import ArrayType, Binder, Reduce, ReduceKind
from kernel_ir.plan import Launch, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import free, subtrees


def scattered(name: str, group: Group, arrays: Mapping[str, ArrayType], names: Names, orders: Orders) -> Launch:
    """The launch: its stores are `atomic`, which on a CPU means a private copy of the target for each thread, joined at the end."""
    stmt = group.members[0].stmt
    kind = JOINS[stmt.op]
    plain = replace(group, members=(Member(replace(stmt, op="="), ()),))
    lowering = Lowering(plain, arrays, names, orders)
    nodes = tuple(_joining(node, stmt.target, kind) for node in lowering.nodes())
    uneven = any(isinstance(x, Reduce) for x in subtrees(stmt.value))
    return Launch(name, _parallel(group.outer, nodes), note="private copies", deal="cyclic" if uneven else "block")


def _joining(node: Node, target: str, kind: ReduceKind) -> Node:
    match node:
        case Store(buffer=buffer) if buffer == target:
            return replace(node, kind=kind, atomic=True)
        case When():
            return replace(node, body=tuple(_joining(x, target, kind) for x in node.body))
        case _:
            return node


def _parallel(outer: tuple[Binder, ...], nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Parallel over the first loop alone: later ranges may read it."""
    for n in reversed(range(len(outer))):
        b = outer[n]
        assert n or not free(b.lo) | free(b.hi)
        nodes = (Loop(b.index, b.lo, b.hi, LoopKind.SERIAL if n else LoopKind.PARALLEL, nodes),)
    return nodes

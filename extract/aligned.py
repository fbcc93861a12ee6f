"""Turns a kernel into one whose temporaries have their dimensions in the order of what reads them, so that they can share its loops.

s[b, h, i, j] = …                                 s[b, i, h, j] = …
z[b, h, i] = sum(j: exp(s[b, h, i, j]))       →   z[b, i, h] = sum(j: exp(s[b, i, h, j]))
o[b, i, h, d] = … / z[b, h, i]                    o[b, i, h, d] = … / z[b, i, h]
"""

from collections.abc import Collection
from dataclasses import replace

from kernel_ir.nodes import Assign, Expr, IndexRef, Kernel, Load, Param
from kernel_ir.walk import map_children, subtrees

_Order = dict[str, tuple[int, ...]]


def aligned(kernel: Kernel, fixed: Collection[str] = ()) -> Kernel:
    """The kernel with such temporaries, but for those that are `fixed`; itself where nothing is to be done."""
    body = [s for s in kernel.body if isinstance(s, Assign)]
    if len(body) != len(kernel.body) or any(s.op != "=" for s in body):
        return kernel
    free = {p.name for p in kernel.temps} - set(fixed)
    orders: _Order = {}
    for stmt in reversed(body):
        names = [i.name for i in _moved(stmt.target, stmt.indices, orders) if isinstance(i, IndexRef)]
        for x in subtrees(stmt.value):
            if isinstance(x, Load) and x.array in free and x.array not in orders:
                places = [names.index(i.name) if isinstance(i, IndexRef) and i.name in names else len(names) for i in x.indices]
                orders[x.array] = tuple(sorted(range(len(places)), key=lambda d, places=places: places[d]))
    orders = {name: order for name, order in orders.items() if list(order) != sorted(order)}
    if not orders:
        return kernel

    def visit(e: Expr) -> Expr:
        e = map_children(visit, e)
        return replace(e, indices=_moved(e.array, e.indices, orders)) if isinstance(e, Load) and e.array in orders else e

    def moved(s: Assign) -> Assign:
        where = None if s.where is None else visit(s.where)
        return replace(s, indices=_moved(s.target, s.indices, orders), value=visit(s.value), where=where)

    return replace(kernel, body=tuple(map(moved, body)), temps=tuple(_param(p, orders) for p in kernel.temps))


def _moved(name: str, indices: tuple[Expr, ...], orders: _Order) -> tuple[Expr, ...]:
    return tuple(indices[d] for d in orders[name]) if name in orders else indices


def _param(p: Param, orders: _Order) -> Param:
    return replace(p, type=replace(p.type, shape=_moved(p.name, p.type.shape, orders)))

"""Turns rows that share a row into several rows at once: what they share is loaded, and stored, once for all of them.

for each i:                                  for each four i:
  for each j: t += a[i, j] * x[j]              for each j: t0 += a[i, j] * x[j]; t1 += a[i + 1, j] * x[j]; …
  for each j: total[j] += a[i, j] * t    ⇒     for each j: total[j] += a[i, j] * t0 + a[i + 1, j] * t1 + …
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from extract.blocks import cut
from extract.fuse import Nodes, expressions_of, walk
from extract.machine import Machine
from extract.names import Names
from extract.sizes import number
from extract.strides import Orders, Stride, stride
from extract.tile import OPS
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, IndexRef, Load, Local, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.plan import Accumulator, Combine, Let, Loop, LoopKind, Node, Store
from kernel_ir.walk import free, substitute, subtrees

ROWS: Final = 4
"""Rows at once: as many streams from memory as a core's prefetchers follow with ease."""


def enough(machine: Machine, sizes: Mapping[str, int]) -> Callable[[Binder], bool]:
    """Whether a loop has rows enough that blocks of them keep all cores busy, by the sizes given."""
    return lambda rows: number(rows.hi, sizes) - number(rows.lo, sizes) >= 4 * ROWS * machine.units


def several_rows(outer: tuple[Binder, ...], nodes: Nodes, names: Names, orders: Orders) -> tuple[tuple[Binder, ...], Nodes]:
    """The loop over rows as one over blocks of rows, and what a block does; both as they were where rows share nothing to gain from."""
    (row, *more) = outer or (None,)
    if row is None or more or not _independent(nodes, row.index) or not (_adds(nodes, row.index) or _multiplies(nodes, row.index, orders)):
        return outer, nodes
    block, inner, _ = cut(row, ROWS, names)
    end = names.fresh(f"{row.index}_whole")
    size = const(ROWS, I64)
    whole = Call("floordiv", (Call("sub", (inner.hi, inner.lo), I64), size), I64)
    return (block,), (
        Let(end, Call("add", (inner.lo, Call("mul", (whole, size), I64)), I64)),
        Loop(row.index, inner.lo, Local(end, I64), LoopKind.SERIAL, _together(nodes, row.index, names), step=ROWS),
        Loop(row.index, Local(end, I64), inner.hi, LoopKind.SERIAL, nodes),
    )


def neighbouring_rows(nodes: Nodes, row: str, names: Names) -> Nodes | None:
    """What a loop whose turns are independent does for ROWS rows at once, where a row reads what the next one reads too, as a stencil does:
    that is then loaded once. None where no row does."""
    reads: dict[tuple[str, tuple[Expr, ...]], set[Expr]] = {}
    for node in walk(nodes):
        for x in (y for top in expressions_of(node) for y in subtrees(top) if isinstance(y, Load)):
            moving = [i for i in x.indices if row in free(i)]
            if len(moving) == 1:
                rest = tuple(IndexRef("·") if i is moving[0] else i for i in x.indices)
                reads.setdefault((x.array, rest), set()).add(moving[0])
    shared = any(len(places) > 1 for places in reads.values())
    if not shared:
        return None
    nodes = _values_first(nodes, names)
    return _together(nodes, row, names) if _independent(nodes, row) else None


def _values_first(nodes: Nodes, names: Names) -> Nodes:
    """The nodes as one thread runs them, each value named before it is stored: all rows' values are computed before the first is stored."""
    out: list[Node] = []
    for node in nodes:
        match node:
            case Loop():
                kind = LoopKind.SERIAL if node.kind is LoopKind.PARALLEL else node.kind
                out.append(replace(node, kind=kind, body=_values_first(node.body, names)))
            case Store(kind=None):
                name = names.fresh("value")
                out += [Let(name, node.value), replace(node, value=Local(name, node.value.dtype))]
            case _:
                out.append(node)
    return tuple(out)


def _independent(nodes: Nodes, row: str) -> bool:
    """Whether each node can run for several rows before the next one does."""
    named = {node.name for node in walk(nodes) if isinstance(node, Let | Accumulator)}
    for node in walk(nodes):
        match node:
            case Let() | Combine():
                pass
            case Accumulator():
                if node.kind in ("argmax", "argmin"):
                    return False
            case Loop():
                if node.kind is LoopKind.PARALLEL or (free(node.lo) | free(node.hi)) & {row, *named}:
                    return False
            case Store():
                place = _place(node)
                joins = node.kind is not None and node.atomic and REDUCTIONS[node.kind].combine is not None
                if place & named or (row not in place and not joins):
                    return False
            case _:
                return False
    return True


def _adds(nodes: Nodes, row: str) -> bool:
    """Whether an inner loop adds every row to the same places."""
    return any(isinstance(x, Store) and row not in _place(x) for node in nodes if isinstance(node, Loop) for x in walk(node.body))


def _multiplies(nodes: Nodes, row: str, orders: Orders) -> bool:
    """Whether one loop sums, along the row, products and the like with what all rows share: a matrix times a vector."""
    loops = [node for node in nodes if isinstance(node, Loop)]
    if len(loops) != 1 or any(isinstance(node, Combine) for node in nodes):
        return False
    (loop,) = loops
    terms = [node.value if isinstance(node, Let) else node.values[0] for node in loop.body if isinstance(node, Let | Combine)]
    sums = {node.name for node in nodes if isinstance(node, Accumulator) and node.kind == "sum" and node.dtype.is_float}
    if len(terms) != len(loop.body) or any(isinstance(node, Combine) and node.name not in sums for node in loop.body):
        return False
    parts = [x for term in terms for x in subtrees(term)]
    if any(isinstance(x, Call) and x.dtype.is_float and x.op not in OPS for x in parts):
        return False
    loads = [x for x in parts if isinstance(x, Load) and loop.index in free(x)]
    shared = [x for x in loads if row not in free(x)]
    return bool(shared) and len(shared) < len(loads) and all(stride(x.array, x.indices, loop.index, orders) is Stride.UNIT for x in loads)


def _place(store: Store) -> frozenset[str]:
    return frozenset[str]().union(*map(free, store.indices))


def _together(nodes: Nodes, row: str, names: Names) -> Nodes:
    """The nodes, each for all rows before the next."""
    return _copies(nodes, row, [{row: Call("add", (IndexRef(row), const(n, I64)), I64)} if n else {} for n in range(ROWS)], names)


def _copies(nodes: Nodes, row: str, at: list[dict[str, Expr]], names: Names) -> Nodes:
    """`at`: what the row's index and the values that it computes are called, in each row."""
    out: list[Node] = []
    for node in nodes:
        match node:
            case Let():
                for known in at:
                    name = names.fresh(node.name)
                    out.append(Let(name, substitute(node.value, known)))
                    known[node.name] = Local(name, node.value.dtype)
            case Accumulator():
                for known in at:
                    name = names.fresh(node.name)
                    out.append(replace(node, name=name))
                    known[node.name] = Local(name, node.dtype)
            case Combine():
                out += [replace(node, name=_name(known, node.name), values=_moved(node.values, known)) for known in at]
            case Loop():
                out.append(replace(node, body=_copies(node.body, row, at, names)))
            case Store() if row not in _place(node):
                assert node.kind is not None
                combine = REDUCTIONS[node.kind].combine
                assert combine is not None
                terms = [substitute(node.value, known) for known in at]
                while len(terms) > 1:
                    terms = [Call(combine, (a, b), a.dtype) for a, b in zip(terms[::2], terms[1::2], strict=True)]
                out.append(replace(node, value=terms[0]))
            case Store():
                out += [replace(node, indices=_moved(node.indices, known), value=substitute(node.value, known)) for known in at]
            case _:
                raise AssertionError(f"not in a row: {node}")
    return tuple(out)


def _moved(values: tuple[Expr, ...], known: Mapping[str, Expr]) -> tuple[Expr, ...]:
    return tuple(substitute(x, dict(known)) for x in values)


def _name(known: Mapping[str, Expr], name: str) -> str:
    local = known[name]
    assert isinstance(local, Local)
    return local.name

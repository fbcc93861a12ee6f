"""Turns rows that each add to one shared row into several rows at once: what they share is loaded, and stored, once for all of them.

for each i:                                  for each four i:
  for each j: t += a[i, j] * x[j]              for each j: t0 += a[i, j] * x[j]; t1 += a[i + 1, j] * x[j]; …
  for each j: total[j] += a[i, j] * t    ⇒     for each j: total[j] += a[i, j] * t0 + a[i + 1, j] * t1 + …
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from extract.blocks import cut
from extract.fuse import Nodes, walk
from extract.names import Names
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, IndexRef, Local, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.plan import Accumulator, Combine, Let, Loop, LoopKind, Node, Store
from kernel_ir.walk import free, substitute

ROWS: Final = 4
"""Rows at once: as many streams from memory as a core's prefetchers follow with ease."""


def several_rows(outer: tuple[Binder, ...], nodes: Nodes, names: Names) -> tuple[tuple[Binder, ...], Nodes]:
    """The loop over rows as one over blocks of rows, and what a block does; both as they were where no row adds to a shared one."""
    if len(outer) != 1 or not _fits(nodes, outer[0].index):
        return outer, nodes
    (row,) = outer
    block, inner, _ = cut(row, ROWS, names)
    end = names.fresh(f"{row.index}_whole")
    size = const(ROWS, I64)
    whole = Call("floordiv", (Call("sub", (inner.hi, inner.lo), I64), size), I64)
    return (block,), (
        Let(end, Call("add", (inner.lo, Call("mul", (whole, size), I64)), I64)),
        Loop(row.index, inner.lo, Local(end, I64), LoopKind.SERIAL, _together(nodes, row.index, names), step=ROWS),
        Loop(row.index, Local(end, I64), inner.hi, LoopKind.SERIAL, nodes),
    )


def _fits(nodes: Nodes, row: str) -> bool:
    """Whether each node can run for several rows before the next one does, and an inner loop adds all of them to the same places."""
    named = {node.name for node in walk(nodes) if isinstance(node, Let | Accumulator)}
    shared = False
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
                place = frozenset[str]().union(*map(free, node.indices))
                if place & named:
                    return False
                if row not in place:
                    if node.kind is None or not node.atomic or REDUCTIONS[node.kind].combine is None or node in nodes:
                        return False
                    shared = True
            case _:
                return False
    return shared


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
            case Store() if node.atomic and not any(row in free(i) for i in node.indices):
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

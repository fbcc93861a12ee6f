"""Turns a loop that adds one row after another into an accumulator row into one that adds several rows at once: fewer loads and stores."""

from dataclasses import replace
from typing import Final

from extract.fuse import Nodes, mapped
from extract.names import Names
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Call, Expr, IndexRef, Local, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.plan import FoldLoop, Let, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import free, substitute

ROWS: Final = 4
"""Rows at once: the accumulator is loaded and stored once for four multiply-adds."""


def jammed(nodes: Nodes, names: Names) -> Nodes:
    """The nodes with every such loop jammed; what is left over runs as before."""
    out: list[Node] = []
    for node in nodes:
        match node:
            case Loop() if _adds_rows(node):
                out.extend(_jam(node, names))
            case Loop() | FoldLoop():
                out.append(replace(node, body=jammed(node.body, names)))
            case When():
                out.append(replace(node, body=jammed(node.body, names), otherwise=jammed(node.otherwise, names)))
            case _:
                out.append(node)
    return tuple(out)


def _adds_rows(loop: Loop) -> bool:
    """Whether the body is values, then one vector loop of values and one joining store whose place does not move with the loop."""
    *lets, row = loop.body or (None,)
    if loop.kind is not LoopKind.SERIAL or not isinstance(row, Loop) or row.kind is not LoopKind.VECTOR:
        return False
    *inner, store = row.body
    if not isinstance(store, Store) or store.kind is None or REDUCTIONS[store.kind].combine is None:
        return False
    moving = {loop.index, *(x.name for x in (*lets, *inner) if isinstance(x, Let))}
    placed = frozenset[str]().union(*(free(i) for i in store.indices), free(row.lo), free(row.hi))
    return all(isinstance(x, Let) for x in (*lets, *inner)) and not placed & moving


def _jam(loop: Loop, names: Names) -> Nodes:
    end = names.fresh(f"{loop.index}_whole")
    span = loop.hi if loop.lo == const(0, I64) else Call("max", (const(0, I64), Call("sub", (loop.hi, loop.lo), I64)), I64)
    size = const(ROWS, I64)
    whole: Expr = Call("mul", (Call("floordiv", (span, size), I64), size), I64)
    if loop.lo != const(0, I64):
        whole = Call("add", (loop.lo, whole), I64)
    row = loop.body[-1]
    assert isinstance(row, Loop)
    store = row.body[-1]
    assert isinstance(store, Store) and store.kind is not None
    combine = REDUCTIONS[store.kind].combine
    assert combine is not None
    outer: list[Node] = []
    inner: list[Node] = []
    terms: list[Expr] = []
    for n in range(ROWS):
        at: dict[str, Expr] = {loop.index: Call("add", (IndexRef(loop.index), const(n, I64)), I64)} if n else {}
        for target, body in ((outer, loop.body[:-1]), (inner, row.body[:-1])):
            for let in body:
                assert isinstance(let, Let)
                name = names.fresh(let.name) if n else let.name
                target.append(Let(name, substitute(let.value, at)))
                if n:
                    at[let.name] = Local(name, let.value.dtype)
        terms.append(substitute(store.value, at))
    dtype = store.value.dtype
    pairs = [Call(combine, (terms[n], terms[n + 1]), dtype) for n in range(0, ROWS, 2)]
    total = Call(combine, (pairs[0], pairs[1]), dtype)
    body = (*outer, replace(row, body=(*inner, replace(store, value=total))))
    apart = {x.name: Local(names.fresh(x.name), x.value.dtype) for x in (*loop.body, *row.body) if isinstance(x, Let)}
    rest = tuple(_renamed(x, {k: v.name for k, v in apart.items()}) for x in mapped(loop.body, lambda e: substitute(e, apart)))
    return (
        Let(end, whole),
        replace(loop, hi=Local(end, I64), step=ROWS, body=body),
        replace(loop, lo=Local(end, I64), body=rest),
    )


def _renamed(node: Node, names: dict[str, str]) -> Node:
    match node:
        case Let(name=name) if name in names:
            return replace(node, name=names[name])
        case Loop():
            return replace(node, body=tuple(_renamed(x, names) for x in node.body))
        case _:
            return node

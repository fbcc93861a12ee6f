"""Turns loads of what the same turn of a loop has just stored into the value itself."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from extract.fuse import Access, Nodes, bodies_of, effects, mapped
from extract.names import Names
from kernel_ir.nodes import ArrayType, Const, Expr, Load, Local
from kernel_ir.plan import FoldLoop, Let, Loop, Node, Store, When
from kernel_ir.walk import map_children


def forwarded(nodes: Nodes, arrays: Mapping[str, ArrayType], names: Names) -> Nodes:
    """The nodes, each innermost loop's body with its stored values named where it loads them again. What narrower storage would round
    is loaded."""
    out: list[Node] = []
    for node in nodes:
        match node:
            case Loop() if not any(bodies_of(x) for x in node.body):
                out.append(replace(node, body=_body(node.body, arrays, names)))
            case Loop() | FoldLoop():
                out.append(replace(node, body=forwarded(node.body, arrays, names)))
            case When():
                body, otherwise = (forwarded(x, arrays, names) for x in (node.body, node.otherwise))
                out.append(replace(node, body=body, otherwise=otherwise))
            case _:
                out.append(node)
    return tuple(out)


def _body(body: Nodes, arrays: Mapping[str, ArrayType], names: Names) -> Nodes:
    known: dict[Access, Expr] = {}
    out: list[Node] = []
    for n, node in enumerate(body):
        (node,) = mapped((node,), partial(_reread, known=known))
        if not isinstance(node, Store):
            out.append(node)
            continue
        place = (node.buffer, node.indices)
        known = {at: value for at, value in known.items() if at[0] != node.buffer}
        again = place in effects(body[n + 1 :]).loads
        if again and node.kind is None and node.buffer in arrays and arrays[node.buffer].dtype == node.value.dtype:
            value = node.value
            if not isinstance(value, Local | Const):
                name = names.fresh(f"{node.buffer}_value")
                out.append(Let(name, value))
                value = Local(name, value.dtype)
            known[place] = value
            node = replace(node, value=value)
        out.append(node)
    return tuple(out)


def _reread(e: Expr, known: Mapping[Access, Expr]) -> Expr:
    if isinstance(e, Load) and (e.array, e.indices) in known:
        return known[e.array, e.indices]
    return map_children(lambda child: _reread(child, known), e)

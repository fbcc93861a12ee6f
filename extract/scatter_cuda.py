"""Turns a launch that accumulates by atomics into one whose blocks accumulate in shared memory first, and then add what they have.

Neighbouring threads then seldom wait for each other at the target, which all multiprocessors share. It asks that the target fits, which
is the launch's guard; where it does not, the launch as it was runs.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from extract.blocks import blocks_of
from extract.fuse import bodies_of, expressions_of
from extract.names import Names
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Call, Expr, IndexRef, Load, Local, const
from kernel_ir.plan import Alloc, Barrier, Buffer, FoldLoop, Guard, Launch, Let, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import subtrees

CELLS: Final = 4096
"""Elements of the target that a block holds: 16 or 32 KB, which leaves room for other blocks beside it."""
BLOCKS: Final = 512


def privatised(launch: Launch, target: Buffer, taken: set[str]) -> Launch | None:
    """The launch with a private copy of `target` a block; None where it does not add to it by atomics, once. `taken`: names in use."""
    loops: list[Loop] = []
    body = launch.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind is LoopKind.GRID:
        loops.append(body[0])
        body = body[0].body
    atomics = [s for s in _stores(body) if s.atomic]
    if not loops or len(atomics) != 1 or atomics[0].buffer != target.name or atomics[0].kind != "sum":
        return None
    names = Names(taken | names_of(launch.body))
    block, cell, copy = names.fresh("block"), names.fresh("cell"), names.fresh(f"{target.name}_private")
    count: Expr = const(1, I64)
    for extent in target.shape:
        count = extent if count == const(1, I64) else Call("mul", (count, extent), I64)
    # -0.0 is what any number may be added to without a change, its own sign included.
    zero = const(-0.0 if target.dtype.is_float else 0, target.dtype)
    at = (IndexRef(cell),)
    work = tuple(_redirected(n, target, copy) for n in body)
    for loop in reversed(loops[1:]):
        work = (replace(loop, kind=LoopKind.THREAD if loop is loops[-1] else LoopKind.SERIAL, body=work),)
    lo, hi = _share(loops[0], IndexRef(block))
    nodes: tuple[Node, ...] = (
        Alloc(Buffer(copy, target.dtype, (const(CELLS, I64),), "shared", (0,))),
        Loop(cell, const(0, I64), count, LoopKind.THREAD, (Store(copy, at, zero),)),
        Barrier(),
        Loop(loops[0].index, lo, hi, LoopKind.THREAD if len(loops) == 1 else LoopKind.SERIAL, work),
        Barrier(),
        Loop(
            cell, const(0, I64), count, LoopKind.THREAD,
            (Store(target.name, _unflattened(IndexRef(cell), target.shape), Load(copy, at, target.dtype), "sum", atomic=True),),
        ),
    )  # fmt: skip
    whole = (Loop(block, const(0, I64), const(BLOCKS, I64), LoopKind.BLOCK, nodes),)
    return replace(launch, body=whole, guard=Guard(at_most=((count, CELLS),)), otherwise=launch)


def _share(loop: Loop, block: Expr) -> tuple[Expr, Expr]:
    """The part of the loop's range that a block runs."""
    extent = Call("sub", (loop.hi, loop.lo), I64) if loop.lo != const(0, I64) else loop.hi
    chunk = blocks_of(extent, BLOCKS)

    def start(number: Expr) -> Expr:
        offset = Call("mul", (number, chunk), I64)
        return offset if loop.lo == const(0, I64) else Call("add", (loop.lo, offset), I64)

    return start(block), Call("min", (loop.hi, start(Call("add", (block, const(1, I64)), I64))), I64)


def _flattened(indices: tuple[Expr, ...], shape: tuple[Expr, ...]) -> Expr:
    place: Expr = indices[0] if indices else const(0, I64)
    for index, extent in zip(indices[1:], shape[1:], strict=True):
        place = Call("add", (Call("mul", (place, extent), I64), index), I64)
    return place


def _unflattened(cell: Expr, shape: tuple[Expr, ...]) -> tuple[Expr, ...]:
    indices: list[Expr] = []
    for extent in reversed(shape[1:]):
        indices.append(Call("mod", (cell, extent), I64))
        cell = Call("floordiv", (cell, extent), I64)
    return (cell, *reversed(indices)) if shape else ()


def _redirected(node: Node, target: Buffer, copy: str) -> Node:
    match node:
        case Store() if node.atomic:
            return replace(node, buffer=copy, indices=(_flattened(node.indices, target.shape),))
        case When() | Loop():
            return replace(node, body=tuple(_redirected(n, target, copy) for n in node.body))
        case _:
            return node


def _stores(nodes: tuple[Node, ...]) -> Iterator[Store]:
    for n in nodes:
        if isinstance(n, Store):
            yield n
        for body in bodies_of(n):
            yield from _stores(body)


def names_of(nodes: tuple[Node, ...]) -> set[str]:
    """Every index and scalar of the nodes."""
    found: set[str] = set()
    for n in nodes:
        match n:
            case Loop(index=name) | FoldLoop(index=name) | Let(name=name):
                found.add(name)
            case _:
                pass
        for e in expressions_of(n):
            found |= {x.name for x in subtrees(e) if isinstance(x, IndexRef | Local)}
        for body in bodies_of(n):
            found |= names_of(body)
    return found

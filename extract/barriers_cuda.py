"""Turns a launch of a GPU plan into one without the barriers between phases in which each thread meets only elements that are its own.

    for j: t[j] = exp(x[j])      barrier      sum(j: t[j])      →      no barrier: thread j reads what it wrote itself

Two accesses to an array are of one thread where both are in loops that the team shares alike (same range, same neighbours a thread) and
one dimension has the loop's index itself: then equal elements mean equal iterations, and those run in the same thread, in order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from extract.fuse import bodies_of, expressions_of
from kernel_ir.nodes import Expr, IndexRef, Load
from kernel_ir.plan import Barrier, BlockTile, Join, Launch, Loop, LoopKind, Node, RepeatLaunch, RowTile, Step, Store
from kernel_ir.walk import subtrees


@dataclass(frozen=True, slots=True)
class _Access:
    """An array and indices, whether they are written, and the loop around them that the team shares."""

    array: str
    indices: tuple[Expr, ...]
    written: bool
    loop: Loop | None

    def own(self) -> set[tuple[int, Expr, Expr, int]]:
        """Dimensions whose index is the shared loop's, with how that loop is dealt out."""
        loop = self.loop
        if loop is None:
            return set()
        return {(d, loop.lo, loop.hi, loop.step) for d, i in enumerate(self.indices) if i == IndexRef(loop.index)}


def lean(step: Step) -> Step:
    """The step, and those that it repeats or that stand in for it, without barriers that order nothing."""
    if isinstance(step, RepeatLaunch):
        return replace(step, body=tuple(map(lean, step.body)))
    return _lean(step)


def _lean(launch: Launch) -> Launch:
    return replace(launch, body=_grid(launch.body), otherwise=None if launch.otherwise is None else _lean(launch.otherwise))


def _grid(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    match nodes:
        case (Loop(kind=LoopKind.BLOCK | LoopKind.WARP) as loop,):
            return (replace(loop, body=_grid(loop.body)),)
        case _:
            return _straight(nodes)


def _straight(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Nodes that a team runs once, in order."""
    kept: list[Node] = []
    before: list[Node] = []
    for number, node in enumerate(nodes):
        if isinstance(node, Barrier):
            if _apart(before, _until_barrier(nodes[number + 1 :])):
                continue
            before = []
        elif _orders(node):
            before = []
        else:
            before.append(node)
        kept.append(node)
    return tuple(kept)


def _orders(node: Node) -> bool:
    """Whether all threads of a block meet in the node: a join does so through shared memory."""
    return isinstance(node, Barrier | BlockTile | RowTile) or (isinstance(node, Join) and node.scope == "block")


def _until_barrier(nodes: tuple[Node, ...]) -> list[Node]:
    found: list[Node] = []
    for node in nodes:
        if _orders(node):
            break
        found.append(node)
    return found


def _apart(before: list[Node], after: list[Node]) -> bool:
    """Whether no thread meets afterwards what another one wrote before, or writes what another one met."""
    first = [a for n in before for a in _accesses(n, None)]
    return all(
        a.own() & b.own() for n in after for b in _accesses(n, None) for a in first if a.array == b.array and (a.written or b.written)
    )


def _accesses(node: Node, loop: Loop | None) -> Iterator[_Access]:
    if isinstance(node, Loop) and node.kind is LoopKind.THREAD:
        loop = node
    for e in expressions_of(node):
        yield from (_Access(x.array, x.indices, False, loop) for x in subtrees(e) if isinstance(x, Load))
    if isinstance(node, Store):
        yield _Access(node.buffer, node.indices, True, loop)
    for body in bodies_of(node):
        for inner in body:
            yield from _accesses(inner, loop)

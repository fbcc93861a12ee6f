"""Finds two launches that sweep over the same rows and read each other's rows nearby: one pass over memory can do both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from extract.fuse import expressions_of, holds_loop, walk
from extract.strides import coefficient
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, const
from kernel_ir.plan import Buffer, Launch, Loop, LoopKind, Step, Store, Tile
from kernel_ir.walk import subtrees

FARTHEST: Final = 4
"""Rows that the second sweep may stay behind the first."""


@dataclass(frozen=True, slots=True)
class Sweeps:
    """Two launches over the same rows. Row r of the second may run once the first is at row r + reach, in a thread that has both rows'
    neighbours as well: then no thread reads what another one writes. What is near another thread's rows comes afterwards."""

    first: Launch
    second: Launch
    loops: tuple[Loop, Loop]
    reach: int
    written: frozenset[str]


def sweeps(first: Step, second: Step, buffers: Mapping[str, Buffer]) -> Sweeps | None:
    """The two as one pass, None where that is not seen to be right."""
    if not (isinstance(first, Launch) and isinstance(second, Launch)) or first.guard or second.guard:
        return None
    a, b = _rows(first), _rows(second)
    if a is None or b is None or (a.lo, a.hi) != (b.lo, b.hi) or any(isinstance(x, Load) for e in (a.lo, a.hi) for x in subtrees(e)):
        return None
    by_a, by_b = _written(a, buffers), _written(b, buffers)
    if by_a is None or by_b is None or by_a & by_b:
        return None
    loads = _loads(a), _loads(b)
    reach = 0
    for loop, own, others, mine in ((a, by_a, by_b, loads[0]), (b, by_b, by_a, loads[1])):
        for x in mine:
            if x.array not in own | others:
                continue
            away = _away(x.indices[buffers[x.array].order[0]], loop.index)
            if away is None or away > FARTHEST or (away and x.array in own):
                return None
            reach = max(reach, away)
    return Sweeps(first, second, (a, b), reach, by_a | by_b) if reach else None


def _rows(launch: Launch) -> Loop | None:
    """The loop over rows of a launch that is nothing else."""
    (*_, loop) = launch.body
    plain = len(launch.body) == 1 and isinstance(loop, Loop) and loop.kind is LoopKind.PARALLEL and loop.step == 1
    rows = plain and isinstance(loop, Loop) and holds_loop(loop)  # a call for each row is nothing beside its points
    return loop if rows and isinstance(loop, Loop) and launch.deal == "block" else None


def _written(loop: Loop, buffers: Mapping[str, Buffer]) -> frozenset[str] | None:
    """The arrays of which each turn writes its own row; None if it writes otherwise."""
    found: set[str] = set()
    for node in walk(loop.body):
        if isinstance(node, Tile):
            return None
        if isinstance(node, Store):
            order = buffers[node.buffer].order
            if node.kind is not None or not order or node.indices[order[0]] != IndexRef(loop.index):
                return None
            found.add(node.buffer)
    return frozenset(found)


def _loads(loop: Loop) -> list[Load]:
    return [x for node in walk(loop.body) for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Load)]


def _away(e: Expr, index: str) -> int | None:
    """How far from row `index` the row `e` is: a constant distance."""
    if e == IndexRef(index):
        return 0
    if isinstance(e, Call) and e.op in ("add", "sub") and coefficient(e, index) == 1:
        distances = [x for x in e.args if isinstance(x, Const)]
        if len(distances) == 1 and IndexRef(index) in e.args:
            return abs(int(distances[0].value))
    return None


def offset(e: Expr, text: str) -> str:
    """`e`, the start of a range, as a term to add."""
    return "" if e == const(0, I64) else f" + {text}"

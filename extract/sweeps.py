"""Finds two launches that sweep over the same rows and read each other's rows nearby: one pass over memory can do both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from extract.fuse import Nodes, expressions_of, holds_loop, walk
from extract.names import Names
from extract.patch import moved
from extract.rows import ROWS, neighbouring_rows
from extract.strides import coefficient
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load
from kernel_ir.ops import OPS, SLOW
from kernel_ir.plan import Buffer, Launch, Let, Loop, LoopKind, Step, Store, Tile
from kernel_ir.walk import free, subtrees

FARTHEST: Final = 4
"""Rows that the second sweep may stay behind the first."""
MOST: Final = 8
"""Sweeps of a pass, at most."""
CACHED: Final = 512 << 10
"""Bytes of rows that stay in a thread's second-level cache beside all else."""
WORTH: Final = 12
"""Rows of a pass, at least, for each row that is done afterwards in the last of its sweeps: then few threads wait long for others."""


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


def swept(steps: Sequence[Step], buffers: Mapping[str, Buffer], index: str | None = None) -> Sweeps | None:
    """The steps of a `repeat` (its index, if any) as sweeps in turn; None where they are not, or read how many there were."""
    match steps:
        case (first, second):
            both = sweeps(first, second, buffers)
        case _:
            both = None
    if both is None or index is None:
        return both
    tops = (top for loop in both.loops for node in walk((loop,)) for top in expressions_of(node))
    return None if any(index in free(top) for top in tops) else both


def in_a_pass(both: Sweeps, rows: int, bytes_: float, parts: int) -> int:
    """How many sweeps `backends/cpu_skew.py` does in one pass over so many rows, of so many bytes in all, by so many threads."""
    most = min(MOST, int(CACHED // (both.reach * (bytes_ // max(1, rows) + 1))))
    if parts > 1:
        most = min(most, 1 + rows // (WORTH * both.reach * (parts - 1)))
    return max(2, most // 2 * 2)


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


def rows_at_once(launch: Launch, loop: Loop, taken: Collection[str]) -> Nodes | None:
    """What ROWS neighbouring rows of a sweep do at once; None where they share no loads, or functions take the time and not loads."""
    names = {*taken, *(n.name for n in walk(loop.body) if isinstance(n, Let))}
    return None if launch.patch or computes(launch) else neighbouring_rows(loop.body, loop.index, Names(names))


def shared_by_rows(launch: Launch, loop: Loop) -> float:
    """The share of the loads of single rows that is left where a sweep does several at once."""
    if rows_at_once(launch, loop, ()) is None:
        return 1.0
    alone = {(x.array, x.indices) for x in _loads(loop)}
    together = {(array, tuple(moved(i, {loop.index: n}) for i in indices)) for array, indices in alone for n in range(ROWS)}
    return len(together) / (ROWS * max(1, len(alone)))


def computes(launch: Launch) -> bool:
    """Whether a launch has work that gains from wide vectors; plain loads and stores of stencils do not: more of them cross lines."""
    values = (x for node in walk(launch.body) for top in expressions_of(node) for x in subtrees(top))
    return any(isinstance(x, Call) and x.dtype.is_float and OPS[x.op].unit in SLOW for x in values)

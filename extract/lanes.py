"""Turns points that each run a fold until a condition fails into blocks of lanes that step together: SIMD for loops of unknown length."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from extract.blocks import blocks_of
from extract.fuse import Nodes
from extract.groups import Group
from extract.names import Names
from kernel_ir.dtypes import BOOL, I64, DType
from kernel_ir.nodes import Assign, Binder, Call, Expr, Fold, IndexRef, Load, Local, Reduce, const
from kernel_ir.plan import Accumulator, Buffer, Combine, Leave, Let, Loop, LoopKind, Node, Store
from kernel_ir.walk import free, map_children, substitute, subtrees

LANES: Final = 32
"""Points a block: four AVX2 vectors of f32, eight of f64, enough to hide the latency of a step."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """The nodes for one block (its number bound by `block`), and the buffers that hold its lanes."""

    block: Binder
    nodes: Nodes
    buffers: tuple[Buffer, ...]


def stepped(group: Group, names: Names) -> Stepped | None:
    """The block for a group whose only member is one fold with a condition at each point; None where it is not that."""
    if len(group.members) != 1 or not group.outer or group.members[0].inner:
        return None
    stmt = group.members[0].stmt
    folds = [x for x in subtrees(stmt.value) if isinstance(x, Fold)]
    if stmt.where is not None or len(folds) != 1 or any(isinstance(x, Reduce) for x in subtrees(stmt.value)):
        return None
    (fold,), row = folds, group.outer[-1]
    bounds = free(row.lo) | free(row.hi) | free(fold.binder.lo) | free(fold.binder.hi)
    if fold.condition is None or not steps_alone(fold) or row.lo != const(0, I64) or bounds & {b.index for b in group.outer}:
        return None
    return _Block(stmt, fold, row, names).made()


class _Block:
    def __init__(self, stmt: Assign, fold: Fold, row: Binder, names: Names) -> None:
        self.stmt, self.fold, self.row, self.names = stmt, fold, row, names
        self.block = names.fresh(f"{row.index}_block")
        self.lane = names.fresh("lane")
        self.start = Call("mul", (IndexRef(self.block), const(LANES, I64)), I64)
        self.buffers: list[Buffer] = []

    def made(self) -> Stepped:
        fold, row = self.fold, self.row
        lane = (IndexRef(self.lane),)
        last: Expr = Call("sub", (row.hi, const(1, I64)), I64)
        # Lanes past the end repeat the last point; only the points that exist are stored.
        point = Call("min", (Call("add", (self.start, IndexRef(self.lane)), I64), last), I64)
        first: list[Node] = []
        kept: dict[Expr, Expr] = {}
        for x in (y for e in (*(c.update for c in fold.carries), self._condition()) for y in subtrees(e)):
            if isinstance(x, Load) and row.index in free(x) and free(x) <= free(self.fold) and x not in kept:
                name = self._buffer("at", x.dtype)
                first.append(Store(name, lane, substitute(x, {row.index: point})))
                kept[x] = Load(name, lane, x.dtype)
        carried: dict[str, Expr] = {}
        for c in fold.carries:
            name = self._buffer(c.name, c.init.dtype)
            first.append(Store(name, lane, substitute(c.init, {row.index: point})))
            carried[c.name] = Load(name, lane, c.init.dtype)

        def at_lane(e: Expr) -> Expr:
            if e in kept:
                return kept[e]
            return map_children(at_lane, e)

        def inside(e: Expr) -> Expr:
            return substitute(substitute(at_lane(e), carried), {row.index: point})

        step = self._step(inside, carried, lane)
        finished = _replaced(self.stmt.value, fold, Load(self._name_of(carried, fold.result), (self._offset(),), fold.dtype))
        end = Call("min", (Call("add", (self.start, const(LANES, I64)), I64), row.hi), I64)
        nodes: Nodes = (
            Loop(self.lane, const(0, I64), const(LANES, I64), LoopKind.VECTOR, tuple(first)),
            Loop(fold.binder.index, fold.binder.lo, fold.binder.hi, LoopKind.SERIAL, step),
            Loop(row.index, self.start, end, LoopKind.VECTOR, (Store(self.stmt.target, self.stmt.indices, finished),)),
        )
        return Stepped(Binder(self.block, const(0, I64), blocks_of(row.hi, LANES)), nodes, tuple(self.buffers))

    def _step(self, inside: Callable[[Expr], Expr], carried: Mapping[str, Expr], lane: tuple[Expr, ...]) -> Nodes:
        """One step of every lane: those whose condition holds move on, the others keep what they have."""
        fold = self.fold
        going, some = self.names.fresh("going"), self.names.fresh("some")
        body: list[Node] = [Let(going, inside(self._condition()))]
        moved: list[tuple[str, Expr]] = []
        for c in fold.carries:
            name = self.names.fresh(f"{c.name}_next")
            old = carried[c.name]
            body.append(Let(name, Call("select", (Local(going, BOOL), inside(c.update), old), old.dtype)))
            moved.append((c.name, Local(name, old.dtype)))
        body += [Store(self._name_of(carried, name), lane, value) for name, value in moved]
        body.append(Combine(some, "any", (Local(going, BOOL),)))
        return (
            Accumulator(some, "any", BOOL),
            Loop(self.lane, const(0, I64), const(LANES, I64), LoopKind.VECTOR, tuple(body)),
            Leave(Call("not", (Local(some, BOOL),), BOOL)),
        )

    def _condition(self) -> Expr:
        assert self.fold.condition is not None
        return self.fold.condition

    def _offset(self) -> Expr:
        return Call("sub", (IndexRef(self.row.index), self.start), I64)

    def _buffer(self, name: str, dtype: DType) -> str:
        fresh = self.names.fresh(f"{name}_lanes")
        self.buffers.append(Buffer(fresh, dtype, (const(LANES, I64),), "local", (0,)))
        return fresh

    @staticmethod
    def _name_of(carried: Mapping[str, Expr], name: str) -> str:
        load = carried[name]
        assert isinstance(load, Load)
        return load.array


def steps_alone(fold: Fold) -> bool:
    """Whether a lane that stopped stays stopped: its condition reads nothing that changes but what it carries."""
    assert fold.condition is not None
    return fold.binder.index not in free(fold.condition)


def _replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    return new if e == old else map_children(lambda child: _replaced(child, old, new), e)

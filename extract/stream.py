"""Turns stores of results that no cache holds into streams past the caches: a piece of a row is computed into a line of scratch, then
written in whole lines of memory, which are not read before.

    for j in 0..N: y[i, j] = f(x[i, j])   ⇒   for each piece: for j in the piece: line[j - start] = f(x[i, j]);  y[i, piece] = line

An ordinary store reads the line of memory that it writes to, and what it leaves in the cache is gone before its reader comes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Final

from extract.blocks import cut
from extract.fuse import Nodes, bodies_of, expressions_of, holds_loop, walk
from extract.machine import Machine
from extract.names import Names
from extract.sizes import number
from extract.strides import Stride, stride
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Const, IndexRef, Load, Local, const
from kernel_ir.plan import (
    Accumulator,
    Alloc,
    Buffer,
    FoldLoop,
    Leave,
    Let,
    Loop,
    LoopKind,
    Matmul,
    Node,
    Plan,
    RepeatLaunch,
    Step,
    Store,
    Stream,
    Tile,
    Turn,
    When,
)
from kernel_ir.walk import subtrees

PIECE: Final = 2048
"""Bytes of a piece: few enough to stay in the first-level cache beside what it is computed of."""
WHOLE: Final = 2 * PIECE
"""Bytes up to which a loop of known length is one piece."""
SHORT: Final = 4
"""Cache lines of a row under which its ends, which are stored as ever, weigh too much."""
CHOICE: Final = ("stores", "past caches")

Far = Callable[[Buffer], bool]
Around = Sequence[Loop | Let]
"""The loops around a node, and the values that have names there, outermost first."""
Wide = Callable[[Loop, Buffer, Around], bool]


def far(machine: Machine, sizes: Mapping[str, int]) -> Far:
    """Whether an array, at these sizes, leaves no room for others in the last cache."""
    room = machine.levels[-2].bytes // 2
    return lambda b: b.dtype.itemsize * prod(max(0, number(n, sizes)) for n in b.shape) >= room


def anywhere(b: Buffer) -> bool:
    """Any array, for a schedule that may have been made for other sizes."""
    return bool(b.shape)


def wide(machine: Machine, sizes: Mapping[str, int]) -> Wide:
    """Whether a loop, at these sizes and in the middle of the loops around it, stores enough lines of a buffer in a row."""

    def enough(loop: Loop, b: Buffer, around: Around) -> bool:
        there = dict(sizes)
        for node in around:
            if isinstance(node, Let):
                there[node.name] = number(node.value, there)
            else:
                lo, hi = number(node.lo, there), number(node.hi, there)
                there[node.index] = max(lo, (lo + hi - 1) // 2)
        return (number(loop.hi, there) - number(loop.lo, there)) * b.dtype.itemsize >= SHORT * machine.line_bytes

    return enough


def streamed(plan: Plan, far: Far, wide: Wide) -> Plan | None:
    """The plan with results that are far written past the caches; None where there are none that only loops along memory write."""
    writes = {b.name: b for b in plan.buffers if b.space == "output" and far(b)} if plan.target == "cpu" else {}
    for step in plan.steps:
        for name in _kept(step):
            writes.pop(name, None)
    if not writes:
        return None
    streams = _Streams(writes, {b.name: b for b in plan.buffers}, Names(names_of(plan)), wide)
    steps = tuple(streams.step(step) for step in plan.steps)
    return None if steps == plan.steps else replace(plan, steps=steps, schedule=(*plan.schedule, CHOICE))


def _kept(step: Step) -> set[str]:
    """Arrays that a step reads while it writes them, joins to, or writes again and again or otherwise than by plain stores. (What another
    launch reads is so large that it must come from memory.)"""
    if isinstance(step, RepeatLaunch):
        return _touched(step)
    found: set[str] = set()
    stored = {node.buffer for node in walk(step.body) if isinstance(node, Store)}
    for node in walk(step.body):
        found |= {x.array for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Load) and x.array in stored}
        match node:
            case Store() if node.kind is not None or node.atomic:
                found.add(node.buffer)
            case Tile() | Turn():
                found.add(node.buffer)
            case Matmul():
                found |= {node.out[0], node.a[0], node.b[0]}
            case _:
                pass
    return found


def _touched(step: Step) -> set[str]:
    if isinstance(step, RepeatLaunch):
        return {name for one in step.body for name in _touched(one)}
    loads = {x.array for node in walk(step.body) for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Load)}
    return loads | {node.buffer for node in walk(step.body) if isinstance(node, Store | Tile | Turn)}


def names_of(plan: Plan) -> set[str]:
    """Every name that a plan uses."""
    kernel = plan.kernel
    found = {*kernel.arrays, *kernel.sizes, "parts", "part", kernel.name, *(p.name for p in kernel.params), *(b.name for b in plan.buffers)}
    todo = list(plan.steps)
    while todo:
        step = todo.pop()
        if isinstance(step, RepeatLaunch):
            todo += step.body
            found |= {step.index} if step.index else set()
            continue
        found.add(step.name)
        for node in walk(step.body):
            match node:
                case Let(name=name) | Accumulator(name=name):
                    found |= {name, f"{name}_at"}
                case Loop(index=index):
                    found.add(index)
                case FoldLoop():
                    found |= {node.index, *(c.name for c in node.carries)}
                case Alloc(buffer=buffer):
                    found.add(buffer.name)
                case _:
                    pass
    return found


@dataclass(slots=True)
class _Streams:
    """Rewrites the launches of one plan."""

    writes: Mapping[str, Buffer]
    buffers: Mapping[str, Buffer]
    names: Names
    wide: Wide
    lines: list[Buffer] = field(default_factory=list[Buffer])
    around: list[Loop | Let] = field(default_factory=list[Loop | Let])

    def step(self, step: Step) -> Step:
        if isinstance(step, RepeatLaunch):
            return step
        self.lines = []
        body = self._nodes(step.body)
        return step if body == step.body else replace(step, body=(*(Alloc(b) for b in self.lines), *body))

    def _nodes(self, nodes: Nodes) -> Nodes:
        outside = len(self.around)
        found = tuple(made for node in nodes for made in self._node(node))
        del self.around[outside:]
        return found

    def _node(self, node: Node) -> Nodes:
        match node:
            case Loop() if not holds_loop(node):
                return self._loop(node)
            case Loop():
                self.around.append(node)
                inside = self._nodes(node.body)
                self.around.pop()
                return (replace(node, body=inside),)
            case Let() if node.value.dtype == I64:
                self.around.append(node)
                return (node,)
            case When():
                return (replace(node, body=self._nodes(node.body), otherwise=self._nodes(node.otherwise)),)
            case _:
                return (node,)

    def _loop(self, loop: Loop) -> Nodes:
        stores = self._stores(loop)
        if not stores:
            return (loop,)
        parallel, known = loop.kind is LoopKind.PARALLEL, _length(loop)
        size = max(self.writes[s.buffer].dtype.itemsize for s in stores)
        whole = Binder(loop.index, loop.lo, loop.hi)
        copy = _copied(loop, stores[0], self.buffers)
        if copy is not None and not parallel:
            return (Stream(stores[0].buffer, stores[0].indices, copy, whole),)
        if not parallel and known is not None and known * size <= WHOLE:
            return self._piece(loop, stores, whole, known, copy)
        length = PIECE // size
        outer, inner, _ = cut(whole, length, self.names)
        kind = LoopKind.PARALLEL if parallel else LoopKind.SERIAL
        return (Loop(outer.index, outer.lo, outer.hi, kind, self._piece(loop, stores, inner, length, copy)),)

    def _piece(self, loop: Loop, stores: list[Store], piece: Binder, length: int, copy: Load | None) -> Nodes:
        """What one piece of a loop computes, and its streams."""
        if copy is not None:
            return (Stream(stores[0].buffer, stores[0].indices, copy, piece),)
        lines = {s: self._line(s, length) for s in stores}
        at = (Call("sub", (IndexRef(loop.index), piece.lo), I64),)
        inside = tuple(Store(lines[n].name, at, n.value) if isinstance(n, Store) and n in lines else n for n in loop.body)
        kind = LoopKind.VECTOR if loop.kind is LoopKind.PARALLEL else loop.kind
        ends = (Stream(s.buffer, s.indices, Load(line.name, at, s.value.dtype), piece) for s, line in lines.items())
        return (Loop(loop.index, piece.lo, piece.hi, kind, inside), *ends)

    def _line(self, s: Store, length: int) -> Buffer:
        line = Buffer(self.names.fresh(f"{s.buffer}_line"), self.writes[s.buffer].dtype, (const(length, I64),), "local", (0,))
        self.lines.append(line)
        return line

    def _stores(self, loop: Loop) -> list[Store]:
        """The stores of a loop that can be streams: certain, along memory, the only ones to their places."""
        if loop.step != 1 or any(isinstance(n, Leave) for n in loop.body):
            return []
        made = {name for n in loop.body if isinstance(n, Let | Accumulator) for name in (n.name, f"{n.name}_at")}
        guarded = {n.buffer for top in loop.body for body in bodies_of(top) for n in walk(body) if isinstance(n, Store)}
        found: list[Store] = []
        for n in loop.body:
            if not isinstance(n, Store) or n.buffer not in self.writes or n.buffer in guarded:
                continue
            b = self.writes[n.buffer]
            steady = not any(isinstance(x, Local) and x.name in made for i in n.indices for x in subtrees(i))
            if steady and stride(b.name, n.indices, loop.index, {b.name: b.order}) is Stride.UNIT and self.wide(loop, b, self.around):
                found.append(n)
        for name in {s.buffer for s in found}:
            mine = [s for s in found if s.buffer == name]
            along = {s.indices[self.writes[name].order[-1]] for s in mine}
            every = sum(isinstance(n, Store) and n.buffer == name for n in loop.body)
            if len(along) > 1 or len({s.indices for s in mine}) < len(mine) or every > len(mine):
                found = [s for s in found if s.buffer != name]
        return found


def _length(loop: Loop) -> int | None:
    """The most turns of a loop over a block, `start..min(start + length, end)`."""
    match loop.hi:
        case Call("min", (Call("add", (start, Const(value))), _)) if start == loop.lo:
            return int(value)
        case _:
            return None


def _copied(loop: Loop, store: Store, buffers: Mapping[str, Buffer]) -> Load | None:
    """What a loop copies as it is, if that is all that it does."""
    match store.value:
        case Load(array=array, default=None) as load if len(loop.body) == 1 and array in buffers:
            b, moves = buffers[array], stride(array, load.indices, loop.index, {array: buffers[array].order})
            return load if b.dtype == buffers[store.buffer].dtype and moves is Stride.UNIT else None
        case _:
            return None

"""Turns the accesses of one CPU launch into the bytes that each level of memory must deliver and take: what a loop re-reads comes from
the level that holds all that one turn of it touches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod

from extract.machine import Machine
from extract.strides import Stride, stride
from kernel_ir.nodes import Const, Expr
from kernel_ir.plan import Buffer

Plane = tuple[str | tuple[int, int], ...]
OURS = 0.5
"""Share of the last cache that holds what a program uses again: it also holds what it does not, and others' data."""
FADING = 2.0
"""How fast the part of arrays that the last cache still holds shrinks as they outgrow it: a power of what fits over what there is."""


@dataclass(frozen=True, slots=True)
class Access:
    """One load or store: what it touches, the loops around it, outermost first, and the bytes of the whole array."""

    array: str
    indices: tuple[Expr, ...]
    itemsize: int
    loops: tuple[tuple[str, int], ...]
    steps: tuple[int | None, ...]
    written: bool = False
    whole: float = inf
    jumps: tuple[int, ...] = ()
    """The step of each loop; what lies in between, other accesses of the body reach."""
    owner: int = 0
    """The loop in whose body it is."""
    past: bool = False
    """Whether it is written past the caches."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes read from and written to one level, and written to it past the caches, by all cores together."""

    read: float = 0.0
    written: float = 0.0
    past: float = 0.0

    def plus(self, read: float = 0.0, written: float = 0.0, past: float = 0.0) -> "Traffic":
        return Traffic(self.read + read, self.written + written, self.past + past)


def traffic(
    accesses: Sequence[Access], buffers: Mapping[str, Buffer], machine: Machine, cores: float, shared: frozenset[str]
) -> dict[int, list[Traffic]]:
    """The traffic of each level, by the loop that causes it. `shared` names the parallel loops, which `cores` cores share out."""
    merged: dict[tuple[Plane, bool, tuple[str, ...], tuple[Stride, ...]], Access] = {}
    streams = [a for a in accesses if a.past]
    for a in accesses:
        if a.past:
            continue
        moves = tuple(stride(a.array, a.indices, index, {a.array: buffers[a.array].order}) for index, _ in a.loops)
        key = (_plane(a, buffers[a.array].order), a.written, tuple(index for index, _ in a.loops), moves)
        if key not in merged:
            merged[key] = a
        elif _turns(merged[key]) < _turns(a):
            merged[key] = replace(a, owner=merged[key].owner)
    kept = list(merged.items())
    prints = [_footprints(a, moves, machine.line_bytes) for (_, _, _, moves), a in kept]
    found: dict[int, list[Traffic]] = {}

    def add(owner: int, level: int, size: float, stored: bool) -> None:
        at = found.setdefault(owner, [Traffic()] * len(machine.levels))
        at[level] = at[level].plus(0.0, size) if stored else at[level].plus(size, 0.0)

    for ((_, stored, names, moves), a), footprint in zip(kept, prints, strict=True):
        again = [0.0] * len(machine.levels)
        for depth in reversed(range(len(a.loops))):
            extent = a.loops[depth][1]
            if moves[depth] is Stride.NONE:
                inside = sum(
                    other[depth + 1]
                    for (((_, _, other_names, _), _), other) in zip(kept, prints, strict=True)
                    if other_names[: depth + 1] == names[: depth + 1] and len(other) > depth + 1
                )
                level = _level(inside, machine)
                if level:
                    again[level] += max(0, extent - 1) * footprint[depth + 1]
            else:
                again = [x * extent for x in again]
        for n, x in enumerate(again):
            if x:
                add(a.owner, n, x, stored)
    _first_touch(kept, prints, buffers, machine, cores, shared, add)
    for a in streams:
        at = found.setdefault(a.owner, [Traffic()] * len(machine.levels))
        at[-1] = at[-1].plus(past=min(a.whole, _turns(a) * a.itemsize))
    return found


def in_one_pass(levels: Sequence[Traffic], sweeps: int) -> list[Traffic]:
    """The traffic of a sweep of which so many do a piece before the next one's turn: the second level holds the piece meanwhile."""
    near, second, *far = levels
    for t in far:
        again = 1.0 - 1.0 / sweeps
        second = second.plus(t.read * again, t.written * again)
    return [near, second, *(Traffic(t.read / sweeps, t.written / sweeps, t.past) for t in far)]


def _first_touch(
    kept: Sequence[tuple[tuple[Plane, bool, tuple[str, ...], tuple[Stride, ...]], Access]],
    prints: Sequence[list[float]],
    buffers: Mapping[str, Buffer],
    machine: Machine,
    cores: float,
    shared: frozenset[str],
    add: Callable[[int, int, float, bool], None],
) -> None:
    """Adds what every array costs once, from the level that holds all of them since the call before."""
    outermost: dict[tuple[Plane, bool], float] = {}
    first: dict[tuple[Plane, bool], int] = {}
    own: dict[Plane, float] = {}
    for ((plane, stored, names, moves), a), footprint in zip(kept, prints, strict=True):
        if buffers[str(plane[0])].space == "local":
            continue
        first.setdefault((plane, stored), a.owner)
        outermost[plane, stored] = max(outermost.get((plane, stored), 0.0), footprint[0])
        apart = any(name in shared and move is not Stride.NONE for name, move in zip(names, moves, strict=True))
        own[plane] = max(own.get(plane, 0.0), footprint[0] / (cores if apart else 1.0))
    whole: dict[Plane, float] = {}
    for (plane, _), size in outermost.items():
        whole[plane] = max(whole.get(plane, 0.0), size)
    last = len(machine.levels) - 1
    level = max(1, _level(sum(own.values()), machine))
    needed = sum(whole.values())
    # A core's own caches hold its share; the last cache holds the shares of all, and of what is larger a part that shrinks fast.
    if level >= last - 1 and needed > 0:
        held = min(1.0, OURS * machine.levels[last - 1].bytes / needed) ** FADING
        parts = ((last - 1, held), (last, 1.0 - held))
    else:
        parts = ((level, 1.0),)
    for (plane, stored), size in outermost.items():
        for n, part in parts:
            add(first[plane, stored], n, size * part, stored)


def _turns(a: Access) -> float:
    return prod(float(extent) for _, extent in a.loops)


def _plane(a: Access, order: tuple[int, ...]) -> Plane:
    """The array, and the constant indices of dimensions in which each value is another piece of memory: those slower than one that moves.
    (Constants of faster dimensions, the fields of a structure, share its cache lines.)"""
    constants: list[tuple[int, int]] = []
    moving = False
    for d in reversed(order):
        index = a.indices[d]
        if not isinstance(index, Const):
            moving = True
        elif moving:
            constants.append((d, int(index.value)))
    return a.array, *constants


def _footprints(a: Access, moves: tuple[Stride, ...], line: int) -> list[float]:
    """Distinct bytes touched by the loops from each depth inwards; a far stride touches a line an element unless a later loop fills it."""
    result = [float(a.itemsize)]
    unit = False
    pending = 1.0
    for depth in reversed(range(len(moves))):
        extent = max(1, a.loops[depth][1]) * (a.jumps[depth] if a.jumps else 1)
        size = result[-1]
        match moves[depth]:
            case Stride.NONE:
                pass
            case Stride.UNIT:
                size = size * extent / pending
                unit, pending = True, 1.0
            case Stride.FAR:
                if not unit and pending == 1.0:
                    step = a.steps[depth]
                    pending = line / a.itemsize if step is None else max(1.0, min(line / a.itemsize, float(step)))
                    size *= pending
                size *= extent
        result.append(min(size, a.whole))
    return result[::-1]


def _level(bytes_: float, machine: Machine) -> int:
    last = len(machine.levels) - 1
    return next((n for n, level in enumerate(machine.levels) if bytes_ <= level.bytes), last)

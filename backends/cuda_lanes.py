"""Threads that take several neighbours become numba.cuda source: wide loads, the neighbours one after the other, wide stores."""

from collections.abc import Iterable, Sequence
from typing import Final

from backends.cuda_expr import STORED
from backends.cuda_lines import WARP, Lines
from extract.fuse import expressions_of
from extract.intervals import greatest, with_binder
from extract.wide_cuda import Place, wide_accesses
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Expr, const
from kernel_ir.ops import OPS, Unit
from kernel_ir.plan import Loop, LoopKind, Node
from kernel_ir.walk import subtrees

_LONG: Final = {Unit.EXP: 25, Unit.TRIG: 50, Unit.DIV: 15, Unit.SQRT: 15, Unit.IDIV: 40}
_UNROLLED: Final = 250
"""Instructions, about, up to which a loop of constant length is left to NVVM to unroll."""


class Lanes(Lines):
    """Prints loops of which a thread takes several neighbours at a time."""

    def lanes(self, loop: Loop, first: str, extents: tuple[tuple[str, Expr], ...] = ()) -> None:
        """The neighbours from `first` on, one after the other, between their wide loads and stores; `extents` of a grid that is one row."""
        found = wide_accesses(loop, loop.step, self.e.buffers, not extents)
        assert found is not None
        row = len(extents) > 1
        names, parts = self.e.names, self._parts(dict.fromkeys((*found.loads, *found.stores)), loop.step)
        at = "at" if row else self.e.name(loop.index)

        def move(verb: str, places: tuple[Place, ...]) -> None:
            self.e.names = {**names, loop.index: first}
            self.e.flat = (first, extents) if row else None
            for array, indices in places:
                place = self.e.place(array, indices)
                self.line(f"wide_{verb}({self.e.name(array)}, {place}, {parts[array, indices]}, {loop.step})")
            self.e.names = names
            self.e.flat = (at, extents) if row else None

        move("load", found.loads)
        # A long body NVVM does not unroll, and would then keep the parts in memory.
        long = _length_of(loop.body) * loop.step > _UNROLLED
        if not long:
            self.line(f"for u in range({loop.step}):")
            self.depth += 1
        for u in map(str, range(loop.step)) if long else ("u",):
            self.line(f"{at} = index({first} + index({u}))")
            self.e.parts = {place: f"{part}[{u}]" for place, part in parts.items()}
            self.nodes(loop.body)
        self.e.parts = {}
        self.depth -= 0 if long else 1
        move("store", found.stores)

    def wide_loop(self, loop: Loop, worker: str) -> None:
        """The team's threads share the iterations, each taking several neighbours at a time."""
        team = WARP if self.grid.kind is LoopKind.WARP else self.launch.threads
        first = f"{self.e.name(loop.index)}_first"
        lo, end, bound = self.e.exact(loop.lo), self.e.exact(loop.hi), greatest(loop.hi, self.e.ranges)
        assert lo is not None
        assert end is not None
        assert bound is not None
        self.e.bounds[bound] = None
        start = f"index({worker} * index({loop.step}))"
        self.line(f"{first} = {start if loop.lo == const(0, I64) else f'index({start} + {lo})'}")
        self.line(f"while {first} < {end}:")
        self.depth += 1
        outer = self.e.ranges
        self.e.ranges = with_binder(Binder(loop.index, loop.lo, loop.hi), outer)
        self.lanes(loop, first)
        self.line(f"{first} = index({first} + index({team * loop.step}))")
        self.close(outer)

    def _parts(self, places: Iterable[Place], width: int) -> dict[Place, str]:
        """Declares what a thread holds of arrays, which NVVM keeps in registers; one loop after another uses the same."""
        taken = {self.e.name(name) for name in self.e.buffers}
        parts: dict[Place, str] = {}
        for array, indices in places:
            name, number = f"{self.e.name(array)}_wide", 1
            while name in taken:
                number += 1
                name = f"{self.e.name(array)}_wide{number}"
            taken.add(name)
            parts[array, indices] = name
            line = f"{name} = cuda.local.array({width}, {STORED[self.e.buffers[array].dtype.name]})"
            if line not in self.shared:
                self.shared.append(line)
        return parts


def _length_of(nodes: Sequence[Node]) -> int:
    """Instructions, about, of straight-line code; twice as many for f64."""
    calls = [x for n in nodes for e in expressions_of(n) for x in subtrees(e) if isinstance(x, Call)]
    return sum(_LONG.get(OPS[x.op].unit, 1) * (x.dtype.bits // 32 if x.dtype.is_float else 1) for x in calls)

"""The grid of a launch becomes the head of its kernel: which point, row or block of neighbours a thread, warp or block has."""

import re

from backends.cuda_lanes import Lanes
from backends.cuda_lines import WARP
from extract.intervals import Ranges, nonnegative, with_binder
from extract.wide_cuda import takes_rest
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, const
from kernel_ir.plan import Loop, LoopKind


class GridHead(Lanes):
    """Prints the grid's indices around the nodes of one point."""

    def top(self) -> None:
        """The whole kernel: the grid, and in it the nodes."""
        grid = self.grid
        if grid.loops[-1].step > 1 and takes_rest(grid.loops, self.e.buffers):
            self._row_and_rest()
            return
        single = len(grid.loops) == 1 and grid.loops[0].lo == const(0, I64)
        place = self.e.name(grid.loops[0].index) if single else ("point" if grid.kind is LoopKind.GRID else "row")
        match grid.kind:
            case LoopKind.GRID:
                self.line(f"{place} = index(cuda.grid(1))")
            case LoopKind.BLOCK:
                self.line(f"{place} = index(cuda.blockIdx.x)")
                self.line("thread = index(cuda.threadIdx.x)")
            case _:
                warps = self.launch.threads // WARP
                self.line("thread = index(cuda.threadIdx.x)")
                self.line("lane = index(thread % index(32))")
                self.line(f"{place} = index(index(cuda.blockIdx.x) * index({warps}) + index(thread // index(32)))")
        if grid.kind is not LoopKind.BLOCK:
            self.line(f"if {place} < points:")
            self.depth += 1
        start = len(self.lines)
        ranges: Ranges = {}
        for loop in grid.loops:
            if not nonnegative(loop.lo, {}):
                self.e.wide.add(loop.index)
            ranges = with_binder(Binder(loop.index, loop.lo, loop.hi), ranges)
        self.e.ranges = ranges
        extents = tuple((loop.index, loop.hi) for loop in grid.loops)
        if not single and grid.kind is LoopKind.GRID and all(loop.lo == const(0, I64) for loop in grid.loops):
            self.e.flat = ("point", extents)
        if grid.loops[-1].step == 1:
            self.nodes(grid.body)
        else:
            self.e.flat = None
            self.lanes(grid.loops[-1], "first")
        if not single:
            self.lines[start:start] = self._indices(place, "\n".join(self.lines[start:]))

    def _row_and_rest(self) -> None:
        """Wide threads over the points as one row, then a thread for each point that is left over."""
        loops = self.grid.loops
        last, step = loops[-1], loops[-1].step
        at = self.e.name(last.index) if len(loops) == 1 else "at"
        for loop in loops:
            self.e.ranges = with_binder(Binder(loop.index, loop.lo, loop.hi), self.e.ranges)
        extents = tuple((loop.index, loop.hi) for loop in loops)
        self.line("point = index(cuda.grid(1))")
        self.line(f"wide = index(points // index({step}))")
        self.line("if point < wide:")
        self.depth += 1
        self.line(f"first = index(point * index({step}))")
        self.lanes(last, "first", extents)
        self.depth -= 1
        self.line(f"elif point < index(wide + index(points % index({step}))):")
        self.depth += 1
        self.line(f"{at} = index(point + index(wide * index({step - 1})))")
        self.e.flat = (at, extents)
        self.nodes(last.body)
        self.depth -= 1

    def _indices(self, place: str, body: str) -> list[str]:
        """The grid's indices out of the point's number, as far as the body or a later index needs them."""
        lines: list[str] = []
        rest = place
        for number, loop in reversed(list(enumerate(self.grid.loops))):
            name = self.e.name(loop.index)
            length = self._length(loop)
            if loop.step > 1:
                length = f"index({length} // index({loop.step}))"
            value = rest if number == 0 else f"index({rest} % {length})"
            if loop.step > 1:
                name, value = "first", f"index({value} * index({loop.step}))"
            if loop.lo != const(0, I64):
                low = self.e.signed(loop.lo) if loop.index in self.e.wide else self.e.address(loop.lo)
                value = f"int64({value}) + {low}" if loop.index in self.e.wide else f"index({value} + {low})"
            if re.search(rf"\b{name}\b", body):
                lines.append("    " * self.depth + f"{name} = {value}")
            if number > 1:
                lines.append("    " * self.depth + f"rest = index({rest} // {length})")
                rest = "rest"
            else:
                rest = f"index({rest} // {length})"
        return lines

    def _length(self, loop: Loop) -> str:
        """The loop's extent, which is positive wherever a point exists."""
        hi = self.e.address(loop.hi)
        return hi if loop.lo == const(0, I64) else f"index({hi} - {self.e.address(loop.lo)})"

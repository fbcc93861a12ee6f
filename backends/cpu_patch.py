"""Turns a launch that does patches of rows into numba text: loops over patches, whose vectors stay in registers; what does not fill one
is done again with the patch before it, being stored twice alike."""

from dataclasses import dataclass, field

from backends.cpu_expr import Expressions
from extract.patch import Line, Nest, line_of, lines, moved, points, shifts
from extract.reductions import simplified
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Call, Expr, Load, const
from kernel_ir.plan import Loop
from kernel_ir.walk import free, substitute, subtrees

Text = tuple[int, str]
"""A line's depth and its text."""


def fits(nest: Nest, patch: tuple[int, ...], e: Expressions, low: str, high: str) -> str:
    """The condition that there is a whole patch among the rows `low..high` of the first loop."""
    (_, *heights, lanes) = patch
    tests = [f"{high} - ({low}) >= {patch[0]}"] if patch[0] > 1 else [f"{high} > {low}"]
    for loop, n in zip((*nest.rows[1:], nest.columns), (*heights, lanes), strict=True):
        tests.append(f"{e.text(simplified(Call('sub', (loop.hi, loop.lo), I64)))} >= {n}")
    return " and ".join(tests)


def patch_lines(nest: Nest, patch: tuple[int, ...], e: Expressions, contract: bool, low: str, high: str) -> list[Text]:
    """The statements for the rows `low..high` of the first loop, which `fits` holds for. Names that they make (`acc0`, `at1`, `term2`,
    `whole`) are reserved in emitted modules."""
    return _Printer(nest, patch[:-1], patch[-1], e, contract).printed(low, high)


@dataclass(slots=True)
class _Printer:
    nest: Nest
    heights: tuple[int, ...]
    lanes: int
    e: Expressions
    contract: bool
    out: list[Text] = field(default_factory=list[Text])
    depth: int = 0
    terms: int = 0

    def printed(self, low: str, high: str) -> list[Text]:
        e, columns, lanes = self.e, self.nest.columns, self.lanes
        every = (*self.nest.rows, columns)
        for loop in every:
            e.from_zero.discard(loop.index)
        found = lines(self.nest, self.heights, e.buffers)
        shifted = {line: f"acc{n}" for n, (line, offsets) in enumerate(found.items()) if shifts(offsets, lanes)}
        span = min((max(found[line]) - min(found[line]) for line in shifted), default=lanes)
        begin, end = e.text(columns.lo), e.text(columns.hi)
        reach = simplified(Call("add", (Call("sub", (columns.hi, columns.lo), I64), const(span, I64)), I64))
        # Beyond the last vector that is stored whole, the next one is loaded: it must end where the row's loads do.
        self._line(f"whole = {e.inner(columns.lo)} + {e.inner(reach)} // {lanes} * {lanes} - {lanes}")
        for n, (loop, height) in enumerate(zip(self.nest.rows, self.heights, strict=True)):
            last = f"{high} - {height}" if n == 0 else self._less(loop.hi, height)
            self._rows(n, loop, height, low if n == 0 else e.text(loop.lo), high if n == 0 else e.text(loop.hi), last)
        for line, name in shifted.items():
            self._line(f"{name} = {self._read(line, min(found[line]), columns.lo)}")
        depth = self.depth
        self._line(f"for {columns.index} in range({begin}, whole, {lanes}):")
        self.depth += 1
        self._vectors(found, shifted)
        self.depth = depth
        self._line(f"for at{len(self.heights)} in range(whole, {end}, {lanes}):")
        self.depth += 1
        self._line(f"{columns.index} = min(at{len(self.heights)}, {self._less(columns.hi, lanes)})")
        self._vectors(found, {})
        return self.out

    def _less(self, end: Expr, n: int) -> str:
        return self.e.text(simplified(Call("sub", (end, const(n, I64)), I64)))

    def _rows(self, n: int, loop: Loop, height: int, low: str, high: str, last: str) -> None:
        if height == 1:
            self._line(f"for {loop.index} in range({low}, {high}):")
            self.depth += 1
            return
        self._line(f"for at{n} in range({low}, {high}, {height}):")
        self.depth += 1
        self._line(f"{loop.index} = min(at{n}, {last})")

    def _vectors(self, found: dict[Line, set[int]], shifted: dict[Line, str]) -> None:
        """One patch: loads, values, stores."""
        known: dict[object, str] = {}
        after: dict[Line, str] = {}
        for line, name in shifted.items():
            low = min(found[line])
            after[line] = self._named(self._read(line, low + self.lanes))
            known[line, low] = name
            for offset in sorted(found[line] - {low}):
                by = offset - low
                known[line, offset] = (
                    after[line] if by == self.lanes else self._named(f"{self.e.helper('shift_lanes')}({name}, {after[line]}, {by})")
                )
        stores: list[str] = []
        for at in points(self.nest, self.heights):
            for s in self.nest.stores:
                value = self._value(s.value, at, known)
                place = ", ".join(self.e.text(moved(s.indices[d], at)) for d in self.e.buffers[s.buffer].order)
                stores.append(f"{self.e.helper('write_lanes')}({s.buffer}, ({place},), {value})")
        for text in (*stores, *(f"{name} = {after[line]}" for line, name in shifted.items())):
            self._line(text)

    def _value(self, x: Expr, at: dict[str, int], known: dict[object, str]) -> str:
        """The name of a value some rows on; computed once in a patch."""
        indices = {*at, self.nest.columns.index}
        if isinstance(x, Load) and self.nest.columns.index in free(x):
            line, offset = line_of(x, self.e.buffers, at)
            if (line, offset) not in known:
                known[line, offset] = self._named(self._read(line, offset))
            return known[line, offset]
        shared = not free(x) & indices
        key = (x, () if shared else tuple(at.items()))
        if key not in known:
            if shared and not any(isinstance(y, Load) for y in subtrees(x)):
                text = f"{self.e.helper('splat')}({self.lanes}, {self.e.text(x)})"
            elif isinstance(x, Load):
                there = Load(x.array, tuple(moved(i, at) for i in x.indices), x.dtype)
                text = f"{self.e.helper('splat')}({self.lanes}, {self.e.text(there)})"
            else:
                assert isinstance(x, Call)
                text = self._call(x, at, known)
            known[key] = self._named(text)
        return known[key]

    def _call(self, x: Call, at: dict[str, int], known: dict[object, str]) -> str:
        def of(*args: Expr) -> str:
            return ", ".join(self._value(a, at, known) for a in args)

        if self.contract:
            match x:
                case Call("add", (Call("mul", (a, b)), c)) | Call("add", (c, Call("mul", (a, b)))):
                    return f"{self.e.helper('fma_lanes')}({of(a, b, c)})"
                case Call("sub", (Call("mul", (a, b)), c)):
                    return f"{self.e.helper('fma_lanes')}({of(a, b)}, {self.e.helper('neg_lanes')}({of(c)}))"
                case Call("sub", (c, Call("mul", (a, b)))):
                    return f"{self.e.helper('fma_lanes')}({self.e.helper('neg_lanes')}({of(a)}), {of(b, c)})"
                case _:
                    pass
        return f"{self.e.helper(x.op + '_lanes')}({of(*x.args)})"

    def _read(self, line: Line, offset: int, column: Expr | None = None) -> str:
        """A vector of a line, some places on; `column`: where the columns are, if not at their loop's index."""
        *rest, last = line.place
        if offset:
            last = simplified(Call("add", (last, const(offset, I64)), I64))
        if column is not None:
            last = simplified(substitute(last, {self.nest.columns.index: column}))
        place = ", ".join(self.e.text(i) for i in (*rest, last))
        return f"{self.e.helper('read_lanes')}({self.lanes}, {line.array}, ({place},))"

    def _named(self, text: str) -> str:
        name = f"term{self.terms}"
        self.terms += 1
        self._line(f"{name} = {text}")
        return name

    def _line(self, text: str) -> None:
        self.out.append((self.depth, text))

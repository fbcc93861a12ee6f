"""Turns a row tile into numba.cuda source: totals and what is summed in registers, operands in shared memory, maxima by shuffles.

Of each step the threads of a block stage the terms' operands, make the totals of their rows and terms, join the maximum of each row
with those threads of the warp that have the same rows, rescale what they have where it grew, and pass the terms' weights through shared
memory to the same threads, whose columns they multiply. Sums along rows stay apart, a part a thread, until the end.
"""

from collections.abc import Callable, Iterator
from typing import Final

from backends.cuda_expr import TYPES, Expressions, constant
from backends.cuda_prelude import helper_name
from backends.cuda_staging import Staging
from extract.intervals import with_binder
from extract.reductions import over_nothing
from extract.rows_staged import PAD, operands
from kernel_ir.dtypes import BOOL, F32
from kernel_ir.nodes import Call, Const, Expr, IndexRef, const
from kernel_ir.plan import RowSum, RowTile
from kernel_ir.walk import free

_FIRST: Final = "index(0)"
_TOTALS: Final = 4
_GATHERED: Final = 2
"""Terms of the two products that one turn has: beyond the last ones are zeros, on both sides."""


def row_tile_lines(tile: RowTile, e: Expressions) -> tuple[list[str], list[str]]:
    """(the shared and local arrays, the body) of a row tile, at no indent; `thread` is the thread's number."""
    for b in (tile.rows, tile.terms, tile.reduction, *(() if tile.columns is None else (tile.columns,))):
        e.ranges = with_binder(b, e.ranges)
    return _RowTile(tile, e).lines()


class _RowTile:
    def __init__(self, tile: RowTile, e: Expressions) -> None:
        self.tile = tile
        self.e = e
        self.dtype, self.kind = tile.dtype, TYPES[tile.dtype.name]
        self.zero, self.least = f"{self.kind}(0.0)", f"{self.kind}(-math.inf)"
        self.row, self.term, self.k = (e.name(b.index) for b in (tile.rows, tile.terms, tile.reduction))
        self.uneven = tile.rows.index in free(tile.terms.hi)
        self.rows_end, self.terms_of_row = e.address(tile.rows.hi), Call("lt", (IndexRef(tile.terms.index), tile.terms.hi), BOOL)
        self.expsums = [s for s in tile.sums if s.kind == "expsum"]
        self.plain = [s for s in tile.sums if s.kind != "expsum"]
        threads = tile.threads[0] * tile.threads[1]
        self.operands = {side: Staging(f"{tile.total}_{side}", side, o, threads, tile.wide, e) for side, o in operands(tile).items()}

    def lines(self) -> tuple[list[str], list[str]]:
        t = self.tile
        body = [
            f"first_row = index({self.e.name(t.row_block)} * index({t.height}))",
            f"row_part = index(index(thread // index({t.threads[1]})) * index({t.each[0]}))",
            f"column_part = index(thread % index({t.threads[1]}))",
            *([] if t.columns is None else [f"first_column = index({self.e.name(t.column_block)} * index({t.span}))"]),
            *self._bounds(),
            *self._starts(),
            *(self._left(_FIRST).brought() if t.kept else ()),
            *self._first_operands(),
            "while first_term < last_term:",
            *_indented(list(self._step())),
            *self._joined(),
            *self._results(),
        ]
        return self._arrays(), body

    def _arrays(self) -> list[str]:
        t = self.tile
        rows, terms, columns = t.each
        shared = {"left": t.depth * (t.height + PAD), "right": t.depth * (t.width + PAD)}
        if t.across is not None:
            shared |= {"weights": t.width * (t.height + PAD), "factor": t.width * t.span}
        local = {"totals": rows * terms, "left": rows, "right": max(terms, columns), "row_top": rows}
        if t.across is not None:
            local["gathered"] = rows * columns
        local |= {f"{self.e.name(s.name)}_rows": rows for s in t.sums}
        for o in self.operands.values():
            local |= o.held
        parts = dict.fromkeys(line for o in self.operands.values() for line in o.parts())
        return [
            *(f"{t.total}_{side} = cuda.shared.array({n}, {self.kind}, alignment=16)" for side, n in shared.items()),
            *(f"{name} = cuda.local.array({n}, {self.kind})" for name, n in local.items()),
            *parts,
        ]

    def _bounds(self) -> Iterator[str]:
        """The terms of any row of the block, and those of all."""
        t = self.tile
        yield f"last_row = index(min(index(first_row + index({t.height})), {self.rows_end}) - index(1))"
        yield f"first_term = {self.e.address(t.terms.lo)}"
        if self.uneven:
            yield f"{self.row} = first_row"
            yield f"whole_end = {self._end()}"
        yield f"{self.row} = last_row"
        yield f"last_term = {self._end()}"

    def _end(self) -> str:
        return self.e.exact(self.tile.terms.hi) or f"index(max(0, {self.e.signed(self.tile.terms.hi)}))"

    def _starts(self) -> Iterator[str]:
        t = self.tile
        rows, _, columns = t.each
        yield f"for u in range({rows}):"
        yield f"    row_top[u] = {self.least}"
        for s in t.sums:
            nothing = self.zero if s.kind == "expsum" else constant(over_nothing(s.kind, self.dtype))
            yield f"    {self.e.name(s.name)}_rows[u] = {nothing}"
        if t.across is not None:
            yield f"for u in range({rows * columns}):"
            yield f"    gathered[u] = {self.zero}"

    # -- a step: some terms

    def _first_operands(self) -> Iterator[str]:
        """What is under way before the first step."""
        if self.tile.ahead and not self.tile.kept:
            yield from self._left(_FIRST).loaded()
        if self.tile.ahead:
            yield from self._right(_FIRST).loaded()
        if self.tile.ahead and self.tile.kept:
            yield from self._right(_FIRST).put()

    def _step(self) -> Iterator[str]:
        t = self.tile
        factor = None if t.factor is None else self._factor()
        hidden = t.ahead and t.kept  # what one product reads is loaded while the other one is made
        if factor is not None:
            yield from factor.loaded() if hidden else factor.brought()
        yield f"for u in range({t.each[0] * t.each[1]}):"
        yield f"    totals[u] = {self.zero}"
        if t.kept:
            yield from () if t.ahead else self._right(_FIRST).brought()
            yield "cuda.syncthreads()"
            yield from self._totals(_FIRST)
        else:
            yield "start = index(0)"
            yield f"while start < {self.e.address(t.reduction.hi)}:"
            yield from _indented(list(self._part()))
        yield f"for u in range({t.each[0]}):"
        yield from _indented(list(self._row()))
        if hidden:
            yield from () if factor is None else factor.put()
            yield "cuda.syncthreads()"
            yield f"next_term = index(first_term + index({t.width}))"
            yield from self._right(_FIRST, "next_term").loaded()
        elif t.across is not None:
            # Without a term of the contraction no barrier came before.
            yield "cuda.syncwarp()" if t.kept else "cuda.syncthreads()"
        if t.across is not None:
            yield from self._gathered()
        if hidden:
            yield from self._right(_FIRST, "next_term").put()
        else:
            yield "cuda.syncthreads()"
        yield f"first_term = index(first_term + index({t.width}))"

    def _part(self) -> Iterator[str]:
        """Some terms of the inner contraction: of those of a step, the first ones are under way in the step before."""
        t = self.tile
        sides = self._left("start"), self._right("start")
        for o in sides:
            yield from o.put() if t.ahead else o.brought()
        yield "cuda.syncthreads()"
        if t.ahead:
            yield f"next_start = index(start + index({t.depth}))"
            yield "next_term = first_term"
            yield f"if next_start >= {self.e.address(t.reduction.hi)}:"
            yield "    next_start = index(0)"
            yield f"    next_term = index(first_term + index({t.width}))"
            yield from self._left("next_start").loaded()
            yield from self._right("next_start", "next_term").loaded()
        yield from self._totals("start")
        yield "cuda.syncthreads()"
        yield f"start = index(start + index({t.depth}))"

    def _left(self, start: str) -> Staging:
        # A row without terms may not be there to be read.
        some = self.e.text(Call("lt", (self.tile.terms.lo, self.tile.terms.hi), BOOL)) if self.uneven else "first_term < last_term"
        return self.operands["left"].at((start, self.e.address(self.tile.reduction.hi)), ("first_row", self.rows_end), some)

    def _right(self, start: str, first: str = "first_term") -> Staging:
        return self.operands["right"].at((start, self.e.address(self.tile.reduction.hi)), (first, "last_term"))

    def _factor(self) -> Staging:
        columns = self.tile.columns
        assert columns is not None
        return self.operands["factor"].at(("first_term", "last_term"), ("first_column", self.e.address(columns.hi)))

    def _totals(self, start: str) -> Iterator[str]:
        """The products of what is staged join the totals."""
        t = self.tile
        rows, terms, _ = t.each
        end = self.e.address(t.reduction.hi)
        yield "term = index(0)"
        # A loop of constant length the compiler would write out, and run out of registers.
        yield f"part_end = index(min({end if start == _FIRST else f'index({end} - {start})'}, index({t.depth})))"
        yield from _places("row_part", f"column_part * index({terms})")
        yield "while term < part_end:"
        yield f"    for part in range({_TOTALS}):"
        yield f"        for u in range({rows}):"
        yield f"            left[u] = {t.total}_left[uint64(left_at + uint64(part * {t.height + PAD} + u))]"
        yield f"        for v in range({terms}):"
        yield f"            right[v] = {t.total}_right[uint64(right_at + uint64(part * {t.width + PAD} + v))]"
        yield f"        for u in range({rows}):"
        yield f"            for v in range({terms}):"
        at = f"totals[u * {terms} + v]"
        yield f"                {at} = {self._added(at, 'left[u]', 'right[v]')}"
        yield from _next_places(_TOTALS, t.height + PAD, t.width + PAD)

    def _added(self, at: str, a: str, b: str) -> str:
        return f"cuda.fma({a}, {b}, {at})" if self.e.contract else f"{at} + {self._product(a, b)}"

    def _product(self, a: str, b: str) -> str:
        return f"{a} * {b}" if self.e.contract else f"libdevice.{'fmul_rn' if self.dtype is F32 else 'dmul_rn'}({a}, {b})"

    def _row(self) -> Iterator[str]:
        """One row of a thread: its terms' values, its maximum, what is summed of it."""
        t = self.tile
        terms = t.each[1]
        exponent, across = t.exponent, t.across
        at = f"totals[u * {terms} + v]"
        yield f"{self.row} = index(index(first_row + row_part) + index(u))"
        yield f"row_next = {self.least}"
        yield f"for v in range({terms}):"
        yield from _indented(list(self._term()))
        yield f"    {self.e.name(t.total)} = {at}"
        for s in self.plain:
            yield from _indented(["if row_inside:", f"    {self._joins(s, self.e.text(s.value))}"])
        if exponent is not None:
            yield f"    {at} = {self.e.text(exponent)} if row_inside else {self.least}"
            yield f"    row_next = {self._max('row_next', at)}"
        elif across is not None:
            yield f"    {at} = {self.e.text(across.value)} if row_inside else {self.zero}"
        if exponent is not None:
            yield from self._weights()
        if across is not None:
            where = f"index(column_part * index({terms})) + index(v)"
            yield f"for v in range({terms}):"
            yield f"    {t.total}_weights[index(index(index({where}) * index({t.height + PAD})) + index(row_part + index(u)))] = {at}"

    def _term(self) -> Iterator[str]:
        """The term's number, and whether the row has it."""
        terms = self.tile.each[1]
        yield f"{self.term} = index(index(first_term + index(column_part * index({terms}))) + index(v))"
        inside = self.e.text(self.terms_of_row) if self.uneven else f"{self.term} < last_term"
        yield f"row_inside = {inside} and {self.row} < {self.rows_end}"

    def _weights(self) -> Iterator[str]:
        """The row's exponents become weights, relative to the greatest so far; what was summed relative to a lesser one is rescaled."""
        t = self.tile
        _, terms, columns = t.each
        at = f"totals[u * {terms} + v]"
        yield from self._shuffled("row_next", lambda other: self._max("row_next", other))
        yield f"row_next = {self._max('row_top[u]', 'row_next')}"
        # Where every exponent so far is -inf, so is each one less nothing, and each weight is 0.
        yield f"row_base = row_next if row_next != {self.least} else {self.zero}"
        yield "row_scale = math.exp(row_top[u] - row_base)"
        yield "row_top[u] = row_next"
        for s in self.expsums:
            yield f"{self.e.name(s.name)}_rows[u] = {self._product(f'{self.e.name(s.name)}_rows[u]', 'row_scale')}"
        if t.across is not None:
            yield f"for v in range({columns}):"
            yield f"    gathered[u * {columns} + v] = {self._product(f'gathered[u * {columns} + v]', 'row_scale')}"
        yield f"for v in range({terms}):"
        yield f"    {at} = math.exp({at} - row_base)"
        if all(isinstance(s.value, Const) for s in self.expsums):
            for s in self.expsums:
                yield f"    {self._weighted(s, at)}"
        else:
            yield from _indented(list(self._term()))
            yield "    if row_inside:"
            for s in self.expsums:
                yield f"        {self._weighted(s, at)}"

    def _weighted(self, s: RowSum, weight: str) -> str:
        name = f"{self.e.name(s.name)}_rows[u]"
        added = f"{name} + {weight}" if s.value == const(1.0, self.dtype) else self._added(name, weight, self.e.text(s.value))
        return f"{name} = {added}"

    def _joins(self, s: RowSum, value: str) -> str:
        name = f"{self.e.name(s.name)}_rows[u]"
        return f"{name} = {self._joined_pair(s, name, value)}"

    def _joined_pair(self, s: RowSum, a: str, b: str) -> str:
        if s.kind in ("max", "min"):
            return self._extreme(s.kind, a, b)
        return f"{a} + {b}"

    def _max(self, a: str, b: str) -> str:
        return self._extreme("max", a, b)

    def _extreme(self, kind: str, a: str, b: str) -> str:
        return self.e.helper(helper_name("maximum" if kind == "max" else "minimum", self.kind), a, b)

    def _shuffled(self, name: str, joined: Callable[[str], str]) -> Iterator[str]:
        """A butterfly over the threads of a row, which are neighbours."""
        offset = self.tile.threads[1] // 2
        while offset:
            yield f"{name} = {joined(f'cuda.shfl_xor_sync(0xFFFFFFFF, {name}, {offset})')}"
            offset //= 2

    def _gathered(self) -> Iterator[str]:
        """The weights of the step's terms times their factors join what is summed along columns."""
        if not self.uneven:
            yield from self._products(guarded=False)
            return
        # Beyond a row's own terms are numbers that it must not meet: 0 times infinity is none.
        yield f"if index(first_term + index({self.tile.width})) <= whole_end:"
        yield from _indented(list(self._products(guarded=False)))
        yield "else:"
        yield from _indented(list(self._products(guarded=True)))

    def _products(self, guarded: bool) -> Iterator[str]:
        t = self.tile
        rows, _, columns = t.each
        yield "term = index(0)"
        yield f"part_end = index(min(index(last_term - first_term), index({t.width})))"
        yield from _places("row_part", "column_part * index(4)")
        yield "while term < part_end:"
        yield f"    for part in range({_GATHERED}):"
        yield f"        for u in range({rows}):"
        yield f"            left[u] = {t.total}_weights[uint64(left_at + uint64(part * {t.height + PAD} + u))]"
        yield f"        for v in range({columns}):"
        column = f"v // 4 * {4 * t.threads[1]} + v % 4"
        yield f"            right[v] = {t.total}_factor[uint64(right_at + uint64(part * {t.span} + {column}))]"
        inner = "        "
        if guarded:
            yield f"        {self.term} = index(index(first_term + term) + index(part))"
        yield f"        for u in range({rows}):"
        if guarded:
            yield f"            {self.row} = index(index(first_row + row_part) + index(u))"
            yield f"            if {self.e.text(self.terms_of_row)}:"
            inner = "            "
        at = f"gathered[u * {columns} + v]"
        yield f"{inner}    for v in range({columns}):"
        yield f"{inner}        {at} = {self._added(at, 'left[u]', 'right[v]')}"
        yield from _next_places(_GATHERED, t.height + PAD, t.span)

    def _column(self) -> str:
        """The place of a thread's column v among the block's: four neighbours, then those of the other threads, then four again."""
        step = 4 * self.tile.threads[1]
        return f"index(index(index(column_part * index(4)) + index(v // 4 * {step})) + index(v % 4))"

    # -- the end

    def _joined(self) -> Iterator[str]:
        for s in self.tile.sums:
            name = f"{self.e.name(s.name)}_rows[u]"
            yield f"for u in range({self.tile.each[0]}):"
            yield from _indented(list(self._shuffled(name, lambda other, s=s, name=name: self._joined_pair(s, name, other))))

    def _results(self) -> Iterator[str]:
        t = self.tile
        rows, _, columns = t.each
        along = [s for s in t.results if t.columns is not None and t.columns.index in frozenset[str]().union(*map(free, s.indices))]
        of_rows = [s for s in t.results if s not in along]
        yield f"for u in range({rows}):"
        yield f"    {self.row} = index(index(first_row + row_part) + index(u))"
        yield f"    if {self.row} < {self.rows_end}:"
        if t.exponent is not None:
            some = self.e.text(Call("lt", (t.terms.lo, t.terms.hi), BOOL))
            # exp(s - max) is NaN where every s is -inf; the running form has no way to see that before the end.
            yield f"        row_wrong = row_top[u] == {self.least} and {some}"
        for s in t.sums:
            yield f"        {self._named(s, f'{self.e.name(s.name)}_rows[u]')}"
        if of_rows:
            first = "column_part == index(0)" + ("" if t.columns is None else f" and {self.e.name(t.column_block)} == index(0)")
            yield f"        if {first}:"
            for store in of_rows:
                yield f"            {self._stored(store.buffer, store.indices, store.value)}"
        if along and t.columns is not None and t.across is not None:
            column = self.e.name(t.columns.index)
            yield f"        for v in range({columns}):"
            yield f"            {column} = index(first_column + {self._column()})"
            yield f"            if {column} < {self.e.address(t.columns.hi)}:"
            yield f"                {self._named(t.across, f'gathered[u * {columns} + v]')}"
            for store in along:
                yield f"                {self._stored(store.buffer, store.indices, store.value)}"

    def _named(self, s: RowSum, text: str) -> str:
        return f"{self.e.name(s.name)} = " + (f"{self.kind}(math.nan) if row_wrong else {text}" if s.kind == "expsum" else text)

    def _stored(self, buffer: str, indices: tuple[Expr, ...], value: Expr) -> str:
        return f"{self.e.name(buffer)}[{self.e.place(buffer, indices)}] = {self.e.stored(value, self.e.buffers[buffer].dtype)}"


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _places(left: str, right: str) -> Iterator[str]:
    """Where a thread's first row and column are: of 64 bits, so that the compiler adds what is constant to them in the loads themselves."""
    yield f"left_at = uint64({left})"
    yield f"right_at = uint64({right})"


def _next_places(terms: int, left: int, right: int) -> Iterator[str]:
    yield f"    left_at = uint64(left_at + uint64({terms * left}))"
    yield f"    right_at = uint64(right_at + uint64({terms * right}))"
    yield f"    term = index(term + index({terms}))"

"""Turns a tile of a plan into numba text: loops over blocks of columns, rows and terms around vectors that stay in registers."""

from dataclasses import dataclass, field

from backends.cpu_expr import Expressions, constant_text
from extract.reductions import simplified
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, Load, Local, const
from kernel_ir.plan import Tile
from kernel_ir.walk import free, substitute

Line = tuple[int, str]
"""A line's depth and its text."""


def tile_lines(tile: Tile, e: Expressions, contract: bool) -> list[Line]:
    """The statements of a tile. Names that they make (`acc0_1`, `at2`, `mask3`, `term4`, `whole`) are reserved in emitted modules."""
    return _Printer(tile, e, contract).printed()


@dataclass(slots=True)
class _Printer:
    tile: Tile
    e: Expressions
    contract: bool
    lines: list[Line] = field(default_factory=list[Line])
    depth: int = 0
    terms: int = 0

    def printed(self) -> list[Line]:
        tile = self.tile
        rows, columns = tile.rows, tile.columns
        last = simplified(Call("sub", (rows.hi, const(1, I64)), I64))
        end = substitute(columns.hi, {rows.index: last})
        width = tile.vectors * tile.lanes
        self._open(Binder(columns.index, columns.lo, end), width)
        for v in range(tile.vectors):
            rest = simplified(Call("sub", (end, self._column(v)), I64))
            self._line(f"mask{v} = {self.e.helper('lanes_below')}({tile.lanes}, {self.e.text(rest)})")
        if tile.packed is not None:
            self._copied(*tile.packed)
        self._open(rows, tile.height)
        for r in range(1, tile.height):
            self._line(f"at{r} = min({rows.index} + {r}, {self.e.text(last)})")
        if rows.index in free(columns.hi):
            self._line(f"if {columns.index} < {self.e.text(self._at_row(columns.hi, tile.height - 1))}:")
            self.depth += 1
        self._block()
        return self.lines

    def _copied(self, load: Load, panel: str) -> None:
        """Copies this block's columns of what all rows share: terms lie side by side there, in few pages and cache sets. Columns past
        the last are zeros there, so that no load in the loop over terms needs a mask."""
        (terms,) = self.tile.reduction
        self._line(f"whole = {self.e.helper('lanes_below')}({self.tile.lanes}, {self.tile.lanes})")
        self._open(terms)
        for v in range(self.tile.vectors):
            value = f"{self.e.helper('load_lanes')}({load.array}, {self._place(load.array, load.indices, 0, v)}, mask{v})"
            self._line(f"{self.e.helper('store_lanes')}({panel}, ({terms.index}, {v * self.tile.lanes}), whole, {value})")
        self.depth -= 1

    def _block(self) -> None:
        """One block of rows and columns: zeros, all terms, stores."""
        tile = self.tile
        zero = constant_text(0.0, tile.value.dtype)
        for r in range(tile.height):
            row = " = ".join(f"acc{r}_{v}" for v in range(tile.vectors))
            self._line(f"{row} = {self.e.helper('splat')}({tile.lanes}, {zero})")
        depth = self.depth
        for b in tile.reduction:
            self._open(Binder(b.index, b.lo, self._at_row(b.hi, 0)))
        self._terms(range(tile.height))
        self.depth = depth
        for b in tile.reduction:
            if tile.rows.index in free(b.hi):
                self._longer_rows(b, depth)
        for r in range(tile.height):
            for v in range(tile.vectors):
                self._line(
                    f"{self.e.helper('store_lanes')}({tile.buffer}, {self._place(tile.buffer, tile.indices, r, v)}, mask{v}, acc{r}_{v})"
                )

    def _longer_rows(self, b: Binder, depth: int) -> None:
        """The terms that later rows have beyond those of the first."""
        for r in range(1, self.tile.height):
            first = Call("max", (b.lo, self._at_row(b.hi, 0)), I64)
            self._open(Binder(b.index, first, self._at_row(b.hi, r)))
            self._terms(range(r, r + 1))
            self.depth = depth

    def _terms(self, rows: range) -> None:
        """Adds one term to the accumulators of the rows given."""
        known: dict[tuple[Expr, int, int], str] = {}
        if isinstance(self.tile.value, Call) and self.tile.value.op == "mul":
            for v in range(self.tile.vectors):  # what all rows share comes first
                for factor in self.tile.value.args:
                    if self.tile.rows.index not in free(factor):
                        self._vector(factor, 0, v, known)
        for r in rows:
            for v in range(self.tile.vectors):
                self._line(f"acc{r}_{v} = {self._added(self.tile.value, f'acc{r}_{v}', r, v, known)}")

    def _added(self, e: Expr, to: str, r: int, v: int, known: dict[tuple[Expr, int, int], str]) -> str:
        if self.contract:
            match e:
                case Call("mul", (a, b)):
                    return f"{self.e.helper('fma_lanes')}({self._vector(a, r, v, known)}, {self._vector(b, r, v, known)}, {to})"
                case Call("powi", (a, Const(2))):
                    base = self._vector(a, r, v, known)
                    return f"{self.e.helper('fma_lanes')}({base}, {base}, {to})"
                case _:
                    pass
        return f"{self.e.helper('add_lanes')}({to}, {self._vector(e, r, v, known)})"

    def _vector(self, e: Expr, r: int, v: int, known: dict[tuple[Expr, int, int], str]) -> str:
        """The name of a value for row r and vector v; computed once for all that it does not depend on."""
        names = free(e)
        key = (e, r if self.tile.rows.index in names else -1, v if self.tile.columns.index in names else -1)
        if key not in known:
            text = self._computed(e, r, v, known)
            known[key] = f"term{self.terms}"
            self.terms += 1
            self._line(f"{known[key]} = {text}")
        return known[key]

    def _computed(self, e: Expr, r: int, v: int, known: dict[tuple[Expr, int, int], str]) -> str:
        if self.tile.columns.index not in free(e):
            return f"{self.e.helper('splat')}({self.tile.lanes}, {self.e.text(self._at_row(e, r))})"
        match e:
            case Load() if self.tile.packed is not None and e == self.tile.packed[0]:
                at = f"({self.tile.reduction[0].index}, {v * self.tile.lanes})"
                return f"{self.e.helper('load_lanes')}({self.tile.packed[1]}, {at}, whole)"
            case Load():
                return f"{self.e.helper('load_lanes')}({e.array}, {self._place(e.array, e.indices, r, v)}, mask{v})"
            case Call("powi", (base, Const(value))):
                name = self._vector(base, r, v, known)
                product = name
                for _ in range(int(value) - 1):
                    product = f"{self.e.helper('mul_lanes')}({product}, {name})"
                return product
            case Call():
                arguments = ", ".join(self._vector(a, r, v, known) for a in e.args)
                return f"{self.e.helper(e.op + '_lanes')}({arguments})"
            case _:
                raise AssertionError(f"not in a tile: {e}")

    # -- places

    def _place(self, array: str, indices: tuple[Expr, ...], r: int, v: int) -> str:
        moved = (substitute(self._at_row(i, r), {self.tile.columns.index: self._column(v)}) for i in indices)
        texts = [self.e.text(simplified(i)) for i in moved]
        ordered = [texts[d] for d in self.e.buffers[array].order]
        return f"({', '.join(ordered)}{',' if len(ordered) == 1 else ''})"

    def _at_row(self, e: Expr, r: int) -> Expr:
        return substitute(e, {self.tile.rows.index: Local(f"at{r}", I64)}) if r else e

    def _column(self, v: int) -> Expr:
        start = IndexRef(self.tile.columns.index)
        return Call("add", (start, const(v * self.tile.lanes, I64)), I64) if v else start

    # -- lines

    def _open(self, b: Binder, step: int = 1) -> None:
        from_zero = isinstance(b.lo, Const) and int(b.lo.value) >= 0
        (self.e.from_zero.add if from_zero else self.e.from_zero.discard)(b.index)
        low = "" if b.lo == const(0, I64) and step == 1 else f"{self.e.text(b.lo)}, "
        self._line(f"for {b.index} in range({low}{self.e.text(b.hi)}{f', {step}' if step != 1 else ''}):")
        self.depth += 1

    def _line(self, text: str) -> None:
        self.lines.append((self.depth, text))

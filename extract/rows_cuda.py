"""Turns a group whose rows reduce over contractions into blocks of rows that go over all terms once: attention, and whatever has its shape.

    s[i, j] = scale * sum(c: q[i, c] * k[j, c])
    o[i, d] = expsum(j: s[i, j], v[j, d]) / expsum(j: s[i, j], 1.0)

The scores of a block live in registers, never in memory. Sums, extremes and expsums of the same terms are made together; one of them may
be along columns besides. That expsum may be made so, in one pass and in any order, is what it means; sums and extremes have no order.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from extract.blocks import blocks_of
from extract.groups import Group
from extract.intervals import with_binder
from extract.names import Names
from extract.rows_staged import PAD
from extract.sizes import number
from extract.tile_cuda import SHAPES, TileShape, block_loops, rectangular
from extract.wide_cuda import certain_loads
from kernel_ir.dtypes import F32, F64, I64, DType
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Const, Expr, Fold, IndexRef, Load, Local, Reduce, const
from kernel_ir.plan import Guard, Launch, RowSum, RowTile, Store
from kernel_ir.walk import children, free, map_children, substitute, subtrees


@dataclass(frozen=True, slots=True)
class RowShape:
    """Rows and terms of a step, columns that a block sums, terms of the inner contraction that it stages, what a thread has of the first
    three (half the rows of f64); whether all of the left operand stays in shared memory, and whether operands are loaded ahead; how
    other contractions of the plan run."""

    height: int
    width: int
    span: int
    depth: int
    each: tuple[int, int, int]
    kept: bool
    ahead: bool = False
    others: TileShape = SHAPES["tile64"]

    @property
    def threads(self) -> int:
        return (self.height // self.each[0]) * (self.width // self.each[1])


ROW_SHAPES: Final = {
    "rows64": RowShape(64, 32, 64, 64, (4, 4, 8), True),
    "rows64x128": RowShape(64, 32, 128, 32, (4, 4, 16), False),
    "rows32": RowShape(32, 32, 64, 64, (4, 4, 8), True),
    "rows64x256": RowShape(64, 32, 256, 16, (4, 2, 16), False),
    "ahead_rows64": RowShape(64, 32, 64, 64, (4, 4, 8), True, True),
    "ahead_rows64x128": RowShape(64, 32, 128, 32, (4, 4, 16), False, True),
    "ahead_rows32": RowShape(32, 32, 64, 64, (4, 4, 8), True, True),
    "ahead_rows64x256": RowShape(64, 32, 256, 16, (4, 2, 16), False, True),
}
"""Of f32 all fit in the shared memory that a block has without asking, and in 168 registers a thread."""
SHARED_BYTES: Final = 48 * 1024
"""What a block has without asking."""
NARROW: Final = 64
"""Columns of the narrowest blocks."""
LEAST_DEPTH: Final = 16
"""Terms of the inner contraction that are staged at once, at least."""
_KINDS: Final = ("sum", "max", "min", "expsum")


class _Unfit(Exception):
    """The group is none of these."""


def shared_elements(t: RowTile) -> int:
    """Elements of shared memory that a block of the tile has."""
    return t.depth * (t.height + t.width + 2 * PAD) + (0 if t.across is None else t.width * (t.span + t.height + PAD))


def fits(t: RowTile, sizes: Mapping[str, int]) -> bool:
    """Whether a block has no more columns than half as many would do for: the others would be computed for nothing."""
    return t.span <= NARROW or t.columns is None or 2 * number(t.columns.hi, sizes) > t.span


def row_launch(name: str, group: Group, shape: RowShape, names: Names, arrays: Mapping[str, ArrayType]) -> Launch | None:
    """The launch of the group by blocks of rows; None for a group of another kind."""
    found = next((m for g in _groupings(group) if (m := _matched(g, shape, names, arrays)) is not None), None)
    if found is None:
        return None
    tile, around = found
    if tile.dtype is F64:
        tile = replace(tile, each=(tile.each[0] // 2, *tile.each[1:]))
    while shared_elements(tile) * tile.dtype.itemsize > SHARED_BYTES:
        if tile.depth == LEAST_DEPTH:
            return None
        tile = replace(tile, kept=False, depth=tile.depth // 2)
    loops = [(tile.row_block, blocks_of(tile.rows.hi, shape.height)), *((b.index, b.hi) for b in reversed(around))]
    if tile.columns is not None:
        blocks = blocks_of(tile.columns.hi, shape.span)
        if any(tile.columns.index not in _names(s.indices) for s in tile.results):  # there to be made without a column too
            blocks = Call("max", (blocks, const(1, I64)), I64)
        loops.insert(0, (tile.column_block, blocks))
    launch = Launch(name, block_loops(loops, tile), math.prod(tile.threads))
    if not tile.kept:
        return launch
    # A longer contraction is staged in parts.
    other = replace(launch, body=block_loops(loops, replace(tile, kept=False, depth=tile.depth // 2)))
    if isinstance(tile.reduction.hi, Const):
        return launch if tile.reduction.hi.value <= tile.depth else other
    return replace(launch, guard=Guard(at_most=((tile.reduction.hi, tile.depth),)), otherwise=other)


def _groupings(group: Group) -> Iterator[Group]:
    """The group, with each of the loops that all its statements share, the last one first, in turn as their columns."""
    if not any(m.inner for m in group.members):
        for b in reversed(group.outer):
            outer = tuple(o for o in group.outer if o is not b)
            yield replace(group, outer=outer, members=tuple(replace(m, inner=(b,)) for m in group.members))
    yield group


def _matched(group: Group, shape: RowShape, names: Names, arrays: Mapping[str, ArrayType]) -> tuple[RowTile, tuple[Binder, ...]] | None:
    try:
        return _Matched(group, shape, names, arrays).tile()
    except _Unfit:
        return None


class _Matched:
    """What is found in a group, a reduction at a time; `_Unfit` where it does not fit."""

    def __init__(self, group: Group, shape: RowShape, names: Names, arrays: Mapping[str, ArrayType]) -> None:
        self.group, self.shape, self.names, self.arrays = group, shape, names, arrays
        self.total = names.fresh("total")
        self.dtype: DType | None = None
        self.term: Binder | None = None
        self.contraction: Reduce | None = None
        self.exponent: Expr | None = None
        self.sums: dict[Expr, RowSum] = {}
        self.across: tuple[Expr, RowSum, Expr] | None = None
        self.columns: Binder | None = None
        self.met: set[tuple[Expr, Expr, bool]] = set()
        """Indices that are met whatever the data where there is a term, the extents they lie in, whether a column must be there too."""
        self.unsure: list[Reduce] = []
        """Contractions that are not always made."""

    def tile(self) -> tuple[RowTile, tuple[Binder, ...]]:
        """The node, and the loops of the group that are not its rows."""
        _require(self.shape.threads % 32 == 0 and all(map(rectangular, self.group.outer)))
        stores = tuple(self._result(stmt, inner) for stmt, inner in self._values())
        _require(stores and self.term is not None and self.contraction is not None and (self.columns is None) == (self.across is None))
        assert self.term is not None
        assert self.contraction is not None
        left, right, rows = self._factors(self.contraction, self.term)
        _require(all(b.index in free(left) | free(right) for b in self.group.outer))
        columns_alone = all(self.columns is not None and self.columns.index in _names(s.indices) for s in stores)
        _require(all(self._whole(r, columns_alone) for r in self.unsure))
        across, factor = (None, None) if self.across is None else self.across[1:]
        sums = tuple(self.sums.values())
        if factor is not None:
            _require(rows.index not in free(factor) and factor.dtype is self.dtype)
        if self.exponent is not None:
            # Where there is an exponent, a step keeps that of each total alone.
            _require(across is None or across.kind == "expsum")
            _require(not any(s.kind == "expsum" and self.total in free(s.value) for s in sums))
        block, column_block = self.names.fresh("row_block"), self.names.fresh("column_block")
        (reduction,) = self.contraction.binders
        s = self.shape
        made = RowTile(
            stores, self.total, left, right, self.exponent, sums, across, factor, rows, self.term, self.columns, reduction,
            block, column_block, s.height, s.width, s.span, s.depth, s.each, s.kept, s.ahead,
        )  # fmt: skip
        return made, tuple(b for b in self.group.outer if b is not rows)

    # -- statements

    def _values(self) -> Iterator[tuple[Assign, tuple[Binder, ...]]]:
        """The statements whose targets outlive the group, with what is local put in its place."""
        local: dict[str, tuple[tuple[Expr, ...], Expr]] = {}

        def inlined(e: Expr) -> Expr:
            e = map_children(inlined, e)
            if not (isinstance(e, Load) and e.array in local):
                return e
            _require(e.default is None)
            indices, value = local[e.array]
            return substitute(value, {i.name: at for i, at in zip(indices, e.indices, strict=True) if isinstance(i, IndexRef)})

        targets = [m.stmt.target for m in self.group.members]
        for m in self.group.members:
            stmt = m.stmt
            _require(stmt.op == "=" and stmt.where is None and targets.count(stmt.target) == 1 and not stmt.otherwise)
            value = inlined(stmt.value)
            if stmt.target in self.group.locals:
                at = [i.name for i in stmt.indices if isinstance(i, IndexRef)]
                _require(len(set(at)) == len(stmt.indices))
                local[stmt.target] = (stmt.indices, value)
                continue
            _require(not any(isinstance(x, Load) and x.array in targets for e in (value, *stmt.indices) for x in subtrees(e)))
            yield replace(stmt, value=value), m.inner

    def _result(self, stmt: Assign, inner: tuple[Binder, ...]) -> Store:
        """What is stored of a statement: its value in terms of the reductions' names."""
        _require(len(inner) <= 1 and all(map(rectangular, inner)))
        names: dict[str, Expr] = {}
        for b in inner:
            if self.columns is None:
                self.columns = b
            _require(self.columns.hi == b.hi)
            names = {b.index: IndexRef(self.columns.index)}
        value = self._named(substitute(stmt.value, names))
        return Store(stmt.target, tuple(substitute(i, names) for i in stmt.indices), value)

    # -- reductions

    def _named(self, e: Expr) -> Expr:
        match e:
            case Reduce():
                return self._sum(e)
            case Fold():
                raise _Unfit
            case Call("select" | "and" | "or", (first, *rest)):
                # What is not always computed may be allowed to read outside where it is not.
                _require(not any(isinstance(x, Reduce | Fold) for r in rest for x in subtrees(r)))
                return replace(e, args=(self._named(first), *rest))
            case _:
                return map_children(self._named, e)

    def _sum(self, r: Reduce) -> Local:
        _require(r.kind in _KINDS and len(r.binders) == 1 and r.dtype in (F32, F64))
        (b,) = r.binders
        self.dtype = self.dtype or r.dtype
        _require(self.dtype is r.dtype)
        if self.term is None:
            self.term = Binder(self.names.fresh(b.index), b.lo, b.hi)
        _require((self.term.lo, self.term.hi) == (b.lo, b.hi))
        for body in r.bodies:
            self._note(substitute(body, {b.index: IndexRef(self.term.index)}))
        bodies = [self._element(substitute(body, {b.index: IndexRef(self.term.index)})) for body in r.bodies]
        if r.kind == "expsum":
            self.exponent = self.exponent or bodies[0]
            _require(self.exponent == bodies[0] and not self._reads_column(bodies[0]))
        value = bodies[-1]
        if not self._reads_column(value):
            key = replace(r, binders=(), bodies=tuple(bodies))
            made = self.sums.get(key) or RowSum(self.names.fresh(f"{r.kind}_{b.index}"), r.kind, value)
            self.sums[key] = made
            return Local(made.name, r.dtype)
        found = self.across
        if found is None:
            weight, factor = self._split(r.kind, value)
            found = self.across = (value, RowSum(self.names.fresh(f"{r.kind}_{b.index}"), r.kind, weight), factor)
        _require(found[0] == value and found[1].kind == r.kind)
        return Local(found[1].name, r.dtype)

    def _split(self, kind: str, value: Expr) -> tuple[Expr, Expr]:
        """The value as (what reads no column, what reads no total): a product as it is written, or an expsum's second operand."""
        _require(kind in ("sum", "expsum"))
        if kind == "expsum":
            _require(self.total not in free(value))
            return const(1.0, value.dtype), value
        if self.total not in free(value) and not isinstance(value, Call):
            raise _Unfit
        match value:
            case Call("mul", (a, b)) if not self._reads_column(a) and self.total not in free(b):
                return a, b
            case Call("mul", (a, b)) if not self._reads_column(b) and self.total not in free(a):
                return b, a
            case _:
                raise _Unfit

    def _reads_column(self, e: Expr) -> bool:
        return self.columns is not None and self.columns.index in free(e)

    def _element(self, e: Expr, always: bool = True) -> Expr:
        """A term with its contraction named."""
        match e:
            case Reduce():
                _require(e.kind == "sum" and len(e.binders) == 1 and e.dtype is self.dtype and not self._reads_column(e))
                (b,) = e.binders
                if self.contraction is None:
                    self.contraction = _renamed(e, self.names.fresh(b.index))
                (known,) = self.contraction.binders
                _require(_renamed(e, known.index) == self.contraction)
                if not always:
                    self.unsure.append(e)
                return Local(self.total, e.dtype)
            case Fold():
                raise _Unfit
            case Call("select" | "and" | "or", (first, *rest)):
                return replace(e, args=(self._element(first, always), *(self._element(x, False) for x in rest)))
            case _:
                return map_children(lambda child: self._element(child, always), e)

    def _note(self, e: Expr) -> None:
        for array, indices in certain_loads(e):
            only = self._reads_column(Load(array, indices, F32))
            self.met |= {(i, n, only) for i, n in zip(indices, self.arrays[array].shape, strict=True)}

    def _whole(self, r: Reduce, columns_alone: bool) -> bool:
        """Whether every load of a contraction is inside its array whatever the term: its indices run over just its dimensions, or are met
        besides; `columns_alone`: whether without a column nothing is made."""
        assert self.term is not None
        extents = {b.index: b.hi for b in (*self.group.outer, self.term, *r.binders)}
        loads = [x for x in subtrees(r) if isinstance(x, Load) and x.default is None]
        at = [(i, n) for x in loads for i, n in zip(x.indices, self.arrays[x.array].shape, strict=True)]
        met = {(i, n) for i, n, only in self.met if (columns_alone or not only) and self.term.index not in free(i)}
        inside = ((i, n) in met or (isinstance(i, IndexRef) and extents.get(i.name) == n) for i, n in at)
        return self.term.lo == const(0, I64) and all(inside)

    # -- the contraction

    def _factors(self, r: Reduce, term: Binder) -> tuple[Expr, Expr, Binder]:
        """The factor that reads rows, the factor that reads terms, and the rows."""
        (body,) = r.bodies
        (c,) = r.binders
        _require(isinstance(body, Call) and body.op == "mul" and body.dtype is self.dtype and rectangular(c))
        first, second = children(body)
        left, right = (second, first) if term.index in free(first) else (first, second)
        _require(term.index in free(right) and term.index not in free(left) and left.dtype is right.dtype is self.dtype)
        own = [b for b in self.group.outer if b.index in free(left) and b.index not in free(right)]
        _require(own)
        rows = own[-1]
        _require(not (free(term.lo) | free(term.hi)) - {rows.index} and not free(term.lo))
        _require(isinstance(term.lo, Const) and term.lo.value >= 0)
        _require(_grows(term.hi, rows.index) and term.index in with_binder(term, with_binder(rows, {})))
        return left, right, rows


def _require(condition: object) -> None:
    if not condition:
        raise _Unfit


def _names(indices: tuple[Expr, ...]) -> frozenset[str]:
    return frozenset[str]().union(*map(free, indices))


def _renamed(r: Reduce, name: str) -> Reduce:
    """The reduction with its index called so."""
    (b,) = r.binders
    return replace(r, binders=(replace(b, index=name),), bodies=tuple(substitute(e, {b.index: IndexRef(name)}) for e in r.bodies))


def _grows(e: Expr, index: str) -> bool:
    """Whether an integer expression is seen not to get less as the index grows."""
    if index not in free(e):
        return True
    match e:
        case IndexRef():
            return True
        case Call("add" | "min" | "max", (a, b)):
            return _grows(a, index) and _grows(b, index)
        case Call("sub", (a, b)):
            return _grows(a, index) and index not in free(b)
        case Call("mul" | "floordiv", (a, Const(n))):
            return _grows(a, index) and int(n) > 0
        case Call("mul", (Const(n), a)):
            return _grows(a, index) and int(n) >= 0
        case _:
            return False

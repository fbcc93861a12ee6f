"""Turns the members of one group into plan nodes: reductions become loops with accumulators, each at the outermost loop that binds it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from extract.groups import Group, Member
from extract.lower_values import ValueLowering
from extract.names import Names
from extract.reductions import (
    UNROLL,
    constant_extent,
    first_term,
    has_few_terms,
    less_one,
    loads_of,
    outermost_reductions,
    over_nothing,
    reads_nearer,
    replaced,
    scans_over,
)
from extract.strides import Orders, access_cost
from extract.tile import Shape, Shapes, packable, tile_rows
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Const, Expr, Fold, IndexRef, Load, Local, Reduce, ReduceKind, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.plan import Accumulator, Buffer, Combine, Let, LoopKind, Node, Store, Tile
from kernel_ir.walk import free, map_children, substitute, subtrees

JOINS: Final[dict[str, ReduceKind]] = {"+=": "sum", "max=": "max", "min=": "min"}
"""What an accumulating statement joins its terms by."""


class Lowering(ValueLowering):
    """Lowers the members of a group, in order, into the nodes of one iteration.

    `bases` maps an index that runs inside a block to (the block's first value, the block's length): buffers over it are of
    that length and indexed from that value. `shapes` chooses the blocks of tiles; without it there are none.
    """

    def __init__(
        self,
        group: Group,
        arrays: Mapping[str, ArrayType],
        names: Names,
        orders: Orders,
        bases: Mapping[str, tuple[Expr, int]] | None = None,
        shapes: Shapes | None = None,
    ) -> None:
        super().__init__({b.index for b in group.outer}, names, orders)
        self.group = group
        self.arrays = arrays
        self.bases = dict(bases or {})
        self.shapes = shapes
        self.buffers: list[Buffer] = []

    def nodes(self) -> tuple[Node, ...]:
        """The nodes of one iteration of the group's outer loops."""
        for member in self.group.members:
            self._member(member)
            self._forget(member.stmt.target)
        return tuple(self.scopes[0].body)

    # -- members

    def _member(self, member: Member) -> None:
        stmt = member.stmt
        inner = member.inner
        if stmt.target in self.group.locals and any(i not in self._outer() for i in stmt.indices):
            self._local_buffer(stmt.target, member)
        if not inner:
            self._scalar(member)
            return
        last = inner[-1]
        extent = constant_extent(last)
        if extent is not None and extent <= UNROLL and (self._has_loops(stmt.value) or len(inner) > 1):
            for n in range(extent):
                assert isinstance(last.lo, Const)
                at = {last.index: const(int(last.lo.value) + n, I64)}
                where = None if stmt.where is None else substitute(stmt.where, at)
                one = replace(stmt, value=substitute(stmt.value, at), indices=tuple(substitute(i, at) for i in stmt.indices), where=where)
                self._member(Member(one, inner[:-1]))
            return
        self._row(member)

    def _scalar(self, member: Member) -> None:
        stmt = member.stmt
        if stmt.target in self.group.locals and all(i in self._outer() for i in stmt.indices):
            value = self.value(stmt.value, hint=stmt.target)
            if not isinstance(value, Local | Const):
                name = self.names.fresh(stmt.target)
                self._emit(Let(name, value))
                value = Local(name, value.dtype)
            self.scalars[stmt.target] = value
            return
        self._store(member)

    def _store(self, member: Member) -> None:
        """The statement at the innermost open loop."""
        stmt = member.stmt
        if stmt.where is None:
            self._put(stmt)
            return
        condition = self.value(stmt.where)
        with self._branch(condition):
            self._put(stmt)

    def _put(self, stmt: Assign) -> None:
        lowered = self.value(stmt.value)
        at = self._places(stmt.target, tuple(self.value(i) for i in stmt.indices))
        if stmt.op == "=":
            self._emit(Store(stmt.target, at, lowered))
        else:  # the iterations of the outer loops meet there
            self._emit(Store(stmt.target, at, lowered, kind=JOINS[stmt.op], atomic=True))

    def _row(self, member: Member) -> None:
        stmt = member.stmt
        target = stmt.target
        scan = self._scan(member)
        if scan is not None:
            self._scanned(member, scan)
            return
        swapped = self._exchanged(member)
        value = stmt.value
        for r in swapped:
            value = replaced(value, r, self._accumulated_row(r, member))
        if isinstance(value, Load) and value.array == target:
            return  # summed in place
        with self._loops(self._ordered(member)):
            self._store(Member(replace(stmt, value=value), ()))

    def _ordered(self, member: Member) -> tuple[Binder, ...]:
        """The member's loops, the one with the nearest accesses innermost where all are independent."""
        inner = member.inner
        if len(inner) < 2 or self._has_loops(member.stmt.value) or any(free(b.lo) | free(b.hi) for b in inner):
            return inner
        stored = Load(member.stmt.target, member.stmt.indices, I64)
        accesses = [*loads_of(member.stmt.value), stored, stored]  # a store that strides costs twice a load
        best = min(range(len(inner)), key=lambda n: (access_cost(accesses, inner[n].index, self.orders), -n))
        return (*inner[:best], *inner[best + 1 :], inner[best])

    # -- sums whose spatial loop is innermost

    def _exchanged(self, member: Member) -> tuple[Reduce, ...]:
        """Reductions of the value to accumulate into a row: memory is nearer along the row than along the reduction."""
        if member.stmt.where is not None:
            return ()
        row = member.inner[-1].index
        found: list[Reduce] = []
        for r in outermost_reductions(member.stmt.value):
            depends = {b.index for b in member.inner} & free(r)
            if self._tile_rows(r, member) is not None:
                found.append(r)
                continue
            ranges = frozenset[str]().union(*(free(b.lo) | free(b.hi) for b in r.binders))
            if row not in depends or ranges & {b.index for b in member.inner} or REDUCTIONS[r.kind].combine is None:
                continue
            if has_few_terms(r):
                continue
            if r not in found and reads_nearer(r, row, self.orders):
                found.append(r)
        return tuple(found)

    def _accumulated_row(self, r: Reduce, member: Member) -> Expr:
        """Emits the loops of `r` around the member's, adding into a row; returns the load of the row's element."""
        stmt = member.stmt
        inner = member.inner
        array = self.arrays[stmt.target]
        if stmt.value == r and array.dtype == r.dtype and stmt.target not in self.group.locals:
            name, at = stmt.target, stmt.indices
        elif stmt.value == r and stmt.target in self.group.locals:
            name, at = stmt.target, self._places(stmt.target, stmt.indices)
        else:
            name = self.names.fresh(f"{stmt.target}_sum")
            shape = tuple(self._extent(b, array, stmt.indices) for b in inner)
            self.buffers.append(Buffer(name, r.dtype, shape, "local", tuple(range(len(inner)))))
            at = tuple(self._from_base(IndexRef(b.index)) for b in inner)
        rows = self._tile_rows(r, member)
        if rows is not None:
            self._tile(r, member, rows, name, at)
            return Load(name, at if name != stmt.target else stmt.indices, r.dtype)
        with self._loops(inner):
            self._emit(Store(name, at, over_nothing(r.kind, r.dtype)))
        renamed = self._apart(r)
        with self._loops(renamed.binders), self._loops(inner, keep=True):
            (body,) = renamed.bodies
            self._emit(Store(name, at, self.value(body), kind=r.kind))
        return Load(name, at if name != stmt.target else stmt.indices, r.dtype)

    def _tile_rows(self, r: Reduce, member: Member) -> Binder | None:
        """The loop of the member that can be the rows of a tile for `r`, the last loop being its columns."""
        if self.shapes is None or len(member.inner) < 2 or member.stmt.where is not None:
            return None
        *others, columns = member.inner
        rows = tile_rows(r, reversed(others), columns, self.arrays, self.orders)
        if rows is None or any((free(b.lo) | free(b.hi)) & {b.index for b in member.inner} for b in others):
            return None
        ragged = rows.index in free(columns.hi)  # columns past a row's own are written: only where nobody reads them
        return None if ragged and not (member.stmt.value == r and member.stmt.target in self.group.locals) else rows

    def _tile(self, r: Reduce, member: Member, rows: Binder, name: str, at: tuple[Expr, ...]) -> None:
        assert self.shapes is not None
        columns = member.inner[-1]
        renamed = self._apart(r)
        bound = {b.index for b in (rows, columns, *renamed.binders)}
        shape = self.shapes(r, rows, columns)
        with self._loops(tuple(b for b in member.inner if b not in (rows, columns))):
            ranges = (Binder(b.index, self.value(b.lo), self.value(b.hi)) for b in (rows, columns, *renamed.binders))
            first, second, *reduction = ranges
            value = self._untouched(renamed.bodies[0], bound)
            packs = shape.packs or columns.index in self.bases
            shared = packable(value, first, second, tuple(reduction)) if packs else None
            packed = None if shared is None else (shared, self._panel(shared, reduction[0], shape))
            self._emit(Tile(name, at, value, first, second, tuple(reduction), shape.height, shape.vectors, shape.lanes, packed))

    def _panel(self, shared: Load, terms: Binder, shape: Shape) -> str:
        """The buffer for a block's columns of what all rows share."""
        name = self.names.fresh(f"{shared.array}_panel")
        width = const(shape.vectors * shape.lanes, I64)
        self.buffers.append(Buffer(name, shared.dtype, (terms.hi, width), "local", (0, 1)))
        return name

    def _untouched(self, e: Expr, bound: set[str]) -> Expr:
        """A tile's value: what reads no index of the tile is lowered, of the rest the loads alone."""
        if not free(e) & bound:
            return self.value(e)
        return self._load(e) if isinstance(e, Load) else map_children(lambda child: self._untouched(child, bound), e)

    # -- running sums

    def _scan(self, member: Member) -> Reduce | None:
        """The only reduction of the value, where its range grows by one with each element of the row."""
        reductions = list(outermost_reductions(member.stmt.value))
        if len(member.inner) != 1 or len(reductions) != 1 or member.stmt.where is not None:
            return None
        (r,), row = reductions, member.inner[0]
        return r if scans_over(r, row) else None

    def _scanned(self, member: Member, r: Reduce) -> None:
        (row,) = member.inner
        (b,) = r.binders
        first = first_term(r, row)
        exclusive = first == less_one(b.lo)
        name = self.names.fresh(f"{member.stmt.target}_run")
        self._emit(Accumulator(name, r.kind, r.dtype))
        if first != b.lo and not exclusive:
            renamed = self._apart(replace(r, binders=(Binder(b.index, b.lo, first),)))
            with self._loops(renamed.binders):
                self._emit(Combine(name, r.kind, (self.value(renamed.bodies[0]),)))
        term = substitute(r.bodies[0], {b.index: less_one(b.hi)})
        with self._loops((row,), LoopKind.SERIAL):
            if exclusive:  # the first element's range is empty
                with self._branch(Call("gt", (IndexRef(row.index), self.value(row.lo)), BOOL)):
                    self._emit(Combine(name, r.kind, (self.value(term),)))
            else:
                self._emit(Combine(name, r.kind, (self.value(term),)))
            value = replaced(member.stmt.value, r, Local(name, r.dtype))
            self._store(Member(replace(member.stmt, value=value), ()))

    # -- buffers

    def _local_buffer(self, target: str, member: Member) -> None:
        if any(b.name == target for b in self.buffers):
            return
        array, outer = self.arrays[target], self._outer()
        kept = [d for d, i in enumerate(member.stmt.indices) if i not in outer]
        blocks = [self.bases.get(i.name) if isinstance(i, IndexRef) else None for i in (member.stmt.indices[d] for d in kept)]
        shape = tuple(array.shape[d] if block is None else const(block[1], I64) for d, block in zip(kept, blocks, strict=True))
        self.kept[target] = tuple((d, None if block is None else block[0]) for d, block in zip(kept, blocks, strict=True))
        self.buffers.append(Buffer(target, array.dtype, shape, "local", tuple(range(len(shape)))))

    def _outer(self) -> frozenset[Expr]:
        return frozenset(IndexRef(b.index) for b in self.group.outer)

    def _from_base(self, i: IndexRef) -> Expr:
        return Call("sub", (i, self.bases[i.name][0]), I64) if i.name in self.bases else i

    def _extent(self, b: Binder, array: ArrayType, indices: tuple[Expr, ...]) -> Expr:
        if b.index in self.bases:
            return const(self.bases[b.index][1], I64)
        return array.shape[indices.index(IndexRef(b.index))]

    def _has_loops(self, e: Expr) -> bool:
        return any(isinstance(x, Reduce | Fold) for x in subtrees(e))

"""Turns the members of one group into plan nodes: reductions become loops with accumulators, each at the outermost loop that binds it."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from extract.domains import conjunction
from extract.groups import Group, Member
from extract.strides import Orders, access_cost, coefficient
from extract.values import Values
from kernel_ir.dtypes import BOOL, I64, DType
from kernel_ir.nodes import (
    ArrayType,
    Binder,
    Call,
    Carry,
    Const,
    Expr,
    Fold,
    IndexRef,
    Load,
    Local,
    ParamRef,
    Reduce,
    SizeRef,
    const,
)
from kernel_ir.ops import OPS, REDUCTIONS, Unit
from kernel_ir.plan import Accumulator, Buffer, Combine, FoldLoop, Let, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import children, free, map_children, substitute, subtrees

UNROLL: Final = 8
"""Constant extents up to this are written out."""
NAMED: Final = frozenset({Unit.DIV, Unit.SQRT, Unit.EXP, Unit.TRIG, Unit.IDIV})
"""Units whose results get a name: computed once, at the outermost loop that has their operands."""


@dataclass(slots=True)
class Scope:
    """One open loop (or the iteration itself): what it binds, the nodes so far, values that already have a name here."""

    names: set[str]
    body: list[Node] = field(default_factory=list[Node])
    known: dict[Expr, Expr] = field(default_factory=dict[Expr, Expr])


class Names:
    """Hands out names that no array, size, parameter or earlier loop of the kernel has."""

    def __init__(self, taken: Iterator[str] | set[str]) -> None:
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        number, candidate = 1, name
        while candidate in self._taken:
            number += 1
            candidate = f"{name}{number}"
        self._taken.add(candidate)
        return candidate


class Lowering(Values):
    """Lowers the members of a group, in order, into the nodes of one iteration.

    `bases` maps an index that runs inside a block to (the block's first value, the block's length): buffers over it are of
    that length and indexed from that value.
    """

    def __init__(
        self,
        group: Group,
        arrays: Mapping[str, ArrayType],
        names: Names,
        orders: Orders,
        bases: Mapping[str, tuple[Expr, int]] | None = None,
    ) -> None:
        self.group = group
        self.arrays = arrays
        self.names = names
        self.orders = orders
        self.bases = dict(bases or {})
        self.buffers: list[Buffer] = []
        self.scalars: dict[str, Expr] = {}
        self.kept: dict[str, tuple[tuple[int, Expr | None], ...]] = {}
        self.scopes = [Scope({b.index for b in group.outer})]
        self.guards: list[tuple[int, Expr]] = []

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
        extent = _constant_extent(last)
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
                value = Local(name, _dtype(value))
            self.scalars[stmt.target] = value
            return
        self._store(member)

    def _store(self, member: Member) -> None:
        """The statement at the innermost open loop."""
        stmt = member.stmt
        if stmt.where is None:
            self._put(stmt.target, stmt.indices, stmt.value)
            return
        condition = self.value(stmt.where)
        with self._branch(condition):
            self._put(stmt.target, stmt.indices, stmt.value)

    def _put(self, target: str, indices: tuple[Expr, ...], value: Expr) -> None:
        lowered = self.value(value)
        self._emit(Store(target, self._places(target, tuple(self.value(i) for i in indices)), lowered))

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
            value = _replaced(value, r, self._accumulated_row(r, member))
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
        accesses = [*_loads(member.stmt.value), stored, stored]  # a store that strides costs twice a load
        best = min(range(len(inner)), key=lambda n: (access_cost(accesses, inner[n].index, self.orders), -n))
        return (*inner[:best], *inner[best + 1 :], inner[best])

    # -- sums whose spatial loop is innermost

    def _exchanged(self, member: Member) -> tuple[Reduce, ...]:
        """Reductions of the value to accumulate into a row: memory is nearer along the row than along the reduction."""
        if member.stmt.where is not None:
            return ()
        row = member.inner[-1].index
        found: list[Reduce] = []
        for r in _outermost_reductions(member.stmt.value):
            depends = {b.index for b in member.inner} & free(r)
            ranges = frozenset[str]().union(*(free(b.lo) | free(b.hi) for b in r.binders))
            if row not in depends or ranges & {b.index for b in member.inner} or REDUCTIONS[r.kind].combine is None:
                continue
            if all(_constant_extent(b) is not None for b in r.binders) and _extents(r.binders) <= UNROLL:
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
        with self._loops(inner):
            self._emit(Store(name, at, over_nothing(r.kind, r.dtype)))
        renamed = self._apart(r)
        with self._loops(renamed.binders), self._loops(inner, keep=True):
            (body,) = renamed.bodies
            self._emit(Store(name, at, self.value(body), kind=r.kind))
        return Load(name, at if name != stmt.target else stmt.indices, r.dtype)

    # -- running sums

    def _scan(self, member: Member) -> Reduce | None:
        """The only reduction of the value, where its range grows by one with each element of the row."""
        reductions = list(_outermost_reductions(member.stmt.value))
        if len(member.inner) != 1 or len(reductions) != 1 or member.stmt.where is not None:
            return None
        (r,), row = reductions, member.inner[0]
        return r if scans_over(r, row) else None

    def _scanned(self, member: Member, r: Reduce) -> None:
        (row,) = member.inner
        (b,) = r.binders
        first = _first(r, row)
        exclusive = first == _less_one(b.lo)
        name = self.names.fresh(f"{member.stmt.target}_run")
        self._emit(Accumulator(name, r.kind, r.dtype))
        if first != b.lo and not exclusive:
            renamed = self._apart(replace(r, binders=(Binder(b.index, b.lo, first),)))
            with self._loops(renamed.binders):
                self._emit(Combine(name, r.kind, (self.value(renamed.bodies[0]),)))
        term = substitute(r.bodies[0], {b.index: _less_one(b.hi)})
        with self._loops((row,), LoopKind.SERIAL):
            if exclusive:  # the first element's range is empty
                with self._branch(Call("gt", (IndexRef(row.index), self.value(row.lo)), BOOL)):
                    self._emit(Combine(name, r.kind, (self.value(term),)))
            else:
                self._emit(Combine(name, r.kind, (self.value(term),)))
            value = _replaced(member.stmt.value, r, Local(name, r.dtype))
            self._store(Member(replace(member.stmt, value=value), ()))

    # -- values

    def _load(self, e: Load) -> Expr:
        if e.array in self.scalars:
            return self.scalars[e.array]
        indices = tuple(self.value(i) for i in e.indices)
        return replace(e, indices=self._places(e.array, indices), default=None if e.default is None else self.value(e.default))

    def _call(self, e: Call) -> Expr:
        lowered = replace(e, args=tuple(self.value(a) for a in e.args))
        safe = not self.guards or not any(isinstance(x, Load) for x in subtrees(e))
        if OPS[e.op].unit not in NAMED or not safe or all(isinstance(a, Const) for a in e.args):
            if e.op == "powi" and not isinstance(lowered.args[0], Local) and safe:
                return replace(lowered, args=(self._named(e.args[0], lowered.args[0], "p"), lowered.args[1]))
            return lowered
        return self._named(e, lowered, e.op)

    def _named(self, e: Expr, lowered: Expr, hint: str) -> Expr:
        """A name for the value, at the outermost scope that has its operands; the name it already has, if any."""
        if isinstance(lowered, Const | SizeRef | ParamRef | IndexRef | Local):
            return lowered
        level = self._level(e)
        for scope in self.scopes[: level + 1]:
            if e in scope.known:
                return scope.known[e]
        name = self.names.fresh(hint)
        self.scopes[level].body.append(Let(name, lowered))
        named = Local(name, _dtype(e))
        self.scopes[level].known[e] = named
        return named

    def _reduce(self, r: Reduce, hint: str) -> Expr:
        if r.kind == "expsum":
            return self.value(two_pass(r))
        level = self._level(r)
        for scope in self.scopes[: level + 1]:
            if r in scope.known:
                return scope.known[r]
        combine = REDUCTIONS[r.kind].combine
        if combine is not None and all(_constant_extent(b) is not None for b in r.binders) and 1 <= _extents(r.binders) <= UNROLL:
            return self.value(_written_out(r, combine))
        with self._at(level):
            return self._accumulate(r, hint)

    def _accumulate(self, r: Reduce, hint: str) -> Expr:
        name = self.names.fresh(hint or f"{r.kind}_{r.binders[0].index}")
        scope = self.scopes[-1]
        self._emit(Accumulator(name, r.kind, r.dtype if not r.kind.startswith("arg") else _dtype(r.bodies[0])))
        renamed = self._apart(r)
        guards = tuple(g for _, g in self.guards)
        with self._under(guards), self._loops(self._reduction_order(renamed)):
            values = tuple(self.value(b) for b in renamed.bodies)
            if r.kind.startswith("arg"):
                values = (*values, IndexRef(renamed.binders[-1].index))
            self._emit(Combine(name, r.kind, values))
        result = Local(f"{name}_at" if r.kind.startswith("arg") else name, r.dtype)
        if not guards:
            scope.known[r] = result
        return result

    def _reduction_order(self, r: Reduce) -> tuple[Binder, ...]:
        """The reduction's loops, nearest accesses innermost, where their ranges are independent (an argmax keeps its order)."""
        binders = r.binders
        if len(binders) < 2 or r.kind.startswith("arg") or any(free(b.lo) | free(b.hi) for b in binders):
            return binders
        accesses = [x for body in r.bodies for x in _loads(body)]
        best = min(range(len(binders)), key=lambda n: (access_cost(accesses, binders[n].index, self.orders), -n))
        return (*binders[:best], *binders[best + 1 :], binders[best])

    def _fold(self, f: Fold, hint: str) -> Expr:
        level = self._level(f)
        for scope in self.scopes[: level + 1]:
            if f in scope.known:
                return scope.known[f]
        guards = tuple(g for _, g in self.guards)
        with self._at(level), self._under(guards):
            carries = {c.name: self.names.fresh(c.name) for c in f.carries}
            index = self.names.fresh(f.binder.index)
            dtypes = tuple(_dtype(c.init) for c in f.carries)
            values: dict[str, Expr] = {c.name: Local(carries[c.name], t) for c, t in zip(f.carries, dtypes, strict=True)}
            values[f.binder.index] = IndexRef(index)
            lo, hi = self.value(f.binder.lo), self.value(f.binder.hi)
            inits = [self.value(c.init) for c in f.carries]
            step = Scope({index, *carries.values()})
            self.scopes.append(step)
            condition = None if f.condition is None else self.value(substitute(f.condition, values))
            updates = [self.value(substitute(c.update, values)) for c in f.carries]
            self.scopes.pop()
            ends = tuple(Carry(carries[c.name], init, update) for c, init, update in zip(f.carries, inits, updates, strict=True))
            self._emit(FoldLoop(index, lo, hi, ends, condition, dtypes, tuple(step.body)))
            result = Local(carries[f.result], f.dtype)
        if not guards:
            self.scopes[level].known[f] = result
        return result

    # -- scopes

    def _level(self, e: Expr) -> int:
        """The outermost scope that binds all that `e` reads; the innermost where a condition guards it."""
        if self.guards and any(isinstance(x, Load | Reduce | Fold) for x in subtrees(e)):
            return len(self.scopes) - 1
        names = free(e)
        return max((n for n, scope in enumerate(self.scopes) if scope.names & names), default=0)

    def _emit(self, node: Node) -> None:
        self.scopes[-1].body.append(node)

    @contextmanager
    def _at(self, level: int) -> Generator[None]:
        """Emits into an outer scope for a while."""
        whole, self.scopes = self.scopes, self.scopes[: level + 1]
        try:
            yield
        finally:
            self.scopes = whole

    @contextmanager
    def _loops(self, binders: tuple[Binder, ...], kind: LoopKind = LoopKind.VECTOR, keep: bool = False) -> Generator[None]:
        """Opens loops, the innermost of `kind`; they close, and land in their enclosing scopes, at the end."""
        start = len(self.scopes)
        ranges: list[tuple[Expr, Expr]] = []
        for b in binders:
            ranges.append((self.value(b.lo), self.value(b.hi)))
            self.scopes.append(Scope({b.index}))
        yield
        for n in reversed(range(len(binders))):
            scope = self.scopes.pop()
            holds_loop = any(isinstance(x, Loop | FoldLoop) for x in scope.body)
            chosen = kind if n == len(binders) - 1 and not holds_loop else LoopKind.SERIAL
            lo, hi = ranges[n]
            self._emit(Loop(binders[n].index, lo, hi, chosen, tuple(scope.body)))
        assert len(self.scopes) == start

    @contextmanager
    def _branch(self, condition: Expr) -> Generator[None]:
        self.scopes.append(Scope(set()))
        with self._guard(condition):
            yield
        body = tuple(self.scopes.pop().body)
        self._emit(When(condition, body))

    @contextmanager
    def _under(self, guards: tuple[Expr, ...]) -> Generator[None]:
        """Emits under a condition, if there are guards; inside, nothing is guarded any more."""
        if not guards:
            yield
            return
        kept, self.guards = self.guards, []
        self.scopes.append(Scope(set()))
        yield
        body = tuple(self.scopes.pop().body)
        self._emit(When(conjunction(guards), body))
        self.guards = kept

    @contextmanager
    def _guard(self, condition: Expr) -> Generator[None]:
        self.guards.append((len(self.scopes), condition))
        yield
        self.guards.pop()

    def _forget(self, array: str) -> None:
        """Drops named values that read what a statement has just written."""
        for scope in self.scopes:
            scope.known = {e: v for e, v in scope.known.items() if not any(isinstance(x, Load) and x.array == array for x in subtrees(e))}

    # -- buffers and names

    def _apart(self, r: Reduce) -> Reduce:
        """The reduction with binders that no open loop uses."""
        open_names = frozenset[str]().union(*(s.names for s in self.scopes))
        values: dict[str, Expr] = {}
        binders: list[Binder] = []
        for b in r.binders:
            lo, hi = substitute(b.lo, values), substitute(b.hi, values)
            name = b.index
            if name in open_names or any(name == done.index for done in binders):
                name = self.names.fresh(name)
                values[b.index] = IndexRef(name)
            binders.append(Binder(name, lo, hi))
        return replace(r, binders=tuple(binders), bodies=tuple(substitute(x, values) for x in r.bodies))

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

    def _places(self, array: str, indices: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Indices into what holds the array: a local buffer has the inner dimensions alone, a block's from its start."""
        if array not in self.kept:
            return indices
        return tuple(indices[d] if base is None else simplified(Call("sub", (indices[d], base), I64)) for d, base in self.kept[array])

    def _from_base(self, i: IndexRef) -> Expr:
        return Call("sub", (i, self.bases[i.name][0]), I64) if i.name in self.bases else i

    def _extent(self, b: Binder, array: ArrayType, indices: tuple[Expr, ...]) -> Expr:
        if b.index in self.bases:
            return const(self.bases[b.index][1], I64)
        return array.shape[indices.index(IndexRef(b.index))]

    def _has_loops(self, e: Expr) -> bool:
        return any(isinstance(x, Reduce | Fold) for x in subtrees(e))


# -- helpers on core expressions


def two_pass(r: Reduce) -> Expr:
    """`expsum(j: s, v)` as its definition: the maximum first, then the sum."""
    s, v = r.bodies
    maximum = Reduce("max", r.binders, (s,), r.dtype)
    weight = Call("exp", (Call("sub", (s, maximum), r.dtype),), r.dtype)
    body = weight if isinstance(v, Const) and v.value == 1.0 else Call("mul", (weight, v), r.dtype)
    return Reduce("sum", r.binders, (body,), r.dtype)


def reads_nearer(r: Reduce, row: str, orders: Orders) -> bool:
    """Whether the body's accesses are nearer along `row` than along the reduction's own best loop."""
    if any(row in free(b.lo) | free(b.hi) for b in r.binders):
        return False
    accesses = [x for body in r.bodies for x in _loads(body)]
    own = min(access_cost(accesses, b.index, orders) for b in r.binders)
    return access_cost(accesses, row, orders) < own


def scans_over(r: Reduce, row: Binder) -> bool:
    """Whether the reduction over `lo..row + c`, with the first row's range not empty, can run along with the row."""
    if REDUCTIONS[r.kind].combine is None or len(r.binders) != 1:
        return False
    (b,) = r.binders
    names = free(b.lo) | (free(r.bodies[0]) - {b.index})
    if row.index in names or coefficient(b.hi, row.index) != 1:
        return False
    first = _first(r, row)
    return first in (b.lo, _less_one(b.lo)) or (isinstance(first, Const) and isinstance(b.lo, Const) and first.value >= b.lo.value)


def _first(r: Reduce, row: Binder) -> Expr:
    """The last term of the row's first element."""
    return _less_one(substitute(r.binders[0].hi, {row.index: row.lo}))


def _less_one(e: Expr) -> Expr:
    return simplified(Call("sub", (e, const(1, I64)), I64))


def over_nothing(kind: str, dtype: DType) -> Const:
    """The value of a reduction over nothing: for integers, the least or greatest value of the dtype."""
    value = REDUCTIONS[kind].over_nothing
    assert value is not None
    if dtype.is_int and kind in ("max", "min"):
        half = 1 << (dtype.bits - 1)
        return const(-half if kind == "max" else half - 1, dtype)
    return const(value, dtype)


def simplified(e: Expr) -> Expr:
    """Integer sums with their constants joined: `i + 1 - 1` is `i`."""
    match e:
        case Call("add" | "sub", (a, b)) if e.dtype is I64:
            a, b = simplified(a), simplified(b)
            if e.op == "sub" and a == b:
                return const(0, I64)
            terms, constant = _split(replace(e, args=(a, b)))
            if terms is None:
                return const(constant, I64)
            if constant == 0:
                return terms
            op = "add" if constant > 0 else "sub"
            return Call(op, (terms, const(abs(constant), I64)), I64)
        case _:
            return e


def _split(e: Expr) -> tuple[Expr | None, int]:
    """`e` as (what is not constant, the constant)."""
    match e:
        case Const():
            return None, int(e.value)
        case Call("add" | "sub", (a, b)):
            (left, c), (right, d) = _split(a), _split(b)
            total = c + d if e.op == "add" else c - d
            if left == right and e.op == "sub":
                return None, total
            if right is None:
                return left, total
            if left is None:
                return (right, total) if e.op == "add" else (Call("neg", (right,), I64), total)
            return Call(e.op, (left, right), I64), total
        case _:
            return e, 0


def _written_out(r: Reduce, combine: str) -> Expr:
    """A reduction over a small constant box as one expression."""
    terms: list[Expr] = [r.bodies[0]]
    for b in r.binders:
        assert isinstance(b.lo, Const)
        values = range(int(b.lo.value), int(b.lo.value) + (_constant_extent(b) or 0))
        terms = [substitute(t, {b.index: const(n, I64)}) for t in terms for n in values]
    total = terms[0]
    for t in terms[1:]:
        total = Call(combine, (total, t), r.dtype)
    return total


def _constant_extent(b: Binder) -> int | None:
    if isinstance(b.lo, Const) and isinstance(b.hi, Const):
        return max(0, int(b.hi.value) - int(b.lo.value))
    return None


def _extents(binders: tuple[Binder, ...]) -> int:
    total = 1
    for b in binders:
        total *= _constant_extent(b) or 0
    return total


def _loads(e: Expr) -> list[Load]:
    return [x for x in subtrees(e) if isinstance(x, Load)]


def _outermost_reductions(e: Expr) -> Iterator[Reduce]:
    if isinstance(e, Reduce):
        yield e
        return
    for child in children(e):
        yield from _outermost_reductions(child)


def _replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    return new if e == old else map_children(lambda child: _replaced(child, old, new), e)


def _dtype(e: Expr) -> DType:
    return e.dtype

"""Turns the members of a group into the plan nodes of one GPU iteration: run by one thread, or shared by the threads of a warp or block."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Literal

from extract.domains import conjunction
from extract.groups import Group, Member
from extract.names import Names
from extract.reductions import two_pass
from extract.values import Values
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.errors import TargetError
from kernel_ir.nodes import (
    Assign,
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
    ReduceKind,
    SizeRef,
    const,
)
from kernel_ir.ops import OPS, Unit
from kernel_ir.plan import Accumulator, Barrier, Combine, FoldLoop, Join, Let, Loop, LoopKind, Node, Store, When
from kernel_ir.walk import free, map_children, substitute, subtrees

Team = Literal["warp", "block"]
"""Which threads share one iteration; a thread alone has no team."""
COSTLY: Final = frozenset({Unit.DIV, Unit.SQRT, Unit.EXP, Unit.TRIG, Unit.IDIV})
"""Units whose results are kept in a name outside the loops that do not change them."""


class ThreadLowering(Values):
    """Lowers the members of a group, in order. `extent` estimates the length of a range: the longest is shared by a team."""

    def __init__(self, group: Group, scalars: frozenset[str], names: Names, team: Team | None, extent: Callable[[Binder], int]) -> None:
        self.group = group
        self.scalar_names = scalars
        self.names = names
        self.team: Team | None = team
        self.extent = extent
        self.scalars: dict[str, Expr] = {}
        self.bodies: list[list[Node]] = [[]]
        self.known: list[dict[Expr, Expr]] = [{}]
        self.guards: list[Expr] = []
        self.alone = 0
        self.written: set[str] = set()
        self.read: set[str] = set()

    def nodes(self) -> tuple[Node, ...]:
        """The nodes of one iteration of the group's outer loops."""
        for member in self.group.members:
            self._member(member)
        return tuple(self.bodies[0])

    def accumulation(self, target: str, kind: ReduceKind) -> tuple[Node, ...]:
        """The nodes of one iteration of an accumulating group: joins its value to `target`, where others may join theirs."""
        (member,) = self.group.members
        stmt = member.stmt
        condition = None if stmt.where is None else self.value(stmt.where)
        with self._branch(condition):
            indices = tuple(map(self.value, stmt.indices))
            self._emit(Store(target, indices, self.value(stmt.value), kind, atomic=True))
        return tuple(self.bodies[0])

    # -- members

    def _member(self, member: Member) -> None:
        stmt = member.stmt
        self._meet(stmt)
        if stmt.target in self.scalar_names:
            value = self.value(stmt.value)
            self.scalars[stmt.target] = self._let(stmt.target, value)
            self._met(stmt)
            return
        if not member.inner:
            self._row_store(stmt)
        else:
            self._inner_store(stmt, member.inner)
        self._met(stmt)
        for known in self.known:
            for e in [e for e in known if any(isinstance(x, Load) and x.array == stmt.target for x in subtrees(e))]:
                del known[e]

    def _meet(self, stmt: Assign) -> None:
        """A barrier where the statement meets what other threads of the team wrote, or overwrites what they may still read."""
        if self.team is None:
            return
        if _arrays_read(stmt) & self.written or stmt.target in self.read | self.written:
            self._emit(Barrier(self.team))
            self.written.clear()
            self.read.clear()

    def _met(self, stmt: Assign) -> None:
        """Notes what the statement read and wrote since the last barrier; one inside it is counted as if it came before."""
        self.read |= _arrays_read(stmt)
        if stmt.target not in self.scalar_names:
            self.written.add(stmt.target)

    def _row_store(self, stmt: Assign) -> None:
        """A value of the whole iteration: every thread of a team has it, the first stores it."""
        condition = None if stmt.where is None else self.value(stmt.where)
        with self._guard(condition):
            value = self.value(stmt.value)
            indices = tuple(map(self.value, stmt.indices))
        store: Node = Store(stmt.target, indices, value)
        if condition is not None:
            store = When(condition, (store,))
        if self.team is None:
            self._emit(store)
            return
        one = self.names.fresh("one")
        self._emit(Loop(one, const(0, I64), const(1, I64), LoopKind.THREAD, (store,)))

    def _inner_store(self, stmt: Assign, inner: tuple[Binder, ...]) -> None:
        # Under a `where`, what the loops do not change may still be outside its arrays.
        value = stmt.value if stmt.where is not None else self._hoisted(stmt.value, frozenset(b.index for b in inner))
        with self._loops(inner, shared=self.team is not None) as names:
            at = substitute(value, names)
            condition = None if stmt.where is None else self.value(substitute(stmt.where, names))
            indices = tuple(self.value(substitute(i, names)) for i in stmt.indices)
            with self._branch(condition):
                self._emit(Store(stmt.target, indices, self.value(at)))

    # -- values

    def _load(self, e: Load) -> Expr:
        if e.array in self.scalars:
            return self.scalars[e.array]
        default = None if e.default is None else self.value(e.default)
        return replace(e, indices=tuple(map(self.value, e.indices)), default=default)

    def _call(self, e: Call) -> Expr:
        return replace(e, args=tuple(map(self.value, e.args)))

    def _known(self, e: Expr) -> Expr | None:
        return next((known[e] for known in self.known if e in known), None)

    def _reduce(self, r: Reduce, hint: str) -> Expr:
        known = self._known(r)
        if known is not None:
            return known
        if r.kind == "expsum" and len(r.binders) > 1:
            return self.value(two_pass(r))
        if r.kind in ("argmax", "argmin") and len(r.binders) > 1 and any(free(x) for b in r.binders for x in (b.lo, b.hi)):
            raise TargetError(f"{r.kind} over several dependent ranges has no CUDA schedule", r.span)
        name = self.names.fresh(f"{r.kind}_{next(iter(r.binders)).index}")
        dtype = next(body.dtype for body in r.bodies)
        self._emit(Accumulator(name, r.kind, dtype))
        bound = frozenset(b.index for b in r.binders)
        bodies: list[Expr] = [self._hoisted(body, bound) for body in r.bodies]
        if r.kind in ("argmax", "argmin"):
            bodies.append(_position(r.binders))
        order = self._order(r)
        shared = self._shared(order)
        with self._under(self.guards), self._loops(order, shared) as names:
            self._emit(Combine(name, r.kind, tuple(self.value(substitute(body, names)) for body in bodies)))
        if shared:
            assert self.team is not None
            self._emit(Join(name, r.kind, self.team, dtype))
            if self.team == "block":
                self.written.clear()
                self.read.clear()
        return self._remember(r, self._result(r, name))

    def _result(self, r: Reduce, name: str) -> Expr:
        if r.kind in ("argmax", "argmin"):
            return Local(f"{name}_at", I64)
        if r.kind != "expsum":
            return Local(name, r.dtype)
        # exp(s - max) is NaN where every s is -inf; the running form has no way to see that before the end.
        (b,) = r.binders
        nothing = Call("eq", (Local(f"{name}_max", r.dtype), const(float("-inf"), r.dtype)), BOOL)
        some = Call("lt", (self.value(b.lo), self.value(b.hi)), BOOL)
        wrong = Call("and", (nothing, some), BOOL)
        return self._let(name, Call("select", (wrong, const(float("nan"), r.dtype), Local(name, r.dtype)), r.dtype))

    def _fold(self, f: Fold, hint: str) -> Expr:
        known = self._known(f)
        if known is not None:
            return known
        carries = {c.name: self.names.fresh(c.name) for c in f.carries}
        dtypes = tuple(c.init.dtype for c in f.carries)
        index = self.names.fresh(f.binder.index)
        values: dict[str, Expr] = {c.name: Local(carries[c.name], t) for c, t in zip(f.carries, dtypes, strict=True)}
        values[f.binder.index] = IndexRef(index)
        lo, hi = self.value(f.binder.lo), self.value(f.binder.hi)
        inits = [self.value(c.init) for c in f.carries]
        with self._apart() as body, self._no_team():
            condition = None if f.condition is None else self.value(substitute(f.condition, values))
            updates = [self.value(substitute(c.update, values)) for c in f.carries]
        ends = tuple(Carry(carries[c.name], init, update) for c, init, update in zip(f.carries, inits, updates, strict=True))
        loop = FoldLoop(index, lo, hi, ends, condition, dtypes, tuple(body))
        if not self.guards:
            self._emit(loop)
        else:
            zeros = tuple(Let(carries[c.name], const(0, t)) for c, t in zip(f.carries, dtypes, strict=True))
            self._emit(When(conjunction(tuple(self.guards)), (loop,), zeros))
        return self._remember(f, Local(carries[f.result], f.dtype))

    def _remember(self, e: Expr, result: Expr) -> Expr:
        if not self.guards:
            self.known[-1][e] = result
        return result

    # -- what a loop does not change is computed before it

    def _hoisted(self, e: Expr, bound: frozenset[str]) -> Expr:
        """`e` with its costly parts that read nothing of `bound` computed here, and named."""
        match e:
            case Const() | SizeRef() | ParamRef() | IndexRef() | Local():
                return e
            case Reduce() | Fold() | Call() if not free(e) & bound and self._worth(e):
                return self._known(e) or self._remember(e, self._let(_hint(e), self.value(e)))
            case Call("select" | "and" | "or", (first, *rest)):
                return replace(e, args=(self._hoisted(first, bound), *rest))
            case Reduce():
                inner = bound | {b.index for b in e.binders}
                return replace(e, bodies=tuple(self._hoisted(body, inner) for body in e.bodies))
            case Fold():
                return e
            case _:
                return map_children(lambda child: self._hoisted(child, bound), e)

    def _worth(self, e: Expr) -> bool:
        """Whether `e` is costly, and safe to compute although the loop may run not even once."""
        for x in _outside_reductions(e):
            if isinstance(x, Load) and any(not isinstance(i, IndexRef) for i in x.indices):
                return False
        return any(isinstance(x, Reduce | Fold) or (isinstance(x, Call) and OPS[x.op].unit in COSTLY) for x in subtrees(e))

    def _let(self, hint: str, value: Expr) -> Expr:
        if isinstance(value, Const | Local | SizeRef | ParamRef | IndexRef):
            return value
        name = self.names.fresh(hint)
        self._emit(Let(name, value))
        return Local(name, value.dtype)

    # -- loops

    def _shared(self, binders: tuple[Binder, ...]) -> bool:
        """Whether the team shares the last of these loops: a short constant one each thread runs by itself."""
        if self.team is None or self.alone or not binders:
            return False
        return not all(isinstance(b.lo, Const) and isinstance(b.hi, Const) and self.extent(b) <= 4 for b in binders)

    def _order(self, r: Reduce) -> tuple[Binder, ...]:
        """The reduction's loops with the longest that may move innermost, where a team shares it (an argmax keeps its order)."""
        if self.team is None or self.alone or r.kind.startswith("arg"):
            return r.binders
        names = {b.index for b in r.binders}
        bounds = frozenset[str]().union(*(free(b.lo) | free(b.hi) for b in r.binders))
        movable = [n for n, b in enumerate(r.binders) if not (free(b.lo) | free(b.hi)) & names and b.index not in bounds]
        if not movable:
            return r.binders
        longest = max(movable, key=lambda n: (self.extent(r.binders[n]) >= 32, n))
        return (*r.binders[:longest], *r.binders[longest + 1 :], r.binders[longest])

    @contextmanager
    def _loops(self, binders: tuple[Binder, ...], shared: bool) -> Generator[dict[str, Expr]]:
        """Opens loops; what is emitted inside goes into the innermost. Yields the indices' new names."""
        names: dict[str, Expr] = {}
        ranges: list[tuple[str, Expr, Expr]] = []
        for b in binders:
            lo, hi = self.value(substitute(b.lo, names)), self.value(substitute(b.hi, names))
            index = self.names.fresh(b.index)
            names[b.index] = IndexRef(index)
            ranges.append((index, lo, hi))
        with self._apart() as body, self._no_team():
            yield names
        nodes = tuple(body)
        for number, (index, lo, hi) in reversed(list(enumerate(ranges))):
            kind = LoopKind.THREAD if shared and number == len(ranges) - 1 else LoopKind.SERIAL
            nodes = (Loop(index, lo, hi, kind, nodes),)
        self._emit(*nodes)

    @contextmanager
    def _apart(self) -> Generator[list[Node]]:
        """Emits into a list of its own; what is named inside is unknown outside, and guards outside hold for the whole."""
        body: list[Node] = []
        guards, self.guards = self.guards, []
        self.bodies.append(body)
        self.known.append({})
        yield body
        self.known.pop()
        self.bodies.pop()
        self.guards = guards

    @contextmanager
    def _no_team(self) -> Generator[None]:
        self.alone += 1
        yield
        self.alone -= 1

    @contextmanager
    def _guard(self, condition: Expr | None) -> Generator[None]:
        """Loops that are emitted inside run only where `condition` holds."""
        if condition is None:
            yield
            return
        self.guards.append(condition)
        yield
        self.guards.pop()

    @contextmanager
    def _under(self, guards: list[Expr]) -> Generator[None]:
        with self._branch(conjunction(tuple(guards)) if guards else None):
            yield

    @contextmanager
    def _branch(self, condition: Expr | None) -> Generator[None]:
        """What is emitted inside runs only where `condition` holds (None: always)."""
        if condition is None:
            yield
            return
        with self._apart() as body:
            yield
        self._emit(When(condition, tuple(body)))

    def _emit(self, *nodes: Node) -> None:
        self.bodies[-1].extend(nodes)


def _arrays_read(stmt: Assign) -> set[str]:
    tops = (stmt.value, *stmt.indices, *(() if stmt.where is None else (stmt.where,)))
    return {x.array for top in tops for x in subtrees(top) if isinstance(x, Load)}


def _position(binders: tuple[Binder, ...]) -> Expr:
    """argmax's result for one point: the index, or its row-major position where there are several."""
    if len(binders) == 1:
        return IndexRef(binders[0].index)
    position: Expr = const(0, I64)
    for b in binders:
        extent = Call("sub", (b.hi, b.lo), I64)
        offset = Call("sub", (IndexRef(b.index), b.lo), I64)
        position = Call("add", (Call("mul", (position, extent), I64), offset), I64)
    return position


def _outside_reductions(e: Expr) -> Iterator[Expr]:
    yield e
    if not isinstance(e, Reduce | Fold):
        children: list[Expr] = []
        map_children(lambda child: children.append(child) or child, e)
        for child in children:
            yield from _outside_reductions(child)


def _hint(e: Expr) -> str:
    return e.op if isinstance(e, Call) and e.op not in ("and", "or", "not", "i64", "i32") and e.op.isidentifier() else "value"

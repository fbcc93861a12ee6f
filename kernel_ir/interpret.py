"""Runs a core kernel over any number system: index axes become array axes, ranges become masks, statements run in order.

`evaluate.py` plugs in NumPy numbers (the meaning of the language) and `truth.py` numbers with error bounds; neither repeats
what is here. Every value of a statement has one array axis for each binder in scope, of extent 1 where it does not vary, so
broadcasting does the work. A value is a tuple of arrays (one for plain numbers; number and bound for bounded ones).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kernel_ir.dtypes import BOOL, I64, DType
from kernel_ir.errors import ArgumentError, BoundsError
from kernel_ir.nodes import (
    Assign,
    Binder,
    Call,
    Const,
    Expr,
    Fold,
    IndexRef,
    Load,
    Local,
    ParamRef,
    Reduce,
    Repeat,
    SizeRef,
    Stmt,
)
from kernel_ir.number_system import Accumulator, Array, Numbers, Value
from kernel_ir.walk import children, expressions, free, subtrees

CHUNK = 1 << 20
"""Elements of a temporary, roughly: statements over more are computed piece by piece (a few megabytes: they stay in cache)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An index variable as array axis `number`, running over `start..stop`."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What names stand for at one place: values of indices and locals, the axes of indices, the next free axis."""

    names: Mapping[str, Value] = field(default_factory=dict[str, Value])
    axes: Mapping[str, Axis] = field(default_factory=dict[str, Axis])
    depth: int = 0

    def bind(self, name: str, value: Value) -> "Scope":
        axes = {k: v for k, v in self.axes.items() if k != name}
        return replace(self, names={**self.names, name: value}, axes=axes)


@dataclass(slots=True)
class Machine:
    """The interpreter: stored arrays and scalars in `memory` (updated by `run`), sizes, and the number system."""

    numbers: Numbers
    memory: dict[str, Value]
    dtypes: Mapping[str, DType]
    sizes: Mapping[str, int]
    rank: int = 1
    defined: dict[str, Array] = field(default_factory=dict[str, Array])
    held: dict[int, Value | None] = field(default_factory=dict[int, "Value | None"])
    """Of the nodes (by id) that no step of the fold under way changes, their values, once these are known."""

    def run(self, body: Sequence[Stmt], scope: Scope | None = None) -> None:
        """Runs statements in order."""
        for stmt in body:
            match stmt:
                case Assign():
                    self.rank = max(1, len(stmt.binders) + max(map(nesting, expressions(stmt))))
                    self._assign(stmt, scope or Scope())
                case Repeat():
                    self._repeat(stmt, scope or Scope())

    def _repeat(self, stmt: Repeat, scope: Scope) -> None:
        self.rank = max(1, nesting(stmt.steps))
        steps = int(self.eval(stmt.steps, scope)[0].flat[0])
        before = {name: done.copy() for name, done in self.defined.items()}
        for step in range(steps):
            self.defined = {name: done.copy() for name, done in before.items()}
            self.run(stmt.body, scope if stmt.index is None else scope.bind(stmt.index, self.integer(step)))

    # expressions

    def eval(self, e: Expr, scope: Scope) -> Value:
        """The value of `e`, with `rank` axes."""
        if id(e) not in self.held:
            return self._eval(e, scope)
        value = self.held[id(e)]
        if value is None:
            value = self.held[id(e)] = self._eval(e, scope)
        return value

    def _eval(self, e: Expr, scope: Scope) -> Value:
        match e:
            case Const():
                return self.numbers.exact(self._spread(np.asarray(e.value, e.dtype.numpy)), e.dtype)
            case SizeRef():
                return self.integer(self.sizes[e.name])
            case ParamRef():
                return tuple(map(self._spread, self.numbers.read(self.memory[e.name], self.dtypes[e.name])))
            case IndexRef() | Local():
                # A repeat's index has the axes of the statement that it was bound outside of.
                return tuple(self._spread(a) if a.ndim != self.rank else a for a in scope.names[e.name])
            case Load():
                return self._load(e, scope)
            case Call():
                return self.numbers.call(e, [self.eval(a, scope) for a in e.args])
            case Reduce():
                return self._reduce(e, scope)
            case Fold():
                return self._fold(e, scope)

    def integer(self, number: int) -> Value:
        """An exactly known i64."""
        return self.numbers.exact(self._spread(np.asarray(number, np.int64)), I64)

    def _spread(self, a: Array) -> Array:
        return a.reshape((1,) * self.rank) if a.size == 1 else a.reshape(a.shape[: self.rank] + (1,) * (self.rank - a.ndim))

    def _load(self, e: Load, scope: Scope) -> Value:
        stored, dtype = self.memory[e.array], self.dtypes[e.array]
        view = self._view(e.indices, scope, stored[0].shape)
        if view is not None:
            return self.numbers.read(tuple(map(view, stored)), dtype)
        indices = [self.eval(i, scope) for i in e.indices]
        inside, gathered = self._gather(stored, [i[0] for i in indices])
        value = self.numbers.read(gathered, dtype)
        doubtful = self._doubt(indices)
        if e.default is not None:
            choice = self.numbers.exact(inside, BOOL)
            value = self.numbers.call(Call("select", (e, e, e.default), e.dtype), [choice, value, self.eval(e.default, scope)])
        return value if doubtful is None else self.numbers.doubt(value, doubtful)

    def _gather(self, stored: Value, indices: Sequence[Array]) -> tuple[Array, Value]:
        """Where the indices lie inside, and the elements (any element where they do not: such lanes are masked later)."""
        shape = stored[0].shape
        inside = np.ones((1,) * self.rank, np.bool_)
        for index, extent in zip(indices, shape, strict=True):
            inside = inside & (index >= 0) & (index < extent)
        if 0 in shape:
            return inside, tuple(np.zeros(inside.shape, a.dtype) for a in stored)
        near = tuple(np.clip(index, 0, extent - 1) for index, extent in zip(indices, shape, strict=True))
        return inside, tuple(a[near] for a in stored)

    def _view(self, indices: Sequence[Expr], scope: Scope, shape: tuple[int, ...]) -> Callable[[Array], Array] | None:
        """How to read `indices` as a view with `rank` axes; None where they are not plain, distinct and inside."""
        pieces: list[slice | int] = []
        numbers: list[int] = []
        for index, extent in zip(indices, shape, strict=True):
            offset, name = _shifted(index)
            if name is None:
                piece: slice | int = offset
                inside = 0 <= offset < extent
            elif name in scope.axes and scope.axes[name].number not in numbers:
                axis = scope.axes[name]
                piece = slice(axis.start + offset, axis.stop + offset)
                inside = axis.start + offset >= 0 and axis.stop + offset <= extent
                numbers.append(axis.number)
            else:
                return None
            if not inside:
                return None
            pieces.append(piece)
        key, order = tuple(pieces), tuple(int(n) for n in np.argsort(numbers))
        place = tuple(slice(None) if n in numbers else None for n in range(self.rank))
        # The ellipsis keeps a view, even of rank 0.
        return lambda a: a[(*key, ...)].transpose(order)[place] if order else a[(*key, ...)][(*place,)]

    def _doubt(self, values: Sequence[Value]) -> Array | None:
        doubts = [d for d in map(self.numbers.uncertain, values) if d is not None]
        total: Array | None = None
        for doubt in doubts:
            total = doubt if total is None else total | doubt
        return total

    # ranges

    def _bounds(self, b: Binder, scope: Scope) -> tuple[Value, Value, int, int]:
        lo, hi = self.eval(b.lo, scope), self.eval(b.hi, scope)
        start = int(lo[0].min()) if lo[0].size else 0
        stop = int(hi[0].max()) if hi[0].size else 0
        return lo, hi, start, max(start, stop)

    def enter(self, b: Binder, scope: Scope, start: int, stop: int) -> Scope:
        """The scope in which `b` runs over `start..stop` on an axis of its own."""
        shape = [1] * self.rank
        shape[scope.depth] = stop - start
        value = self.numbers.exact(np.arange(start, stop, dtype=np.int64).reshape(shape), I64)
        axis = Axis(scope.depth, start, stop)
        return Scope({**scope.names, b.index: value}, {**scope.axes, b.index: axis}, scope.depth + 1)

    def _mask(self, b: Binder, inner: Scope, lo: Value, hi: Value) -> Array | None:
        """Which points of the axis lie in a range whose bounds vary; None for all."""
        axis = inner.axes[b.index]
        if lo[0].size and hi[0].size and lo[0].max() <= axis.start and hi[0].min() >= axis.stop:
            return None
        index = inner.names[b.index][0]
        return (index >= lo[0]) & (index < hi[0])

    def _work(self, e: Expr, scope: Scope) -> int:
        """Most elements that one point of the scope needs at once, in `e`."""
        if isinstance(e, Reduce):
            inner, extent = self._enter_all(e.binders, scope)
            return extent * max(self._work(body, inner) for body in e.bodies)
        if isinstance(e, Fold):
            zeros = {c.name: self.numbers.exact(self._spread(np.zeros((), c.init.dtype.numpy)), c.init.dtype) for c in e.carries}
            scope = replace(scope, names={**scope.names, **zeros, e.binder.index: self.integer(0)})
        return max((self._work(child, scope) for child in children(e)), default=1)

    def _enter_all(self, binders: Sequence[Binder], scope: Scope) -> tuple[Scope, int]:
        total = 1
        for b in binders:
            _, _, start, stop = self._bounds(b, scope)
            scope = self.enter(b, scope, start, stop)
            total *= max(1, stop - start)
        return scope, total

    # reductions and folds

    def _reduce(self, e: Reduce, scope: Scope) -> Value:
        inner, mask = scope, None
        controls: list[Value] = []
        for b in e.binders:
            lo, hi, start, stop = self._bounds(b, inner)
            inner = self.enter(b, inner, start, stop)
            controls += [lo, hi]
            own = self._mask(b, inner, lo, hi)
            mask = own if mask is None else mask if own is None else mask & own
        axes = tuple(range(scope.depth, inner.depth))
        extents = {inner.axes[b.index].number: inner.axes[b.index].stop - inner.axes[b.index].start for b in e.binders}
        values = [self.eval(body, inner) for body in e.bodies]
        shape = tuple(extents.get(n, 1) for n in range(self.rank))
        full = np.broadcast_shapes(shape, *(v[0].shape for v in values), *(() if mask is None else (mask.shape,)))
        bodies = [tuple(np.broadcast_to(a, full) for a in v) for v in values]
        if e.kind in ("argmax", "argmin") and 0 in extents.values() and all(n for axis, n in enumerate(full) if axis not in extents):
            raise ArgumentError(f"{e.kind} over nothing", e.span, hint="give the range at least one element")
        result = self.numbers.reduce(e, bodies, None if mask is None else np.broadcast_to(mask, full), axes)
        if e.kind in ("argmax", "argmin"):
            starts = [inner.axes[b.index].start for b in e.binders]
            result = (_index_value(result[0], starts, [extents[a] for a in axes]), *result[1:])
        doubtful = self._doubt(controls)
        return result if doubtful is None else self.numbers.doubt(result, doubtful)

    def _fold(self, e: Fold, scope: Scope) -> Value:
        outside, self.held = self.held, {**self.held, **dict.fromkeys(_steady(e))}
        try:
            return self._folded(e, scope)
        finally:
            self.held = outside

    def _folded(self, e: Fold, scope: Scope) -> Value:
        lo, hi, start, stop = self._bounds(e.binder, scope)
        carried = {c.name: self.eval(c.init, scope) for c in e.carries}
        alive = np.ones((1,) * self.rank, np.bool_)
        doubtful = self._doubt([lo, hi])
        choose = {c.name: Call("select", (c.update,) * 3, c.init.dtype) for c in e.carries}
        for step in range(start, stop):
            inner = scope.bind(e.binder.index, self.integer(step))
            inner = replace(inner, names={**inner.names, **carried})
            active = alive & (step >= lo[0]) & (step < hi[0])
            if e.condition is not None:
                condition = self.eval(e.condition, inner)
                unsure = self.numbers.uncertain(condition)
                if unsure is not None:
                    doubtful = unsure & active if doubtful is None else doubtful | (unsure & active)
                stopped = active & ~condition[0]
                alive, active = alive & ~stopped, active & condition[0]
            if not active.any():
                if e.condition is not None and not alive.any():
                    break
                continue
            choice = self.numbers.exact(active, BOOL)
            updates = {c.name: self.eval(c.update, inner) for c in e.carries}
            carried = {name: self.numbers.call(call, [choice, updates[name], carried[name]]) for name, call in choose.items()}
        result = carried[e.result]
        return result if doubtful is None else self.numbers.doubt(result, doubtful)

    # statements

    def _assign(self, stmt: Assign, scope: Scope) -> None:
        before = self.memory[stmt.target]
        reads_target = any(isinstance(x, Load) and x.array == stmt.target for top in expressions(stmt) for x in subtrees(top))
        after = tuple(a.copy() for a in before) if reads_target else before
        done = self.defined.setdefault(stmt.target, np.zeros(before[0].shape, np.bool_))
        covered = done.copy() if stmt.otherwise else done
        # A scalar target is accumulated as an array of one: `ufunc.at` adds term by term only where there is an index.
        listed = tuple(np.atleast_1d(a) for a in before)
        accumulator = None if stmt.op == "=" else self.numbers.accumulator(listed, stmt.op, self.dtypes[stmt.target])
        inner, _ = self._enter_all(stmt.binders, scope)
        work = max(self._work(top, inner) for top in expressions(stmt))
        for box, mask in self._boxes(stmt.binders, scope, work, None):
            value = self.eval(stmt.value, box)
            if stmt.where is not None:
                condition = self.eval(stmt.where, box)
                unsure = self.numbers.uncertain(condition)
                chosen = condition[0] if unsure is None else condition[0] | unsure
                value = value if unsure is None else self.numbers.doubt(value, unsure)
                mask = chosen if mask is None else mask & chosen
            if accumulator is None:
                self._write(stmt, box, value, mask, after, done, covered)
            else:
                self._scatter(stmt, box, value, mask, accumulator)
        if accumulator is not None:
            after = tuple(a.reshape(before[0].shape) for a in accumulator.finish())
        self.memory[stmt.target] = after

    def _boxes(self, binders: Sequence[Binder], scope: Scope, work: int, mask: Array | None) -> Iterator[tuple[Scope, Array | None]]:
        """The statement's points as boxes of at most CHUNK elements (where one point needs no more), each with its mask."""
        if not binders:
            yield scope, mask
            return
        first, rest = binders[0], binders[1:]
        lo, hi, start, stop = self._bounds(first, scope)
        _, inside = self._enter_all(rest, self.enter(first, scope, start, stop))
        step = max(1, CHUNK // (inside * work))
        for at in range(start, stop, step):
            inner = self.enter(first, scope, at, min(at + step, stop))
            own = self._mask(first, inner, lo, hi)
            yield from self._boxes(rest, inner, work, own if mask is None else mask if own is None else mask & own)

    def _write(self, stmt: Assign, box: Scope, value: Value, mask: Array | None, after: Value, done: Array, covered: Array) -> None:
        view = self._view(stmt.indices, box, done.shape)
        if view is None:
            raise BoundsError(f"a part of {stmt.target!r} that this statement defines lies outside it", stmt.span)
        if stmt.otherwise:
            mask = ~view(covered) if mask is None else mask & ~view(covered)
        for place, part in zip(after, self.numbers.store(value, self.dtypes[stmt.target]), strict=True):
            np.copyto(view(place), part, where=True if mask is None else mask)
        np.copyto(view(done), True, where=True if mask is None else mask)

    def _scatter(self, stmt: Assign, box: Scope, value: Value, mask: Array | None, accumulator: Accumulator) -> None:
        indices = [self.eval(i, box) for i in stmt.indices]
        doubtful = self._doubt(indices)
        value = value if doubtful is None else self.numbers.doubt(value, doubtful)
        extents = [1] * self.rank
        for axis in box.axes.values():
            extents[axis.number] = axis.stop - axis.start
        chosen = np.broadcast_to(np.True_ if mask is None else mask, extents)
        flat = tuple(np.broadcast_to(i[0], extents)[chosen] for i in indices)
        for index, extent in zip(flat, self.memory[stmt.target][0].shape, strict=True):
            if index.size and (index.min() < 0 or index.max() >= extent):
                wrong = int(index.min() if index.min() < 0 else index.max())
                raise BoundsError(
                    f"index {wrong} is outside {stmt.target!r}, whose extent here is {extent}", stmt.span, "exclude it with `where`"
                )
        place = flat or (np.zeros(np.count_nonzero(chosen), np.int64),)
        accumulator.add(place, tuple(np.broadcast_to(part, extents)[chosen] for part in value))


def _steady(e: Fold) -> set[int]:
    """The largest subexpressions, by id, of what a fold does each step that no step changes."""
    changed = {e.binder.index, *(c.name for c in e.carries)}
    found: set[int] = set()
    bound: set[int] = set()  # what a loop inside may evaluate for many values of its own index
    waiting = [*(c.update for c in e.carries), *(() if e.condition is None else (e.condition,))]
    while waiting:
        x = waiting.pop()
        if not free(x) & changed:
            found.add(id(x))
        elif isinstance(x, Reduce | Fold):
            bound.update(map(id, subtrees(x)))
        else:
            waiting += children(x)
    return found - bound


def nesting(e: Expr) -> int:
    """How many axes `e` needs beyond those in scope.

    >>> from kernel_ir.dtypes import F32
    >>> from kernel_ir.nodes import const
    >>> nesting(Reduce("sum", (Binder("i", const(0, I64), const(3, I64)),), (const(1.0, F32),), F32))
    1
    """
    own = len(e.binders) if isinstance(e, Reduce) else 0
    return own + max(map(nesting, children(e)), default=0)


def _shifted(e: Expr) -> tuple[int, str | None]:
    """`e` as offset and index name (None for a constant); an index that is neither gets a name that is bound nowhere."""
    match e:
        case Const():
            return int(e.value), None
        case IndexRef():
            return 0, e.name
        case Call("add", (IndexRef(name=name), Const() as c)) | Call("add", (Const() as c, IndexRef(name=name))):
            return int(c.value), name
        case Call("sub", (IndexRef(name=name), Const() as c)):
            return -int(c.value), name
        case _:
            return 0, ""


def _index_value(position: Array, starts: Sequence[int], extents: Sequence[int]) -> Array:
    """The value of argmax's index from its flat position in the box; for several indices, the flat position itself."""
    return position + starts[0] if len(starts) == 1 else position

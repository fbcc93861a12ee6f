"""Turns expressions into values of plan nodes: a reduction becomes a loop with an accumulator, at the outermost scope that binds it."""

from dataclasses import replace
from typing import Final

from extract.names import Names
from extract.reductions import is_written_out, loads_of, simplified, two_pass, written_out
from extract.scopes import Scope, Scopes
from extract.strides import Orders, access_cost
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Call, Carry, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef
from kernel_ir.ops import OPS, Unit
from kernel_ir.plan import Accumulator, Combine, FoldLoop, Let
from kernel_ir.walk import free, substitute, subtrees

NAMED: Final = frozenset({Unit.DIV, Unit.SQRT, Unit.EXP, Unit.TRIG, Unit.IDIV})
"""Units whose results get a name: computed once, at the outermost loop that has their operands."""


class ValueLowering(Scopes):
    """What loads, calls, reductions and folds become.

    `scalars` holds what has become a scalar of the iteration; `kept` for each local buffer the dimensions that it has, each with
    where its block begins.
    """

    def __init__(self, outer: set[str], names: Names, orders: Orders) -> None:
        super().__init__(outer, names)
        self.orders = orders
        self.scalars: dict[str, Expr] = {}
        self.kept: dict[str, tuple[tuple[int, Expr | None], ...]] = {}

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
        named = Local(name, e.dtype)
        self.scopes[level].known[e] = named
        return named

    def _reduce(self, r: Reduce, hint: str) -> Expr:
        if r.kind == "expsum":
            return self.value(two_pass(r))
        level = self._level(r)
        for scope in self.scopes[: level + 1]:
            if r in scope.known:
                return scope.known[r]
        if is_written_out(r):
            return self.value(written_out(r))
        with self._at(level):
            return self._accumulate(r, hint)

    def _accumulate(self, r: Reduce, hint: str) -> Expr:
        name = self.names.fresh(hint or f"{r.kind}_{r.binders[0].index}")
        scope = self.scopes[-1]
        self._emit(Accumulator(name, r.kind, r.dtype if not r.kind.startswith("arg") else r.bodies[0].dtype))
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
        accesses = [x for body in r.bodies for x in loads_of(body)]
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
            dtypes = tuple(c.init.dtype for c in f.carries)
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

    def _places(self, array: str, indices: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Indices into what holds the array: a local buffer has the inner dimensions alone, a block's from its start."""
        if array not in self.kept:
            return indices
        return tuple(indices[d] if base is None else simplified(Call("sub", (indices[d], base), I64)) for d, base in self.kept[array])

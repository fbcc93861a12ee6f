"""Turns a long running reduction (a prefix sum) into reductions of short runs, of runs of runs, and what came before each.

    y[i] = sum(j in 0..i+1: x[j])   →   run[u]    = sum(j in 32*u..32*u+32: x[j])
                                        long[v]   = sum(u in 64*v..64*v+64: run[u])
                                        before[v] = sum(w in 0..v: long[w])
                                        start[u]  = before[u // 64] + sum(q in u // 64 * 64..u: run[q])
                                        y[i]      = start[i // 32] + sum(j in i // 32 * 32..i+1: x[j])

Each is parallel in all of its results, and no element of `x` is read from memory more than twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from extract.blocks import blocks_of
from extract.names import Names
from extract.sizes import extent_of
from extract.split_cuda import certain, is_flat, replaced
from kernel_ir.dtypes import I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Expr, IndexRef, Kernel, Load, Param, Reduce, Stmt, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.walk import free

RUN: Final = 32
RUNS: Final = 64
LONG: Final = 4096
"""Results from which on runs are worth their launches."""


def scanned(kernel: Kernel, sizes: Mapping[str, int] | None, names: Names) -> Kernel | None:
    """The kernel with its long running reductions by runs; None where it has none. `sizes`: extents to expect, None to ask none."""
    temps: list[Param] = []
    body: list[Stmt] = []
    for stmt in kernel.body:
        if isinstance(stmt, Assign) and stmt.op == "=" and stmt.where is None and not stmt.otherwise:
            value = stmt.value
            for r in dict.fromkeys(certain(value)):
                row = _row(r, stmt, sizes)
                if row is not None:
                    runs = _Runs(r, row, tuple(b for b in stmt.binders if b is not row and b.index in free(r)), names, temps)
                    body += runs.statements()
                    value = replaced(value, r, runs.result())
            stmt = replace(stmt, value=value)
        body.append(stmt)
    return replace(kernel, body=tuple(body), temps=(*kernel.temps, *temps)) if temps else None


def _row(r: Reduce, stmt: Assign, sizes: Mapping[str, int] | None) -> Binder | None:
    """The loop that the reduction's end runs along, from 0; None where the reduction is no long running one."""
    if not is_flat(r):
        return None
    (b,) = r.binders
    for row in stmt.binders:
        i = IndexRef(row.index)
        ends = (i, Call("add", (i, const(1, I64)), I64))
        alone = row.index not in free(r.bodies[0]) and not free(row.hi)
        if alone and b.lo == row.lo == const(0, I64) and b.hi in ends and (sizes is None or extent_of(row, sizes) >= LONG):
            return row
    return None


@dataclass(frozen=True, slots=True)
class _Runs:
    reduce: Reduce
    row: Binder
    outer: tuple[Binder, ...]
    names: Names
    temps: list[Param]

    def statements(self) -> list[Assign]:
        r, fresh = self.reduce, self.names.fresh
        (b,) = r.binders
        u, v, w, q = (fresh(name) for name in ("run", "long", "earlier", "near"))
        length, runs = self.row.hi, blocks_of(self.row.hi, RUN)
        longs = blocks_of(runs, RUNS)
        run = self._temp("runs", runs)
        long = self._temp("longs", longs)
        before = self._temp("before", longs)
        start = self._temp("starts", runs)
        within = replace(r, binders=(_block(b.index, u, RUN, length),))
        nearer = self._over(Binder(q, _floor(IndexRef(u), RUNS), IndexRef(u)), self._at(run, q))
        carried = Load(before, (*self._outer(), Call("floordiv", (IndexRef(u), const(RUNS, I64)), I64)), r.dtype)
        return [
            self._define(run, u, runs, within),
            self._define(long, v, longs, self._over(_block(u, v, RUNS, runs), self._at(run, u))),
            self._define(before, v, longs, self._over(Binder(w, const(0, I64), IndexRef(v)), self._at(long, w))),
            self._define(start, u, runs, self._joined(carried, nearer)),
        ]

    def result(self) -> Expr:
        """The reduction at the row's index, once the statements have run."""
        r, i = self.reduce, IndexRef(self.row.index)
        (b,) = r.binders
        start = Load(self.temps[-1].name, (*self._outer(), Call("floordiv", (i, const(RUN, I64)), I64)), r.dtype)
        return self._joined(start, replace(r, binders=(Binder(b.index, _floor(i, RUN), b.hi),)))

    def _temp(self, name: str, extent: Expr) -> str:
        made = self.names.fresh(f"{self.reduce.kind}_{name}")
        self.temps.append(Param(made, ArrayType(self.reduce.dtype, (*(b.hi for b in self.outer), extent))))
        return made

    def _outer(self) -> tuple[Expr, ...]:
        return tuple(IndexRef(b.index) for b in self.outer)

    def _at(self, array: str, index: str) -> Load:
        return Load(array, (*self._outer(), IndexRef(index)), self.reduce.dtype)

    def _over(self, b: Binder, body: Expr) -> Reduce:
        return Reduce(self.reduce.kind, (b,), (body,), self.reduce.dtype)

    def _define(self, array: str, index: str, extent: Expr, value: Expr) -> Assign:
        binders = (*self.outer, Binder(index, const(0, I64), extent))
        return Assign(array, (*self._outer(), IndexRef(index)), "=", value, binders)

    def _joined(self, a: Expr, b: Expr) -> Expr:
        op = REDUCTIONS[self.reduce.kind].combine
        assert op is not None
        return Call(op, (a, b), self.reduce.dtype)


def _block(index: str, number: str, size: int, extent: Expr) -> Binder:
    """The range of a run: so many from its number times so many, as far as there are."""
    lo = Call("mul", (IndexRef(number), const(size, I64)), I64)
    return Binder(index, lo, Call("min", (extent, Call("add", (lo, const(size, I64)), I64)), I64))


def _floor(e: Expr, size: int) -> Expr:
    return Call("mul", (Call("floordiv", (e, const(size, I64)), I64), const(size, I64)), I64)

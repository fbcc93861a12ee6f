"""Turns a step of a chain into two kernels, one for each side, that are run on the same drawn inputs and compared.

A side is computed at some points of its free indices, given as data. What else it reads (arrays at any version, values carried by folds)
is data too, so the step must hold for whatever stands there, as far as the kernel's facts allow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from kernel_ir.compare import Mismatch, comparison
from kernel_ir.dtypes import BOOL, F32, I32, I64, U8, DType
from kernel_ir.evaluate import evaluate_expr
from kernel_ir.fastmath import NONE
from kernel_ir.inputs import Inputs, sampled
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Expr, IndexRef, Kernel, Load, Local, Param, SizeRef, const
from kernel_ir.walk import free, substitute, subtrees
from rewrites.chain import ChainError
from rewrites.plain import Plain
from rewrites.replay import Taken
from rewrites.temporaries import unversioned

DRAWN: Final = 3
"""Inputs that each step is computed on."""
WORK: Final = 1 << 9
POINTS: Final = 24
"""Values of the free indices, in each input."""
AT: Final = "at"
POINT: Final = "points"


@dataclass(slots=True)
class StepCheck:
    """Checks the steps of one round, on inputs drawn once."""

    kernel: Kernel
    drawn: list[Inputs] = field(default_factory=list[Inputs])

    def check(self, taken: Taken, earlier: int) -> None:
        """Raises ChainError where the two sides differ on drawn inputs by more than the rule's flags and rounding explain."""
        if not self.drawn:
            self.drawn = [sampled((self.kernel,), seed, work=WORK) for seed in range(DRAWN)]
        plain = Plain(taken.terms)
        sides = plain.expr(taken.before), plain.expr(taken.after)
        for number, inputs in enumerate(self.drawn):
            found = _Points(self.kernel, inputs, taken, number).mismatch(*sides)
            if found is not None:
                step = taken.step
                raise ChainError(f"{step.name}: `{step.shown}`: computed, one side is {found.left!r} and the other {found.right!r}")


@dataclass(slots=True)
class _Points:
    """One input, and points of the indices that are free in a step."""

    kernel: Kernel
    inputs: Inputs
    taken: Taken
    seed: int
    params: dict[str, Param] = field(default_factory=dict[str, Param])
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def mismatch(self, before: Expr, after: Expr) -> Mismatch | None:
        """The first difference; None for agreement, or where there is no point."""
        rng = np.random.default_rng(self.seed)
        names = sorted(free(before) | free(after))
        carried = {x.name: x.dtype for side in (before, after) for x in subtrees(side) if isinstance(x, Local) and x.name in names}
        points = self._points(names, carried, rng)
        if points is None:
            return None
        self._arrays(rng, before, after)
        a, b = (self._kernel(self._given(e, frozenset(names)), before.dtype) for e in (before, after))
        needs = NONE if self.taken.rule is None else self.taken.rule.needs
        return comparison(a, b, needs, _tolerance(self.taken)).mismatch(Inputs(self.values, {**self.inputs.sizes, POINT: points}, {}))

    def _points(self, names: list[str], carried: Mapping[str, DType], rng: Any) -> int | None:
        """Draws the free indices one after the other, each from its range there, and the carried values."""
        variables = self.taken.encoding.variables
        plain = Plain(self.taken.terms)
        scalars = {p.name: self.inputs.values[p.name] for p in self.kernel.params if p.type.rank == 0}
        arrays = {p.name: (self.inputs.values[p.name], p.type.dtype) for p in self.kernel.params if p.type.rank}
        count = POINTS if names else 1
        chosen: dict[str, Any] = {}
        closure = [n for n in variables if n in names or any(n in self._ranges(m) for m in names)]
        kept = np.ones(count, bool)
        for name in closure:
            v = variables[name]
            if v.loop is not None:
                continue
            lo, hi = (
                np.broadcast_to(evaluate_expr(plain.expr(b), {**scalars, **chosen}, self.inputs.sizes, arrays), (count,))
                for b in (v.lo, v.hi)
            )
            kept &= hi > lo
            chosen[name] = (lo + rng.integers(0, np.maximum(1, hi - lo))).astype(np.int64)
        if not kept.any():
            return None
        for name, value in chosen.items():
            self._add(name, I64, value[kept])
        total = int(kept.sum())
        for name, dtype in carried.items():
            self._add(name, dtype, _carried(dtype, total, rng))
        return total

    def _ranges(self, name: str) -> frozenset[str]:
        plain, v = Plain(self.taken.terms), self.taken.encoding.variables[name]
        own = free(plain.expr(v.lo)) | free(plain.expr(v.hi))
        return own.union(*map(self._ranges, own))

    def _add(self, name: str, dtype: DType, value: Any) -> None:
        self.params[name] = Param(name, ArrayType(dtype if dtype is not BOOL else U8, (SizeRef(POINT),)))
        self.values[name] = value.astype(np.uint8) if dtype is BOOL else value

    def _arrays(self, rng: Any, *sides: Expr) -> None:
        """Arrays as passed; of other contents (outputs, later versions) some data of the same shape."""
        types = self.kernel.arrays
        for p in self.kernel.params:
            self.params[p.name], self.values[p.name] = Param(p.name, p.type), self.inputs.values[p.name]
        for load in [x for side in sides for x in subtrees(side) if isinstance(x, Load)]:
            if load.array not in self.params:
                kind = types[unversioned(load.array)]
                shape = tuple(max(0, int(evaluate_expr(e, {}, self.inputs.sizes))) for e in kind.shape)
                self.params[load.array] = Param(load.array, kind)
                self.values[load.array] = _stored(kind.dtype, shape, rng)

    def _given(self, e: Expr, names: frozenset[str]) -> Expr:
        """The expression with its free indices and carried values read from data."""
        given: dict[str, Expr] = {}
        for x in subtrees(e):
            if isinstance(x, IndexRef | Local) and x.name in names:
                read = Load(x.name, (IndexRef(AT),), x.dtype)
                given[x.name] = Call("ne", (Load(x.name, (IndexRef(AT),), I32), const(0, I32)), BOOL) if x.dtype is BOOL else read
        return substitute(e, given)

    def _kernel(self, e: Expr, dtype: DType) -> Kernel:
        value = Call("select", (e, const(1, I32), const(0, I32)), I32) if dtype is BOOL else e
        out = Param("result", ArrayType(value.dtype, (SizeRef(POINT),)))
        stmt = Assign("result", (IndexRef(AT),), "=", value, (Binder(AT, const(0, I64), SizeRef(POINT)),))
        return Kernel("step", tuple(self.params.values()), (out,), (), (stmt,), (*self.kernel.sizes, POINT), ())


def _tolerance(taken: Taken) -> float | None:
    """What an approximation's stated error adds, relative to values of ordinary size."""
    return None if taken.rule is None or taken.rule.within is None else max(taken.rule.within.error, 1e-5)


def _carried(dtype: DType, count: int, rng: Any) -> Any:
    if dtype is BOOL:
        return rng.integers(0, 2, count).astype(bool)
    return rng.standard_normal(count).astype(dtype.numpy) if dtype.is_float else rng.integers(-8, 9, count).astype(dtype.numpy)


def _stored(dtype: DType, shape: tuple[int, ...], rng: Any) -> Any:
    """Data of a storage type: ordinary numbers, small integers."""
    if dtype.is_float:
        from kernel_ir import meaning

        return meaning.store(rng.standard_normal(shape).astype(F32.numpy), dtype)
    return rng.integers(0, 5, shape).astype(dtype.numpy)

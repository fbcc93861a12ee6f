"""Turns a kernel and its inputs into the results in higher precision with an error bound, and judges other results by them.

`truth` runs the same interpreter as `evaluate`, over the numbers of `bounded.py`; `truth_expr` gives one scalar to any number of digits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernel_ir import meaning
from kernel_ir.bounded import BoundedNumbers
from kernel_ir.dtypes import DType, reads_as
from kernel_ir.evaluate import shape_of
from kernel_ir.fastmath import NONE, Flag, Flags
from kernel_ir.interpret import Machine
from kernel_ir.nodes import Call, Const, Expr, Fold, IndexRef, Kernel, Load, Local, ParamRef, Reduce, SizeRef
from kernel_ir.number_system import Array, Value
from kernel_ir.ops import OPS
from kernel_ir.walk import expressions, statements, subtrees

SLACK = 1 + 2.0**-10
"""The bounds themselves are computed in float64, to first order where the second is far below this."""


@dataclass(frozen=True, slots=True)
class Truth:
    """An array's exact values (in higher precision), and for each element how far a licensed evaluation may lie from it."""

    value: Array
    bound: Array


def certain(t: Truth) -> Truth:
    """The truth of who makes no error."""
    return Truth(t.value, np.zeros_like(t.bound))


def truth(kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int], flags: Flags = NONE, wide: bool = False) -> dict[str, Truth]:
    """Truth of each `inout` array and output of one call, by name, for values as `evaluate` takes them.

    A bound of infinity means unknown: nnan and ninf in `flags` make every NaN and infinity so, and whatever depends on them.
    With `wide`, numbers have the range of the higher precision too: what overflows in working precision stays finite.
    """
    numbers = BoundedNumbers(flags, wide)
    dtypes = {name: t.dtype for name, t in kernel.arrays.items()}
    memory: dict[str, Value] = {}
    machine = Machine(numbers, memory, dtypes, sizes)
    with np.errstate(all="ignore"):
        for p in kernel.params:
            memory[p.name] = numbers.given(np.asarray(values[p.name]).astype(p.type.dtype.numpy), p.type.dtype)
        for p in (*kernel.outputs, *kernel.temps):
            memory[p.name] = numbers.given(np.zeros(shape_of(machine, p), p.type.dtype.numpy), p.type.dtype)
        machine.run(kernel.body)
    names = [p.name for p in kernel.params if p.inout] + [p.name for p in kernel.outputs]
    return {name: Truth(memory[name][0], memory[name][1]) for name in names}


def is_exact(kernel: Kernel) -> bool:
    """Whether every licensed evaluation without flags gives the same bits: no float sum, product or inexact function."""
    for x in _nodes(kernel):
        if isinstance(x, Reduce) and x.kind in ("sum", "prod", "expsum") and x.dtype.is_float:
            return False
        if isinstance(x, Call) and not OPS[x.op].exact:
            return False
    return not any(s.op == "+=" and kernel.arrays[s.target].dtype.is_float for s in statements(kernel.body))


def zero_signs_matter(kernel: Kernel) -> bool:
    """Whether the sign of a zero is defined: min and max of 0.0 and -0.0 may be either."""
    for x in _nodes(kernel):
        name = x.kind if isinstance(x, Reduce) else x.op if isinstance(x, Call) else ""
        if name in ("min", "max", "fmin", "fmax") and getattr(x, "dtype", None) is not None and x.dtype.is_float:
            return False
    return not any(s.op in ("max=", "min=") for s in statements(kernel.body))


def _nodes(kernel: Kernel) -> list[Expr]:
    return [x for s in statements(kernel.body) for top in expressions(s) for x in subtrees(top)]


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides where two results of kernels `a` and `b` agree, under some fast-math flags.

    Bit for bit (NaN equal to NaN), where both kernels are exact and the flags license no other rounding. Otherwise
    |x - y| <= bound(a) + bound(b), and anything where either bound is infinite. A `tolerance` also accepts
    |x - y| <= tolerance * |truth|.
    """

    exact: bool
    signs: bool
    flags: Flags
    tolerance: float | None

    def agree(self, x: Array, y: Array, a: Truth, b: Truth, dtype: DType) -> Array:
        """Where the stored results `x` and `y` (of `dtype`) agree: a bool array."""
        left, right = meaning.read(x, dtype), meaning.read(y, dtype)
        same = left == right
        unknown = np.isinf(a.bound) | np.isinf(b.bound)
        if not reads_as(dtype).is_float:
            return same | (unknown & (not self.exact or bool(self.flags)))
        same |= np.isnan(left) & np.isnan(right)
        if self.exact:
            if self.signs:
                same &= (np.signbit(left) == np.signbit(right)) | np.isnan(left)
            return same | (unknown & (bool(self.flags) or not self.signs))
        return same | unknown | self._close(left, right, a, b)

    def _close(self, left: Array, right: Array, a: Truth, b: Truth) -> Array:
        with np.errstate(all="ignore"):
            gap = np.abs(left.astype(np.longdouble) - right.astype(np.longdouble))
            close = gap <= (a.bound + b.bound) * SLACK
            if self.tolerance is not None:
                close |= gap <= self.tolerance * np.abs(a.value)
        return close


def judge(a: Kernel, b: Kernel, flags: Flags = NONE, tolerance: float | None = None) -> Judge:
    """The judge of the results of two kernels."""
    no_rounding = flags <= {Flag.NNAN, Flag.NINF, Flag.NSZ}
    exact = no_rounding and is_exact(a) and is_exact(b) and tolerance is None
    signs = Flag.NSZ not in flags and zero_signs_matter(a) and zero_signs_matter(b)
    return Judge(exact, signs, flags, tolerance)


def truth_expr(e: Expr, values: Mapping[str, Any], sizes: Mapping[str, int] | None = None, digits: int = 50) -> Any:
    """The exact value of a scalar expression over the reals, to `digits` decimal digits: an mpmath number, int or bool.

    `values` gives scalar parameters, free indices and locals by name, and nested sequences for arrays. Float casts round nothing.

    >>> from kernel_ir.dtypes import F64
    >>> x = Local("x", F64)
    >>> print(truth_expr(Call("sub", (Call("exp", (x,), F64), Call("expm1", (x,), F64)), F64), {"x": 1e-30}))
    1.0
    """
    import mpmath  # pyright: ignore[reportMissingTypeStubs]

    mp = mpmath.mp.clone()
    mp.dps = digits
    return _Reals(mp, values, sizes or {}).eval(e, {})


class _Reals:
    """One scalar at a time over an mpmath context."""

    def __init__(self, mp: Any, values: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.mp, self.values, self.sizes = mp, values, sizes

    def number(self, value: Any, dtype: DType) -> Any:
        if dtype.is_float:
            return self.mp.mpf(value if isinstance(value, self.mp.mpf) else float(value))
        return bool(value) if dtype.name == "bool" else int(value)

    def eval(self, e: Expr, names: Mapping[str, Any]) -> Any:
        match e:
            case Const():
                return self.number(e.value, e.dtype)
            case SizeRef():
                return self.sizes[e.name]
            case ParamRef() | IndexRef() | Local():
                return names[e.name] if e.name in names else self.number(self.values[e.name], e.dtype)
            case Load():
                return self._load(e, names)
            case Call():
                return self._call(e, names)
            case Reduce():
                return self._reduce(e, names)
            case Fold():
                return self._fold(e, names)

    def _load(self, e: Load, names: Mapping[str, Any]) -> Any:
        at = self.values[e.array]
        for index in (self.eval(i, names) for i in e.indices):
            if not 0 <= index < len(at):
                if e.default is None:
                    raise IndexError(f"{e.array}[{index}]")
                return self.eval(e.default, names)
            at = at[index]
        return self.number(at, e.dtype)

    def _call(self, e: Call, names: Mapping[str, Any]) -> Any:
        if e.op == "select":
            return self.eval(e.args[1 if self.eval(e.args[0], names) else 2], names)
        op = OPS[e.op]
        args = [self.eval(a, names) for a in e.args]
        if op.cast is not None and e.dtype.is_float:
            return self.mp.mpf(args[0])
        if op.mpmath is None or not e.args[0].dtype.is_float or op.cast is not None:
            arrays = [np.asarray(float(v) if a.dtype.is_float else v, a.dtype.numpy) for v, a in zip(args, e.args, strict=True)]
            with np.errstate(all="ignore"):
                return self.number(np.asarray(op.numpy(*arrays)).item(), e.dtype)
        try:
            value = op.mpmath(self.mp, *args) if callable(op.mpmath) else getattr(self.mp, op.mpmath)(*args)
        except (ZeroDivisionError, ValueError):
            return self.mp.nan
        return self.mp.nan if isinstance(value, self.mp.mpc) else value

    def _reduce(self, e: Reduce, names: Mapping[str, Any]) -> Any:
        points: list[Mapping[str, Any]] = [names]
        for b in e.binders:
            points = [{**at, b.index: i} for at in points for i in range(self.eval(b.lo, at), self.eval(b.hi, at))]
        terms = [[self.eval(body, at) for body in e.bodies] for at in points]
        firsts = [t[0] for t in terms]
        match e.kind:
            case "sum":
                return sum(firsts, self.number(0, e.dtype))
            case "prod":
                return self.mp.fprod(firsts) if e.dtype.is_float else int(np.prod(firsts))
            case "max" | "min":
                ends = (self.mp.ninf, self.mp.inf) if e.dtype.is_float else (np.iinfo(e.dtype.numpy).min, np.iinfo(e.dtype.numpy).max)  # pyright: ignore
                return max(firsts, default=ends[0]) if e.kind == "max" else min(firsts, default=ends[1])
            case "any" | "all":
                return any(firsts) if e.kind == "any" else all(firsts)
            case "argmax" | "argmin":
                best = max(firsts) if e.kind == "argmax" else min(firsts)
                at = firsts.index(best)
                return points[at][e.binders[0].index] if len(e.binders) == 1 else at
            case "expsum":
                top = max(firsts, default=self.mp.mpf(0))
                return self.mp.fsum(self.mp.exp(s - top) * v for s, v in terms)

    def _fold(self, e: Fold, names: Mapping[str, Any]) -> Any:
        carried = {c.name: self.eval(c.init, names) for c in e.carries}
        for i in range(self.eval(e.binder.lo, names), self.eval(e.binder.hi, names)):
            inner = {**names, **carried, e.binder.index: i}
            if e.condition is not None and not self.eval(e.condition, inner):
                break
            carried = {c.name: self.eval(c.update, inner) for c in e.carries}
        return carried[e.result]

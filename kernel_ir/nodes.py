"""The core of the language: the checked, fully typed tree that every later stage reads.

Text becomes syntax (`syntax.py`), and the checker turns syntax into these nodes: constants and functions expanded,
every type and index range explicit. All are frozen; equality ignores spans.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

from kernel_ir.dtypes import BOOL, I64, DType
from kernel_ir.errors import Span

ReduceKind = Literal["sum", "prod", "max", "min", "any", "all", "argmax", "argmin", "expsum"]
AssignOp = Literal["=", "+=", "max=", "min="]
Layout = Literal["rows", "cols", "any"]


def _span() -> Any:
    return field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Const:
    """A number of an arithmetic type, kept by its bits: -0.0 and 0.0 differ, NaN equals itself.

    `bits` is the value itself for bool and integers, and the IEEE 754 *binary64* pattern (as a signed i64) for f32 and f64:
    every f32 is exactly an f64, so one pattern serves both. Build with `const`.
    """

    bits: int
    dtype: DType
    span: Span | None = _span()

    @property
    def value(self) -> bool | int | float:
        """The number in Python."""
        if self.dtype.is_float:
            return struct.unpack("<d", struct.pack("<q", self.bits))[0]
        return bool(self.bits) if self.dtype is BOOL else self.bits


@dataclass(frozen=True, slots=True)
class SizeRef:
    """A size of the kernel (`N`): i64, from the shapes of a call."""

    name: str
    span: Span | None = _span()

    @property
    def dtype(self) -> DType:
        return I64


@dataclass(frozen=True, slots=True)
class ParamRef:
    """A scalar parameter (`a: f32`); `dtype` is arithmetic, what a read gives."""

    name: str
    dtype: DType
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class IndexRef:
    """An index variable bound by a statement, a reduction, a fold or a repeat: i64."""

    name: str
    span: Span | None = _span()

    @property
    def dtype(self) -> DType:
        return I64


@dataclass(frozen=True, slots=True)
class Local:
    """A value carried by a fold (and, in a Plan, a named scalar of the generated code)."""

    name: str
    dtype: DType
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class Load:
    """`array[indices]`, or `array[indices else default]`; rank 0 has no indices. `dtype` is what the read gives.

    `array` names a parameter, an output or a temporary. All indices are i64.
    """

    array: str
    indices: "tuple[Expr, ...]"
    dtype: DType
    default: "Expr | None" = None
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """An operator, function, cast or selection of the op table (`ops.OPS[op]`).

    A cast is the op named by its target (`f32`, `i64`, `f16`, …). `select` takes (condition, then, else).
    `powi` takes (base, Const of i64): `x ** 3` with a literal integer.
    """

    op: str
    args: "tuple[Expr, ...]"
    dtype: DType
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class Binder:
    """An index and its half-open range `lo..hi` (i64; may read sizes, integer parameters and outer indices)."""

    index: str
    lo: "Expr"
    hi: "Expr"


@dataclass(frozen=True, slots=True)
class Reduce:
    """`kind(binders: bodies)`. One body, but two for `expsum(j: s, v)`. Later binders may use earlier ones."""

    kind: ReduceKind
    binders: tuple[Binder, ...]
    bodies: "tuple[Expr, ...]"
    dtype: DType
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class Carry:
    """One carried value of a fold: its name, first value and update."""

    name: str
    init: "Expr"
    update: "Expr"


@dataclass(frozen=True, slots=True)
class Fold:
    """`fold(binder, carries while condition: updates).result`, in order; updates see the step before."""

    binder: Binder
    carries: tuple[Carry, ...]
    condition: "Expr | None"
    result: str
    dtype: DType
    span: Span | None = _span()


Expr = Const | SizeRef | ParamRef | IndexRef | Local | Load | Call | Reduce | Fold


@dataclass(frozen=True, slots=True)
class Assign:
    """One statement: `target[indices] op value for binders where condition`, or `… otherwise`.

    With op "=", indices are IndexRefs and i64 Consts and `binders` holds each IndexRef once. With an accumulating op,
    indices are any i64 expressions over `binders`. `otherwise` covers what earlier statements on the target leave.
    """

    target: str
    indices: tuple[Expr, ...]
    op: AssignOp
    value: Expr
    binders: tuple[Binder, ...]
    where: Expr | None = None
    otherwise: bool = False
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat index in steps { body }`: the statements in order, `steps` times (i64; none if negative)."""

    index: str | None
    steps: Expr
    body: "tuple[Stmt, ...]"
    span: Span | None = _span()


Stmt = Assign | Repeat


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A storage type, a shape (i64 expressions over sizes; empty for a scalar) and a layout."""

    dtype: DType
    shape: tuple[Expr, ...]
    layout: Layout = "rows"

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter or an output."""

    name: str
    type: ArrayType
    inout: bool = False
    span: Span | None = _span()


@dataclass(frozen=True, slots=True)
class Kernel:
    """A checked kernel.

    `sizes` lists every size name, in order of first appearance; `temps` the temporaries with their types, in order of
    definition; `facts` the user's facts and `implied` those that a bounds proof used (`N >= 1`): all are checked at a call. A fact
    about an array holds for all its elements: `0 <= id` is the core `all(i in 0..T: 0 <= id[i])`.
    """

    name: str
    params: tuple[Param, ...]
    outputs: tuple[Param, ...]
    facts: tuple[Expr, ...]
    body: tuple[Stmt, ...]
    sizes: tuple[str, ...]
    temps: tuple[Param, ...]
    implied: tuple[Expr, ...] = ()
    span: Span | None = _span()

    @property
    def arrays(self) -> dict[str, ArrayType]:
        """Type of every parameter, output and temporary, by name (scalars have rank 0)."""
        return {p.name: p.type for p in (*self.params, *self.outputs, *self.temps)}

    def __str__(self) -> str:
        from kernel_ir.printer import kernel_text

        return kernel_text(self)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """The reference meaning, in NumPy: slow and right."""
        from kernel_ir.evaluate import call

        return call(self, args, kwargs)


def const(value: bool | int | float, dtype: DType, span: Span | None = None) -> Const:
    """The constant `value` of `dtype`, rounded (f32) or wrapped (integers) to it.

    >>> from kernel_ir.dtypes import F32, I32
    >>> const(0.1, F32).value, const(2**31, I32).value, const(-0.0, F32) == const(0.0, F32)
    (0.10000000149011612, -2147483648, False)
    """
    if dtype.is_float:
        number = float(value)
        if dtype.bits == 32 and math.isfinite(number):
            number = _round_to_f32(number)
        if math.isnan(number):
            number = math.nan
        return Const(struct.unpack("<q", struct.pack("<d", number))[0], dtype, span=span)
    if dtype is BOOL:
        return Const(int(bool(value)), dtype, span=span)
    half = 1 << (dtype.bits - 1)
    return Const((int(value) + half) % (2 * half) - half, dtype, span=span)


def _round_to_f32(number: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:  # struct refuses what rounds to infinity
        return math.copysign(math.inf, number)

"""Turns core expressions into syntax that types back to them: literals are cast where nothing near tells their type."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from kernel_ir.dtypes import BOOL, DTYPES, F32, F64, I32, I64, DType
from kernel_ir.errors import ShapeError, Source, Span
from kernel_ir.nodes import Call, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef, const
from kernel_ir.ops import OPS
from kernel_ir.ranges import ZERO, Shapes, extent, inside
from kernel_ir.syntax import (
    Binary,
    CallSyntax,
    CarrySyntax,
    Compare,
    FoldSyntax,
    Group,
    Index,
    Name,
    Number,
    Range,
    ReduceSyntax,
    Select,
    SyntaxExpr,
    Unary,
)

NOWHERE: Final = Span(Source("", ""), 1, 1, 1, 1)
COMPARISONS: Final = frozenset(("lt", "le", "gt", "ge", "eq", "ne"))


def name(text: str) -> Name:
    """A name at no place."""
    return Name(text, NOWHERE)


def is_soft(e: Expr) -> bool:
    """Whether the checker lets this integer convert by itself: made of sizes, index variables and literals, and not of literals alone."""
    return _softness(e) == "soft"


def _softness(e: Expr) -> str:
    match e:
        case SizeRef() | IndexRef():
            return "soft"
        case Const(dtype=dtype) if dtype is I64:
            return "neutral"
        case Call() if e.dtype is I64 and OPS[e.op].cast is None:
            parts = [_softness(a) for a, letter in zip(e.args, OPS[e.op].signature, strict=False) if letter == "T"]
        case Reduce(kind="sum" | "prod" | "max" | "min") if e.dtype is I64:
            parts = [_softness(b) for b in e.bodies]
        case _:
            return "hard"
    return "hard" if "hard" in parts else "soft" if "soft" in parts else "neutral"


@dataclass(frozen=True, slots=True)
class Surface:
    """What decides how an expression reads: shapes for ranges, and which carried values and arrays are in scope.

    `told`: carried values whose type the text so far tells; `hidden`: names that an index or carried value takes; `bare`: arrays
    that a fact names whole.
    """

    shapes: Shapes = field(default_factory=dict[str, tuple[Expr, ...]])
    told: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()

    def tells(self, e: Expr) -> bool:
        """Whether the text of `e` has its type by itself."""
        match e:
            case Const():
                return e.dtype not in (F32, I32)
            case Local():
                return e.name in self.told
            case Call():
                row = OPS[e.op]
                same = [a for a, letter in zip(e.args, row.signature, strict=False) if letter == "T"]
                return row.cast is not None or row.signature.endswith("b") or any(map(self.tells, _unmoved(same)))
            case Reduce():
                return e.kind in ("any", "all", "argmax", "argmin") or any(map(self.tells, _unmoved(e.bodies)))
            case Fold():
                return e.result in self._told_carries(e)
            case _:
                return True

    def _told_carries(self, e: Fold) -> frozenset[str]:
        """The carried values of a fold whose types its own text tells."""
        names = frozenset(c.name for c in e.carries)
        inner = replace(self, told=(self.told - names) | {c.name for c in e.carries if self.tells(c.init)})
        while True:
            more = {c.name for c in e.carries if inner.tells(c.update)} - inner.told
            if not more:
                return inner.told & names
            inner = replace(inner, told=inner.told | more)

    def expr(self, e: Expr, told: bool = False) -> SyntaxExpr:
        """The syntax of `e`; `told`: what stands around gives its type."""
        match e:
            case Const():
                return self._const(e, told)
            case SizeRef() | ParamRef() | IndexRef() | Local():
                return name(e.name)
            case Load() if e.array in self.bare or not (e.indices or e.array in self.hidden):
                return name(e.array)
            case Load():
                default = None if e.default is None else self.expr(e.default, True)
                return Index(name(e.array), tuple(self.integer(i) for i in e.indices), default, NOWHERE)
            case Call():
                return self._call(e, told)
            case Reduce():
                return self._reduce(e, told)
            case Fold():
                return self._fold(e, told)

    def _const(self, e: Const, told: bool) -> SyntaxExpr:
        number = literal(e)
        if e.dtype is BOOL or told or e.dtype in (I64, F64):
            return number
        return CallSyntax(name(e.dtype.name), (number,), NOWHERE)

    def integer(self, e: Expr) -> SyntaxExpr:
        """The syntax of an index or a bound, which widens i32 by itself."""
        match e:
            case Call(op="i64", args=(inner,)) if inner.dtype is I32 and self.tells(inner) and not isinstance(inner, Const):
                return self.expr(inner)
            case _:
                return self.expr(e)

    def value(self, e: Expr) -> SyntaxExpr:
        """The syntax of a value for a target of a declared type, which converts sizes and indices by itself."""
        return self.expr(_unconverted(e) or e, True)

    def _same(self, args: Sequence[Expr], told: bool) -> tuple[SyntaxExpr, ...]:
        """Arguments of one type. Conversions that the checker makes by itself are left out next to what makes it do so."""
        kept = _unmoved(args)
        told = told or any(map(self.tells, kept))
        shown: list[SyntaxExpr] = []
        for a in args:
            if a in kept:
                shown.append(self.expr(a, told))
                told = True
            else:
                shown.append(self.expr(_unconverted(a) or a))
        return tuple(shown)

    def _call(self, e: Call, told: bool) -> SyntaxExpr:
        row = OPS[e.op]
        if row.cast is not None:
            return CallSyntax(name(e.op), (self._cast_argument(e),), NOWHERE)
        if e.op == "select":
            then, otherwise = self._same(e.args[1:], told)
            return Select(self.expr(e.args[0]), then, otherwise, NOWHERE)
        if e.op == "powi":
            base, count = e.args
            (shown,) = self._same((base,), told)
            return Binary("**", shown, self.expr(count), NOWHERE)
        if e.op in COMPARISONS:
            return self._compare(e)
        args = self._same(e.args, told) if "T" in row.signature else tuple(self.expr(a) for a in e.args)
        match args:
            case (a,) if row.symbol:
                # `-1.0` is a literal; parentheses make it a negation.
                negated = e.op == "neg" and isinstance(a, Number)
                return Unary(row.symbol, Group(a, NOWHERE) if negated else a, NOWHERE)
            case (a, b) if row.symbol:
                return Binary(row.symbol, a, b, NOWHERE)
            case _:
                return CallSyntax(name(e.op), args, NOWHERE)

    def _compare(self, e: Call) -> SyntaxExpr:
        a, b = e.args
        symbol = OPS[e.op].symbol
        for widened, other in ((a, b), (b, a)):
            inner = widened.args[0] if isinstance(widened, Call) and widened.op == "i64" else None
            if inner is not None and inner.dtype is I32 and is_soft(other) and self.tells(inner):
                shown = (self.expr(inner), self.expr(other))
                return Compare(shown if widened is a else shown[::-1], (symbol,), NOWHERE)
        return Compare(self._same((a, b), False), (symbol,), NOWHERE)

    def _cast_argument(self, e: Call) -> SyntaxExpr:
        """The argument of a cast; a literal gets a cast of its own, since `f32(0.1)` is the literal of type f32."""
        (arg,) = e.args
        shown = self.expr(arg)
        target = DTYPES[e.op]
        folds = target.is_arithmetic and target is not BOOL and isinstance(arg, Const) and arg.dtype is not BOOL
        if folds and not isinstance(shown, CallSyntax) and (target.is_float or arg.dtype.is_int):
            return CallSyntax(name(arg.dtype.name), (shown,), NOWHERE)
        return shown

    def _reduce(self, e: Reduce, told: bool) -> SyntaxExpr:
        ranges: list[Range] = []
        inner = self
        for n, b in enumerate(e.binders):
            bounds = None if _inferred(e, n, self.shapes) else (inner.integer(b.lo), inner.integer(b.hi))
            ranges.append(make_range(b.index, bounds))
            inner = inner.within((b.index,))
        if e.kind in ("any", "all"):
            bodies = tuple(inner.expr(b) for b in e.bodies)
        else:
            bodies = inner._same(e.bodies, told and e.kind not in ("argmax", "argmin"))
        return ReduceSyntax(name(e.kind), tuple(ranges), bodies, NOWHERE)

    def within(self, names: Iterable[str]) -> "Surface":
        """The surface inside a binding of `names`."""
        return replace(self, hidden=self.hidden.union(names), told=self.told.difference(names))

    def _fold(self, e: Fold, told: bool) -> SyntaxExpr:
        known = self._told_carries(e) | ({e.result} if told else frozenset[str]())
        inner = self.within((e.binder.index, *(c.name for c in e.carries)))
        inner = replace(inner, told=inner.told | {c.name for c in e.carries})
        carries = tuple(CarrySyntax(name(c.name), self.expr(c.init, c.name in known), NOWHERE) for c in e.carries)
        return FoldSyntax(
            make_range(e.binder.index, (self.integer(e.binder.lo), self.integer(e.binder.hi))),
            carries,
            None if e.condition is None else inner.expr(e.condition),
            tuple(inner.expr(c.update, True) for c in e.carries),
            name(e.result),
            NOWHERE,
        )


def make_range(index: str, bounds: tuple[SyntaxExpr, SyntaxExpr] | None) -> Range:
    """A range at no place; without bounds it is to be inferred."""
    lo, hi = bounds or (None, None)
    return Range(name(index), lo, hi, NOWHERE)


def _inferred(e: Reduce, at: int, shapes: Shapes) -> bool:
    b = e.binders[at]
    try:
        return b.lo == ZERO and extent(b.index, inside(e.binders[at + 1 :], e.bodies), shapes) == b.hi
    except ShapeError:
        return False


def _unconverted(e: Expr) -> Expr | None:
    """What stands in a conversion that the checker makes by itself: of a size or an index to a float."""
    match e:
        case Call(op="f32" | "f64", args=(inner,)) if is_soft(inner):
            return inner
        case _:
            return None


def _unmoved(args: Sequence[Expr]) -> Sequence[Expr]:
    """The arguments of one type that keep their own conversion: those that are none; all, if there is nothing else to meet."""
    return [a for a in args if _unconverted(a) is None] or args


def literal(e: Const) -> SyntaxExpr:
    """The literal that reads back to the bits of `e` where its type is known."""
    value = e.value
    if e.dtype is BOOL:
        return name("true" if value else "false")
    negative = str(value).startswith("-")
    size = Number(-value if negative else value, number_text(abs(value), e.dtype), NOWHERE)
    return Unary("-", size, NOWHERE) if negative else size


def number_text(value: int | float, dtype: DType) -> str:
    """The shortest decimal that reads back as `value` of `dtype`."""
    if isinstance(value, int):
        return str(value)
    if dtype is F32:
        short = str(np.float32(value))
        if const(float(short), F32) == const(value, F32):
            return short
    return repr(value)

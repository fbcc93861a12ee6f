"""Turns what is known about types into types: union-find cells for literals, and terms, expressions whose dtype may be open yet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kernel_ir.dtypes import F64, I64, DType
from kernel_ir.errors import Span
from kernel_ir.nodes import Call, Expr

Kind = Literal["any", "number", "integer", "float"]


@dataclass(slots=True, eq=False)
class Cell:
    """A type: known, or open and of a kind. Cells that must agree are united."""

    kind: Kind = "any"
    dtype: DType | None = None
    parent: "Cell | None" = None

    def find(self) -> "Cell":
        """The cell that stands for all that are united with this one."""
        cell = self
        while cell.parent is not None:
            cell = cell.parent
        if cell is not self:
            self.parent = cell
        return cell

    @property
    def known(self) -> DType | None:
        return self.find().dtype

    @property
    def resolved(self) -> DType:
        """The type in the end: an open float is f64, an open number i64."""
        cell = self.find()
        return cell.dtype or (F64 if cell.kind == "float" else I64)

    def describe(self) -> str:
        """How an error names this type."""
        cell = self.find()
        if cell.dtype is not None:
            return cell.dtype.name
        return {"any": "of any type", "number": "a number", "integer": "an integer", "float": "a float"}[cell.kind]


def known(dtype: DType) -> Cell:
    """A cell of a known type."""
    return Cell("any", dtype)


def unite(a: Cell, b: Cell) -> bool:
    """Makes two cells one; False where their types exclude each other."""
    a, b = a.find(), b.find()
    if a is b:
        return True
    if a.dtype is None:
        a, b = b, a
    if a.dtype is not None:
        if b.dtype is not None and b.dtype is not a.dtype:
            return False
        if b.dtype is None and not admits(b.kind, a.dtype):
            return False
    else:
        kind = _meet(a.kind, b.kind)
        if kind is None:
            return False
        a.kind = kind
    b.parent = a
    return True


def admits(kind: Kind, dtype: DType) -> bool:
    """Whether an open type of `kind` may become `dtype`."""
    return kind == "any" or (kind != "integer" and dtype.is_float) or (kind != "float" and dtype.is_int)


def _meet(a: Kind, b: Kind) -> Kind | None:
    for loose in ("any", "number"):
        if a == loose:
            return b
        if b == loose:
            return a
    return a if a == b else None


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """An expression on its way to the core: `build` gives it once all types are known.

    `soft`: an integer made of only sizes, index variables and literals, which converts by itself where it meets another type.
    """

    cell: Cell
    build: Callable[[], Expr]
    span: Span
    soft: bool = False

    @property
    def neutral(self) -> bool:
        """Whether its type is still that of whatever it meets: an integer literal, or made of those."""
        cell = self.cell.find()
        return cell.dtype is None and cell.kind != "float"


def convert(term: Term, cell: Cell) -> Term:
    """The term cast to whatever `cell` becomes; no cast where it has that type."""

    def build() -> Expr:
        dtype = cell.resolved
        inner = term.build()
        return inner if inner.dtype is dtype else Call(dtype.name, (inner,), dtype, span=term.span)

    return Term(cell, build, term.span)

"""Turns terms that meet into terms of one type: literals united with what they meet, sizes and indices converted to it."""

from typing import Final

from kernel_ir.dtypes import BOOL, I32, I64, DType
from kernel_ir.errors import Span, TypeError_
from kernel_ir.nodes import Call
from kernel_ir.ops import OPS, Types
from kernel_ir.terms import Cell, Kind, Term, convert, known, unite

_KINDS: Final[dict[Types, Kind]] = {Types.FLOAT: "float", Types.INT: "integer", Types.NUMBER: "number", Types.ANY: "any", Types.BOOL: "any"}
_WORDS: Final = {Types.FLOAT: "floats", Types.INT: "integers", Types.NUMBER: "numbers", Types.BOOL: "conditions", Types.ANY: "values"}


def apply(name: str, args: tuple[Term, ...], span: Span) -> Term:
    """The term of an op over terms, which are united and converted as its signature says."""
    row = OPS[name]
    letters, _, out = row.signature.partition("->")
    shown = f"`{row.symbol or name}`" if name != "select" else "`if … else`"
    same = [a for a, letter in zip(args, letters, strict=True) if letter == "T"]
    if name in ("lt", "le", "gt", "ge", "eq", "ne") and any(a.soft for a in same):
        same = [convert(a, known(I64)) if a.cell.known is I32 else a for a in same]  # i64(a) < N: i32(N) could wrap
    cell, soft, joined = join(tuple(same), row.types, shown, span)
    rest = iter(joined)
    final = tuple(next(rest) if letter == "T" else as_condition(a, shown) for a, letter in zip(args, letters, strict=True))
    result = known(BOOL) if out == "b" else cell
    return Term(result, lambda: Call(name, tuple(a.build() for a in final), result.resolved, span=span), span, soft and out == "T")


def as_condition(term: Term, what: str) -> Term:
    """The term, which must be a bool."""
    if term.cell.known is not BOOL:
        found = term.cell.describe()
        raise TypeError_(f"{what} needs a condition, and this is {found}", term.span, "compare it: `… != 0`")
    return term


def join(terms: tuple[Term, ...], types: Types, what: str, span: Span) -> tuple[Cell, bool, tuple[Term, ...]]:
    """One cell for terms that must have one type; soft ones are converted to what they meet. Also whether the result is soft."""
    hard = any(not t.soft and not t.neutral for t in terms)
    stays = not hard and types is not Types.FLOAT and any(t.soft for t in terms)
    cell = known(I64) if stays else Cell(_KINDS[types])
    done: list[Term] = []
    for t in terms:
        if t.soft and not stays:
            done.append(convert(t, cell))
            continue
        before = Cell(cell.find().kind, cell.known)
        if not unite(cell, t.cell):
            raise _mismatch(before, t, terms, types, what)
        done.append(t)
    if cell.known is not None and cell.known not in types:
        raise _wrong(what, types, next((t for t in terms if not t.soft), terms[0]), span)
    for t in terms:
        target = cell.find()
        if t.soft and not stays and target.dtype is BOOL:
            raise _wrong(what, types, t, span)
    return cell, stays, tuple(done)


def _wrong(what: str, types: Types, term: Term, span: Span) -> TypeError_:
    found = term.cell.describe()
    if what == "`/`":
        return TypeError_(
            f"`/` is for floats, and `{source_text(term.span)}` is {found}",
            span,
            f"write `//` to round down, or convert: `f64({source_text(term.span)})`",
        )
    shown = source_text(term.span)
    hint = f"convert it: `f32({shown})` or `f64({shown})`" if types is Types.FLOAT else f"convert it: `i64({shown})`"
    if what in ("`&`", "`|`"):
        hint = f"conditions are joined by `{'and' if what == '`&`' else 'or'}`"
    return TypeError_(f"{what} is for {_WORDS[types]}, and `{source_text(term.span)}` is {found}", term.span, hint)


def _mismatch(before: Cell, term: Term, terms: tuple[Term, ...], types: Types, what: str) -> TypeError_:
    if before.dtype is None or (term.cell.known is not None and term.cell.known not in types):
        return _wrong(what, types, term, term.span)
    other = next((t for t in terms if t.cell.known is before.dtype and t is not term), terms[0])
    pair = f"`{source_text(other.span)}` is {before.describe()}, `{source_text(term.span)}` is {term.cell.describe()}"
    message = f"{what} needs one type: {pair}"
    return TypeError_(message, term.span, _conversion(before.dtype, term, other))


def meet(terms: tuple[Term, ...], cell: Cell, what: str) -> tuple[Term, ...]:
    """The terms as values of `cell`: soft ones converted, others united with it."""
    done: list[Term] = []
    for t in terms:
        number = cell.known is not BOOL
        if t.soft and number and cell.known is not I64:
            done.append(convert(t, cell))
            continue
        before = cell.describe()
        if not unite(cell, t.cell):
            hint = _conversion(cell.known, t, None) if cell.known is not None else None
            raise TypeError_(f"{what} is {before}, and `{source_text(t.span)}` is {t.cell.describe()}", t.span, hint)
        done.append(t)
    return tuple(done)


def is_float(term: Term) -> bool:
    cell = term.cell.find()
    return cell.kind == "float" or (cell.dtype is not None and cell.dtype.is_float)


def _conversion(wanted: DType | None, term: Term, other: Term | None) -> str | None:
    if wanted is None or wanted is BOOL or term.cell.known is BOOL:
        return "compare it: `… != 0`" if wanted is BOOL else "select: `1 if c else 0`"
    if term.cell.known is None and not is_float(term):
        return None
    if term.cell.known is None and wanted.is_int:
        return f"write an integer, or convert the other side: `f64({source_text(other.span)})`" if other else "write an integer"
    return f"convert one: `{wanted}({source_text(term.span)})`"


def source_text(span: Span) -> str:
    """The text under a span, shortened."""
    line = span.source.line(span.line)
    text = line[span.column - 1 : span.end_column - 1] if span.end_line == span.line else line[span.column - 1 :] + " …"
    return text if len(text) <= 40 else text[:38] + " …"

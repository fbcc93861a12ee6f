"""Turns expanded syntax into terms: names resolved, literals typed by what they meet, sizes and indices converted where they meet more."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kernel_ir.dtypes import BOOL, I32, I64, DType, reads_as
from kernel_ir.errors import KernelError, NameError_, ShapeError, Span, TypeError_
from kernel_ir.inline import MAX_DEPTH
from kernel_ir.names import Names, Scope, range_error, rank_error
from kernel_ir.nodes import Binder, Call, Carry, Const, Expr, Fold, Load, Local, Reduce, const
from kernel_ir.ops import BINARY_SYMBOLS, OPS, REDUCTIONS, Types
from kernel_ir.ranges import ZERO, extent, inside
from kernel_ir.spelling import suggestion
from kernel_ir.syntax import (
    Binary,
    CallSyntax,
    Compare,
    Expanded,
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
from kernel_ir.terms import Cell, Term, convert, known, unite
from kernel_ir.unify import apply, as_condition, is_float, join, meet, source_text


@dataclass(slots=True)
class Typer(Names):
    """Types expressions. `shapes` grows as statements are built, after their types are known."""

    shapes: dict[str, tuple[Expr, ...]] = field(default_factory=dict[str, tuple[Expr, ...]])
    depth: int = 0

    def expr(self, e: SyntaxExpr, scope: Scope) -> Term:
        """The term of an expression."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise KernelError(f"this is nested deeper than {MAX_DEPTH} levels", e.span, "split it with temporaries")
        term = self._expr(e, scope)
        self.depth -= 1
        return term

    def _expr(self, e: SyntaxExpr, scope: Scope) -> Term:
        match e:
            case Number():
                return self._number(e)
            case Name():
                return self.name(e, scope)
            case Group():
                return self.expr(e.body, scope)
            case Expanded():
                return self._expanded(e, scope)
            case Index():
                return self._load(e, scope)
            case Unary():
                op = {"-": "neg", "~": "bnot", "not": "not"}[e.op]
                return apply(op, (self.expr(e.operand, scope),), e.span)
            case Binary(op="**"):
                return self._power(e, scope)
            case Binary():
                name = e.op if e.op in OPS else BINARY_SYMBOLS[e.op]
                return apply(name, (self.expr(e.left, scope), self.expr(e.right, scope)), e.span)
            case Compare():
                return self._compare(e, scope)
            case Select():
                then, condition, otherwise = (self.expr(x, scope) for x in (e.then, e.condition, e.otherwise))
                return apply("select", (condition, then, otherwise), e.span)
            case CallSyntax():
                return self._call(e, scope)
            case ReduceSyntax():
                return self._reduce(e, scope)
            case FoldSyntax():
                return self._fold(e, scope)

    def _expanded(self, e: Expanded, scope: Scope) -> Term:
        try:
            return self.expr(e.body, scope)
        except KernelError as error:
            if error.span == e.span or " called on line " in error.message:
                raise
            message = f"{error.message}, in `{e.function.name}` called on line {e.span.line}"
            raise type(error)(message, error.span, error.hint) from None

    def _number(self, e: Number) -> Term:
        cell = Cell("float" if isinstance(e.value, float) else "number")
        return Term(cell, lambda: literal(e, cell.resolved), e.span)

    def _power(self, e: Binary, scope: Scope) -> Term:
        base = self.expr(e.left, scope)
        if not isinstance(e.right, Number) or isinstance(e.right.value, float):
            exponent = self.expr(e.right, scope)
            if base.cell.known is not None and base.cell.known.is_int and not base.soft and (exponent.soft or not is_float(exponent)):
                raise TypeError_("an integer is raised to a literal power only", e.right.span, "write the number, or convert: `f64(…)`")
            return apply("pow", (base, exponent), e.span)
        cell, soft, (base,) = join((base,), Types.NUMBER, "`**`", e.span)
        number = e.right
        count = literal(number, I64)

        def build() -> Expr:
            dtype = cell.resolved
            if count.bits < 0 and dtype.is_int:
                raise TypeError_("an integer to a negative power is no integer", number.span, "convert the base: `f64(…)`")
            return Call("powi", (base.build(), count), dtype, span=e.span)

        return Term(cell, build, e.span, soft)

    def _compare(self, e: Compare, scope: Scope) -> Term:
        terms = [self.expr(x, scope) for x in e.operands]
        links = [apply(BINARY_SYMBOLS[op], (a, b), a.span.to(b.span)) for op, a, b in zip(e.ops, terms[:-1], terms[1:], strict=True)]
        total = links[0]
        for link in links[1:]:
            total = apply("and", (total, link), e.span)
        return total

    def _call(self, e: CallSyntax, scope: Scope) -> Term:
        name = e.function.name
        row = OPS[name]
        if len(e.args) != row.arity:
            many = f"{row.arity} argument{'s' * (row.arity != 1)}"
            hint = f"write `{name}({', '.join('abc'[: row.arity])})`"
            if len(e.args) > 2 and name in ("min", "max", "fmin", "fmax", "hypot"):
                hint = f"nest them: `{name}({name}(a, b), c)`"
            if name in REDUCTIONS and len(e.args) == 1:
                hint = f"`{name}(a, b)` of two values, or `{name}(i: …)` over an index"
            raise TypeError_(f"`{name}` takes {many}, and {len(e.args)} {'is' if len(e.args) == 1 else 'are'} given", e.span, hint)
        if row.cast is None:
            return apply(name, tuple(self.expr(a, scope) for a in e.args), e.span)
        target, arg = reads_as(row.cast), e.args[0]
        if isinstance(arg, Number) and row.cast is target and target is not BOOL and (isinstance(arg.value, int) or target.is_float):
            return Term(known(target), lambda: replace(literal(arg, target), span=e.span), e.span)
        inner = self.expr(arg, scope)
        return Term(known(target), lambda: Call(name, (inner.build(),), target, span=e.span), e.span)

    def integer(self, e: SyntaxExpr, scope: Scope, what: str) -> Term:
        """The term of an index, bound or count: i64, or i32 widened."""
        term = self.expr(e, scope)
        if term.cell.known is I32:
            return convert(term, known(I64))
        if not unite(known(I64), term.cell):
            hint = "write `//` to divide and round down, or convert: `i64(…)`" if is_float(term) else "convert it: `i64(…)`"
            raise TypeError_(f"{what} is an i64, and `{source_text(e.span)}` is {term.cell.describe()}", e.span, hint)
        return term

    def _load(self, e: Index, scope: Scope) -> Term:
        symbol = self.symbols.get(e.array.name)
        if symbol is None:
            if e.array.name in scope or e.array.name in self.sizes:
                raise ShapeError(f"`{e.array.name}` is a number, not an array", e.span, f"write `{e.array.name}`")
            raise self.unknown(e.array, {})
        if symbol.rank != len(e.indices):
            raise rank_error(symbol, len(e.indices), e.span)
        if symbol.role == "param" and symbol.rank == 0:
            raise ShapeError(f"`{symbol.name}` is a scalar", e.span, f"write `{symbol.name}`")
        indices = tuple(self.integer(i, scope, "an index") for i in e.indices)
        cell, default = symbol.cell, None
        if e.default is not None:
            value = self.expr(e.default, scope)
            (default,) = meet((value,), symbol.cell, f"the default of `{symbol.name}`")

        def build() -> Expr:
            return Load(symbol.name, tuple(i.build() for i in indices), cell.resolved, default and default.build(), span=e.span)

        return Term(cell, build, e.span)

    def bounds(self, r: Range, scope: Scope) -> Callable[[], tuple[Expr, Expr]] | None:
        """The bounds that a range gives, to build later; None where they are to be inferred."""
        if r.lo is None or r.hi is None:
            return None
        lo, hi = (self.integer(x, scope, "a bound") for x in (r.lo, r.hi))
        return lambda: (lo.build(), hi.build())

    def _reduce(self, e: ReduceSyntax, scope: Scope) -> Term:
        row = REDUCTIONS[e.kind.name]
        given: list[tuple[str, Span, Callable[[], tuple[Expr, Expr]] | None]] = []
        inner = dict(scope)
        for r in e.ranges:
            if any(r.index.name == n for n, _, _ in given):
                raise NameError_(f"`{r.index.name}` is bound twice", r.index.span, "rename one of them")
            given.append((r.index.name, r.index.span, self.bounds(r, inner)))
            inner = self.binder(r.index, inner)
        wanted = 2 if row.name == "expsum" else 1
        if len(e.bodies) != wanted:
            hint = "write `expsum(j: score, value)`" if wanted == 2 else None
            raise TypeError_(
                f"`{row.name}` takes {wanted} expression{'s' * (wanted > 1)} after the colon, and {len(e.bodies)} given", e.span, hint
            )
        shown = f"`{row.name}`"
        terms = tuple(self.expr(b, inner) for b in e.bodies)
        if row.types is Types.BOOL:
            bodies, cell, soft = tuple(as_condition(t, shown) for t in terms), known(BOOL), False
        else:
            cell, soft, bodies = join(terms, row.types, shown, e.span)
        result = known(I64) if row.name in ("argmax", "argmin") else cell

        def build() -> Expr:
            built = tuple(b.build() for b in bodies)
            binders = self.infer(given, built, f"{row.name}")
            return Reduce(row.name, binders, built, result.resolved, span=e.span)  # type: ignore[arg-type]

        return Term(result, build, e.span, soft and result is cell)

    def infer(
        self, given: list[tuple[str, Span, Callable[[], tuple[Expr, Expr]] | None]], bodies: tuple[Expr, ...], word: str
    ) -> tuple[Binder, ...]:
        """The binders of a reduction, innermost first so that later bounds count as uses."""
        binders: list[Binder] = []
        for index, span, bounds in reversed(given):
            if bounds is not None:
                lo, hi = bounds()
            else:
                lo, hi = ZERO, extent(index, inside(binders, bodies), self.shapes)
                if hi is None:
                    raise range_error(index, span, f"{word}({index} in 0..N: …)")
            binders.insert(0, Binder(index, lo, hi))
        return tuple(binders)

    def _fold(self, e: FoldSyntax, scope: Scope) -> Term:
        bounds = self.bounds(e.range, scope)
        inner = self.binder(e.range.index, scope)
        names = [c.name.name for c in e.carries]
        inits = [self.expr(c.init, scope) for c in e.carries]
        cells = [known(I64) if t.soft else t.cell for t in inits]
        for c, cell in zip(e.carries, cells, strict=True):
            self.refuse_name(c.name, "a carried value")
            if names.count(c.name.name) > 1 or c.name.name == e.range.index.name:
                raise NameError_(f"`{c.name.name}` is bound twice", c.name.span, "rename one of them")
            inner[c.name.name] = Term(cell, _local(c.name, cell), c.name.span)
        if len(e.updates) != len(names):
            raise TypeError_(
                f"the fold carries {', '.join(names)}: {len(names)} in all, and the updates after the colon are {len(e.updates)}",
                e.span,
                "give one update for each, in order",
            )
        updates = [meet((self.expr(u, inner),), cell, f"`{n}`")[0] for u, cell, n in zip(e.updates, cells, names, strict=True)]
        condition = None if e.condition is None else as_condition(self.expr(e.condition, inner), "`while`")
        if e.result.name not in names:
            hint = suggestion(e.result.name, names) or f"it carries {', '.join(names)}"
            raise NameError_(f"the fold carries no `{e.result.name}`", e.result.span, hint)
        cell = cells[names.index(e.result.name)]

        def build() -> Expr:
            assert bounds is not None  # the grammar asks for the range of a fold
            carries = tuple(Carry(n, i.build(), u.build()) for n, i, u in zip(names, inits, updates, strict=True))
            binder = Binder(e.range.index.name, *bounds())
            return Fold(binder, carries, condition and condition.build(), e.result.name, cell.resolved, span=e.span)

        return Term(cell, build, e.span)


def _local(name: Name, cell: Cell) -> Callable[[], Expr]:
    return lambda: Local(name.name, cell.resolved, span=name.span)


def literal(e: Number, dtype: DType) -> Const:
    """The constant of `dtype`, or a TypeError_ where it does not fit."""
    value = e.value
    if dtype.is_int and isinstance(value, int) and not -(1 << dtype.bits - 1) <= value < 1 << dtype.bits - 1:
        raise TypeError_(f"{_shown(e)} does not fit {dtype}", e.span, f"{dtype} ends at {(1 << dtype.bits - 1) - 1}")
    try:
        constant = const(value, dtype, e.span)
    except OverflowError:  # an int beyond every float
        raise TypeError_(f"{_shown(e)} does not fit {dtype}", e.span, "write `inf` for infinity") from None
    if dtype.is_float and math.isfinite(value) and not math.isfinite(constant.value):
        raise TypeError_(f"{_shown(e)} does not fit {dtype}", e.span, "write `inf` for infinity")
    return constant


def _shown(e: Number) -> str:
    text = source_text(e.span)
    return text if text == str(e.value) else f"`{text}`"

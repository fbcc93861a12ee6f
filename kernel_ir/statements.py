"""Turns the expanded statements of a kernel into core statements: targets checked, ranges inferred, temporaries given their shapes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kernel_ir.dtypes import I64
from kernel_ir.errors import CoverageError, KernelError, NameError_, ShapeError, Span
from kernel_ir.infer import Typer
from kernel_ir.names import RESERVED, Scope, Symbol, range_error, rank_error
from kernel_ir.nodes import ArrayType, Assign, Binder, Expr, Param, Repeat, Stmt, const
from kernel_ir.ops import Types
from kernel_ir.ranges import ZERO, grown, inferred_extent, ordered
from kernel_ir.syntax import (
    AssignSyntax,
    FoldSyntax,
    Index,
    Name,
    Number,
    Range,
    ReduceSyntax,
    RepeatSyntax,
    StatementSyntax,
    SyntaxExpr,
    children,
)
from kernel_ir.terms import Term, known
from kernel_ir.unify import as_condition, join, meet

Later = Callable[[], Stmt]
Bounds = Callable[[], tuple[Expr, Expr]] | None


@dataclass(slots=True)
class Statements:
    """Types all statements of a kernel first, then builds them in order."""

    typer: Typer
    temps: dict[str, Span] = field(default_factory=dict[str, Span])
    defined: dict[str, bool] = field(default_factory=dict[str, bool])

    def type(self, s: StatementSyntax, scope: Scope) -> Later:
        """The statement, to build once all types are known."""
        return self._repeat(s, scope) if isinstance(s, RepeatSyntax) else self._assign(s, scope)

    def _repeat(self, s: RepeatSyntax, scope: Scope) -> Later:
        steps = self.typer.integer(s.steps, scope, "the number of steps")
        inner = scope if s.index is None else self.typer.binder(s.index, scope)
        body = [self.type(x, inner) for x in s.body]
        name = s.index.name if s.index else None
        return lambda: Repeat(name, steps.build(), tuple(b() for b in body), span=s.span)

    def _assign(self, s: AssignSyntax, scope: Scope) -> Later:
        self._check_target(s)
        names = self._indices(s, scope)
        bounds: dict[str, Bounds] = {}
        inner = dict(scope)
        given = {r.index.name: r for r in s.ranges}
        implicit = [n for n in names if n.name not in given]
        for name in implicit:
            inner = self.typer.binder(name, inner)
            bounds[name.name] = None
        for r in s.ranges:
            if r.index.name in bounds:
                raise NameError_(f"`{r.index.name}` is given two ranges", r.index.span, "keep one of them")
            if r.index.name not in {n.name for n in names}:
                raise self._stray(r, s)
            bounds[r.index.name] = self.typer.bounds(r, inner)
            inner = self.typer.binder(r.index, inner)
        order = [n.name for n in names] if implicit else [r.index.name for r in s.ranges]
        spans = {n.name: n.span for n in names}
        value = self.typer.expr(s.value, inner)
        where = None if s.where is None else as_condition(self.typer.expr(s.where, inner), "`where`")
        indices = [self.typer.integer(i, inner, "an index") for i in s.indices]
        value = self._meet_target(s, value)
        return lambda: self._build(s, indices, value, [(n, bounds[n], spans[n]) for n in order], where)

    def _stray(self, r: Range, s: AssignSyntax) -> KernelError:
        name = r.index.name
        return NameError_(
            f"`{name}` is in `for`, but not on the left side",
            r.index.span,
            f"put it there, or run over it in a reduction: `sum({name} in …: …)`",
        )

    def _check_target(self, s: AssignSyntax) -> None:
        name, symbol = s.target.name, self.typer.symbols.get(s.target.name)
        if symbol is None:
            if name in RESERVED:
                raise NameError_(f"`{name}` is a word of the language", s.target.span, "choose another name")
            if name in self.typer.sizes:
                raise NameError_(f"`{name}` is a size already", s.target.span, "choose another name")
            if s.otherwise is not None:
                raise CoverageError(f"`otherwise` needs an earlier statement on `{name}`", s.otherwise, "give the other parts first")
            return
        if symbol.role == "param":
            hint = f"declare it `inout {name}: …`, or write to an output" if symbol.rank else "write to an output or a new name"
            raise NameError_(f"`{name}` is an input, and inputs are not written", s.target.span, hint)
        if symbol.rank != len(s.indices):
            raise rank_error(symbol, len(s.indices), s.target_span)
        if s.otherwise is not None and name not in self.defined and symbol.role != "inout":
            raise CoverageError(f"`otherwise` needs an earlier statement on `{name}`", s.otherwise, "give the other parts first")

    def _indices(self, s: AssignSyntax, scope: Scope) -> list[Name]:
        """The index names that a statement binds, in order of appearance."""
        found: dict[str, Name] = {}
        for i in s.indices:
            if isinstance(i, Name) and i.name in scope and s.op == "=":
                hint = f"bind a new one: `… for k in {i.name}..{i.name} + 1` with `k` on the left side"
                raise NameError_(f"`{i.name}` is bound by `repeat` already", i.span, hint)
            if isinstance(i, Name):
                self.typer.refuse_name(i, "an index")
            if isinstance(i, Name) and self._is_new(i, scope):
                found.setdefault(i.name, i)
            elif s.op == "=" and not (isinstance(i, Number) and isinstance(i.value, int)):
                raise ShapeError(
                    "the left side of `=` takes index names and integer constants",
                    i.span,
                    "move the arithmetic into the range: `… for i in 1..N`",
                )
        if s.op != "=":
            for r in s.ranges:
                found.setdefault(r.index.name, r.index)
            for e in (*s.indices, s.value, *(() if s.where is None else (s.where,))):
                for i in _read_indices(e):
                    if self._is_new(i, scope):
                        found.setdefault(i.name, i)
        return list(found.values())

    def _is_new(self, name: Name, scope: Scope) -> bool:
        symbol = self.typer.symbols.get(name.name)
        return name.name not in scope and not (symbol and symbol.rank == 0) and name.name not in self.typer.sizes

    def _meet_target(self, s: AssignSyntax, value: Term) -> Term:
        name = s.target.name
        symbol = self.typer.symbols.get(name)
        self.defined[name] = True
        if symbol is None:
            cell = known(I64) if value.soft else value.cell
            self.typer.symbols[name] = Symbol(name, len(s.indices), cell, "temp", s.target.span)
            self.typer.later.pop(name, None)
            self.temps[name] = s.target.span
            symbol = self.typer.symbols[name]
        if s.op != "=":
            join((Term(symbol.cell, _nothing, s.target_span),), Types.NUMBER, f"`{s.op}`", s.target_span)
        (value,) = meet((value,), symbol.cell, f"`{name}`")
        return value

    def _build(self, s: AssignSyntax, indices: list[Term], value: Term, given: list[tuple[str, Bounds, Span]], where: Term | None) -> Stmt:
        built = tuple(i.build() for i in indices)
        body = value.build()
        condition = where and where.build()
        read = [body, *built, *(() if condition is None else (condition,))]
        name = s.target.name
        explicit = [(n, b(), span) for n, b, span in given if b is not None]
        for _, (lo, hi), _ in explicit:
            read += [lo, hi]
        binders: list[Binder] = []
        for n, bounds, span in given:
            if bounds is not None:
                lo, hi = next(pair for m, pair, _ in explicit if m == n)
            else:
                lo, hi = ZERO, inferred_extent(n, name, built, read, self.typer.shapes, self.temps)
                if hi is None:
                    raise range_error(n, span, f"{name}[…] = … for {n} in 0..N")
            binders.append(Binder(n, lo, hi))
        final = ordered(binders) if any(b is None for _, b, _ in given) else tuple(binders)
        stmt = Assign(name, built, s.op, body, final, condition, s.otherwise is not None, span=s.span)
        if name in self.temps:
            self.typer.shapes[name] = grown(self.typer.shapes.get(name), stmt)
        return stmt

    def temp_params(self) -> tuple[Param, ...]:
        """The temporaries with their types, in order of definition."""
        symbols = self.typer.symbols
        return tuple(Param(n, ArrayType(symbols[n].cell.resolved, self.typer.shapes[n]), span=span) for n, span in self.temps.items())


def _read_indices(e: SyntaxExpr, bound: frozenset[str] = frozenset()) -> list[Name]:
    """The bare names that index some array in `e` and are not bound inside it."""
    match e:
        case Index():
            here = [i for i in e.indices if isinstance(i, Name) and i.name not in bound]
            return here + [n for x in children(e) for n in _read_indices(x, bound)]
        case ReduceSyntax():
            inner = bound | {r.index.name for r in e.ranges}
            return [n for x in children(e) for n in _read_indices(x, inner)]
        case FoldSyntax():
            inner = bound | {e.range.index.name, *(c.name.name for c in e.carries)}
            return [n for x in children(e) for n in _read_indices(x, inner)]
        case _:
            return [n for x in children(e) for n in _read_indices(x, bound)]


def _nothing() -> Expr:
    return const(0, I64)

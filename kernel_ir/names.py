"""Turns a bare name into the term that it stands for (an index, a carried value, a scalar, a size), and an unknown one into an error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from kernel_ir.dtypes import BOOL, DTYPES, I64, DType
from kernel_ir.errors import KernelError, NameError_, ShapeError, Span
from kernel_ir.nodes import Expr, IndexRef, Load, ParamRef, SizeRef, const
from kernel_ir.ops import CONSTANTS, OPS, REDUCTIONS
from kernel_ir.spelling import suggestion
from kernel_ir.syntax import Name
from kernel_ir.terms import Cell, Term, known

RESERVED: Final = frozenset(OPS) | frozenset(REDUCTIONS) | frozenset(DTYPES) | {"inf", "nan", "true", "false"}
"""Names of the language, which nothing else may take; `pi` and `e` may be taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """An array, or a scalar of the kernel: parameter (`storage` is its dtype), output or temporary."""

    name: str
    rank: int
    cell: Cell
    role: str
    span: Span
    storage: DType | None = None


Scope = Mapping[str, Term]
"""The index variables and carried values in scope, each as the term that its bare name is."""


@dataclass(slots=True)
class Names:
    """What names mean in one kernel.

    `later`: temporaries that statements further down define; `whole`: while a fact is typed, the indices at which it reads each
    array that it names bare.
    """

    symbols: dict[str, Symbol] = field(default_factory=dict[str, Symbol])
    sizes: dict[str, Span] = field(default_factory=dict[str, Span])
    later: dict[str, Span] = field(default_factory=dict[str, Span])
    whole: dict[str, tuple[Name, ...]] = field(default_factory=dict[str, tuple[Name, ...]])

    def name(self, e: Name, scope: Scope) -> Term:
        if e.name in scope:
            return replace(scope[e.name], build=_at(scope[e.name].build, e.span), span=e.span)
        if e.name in self.symbols:
            return self._symbol(self.symbols[e.name], e)
        if e.name in self.sizes:
            return Term(known(I64), lambda: SizeRef(e.name, span=e.span), e.span, soft=True)
        if e.name in ("true", "false"):
            return Term(known(BOOL), lambda: const(e.name == "true", BOOL, e.span), e.span)
        raise self.unknown(e, scope)

    def _symbol(self, s: Symbol, e: Name) -> Term:
        if s.rank == 0 and s.role == "param":
            return Term(s.cell, lambda: ParamRef(e.name, s.cell.resolved, span=e.span), e.span)
        if s.rank == 0:
            return Term(s.cell, lambda: Load(e.name, (), s.cell.resolved, span=e.span), e.span)
        if e.name in self.whole:
            names = self.whole[e.name]
            return Term(
                s.cell, lambda: Load(e.name, tuple(IndexRef(n.name, span=e.span) for n in names), s.cell.resolved, span=e.span), e.span
            )
        dots = ", ".join("ijklmnop"[: s.rank])
        raise ShapeError(
            f"`{e.name}` is an array of rank {s.rank}, and a single value was expected", e.span, f"index it: `{e.name}[{dots}]`"
        )

    def unknown(self, e: Name, scope: Scope) -> KernelError:
        if e.name in self.later:
            line = self.later[e.name].line
            return NameError_(f"`{e.name}` is read before it is defined on line {line}", e.span, "move its definition up")
        if e.name in ("True", "False"):
            return NameError_(f"unknown name `{e.name}`", e.span, f"write `{e.name.lower()}`")
        near = suggestion(e.name, (*scope, *self.symbols, *self.sizes, *CONSTANTS))
        if e.name[0].isupper():
            return NameError_(
                f"unknown size or constant `{e.name}`", e.span, near or "a size must stand in the shape of a parameter or an output"
            )
        return NameError_(
            f"unknown name `{e.name}`",
            e.span,
            near or "an index must be bound: on the left side, in `for`, or by a reduction such as `sum(i: …)`",
        )

    def binder(self, index: Name, scope: Scope) -> dict[str, Term]:
        """The scope with `index` bound."""
        self.refuse_name(index, "an index")
        if index.name[0].isupper():
            raise NameError_(f"an index is a lower-case name, and `{index.name}` is not", index.span, f"write `{index.name.lower()}`")
        return {**scope, index.name: Term(known(I64), lambda: IndexRef(index.name, span=index.span), index.span, soft=True)}

    def refuse_name(self, name: Name, what: str) -> None:
        """A NameError_ if `name` cannot be a new name of an index or carried value."""
        if name.name in RESERVED:
            raise NameError_(f"`{name.name}` is a word of the language and cannot be {what}", name.span, "choose another name")
        taken = self.symbols.get(name.name)
        # A carried value may hide a scalar that is loaded, which `s[]` still reads; a parameter would be out of reach.
        if taken is not None and taken.rank == 0 and (taken.role == "param" or what == "an index"):
            raise NameError_(
                f"`{name.name}` is a scalar already (line {taken.span.line}) and cannot be {what}", name.span, "choose another name"
            )


def _at(build: Callable[[], Expr], span: Span) -> Callable[[], Expr]:
    return lambda: replace(build(), span=span)


def rank_error(symbol: Symbol, given: int, span: Span) -> ShapeError:
    """The error for a wrong number of indices."""
    if symbol.rank == 0:
        return ShapeError(f"`{symbol.name}` is a scalar and takes no index", span, f"write `{symbol.name}`")
    dots = ", ".join("ijklmnop"[: symbol.rank])
    many = "no index is" if given == 0 else "1 index is" if given == 1 else f"{given} indices are"
    return ShapeError(f"`{symbol.name}` has rank {symbol.rank}, and {many} given", span, f"write `{symbol.name}[{dots}]`")


def range_error(index: str, span: Span, example: str) -> ShapeError:
    """The error for an index whose range does not follow from a read."""
    return ShapeError(f"the range of `{index}` does not follow: no array is read at `{index}` alone", span, f"give it: `{example}`")

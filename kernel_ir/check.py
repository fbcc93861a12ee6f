"""Turns the syntax of a file into its Module: each kernel with types, shapes and ranges explicit, bounds and coverage proved."""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from kernel_ir import expand
from kernel_ir.bounds import check_bounds
from kernel_ir.coverage import check_coverage
from kernel_ir.dtypes import BOOL, DTYPES, I64, DType, reads_as
from kernel_ir.errors import NameError_, ShapeError, Span, TypeError_
from kernel_ir.infer import Typer
from kernel_ir.module import Module
from kernel_ir.names import RESERVED, Symbol
from kernel_ir.nodes import ArrayType, Binder, Const, Expr, Kernel, Param, Reduce, const
from kernel_ir.ranges import INDEX_NAMES, grown
from kernel_ir.schedule import schedules
from kernel_ir.spelling import TYPES_ELSEWHERE, suggestion
from kernel_ir.statements import Statements
from kernel_ir.syntax import File, KernelSyntax, Name, ParamSyntax, RepeatSyntax, StatementSyntax, SyntaxExpr, subtrees
from kernel_ir.terms import known
from kernel_ir.unify import as_condition
from kernel_ir.walk import statements

MAX_RANK: Final = 8


def check(file: File) -> Module:
    """The checked module of a file; raises a KernelError at the first fault."""
    kernels = {k.name.name: kernel(k) for k in expand.kernels(file)}
    return Module(MappingProxyType(kernels), MappingProxyType(expand.constants(file)), expand.rules(file), schedules(file, kernels))


def kernel(k: KernelSyntax) -> Kernel:
    """One expanded kernel, checked."""
    typer = Typer()
    _declare(k, typer)
    params, outputs = (tuple(_param(p, typer) for p in ps) for ps in (k.params, k.outputs))
    typer.shapes.update({p.name: p.type.shape for p in (*params, *outputs) if p.type.shape or p.name in {o.name for o in outputs}})
    typer.later = {n: s for n, s in _targets(k.body) if n not in typer.symbols}
    typed = Statements(typer)
    facts = [_fact(f, typer) for f in k.facts]
    later = [typed.type(s, {}) for s in k.body]
    body = tuple(build() for build in later)
    sizes, temps = tuple(typer.sizes), typed.temp_params()
    core = Kernel(k.name.name, params, outputs, tuple(f() for f in facts), body, sizes, temps, span=k.name.span)
    return proved(core)


def proved(k: Kernel) -> Kernel:
    """The kernel with the facts that its bounds proof needs as `implied`; raises a BoundsError or CoverageError where a proof fails."""
    implied = check_bounds(k)
    check_coverage(replace(k, implied=implied))
    return replace(k, implied=implied)


def derived(k: Kernel) -> Kernel:
    """A kernel that was made, not parsed, with what follows from its statements derived again: shapes of temporaries, implied facts.

    The types of temporaries must be in `k.temps` already. Raises a KernelError where the kernel is not one that could be written.
    """
    dtypes = {t.name: t.type.dtype for t in k.temps}
    shapes: dict[str, tuple[Expr, ...]] = {}
    for s in statements(k.body):
        if s.target in dtypes:
            shapes[s.target] = grown(shapes.get(s.target), s)
    temps = tuple(Param(n, ArrayType(dtypes[n], shape)) for n, shape in shapes.items())
    return proved(replace(k, temps=temps))


def _targets(body: tuple[StatementSyntax, ...]) -> list[tuple[str, Span]]:
    """Names of the targets with the place of their first statement."""
    found: dict[str, Span] = {}
    for s in body:
        inner = _targets(s.body) if isinstance(s, RepeatSyntax) else [(s.target.name, s.target.span)]
        for name, span in inner:
            found.setdefault(name, span)
    return list(found.items())


def _declare(k: KernelSyntax, typer: Typer) -> None:
    """The parameters, outputs and sizes of a kernel into the typer."""
    all_params = (*k.params, *k.outputs)
    for p in all_params:
        for x in (x for dim in p.shape for x in subtrees(dim)):
            if isinstance(x, Name):
                _size(x, all_params, typer)
    for p in all_params:
        name = p.name.name
        if name in typer.symbols:
            line = typer.symbols[name].span.line
            raise NameError_(f"`{name}` is declared twice (first on line {line})", p.name.span, "rename one of them")
        if name in RESERVED:
            raise NameError_(f"`{name}` is a word of the language", p.name.span, "choose another name")
        if name in typer.sizes:
            raise NameError_(f"`{name}` is a size and a parameter", p.name.span, "rename one of them")
        role = "output" if p in k.outputs else "inout" if p.inout else "param"
        dtype = _dtype(p.dtype)
        typer.symbols[name] = Symbol(name, len(p.shape), known(reads_as(dtype)), role, p.name.span, dtype)
        _check_inout(p, role)


def _check_inout(p: ParamSyntax, role: str) -> None:
    if p.inout and role == "output":
        raise NameError_(
            "an output is always fresh: `inout` belongs among the parameters", p.span, "move it to the parameters, or drop `inout`"
        )
    if p.inout and not p.shape:
        raise ShapeError(
            f"`inout {p.name.name}` is a scalar, which cannot be updated in place", p.span, "make it an array, `[1]`, or an output"
        )


def _size(x: Name, params: tuple[ParamSyntax, ...], typer: Typer) -> None:
    if x.name[0].isupper():
        typer.sizes.setdefault(x.name, x.span)
        return
    if any(p.name.name == x.name for p in params):
        raise NameError_(f"`{x.name}` is a parameter, and a shape is made of sizes", x.span, f"write a size, `{x.name.upper()}`")
    raise NameError_(f"`{x.name}` is no size: a size starts with a capital letter", x.span, f"write `{x.name[0].upper()}{x.name[1:]}`")


def _dtype(name: Name) -> DType:
    if name.name in DTYPES:
        return DTYPES[name.name]
    spelled = TYPES_ELSEWHERE.get(name.name.lower())
    hint = f"write `{spelled}`" if spelled else suggestion(name.name, DTYPES) or f"the types are {', '.join(DTYPES)}"
    raise TypeError_(f"unknown type `{name.name}`", name.span, hint)


def _param(p: ParamSyntax, typer: Typer) -> Param:
    shape = tuple(typer.integer(x, {}, "a size").build() for x in p.shape)
    for extent, written in zip(shape, p.shape, strict=True):
        if isinstance(extent, Const) and extent.bits < 0:
            raise ShapeError("an extent is at least 0", written.span, "write a size or a number from 0 on")
    if len(shape) > MAX_RANK:
        raise ShapeError(
            f"`{p.name.name}` has rank {len(shape)}, and an array has at most {MAX_RANK} dimensions", p.span, "join some of them: `N*M`"
        )
    layout = "rows" if p.layout is None else p.layout.name
    if p.layout is not None and layout not in ("rows", "cols", "any"):
        raise TypeError_(f"unknown layout `{layout}`", p.layout.span, "write `@ rows`, `@ cols` or `@ any`")
    if p.layout is not None and not p.shape:
        raise ShapeError(f"`{p.name.name}` is a scalar and has no layout", p.layout.span, "drop the layout")
    return Param(p.name.name, ArrayType(DTYPES[p.dtype.name], shape, layout), p.inout, span=p.name.span)  # type: ignore[arg-type]


def _fact(f: SyntaxExpr, typer: Typer) -> Callable[[], Expr]:
    """A fact, to build later; one that names arrays bare holds for all their elements."""
    names = list(dict.fromkeys(x.name for x in subtrees(f) if isinstance(x, Name)))
    arrays = [typer.symbols[n] for n in names if n in typer.symbols and typer.symbols[n].rank]
    for n in names:
        if n in typer.symbols and typer.symbols[n].role == "output":
            raise NameError_(f"a fact is checked before the call, and `{n}` is an output", f.span, "state facts about parameters and sizes")
    if not arrays:
        return as_condition(typer.expr(f, {}), "`where`").build
    shape = typer.shapes[arrays[0].name]
    for a in arrays[1:]:
        if typer.shapes[a.name] != shape:
            raise ShapeError(f"`{arrays[0].name}` and `{a.name}` stand in one fact, but differ in shape", f.span, "state one fact for each")
    free_names = (c for c in INDEX_NAMES if c not in names and c not in typer.symbols)
    indices = tuple(Name(c, f.span) for c, _ in zip(free_names, shape, strict=False))
    typer.whole = {a.name: indices for a in arrays}
    scope = {}
    for i in indices:
        scope = typer.binder(i, scope)
    body = as_condition(typer.expr(f, scope), "`where`")
    typer.whole = {}
    binders = tuple(Binder(i.name, const(0, I64), hi) for i, hi in zip(indices, shape, strict=True))
    return lambda: Reduce("all", binders, (body.build(),), BOOL, span=f.span)

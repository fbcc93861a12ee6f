"""Turns a core kernel into text that parses back to it: `parse(kernel_text(k))[k.name] == k`."""

from dataclasses import dataclass, field, replace

from kernel_ir import render
from kernel_ir.errors import ShapeError
from kernel_ir.nodes import Assign, Binder, Expr, Fold, IndexRef, Kernel, Load, Param, Reduce, Repeat, Stmt
from kernel_ir.ranges import INDEX_NAMES, ZERO, grown, inferred_extent, ordered
from kernel_ir.surface import NOWHERE, Surface, make_range, name
from kernel_ir.syntax import (
    AssignSyntax,
    KernelSyntax,
    Name,
    ParamSyntax,
    RepeatSyntax,
    StatementSyntax,
    SyntaxExpr,
)
from kernel_ir.syntax import subtrees as syntax_subtrees
from kernel_ir.walk import subtrees


def kernel_text(k: Kernel) -> str:
    """The kernel as text, without a newline at its end."""
    return render.kernel_text(kernel_syntax(k))


def expr_text(e: Expr) -> str:
    """An expression as text on one line; literals are cast where nothing in it tells their type.

    >>> from kernel_ir.dtypes import I64
    >>> from kernel_ir.nodes import Call, SizeRef, const
    >>> expr_text(Call("mul", (Call("add", (SizeRef("N"), const(1, I64)), I64), const(2, I64)), I64))
    '(N + 1) * 2'
    """
    return render.flat(render.expr(Surface().expr(e)))


def fact_text(k: Kernel, fact: Expr) -> str:
    """A fact of a kernel as text on one line, arrays bare where it holds for all their elements."""
    return render.flat(render.expr(_fact(fact, Surface({p.name: p.type.shape for p in (*k.params, *k.outputs)}))))


def kernel_syntax(k: Kernel) -> KernelSyntax:
    """The syntax whose meaning is the kernel."""
    shapes = {p.name: p.type.shape for p in (*k.params, *k.outputs)}
    surface = Surface(shapes)
    return KernelSyntax(
        name(k.name),
        tuple(_param(p, surface) for p in k.params),
        tuple(_param(p, surface) for p in k.outputs),
        tuple(_fact(f, surface) for f in k.facts),
        _Body(dict(shapes), frozenset(t.name for t in k.temps)).statements(k.body, frozenset()),
        NOWHERE,
    )


def _param(p: Param, surface: Surface) -> ParamSyntax:
    layout = None if p.type.layout == "rows" else name(p.type.layout)
    return ParamSyntax(name(p.name), name(p.type.dtype.name), tuple(surface.expr(x) for x in p.type.shape), layout, p.inout, NOWHERE)


def _fact(f: Expr, surface: Surface) -> SyntaxExpr:
    """A fact; one over all elements of arrays names them bare."""
    plain = surface.expr(f)
    match f:
        case Reduce(kind="all", bodies=(body,)) if not any(isinstance(x, Reduce | Fold) for x in subtrees(body)):
            pass
        case _:
            return plain
    indices = tuple(b.index for b in f.binders)
    whole = tuple(IndexRef(i) for i in indices)
    loads = [x for x in subtrees(body) if isinstance(x, Load)]
    shape = tuple(b.hi for b in f.binders)
    fits = all(x.indices == whole and x.default is None and surface.shapes.get(x.array) == shape for x in loads)
    shown = replace(surface, bare=frozenset(x.array for x in loads)).expr(body)
    names = {x.name for x in syntax_subtrees(shown) if isinstance(x, Name)}
    chosen = [c for c in INDEX_NAMES if c not in names and c not in surface.shapes][: len(indices)]
    full = all(b.lo == ZERO for b in f.binders)
    return shown if loads and fits and full and chosen == list(indices) else plain


@dataclass(slots=True)
class _Body:
    """Prints statements in order, so that ranges are left out where the shapes known by then tell them."""

    shapes: dict[str, tuple[Expr, ...]]
    temps: frozenset[str]
    seen: set[str] = field(default_factory=set[str])

    def statements(self, body: tuple[Stmt, ...], bound: frozenset[str]) -> tuple[StatementSyntax, ...]:
        return tuple(self._repeat(s, bound) if isinstance(s, Repeat) else self._assign(s, bound) for s in body)

    def _repeat(self, s: Repeat, bound: frozenset[str]) -> RepeatSyntax:
        steps = Surface(self.shapes, hidden=bound).integer(s.steps)
        index = None if s.index is None else name(s.index)
        return RepeatSyntax(index, steps, self.statements(s.body, bound if s.index is None else bound | {s.index}), NOWHERE)

    def _assign(self, s: Assign, bound: frozenset[str]) -> AssignSyntax:
        surface = Surface(self.shapes, hidden=bound.union(b.index for b in s.binders))
        declared = s.target not in self.temps or s.target in self.seen
        value = surface.value(s.value) if s.target not in self.temps else surface.expr(s.value, declared)
        printed = AssignSyntax(
            name(s.target),
            tuple(surface.integer(i) for i in s.indices),
            s.op,
            value,
            tuple(make_range(b.index, (surface.integer(b.lo), surface.integer(b.hi))) for b in self._explicit(s)),
            None if s.where is None else surface.expr(s.where),
            NOWHERE if s.otherwise else None,
            NOWHERE,
            NOWHERE,
        )
        self.seen.add(s.target)
        if s.target in self.temps:
            self.shapes[s.target] = grown(self.shapes.get(s.target), s)
        return printed

    def _explicit(self, s: Assign) -> tuple[Binder, ...]:
        """The binders whose ranges must be written: those that would be inferred otherwise, and all if their order would be."""
        where = () if s.where is None else (s.where,)
        read = (s.value, *s.indices, *where, *(bound for b in s.binders for bound in (b.lo, b.hi)))
        targets = list(dict.fromkeys(i.name for i in s.indices if isinstance(i, IndexRef) and any(b.index == i.name for b in s.binders)))
        given = tuple(b for b in s.binders if b.index not in targets or not self._inferred(b, s, read))
        if len(given) == len(s.binders):
            return given
        by_name = {b.index: b for b in s.binders}
        order = [by_name[n] for n in targets] + [b for b in given if b.index not in targets]
        return given if ordered(order) == s.binders else s.binders

    def _inferred(self, b: Binder, s: Assign, read: tuple[Expr, ...]) -> bool:
        try:
            return b.lo == ZERO and inferred_extent(b.index, s.target, s.indices, read, self.shapes, self.temps) == b.hi
        except ShapeError:
            return False

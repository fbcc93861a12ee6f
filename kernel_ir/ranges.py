"""Turns the reads of an array by a bare index into the index's range, and the statements on a temporary into its shape.

The checker and the printer both ask here, so the printer can leave out exactly the ranges that the checker would infer.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kernel_ir.dtypes import I64
from kernel_ir.errors import ShapeError, Span
from kernel_ir.nodes import Assign, Binder, Call, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef, const
from kernel_ir.polynomial import Polynomial, atom, constant
from kernel_ir.walk import children, free

Shapes = Mapping[str, tuple[Expr, ...]]
ZERO: Final = const(0, I64)
INDEX_NAMES: Final = (*"ijklmnopq", *(f"i{n}" for n in range(100)))
"""Names for the indices of a fact about whole arrays, first choice first."""


@dataclass(frozen=True, slots=True)
class Use:
    """A read of `array` whose dimension `dim` is a bare index."""

    array: str
    dim: int
    extent: Expr
    span: Span | None


def uses(index: str, exprs: Iterable[Expr], shapes: Shapes) -> Iterator[Use]:
    """The reads in `exprs` (none with a default) that have `index`, free there, as a bare index."""
    for e in exprs:
        match e:
            case Load():
                if e.default is None:
                    for dim, i in enumerate(e.indices):
                        if isinstance(i, IndexRef) and i.name == index and e.array in shapes:
                            yield Use(e.array, dim, shapes[e.array][dim], e.span)
                yield from uses(index, children(e), shapes)
            case Reduce():
                hidden = False
                for b in e.binders:
                    if not hidden:
                        yield from uses(index, (b.lo, b.hi), shapes)
                    hidden = hidden or b.index == index
                if not hidden:
                    yield from uses(index, e.bodies, shapes)
            case Fold():
                hidden = index == e.binder.index or any(c.name == index for c in e.carries)
                yield from uses(index, (e.binder.lo, e.binder.hi, *(c.init for c in e.carries)), shapes)
                if not hidden:
                    step = (*(c.update for c in e.carries), *(() if e.condition is None else (e.condition,)))
                    yield from uses(index, step, shapes)
            case _:
                yield from uses(index, children(e), shapes)


def extent(index: str, exprs: Iterable[Expr], shapes: Shapes) -> Expr | None:
    """The extent that the reads agree on, None if there are none; a ShapeError where they do not agree."""
    first: Use | None = None
    for use in uses(index, exprs, shapes):
        if first is None:
            first = use
        elif not same(first.extent, use.extent):
            raise _conflict(index, first, use)
    return None if first is None else first.extent


def inside(later: Iterable[Binder], bodies: Iterable[Expr]) -> tuple[Expr, ...]:
    """The expressions of a reduction in which an index is in scope: its bodies, and the bounds of later binders, last first."""
    return (*bodies, *(bound for b in reversed(tuple(later)) for bound in (b.lo, b.hi)))


def inferred_extent(
    index: str, target: str, indices: tuple[Expr, ...], read: Iterable[Expr], shapes: Shapes, temps: Container[str]
) -> Expr | None:
    """The extent of a statement's index that is given no range: its target's, or for a temporary that of the arrays it reads, or
    how far earlier statements reach. None where nothing tells it."""
    dims = [d for d, i in enumerate(indices) if isinstance(i, IndexRef) and i.name == index]
    declared = shapes[target][dims[0]] if target in shapes and dims else None
    if declared is not None and target not in temps:
        return declared
    return extent(index, read, shapes) or declared


def _conflict(index: str, a: Use, b: Use) -> ShapeError:
    from kernel_ir.printer import expr_text

    one, two = expr_text(a.extent), expr_text(b.extent)
    what = f"`{index}` runs over {one} in `{a.array}` (line {a.span.line})" if a.span else f"`{index}` runs over {one} in `{a.array}`"
    return ShapeError(
        f"{what}, but over {two} in `{b.array}`", b.span, f"say which: `{index} in 0..{one}`; or give both arrays the size {one}"
    )


def same(a: Expr, b: Expr) -> bool:
    """Whether two extents are equal as polynomials."""
    return a == b or polynomial(a) == polynomial(b)


def polynomial(e: Expr) -> Polynomial:
    """`e` as a polynomial over its atoms; what is not a sum or product is an atom by its printed form."""
    match e:
        case Const():
            return constant(int(e.value))
        case Call(op="add", args=(a, b)):
            return polynomial(a) + polynomial(b)
        case Call(op="sub", args=(a, b)):
            return polynomial(a) - polynomial(b)
        case Call(op="mul", args=(a, b)):
            return polynomial(a) * polynomial(b)
        case Call(op="neg", args=(a,)):
            return -polynomial(a)
        case SizeRef() | IndexRef() | ParamRef() | Local():
            return atom(e.name)
        case _:
            return atom(repr(e))


def expression(p: Polynomial, atoms: Mapping[str, Expr]) -> Expr:
    """A polynomial as an expression, positive terms first."""
    total: Expr | None = None
    ordered = sorted(p.terms, key=lambda t: (t[1] < 0, not t[0], -len(t[0]), t[0]))
    for monomial, c in ordered:
        factors: list[Expr] = [atoms[a] for a in monomial]
        if abs(c) != 1 or not factors:
            factors.insert(0, const(abs(c), I64))
        term = factors[0]
        for f in factors[1:]:
            term = Call("mul", (term, f), I64)
        if total is not None:
            total = Call("add" if c > 0 else "sub", (total, term), I64)
        elif c > 0:
            total = term
        else:
            total = Call("neg", (term,), I64)
    return total or ZERO


def _atoms(e: Expr) -> dict[str, Expr]:
    match e:
        case Call(op="add" | "sub" | "mul" | "neg"):
            return {name: x for arg in e.args for name, x in _atoms(arg).items()}
        case Const():
            return {}
        case SizeRef() | IndexRef() | ParamRef() | Local():
            return {e.name: e}
        case _:
            return {repr(e): e}


def upper(e: Expr, binders: tuple[Binder, ...]) -> Expr | None:
    """The greatest value of `e` over the binders, as far as it is plain; None where it is not. `e` itself if it reads none of them."""
    for b in reversed(binders):
        if b.index in free(e):
            greatest = _upper(e, b)
            if greatest is None:
                return None
            e = greatest
    return e


def _upper(e: Expr, b: Binder) -> Expr | None:
    if b.index not in free(e):
        return e
    match e:
        case Call(op="min" | "max", args=(x, y)):
            u, v = _upper(x, b), _upper(y, b)
            if u is None or v is None:
                return u or v if e.op == "min" else None
            least, most = (u, v) if at_most(u, v) else (v, u)
            if not at_most(least, most):
                return Call(e.op, (u, v), I64)
            return least if e.op == "min" else most
        case Call(op="floordiv", args=(x, Const() as divisor)) if divisor.bits > 0:
            u = _upper(x, b)
            return None if u is None else Call("floordiv", (u, divisor), I64)
        case _:
            slope, rest = polynomial(e).split(b.index)
            if b.index in slope.atoms or not all(isinstance(x, SizeRef | ParamRef | IndexRef) for x in _atoms(e).values()):
                return None
            if all(c >= 0 for _, c in slope.terms):
                end = Call("sub", (b.hi, const(1, I64)), I64)
            elif all(c <= 0 for _, c in slope.terms):
                end = b.lo
            else:
                return None
            return expression(slope * polynomial(end) + rest, {**_atoms(e), **_atoms(end)})


def at_most(a: Expr, b: Expr) -> bool:
    """Whether `a <= b` is plain for all sizes >= 0."""
    return all(c >= 0 for _, c in (polynomial(b) - polynomial(a)).terms)


def extents(stmt: Assign) -> tuple[Expr | None, ...]:
    """How far a statement reaches in each dimension of its target; None where that is not plain."""
    by_index = {b.index: n for n, b in enumerate(stmt.binders)}
    found: list[Expr | None] = []
    for i in stmt.indices:
        match i:
            case Const():
                found.append(const(i.bits + 1, I64))
            case IndexRef() if i.name in by_index:
                at = by_index[i.name]
                found.append(upper(stmt.binders[at].hi, stmt.binders[:at]))
            case _:
                found.append(None)
    return tuple(found)


def enclosing(a: Expr, b: Expr) -> Expr | None:
    """The larger of two extents of one dimension, None if neither is plainly so. A number is taken to be within a size:
    the bounds proof makes that a fact of the kernel."""
    if at_most(b, a) or (isinstance(b, Const) and not isinstance(a, Const)):
        return a
    if at_most(a, b) or isinstance(a, Const):
        return b
    return None


def grown(before: tuple[Expr, ...] | None, stmt: Assign) -> tuple[Expr, ...]:
    """The shape of a temporary that had shape `before`, enclosing what `stmt` defines; a ShapeError where that is not plain."""
    name, shape = stmt.target, list[Expr]()
    for dim, new in enumerate(extents(stmt)):
        if new is None or free(new):
            what = f"the shape of `{name}` does not follow from this index"
            raise ShapeError(what, stmt.indices[dim].span, f"make `{name}` an output, or give the index a range from 0 to a size")
        both = new if before is None else enclosing(before[dim], new)
        if both is None:
            from kernel_ir.printer import expr_text

            old = expr_text(before[dim]) if before else ""
            what = f"how long `{name}` is does not follow: one statement reaches {old}, this one {expr_text(new)}"
            raise ShapeError(what, stmt.span, f"make `{name}` an output with a shape")
        shape.append(both)
    return tuple(shape)


def ordered(binders: Iterable[Binder]) -> tuple[Binder, ...]:
    """The binders in their order, each moved behind those that its bounds read."""
    left, done = list(binders), list[Binder]()
    while left:
        names = {b.index for b in left}
        ready = next((b for b in left if not (free(b.lo) | free(b.hi)) & (names - {b.index})), None)
        if ready is None:
            raise ShapeError(
                f"the ranges of {', '.join(sorted(names))} depend on each other", hint="let only later ranges read earlier indices"
            )
        left.remove(ready)
        done.append(ready)
    return tuple(done)

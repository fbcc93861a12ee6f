"""Turns statements into the regions of their target that they define, as conditions on an element's indices."""

from collections.abc import Iterable

from kernel_ir.dtypes import BOOL
from kernel_ir.nodes import Assign, Call, Expr, IndexRef, Load, const
from kernel_ir.walk import expressions, free, substitute, subtrees


def region(stmt: Assign, indices: tuple[Expr, ...]) -> Expr:
    """The condition under which `stmt`, a plain definition, defines the element at `indices` of its target.

    An `otherwise` statement is taken for all that its ranges cover.
    """
    values: dict[str, Expr] = {}
    parts: list[Expr] = []
    for index, at in zip(stmt.indices, indices, strict=True):
        if isinstance(index, IndexRef) and index.name not in values:
            values[index.name] = at
        else:
            parts.append(Call("eq", (at, values[index.name] if isinstance(index, IndexRef) else index), BOOL))
    for binder in stmt.binders:
        at = values.get(binder.index, IndexRef(binder.index))
        parts.append(Call("le", (substitute(binder.lo, values), at), BOOL))
        parts.append(Call("lt", (at, substitute(binder.hi, values)), BOOL))
    if stmt.where is not None:
        parts.append(substitute(stmt.where, values))
    return conjunction(parts)


def outer_names(stmt: Assign) -> frozenset[str]:
    """Names of a `repeat`'s indices that the region of a statement depends on."""
    bounds = [free(e) for b in stmt.binders for e in (b.lo, b.hi)]
    return frozenset[str]().union(*bounds, *(() if stmt.where is None else (free(stmt.where),))) - {b.index for b in stmt.binders}


def conjunction(parts: Iterable[Expr]) -> Expr:
    """`a and b and …`; true of nothing."""
    result: Expr | None = None
    for part in parts:
        result = part if result is None else Call("and", (result, part), BOOL)
    return const(True, BOOL) if result is None else result


def reads(stmt: Assign, array: str) -> bool:
    """Whether a statement reads an array."""
    return any(isinstance(x, Load) and x.array == array for top in expressions(stmt) for x in subtrees(top))


def left_by(before: Iterable[Assign], stmt: Assign) -> list[Assign]:
    """The statements among `before` whose elements an `otherwise` statement leaves alone."""
    return [earlier for earlier in before if earlier.target == stmt.target and earlier.op == "="]

"""Turns long reductions of few results into partial results of many blocks, and then one: a grid has no barrier, so it takes two launches.

    s = sum(i: x[i])   →   sum_parts[p] = sum(i in p*chunk..(p+1)*chunk: x[i])   s = sum(p: sum_parts[p])

The order in which terms are joined is fixed by the sizes, so results are the same from run to run.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from extract.blocks import blocks_of
from extract.names import Names
from extract.sizes import extent_of
from kernel_ir.dtypes import I64
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Expr, Fold, IndexRef, Kernel, Load, Param, Reduce, Repeat, Stmt, const
from kernel_ir.ops import REDUCTIONS
from kernel_ir.walk import children, free, map_children, subtrees

PARTS: Final = (64, 512)
"""Into how many parts a reduction is split."""
ALIGNED: Final = 8
_LONG: Final = 64
"""Terms that a part has at least, where a split is worth a launch."""
_MANY: Final = 1 << 16
"""Partial results beyond which the grid would be full without a split."""


def split(kernel: Kernel, parts: int, sizes: Mapping[str, int] | None, names: Names) -> Kernel | None:
    """The kernel with its long reductions in parts; None where there is none. `sizes`: extents to expect, None to ask none."""
    temps: list[Param] = []
    body = _statements(kernel.body, parts, sizes, names, temps)
    return replace(kernel, body=body, temps=(*kernel.temps, *temps)) if temps else None


def _statements(body: tuple[Stmt, ...], parts: int, sizes: Mapping[str, int] | None, names: Names, temps: list[Param]) -> tuple[Stmt, ...]:
    result: list[Stmt] = []
    for stmt in body:
        if isinstance(stmt, Repeat):
            result.append(replace(stmt, body=_statements(stmt.body, parts, sizes, names, temps)))
            continue
        value = stmt.value
        if stmt.op == "=" and stmt.where is None and not stmt.otherwise:
            for r in dict.fromkeys(certain(value)):
                if _worth(r, stmt, parts, sizes):
                    part, joined = _in_parts(r, stmt, parts, names, temps)
                    result.append(part)
                    value = replaced(value, r, joined)
        result.append(replace(stmt, value=value))
    return tuple(result)


def is_flat(r: Reduce) -> bool:
    """Whether it is over one index, with nothing nested, and results of its parts join into the whole's."""
    nested = any(isinstance(x, Reduce | Fold) for b in r.bodies for x in subtrees(b))
    return REDUCTIONS[r.kind].combine is not None and len(r.binders) == 1 and not nested


def _worth(r: Reduce, stmt: Assign, parts: int, sizes: Mapping[str, int] | None) -> bool:
    if not is_flat(r):
        return False
    (b,) = r.binders
    if free(b.lo) | free(b.hi):
        return False
    results = 1
    for outer in _outer(r, stmt):
        if free(outer.lo) | free(outer.hi):
            return False
        results *= 1 if sizes is None else extent_of(outer, sizes)
    return sizes is None or (extent_of(b, sizes) >= parts * _LONG and results * parts <= _MANY)


def _outer(r: Reduce, stmt: Assign) -> tuple[Binder, ...]:
    """The statement's loops that the reduction depends on."""
    return tuple(b for b in stmt.binders if b.index in free(r))


def _in_parts(r: Reduce, stmt: Assign, parts: int, names: Names, temps: list[Param]) -> tuple[Assign, Reduce]:
    (b,), outer = r.binders, _outer(r, stmt)
    part = names.fresh("part")
    name = names.fresh(f"{r.kind}_parts")
    extent = Call("sub", (b.hi, b.lo), I64) if b.lo != const(0, I64) else b.hi
    # Parts start at multiples of ALIGNED terms, so that their loads may be wide.
    whole = parts * ALIGNED
    chunk = Call("mul", (blocks_of(extent, whole), const(ALIGNED, I64)), I64)

    def start(p: Expr) -> Expr:
        offset = Call("mul", (p, chunk), I64)
        return offset if b.lo == const(0, I64) else Call("add", (b.lo, offset), I64)

    p = IndexRef(part)
    end = Call("min", (b.hi, start(Call("add", (p, const(1, I64)), I64))), I64)
    lows = tuple(Binder(o.index, o.lo, o.hi) for o in outer)
    at = (p, *(IndexRef(o.index) for o in outer))
    temps.append(Param(name, ArrayType(r.dtype, (const(parts, I64), *(o.hi for o in outer)))))
    within = replace(r, binders=(Binder(b.index, start(p), end),))
    all_parts = Binder(part, const(0, I64), const(parts, I64))
    first = Assign(name, at, "=", within, (all_parts, *lows))
    return first, Reduce(r.kind, (all_parts,), (Load(name, at, r.dtype),), r.dtype)


def certain(e: Expr) -> list[Reduce]:
    """The outermost reductions that are computed whatever the data."""
    match e:
        case Reduce():
            return [e]
        case Fold():
            return []
        case Call("select" | "and" | "or", (first, *_)):
            return certain(first)
        case _:
            return [r for child in children(e) for r in certain(child)]


def replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    """`e` with `new` for `old`."""
    return new if e == old else map_children(lambda child: replaced(child, old, new), e)

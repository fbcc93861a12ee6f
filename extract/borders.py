"""Turns a loop over loads with `else` into a border, an interior without any test, and a border."""

from dataclasses import dataclass, replace

from extract.domains import conjunction
from extract.fuse import Nodes, expressions_of, holds_loop, mapped, walk
from extract.names import Names
from extract.reductions import simplified
from extract.strides import coefficient
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.nodes import ArrayType, Call, Const, Expr, Load, const
from kernel_ir.plan import FoldLoop, Let, Loop, LoopKind, Node, When
from kernel_ir.walk import free, map_children, substitute, subtrees


@dataclass(frozen=True, slots=True)
class Inside:
    """When the loads of a loop that have an `else` are inside their arrays: bounds of the loop's index, and conditions free of it."""

    lower: tuple[Expr, ...]
    upper: tuple[Expr, ...]
    conditions: tuple[Expr, ...]
    loads: frozenset[Load]


def split(nodes: Nodes, arrays: dict[str, ArrayType], names: Names) -> Nodes:
    """The nodes with every innermost loop that tests its loads split in three."""
    out: list[Node] = []
    for node in nodes:
        match node:
            case Loop() if not holds_loop(node):
                found = _inside(node, arrays)
                out.extend((node,) if found is None else _three(node, found, names))
            case Loop() | FoldLoop():
                out.append(replace(node, body=split(node.body, arrays, names)))
            case When():
                out.append(replace(node, body=split(node.body, arrays, names), otherwise=split(node.otherwise, arrays, names)))
            case _:
                out.append(node)
    return tuple(out)


def _inside(loop: Loop, arrays: dict[str, ArrayType]) -> Inside | None:
    made = {n.name for n in walk(loop.body) if isinstance(n, Let)}
    lower: dict[Expr, None] = {}
    upper: dict[Expr, None] = {}
    conditions: dict[Expr, None] = {}
    loads: set[Load] = set()
    for node in walk(loop.body):
        for top in expressions_of(node):
            for x in subtrees(top):
                if not isinstance(x, Load) or x.default is None:
                    continue
                if free(x) & made or any(isinstance(y, Load) for i in x.indices for y in subtrees(i)):
                    continue
                moves = [coefficient(i, loop.index) for i in x.indices]
                if any(c not in (0, 1) for c in moves):
                    continue
                loads.add(x)
                for i, c, extent in zip(x.indices, moves, arrays[x.array].shape, strict=True):
                    if c == 1:
                        rest = simplified(substitute(i, {loop.index: const(0, I64)}))
                        lower[simplified(Call("sub", (const(0, I64), rest), I64))] = None
                        upper[simplified(Call("sub", (extent, rest), I64))] = None
                    else:
                        conditions[Call("le", (const(0, I64), i), BOOL)] = None
                        conditions[Call("lt", (i, extent), BOOL)] = None
    return Inside(tuple(lower), tuple(upper), tuple(conditions), frozenset(loads)) if loads else None


def _three(loop: Loop, inside: Inside, names: Names) -> Nodes:
    """`lo..begin` and `end..hi` test, `begin..end` does not; where a condition free of the index fails, all of it tests."""
    begin, end = names.fresh(f"{loop.index}_begin"), names.fresh(f"{loop.index}_end")
    first, last = loop.lo, loop.hi
    for bound in inside.lower:
        first = _join("max", first, bound)
    for bound in inside.upper:
        last = _join("min", last, bound)
    first = _join("min", first, loop.hi)
    last = Call("max", (last, first), I64)
    if inside.conditions:
        inner = conjunction(inside.conditions)
        first = Call("select", (inner, first, loop.hi), I64)
        last = Call("select", (inner, last, loop.hi), I64)

    def untested(e: Expr) -> Expr:
        plain = map_children(untested, e)
        return replace(plain, default=None) if e in inside.loads and isinstance(plain, Load) else plain

    from kernel_ir.nodes import Local

    at, to = Local(begin, I64), Local(end, I64)
    return (
        Let(begin, first),
        Let(end, last),
        replace(loop, hi=at, kind=LoopKind.SERIAL),
        replace(loop, lo=at, hi=to, body=mapped(loop.body, untested)),
        replace(loop, lo=to, kind=LoopKind.SERIAL),
    )


def _join(op: str, a: Expr, b: Expr) -> Expr:
    if a == b:
        return a
    if isinstance(a, Const) and isinstance(b, Const):
        values = (int(a.value), int(b.value))
        return const(max(values) if op == "max" else min(values), I64)
    return Call(op, (a, b), I64)

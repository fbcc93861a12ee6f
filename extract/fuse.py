"""Turns a list of plan nodes into one with fewer loops: neighbours over one range share it, and rows that one loop sees become scalars."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from kernel_ir.nodes import Binder, Carry, Expr, IndexRef, Load, Local
from kernel_ir.plan import (
    Accumulator,
    Alloc,
    Combine,
    FoldLoop,
    Leave,
    Let,
    Loop,
    LoopKind,
    Node,
    Prefetch,
    Store,
    Stream,
    Tile,
    Turn,
    When,
)
from kernel_ir.walk import map_children, substitute, subtrees

Nodes = tuple[Node, ...]
Access = tuple[str, tuple[Expr, ...]]
MapExpr = Callable[[Expr], Expr]


@dataclass(slots=True)
class Effects:
    """What nodes read and write."""

    names: set[str] = field(default_factory=set[str])
    defines: set[str] = field(default_factory=set[str])
    loads: set[Access] = field(default_factory=set[Access])
    stores: set[Access] = field(default_factory=set[Access])

    def touches(self) -> set[str]:
        return {a for a, _ in self.loads | self.stores}


def expressions_of(node: Node) -> Iterator[Expr]:
    """The expressions directly in a node."""
    match node:
        case Let(value=value):
            yield value
        case Combine(values=values):
            yield from values
        case Store(indices=indices, value=value):
            yield from (*indices, value)
        case When(condition=condition) | Leave(condition=condition):
            yield condition
        case Loop(lo=lo, hi=hi):
            yield from (lo, hi)
        case FoldLoop():
            yield from (node.lo, node.hi, *(c.init for c in node.carries), *(c.update for c in node.carries))
            if node.condition is not None:
                yield node.condition
        case Tile():
            yield from (*node.indices, node.value)
            for b in (node.rows, node.columns, *node.reduction):
                yield from (b.lo, b.hi)
        case Turn():
            yield from (*node.indices, node.source, node.rows.lo, node.rows.hi, node.columns.lo, node.columns.hi)
        case Stream():
            yield from (*node.indices, node.source, node.along.lo, node.along.hi)
        case Prefetch():
            yield from (node.source, node.along.lo, node.along.hi, node.row.lo, node.row.hi)
        case Alloc(fill=fill) if fill is not None:
            yield fill
        case _:
            return


def bodies_of(node: Node) -> tuple[Nodes, ...]:
    """The lists of nodes inside a node."""
    match node:
        case Loop(body=body) | FoldLoop(body=body):
            return (body,)
        case When():
            return (node.body, node.otherwise)
        case _:
            return ()


def walk(nodes: Nodes) -> Iterator[Node]:
    """Every node, parents first."""
    for node in nodes:
        yield node
        for body in bodies_of(node):
            yield from walk(body)


def effects(nodes: Nodes) -> Effects:
    """What the nodes, and all inside them, read and write."""
    found = Effects()
    for node in walk(nodes):
        for top in expressions_of(node):
            for x in subtrees(top):
                if isinstance(x, Local | IndexRef):
                    found.names.add(x.name)
                elif isinstance(x, Load):
                    found.loads.add((x.array, x.indices))
        match node:
            case Let(name=name):
                found.defines.add(name)
            case Accumulator(name=name) | Combine(name=name):
                found.defines |= {name, f"{name}_at"}
            case Tile() | Turn() | Stream():
                found.stores.add((node.buffer, node.indices))
            case Store():
                found.stores.add((node.buffer, node.indices))
                if node.kind is not None:
                    found.loads.add((node.buffer, node.indices))
            case FoldLoop(carries=carries):
                found.defines |= {c.name for c in carries}
            case _:
                pass
    return found


def mapped(nodes: Nodes, f: MapExpr) -> Nodes:
    """The nodes with `f` applied to every expression."""
    return tuple(_mapped(node, f) for node in nodes)


def _mapped(node: Node, f: MapExpr) -> Node:
    match node:
        case Let():
            return replace(node, value=f(node.value))
        case Combine():
            return replace(node, values=tuple(f(v) for v in node.values))
        case Store():
            return replace(node, indices=tuple(f(i) for i in node.indices), value=f(node.value))
        case Leave():
            return replace(node, condition=f(node.condition))
        case When():
            return replace(node, condition=f(node.condition), body=mapped(node.body, f), otherwise=mapped(node.otherwise, f))
        case Loop():
            return replace(node, lo=f(node.lo), hi=f(node.hi), body=mapped(node.body, f))
        case Tile():
            rows, columns, *reduction = (Binder(b.index, f(b.lo), f(b.hi)) for b in (node.rows, node.columns, *node.reduction))
            indices = tuple(f(i) for i in node.indices)
            packed = None if node.packed is None else (f(node.packed[0]), node.packed[1])
            assert packed is None or isinstance(packed[0], Load)
            return replace(
                node, indices=indices, value=f(node.value), rows=rows, columns=columns, reduction=tuple(reduction), packed=packed
            )
        case Turn():
            source = f(node.source)
            assert isinstance(source, Load)
            rows, columns = (Binder(b.index, f(b.lo), f(b.hi)) for b in (node.rows, node.columns))
            return replace(node, indices=tuple(map(f, node.indices)), source=source, rows=rows, columns=columns)
        case FoldLoop():
            carries = tuple(Carry(c.name, f(c.init), f(c.update)) for c in node.carries)
            condition = None if node.condition is None else f(node.condition)
            return replace(node, lo=f(node.lo), hi=f(node.hi), carries=carries, condition=condition, body=mapped(node.body, f))
        case _:
            return node


def fused(nodes: Nodes) -> Nodes:
    """The nodes with each loop merged into an earlier one over the same range where nothing in between forbids it."""
    out: list[Node] = []
    for node in nodes:
        match node:
            case Loop() if node.kind is not LoopKind.PARALLEL:
                loop = replace(node, body=fused(node.body))
                if not _merge(out, loop):
                    out.append(loop)
            case Loop():
                out.append(replace(node, body=fused(node.body)))
            case When():
                out.append(replace(node, body=fused(node.body), otherwise=fused(node.otherwise)))
            case _:
                out.append(node)
    return tuple(out)


def _merge(out: list[Node], loop: Loop) -> bool:
    """Merges `loop` into the latest loop over its range in `out`, if that is legal."""
    for at in reversed(range(len(out))):
        earlier = out[at]
        if isinstance(earlier, Loop) and (earlier.lo, earlier.hi, earlier.step) == (loop.lo, loop.hi, loop.step):
            renamed = mapped(loop.body, partial(substitute, values={loop.index: IndexRef(earlier.index)}))
            if (holds_loop(earlier) or holds_loop(loop)) or not _independent(earlier, renamed):
                return False
            before, after = _parted(tuple(out[at + 1 :]), earlier)
            late = effects(after)
            mine = effects(renamed)
            if late.defines & (mine.names | mine.defines) or late.touches() & mine.touches():
                return False
            kind = earlier.kind if earlier.kind == loop.kind else LoopKind.SERIAL
            joined = replace(earlier, kind=kind, body=_without_repeats((*earlier.body, *renamed)))
            out[at:] = [*before, joined, *after]
            return True
    return False


def holds_loop(loop: Loop) -> bool:
    return any(isinstance(x, Loop | FoldLoop | Tile | Turn) for x in walk(loop.body))


def _independent(earlier: Loop, body: Nodes) -> bool:
    """Whether iteration i of `body` may run right after iteration i of `earlier`, before its iteration i + 1."""
    first, second = effects(earlier.body), effects(body)
    accumulated = {n for x in walk(earlier.body) if isinstance(x, Combine) for n in (x.name, f"{x.name}_at")}
    if accumulated & second.names:
        return False
    index = IndexRef(earlier.index)
    for array in {a for a, _ in first.stores | second.stores}:
        places = {i for a, i in first.loads | first.stores | second.loads | second.stores if a == array}
        crossing = array in {a for a, _ in second.loads | second.stores} and array in first.touches()
        if crossing and (len(places) > 1 or not any(index in subtrees_of(i) for i in places)):
            return False
    return True


def subtrees_of(indices: tuple[Expr, ...]) -> list[Expr]:
    return [x for i in indices for x in subtrees(i)]


def _parted(between: Nodes, earlier: Loop) -> tuple[list[Node], Nodes]:
    """The nodes after a loop: those that may move before it, and those that must stay after."""
    made = effects((earlier,))
    made.defines |= {n for x in walk(earlier.body) if isinstance(x, Combine) for n in (x.name, f"{x.name}_at")}
    before: list[Node] = []
    after: list[Node] = []
    for node in between:
        seen = effects((node,))
        kept = effects(tuple(after))
        free_of = not (seen.names & (made.defines | kept.defines)) and not (
            {a for a, _ in seen.loads} & {a for a, _ in made.stores | kept.stores}
        )
        if isinstance(node, Accumulator | Alloc | Let) and free_of:
            before.append(node)
        else:
            after.append(node)
    return before, tuple(after)


def _without_repeats(body: Nodes) -> Nodes:
    """A loop body with values that were named twice named once, unless a store in between may change them."""
    known: dict[Expr, Local] = {}
    names: dict[str, Expr] = {}
    out: list[Node] = []
    for node in mapped(body, lambda e: e):
        node = _mapped(node, lambda e: substitute(e, names))
        if isinstance(node, Let):
            if node.value in known:
                names[node.name] = known[node.value]
                continue
            known[node.value] = Local(node.name, node.value.dtype)
        elif isinstance(node, Store):
            known = {e: v for e, v in known.items() if not any(isinstance(x, Load) and x.array == node.buffer for x in subtrees(e))}
        out.append(node)
    return tuple(out)


def scalarised(nodes: Nodes, locals_: frozenset[str]) -> tuple[Nodes, frozenset[str]]:
    """The nodes with each local row that one loop body alone stores and loads, at one place, as a scalar; and those rows' names."""
    gone = frozenset(name for name in locals_ if _one_place(nodes, name))

    def visit(body: Nodes) -> Nodes:
        out: list[Node] = []
        for node in body:
            match node:
                case Store(buffer=buffer) if buffer in gone:
                    out.append(Let(buffer, reread(node.value)))
                case Loop() | FoldLoop():
                    out.append(replace(_mapped(replace(node, body=()), reread), body=visit(node.body)))
                case When():
                    out.append(replace(node, condition=reread(node.condition), body=visit(node.body), otherwise=visit(node.otherwise)))
                case _:
                    out.append(_mapped(node, reread))
        return tuple(out)

    def reread(e: Expr) -> Expr:
        if isinstance(e, Load) and e.array in gone:
            return Local(e.array, e.dtype)
        return map_children(reread, e)

    return visit(nodes), gone


def _one_place(nodes: Nodes, name: str) -> bool:
    """Whether one list of nodes holds the only store of `name`, unconditional, with every load after it at the same indices."""
    whole = effects(nodes)
    places = {i for a, i in whole.loads | whole.stores if a == name}
    stores = [x for x in walk(nodes) if isinstance(x, Store) and x.buffer == name]
    if len(places) != 1 or len(stores) != 1 or stores[0].kind is not None:
        return False
    for body in _lists(nodes):
        if stores[0] in body:
            at = next(n for n, x in enumerate(body) if x is stores[0])
            inside = _count(body[at + 1 :], name)
            return inside == _count(nodes, name)
    return False


def _lists(nodes: Nodes) -> Iterator[Nodes]:
    yield nodes
    for node in nodes:
        for body in bodies_of(node):
            yield from _lists(body)


def _count(nodes: Nodes, name: str) -> int:
    """How many loads of `name` the nodes hold."""
    return sum(1 for node in walk(nodes) for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Load) and x.array == name)

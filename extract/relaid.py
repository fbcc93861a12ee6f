"""Turns the launches of a plan into ones for arrays that lie in tiles, or padded: indices mapped, loops cut where a tile ends.

    for i in 0..N:  x[i, c]   ⇒   for o in 0..N // 16: for k in 0..16:  x[o, c, k]   and what is left of the last tile

That each element is found where its layout puts it, `kernel_ir/layout_proof.py` proves; which layout is best, `extract/layouts.py` says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from extract.domains import conjunction
from extract.fuse import Nodes, expressions_of, holds_loop, mapped, walk
from extract.names import Names
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.layout import Layout
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, const
from kernel_ir.plan import Buffer, Combine, Launch, Loop, LoopKind, Matmul, Node, RepeatLaunch, Step, Store, Tile, Turn, When
from kernel_ir.walk import map_children, substitute, subtrees

Laid = Mapping[str, Layout]
Steps = tuple[Step, ...]


def relaid(
    steps: tuple[Step, ...], buffers: tuple[Buffer, ...], layouts: Laid, names: Names
) -> tuple[tuple[Step, ...], tuple[Buffer, ...]] | None:
    """The steps and buffers for arrays in these layouts, none of which is just an order of dimensions.

    None where a step can be made for no such array: a library's product, or a block in registers of what is not side by side.
    """
    if not all(_fits(step, layouts) for step in steps):
        return None
    shapes = {b.name: b.shape for b in buffers}
    turned = _Turning(layouts, shapes, names)
    made = tuple(_laid_buffer(b, layouts[b.name]) if b.name in layouts else b for b in buffers)
    return tuple(turned.step(step) for step in steps), made


def _laid_buffer(b: Buffer, layout: Layout) -> Buffer:
    shape = layout.shape(b.shape)
    return replace(b, shape=shape, order=tuple(range(len(shape))))


def _fits(step: Step, layouts: Laid) -> bool:
    if isinstance(step, RepeatLaunch):
        return all(_fits(one, layouts) for one in step.body)
    for node in walk(step.body):
        if isinstance(node, Matmul) and layouts.keys() & {node.out[0], node.a[0], node.b[0]}:
            return False
        if isinstance(node, Turn) and node.source.array in layouts and layouts[node.source.array].tiled:
            return False
        if isinstance(node, Turn) and node.source.array in layouts and layouts[node.source.array].tiled:
            return False
        if isinstance(node, Tile):
            arrays = {node.buffer, *(x.array for x in subtrees(node.value) if isinstance(x, Load))}
            if any(layouts[a].tiled or a == node.buffer for a in arrays & layouts.keys()):
                return False
    return True


class _Turning:
    def __init__(self, layouts: Laid, shapes: Mapping[str, tuple[Expr, ...]], names: Names) -> None:
        self.layouts = layouts
        self.shapes = shapes
        self.names = names

    def step(self, step: Step) -> Step:
        if isinstance(step, RepeatLaunch):
            return replace(step, body=tuple(map(self.step, step.body)))
        stored = tuple(self._stored(mapped(step.body, self._value)))
        return replace(step, body=_flat(self._cut(node) for node in stored)) if self._tiled(step) else replace(step, body=stored)

    def _tiled(self, step: Launch) -> bool:
        nodes = list(walk(step.body))
        read = {x.array for node in nodes for top in expressions_of(node) for x in subtrees(top) if isinstance(x, Load)}
        written = {node.buffer for node in nodes if isinstance(node, Store)}
        return any(layout.tiled for name, layout in self.layouts.items() if name in read | written)

    # -- indices

    def _value(self, e: Expr) -> Expr:
        e = map_children(self._value, e)
        if not isinstance(e, Load) or e.array not in self.layouts:
            return e
        inside = replace(e, indices=self.layouts[e.array].indices(e.indices), default=None)
        if e.default is None:
            return inside
        shape = self.shapes[e.array]
        bounds = tuple(
            test for i, n in zip(e.indices, shape, strict=True) for test in (Call("le", (const(0, I64), i), BOOL), Call("lt", (i, n), BOOL))
        )
        return Call("select", (conjunction(bounds), inside, e.default), e.dtype)

    def _stored(self, nodes: Nodes) -> Iterator[Node]:
        for node in nodes:
            match node:
                case Store() if node.buffer in self.layouts:
                    yield replace(node, indices=self.layouts[node.buffer].indices(node.indices))
                case When():
                    yield replace(node, body=tuple(self._stored(node.body)), otherwise=tuple(self._stored(node.otherwise)))
                case Loop():
                    yield replace(node, body=tuple(self._stored(node.body)))
                case _:
                    yield node

    # -- loops

    def _cut(self, node: Node) -> Nodes:
        """The node, where it is a loop along tiles as a loop over tiles and loops over what the first and last of them have."""
        match node:
            case Loop():
                tile = _tile_along(node)
                if tile is None:
                    return (replace(node, body=_flat(self._cut(n) for n in node.body)),)
                return self._tiles(node, tile)
            case When():
                body, otherwise = (_flat(self._cut(n) for n in nodes) for nodes in (node.body, node.otherwise))
                return (replace(node, body=body, otherwise=otherwise),)
            case _:
                return (node,)

    def _tiles(self, loop: Loop, tile: int) -> Nodes:
        number, place = self.names.fresh(f"{loop.index}_tile"), self.names.fresh(f"{loop.index}_in")
        size = const(tile, I64)
        start: Expr = Call("mul", (IndexRef(number), size), I64)
        at = Call("add", (start, IndexRef(place)), I64)
        inner = LoopKind.SERIAL if holds_loop(loop) or loop.kind is LoopKind.SERIAL else LoopKind.VECTOR
        known = {number: 0, place: tile}
        body = mapped(loop.body, lambda e: _simple(substitute(e, {loop.index: at}), known))
        whole = self._cut(Loop(place, const(0, I64), size, inner, body))
        first, end = _divided(loop.lo, tile, up=True), _divided(loop.hi, tile)
        if first is None and loop.kind is not LoopKind.PARALLEL:
            return (replace(loop, body=_flat(self._cut(n) for n in loop.body)),) if holds_loop(loop) else (loop,)
        if loop.kind is LoopKind.PARALLEL:
            # One loop, or the launch would have no parallel loop around everything.
            low, high = Call("floordiv", (loop.lo, size), I64), _divided(Call("add", (loop.hi, const(tile - 1, I64)), I64), tile)
            begins, ends = (Call("sub", (bound, start), I64) for bound in (loop.lo, loop.hi))
            full = Call("le", (size, ends), BOOL)
            if first is None:
                full = Call("and", (Call("le", (begins, const(0, I64)), BOOL), full), BOOL)
            part = Loop(place, const(0, I64) if first is not None else Call("max", (begins, const(0, I64)), I64),
                        Call("min", (ends, size), I64), inner, _flat(self._cut(n) for n in body))  # fmt: skip
            exact = isinstance(loop.hi, Const) and int(loop.hi.value) % tile == 0 and first is not None
            one: Nodes = whole if exact else (When(full, whole, (part,)),)
            return (Loop(number, _simple(low, {}), _simple(high or loop.hi, {}), LoopKind.PARALLEL, one),)
        assert first is not None and end is not None
        tiles = Loop(number, first, end, LoopKind.SERIAL, whole)
        if isinstance(loop.hi, Const) and int(loop.hi.value) % tile == 0:
            return (tiles,)
        rest = replace(loop, lo=Call("mul", (end, size), I64))
        return (tiles, rest)


def _flat(nodes: Iterator[Nodes]) -> Nodes:
    return tuple(node for some in nodes for node in some)


def _tile_along(loop: Loop) -> int | None:
    """The largest tile whose number or place a loop's own index gives; None where there is none, or terms are joined along it."""
    if loop.step != 1 or any(isinstance(n, Combine) for n in loop.body):
        return None
    found = {
        int(size.value)
        for node in walk(loop.body)
        for top in expressions_of(node)
        for x in subtrees(top)
        if isinstance(x, Call) and x.op in ("floordiv", "mod")
        for e, size in (x.args,)
        if isinstance(size, Const) and e == IndexRef(loop.index)
    }
    return max(found, default=None)


def _divided(e: Expr, tile: int, up: bool = False) -> Expr | None:
    """`e // tile`; with `up`, of what is seen to be a multiple, else None."""
    if isinstance(e, Const):
        value = int(e.value)
        return None if up and value % tile else const(value // tile, I64)
    if not up:
        return Call("floordiv", (e, const(tile, I64)), I64)
    match e:
        case Call("mul", (a, Const() as c)) if int(c.value) % tile == 0:
            factor = int(c.value) // tile
            return a if factor == 1 else Call("mul", (a, const(factor, I64)), I64)
        case _:
            return None


def _simple(e: Expr, places: Mapping[str, int]) -> Expr:
    """`e` with `(a * n + k) // n` as `a` and its modulus as `k`, for the index `k` of a place inside a tile of n (and what a multiple of n
    is, of its parts): the rules div_of_mod and mod_of_mod, whose guards hold as k runs from 0 to n."""
    e = map_children(lambda child: _simple(child, places), e)
    match e:
        case Call("floordiv", (Call("add", (Call("mul", (a, Const(n))), b)), Const(m))) if n % m == 0 and m > 0:
            quotient = a if n == m else Call("mul", (a, const(n // m, I64)), I64)
            if _below(b, m, places):
                return quotient
            return Call("add", (quotient, Call("floordiv", (b, const(m, I64)), I64)), I64)
        case Call("mod", (Call("add", (Call("mul", (_, Const(n))), b)), Const(m))) if n % m == 0 and m > 0:
            return b if _below(b, m, places) else Call("mod", (b, const(m, I64)), I64)
        case Call("floordiv", (Const(n), Const(m))) if m > 0:
            return const(n // m, I64)
        case Call("add", (Const(n), Const(m))):
            return const(n + m, I64)
        case _:
            return e


def _below(e: Expr, limit: int, places: Mapping[str, int]) -> bool:
    return isinstance(e, IndexRef) and 0 < places.get(e.name, limit + 1) <= limit

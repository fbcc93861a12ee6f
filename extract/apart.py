"""Turns a kernel whose values hold products of matrices into one that stores each of them first, as a library call takes it.

    y[i, n] = gelu(sum(k: x[i, k] * f32(q[n, k])) + b[n])

    qs[n, k] = f32(q[n, k])                          what is no whole array of the sum's type is computed into one
    p[i, n]  = sum(k: x[i, k] * qs[n, k])            a plain product, alone in its loop nest
    y[i, n]  = gelu(p[i, n] + b[n])

Or the operands alone, for our own products in registers, which want neighbouring columns side by side and can go on with a total:

    qs[k, n] = f32(q[n, k])
    y[i, n]  = gelu(sum(k: x[i, k] * qs[k, n]) + b[n])

Every element is computed at the same indices as before, by the same operations: nothing here needs a licence.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Final, Literal

from extract.names import Names
from extract.sizes import number
from kernel_ir.dtypes import F32, F64, I64, DType
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Const, Expr, IndexRef, Kernel, Load, Param, Reduce, Repeat, Stmt, const
from kernel_ir.walk import free, map_children, statements, subtrees

ROOM: Final = 64 << 20
"""Bytes of an array that may be stored whatever the arguments are."""
SHORT: Final = 8
"""Turns of a loop of a fixed length under which the library's own bookkeeping outweighs the products."""


@dataclass(frozen=True, slots=True)
class Apart:
    """The kernel with its products apart, and the names of the arrays that they define, each to stay alone in its group."""

    kernel: Kernel
    products: frozenset[str]


@dataclass(frozen=True, slots=True)
class Factors:
    """`sum(k: left * right)`: `left` reads the rows `i` and not the columns `j`, `right` the columns and not the rows; the loops of the
    batch around them, of which `left` and `right` read the last ones."""

    batch: tuple[Binder, ...]
    i: Binder
    j: Binder
    k: Binder
    left: Expr
    right: Expr


What = Literal["products", "operands"]


Fits = Callable[[tuple[Expr, ...], DType], bool]


def fitting(kernel: Kernel, sizes: Mapping[str, int]) -> Fits:
    """Whether an array of a shape may be stored that the kernel does not ask for: one no larger than an argument or an output, or
    than ROOM at these sizes. The scores of an attention over a whole batch are neither."""
    shapes = [Counter(p.type.shape) for p in (*kernel.params, *kernel.outputs)]

    def fits(shape: tuple[Expr, ...], dtype: DType) -> bool:
        size = dtype.itemsize * prod(max(0, number(extent, sizes)) for extent in shape)
        return size <= ROOM or any(Counter(shape) <= other for other in shapes)

    return fits


def apart(kernel: Kernel, what: What = "products", fits: Fits = lambda shape, dtype: True) -> Apart | None:
    """The kernel with its products, or their operands alone, apart where what is stored for it fits; None where that changes nothing."""
    made = _Making(kernel, what, fits)
    body = made.body(kernel.body)
    if body == kernel.body:
        return None
    return Apart(replace(kernel, body=body, temps=(*kernel.temps, *made.temps)), frozenset(made.products))


@dataclass(slots=True)
class _Making:
    kernel: Kernel
    what: What
    fits: Fits
    names: Names = field(init=False)
    arrays: dict[str, ArrayType] = field(init=False)
    temps: list[Param] = field(default_factory=list[Param])
    products: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        indices = {b.index for s in statements(self.kernel.body) for b in s.binders}
        self.names = Names({*self.kernel.arrays, *self.kernel.sizes, *indices, self.kernel.name})
        self.arrays = self.kernel.arrays

    def body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for stmt in body:
            if isinstance(stmt, Repeat):
                result.append(replace(stmt, body=self.body(stmt.body)))
            elif stmt.op != "=" or stmt.where is not None or stmt.otherwise:
                result.append(stmt)
            else:
                result.extend(self.statement(stmt))
        return tuple(result)

    def statement(self, stmt: Assign) -> list[Assign]:
        """The statement after those that store what its products need."""
        before: list[Assign] = []

        def visit(e: Expr) -> Expr:
            if isinstance(e, Reduce):
                found = factors(e, stmt)
                return self.product(e, found, stmt, before) if found is not None and self.has_room(found, e) else e
            # A value that is not always computed may be allowed to read outside where it is not.
            return map_children(visit, e) if isinstance(e, Call) and e.op != "select" else e

        value = visit(stmt.value)
        return [*before, replace(stmt, value=value)]

    def has_room(self, f: Factors, r: Reduce) -> bool:
        """Whether all that the product could store fits."""
        pairs = ((f.i, f.k), (f.k, f.j), *(((f.i, f.j),) if self.what == "products" else ()))
        around = [tuple(b for b in f.batch if b.index in free(x)) for x in (f.left, f.right)] + [f.batch]
        return all(self.fits(tuple(b.hi for b in (*batch, *pair)), r.dtype) for batch, pair in zip(around, pairs, strict=False))

    def product(self, r: Reduce, f: Factors, stmt: Assign, before: list[Assign]) -> Expr:
        """What takes the sum's place: the sum itself, of whole arrays, where it is all that its statement stores."""
        left = self.operand(f.left, f.batch, (f.i, f.k), r, before)
        right = self.operand(f.right, f.batch, (f.k, f.j), r, before)
        plain = replace(r, bodies=(Call("mul", (left, right), r.dtype),))
        if self.what == "operands":
            return plain
        at = tuple(IndexRef(b.index) for b in (*f.batch, f.i, f.j))
        if stmt.value is r and stmt.indices == at and self.arrays[stmt.target].dtype == r.dtype:
            self.products.add(stmt.target)
            return plain
        name = self.stored("product", (*f.batch, f.i, f.j), plain, before)
        self.products.add(name)
        return Load(name, at, r.dtype)

    def operand(self, e: Expr, batch: tuple[Binder, ...], loops: tuple[Binder, Binder], r: Reduce, before: list[Assign]) -> Expr:
        """The operand as a load of the sum's type: for the library, of a whole array, in which what its own loads have last comes last."""
        if isinstance(e, Load) and (self.is_plain(e, r) if self.what == "operands" else self.is_whole(e, batch, loops, r)):
            return e
        last = [x.indices[-1] for x in subtrees(e) if isinstance(x, Load) and x.indices]
        first, second = loops
        if self.what == "products" and any(first.index in free(x) for x in last) and not any(second.index in free(x) for x in last):
            first, second = second, first
        around = tuple(b for b in batch if b.index in free(e))
        name = self.stored("operand", (*around, first, second), e, before)
        return Load(name, tuple(IndexRef(b.index) for b in (*around, first, second)), r.dtype)

    def is_whole(self, e: Load, batch: tuple[Binder, ...], loops: tuple[Binder, Binder], r: Reduce) -> bool:
        """Whether the library can read the operand where it lies: a whole array of the sum's type, its matrices last."""
        around = tuple(b for b in batch if b.index in free(e))
        array = self.arrays[e.array]
        ways = [(*around, *loops), (*around, *loops[::-1])]
        lies = any(e.indices == tuple(IndexRef(b.index) for b in way) and array.shape == tuple(b.hi for b in way) for way in ways)
        return lies and self.is_plain(e, r)

    def is_plain(self, e: Load, r: Reduce) -> bool:
        return e.default is None and self.arrays[e.array].dtype == r.dtype

    def stored(self, name: str, binders: tuple[Binder, ...], value: Expr, before: list[Assign]) -> str:
        name = self.names.fresh(name)
        shape = tuple(b.hi for b in binders)
        self.temps.append(Param(name, ArrayType(value.dtype, shape)))
        self.arrays = {**self.arrays, name: self.temps[-1].type}
        before.append(Assign(name, tuple(IndexRef(b.index) for b in binders), "=", value, binders))
        return name


def factors(r: Reduce, stmt: Assign) -> Factors | None:
    """The sum inside the statement as a product of matrices, or of a batch of them; None where it is none."""
    if r.kind != "sum" or len(r.binders) != 1 or r.dtype not in (F32, F64) or not _whole_range(r.binders[0]):
        return None
    (body,), (k,) = r.bodies, r.binders
    if not isinstance(body, Call) or body.op != "mul" or not all(k.index in free(x) for x in body.args):
        return None
    loops = {b.index: b for b in stmt.binders}
    order = [loops[i.name] for i in stmt.indices if isinstance(i, IndexRef)]
    a, b = ([o for o in order if o.index in free(x)] for x in body.args)
    rows, columns = ([o for o in one if o not in other] for one, other in ((a, b), (b, a)))
    if not rows or not columns or not all(map(_whole_range, {*a, *b})):
        return None
    left, right = body.args
    i, j = rows[-1], columns[-1]
    if order.index(j) < order.index(i):  # the product is stored as its statement's indices go
        i, j, left, right = j, i, right, left
    batch = tuple(o for o in order if o in {*a, *b} and o not in (i, j))
    if not all(_last_of(batch, free(x)) for x in (left, right)):
        return None
    return Factors(batch, i, j, k, left, right)


def _whole_range(b: Binder) -> bool:
    """Whether a loop starts at 0, ends at what no other loop says, and is not so short that a library is slow at it."""
    return b.lo == const(0, I64) and not free(b.hi) and not (isinstance(b.hi, Const) and b.hi.value < SHORT)


def _last_of(batch: tuple[Binder, ...], names: frozenset[str]) -> bool:
    """Whether those of the batch that are among the names are its last ones: what the library broadcasts over."""
    reads = [b.index in names for b in batch]
    return reads == sorted(reads)

"""Turns an extracted choice of e-nodes into a kernel: the same parameters, outputs and facts, and readable temporaries.

A loop becomes a temporary where several places need it or where it would run again for an index that it does not read; the user's
own temporaries keep their names. Definitions stand before their first use, in the `repeat` block of that use.
"""

from collections.abc import Mapping
from dataclasses import replace

from kernel_ir.check import derived
from kernel_ir.nodes import ArrayType, Assign, Binder, Expr, IndexRef, Kernel, Load, Param, Repeat, Stmt
from kernel_ir.ranges import extents, ordered
from rewrites.encode import Encoding, Root
from rewrites.expressions import Scope, Writer
from rewrites.recursion import deep_recursion
from rewrites.sharing import Sharing, ranges, sharing
from rewrites.spelling import Names, NotDecodable
from rewrites.terms import Term

__all__ = ["NotDecodable", "decode"]


def decode(encoding: Encoding, chosen: Mapping[int, Term], classes: Mapping[int, int], hoist: bool = True) -> Kernel:
    """The kernel that computes each statement's value by the chosen terms.

    `chosen` gives the term of every class that a root reaches (E columns are classes), `classes` the class of each root of the encoding.
    Without `hoist`, a loop that only one place needs stays there, whatever it reads: its bounds may hold only under a condition there.
    Raises NotDecodable where no kernel says it, and a KernelError where the checker cannot prove the kernel that does.
    """
    decoder = _Decoder(encoding, chosen, classes, hoist)
    kernel = encoding.kernel
    with deep_recursion():
        body = decoder.block(kernel.body, ())
    kept = tuple(t for t in kernel.temps if t.name in decoder.kept)
    draft = replace(kernel, body=body, temps=(*kept, *decoder.made), implied=())
    return derived(draft)


class _Decoder:
    """One decoding: what each block of statements becomes."""

    def __init__(self, encoding: Encoding, chosen: Mapping[int, Term], classes: Mapping[int, int], hoist: bool) -> None:
        self.encoding = encoding
        self.chosen = chosen
        self.classes = classes
        self.hoist = hoist
        self.roots: dict[int, Root] = {id(r.place.stmt): r for r in encoding.statements}
        self.kept = {r.place.stmt.target for r in encoding.statements}
        self.ranges = ranges(encoding.terms, encoding.variables)
        self.names = Names(encoding, chosen, classes)
        self.made: list[Param] = []

    def block(self, body: tuple[Stmt, ...], path: tuple[int, ...]) -> tuple[Stmt, ...]:
        """The statements of one block, with the temporaries that they need."""
        here = [self.roots[id(s)] for s in body if isinstance(s, Assign) and id(s) in self.roots]
        needed = [self.classes[i] for r in here if r.value is not None for i in (r.value, *r.indices)]
        shared = sharing(self.chosen, needed, self.encoding.variables, frozenset(self.names.labels), self.ranges)
        block = _Block(self, shared)
        for position, stmt in enumerate(body):
            match stmt:
                case Repeat():
                    block.done.append(replace(stmt, body=self.block(stmt.body, (*path, position))))
                case Assign() if id(stmt) in self.roots:
                    block.statement(self.roots[id(stmt)])
                case _:
                    pass  # an inlined temporary: its uses have its value
        return tuple(block.done)


class _Block:
    """A block under construction; temporaries are defined once each, where first needed."""

    def __init__(self, decoder: _Decoder, shared: Sharing) -> None:
        self.decoder = decoder
        self.shared = shared
        self.done: list[Stmt] = []
        self.defined: dict[int, tuple[str, tuple[str, ...]]] = {}
        self.root: Root | None = None

    def statement(self, root: Root) -> None:
        """Adds a statement, its value and accumulation indices rewritten."""
        self.root = root
        stmt = root.place.stmt
        if root.value is None:
            self.done.append(stmt)
            return
        names = {x: user for user, x in root.names.items()}
        classes = self.decoder.classes
        value = self._write(classes[root.value], names)
        indices = tuple(self._write(classes[i], names) for i in root.indices) or stmt.indices
        self.done.append(replace(stmt, value=value, indices=indices))

    def _write(self, home: int, names: Mapping[str, str]) -> Expr:
        return self._writer().top(home, self._scope(names))

    def _scope(self, names: Mapping[str, str]) -> Scope:
        variables = self.decoder.encoding.variables
        return Scope(dict(names), frozenset(x for x in names if not variables[x].repeats))

    def _writer(self) -> Writer:
        assert self.root is not None
        d = self.decoder
        return Writer(d.encoding, d.chosen, self.shared, d.names, self.root.place.versions, self._temporary, d.hoist)

    def _temporary(self, home: int, scope: Scope) -> Load:
        """A read of the temporary that holds a class, defined here if it is new."""
        d = self.decoder
        if home not in self.defined:
            self._define(home, scope)
        name, order = self.defined[home]
        dtype = next(p.type.dtype for p in d.made if p.name == name)
        return Load(name, tuple(IndexRef(scope.names[x]) for x in order), dtype)

    def _define(self, home: int, scope: Scope) -> None:
        d = self.decoder
        variables = d.encoding.variables
        free = [x for x in self.shared.free[home] if not variables[x].repeats]
        order = d.names.order(home, free)
        name = d.names.temporary(home)
        repeats = {x: n for x, n in scope.names.items() if variables[x].repeats}
        names = d.names.indices(order, repeats)
        binders = ordered(self._binder(x, names) for x in order)
        value = self._writer().definition(home, self._scope(names))
        stmt = Assign(name, tuple(IndexRef(names[x]) for x in order), "=", value, binders)
        shape = tuple(x for x in extents(stmt) if x is not None)
        if len(shape) != len(order):
            raise NotDecodable(f"the shape of temporary {name} is not plain")
        d.made.append(Param(name, ArrayType(value.dtype, shape)))
        self.done.append(stmt)
        self.defined[home] = name, tuple(order)

    def _binder(self, x: str, names: Mapping[str, str]) -> Binder:
        spelled, variable = self.decoder.names, self.decoder.encoding.variables[x]
        return Binder(names[x], spelled.bound(variable.lo, names), spelled.bound(variable.hi, names))

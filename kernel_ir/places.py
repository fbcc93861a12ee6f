"""Turns a kernel into its accesses, each with what holds where it is evaluated: ranges, conditions, what earlier statements left."""

from collections.abc import Iterator
from dataclasses import dataclass

from kernel_ir.dtypes import I64
from kernel_ir.nodes import Assign, Binder, Call, Expr, Fold, Kernel, Load, Reduce, Repeat, Stmt, const
from kernel_ir.prover import Prover
from kernel_ir.regions import left_by, outer_names, region
from kernel_ir.walk import children

Item = Binder | tuple[Expr, bool]
"""A range that holds at a place, or a condition and its value there."""


class Place:
    """A point of a kernel, by the ranges and conditions around it, outermost first."""

    __slots__ = ("_parent", "_provers", "item", "kernel")

    def __init__(self, kernel: Kernel, parent: "Place | None" = None, item: Item | None = None) -> None:
        self.kernel = kernel
        self.item = item
        self._parent = parent
        self._provers: dict[frozenset[str], Prover] = {}

    def bind(self, binder: Binder) -> "Place":
        """Inside a range."""
        return Place(self.kernel, self, binder)

    def assume(self, condition: Expr, value: bool = True) -> "Place":
        """Where a condition has a value."""
        return Place(self.kernel, self, (condition, value))

    @property
    def items(self) -> tuple[Item, ...]:
        """The ranges and conditions, outermost first."""
        if self._parent is None or self.item is None:
            return ()
        return (*self._parent.items, self.item)

    def prover(self, positive: frozenset[str] = frozenset()) -> Prover:
        """What is known here if the named sizes are at least 1."""
        known = self._provers.get(positive)
        if known is None:
            known = self._provers[positive] = self._known(positive)
        return known

    def _known(self, positive: frozenset[str]) -> Prover:
        if self._parent is None or self.item is None:
            return Prover.of(self.kernel, positive)
        outer = self._parent.prover(positive)
        return outer.bind(self.item) if isinstance(self.item, Binder) else outer.assume(*self.item)


@dataclass(frozen=True, slots=True)
class Access:
    """A load, an argmax or argmin, or (the statement itself) a target, at its place; `stmt` is the statement around it (None in a fact)."""

    node: Load | Reduce | Assign
    place: Place
    stmt: Assign | None


def accesses(kernel: Kernel) -> Iterator[Access]:
    """Every access of the facts and statements, in the order of their text."""
    for fact in kernel.facts:
        yield from _inside(fact, Place(kernel), None)
    yield from _block(kernel.body, Place(kernel), [])


def _block(body: tuple[Stmt, ...], place: Place, before: list[Assign]) -> Iterator[Access]:
    for stmt in body:
        match stmt:
            case Repeat():
                inner = place if stmt.index is None else place.bind(Binder(stmt.index, const(0, I64), stmt.steps))
                # What a `repeat` defines is not known afterwards: it may have no step.
                yield from _block(stmt.body, inner, list(before))
            case Assign():
                yield from _statement(stmt, place, before)
                before.append(stmt)


def _statement(stmt: Assign, place: Place, before: list[Assign]) -> Iterator[Access]:
    for binder in stmt.binders:
        for bound in (binder.lo, binder.hi):
            yield from _inside(bound, place, stmt)
        place = place.bind(binder)
    if stmt.otherwise:
        own = {b.index for b in stmt.binders}
        for earlier in left_by(before, stmt):
            if outer_names(earlier) & own:
                continue
            place = place.assume(region(earlier, stmt.indices), False)
    if stmt.where is not None:
        yield from _inside(stmt.where, place, stmt)
        place = place.assume(stmt.where)
    for index in stmt.indices:
        yield from _inside(index, place, stmt)
    yield Access(stmt, place, stmt)
    yield from _inside(stmt.value, place, stmt)


def _inside(e: Expr, place: Place, stmt: Assign | None) -> Iterator[Access]:
    match e:
        case Load():
            for child in children(e):
                yield from _inside(child, place, stmt)
            yield Access(e, place, stmt)
        case Call(op="select", args=(condition, then, other)):
            yield from _inside(condition, place, stmt)
            yield from _inside(then, place.assume(condition), stmt)
            yield from _inside(other, place.assume(condition, False), stmt)
        case Call(op="and" | "or", args=(first, second)):
            yield from _inside(first, place, stmt)
            yield from _inside(second, place.assume(first, e.op == "and"), stmt)
        case Reduce():
            if e.kind in ("argmax", "argmin"):
                yield Access(e, place, stmt)
            for binder in e.binders:
                for bound in (binder.lo, binder.hi):
                    yield from _inside(bound, place, stmt)
                place = place.bind(binder)
            for body in e.bodies:
                yield from _inside(body, place, stmt)
        case Fold():
            for start in (e.binder.lo, e.binder.hi, *(c.init for c in e.carries)):
                yield from _inside(start, place, stmt)
            place = place.bind(e.binder)
            if e.condition is not None:
                yield from _inside(e.condition, place, stmt)
                place = place.assume(e.condition)
            for carry in e.carries:
                yield from _inside(carry.update, place, stmt)
        case _:
            for child in children(e):
                yield from _inside(child, place, stmt)

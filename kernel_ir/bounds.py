"""Turns a kernel into the proof that every access lies inside its array: the sizes that must be at least 1 for it, or a BoundsError.

A load without `else`, the target of a definition and the target of an accumulation must lie inside for all sizes, data and parameters that
the kernel's facts allow; argmax and argmin need a range that is not empty. A range, a `where`, the condition of `a if c else b` and the
left side of `and` and `or` count for what they guard.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from kernel_ir.dtypes import BOOL, I64
from kernel_ir.errors import BoundsError, Span
from kernel_ir.nodes import Assign, Binder, Call, Expr, IndexRef, Kernel, Load, Reduce, SizeRef, const
from kernel_ir.places import Access, Place, accesses
from kernel_ir.polynomial import Polynomial
from kernel_ir.prover import Prover
from kernel_ir.walk import free, subtrees
from kernel_ir.witness import Env, Search, witness_text

Goal = Callable[[Prover], Polynomial]


def check_bounds(kernel: Kernel) -> tuple[Expr, ...]:
    """The facts `N >= 1` that the proofs needed, in the order of the sizes, each size at most once.

    Raises a BoundsError at the first access that is not proved to lie inside.
    """
    kernel = replace(kernel, implied=())
    checker = _Checker(kernel)
    for access in accesses(kernel):
        checker.check(access)
    one = const(1, I64)
    return tuple(Call("ge", (SizeRef(name), one), BOOL) for name in kernel.sizes if name in checker.positive)


@dataclass(slots=True)
class _Checker:
    kernel: Kernel
    positive: frozenset[str] = field(default_factory=frozenset[str])

    def check(self, access: Access) -> None:
        match access.node:
            case Load() as load:
                if load.default is None:
                    self._inside(load.array, load.indices, load.span, access.place, load)
            case Assign() as stmt:
                self._inside(stmt.target, stmt.indices, stmt.span, access.place, stmt)
            case Reduce() as reduction:
                self._not_empty(reduction, access.place)

    def _inside(self, array: str, indices: tuple[Expr, ...], span: Span | None, place: Place, node: Load | Assign) -> None:
        for dim, (index, extent) in enumerate(zip(indices, self.kernel.arrays[array].shape, strict=True)):
            # Both bounds of the polynomial, which then is the machine value; or both of the machine value.
            for value in (Prover.polynomial, Prover.value):
                low = self._proved(place, lambda p, f=value, i=index: f(p, i))
                if low and self._proved(place, lambda p, f=value, i=index, n=extent: p.polynomial(n) - 1 - f(p, i)):
                    break
            else:
                raise _outside(_Fault(self.kernel, node, array, dim, index, extent, low, place, index.span or span))

    def _not_empty(self, reduction: Reduce, place: Place) -> None:
        for binder in reduction.binders:
            if not self._proved(place, lambda p, b=binder: p.value(b.hi) - p.value(b.lo) - 1):
                raise _empty(reduction, binder)
            place = place.bind(binder)

    def _proved(self, place: Place, goal: Goal) -> bool:
        """Whether the goal is >= 0, perhaps only for sizes of at least 1: then those are kept, as few as do."""
        if _holds(place, goal, self.positive):
            return True
        needed = frozenset(self.kernel.sizes)
        if not _holds(place, goal, needed):
            return False
        for name in reversed(self.kernel.sizes):
            if name not in self.positive and _holds(place, goal, needed - {name}):
                needed -= {name}
        self.positive |= needed
        return True


def _holds(place: Place, goal: Goal, positive: frozenset[str]) -> bool:
    prover = place.prover(positive)
    return prover.nonneg(goal(prover))


@dataclass(frozen=True, slots=True)
class _Fault:
    """An index that may leave its array: below 0, or (`low`: that it stays above 0 is proved) at its end."""

    kernel: Kernel
    node: Load | Assign
    array: str
    dim: int
    index: Expr
    extent: Expr
    low: bool
    place: Place
    span: Span | None


def shown(e: Expr) -> str:
    """An expression as the text has it."""
    from kernel_ir.printer import expr_text

    return expr_text(e)


def plain(e: Expr) -> Expr:
    """An index without the conversion to i64 that it makes by itself."""
    return e.args[0] if isinstance(e, Call) and e.op == "i64" and e.args[0].dtype.is_int else e


def _outside(fault: _Fault) -> BoundsError:
    index, extent = shown(plain(fault.index)), shown(fault.extent)
    rank = fault.kernel.arrays[fault.array].rank
    which = f"`{fault.array}`" if rank == 1 else f"dimension {fault.dim + 1} of `{fault.array}`"
    what = f"index `{index}` may reach {extent}, the extent of {which}" if fault.low else f"index `{index}` of {which} may be negative"
    env = _counterexample(fault)
    case = "" if env is None else f": it is {Search(fault.kernel).value(fault.index, env)}"
    when = "" if env is None else witness_text(env, (fault.index, fault.extent))
    return BoundsError(what + case + (f" when {when}" if when else ""), fault.span, _advice(fault))


def _counterexample(fault: _Fault) -> Env | None:
    search = Search(fault.kernel)

    def leaves(env: Env) -> Iterator[Env]:
        at, extent = search.value(fault.index, env), search.value(fault.extent, env)
        if at >= extent if fault.low else at < 0:
            yield env

    return search.find(fault.place.items, (leaves,))


def _advice(fault: _Fault) -> str:
    """What to write instead."""
    data = next((x for x in subtrees(fault.index) if isinstance(x, Load)), None)
    if isinstance(fault.node, Assign) and fault.node.op != "=":
        index = shown(plain(fault.index))
        return f"leave out what lies outside: `… where 0 <= {index} and {index} < {shown(fault.extent)}`"
    if data is not None:
        if plain(fault.index) == data:
            fact = f"state a fact about the data, `where 0 <= {data.array}, {data.array} < {shown(fault.extent)}`"
            return f"{fact}, or read `{_with_else(fault)}`"
        return f"state facts about `{data.array}` that bound it, or read `{_with_else(fault)}`"
    advice = _range_advice(fault)
    if isinstance(fault.node, Load):
        return (
            f"{advice}, or read `{_with_else(fault)}`"
            if advice
            else f"read `{_with_else(fault)}`, or state a fact that excludes this in `where`"
        )
    return advice or "state a fact that excludes this in the kernel's `where`"


def _with_else(fault: _Fault) -> str:
    node = fault.node
    assert isinstance(node, Load)
    default = "0.0" if node.dtype.is_float else "false" if node.dtype is BOOL else "0"
    return f"{node.array}[{', '.join(shown(plain(i)) for i in node.indices)} else {default}]"


def _range_advice(fault: _Fault) -> str:
    """`give i the range 1..N`, where the index is a range's index shifted by a constant, or a constant."""
    prover = fault.place.prover()
    p = prover.polynomial(fault.index)
    if p.constant is not None:
        return f"state the fact `{shown(fault.extent)} >= {p.constant + 1}` in the kernel's `where`" if p.constant >= 0 else ""
    binder = next((b for b in reversed(fault.place.items) if isinstance(b, Binder) and frozenset((b.index,)) == free(fault.index)), None)
    if binder is None:
        return ""
    offset = (p - prover.polynomial(IndexRef(binder.index))).constant
    if offset is None:
        return ""
    lo = shown(binder.lo) if fault.low else str(-offset)
    hi = _shifted(fault.extent, -offset) if fault.low else shown(binder.hi)
    return f"give {binder.index} the range `{binder.index} in {lo}..{hi}`"


def _shifted(extent: Expr, by: int) -> str:
    return shown(extent) if by == 0 else shown(Call("add" if by > 0 else "sub", (extent, const(abs(by), I64)), I64))


def _empty(reduction: Reduce, binder: Binder) -> BoundsError:
    lo, hi = shown(binder.lo), shown(binder.hi)
    more = hi if lo == "0" else f"{hi} - {lo}" if lo.isalnum() else f"{hi} - ({lo})"
    return BoundsError(
        f"`{reduction.kind}` of nothing has no value, and `{binder.index} in {lo}..{hi}` may be empty",
        reduction.span,
        f"state the fact `{more} >= 1` in the kernel's `where`",
    )

"""Turns a layout of an array into a proof that its index map is a bijection: of the array's elements and the places of its memory.

What is proved, for all sizes and all elements: each lies inside the memory, `back` finds it there, and `indices` finds each place that
`back` names (places of whole tiles; room behind rows belongs to no element). So a read or write at mapped indices is that of the same
element, and no two elements share a place.
"""

from collections.abc import Sequence
from functools import lru_cache

from kernel_ir.dtypes import I64
from kernel_ir.layout import Layout
from kernel_ir.nodes import Binder, Expr, IndexRef, const
from kernel_ir.prover import Prover


def is_bijection(layout: Layout, shape: Sequence[Expr]) -> bool:
    """Whether the index map is proved one for arrays of that shape; unknown means no.

    >>> from kernel_ir.nodes import SizeRef
    >>> is_bijection(Layout.of("d0_by_16", "d1", "d0_in_16"), (SizeRef("N"), const(3, I64)))
    True
    """
    return not unproved(layout, tuple(shape))


@lru_cache(maxsize=256)
def unproved(layout: Layout, shape: tuple[Expr, ...]) -> tuple[str, ...]:
    """What could not be proved of the map, in words; nothing where it is a bijection."""
    memory = layout.shape(shape)
    at, here = _inside("i", shape)
    places = layout.indices(at)
    found = [
        f"index {n} of the memory lies inside"
        for n, (place, extent) in enumerate(zip(places, memory, strict=True))
        if not (here.le(const(0, I64), place) and here.less(place, extent))
    ]
    back = layout.back(places)
    found += [f"dimension {d} is found again" for d, (a, b) in enumerate(zip(at, back, strict=True)) if not here.equal(a, b)]
    spots, there = _inside("m", Layout(layout.parts).shape(shape))
    again = layout.indices(layout.back(spots))
    found += [f"place {n} is found again" for n, (a, b) in enumerate(zip(spots, again, strict=True)) if not there.equal(a, b)]
    return tuple(found)


def _inside(name: str, extents: Sequence[Expr]) -> tuple[tuple[IndexRef, ...], Prover]:
    """An index for each extent, and what is known where each lies in its range."""
    prover = Prover({})
    for n, extent in enumerate(extents):
        prover = prover.bind(Binder(f"{name}{n}", const(0, I64), extent))
    return tuple(IndexRef(f"{name}{n}") for n in range(len(extents))), prover

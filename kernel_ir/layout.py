"""Turns the indices of an array into those of its memory and back: dimensions in another order, cut into tiles, rows with room behind them.

d0, d1                     C order, what an array has without a layout
d1, d0                     one plane a field: structures (`f32[N, 3]`) become three arrays of N
d0_by_16, d1, d0_in_16     sixteen structures at a time: dimension 0 is cut into tiles of 16, of which each has all of dimension 1
d0, d1, pad_16             16 elements of nothing after each row, so that rows do not meet in one set of a cache
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from kernel_ir.dtypes import I64
from kernel_ir.errors import UsageError
from kernel_ir.nodes import Call, Const, Expr, Kernel, Param, const

Array = np.ndarray[Any, np.dtype[Any]]
MAX_TILE: Final = 4096
"""The largest tile and the largest pad: more is a slip of the pen."""
_PART: Final = re.compile(r"d(\d+)(?:_(by|in)_(\d+))?")
_PAD: Final = re.compile(r"pad_(\d+)")


@dataclass(frozen=True, slots=True)
class Part:
    """One dimension of the memory: a dimension of the array (`tile` 0), the number of its tile, or the place `inside` a tile."""

    dim: int
    tile: int = 0
    inside: bool = False

    def __str__(self) -> str:
        return f"d{self.dim}_{'in' if self.inside else 'by'}_{self.tile}" if self.tile else f"d{self.dim}"


@dataclass(frozen=True)
class Layout:
    """How an array lies in memory: `parts`, slowest first, and how many elements are left free after each row of the last one.

    >>> layout = Layout.of("d0_by_4", "d1", "d0_in_4")
    >>> str(layout), layout.rank, layout.extents((10, 3))
    ('d0_by_4, d1, d0_in_4', 2, (3, 3, 4))
    >>> laid(np.arange(6).reshape(3, 2), Layout.of("d1", "d0")).tolist()
    [[0, 2, 4], [1, 3, 5]]

    Raises UsageError where the parts are not each dimension once, whole or as the number of its tile and the place inside.
    """

    parts: tuple[Part, ...]
    pad: int = 0

    def __post_init__(self) -> None:
        for dim in range(self.rank):
            whole = Part(dim) in self.parts
            tiles = [p.tile for p in self.parts if p.dim == dim and p.tile]
            pair = len(tiles) == 2 and all(Part(dim, tiles[0], inside) in self.parts for inside in (False, True))
            if whole == bool(tiles) or bool(tiles) != pair or not all(1 < t <= MAX_TILE for t in tiles):
                raise UsageError(
                    f"`{self}` is no layout: dimension {dim} must stand in it once",
                    hint=f"write d{dim}, or both d{dim}_by_16 and d{dim}_in_16 for tiles of 16",
                )
        if len(self.parts) != self.rank + len({p.dim for p in self.parts if p.tile}) or not 0 <= self.pad <= MAX_TILE:
            raise UsageError(f"`{self}` is no layout: each dimension must stand in it once", hint="write d1, d0 for columns, for one")

    @classmethod
    def of(cls, *values: str) -> "Layout":
        """The layout that is written so. Raises UsageError for what is none."""
        pads = [_PAD.fullmatch(v) for v in values[-1:]]
        pad = int(pads[0][1]) if pads and pads[0] else 0
        parts: list[Part] = []
        for value in values[:-1] if pad else values:
            found = _PART.fullmatch(value)
            if found is None:
                hint = "parts are d0 (a dimension), d0_by_16 (the number of its tile), d0_in_16 (the place inside), and pad_16 at the end"
                raise UsageError(f"`{value}` is no part of a layout", hint=hint)
            parts.append(Part(int(found[1]), int(found[3] or 0), found[2] == "in"))
        if not parts:
            raise UsageError("a layout needs a part for each dimension", hint="d1, d0, for one")
        return cls(tuple(parts), pad)

    @classmethod
    def ordered(cls, order: Sequence[int]) -> "Layout":
        """The dimensions in an order, slowest first."""
        return cls(tuple(map(Part, order)))

    def __str__(self) -> str:
        return ", ".join(self.values)

    def __repr__(self) -> str:
        return f"Layout.of({', '.join(map(repr, self.values))})"

    @property
    def values(self) -> tuple[str, ...]:
        """What a schedule block says of it."""
        return (*map(str, self.parts), *((f"pad_{self.pad}",) if self.pad else ()))

    @cached_property
    def rank(self) -> int:
        """Dimensions of the array."""
        return len({p.dim for p in self.parts})

    @cached_property
    def tiles(self) -> tuple[int, ...]:
        """The tile of each dimension, 1 where it is whole."""
        return tuple(max(1, *(p.tile for p in self.parts if p.dim == dim)) if self._cut(dim) else 1 for dim in range(self.rank))

    def _cut(self, dim: int) -> bool:
        return any(p.dim == dim and p.tile for p in self.parts)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The dimensions, slowest first, each where it moves through neighbouring elements: all there is where nothing is cut."""
        return tuple(p.dim for p in self.parts if not p.tile or p.inside)

    @cached_property
    def inverse(self) -> tuple[int, ...]:
        """Where each dimension stands in `order`."""
        return tuple(self.order.index(d) for d in range(self.rank))

    @cached_property
    def plain(self) -> bool:
        """Whether it is an order of the dimensions and nothing else."""
        return not self.pad and all(not p.tile for p in self.parts)

    @cached_property
    def tiled(self) -> bool:
        return any(p.tile for p in self.parts)

    @cached_property
    def is_rows(self) -> bool:
        """Whether it is C order."""
        return self.plain and self.order == tuple(range(self.rank))

    # -- the index map, and back

    def indices(self, at: Sequence[Expr]) -> tuple[Expr, ...]:
        """Where the element at these indices lies, one index a part."""
        return tuple(self._index(p, at[p.dim]) for p in self.parts)

    def _index(self, p: Part, at: Expr) -> Expr:
        return Call("mod" if p.inside else "floordiv", (at, const(p.tile, I64)), I64) if p.tile else at

    def back(self, at: Sequence[Expr]) -> tuple[Expr, ...]:
        """The element that lies there: `back(indices(at))` is `at`, and `indices(back(at))` is `at` (`layout_proof.py` proves both)."""
        found: list[Expr] = []
        for dim in range(self.rank):
            mine = {(p.tile > 0, p.inside): n for n, p in enumerate(self.parts) if p.dim == dim}
            if (False, False) in mine:
                found.append(at[mine[False, False]])
                continue
            first = Call("mul", (at[mine[True, False]], const(self.tiles[dim], I64)), I64)
            found.append(Call("add", (first, at[mine[True, True]]), I64))
        return tuple(found)

    def shape(self, shape: Sequence[Expr]) -> tuple[Expr, ...]:
        """The extents of the memory, one a part; the last tile is whole, be it full or not."""
        found = [self._extent(p, shape[p.dim]) for p in self.parts]
        if self.pad:
            last = found[-1]
            more = const(self.pad, I64)
            found[-1] = const(int(last.value) + self.pad, I64) if isinstance(last, Const) else Call("add", (last, more), I64)
        return tuple(found)

    def _extent(self, p: Part, extent: Expr) -> Expr:
        if not p.tile:
            return extent
        if p.inside:
            return const(p.tile, I64)
        if isinstance(extent, Const):
            return const(-(-int(extent.value) // p.tile), I64)
        return Call("floordiv", (Call("add", (extent, const(p.tile - 1, I64)), I64), const(p.tile, I64)), I64)

    def extents(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The extents of the memory of an array of that shape."""
        found = [p.tile if p.inside else -(-shape[p.dim] // max(1, p.tile)) for p in self.parts]
        found[-1] += self.pad
        return tuple(found)

    # -- for NumPy: every dimension as (number of tile, place inside), a whole one being cut into tiles of 1

    @cached_property
    def turn(self) -> tuple[int, ...]:
        """The order of those pairs' dimensions in memory; the places inside tiles of 1 stand first, where they do no harm."""
        free = [2 * dim + 1 for dim in range(self.rank) if self.tiles[dim] == 1]
        return (*free, *(2 * p.dim + p.inside for p in self.parts))


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """The layout of one array of a kernel."""

    name: str
    layout: Layout


Layouts = tuple[ArrayLayout, ...]


def laid_anyhow(kernel: Kernel) -> tuple[Param, ...]:
    """Parameters and outputs whose layout is the compiler's to choose."""
    return tuple(p for p in (*kernel.params, *kernel.outputs) if p.type.layout == "any")


def rows_of(kernel: Kernel) -> Layouts:
    """C order for every array whose layout is the compiler's to choose."""
    return tuple(ArrayLayout(p.name, Layout.ordered(range(p.type.rank))) for p in laid_anyhow(kernel))


def laid(x: Array, layout: Layout) -> Array:
    """A new array of the layout's memory with the elements of `x`; what lies between them is 0."""
    return np.ascontiguousarray(x.transpose(layout.order)) if layout.plain else packed(x, layout.tiles, layout.turn, layout.pad)


def unlaid(memory: Array, layout: Layout, shape: Sequence[int]) -> Array:
    """The array of that shape that lies in a layout's memory: a view where nothing is tiled, else a copy."""
    if layout.plain:
        return memory if layout.is_rows else memory.transpose(layout.inverse)
    return unpacked(memory, tuple(shape), layout.tiles, layout.turn, layout.pad)


def packed(x: Array, tiles: Sequence[int], turn: Sequence[int], pad: int) -> Array:
    """The elements of x in tiles, the tiles' numbers and the places inside turned into memory order, rows padded; the rest is 0."""
    count = [-(-n // t) for n, t in zip(x.shape, tiles, strict=True)]
    whole = np.zeros([n * t for n, t in zip(count, tiles, strict=True)], x.dtype)
    whole[tuple(slice(n) for n in x.shape)] = x
    parts = whole.reshape([n for pair in zip(count, tiles, strict=True) for n in pair]).transpose(turn)
    parts = parts.reshape(parts.shape[sum(t == 1 for t in tiles) :])
    memory = np.zeros([n + pad * (d == parts.ndim - 1) for d, n in enumerate(parts.shape)], x.dtype)
    memory[..., : memory.shape[-1] - pad] = parts
    return memory


def unpacked(memory: Array, shape: Sequence[int], tiles: Sequence[int], turn: Sequence[int], pad: int) -> Array:
    """The array of that shape whose elements lie so."""
    parts = memory[..., : memory.shape[-1] - pad]
    parts = parts.reshape((1,) * sum(t == 1 for t in tiles) + parts.shape)
    pairs = parts.transpose([turn.index(d) for d in range(len(turn))])
    whole = pairs.reshape([pairs.shape[2 * d] * pairs.shape[2 * d + 1] for d in range(len(tiles))])
    return whole[tuple(slice(n) for n in shape)]

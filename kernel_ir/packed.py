"""Turns an array into one that lies as a compiled kernel wants it, and back: made once by `f.pack`, then taken by every call as it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernel_ir.errors import ArgumentError
from kernel_ir.layout import Array, Layout, unlaid
from kernel_ir.nodes import Param


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """An array of some `shape` in the `memory` of a layout.

    >>> from kernel_ir.layout import laid
    >>> x, layout = np.arange(6.0).reshape(3, 2), Layout.of("d1", "d0")
    >>> p = Packed(laid(x, layout), layout, x.shape)
    >>> p, np.asarray(p).tolist() == x.tolist()
    (<packed float64[3, 2] as d1, d0>, True)
    """

    memory: Array
    layout: Layout
    shape: tuple[int, ...]

    @property
    def dtype(self) -> "np.dtype[Any]":
        return self.memory.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def unpack(self) -> Array:
        """The elements as an ordinary array: a view where the layout has no tiles, else a copy."""
        return unlaid(self.memory, self.layout, self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.unpack()
        return array.astype(dtype) if dtype is not None and dtype != array.dtype else array.copy() if copy else array

    def __repr__(self) -> str:
        return f"<packed {self.dtype}[{', '.join(map(str, self.shape))}] as {self.layout}>"

    def stand_in(self, values: bool) -> Array:
        """An array of the same shape and type, with the elements of this one where `values` are asked for, or nothing must be copied."""
        return self.unpack() if values or not self.layout.tiled else np.empty(self.shape, self.dtype)


def fits(p: Param, given: Packed, layout: Layout | None) -> None:
    """Raises ArgumentError for an array that is packed otherwise than the parameter's layout asks."""
    if layout is None:
        raise ArgumentError(
            f"`{p.name}` is packed, and lies in C order in this kernel", p.span, f"pass an array, or write `{p.name}: … @ any`"
        )
    if given.ndim == p.type.rank and given.layout != layout:
        hint = f"pack it for this kernel: `f.pack({p.name}=np.asarray({p.name}))`"
        raise ArgumentError(f"`{p.name}` is packed as {given.layout}, and this kernel takes it as {layout}", p.span, hint)
    if given.dtype != p.type.dtype.numpy:
        raise ArgumentError(f"`{p.name}` is packed as {given.dtype}, and {p.type.dtype} was expected", p.span, "pack an array of that type")

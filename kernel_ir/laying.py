"""Turns an array into the memory of a layout, and back, by kernels of our own where it is large: all threads, tile by tile."""

from collections.abc import Callable
from typing import Any, Final

from kernel_ir.dtypes import I64, DType, reads_as
from kernel_ir.layout import Array, Layout, laid, unlaid
from kernel_ir.nodes import ArrayType, Assign, Binder, Expr, IndexRef, Kernel, Load, Param, SizeRef, const

Made = Callable[[Kernel], Callable[..., Any]]
"""What compiles such a kernel."""
LARGE: Final = 1 << 20
"""Bytes from which on a compiled kernel lays an array out sooner than NumPy does, once it is compiled."""


def laying(dtype: DType, layout: Layout) -> Kernel:
    """The kernel that brings an array in C order into a layout; what lies between the elements is 0.

    >>> from kernel_ir.dtypes import F32
    >>> print(laying(F32, Layout.of("d0_by_4", "d1", "d0_in_4")))
    kernel lay(x: f32[A, B]) -> (y: f32[(A + 3) // 4, B, 4]) {
      y[i, j, k] = x[i * 4 + k, j else 0.0]
    }
    """
    shape = _sizes(layout.rank)
    at = tuple(IndexRef(name) for name in _names(len(layout.parts)))
    memory = layout.shape(shape)
    kind = reads_as(dtype)
    default = None if layout.plain else const(0, kind)
    value = Load("x", layout.back(at), kind, default)
    return _kernel("lay", ArrayType(dtype, shape), ArrayType(dtype, memory), value, at, shape)


def unlaying(dtype: DType, layout: Layout) -> Kernel:
    """The kernel that brings an array back into C order; its sizes go by name."""
    shape = _sizes(layout.rank)
    at = tuple(IndexRef(name) for name in _names(layout.rank))
    value = Load("x", layout.indices(at), reads_as(dtype))
    return _kernel("unlay", ArrayType(dtype, layout.shape(shape)), ArrayType(dtype, shape), value, at, shape)


def _kernel(name: str, given: ArrayType, made: ArrayType, value: Expr, at: tuple[IndexRef, ...], sizes: tuple[SizeRef, ...]) -> Kernel:
    binders = tuple(Binder(i.name, const(0, I64), extent) for i, extent in zip(at, made.shape, strict=True))
    body = (Assign("y", at, "=", value, binders),)
    return Kernel(name, (Param("x", given),), (Param("y", made),), (), body, tuple(s.name for s in sizes), ())


def _sizes(rank: int) -> tuple[SizeRef, ...]:
    return tuple(SizeRef(chr(ord("A") + n)) for n in range(rank))


def _names(count: int) -> tuple[str, ...]:
    return tuple(chr(ord("i") + n) for n in range(count))


def memory_of(x: Array, dtype: DType, layout: Layout, made: Made) -> Array:
    """The elements of an array in the memory of a layout; the array's own memory where it lies so already."""
    if layout.plain:
        turned = x.transpose(layout.order)
        if turned.flags.c_contiguous:
            return turned
    if x.nbytes < LARGE or not x.flags.c_contiguous:
        return laid(x, layout)
    memory: Array = made(laying(dtype, layout))(x)
    return memory


def array_of(memory: Array, dtype: DType, layout: Layout, shape: tuple[int, ...], made: Made) -> Array:
    """The array that lies in the memory of a layout: a view, but for tiles a copy."""
    if not layout.tiled or memory.nbytes < LARGE:
        return unlaid(memory, layout, shape)
    kernel = unlaying(dtype, layout)
    array: Array = made(kernel)(memory, **dict(zip(kernel.sizes, shape, strict=True)))
    return array

"""Turns a call with arrays in any layout into one on their memory: what is packed is taken as it is, the rest is laid out first."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from kernel_ir.binding import Binding
from kernel_ir.errors import ArgumentError
from kernel_ir.laying import Made, array_of, memory_of
from kernel_ir.layout import Array, Layout
from kernel_ir.nodes import Kernel, Load, Param
from kernel_ir.packed import Packed, fits
from kernel_ir.plan import Plan
from kernel_ir.shapes import integer_function, is_of_sizes
from kernel_ir.walk import statements, subtrees

MOST: Final = 256
"""Shapes remembered."""
Launch = Callable[..., None]
Empty = Callable[[tuple[int, ...], "np.dtype[Any]"], Array]


class LaidCall:
    """Calls of one compiled kernel on arrays in the layouts of its plan. `launch` takes the parameters and outputs as they lie in memory,
    then every size; `empty` allocates results; `several` names them, `made` compiles what lays arrays out."""

    def __init__(self, plan: Plan, binding: Binding, launch: Launch, empty: Empty, several: Callable[..., Any] | None, made: Made) -> None:
        self.kernel: Final = plan.kernel
        self.packed: Final = plan.packed
        self.layouts: Final = {one.name: one.layout for one in plan.layouts}
        self._binding = binding
        self._launch = launch
        self._empty = empty
        self._tuple = several
        self._made = made
        self._read = read_by_facts(self.kernel)
        self._names = {p.name: p for p in self.kernel.params}
        self._accumulated = {s.target for s in statements(self.kernel.body) if s.op != "="}
        self._shapes = {p.name: tuple(map(integer_function, p.type.shape)) for p in self.kernel.outputs}
        self._lie = {p.name: self.layouts.get(p.name, _usual(p)) for p in self.kernel.outputs}
        self._known: dict[tuple[tuple[int, ...], ...], dict[str, int]] = {}
        """Sizes by the arguments' shapes, where neither facts nor arrays that are written in place ask to look at each call anew."""
        self._looks = any(p.inout for p in self.kernel.params) or not all(map(is_of_sizes, (*self.kernel.facts, *self.kernel.implied)))

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if kwargs and len(args) + len(kwargs) == len(self._names) and kwargs.keys() <= self._names.keys():
            args, kwargs = (*args, *(kwargs[name] for name in list(self._names)[len(args) :] if name in kwargs)), {}
        taken = None if kwargs or self._looks else self._as_taken(args)
        if taken is not None and taken[0] in self._known:
            return self._run(taken[1], self._known[taken[0]])
        names = [p.name for p in self.kernel.params]
        packed = {n: a for n, a in (*zip(names, args, strict=False), *kwargs.items()) if isinstance(a, Packed)}
        bound = self._binding(*stood_in(self.kernel, self.layouts, self._read, args, kwargs))
        memory: list[Any] = []
        values = self._binding.for_code(bound.values)
        laid_out: list[tuple[Array, Array, Param]] = []
        for p in self.kernel.params:
            value = values[p.name]
            layout = self.layouts.get(p.name)
            if p.name in packed:
                value = packed[p.name].memory
            elif layout is not None:
                value = memory_of(value, p.type.dtype, layout, self._made)
                if p.inout and not np.shares_memory(value, bound.values[p.name]):
                    laid_out.append((bound.values[p.name], value, p))
            memory.append(np.ascontiguousarray(value) if p.type.rank else value)
        result = self._run(memory, bound.sizes)
        for array, value, p in laid_out:
            array[...] = array_of(value, p.type.dtype, self.layouts[p.name], array.shape, self._made)
        bound.finish()
        if taken is not None and len(self._known) < MOST:
            self._known[taken[0]] = bound.sizes
        return result

    def _as_taken(self, args: tuple[Any, ...]) -> tuple[tuple[tuple[int, ...], ...], list[Any]] | None:
        """The shapes of arguments that lie as the code takes them, and their memory; None where one has to be laid out or converted."""
        if len(args) != len(self.kernel.params):
            return None
        shapes: list[tuple[int, ...]] = []
        memory: list[Any] = []
        for p, a in zip(self.kernel.params, args, strict=True):
            kind, layout = p.type.dtype.numpy, self.layouts.get(p.name)
            if not p.type.rank:
                if type(a) is not kind.type:
                    return None
            elif isinstance(a, Packed):
                if a.layout != layout or a.memory.dtype != kind:
                    return None
                shapes.append(a.shape)
                a = a.memory
            elif p.type.layout == "cols" or (layout is not None and not layout.is_rows) or not _is_rows(a, kind, p.type.rank):
                return None
            else:
                shapes.append(a.shape)
            memory.append(a)
        return tuple(shapes), memory

    def _run(self, memory: list[Any], sizes: Mapping[str, int]) -> Any:
        outputs = [self._output(p, sizes) for p in self.kernel.outputs]
        self._launch(*memory, *(made for made, _ in outputs), *sizes.values())
        results = [self._result(p, *made) for p, made in zip(self.kernel.outputs, outputs, strict=True)]
        if len(results) < 2 or self._tuple is None:
            return results[0] if results else None
        return self._tuple(*results)

    def _output(self, p: Param, sizes: Mapping[str, int]) -> tuple[Array, tuple[int, ...]]:
        """The memory of a new output, and its shape."""
        shape = tuple(extent(sizes) for extent in self._shapes[p.name])
        layout = self._lie[p.name]
        make = np.zeros if p.name in self._accumulated else self._empty
        return make(shape if layout.is_rows else layout.extents(shape), p.type.dtype.numpy), shape

    def _result(self, p: Param, memory: Array, shape: tuple[int, ...]) -> Any:
        if not shape:
            return memory
        layout = self._lie[p.name]
        return Packed(memory, layout, shape) if p.name in self.packed else array_of(memory, p.type.dtype, layout, shape, self._made)


def _is_rows(a: Any, kind: "np.dtype[Any]", rank: int) -> bool:
    return type(a) is np.ndarray and a.dtype == kind and a.ndim == rank and a.flags.c_contiguous and a.flags.aligned


def _usual(p: Param) -> Layout:
    dims = range(p.type.rank)
    return Layout.ordered(tuple(dims)[::-1] if p.type.layout == "cols" else dims) if p.type.rank else Layout(())


def read_by_facts(kernel: Kernel) -> frozenset[str]:
    """The arrays whose elements the kernel's facts are about."""
    return frozenset(x.array for fact in (*kernel.facts, *kernel.implied) for x in subtrees(fact) if isinstance(x, Load))


def stood_in(
    kernel: Kernel, layouts: Mapping[str, Layout], read: frozenset[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with an ordinary array for each that is packed. Raises ArgumentError for what is packed otherwise than it should be."""
    by_name = {p.name: p for p in kernel.params}

    def plain(name: str, given: Any) -> Any:
        if not isinstance(given, Packed) or name not in by_name:
            return given
        fits(by_name[name], given, layouts.get(name))
        return given.stand_in(name in read)

    names = [p.name for p in kernel.params]
    first = tuple(plain(name, a) for name, a in zip(names, args, strict=False))
    return (*first, *args[len(names) :]), {name: plain(name, a) for name, a in kwargs.items()}


def packable(kernel: Kernel, layouts: Mapping[str, Layout], arrays: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """What `pack` was given, by parameter. Raises ArgumentError where that is not clear, or no parameter to pack."""
    able = [p.name for p in kernel.params if p.name in layouts]
    call = f"the arrays to pack are {', '.join(able)}: `f.pack({able[0]}=…)`" if able else "write `@ any` after an array's type"
    if not able:
        raise ArgumentError(f"`{kernel.name}` has no array whose layout the compiler chose", kernel.span, call)
    if len(arrays) + len(named) == 0 or len(arrays) > 1 or (arrays and (named or len(able) > 1)):
        raise ArgumentError("pack takes one array, where the kernel has one to pack, or arrays by name", kernel.span, call)
    given = {able[0]: arrays[0]} if arrays else dict(named)
    for name in given:
        if name not in able:
            raise ArgumentError(f"`{kernel.name}` has no array `{name}` whose layout the compiler chose", kernel.span, call)
    return given


def packed_array(p: Param, layout: Layout, array: Any, made: Made) -> Packed:
    """The array, packed for the parameter; a packed one is brought into its layout, or taken as it is."""
    from kernel_ir.arguments import fitted

    if isinstance(array, Packed):
        if array.layout == layout and array.dtype == p.type.dtype.numpy:
            return array
        array = array.unpack()
    plain = fitted(p, array)
    memory = memory_of(plain, p.type.dtype, layout, made)
    return Packed(memory.copy() if np.shares_memory(memory, array) else memory, layout, plain.shape)

"""Turns the arguments of a call into arrays, scalars and sizes that a kernel can run on, or an ArgumentError before anything is written.

Sizes are read off the shapes, solved from extents such as `2*D`, or given by name; every extent is then checked. Arguments become what
their parameters ask for as `arguments.py` and `scalars.py` say. An `inout` array that had to be copied is copied back by `Bound.finish`.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import numpy as np

from kernel_ir.arguments import MAX_SIZE, Array, fitted, size, type_text
from kernel_ir.dtypes import BF16
from kernel_ir.errors import ArgumentError
from kernel_ir.facts import fact_checks
from kernel_ir.meaning import read
from kernel_ir.nodes import Kernel, Param, SizeRef
from kernel_ir.scalars import scalar
from kernel_ir.shapes import Solution, Step, Value, integer_function, open_sizes, solution
from kernel_ir.walk import subtrees

MAX_CACHED: Final = 64


@dataclass(frozen=True, slots=True)
class Bound:
    """One call, ready to run.

    `values`: each parameter by name, arrays in storage dtype and layout, scalars as NumPy scalars; `sizes` in `Kernel.sizes`
    order; `outputs`: new arrays in order, uninitialised (none unless asked for).
    """

    values: dict[str, Any]
    sizes: dict[str, int]
    outputs: tuple[Array, ...] = ()
    copied: tuple[tuple[Array, Array], ...] = ()

    def finish(self) -> None:
        """Copies `inout` arrays back that had to be copied to run."""
        for original, copy in self.copied:
            original[...] = copy


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a parameter asks of its argument; `extents` are size names where an extent is just a size."""

    param: Param
    name: str
    dtype: np.dtype[Any]
    rank: int
    columns: bool
    anyhow: bool
    extents: tuple[str | None, ...]


class Binding:
    """Binds calls of one kernel; made once, used at each call.

    >>> from kernel_ir.dtypes import F32
    >>> from kernel_ir.nodes import ArrayType
    >>> x = Param("x", ArrayType(F32, (SizeRef("N"),)))
    >>> binding = Binding(Kernel("f", (x,), (), (), (), ("N",), ()))
    >>> binding((np.zeros(3, np.float32),), {}).sizes
    {'N': 3}
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.slots = tuple(map(_slot, kernel.params))
        self.open_sizes = open_sizes(kernel)
        """Sizes that a call must give by name."""
        self._names = tuple(p.name for p in kernel.params)
        self._sizes = frozenset(kernel.sizes)
        self._inout = tuple(p.name for p in kernel.params if p.inout)
        self._arrays = tuple(p.name for p in kernel.params if p.type.rank)
        self._solutions: dict[frozenset[str], Solution] = {}
        self._facts = fact_checks(kernel)
        self._brain = tuple(p.name for p in kernel.params if not p.type.rank and p.type.dtype is BF16)
        # Extents that are more than a size, and those that no parameter has, are computed at each call.
        self._computed = tuple(
            (p.name, dim, integer_function(e)) for p in kernel.params for dim, e in enumerate(p.type.shape) if not isinstance(e, SizeRef)
        )
        self._outputs = tuple((p, tuple(map(integer_function, p.type.shape))) for p in kernel.outputs)

    def __call__(self, args: Sequence[object], kwargs: Mapping[str, object], *, allocate: bool = False) -> Bound:
        """The bound call; with `allocate` the outputs too."""
        given = self._given(args, kwargs)
        values: dict[str, Any] = {}
        copied: list[tuple[Array, Array]] = []
        for slot in self.slots:
            argument = given[slot.name]
            if not slot.rank:
                values[slot.name] = scalar(slot.name, slot.param.type.dtype, argument)
                continue
            array = argument
            flags = array.flags if type(array) is np.ndarray and array.dtype == slot.dtype and array.ndim == slot.rank else None
            lies = slot.anyhow or (flags is not None and (flags.f_contiguous if slot.columns else flags.c_contiguous))
            if flags is None or not lies or not flags.aligned:
                array = fitted(slot.param, argument)
                if slot.param.inout and not np.may_share_memory(array, argument):
                    copied.append((argument, array))
            values[slot.name] = array
        if self._inout:
            self._check_inout(given)
        sizes = self._solve(values, {n: v for n, v in kwargs.items() if n in self._sizes} if kwargs else {})
        for check in self._facts:
            check(values, sizes)
        shapes = [(p, _shape(p.name, shape, sizes)) for p, shape in self._outputs]
        outputs = tuple(_new(p, shape) for p, shape in shapes) if allocate else ()
        return Bound(values, sizes, outputs, tuple(copied))

    def for_code(self, values: dict[str, Any]) -> dict[str, Any]:
        """A bound call's values as compiled code takes them: bfloat16 scalars, of which NumPy has the bits alone, as float32 numbers."""
        return values if not self._brain else values | {name: np.float32(read(np.asarray(values[name]), BF16)) for name in self._brain}

    def _given(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """Arguments by parameter."""
        names, kernel = self._names, self.kernel
        if not kwargs and len(args) == len(names):
            return dict(zip(names, args, strict=True))
        if len(args) > len(names):
            raise ArgumentError(
                f"`{kernel.name}` takes {_count(len(names), 'argument')}, and {len(args)} were given", kernel.span, _signature(self)
            )
        given: dict[str, Any] = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                raise ArgumentError(f"`{name}` is given twice, in order and by name", hint=_signature(self))
            if name in names:
                given[name] = value
            elif name not in self._sizes:
                hint = _near(name, (*names, *kernel.sizes)) or _signature(self)
                raise ArgumentError(f"`{kernel.name}` has no parameter `{name}`", kernel.span, hint)
        for p in kernel.params:
            if p.name not in given:
                raise ArgumentError(f"argument `{p.name}` of `{kernel.name}` is missing", p.span, _signature(self))
        return given

    def _check_inout(self, given: Mapping[str, Any]) -> None:
        for name in self._inout:
            array = given[name]
            if not array.flags.writeable:
                raise ArgumentError(f"`{name}` is updated in place, and the array given is read-only", hint=f"pass a copy: `{name}.copy()`")
            for other in self._arrays:
                if other != name and np.may_share_memory(array, given[other]):
                    hint = f"pass a copy of one of them: `{other}.copy()`"
                    raise ArgumentError(f"`{name}` is updated in place and shares memory with `{other}`", hint=hint)

    def _solve(self, values: Mapping[str, Any], given: Mapping[str, object]) -> dict[str, int]:
        """The sizes of a call, every extent checked against them."""
        names = frozenset(given)
        plan = self._solutions.get(names)
        if plan is None:
            plan = self._solutions[names] = solution(self.kernel, names)
        known = {n: size(n, v) for n, v in given.items()}
        for step in plan.steps:
            known[step.size] = values[step.array].shape[step.dim] if step.plain else self._solved(step, values, known)
        if plan.unknown:
            missing = next((n for n in self.open_sizes if n in plan.unknown), plan.unknown[0])
            raise ArgumentError(f"no argument fixes the size `{missing}`", self.kernel.span, f"pass it by name: `{missing}=…`")
        for slot in self.slots:
            for dim, name in enumerate(slot.extents):
                if name is not None and values[slot.name].shape[dim] != known[name]:
                    raise self._disagreement(slot.name, dim, values, known, plan)
        for array, dim, extent in self._computed:
            if values[array].shape[dim] != extent(known):
                raise self._disagreement(array, dim, values, known, plan)
        return {name: known[name] for name in self.kernel.sizes}

    def _solved(self, step: Step, values: Mapping[str, Any], known: Mapping[str, int]) -> int:
        slope, rest = step.slope(known), step.rest(known)
        extent: int = values[step.array].shape[step.dim]
        found, left = divmod(extent - rest, slope) if slope else (0, 1)
        if not left and found >= 0:
            return found
        text = _extent_text(self.kernel, step.array, step.dim)
        if slope == 0 and extent == rest:
            raise ArgumentError(f"`{step.size}` can be anything, as `{text}` is {rest}", hint=f"pass it by name: `{step.size}=…`")
        what = f"extent {extent} of `{step.array}` in dimension {step.dim + 1} is not `{text}` for any size `{step.size}`"
        raise ArgumentError(what, _param(self.kernel, step.array).span, f"`{step.array}` is `{type_text(_param(self.kernel, step.array))}`")

    def _disagreement(self, array: str, dim: int, values: Mapping[str, Any], known: Mapping[str, int], plan: Solution) -> ArgumentError:
        """An extent that is not what the sizes say, with the array that gave the first of them that is not given by name."""
        p = _param(self.kernel, array)
        extent = p.type.shape[dim]
        what = f"`{array}` has extent {values[array].shape[dim]} in dimension {dim + 1}, but `{_extent_text(self.kernel, array, dim)}` is "
        what += str(integer_function(extent)(known))
        names = [x.name for x in subtrees(extent) if isinstance(x, SizeRef)]
        source = next((s for s in plan.steps if s.size in names), None)
        if source is None:
            what += ", given by name" if names else ""
        else:
            what += f", as `{source.array}` has extent {values[source.array].shape[source.dim]} in dimension {source.dim + 1}"
        return ArgumentError(what, p.span, f"`{array}` is `{type_text(p)}`")


_CACHE: OrderedDict[int, Binding] = OrderedDict()


def binding(kernel: Kernel) -> Binding:
    """The kernel's Binding, made at its first use."""
    known = _CACHE.get(id(kernel))
    if known is None or known.kernel is not kernel:
        known = _CACHE[id(kernel)] = Binding(kernel)
        if len(_CACHE) > MAX_CACHED:
            _CACHE.popitem(last=False)
    return known


def bind(kernel: Kernel, args: Sequence[object], kwargs: Mapping[str, object], *, allocate: bool = False) -> Bound:
    """One call of a kernel, bound; raises an ArgumentError where the arguments do not fit. See `Binding`."""
    return binding(kernel)(args, kwargs, allocate=allocate)


def _slot(p: Param) -> _Slot:
    extents = tuple(e.name if isinstance(e, SizeRef) else None for e in p.type.shape)
    return _Slot(p, p.name, p.type.dtype.numpy, p.type.rank, p.type.layout == "cols", p.type.layout == "any", extents)


def _shape(name: str, extents: tuple[Value, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an output; raises an ArgumentError where an extent cannot be one."""
    shape = tuple(extent(sizes) for extent in extents)
    for extent in shape:
        if extent < 0:
            raise ArgumentError(f"output `{name}` would have the extent {extent}", hint="the inputs are too small for it")
        if extent > MAX_SIZE:
            raise ArgumentError(
                f"output `{name}` would have the extent {extent}, beyond the greatest size, {MAX_SIZE}", hint="pass smaller sizes"
            )
    return shape


def _new(p: Param, shape: tuple[int, ...]) -> Array:
    return np.empty(shape, p.type.dtype.numpy, "F" if p.type.layout == "cols" else "C")


def _param(kernel: Kernel, name: str) -> Param:
    return next(p for p in kernel.params if p.name == name)


def _extent_text(kernel: Kernel, array: str, dim: int) -> str:
    from kernel_ir.printer import expr_text

    return expr_text(_param(kernel, array).type.shape[dim])


def _count(n: int, noun: str) -> str:
    return f"{n or 'no'} {noun}{'' if n == 1 else 's'}"


def _near(name: str, names: Sequence[str]) -> str | None:
    found = get_close_matches(name, names, 1)
    return f"did you mean `{found[0]}`?" if found else None


def _signature(b: Binding) -> str:
    parts = [*(p.name for p in b.kernel.params), *(f"{n}=…" for n in b.open_sizes)]
    return f"call it as `{b.kernel.name}({', '.join(parts)})`"

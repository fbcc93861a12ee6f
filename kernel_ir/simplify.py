"""Turns failing inputs into smaller and simpler ones that still fail: extents first, then whole arrays, then single elements."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from kernel_ir import meaning
from kernel_ir.dtypes import DType, reads_as
from kernel_ir.inputs import Inputs, holds, with_values
from kernel_ir.nodes import Kernel
from kernel_ir.number_system import Array
from kernel_ir.sizes import number

TRIES: Final = 400
"""Most inputs tried: bounds the time of a report."""
ELEMENTS: Final = 48
"""Arrays of more elements are simplified as a whole only."""


def simplified(kernels: Sequence[Kernel], drawn: Inputs, fails: Callable[[Inputs], bool]) -> Inputs:
    """The simplest inputs found that satisfy the facts of the kernels and still fail. Deterministic."""
    left = TRIES

    def keeps(tried: Inputs) -> bool:
        nonlocal left
        left -= 1
        return holds(kernels, tried) and fails(tried)

    best = drawn
    progress = True
    while progress and left > 0:
        progress = False
        for step in (_smaller, _plainer, _single):
            again = True
            while again and left > 0:
                again = False
                for tried in step(kernels[0], best):
                    if left <= 0:
                        break
                    if keeps(tried):
                        best, again, progress = tried, True, True
                        break
    return best


def _smaller(kernel: Kernel, drawn: Inputs) -> Iterator[Inputs]:
    """Each extent lowered, arrays cropped from their ends or their starts."""
    for name, extent in drawn.sizes.items():
        for lower in dict.fromkeys((1, 2, extent // 2, extent - 1)):
            if 0 < lower < extent:
                for tail in (False, True):
                    tried = _cropped(kernel, drawn, {**drawn.sizes, name: lower}, tail)
                    if tried is not None:
                        yield tried


def _cropped(kernel: Kernel, drawn: Inputs, sizes: dict[str, int], tail: bool) -> Inputs | None:
    env = sizes | {p.name: int(drawn.values[p.name]) for p in kernel.params if p.type.rank == 0 and p.type.dtype.is_int}
    if any(number(e, env) < 0 for p in (*kernel.params, *kernel.outputs) for e in p.type.shape):
        return None
    values: dict[str, Any] = {}
    for p in kernel.params:
        shape = [number(e, env) for e in p.type.shape]
        value = np.asarray(drawn.values[p.name])
        if any(new > old for new, old in zip(shape, value.shape, strict=True)):
            return None
        values[p.name] = value[tuple(slice(old - new, None) if tail else slice(new) for new, old in zip(shape, value.shape, strict=True))][
            ()
        ]
    return replace(drawn, values=values, sizes=sizes)


def _plainer(kernel: Kernel, drawn: Inputs) -> Iterator[Inputs]:
    """Each array, or scalar, all zero, all one, or in whole numbers."""
    for p in kernel.params:
        value = np.asarray(drawn.values[p.name])
        plain = meaning.read(value, p.type.dtype)
        for other in (np.zeros_like(plain), np.ones_like(plain), *_rounded(plain)):
            if _simpler(other, plain):
                yield with_values(drawn, p.name, meaning.store(other, p.type.dtype)[()])
    if set(drawn.layouts.values()) - {"rows"}:
        yield replace(drawn, layouts={})


def _single(kernel: Kernel, drawn: Inputs) -> Iterator[Inputs]:
    """Each element by itself."""
    for p in kernel.params:
        value = np.asarray(drawn.values[p.name])
        if not 0 < value.size <= ELEMENTS or p.type.rank == 0:
            continue
        plain = meaning.read(value, p.type.dtype)
        for at in np.ndindex(value.shape):
            for other in _element(plain[at], reads_as(p.type.dtype)):
                tried = plain.copy()
                tried[at] = other
                if _simpler(tried, plain):
                    yield with_values(drawn, p.name, meaning.store(tried, p.type.dtype))


def _element(value: Any, dtype: DType) -> list[Any]:
    number = dtype.numpy.type
    return [number(0), number(1), *(a[()] for a in _rounded(np.asarray(value)))]


def _rounded(plain: Array) -> list[Array]:
    """The array at fewer significant digits: none, one or two behind the point; powers of ten for large numbers."""
    if plain.dtype.kind != "f":
        return []
    with np.errstate(all="ignore"):
        coarse = 10.0 ** np.floor(np.log10(np.maximum(np.abs(plain).astype(np.float64), 1e-300)))
        leading = (np.sign(plain) * coarse).astype(plain.dtype)
        return [np.rint(plain), np.round(plain, 1), np.where(np.isfinite(plain) & (plain != 0), leading, plain)]


def _simpler(a: Array, b: Array) -> bool:
    """Whether `a` is written in fewer characters than `b`, or the same with smaller numbers: each step must make progress."""
    return _weight(a) < _weight(b)


def _weight(a: Array) -> tuple[int, float]:
    with np.errstate(all="ignore"):
        texts = sum(len(str(v)) + (4 if v != v or v in (float("inf"), float("-inf")) else 0) for v in a.ravel().tolist())
        magnitude = float(np.abs(np.nan_to_num(a.astype(np.float64))).sum())
    return texts, magnitude

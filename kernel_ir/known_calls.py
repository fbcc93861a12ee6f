"""Turns the arguments of a call into the sizes that an earlier call with arguments of the same kinds and shapes had."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from kernel_ir.nodes import Kernel
from kernel_ir.shapes import is_of_sizes

MOST: Final = 256
"""Shapes remembered; when there are more, all are forgotten."""

Shapes = tuple[tuple[int, ...], ...]


class KnownCalls:
    """Calls whose arguments are as the code takes them, by their shapes: what a binding found out about one holds for all like it."""

    def __init__(self, kernel: Kernel) -> None:
        self._slots = tuple(
            (p.type.dtype.numpy, p.type.rank, p.type.layout == "cols") if p.type.rank else (p.type.dtype.numpy.type, 0, False)
            for p in kernel.params
        )
        self._sizes: dict[Shapes, dict[str, int]] = {}

    def shapes(self, args: Sequence[Any]) -> Shapes | None:
        """The shapes of arrays that need no copy, beside scalars that need no conversion; None for any other arguments."""
        if len(args) != len(self._slots):
            return None
        found: list[tuple[int, ...]] = []
        for (kind, rank, columns), argument in zip(self._slots, args, strict=True):
            if not rank:
                if type(argument) is not kind:
                    return None
                continue
            if type(argument) is not np.ndarray or argument.dtype != kind:
                return None
            flags = argument.flags
            if not (flags.f_contiguous if columns else flags.c_contiguous) or not flags.aligned or argument.ndim != rank:
                return None
            found.append(argument.shape)
        return tuple(found)

    def sizes(self, shapes: Shapes) -> dict[str, int] | None:
        """The sizes to pass by name in a call with arrays of these shapes, if there was one."""
        return self._sizes.get(shapes)

    def learn(self, shapes: Shapes, sizes: dict[str, int]) -> None:
        """Remembers a call that was bound without an error."""
        if len(self._sizes) >= MOST:
            self._sizes.clear()
        self._sizes[shapes] = sizes


def known_calls(kernel: Kernel) -> KnownCalls | None:
    """None where each call must be looked at anew: arrays written in place may overlap, facts may ask for what arrays hold."""
    plain = not any(p.inout or p.type.layout == "any" or p.type.dtype.name == "bf16" for p in kernel.params)
    return KnownCalls(kernel) if plain and all(map(is_of_sizes, (*kernel.facts, *kernel.implied))) else None

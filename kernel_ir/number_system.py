"""What the interpreter asks of a number system: how values of each dtype are kept, computed, reduced and stored."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from kernel_ir.dtypes import DType
from kernel_ir.nodes import AssignOp, Call, Reduce

Array = np.ndarray[Any, np.dtype[Any]]
Value = tuple[Array, ...]
"""Arrays that travel together: the value itself first."""


class Accumulator(Protocol):
    """Collects the terms of one accumulating statement."""

    def add(self, index: tuple[Array, ...], value: Value) -> None:
        """Joins `value[n]` to the element at `index[0][n], index[1][n], …`, duplicates included."""
        ...

    def finish(self) -> Value:
        """The target's new stored value."""
        ...


class Numbers(Protocol):
    """A number system: how values of each dtype are kept and computed. The first array of a value is the value itself."""

    def exact(self, array: Array, dtype: DType) -> Value:
        """The value that is exactly `array`, of an arithmetic dtype."""
        ...

    def read(self, stored: Value, dtype: DType) -> Value:
        """What a read gives of elements stored as `dtype`."""
        ...

    def store(self, value: Value, dtype: DType) -> Value:
        """`value` rounded or wrapped for storage as `dtype`."""
        ...

    def call(self, e: Call, args: Sequence[Value]) -> Value:
        """An op of the op table, `select` included."""
        ...

    def reduce(self, e: Reduce, bodies: Sequence[Value], mask: Array | None, axes: tuple[int, ...]) -> Value:
        """The reduction over `axes` (kept with extent 1) of bodies broadcast along them; argmax gives the flat position."""
        ...

    def uncertain(self, value: Value) -> Array | None:
        """Where a value used as an index or a condition is not known for sure; None for nowhere."""
        ...

    def doubt(self, value: Value, where: Array) -> Value:
        """`value`, not known any more where `where` holds."""
        ...

    def accumulator(self, target: Value, op: AssignOp, dtype: DType) -> Accumulator:
        """An accumulator that starts from the stored `target`."""
        ...

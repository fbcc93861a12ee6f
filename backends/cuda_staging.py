"""Turns an operand of a row tile into numba.cuda source that brings it to shared memory, at once or by way of registers.

What a thread has of its parts' places is computed once: a part adds constants. Zeros stand beyond the ends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from backends.cuda_expr import STORED, Expressions, constant
from backends.cuda_lines import WARP
from extract.rows_staged import Operand, share, wide_operand
from kernel_ir.nodes import const


@dataclass
class Staging:
    """The source of one operand; `at` says which part: the first term and item, and their ends."""

    shared: str
    side: str
    operand: Operand
    threads: int
    wide: bool
    e: Expressions
    terms: tuple[str, str] = ("", "")
    items: tuple[str, str] = ("", "")
    more: str = ""
    held: dict[str, int] = field(default_factory=dict[str, int])
    """The arrays of registers that what has been printed needs, and their lengths."""

    def __post_init__(self) -> None:
        found = wide_operand(self.operand, self.e.buffers) if self.wide else None
        width, self.loads = (1, ()) if found is None else (found[0], found[1].loads)
        self.share = share(self.operand, self.threads, {name: b.order for name, b in self.e.buffers.items()}, width)
        self.zero = constant(const(0.0, self.operand.value.dtype))
        self.term, self.item = (self.e.name(b.index) for b, _ in (self.operand.terms, self.operand.items))

    def at(self, terms: tuple[str, str], items: tuple[str, str], more: str = "") -> "Staging":
        """The part from the first of `terms` and `items` on, up to their ends, where `more` holds besides."""
        self.terms, self.items, self.more = terms, items, more
        return self

    def parts(self) -> Iterator[str]:
        """The arrays that loads of 128 bits fill."""
        for array, _ in self.loads:
            yield f"{self._part(array)} = cuda.local.array({self.share.width}, {STORED[self.e.buffers[array].dtype.name]})"

    def brought(self) -> list[str]:
        """The part goes from memory to shared memory; wide loads are all under way before the first is stored."""
        if self.share.width > 1:
            return [*self.loaded(), *self.put()]
        return self._each([f"{self._place()} = {self._value()}"])

    def loaded(self) -> list[str]:
        """The part goes from memory to registers."""
        self.held[f"{self.side}_next"] = self.share.elements
        if self.share.width == 1:
            return self._each([f"{self._register()} = {self._value()}"])
        fast = self.term if self.share.near else self.item
        lines = [f"inside = {self._inside()}", "if inside:"]
        for array, indices in self.loads:
            lines.append(f"    wide_load({self.e.name(array)}, {self.e.place(array, indices)}, {self._part(array)}, {self.share.width})")
        self.e.parts = {(array, indices): f"{self._part(array)}[part]" for array, indices in self.loads}
        text = self.e.text(self.operand.value)
        self.e.parts = {}
        lines.append(f"for part in range({self.share.width}):")
        if re.search(rf"\b{fast}\b", text):
            lines[-1:] = [f"first = {fast}", lines[-1], f"    {fast} = index(first + index(part))"]
        return self._each([*lines, f"    {self._register()} = {text} if inside else {self.zero}"])

    def put(self) -> list[str]:
        """What is in registers goes to shared memory."""
        line = f"{self._place()} = {self._register()}"
        lines = [line] if self.share.width == 1 else [f"for part in range({self.share.width}):", f"    {line}"]
        return self._each(lines, places=False)

    # -- a thread's share

    def _each(self, lines: list[str], places: bool = True) -> list[str]:
        """The lines, for each of the thread's elements, or runs of neighbours; `places`: whether they need the term and the item."""
        s = self.share
        (_, many), (_, items) = self.operand.terms, self.operand.items
        found = list(self._thread())
        if any("place" in line for line in lines):
            found.append(f"place = index(index(term * index({self.operand.stride})) + item)")
        found.append(f"for u in range({s.passes[1]}):")
        if places:
            found.append(f"    {self.item} = index(index({self.items[0]} + item) + index(u * {s.step[1]}))")
        found.append(f"    for v in range({s.passes[0]}):")
        if places:
            found.append(f"        {self.term} = index(index({self.terms[0]} + term) + index(v * {s.step[0]}))")
        if s.step[1] > items or s.step[0] > many:  # more threads than there is to bring
            found.append(f"        if item < index({items}) and term < index({many}):")
            lines = [f"    {line}" for line in lines]
        return [*found, *(f"        {line}" for line in lines)]

    def _thread(self) -> Iterator[str]:
        s = self.share
        if not s.near:
            yield f"item = {_scaled(f'index(thread % index({s.lanes[1]}))', s.width)}"
            yield f"term = index(thread // index({s.lanes[1]}))"
            return
        warp = f"index(thread // index({WARP}))"
        terms, items = s.lanes
        first = _scaled(f"index(thread % index({terms}))", s.width)
        yield f"term = index({first} + index(index({warp} % index({s.over})) * index({terms * s.width})))"
        yield (
            f"item = index(index(index(thread // index({terms})) % index({items}))"
            f" + index(index({warp} // index({s.over})) * index({items})))"
        )

    def _value(self) -> str:
        return f"{self.e.text(self.operand.value)} if {self._inside()} else {self.zero}"

    def _inside(self) -> str:
        more = f" and {self.more}" if self.more else ""
        return f"{self.item} < {self.items[1]} and {self.term} < {self.terms[1]}{more}"

    def _place(self) -> str:
        """The element's place in shared memory."""
        s, stride = self.share, self.operand.stride
        along = "" if s.width == 1 else f" + part * {stride}" if s.near else " + part"
        return f"{self.shared}[index(place + index(u * {s.step[1]} + v * {s.step[0] * stride}{along}))]"

    def _register(self) -> str:
        s = self.share
        number = f"u * {s.passes[0]} + v"
        return f"{self.side}_next[{number if s.width == 1 else f'({number}) * {s.width} + part'}]"

    def _part(self, array: str) -> str:
        return f"{self.e.name(array)}_{self.side}_wide"


def _scaled(text: str, width: int) -> str:
    return text if width == 1 else f"index({text} * index({width}))"

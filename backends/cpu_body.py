"""Turns the nodes inside a launch into statements of its numba function."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backends.cpu_expr import Expressions, constant, numba_type
from backends.cpu_pieces import held
from backends.cpu_stream import prefetch_line, stream_line
from backends.cpu_tile import tile_lines
from backends.cpu_turn import turn_lines
from extract.reductions import over_nothing
from kernel_ir.dtypes import I64, DType
from kernel_ir.nodes import Const, Expr, const
from kernel_ir.plan import (
    Accumulator,
    Combine,
    FoldLoop,
    Leave,
    Let,
    Loop,
    Node,
    Prefetch,
    Store,
    Stream,
    Tile,
    Turn,
    When,
)


@dataclass(slots=True)
class Printer:
    """Lines of one function."""

    lines: list[str] = field(default_factory=list[str])
    depth: int = 1

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text if text else "")


class Body:
    """Prints plan nodes as statements."""

    def __init__(self, e: Expressions, printer: Printer, flags: frozenset[str], private: Mapping[str, int]) -> None:
        """`private`: how many copies a thread has of what it adds to."""
        self.e = e
        self.printer = printer
        self.flags = flags
        self.private = private
        self.dtypes: dict[str, DType] = {}

    def nodes(self, nodes: tuple[Node, ...]) -> None:
        if not nodes:
            self.printer.line("pass")
        for node in nodes:
            self.node(node)

    def node(self, node: Node) -> None:
        e, line = self.e, self.printer.line
        match node:
            case Let():
                line(f"{node.name} = {e.text(node.value)}")
            case Accumulator():
                self._accumulator(node)
            case Combine():
                self._combine(node)
            case Store():
                self._store(node)
            case When():
                line(f"if {e.text(node.condition)}:")
                self._indented(node.body)
                if node.otherwise:
                    line("else:")
                    self._indented(node.otherwise)
            case Loop():
                if isinstance(node.lo, Const) and int(node.lo.value) >= 0:
                    e.from_zero.add(node.index)
                else:
                    e.from_zero.discard(node.index)
                low = "" if node.lo == const(0, I64) and node.step == 1 else f"{e.text(node.lo)}, "
                step = f", {node.step}" if node.step != 1 else ""
                line(f"for {node.index} in range({low}{e.text(node.hi)}{step}):")
                self._indented(node.body)
            case Tile():
                for depth, text in tile_lines(node, e, "contract" in self.flags):
                    self.printer.lines.append("    " * (self.printer.depth + depth) + text)
            case Turn():
                for depth, text in turn_lines(node, e):
                    self.printer.lines.append("    " * (self.printer.depth + depth) + text)
            case Stream():
                line(stream_line(node, e))
            case Prefetch():
                line(prefetch_line(node, e))
            case FoldLoop():
                self._fold(node)
            case Leave():
                line(f"if {e.text(node.condition)}:")
                line("    break")
            case _:
                raise AssertionError(f"no such node on a CPU: {node}")

    def _indented(self, body: tuple[Node, ...]) -> None:
        self.printer.depth += 1
        self.nodes(body)
        self.printer.depth -= 1

    def _accumulator(self, node: Accumulator) -> None:
        self.dtypes[node.name] = node.dtype
        if node.kind in ("argmax", "argmin"):
            nothing = over_nothing(node.kind[3:], node.dtype)
            self.printer.line(f"{node.name}, {node.name}_at = {constant(nothing)}, -1")
            return
        self.printer.line(f"{node.name} = {constant(over_nothing(node.kind, node.dtype))}")

    def _combine(self, node: Combine) -> None:
        name, dtype = node.name, self.dtypes[node.name]
        if node.kind in ("argmax", "argmin"):
            value, index = node.values
            text, word = self.e.text(value), ">" if node.kind == "argmax" else "<"
            self.printer.line(f"{name}_value = {text}")
            nan = f" or ({name}_value != {name}_value and {name} == {name})" if dtype.is_float else ""
            self.printer.line(f"if {name}_value {word} {name} or {name}_at < 0{nan}:")
            self.printer.line(f"    {name}, {name}_at = {name}_value, {self.e.text(index)}")
            return
        self.printer.line(f"{name} = {self._joined(name, node.kind, node.values[0], dtype)}")

    def _joined(self, there: str, kind: str, value: Expr, dtype: DType) -> str:
        text, e = self.e.text(value), self.e
        match kind:
            case "sum" if dtype.is_float:
                return f"{e.helper('add_any_order')}({there}, {text})"
            case "prod" if dtype.is_float:
                return f"{e.helper('mul_any_order')}({there}, {text})"
            case "sum" | "prod":
                whole = f"{there} {'+' if kind == 'sum' else '*'} {e.inner(value)}"
                return f"int32({whole})" if dtype.name == "i32" else whole
            case "max" | "min" if dtype.is_float:
                return f"{e.helper(kind + '_nan')}({there}, {text})"
            case "max" | "min":
                return f"{numba_type(dtype)}({kind}({there}, {text}))"
            case _:
                return f"{there} {'|' if kind == 'any' else '&'} {e.inner(value)}"

    def _store(self, node: Store) -> None:
        e = self.e
        buffer = e.buffers[node.buffer]
        if node.atomic:
            kept = held(buffer.dtype)
            count = self.private[node.buffer]
            copy = "part" if count == 1 else f"{count} * part" if node.way == 0 else f"{count} * part + {node.way}"
            there = f"{node.buffer}[{copy}, {e.subscript(node.buffer, node.indices)}]"
            self.printer.line(f"{there} = {self._joined(there, str(node.kind), node.value, kept)}")
            return
        place = e.element(node.buffer, node.indices)
        if node.kind is not None:
            there = e.reading(place, buffer.dtype)
            self.printer.line(f"{place} = {self._joined(there, node.kind, node.value, buffer.dtype)}")
            return
        self.printer.line(f"{place} = {e.writing(node.value, buffer.dtype)}")

    def _fold(self, node: FoldLoop) -> None:
        e, line = self.e, self.printer.line
        e.from_zero.discard(node.index)
        for c in node.carries:
            line(f"{c.name} = {e.text(c.init)}")
        line(f"for {node.index} in range({e.text(node.lo)}, {e.text(node.hi)}):")
        self.printer.depth += 1
        if node.body:
            self.nodes(node.body)
        if node.condition is not None:
            line(f"if not {e.inner(node.condition)}:")
            line("    break")
        line(f"{', '.join(c.name for c in node.carries)} = {', '.join(e.text(c.update) for c in node.carries)}")
        self.printer.depth -= 1

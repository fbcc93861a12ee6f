"""Accumulators, and the joining of partial results, become numba.cuda source: in one thread, by shuffles, through shared memory."""

from typing import Final

from backends.cuda_expr import TYPES, constant
from backends.cuda_lines import WARP, Lines
from backends.cuda_prelude import helper_name
from extract.reductions import over_nothing
from kernel_ir.dtypes import I32, I64, DType
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Expr, ReduceKind, const
from kernel_ir.plan import Accumulator, Join

_FULL: Final = "0xFFFFFFFF"
_OFFSETS: Final = (16, 8, 4, 2, 1)


class Reductions(Lines):
    """Prints accumulators, what is combined into them, and their joins over a team."""

    accumulators: dict[str, Accumulator]

    def accumulator(self, node: Accumulator) -> None:
        """The start of an accumulator: what nothing reduces to."""
        self.accumulators[node.name] = node
        name = self.e.name(node.name)
        match node.kind:
            case "argmax" | "argmin":
                self.line(f"{name} = {constant(over_nothing(node.kind[3:], node.dtype))}")
                self.line(f"{name}_at = int64(-1)")
            case "expsum":
                self.line(f"{name}_max = {constant(const(float('-inf'), node.dtype))}")
                self.line(f"{name} = {constant(const(0.0, node.dtype))}")
            case _:
                self.line(f"{name} = {constant(over_nothing(node.kind, node.dtype))}")

    def combine(self, name: str, kind: ReduceKind, values: tuple[Expr, ...]) -> None:
        """One term joins the accumulator."""
        dtype = self.accumulators[name].dtype
        name = self.e.name(name)
        match kind:
            case "argmax" | "argmin":
                self.line(f"{name}_next = {self.e.text(values[0])}")
                self.line(f"{name}_next_at = {self.e.signed(values[1])}")
                self._take(name, kind, dtype)
            case "expsum":
                self._running(name, dtype, self.e.text(values[0]), self.e.text(values[1]))
            case _:
                self.line(f"{name} = {self._joined(kind, dtype, name, self.e.text(values[0]))}")

    def join(self, node: Join) -> None:
        """What the team's threads accumulated becomes one result that all of them have."""
        name = self.e.name(node.name)
        if node.kind in ("any", "all"):
            # Shuffles move numbers.
            self.line(f"{name}_bit = int32(1) if {name} else int32(0)")
            self._exchange(node, {f"{name}_bit": I32}, "max" if node.kind == "any" else "min", f"{name}_bit")
            self.line(f"{name} = {name}_bit != int32(0)")
            return
        parts = {name: node.dtype}
        if node.kind in ("argmax", "argmin"):
            parts[f"{name}_at"] = I64
        elif node.kind == "expsum":
            parts = {f"{name}_max": node.dtype, name: node.dtype}
        self._exchange(node, parts, node.kind, name)

    def _joined(self, kind: ReduceKind, dtype: DType, a: str, b: str) -> str:
        """Two partial results as one."""
        match kind:
            case "sum":
                return f"int32({a} + {b})" if dtype is I32 else f"{a} + {b}"
            case "prod":
                if dtype.is_float:
                    return f"libdevice.{'fmul_rn' if dtype.bits == 32 else 'dmul_rn'}({a}, {b})"
                return f"int32({a} * {b})" if dtype is I32 else f"{a} * {b}"
            case "max" | "min":
                if dtype.is_float:
                    return self.e.helper(helper_name("maximum" if kind == "max" else "minimum", TYPES[dtype.name]), a, b)
                return f"{TYPES[dtype.name]}({kind}({a}, {b}))"
            case "any":
                return f"{a} or {b}"
            case "all":
                return f"{a} and {b}"
            case _:
                raise TargetError(f"{kind} is not joined by one operation")

    def _take(self, name: str, kind: ReduceKind, dtype: DType) -> None:
        """Takes `<name>_next` where it is better: greater (or less), the first NaN, or as good and earlier."""
        new, old = f"{name}_next", name
        better = f"{new} {'>' if kind == 'argmax' else '<'} {old}"
        same = f"{new} == {old}"
        if dtype.is_float:
            better = f"({better} or ({new} != {new} and {old} == {old}))"
            same = f"({same} or ({new} != {new} and {old} != {old}))"
        earlier = f"({same} and {new}_at < {old}_at)"
        self.line(f"if {new}_at >= 0 and ({old}_at < 0 or {better} or {earlier}):")
        self.line(f"    {old} = {new}")
        self.line(f"    {old}_at = {new}_at")

    def _running(self, name: str, dtype: DType, s: str, v: str) -> None:
        """One term of a running sum of exponentials (Milakov and Gimelshein 2018): rescales what it has when the maximum grows."""
        zero, one, least_ = (constant(const(x, dtype)) for x in (0.0, 1.0, float("-inf")))
        multiply = "libdevice.fmul_rn" if dtype.bits == 32 else "libdevice.dmul_rn"
        self.line(f"{name}_next = {s}")
        self.line(f"{name}_top = {self._joined('max', dtype, f'{name}_max', f'{name}_next')}")
        self.line(f"{name}_scale = math.exp({name}_max - {name}_top) if {name}_max != {name}_top else {one}")
        self.line(f"{name}_weight = math.exp({name}_next - {name}_top) if {name}_top != {least_} else {zero}")
        self.line(f"{name} = {multiply}({name}, {name}_scale) + {multiply}({name}_weight, {v})")
        self.line(f"{name}_max = {name}_top")

    def _exchange(self, node: Join, parts: dict[str, DType], kind: ReduceKind, name: str) -> None:
        """A butterfly in each warp, then the warps' results through shared memory."""
        dtype = node.dtype if kind not in ("max", "min") else next(iter(parts.values()))
        for offset in _OFFSETS:
            self._receive({part: f"cuda.shfl_xor_sync({_FULL}, {part}, {offset})" for part in parts}, kind, dtype, name)
        if node.scope == "warp":
            return
        warps = self.launch.threads // WARP
        if warps == 1:
            return
        for part, held in parts.items():
            self.shared.append(f"{part}_shared = cuda.shared.array({warps}, {TYPES[held.name]})")
        self.line("if thread % index(32) == index(0):")
        for part in parts:
            self.line(f"    {part}_shared[index(thread // index(32))] = {part}")
        self.line("cuda.syncthreads()")
        for part in parts:
            self.line(f"{part} = {part}_shared[0]")
        self.line("other = index(1)")
        self.line(f"while other < index({warps}):")
        self.depth += 1
        self._receive({part: f"{part}_shared[other]" for part in parts}, kind, dtype, name)
        self.line("other = index(other + index(1))")
        self.depth -= 1
        if self.looped:
            self.line("cuda.syncthreads()")

    def _receive(self, sent: dict[str, str], kind: ReduceKind, dtype: DType, name: str) -> None:
        """Joins another thread's partial result, given as the text that reads each of its parts."""
        match kind:
            case "argmax" | "argmin":
                self.line(f"{name}_next = {sent[name]}")
                self.line(f"{name}_next_at = {sent[f'{name}_at']}")
                self._take(name, kind, dtype)
            case "expsum":
                one = constant(const(1.0, dtype))
                multiply = "libdevice.fmul_rn" if dtype.bits == 32 else "libdevice.dmul_rn"
                self.line(f"{name}_next = {sent[f'{name}_max']}")
                self.line(f"{name}_part = {sent[name]}")
                self.line(f"{name}_top = {self._joined('max', dtype, f'{name}_max', f'{name}_next')}")
                self.line(f"{name}_scale = math.exp({name}_max - {name}_top) if {name}_max != {name}_top else {one}")
                self.line(f"{name}_weight = math.exp({name}_next - {name}_top) if {name}_next != {name}_top else {one}")
                self.line(f"{name} = {multiply}({name}, {name}_scale) + {multiply}({name}_weight, {name}_part)")
                self.line(f"{name}_max = {name}_top")
            case _:
                (text,) = sent.values()
                self.line(f"{name} = {self._joined(kind, dtype, name, text)}")

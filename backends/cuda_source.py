"""A plan for a GPU becomes a Python module for numba.cuda: readable, standalone, correct without fused multiply-add.

`kernels(index)` makes the launches' kernels for 32-bit or 64-bit indices, `launch` runs them in order on arrays that exist, and the
function named as the kernel takes NumPy arrays, or anything on the device, and allocates the outputs.
"""

import re
from dataclasses import dataclass
from typing import Final

from backends.cuda_expr import STORED, TYPES, Expressions
from backends.cuda_lines import WARP, grid_of
from backends.cuda_nodes import KernelBody
from backends.cuda_prelude import ALIGNED, NOALIAS, WIDE, prelude
from backends.host import host_text, parameter_texts, result_name, scalar_text, size_lines, stored_type, tuple_text, turned, turned_back
from backends.wrapping import WRAPS, wraps
from extract.schedule_cuda import RESERVED
from extract.wide_cuda import takes_rest
from kernel_ir.dtypes import reads_as
from kernel_ir.nodes import Const, Expr, Kernel, SizeRef
from kernel_ir.plan import Buffer, Guard, Launch, LoopKind, Plan, RepeatLaunch, Step
from kernel_ir.shapes import open_sizes, optional_sizes

_NARROW_LIMIT: Final = "2**31"
_DEVICE: Final = '''def on_device(array):
    """The array on the device, C-ordered: itself if it is there already (CUDA array interface or DLPack), else a copy."""
    if not isinstance(array, np.ndarray):
        if hasattr(array, "__cuda_array_interface__"):
            return cuda.as_cuda_array(array)
        if hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == 2:
            from cuda.core.utils import StridedMemoryView

            return cuda.as_cuda_array(Interface(StridedMemoryView(array, stream_ptr=-1)))
        array = np.asarray(array)
    if array.dtype.kind == "V":  # bfloat16 of ml_dtypes: its bits
        array = array.view(np.uint16)
    return to_device(np.ascontiguousarray(array))


class Interface:
    """The CUDA array interface of memory that came by DLPack."""

    def __init__(self, view):
        shape, itemsize = tuple(view.shape), view.dtype.itemsize
        strides = None if view.strides is None else tuple(s * itemsize for s in view.strides)
        self.__cuda_array_interface__ = {
            "shape": shape, "strides": strides, "typestr": np.dtype(view.dtype).str, "data": (view.ptr, view.readonly), "version": 3,
        }
        self.owner = view
'''


@dataclass(frozen=True, slots=True)
class Emitted:
    """The module's text, and for each kernel in it the numba signature with 32-bit indices ("void(float32[::1], uint32)")."""

    source: str
    signatures: dict[str, str]


def cuda_source(plan: Plan) -> Emitted:
    """The module of a plan: the same plan gives the same bytes."""
    return _Module(plan).emitted()


@dataclass(frozen=True, slots=True)
class _Kernel:
    """One kernel function: its text, its arguments as `launch` passes them, and the text of its number of points."""

    name: str
    threads: int
    text: list[str]
    call: str
    points: str
    signature: str


class _Module:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kernel = plan.kernel
        self.buffers: dict[str, Buffer] = {b.name: b for b in plan.buffers}
        self.names = _identifiers(plan)
        self.contract = "contract" in plan.fast_math
        self.noalias = not any(p.inout for p in self.kernel.params)
        self.helpers: set[str] = set()
        self.bounds: dict[str, None] = {}
        self.bits: set[str] = set()
        self.kernels: list[_Kernel] = []

    def emitted(self) -> Emitted:
        calls = self._steps(self.plan.steps, ())
        names = [k.name for k in self.kernels]
        made = ", ".join(f"cuda.jit({k.name}, launch_bounds={k.threads}, lto=False)" for k in self.kernels)
        lines = [line for k in self.kernels for line in (*k.text, "")]
        factory = [
            "def kernels(index):",
            '    """The kernels, with sizes and positions of the unsigned integer type `index`."""',
            "",
            *(f"    {line}" if line else "" for line in lines),
            f"    return ({made},)",
        ]
        launch = self._launch(calls, names)
        entry = self._entry()
        body = "\n".join([*factory, "", "", "narrow, wide = kernels(uint32), kernels(uint64)", "", "", *launch, "", "", *entry, ""])
        helpers = prelude(frozenset(self.helpers))
        parts = [NOALIAS] if self.noalias else []
        words = {"wraps(": WRAPS, "wide_load(": WIDE, "wide_store(": WIDE, "aligned(": ALIGNED}
        parts += [text for word, text in words.items() if word in body]
        parts = list(dict.fromkeys(parts))
        if helpers:
            parts.append(helpers)
        body = "\n\n".join([*parts, _DEVICE + "\n\n" + body])
        return Emitted(_header(self.kernel, body), {k.name: k.signature for k in self.kernels})

    # -- launches

    def _steps(self, steps: tuple[Step, ...], rounds: tuple[str, ...]) -> list[str]:
        lines: list[str] = []
        for step in steps:
            match step:
                case Launch():
                    lines += self._guarded(step, rounds)
                case RepeatLaunch():
                    index = self._name(step.index) if step.index else "_"
                    inner = (*rounds, *(() if step.index is None else (step.index,)))
                    lines.append(f"for {index} in range({self._host(step.steps)}):")
                    lines += [f"    {line}" for line in self._steps(step.body, inner)]
        return lines

    def _guarded(self, launch: Launch, rounds: tuple[str, ...]) -> list[str]:
        """The launch where its guard holds, what it names otherwise where not."""
        holds = [] if launch.guard is None else self._conditions(launch.guard)
        if launch.otherwise is None or not holds:
            return self._start(launch, rounds)
        first, other = self._start(launch, rounds), self._guarded(launch.otherwise, rounds)
        return [f"if {' and '.join(holds)}:", *(f"    {line}" for line in first), "else:", *(f"    {line}" for line in other)]

    def _conditions(self, guard: Guard) -> list[str]:
        texts = [f"{self._host(e)} % {n} == 0" for e, n in guard.multiples]
        texts += [f"{self._host(e)} <= {n}" for e, n in guard.at_most]
        arrays = [self._name(name) for name in guard.aligned if self.buffers[name].space in ("argument", "output")]
        return texts + ([f"aligned({', '.join(arrays)})"] if arrays else [])

    def _start(self, launch: Launch, rounds: tuple[str, ...]) -> list[str]:
        made = self._kernel(launch, rounds)
        self.kernels.append(made)
        grid = grid_of(launch)
        step, blocks, threads = grid.loops[-1].step, "points", launch.threads
        per_block = {LoopKind.GRID: threads, LoopKind.BLOCK: 1}.get(grid.kind, threads // WARP)
        if step > 1 and takes_rest(grid.loops, self.buffers):
            blocks = f"(points // {step} + points % {step} + {per_block - 1}) // {per_block}"
        elif per_block > 1:
            blocks = f"(points + {per_block - 1}) // {per_block}"
        return [f"points = {made.points}", "if points:", f"    {made.name}[{blocks}, {threads}]({made.call})"]

    def _kernel(self, launch: Launch, rounds: tuple[str, ...]) -> _Kernel:
        expressions = Expressions(self.buffers, self.contract, self.names)
        expressions.wide |= set(rounds)
        body = KernelBody(launch, expressions)
        lines = body.text()
        self.helpers |= expressions.helpers
        self.bounds |= {_bare(self._host(bound)): None for bound in expressions.bounds}
        self.bits |= body.bits
        used = frozenset(re.findall(r"\w+", "\n".join(lines)))
        parameters: list[str] = []
        arguments: list[str] = []
        kinds: list[str] = []
        for name, argument, kind in self._candidates(rounds):
            if name in used:
                parameters.append(name)
                arguments.append(argument)
                kinds.append(kind)
        name = self._unique(f"{self._name(self.kernel.name)}_{launch.name}{'_guarded' if launch.guard else ''}")
        head = ["    noalias()"] if self.noalias and any(k.endswith("]") for k in kinds) else []
        head += ["    wraps()"] if wraps(launch) else []
        text = [f"def {name}({', '.join(parameters)}):", *head, *lines]
        grid = grid_of(launch)
        extents = [self._extent(loop.lo, loop.hi) for loop in grid.loops]
        if grid.loops[-1].step > 1 and not takes_rest(grid.loops, self.buffers):
            extents[-1] = f"({extents[-1]}) // {grid.loops[-1].step}" if len(extents) == 1 else f"({extents[-1]} // {grid.loops[-1].step})"
        points = " * ".join(extents)
        self.bounds |= {points: None}
        return _Kernel(name, launch.threads, text, ", ".join(arguments), points, f"void({', '.join(kinds)})")

    def _candidates(self, rounds: tuple[str, ...]) -> list[tuple[str, str, str]]:
        """What a kernel may take, in order: (name inside, text at the call, numba type)."""
        found: list[tuple[str, str, str]] = []
        for b in self.buffers.values():
            name = self._name(b.name)
            found.append((name, name, f"{STORED[b.dtype.name]}[::1]"))
            if b.name in self.bits:
                found.append((f"{name}_bits", f"{name}.view(np.int{b.dtype.bits})", f"int{b.dtype.bits}[::1]"))
        for p in self.kernel.params:
            if p.name not in self.buffers:
                name = self._name(p.name)
                found.append((name, name, TYPES[reads_as(p.type.dtype).name]))
        found += [(self._name(r), f"np.int64({self._name(r)})", "int64") for r in rounds]
        found += [(self._name(s), f"index({self._name(s)})", "uint32") for s in self.kernel.sizes]
        return [*found, ("points", "index(points)", "uint32")]

    def _extent(self, lo: Expr, hi: Expr) -> str:
        if isinstance(hi, SizeRef | Const) and isinstance(lo, Const) and lo.value == 0:
            return self._host(hi)
        if isinstance(lo, Const) and lo.value == 0:
            return f"max(0, {self._host(hi)})"
        return f"max(0, {self._host(hi)} - {self._host(lo)})"

    def _unique(self, name: str) -> str:
        taken = {k.name for k in self.kernels}
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}{number}"
        return candidate

    def _name(self, name: str) -> str:
        return self.names.get(name, name)

    # -- the host's side

    def _launch(self, calls: list[str], names: list[str]) -> list[str]:
        parameters = [self._name(p.name) for p in (*self.kernel.params, *self.kernel.outputs)]
        parameters += [self._name(s) for s in self.kernel.sizes]
        lines = [
            f"def launch({', '.join(parameters)}):",
            '    """Runs the kernels on device arrays that exist, in memory order; allocates only temporaries, checks nothing."""',
        ]
        for p in self.kernel.params:
            if p.name not in self.buffers:
                name = self._name(p.name)
                lines.append(f"    {name} = {scalar_text(name, p.type.dtype)}")
        products: dict[str, None] = {}
        for b in self.buffers.values():
            name = self._name(b.name)
            shape = [self._host(n) for n in b.shape]
            if b.space == "global":
                # At least one element: some allocators refuse none.
                lines.append(f"    {name} = device_array(max(1, {' * '.join(_factor(s) for s in shape) or '1'}), {stored_type(b.dtype)})")
            else:
                lines.append(f"    {name} = {name}.reshape(-1)")
            if shape:
                products[" * ".join(_factor(s) for s in shape)] = None
        bounds = [b for b in dict.fromkeys([*products, *self.bounds]) if not b.isdigit()]
        largest = f"max({', '.join(bounds)})" if len(bounds) > 1 else (bounds or ["0"])[0]
        kernels = f"({', '.join(names)},)" if len(names) == 1 else f"({', '.join(names)})"
        lines.append(f"    index, {kernels} = (np.uint32, narrow) if {largest} < {_NARROW_LIMIT} else (np.uint64, wide)")
        return lines + [f"    {line}" for line in calls]

    def _entry(self) -> list[str]:
        kernel = self.kernel
        groups = ([p.name for p in kernel.params], open_sizes(kernel), optional_sizes(kernel))
        parameters = parameter_texts(*([self._name(name) for name in group] for group in groups))
        lines = [f"def {self._name(kernel.name)}({', '.join(parameters)}):"]
        arrays = [p for p in kernel.params if p.name in self.buffers]
        names = ", ".join(self._name(p.name) for p in arrays) + ("," if len(arrays) == 1 else "")
        host = f"all(isinstance(array, np.ndarray) for array in ({names}))" if arrays else "True"
        lines.append('    """NumPy arrays give NumPy arrays; with an array on the device, the results stay there."""')
        lines.append(f"    host = {host}")
        lines += [f"    {line}" for line in size_lines(kernel, self._name)]
        arguments = [self._name(p.name) for p in kernel.params]
        for p in arrays:
            name = self._name(p.name)
            source = turned(name, self.buffers[p.name].order)
            if p.inout:
                arguments[arguments.index(name)] = f"{name}_device"
                lines.append(f"    {name}_device = on_device({source})")
            else:
                lines.append(f"    {name} = on_device({source})")
        for p in kernel.outputs:
            buffer = self.buffers[p.name]
            shape = tuple_text([self._host(p.type.shape[d]) for d in buffer.order])
            lines.append(f"    {self._name(p.name)} = device_array({shape}, {stored_type(buffer.dtype)})")
            arguments.append(self._name(p.name))
        lines.append(f"    launch({', '.join([*arguments, *(self._name(s) for s in kernel.sizes)])})")
        return [*lines, *self._results()]

    def _results(self) -> list[str]:
        lines: list[str] = []
        inout = [p for p in self.kernel.params if p.inout and p.name in self.buffers]
        for p in inout:
            name = self._name(p.name)
            back = turned_back(f"{name}_device.copy_to_host()", self.buffers[p.name].order)
            lines += [f"    if isinstance({name}, np.ndarray):", f"        {name}[...] = {back}"]
        outputs = [self._name(p.name) for p in self.kernel.outputs]
        if not outputs:
            return lines
        orders = [self.buffers[p.name].order for p in self.kernel.outputs]
        copies = [turned_back(f"{name}.copy_to_host()", order) for name, order in zip(outputs, orders, strict=True)]
        lines.append("    if host:")
        lines += [f"        {name} = {copy}" for name, copy in zip(outputs, copies, strict=True)]
        if len(outputs) == 1:
            return [*lines, f"    return {outputs[0]}"]
        result = result_name(self.kernel)
        lines.append(f'    return namedtuple("{result}", "{" ".join(outputs)}")({", ".join(outputs)})')
        return lines

    def _host(self, e: Expr) -> str:
        return host_text(e, self._name)


def _factor(text: str) -> str:
    return text if text.isidentifier() or text.isdigit() or text.startswith(("(", "min(", "max(")) else f"({text})"


def _bare(text: str) -> str:
    """The text without parentheses around the whole."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and position < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") else text


def _identifiers(plan: Plan) -> dict[str, str]:
    """Python names of the kernel's own names that the generated source cannot use as they are."""
    own = [plan.kernel.name, *(b.name for b in plan.buffers), *(p.name for p in plan.kernel.params), *plan.kernel.sizes]
    taken = set(own) | RESERVED
    names: dict[str, str] = {}
    for name in dict.fromkeys(own):
        if name in RESERVED or name in ("on_device", "to_device", "device_array", "aligned", "Interface", "namedtuple", "host"):
            candidate = f"{name}_"
            while candidate in taken:
                candidate += "_"
            taken.add(candidate)
            names[name] = candidate
    return names


def _header(kernel: Kernel, body: str) -> str:
    """The module's first lines: only the imports that the body needs."""
    used = frozenset(re.findall(r"\w+", body))
    numba = [
        t
        for t in (
            "boolean",
            "cuda",
            "float32",
            "float64",
            "int8",
            "int16",
            "int32",
            "int64",
            "types",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
        )
        if t in used
    ]
    lines = [f'"""{kernel.name} on a GPU with numba.cuda."""', ""]
    lines += ["import math"] if "math" in used else []
    lines += ["from collections import namedtuple"] if "namedtuple" in used else []
    lines += [
        "",
        *(["from llvmlite import ir"] if "ir" in used else []),
        "import numpy as np",
        f"from numba import {', '.join(numba)}",
        "from numba.cuda import device_array, to_device",
    ]
    lines += ["from numba.cuda import libdevice"] if "libdevice" in used else []
    lines += ["from numba.cuda.extending import intrinsic"] if "intrinsic" in used else []
    lines += ["from numba.cuda.types import float16"] if "float16" in re.findall(r"(?<!\.)\b\w+\b", body) else []
    return "\n".join(lines) + "\n\n\n" + body

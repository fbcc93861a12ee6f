"""Turns a CPU plan into a Python module for numba: readable, standalone, parallel over threads, each loop in the shape LLVM vectorises.

The module has, for each launch, `<name>_part` (serial: the share of one thread) and `<name>` (shares out the work); `launch` runs
them all on arrays that exist; the function named as the kernel allocates the outputs. Arrays reach `launch` in memory order.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from backends.cpu_body import Body, Printer
from backends.cpu_entry import FRESH, entry_text
from backends.cpu_expr import Expressions, constant, numba_type
from backends.cpu_names import usable
from backends.cpu_patch import fits, patch_lines
from backends.cpu_pieces import (
    alloc_text,
    array_kind,
    extent_text,
    held,
    numpy_name,
    offset,
    overlaps,
    product_text,
    stored_text,
    work_text,
)
from backends.cpu_skew import skewed_text
from backends.host import host_text, scalar_text
from backends.vector_math import helper_text
from backends.wrapping import wraps
from extract.fuse import expressions_of, walk
from extract.launches import SERIAL_BELOW, peeled, product_of
from extract.patch import nest_of
from extract.reductions import over_nothing
from extract.rows import ROWS
from extract.sweeps import Sweeps, computes, rows_at_once, sweeps, swept
from kernel_ir.dtypes import I64
from kernel_ir.layout import packed, unpacked
from kernel_ir.nodes import Expr, IndexRef, Load, ParamRef, SizeRef, const
from kernel_ir.plan import (
    Alloc,
    Buffer,
    FoldLoop,
    Launch,
    Loop,
    Node,
    Plan,
    Prefetch,
    RepeatLaunch,
    Step,
    Store,
    Stream,
    Tile,
    Turn,
)
from kernel_ir.walk import subtrees

LLVM_FLAGS: Final = ("contract", "nsz")
"""Flags that LLVM gets when the user gave them. Not reassoc, arcp and afn: what they license is the e-graph's to choose, and a second,
unseen rewriting could overflow where the chosen form does not (`x * w * rsqrt(v)` regrouped as `(w * x) * …`). Never nnan and ninf:
they make NaN and infinity undefined, not merely ignored."""


def cpu_source(plan: Plan) -> str:
    """The module's text: the same plan gives the same bytes."""
    return _Module(plan).text()


class _Module:
    def __init__(self, plan: Plan) -> None:
        plan, names = usable(plan)
        self.given = {new: old for old, new in names.items()}
        self.plan = plan
        self.kernel = plan.kernel
        self.buffers: dict[str, Buffer] = {b.name: b for b in plan.buffers}
        self.flags = frozenset(f for f in LLVM_FLAGS if f in plan.fast_math)
        self.used: set[str] = {"restrict"}
        self.functions: list[str] = []
        self.codes: list[str] = []
        """The functions that are called where their machine code is."""

    def text(self) -> str:
        names: dict[str, None] = {}
        steps = self._steps(self.plan.steps, names, self._needs_python(self.plan.steps))
        laid = {one.name: one.layout for one in self.plan.layouts if not one.layout.plain}
        entry = entry_text(self.kernel, self.buffers, self.given, layouts=laid)
        launch = self._launch(steps)
        fast = "{" + ", ".join(repr(f) for f in sorted(self.flags)) + "}" if self.flags else "False"
        kept = [FRESH] if "= fresh(" in launch + entry else []
        fresh = bool(kept)
        kept += [_plain(f) for f in (packed, unpacked) if f" {f.__name__}(" in entry]
        body = "\n\n".join([*kept, helper_text(frozenset(self.used), self.flags), *self.functions, launch, entry])
        head = f'"""{self.kernel.name} on the CPU with numba."""\n\n{_imports(body)}\n'
        lock = "LOCK = Lock()\n" if fresh else ""
        return f'{head}CACHE = "__file__" in globals()\nFAST = {fast}\n{lock}\n\n{body}'

    # -- launches

    def _needs_python(self, steps: tuple[Step, ...]) -> bool:
        return any(self._needs_python(s.body) if isinstance(s, RepeatLaunch) else product_of(s) is not None for s in steps)

    def _steps(self, steps: tuple[Step, ...], names: dict[str, None], python: bool) -> list[str]:
        """Calls of the steps, in order; what they pass is added to `names`."""
        calls: list[str] = []
        done: Step | None = None
        for step, after in zip(steps, (*steps[1:], None), strict=True):
            if step is done:
                continue
            both = sweeps(step, after, self.buffers) if after is not None else None
            if both is not None:
                done = after
                calls.append(self._swept(both, "2", names))
                continue
            match step:
                case RepeatLaunch():
                    calls += self._repeat(step, names)
                case Launch() if (node := product_of(step)) is not None:
                    # An overflow is an infinity, as IEEE 754 has it, and no warning.
                    calls += ['with np.errstate(all="ignore"):', f"    {product_text(node)}"]
                    names.update(dict.fromkeys((node.out[0], node.a[0], node.b[0])))
                case Launch():
                    calls += self._called(step, names)
        return calls

    def _called(self, launch: Launch, names: dict[str, None]) -> list[str]:
        """The call of a launch, where its guard holds, or of what runs otherwise."""
        if launch.otherwise is not None:
            launch = replace(launch, name=f"{launch.name}_fixed")
        arguments = self._function(launch)
        names.update(dict.fromkeys(arguments))
        call = f"{launch.name}({', '.join(arguments)})"
        if launch.guard is None or launch.otherwise is None:
            return [call]
        sizes = [x.name for e, _ in launch.guard.equal for x in subtrees(e) if isinstance(x, SizeRef)]
        names.update(dict.fromkeys(sizes))
        e = Expressions(self.buffers, self.flags)
        test = " and ".join(f"{e.inner(x)} == {n}" for x, n in launch.guard.equal)
        others = self._called(launch.otherwise, names)
        return [f"if {test}:", f"    {call}", "else:", *(f"    {line}" for line in others)]

    def _repeat(self, step: RepeatLaunch, names: dict[str, None]) -> list[str]:
        inside: dict[str, None] = {}
        printer = Expressions(self.buffers, self.flags)
        both = swept(step.body, self.buffers, step.index)
        if both is not None:
            return [self._swept(both, f"2 * {printer.inner(step.steps)}", names)]
        calls = self._steps(step.body, inside, False)
        index = step.index or "_"
        lines = [f"for {index} in range({printer.text(step.steps)}):", *(f"    {c}" for c in calls)]
        for x in subtrees(step.steps):
            if isinstance(x, SizeRef | ParamRef):
                inside[x.name] = None
        inside.pop(index, None)
        names.update(inside)
        if self._needs_python(step.body):
            return lines
        name = f"{self.kernel.name}_steps{sum('_steps' in f for f in self.functions) or ''}"
        head = f'@njit(error_model="numpy", cache=CACHE)\ndef {name}({", ".join(inside)}):\n'
        self.functions.append(head + "\n".join(f"    {line}" for line in lines) + "\n")
        return [f"{name}({', '.join(inside)})"]

    def _launch(self, calls: list[str]) -> str:
        kernel = self.kernel
        parameters = [*(p.name for p in kernel.params), *(p.name for p in kernel.outputs), *kernel.sizes]
        printer = Printer()
        printer.line('"""Runs on arrays that exist, in memory order; nothing is checked or allocated but scratch."""')
        for p in (*kernel.params, *kernel.outputs):
            scalar = p in kernel.params and p.type.rank == 0 and not p.inout
            if scalar:
                printer.line(f"{p.name} = {scalar_text(p.name, p.type.dtype)}")
                continue
            if p.type.dtype.name in ("f16", "bf16"):
                printer.line(f"{p.name} = {p.name}.view(np.uint16)")
            if p.type.rank == 0:
                printer.line(f"{p.name} = {p.name}.reshape(1)")
        for b in self.buffers.values():
            if b.space == "global":
                shape = ", ".join([host_text(b.shape[d]) for d in b.order] or ["1"])
                printer.line(f"{b.name} = fresh(({shape}{',' if len(b.order) <= 1 else ''}), np.{numpy_name(b.dtype)})")
        if any("parts" in call for call in calls):
            printer.line("parts = get_num_threads()")
        for function in self.codes:
            printer.line(f"{function}_code = code_of({function}, {function}_types)")
        for call in calls:
            printer.line(call)
        return f"def launch({', '.join(parameters)}):\n" + "\n".join(printer.lines) + "\n"

    # -- two launches as one pass

    def _swept(self, both: Sweeps, count: str, names: dict[str, None]) -> str:
        """A call that does so many sweeps, the two in turn."""
        arguments = self._sweeps(both)
        names.update(dict.fromkeys(["parts", *arguments]))
        return f"{both.first.name}_{both.second.name}({', '.join(['parts', count, *arguments])})"

    def _sweeps(self, both: Sweeps) -> list[str]:
        """Adds the functions of two sweeps: the rows of each, and those that do them in one pass; returns what they take."""
        e = Expressions(self.buffers, self.flags)
        launches = (both.first, both.second)
        names = [self._arguments(launch, {}) for launch in launches]
        once = [self._rows(launch, loop, taken) for launch, loop, taken in zip(launches, both.loops, names, strict=True)]
        work = work_text(both.first.body, e, self.buffers)
        codes = [f"{launch.name}_rows_code" for launch in launches]
        text = skewed_text(both, (names[0], names[1]), codes, extent_text(both.loops[0], e), work, SERIAL_BELOW, max(once))
        self.functions.append(text)
        self.used |= e.used
        return list(dict.fromkeys([*codes, *(name for taken in names for name in taken)]))

    def _rows(self, launch: Launch, loop: Loop, names: list[str]) -> int:
        """Adds the function that runs some rows of a launch; returns how many of them are done at once."""
        e = Expressions(self.buffers, self.flags)
        printer = _opened(launch, e)
        together = rows_at_once(launch, loop, {*self.buffers, *names, "whole"})
        start = offset(loop.lo, e.inner(loop.lo))
        body = Body(e, printer, self.flags, {})
        if launch.patch:
            self._patches(launch, e, printer, f"low{start}", f"high{start}")
            spans = [(f"low{start}, high{start}", loop.body)]
        elif together is None:
            self._width(launch, e, printer)
            spans = [(f"low{start}, high{start}", loop.body)]
        else:  # fewer loads than arithmetic: wide vectors, whose loads cross lines, gain
            printer.line(f"whole = low{start} + (high - low) // {ROWS} * {ROWS}")
            spans = [(f"low{start}, whole, {ROWS}", together), (f"whole, high{start}", loop.body)]
        for span, nodes in spans:
            printer.line(f"for {loop.index} in range({span}):")
            printer.depth += 1
            body.nodes(nodes)
            printer.depth -= 1
        self.used |= e.used
        flat = [f"    {name}_flat = {name}.reshape({name}.size)" for name in e.flat]
        head = f'@njit(error_model="numpy", fastmath=FAST, cache=CACHE)\ndef {launch.name}_rows({", ".join(["low", "high", *names])}):\n'
        self.functions.append(head + "\n".join([*flat, *printer.lines]) + "\n")
        self._coded(f"{launch.name}_rows", ["int64", "int64", *(self._kind(name, {}) for name in names)])
        return ROWS if launch.patch or together is not None else 1

    def _patches(self, launch: Launch, e: Expressions, printer: Printer, low: str, high: str) -> None:
        """Does all rows and returns, if they have room for a patch."""
        nest = nest_of(launch, self.buffers)
        assert nest is not None, "a launch with a patch is a nest of loops around points"
        printer.line(f"if {fits(nest, launch.patch, e, low, high)}:")
        for depth, text in patch_lines(nest, launch.patch, e, "contract" in self.flags, low, high):
            printer.lines.append("    " * (printer.depth + 1 + depth) + text)
        printer.line("    return")

    def _width(self, launch: Launch, e: Expressions, printer: Printer) -> None:
        """How wide the launch's vectors are, where that is not LLVM's to choose."""
        if computes(launch):
            printer.line(f"{e.helper('wide')}()")
        elif overlaps(launch) and not any(isinstance(node, Stream) for node in walk(launch.body)):
            printer.line(f"{e.helper('narrow')}()")

    # -- one launch as two functions

    def _function(self, launch: Launch) -> list[str]:
        """Adds the functions of a launch; returns the names that it takes."""
        local = {b.name: b for node in launch.body if isinstance(node, Alloc) for b in (node.buffer,)}
        expressions = Expressions({**self.buffers, **local}, self.flags)
        parallel, body = peeled(launch.body)
        private = _private(launch)
        names = self._arguments(launch, local)
        printer = _opened(launch, expressions)
        self._width(launch, expressions, printer)
        if launch.patch:
            rows = extent_text(parallel[0], expressions)
            start = offset(parallel[0].lo, expressions.inner(parallel[0].lo))
            printer.line(f"first, last = part * ({rows}) // parts, (part + 1) * ({rows}) // parts")
            self._patches(launch, expressions, printer, f"first{start}", f"last{start}")
            printer.line(f"for {parallel[0].index} in range(first{start}, last{start}):")
            printer.depth += 1
            Body(expressions, printer, self.flags, private).nodes(parallel[0].body)
            printer.depth -= 1
            share = ["part", "parts"]
        elif not parallel:
            Body(expressions, printer, self.flags, {}).nodes(body)
            share: list[str] = []
        else:
            self._shared_loop(launch, parallel, body, expressions, printer, private)
            share = ["part", "parts"]
        if "stream" in expressions.used:
            printer.line("drain()")
        text = f'@njit(error_model="numpy", fastmath=FAST, cache=CACHE)\ndef {launch.name}_part({", ".join([*share, *names, *local])}):\n'
        self.used |= expressions.used
        flat = [f"    {name}_flat = {name}.reshape({name}.size)" for name in expressions.flat]
        self.functions.append(text + "\n".join([*flat, *printer.lines]) + "\n")
        if parallel:
            kinds = [self._kind(name, local, name in private) for name in (*names, *local)]
            self._coded(f"{launch.name}_part", ["int64", "int64", *kinds])
            if local:
                self._own(launch, names, kinds[: len(names)], list(local.values()))
            return self._shares(launch, parallel, names, private, list(local.values()))
        self._alone(launch, names, list(local.values()))
        return names

    def _alone(self, launch: Launch, names: list[str], local: list[Buffer]) -> None:
        """The function that runs a launch without parallel loops: it makes the scratch that the part takes."""
        e = Expressions(self.buffers, self.flags)
        printer = Printer()
        for b in local:
            printer.line(alloc_text(b, e))
        printer.line(f"{launch.name}_part({', '.join([*names, *(b.name for b in local)])})")
        self.used |= e.used
        text = f'@njit(error_model="numpy", cache=CACHE)\ndef {launch.name}({", ".join(names)}):\n'
        self.functions.append(text + "\n".join(printer.lines) + "\n")

    def _shared_loop(
        self, launch: Launch, loops: list[Loop], body: tuple[Node, ...], e: Expressions, printer: Printer, private: dict[str, int]
    ) -> None:
        """The loop over a thread's share of the parallel iterations, all parallel loops as one."""
        extents = [extent_text(loop, e) for loop in loops]
        single = len(loops) == 1
        whole = " * ".join(f"({x})" if not x.isidentifier() else x for x in extents)
        if launch.deal == "cyclic":
            span = f"range(part, {whole}, parts)"
        else:
            printer.line(f"first, last = part * ({whole}) // parts, (part + 1) * ({whole}) // parts")
            span = "range(first, last)"
        index = loops[0].index if single and loops[0].lo == const(0, I64) else "at"
        if index == loops[0].index:
            e.from_zero.discard(index)
        printer.line(f"for {index} in {span}:")
        printer.depth += 1
        if index == "at":
            rest = "at"
            for n, loop in enumerate(loops):
                below = " * ".join(f"({x})" for x in extents[n + 1 :])
                value = f"{rest} // ({below})" if below else rest
                if n:
                    value = f"{rest} // ({below}) % ({extents[n]})" if below else f"{rest} % ({extents[n]})"
                low = e.text(loop.lo)
                printer.line(f"{loop.index} = {value}" + ("" if loop.lo == const(0, I64) else f" + {low}"))
        Body(e, printer, self.flags, private).nodes(body)
        printer.depth -= 1

    def _own(self, launch: Launch, names: list[str], kinds: list[str], local: list[Buffer]) -> None:
        """Adds the function that runs one thread's share with scratch of its own."""
        e = Expressions(self.buffers, self.flags)
        taken = ["part", "parts", f"{launch.name}_part_code", *names]
        lines = [alloc_text(b, e) for b in local]
        given = ", ".join(["part", "parts", *names, *(b.name for b in local)])
        lines.append(f"run_code({launch.name}_part_code, {launch.name}_part_types, ({given}))")
        self.used |= e.used
        head = f'@njit(error_model="numpy", cache=CACHE)\ndef {launch.name}_own({", ".join(taken)}):\n'
        self.functions.append(head + "\n".join(f"    {line}" for line in lines) + "\n")
        self._coded(f"{launch.name}_own", ["int64", "int64", "int64", *kinds])

    def _shares(self, launch: Launch, loops: list[Loop], names: list[str], private: dict[str, int], local: list[Buffer]) -> list[str]:
        """Adds the function that shares a launch out among threads; returns what it takes."""
        e = Expressions(self.buffers, self.flags)
        printer = Printer()
        work = work_text(launch.body, e, self.buffers)
        if work:
            printer.line(f"if {work} < {SERIAL_BELOW}:")
            printer.line("    parts = 1")
        own = list(names)
        for name, count in private.items():
            buffer = self.buffers[name]
            stores = [n for n in walk(launch.body) if isinstance(n, Store) and n.buffer == name and n.atomic]
            kind = stores[0].kind
            assert kind is not None
            fill = constant(over_nothing(kind, held(buffer.dtype)))
            slowest, *faster = [e.inner(buffer.shape[d]) for d in buffer.order] or ["1"]
            slowest += " + 1" if any(n.spare for n in stores) else ""
            shape = ", ".join([f"{count} * parts" if count > 1 else "parts", slowest, *faster])
            printer.line(f"{name}_parts = np.full(({shape}), {fill}, np.{numpy_name(held(buffer.dtype))})")
            own[own.index(name)] = f"{name}_parts"
        shares = f"{launch.name}_own" if local else f"{launch.name}_part"
        codes = [f"{launch.name}_part_code"] if local else []
        run = f"run_code({shares}_code, {shares}_types, ({{}}))"
        printer.line("if parts == 1:")
        printer.line("    " + run.format(", ".join(["int64(0)", "int64(1)", *codes, *own])))
        printer.line("else:")
        printer.line("    for part in prange(parts):")
        printer.line("        " + run.format(", ".join(["int64(part)", "parts", *codes, *own])))
        for name, count in private.items():
            kind = next(n.kind for n in walk(launch.body) if isinstance(n, Store) and n.buffer == name and n.atomic)
            self._join(name, str(kind), count, e, printer)
        self.used |= e.used
        taken = ["parts", *codes, f"{shares}_code", *names]
        text = f'@njit(parallel=True, error_model="numpy", cache=CACHE)\ndef {launch.name}({", ".join(taken)}):\n'
        self.functions.append(text + "\n".join(printer.lines) + "\n")
        return taken

    def _coded(self, function: str, kinds: list[str]) -> None:
        """Adds the types of a function that is called where its machine code is: numba would compile it again inside of each caller."""
        self.codes.append(function)
        self.functions.append(f'{function}_types = "void({", ".join(kinds)})"\n')
        self.used.add("run_code")

    def _kind(self, name: str, local: Mapping[str, Buffer], private: bool = False) -> str:
        """The numba type of an argument of a launch; `private`: of the threads' own copies of an array."""
        scalars = {p.name: p.type.dtype for p in self.kernel.params if p.type.rank == 0 and not p.inout}
        if name in scalars:
            return numba_type(held(scalars[name])).replace("bool", "boolean")
        buffer = local.get(name) or self.buffers.get(name)
        if buffer is None:
            return "int64"  # a size, or a loop's index
        return array_kind(held(buffer.dtype) if private else buffer.dtype, max(1, len(buffer.order)) + private)

    def _join(self, name: str, kind: str, count: int, e: Expressions, printer: Printer) -> None:
        """Adds the threads' private copies to the target, element by element."""
        buffer = self.buffers[name]
        at = [f"{name}_{d}" for d in buffer.order]
        for index, d in zip(at, buffer.order, strict=True):
            printer.line(f"for {index} in range({e.text(buffer.shape[d])}):")
            printer.depth += 1
        place = ", ".join(at) or "0"
        printer.line(f"for part in range({count} * parts):" if count > 1 else "for part in range(parts):")
        one = f"{name}_parts[part, {place}]"
        there = e.reading(f"{name}[{place}]", buffer.dtype)
        joined = {"sum": f"{there} + {one}", "max": f"max({there}, {one})", "min": f"min({there}, {one})"}[kind]
        if buffer.dtype.is_float and kind != "sum":
            joined = f"{e.helper(kind + '_nan')}({there}, {one})"
        printer.line(f"    {name}[{place}] = {stored_text(joined, buffer.dtype, e)}")
        printer.depth -= len(at)

    def _arguments(self, launch: Launch, local: dict[str, Buffer]) -> list[str]:
        """Arrays, sizes and scalars that a launch uses, in the kernel's order."""
        used: set[str] = set()
        bound: set[str] = set()
        every: list[Expr] = [top for node in walk(launch.body) for top in expressions_of(node)]
        every += [n for b in local.values() for n in b.shape]
        for node in walk(launch.body):
            if isinstance(node, Loop | FoldLoop):
                bound.add(node.index)
            if isinstance(node, Tile):
                bound |= {b.index for b in (node.rows, node.columns, *node.reduction)}
            if isinstance(node, Turn):
                bound |= {node.rows.index, node.columns.index}
            if isinstance(node, Stream | Prefetch):
                bound.add(node.along.index)
            if isinstance(node, Store | Tile | Turn | Stream):
                used.add(node.buffer)
        for top in every:
            for x in subtrees(top):
                match x:
                    case Load(array=array):
                        used.add(array)
                        if x.default is not None:
                            every.extend(self.buffers[array].shape)
                    case SizeRef(name) | ParamRef(name) | IndexRef(name):
                        used.add(name)
                    case _:
                        pass
        for name in [n for n in used if any(isinstance(s, Store) and s.atomic and s.buffer == n for s in walk(launch.body))]:
            used |= {x.name for n in self.buffers[name].shape for x in subtrees(n) if isinstance(x, SizeRef)}
        used -= set(local) | bound
        order = [*self.buffers, *self.kernel.sizes]
        order += [p.name for p in self.kernel.params if p.name not in self.buffers]
        return [n for n in order if n in used] + sorted(used - set(order))


def _opened(launch: Launch, e: Expressions) -> Printer:
    """The first statements of a function that does work of a launch: what LLVM may assume, and what it may not."""
    printer = Printer()
    printer.line("restrict()")
    if wraps(launch):
        printer.line(f"{e.helper('wraps')}()")
    return printer


def _private(launch: Launch) -> dict[str, int]:
    """What a launch adds to, of which each thread has copies of its own; how many."""
    found: dict[str, int] = {}
    for n in walk(launch.body):
        if isinstance(n, Store) and n.atomic:
            found[n.buffer] = max(found.get(n.buffer, 1), n.way + 1)
    return dict(sorted(found.items()))


def _plain(function: Callable[..., object]) -> str:
    """The text of a function of ours, without the types of its parameters."""
    body = inspect.getsource(function).partition("\n")[2]
    return f"def {function.__name__}({', '.join(inspect.signature(function).parameters)}):\n{body}"


def _imports(body: str) -> str:
    """The imports that the body uses."""
    names = [
        n for n in ("float32", "float64", "get_num_threads", "int8", "int16", "int32", "int64", "njit", "prange", "types",
                    "uint8", "uint16", "uint32", "uint64")
        if f"{n}(" in body or (n == "types" and "types." in body)
    ]  # fmt: skip
    lines = ["import math"] if "math." in body else []
    if "@cache" in body:
        lines.append("from functools import cache")
    if "namedtuple(" in body:
        lines.append("from collections import namedtuple")
    if "getrefcount(" in body:
        lines += ["from sys import getrefcount", "from threading import Lock"]
    lines += ["", "import numpy as np"]
    if "ir." in body and "@intrinsic" in body:
        lines.append("from llvmlite import ir")
    lines.append(f"from numba import {', '.join(names)}")
    if "cgutils." in body:
        lines.append("from numba.core import cgutils")
    if "normalize_signature(" in body:
        lines.append("from numba.core.sigutils import normalize_signature")
    if "@intrinsic" in body:
        lines.append(f"from numba.extending import intrinsic{', models, register_model' if '@register_model' in body else ''}")
    return "\n".join(lines).strip("\n") + "\n"

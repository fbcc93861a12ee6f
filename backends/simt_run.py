"""The NVVM IR of a CUDA kernel becomes native code for this CPU, run thread by thread: the code that ships, executed without a GPU.

Waits are checked strictly. A barrier that some threads of a block never reach, lanes that a warp operation names and that never come, and
threads at different barriers raise SimtError; so does, unless that is off, what `simt_shadow` finds wrong with an access to memory.
Shared memory starts as NaN bits, and a seed shuffles the order of the threads: warps run ahead of each other as far as barriers let them.
"""

import ctypes
import functools
import re
import threading
from importlib import import_module
from typing import Any, Final, cast

import numpy as np

from backends import simt_runtime as runtime
from backends.cuda_compile import Lowered, libdevice
from backends.simt_errors import SimtError
from backends.simt_intrinsics import definition, inline_name
from backends.simt_shadow import HOOK, Region, Shadow, hook, instrumented
from backends.simt_turns import next_turn, problem, turns
from kernel_ir.errors import TargetError

STACK_BYTES: Final = 128 * 1024
MAX_THREADS: Final = 1024
_POISON: Final = 0xFF
_ITEM_BYTES: Final = {"float": 4, "double": 8, "half": 2, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


class SimtKernel:
    """A CUDA kernel as native code for the CPU. Call it as `kernel(grid, block, arguments, seed)`, with NumPy arrays and scalars.

    `checked`: every access to memory is checked, which takes several times as long.
    """

    def __init__(self, lowered: Lowered, checked: bool = True) -> None:
        self.name = lowered.name
        self.arguments = lowered.arguments
        self.checked = checked
        self._names = lowered.names
        self._engine, self._waits, self._shared = _native(lowered, checked)
        self._lock = threading.Lock()
        self._start = self._function("simt.start", 1)
        self._rounds = self._function("simt.rounds", 0, ctypes.c_int64) if self._waits else None
        self._straight = self._function("simt.straight", 2)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...], seed: int = 0) -> None:
        """Runs every block of the grid, one after the other, in an order that `seed` fixes (0: ascending, threads too)."""
        grids, blocks = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        threads = int(np.prod(blocks))
        if threads > MAX_THREADS or min(grids) < 1 or threads < 1:
            raise SimtError(f"{self.name} cannot be launched with grid {grid} and block {block}")
        keep, flat = _flatten(arguments, self.arguments)
        pointers = np.array([value.ctypes.data for value in flat], np.uint64)
        random = np.random.default_rng(seed) if seed else None
        with self._lock:
            self._set("simt.arguments", pointers.ctypes.data)
            self._write("simt.grid", grids)
            self._write("simt.block", blocks)
            number = int(np.prod(grids))
            waits = self._fibers(threads, seed) if self._waits else None
            shadow = self._shadow(arguments, threads) if self.checked else None
            for linear in range(number) if random is None else random.permutation(number).tolist():
                x, rest = linear % grids[0], linear // grids[0]
                self._write("simt.block.index", (x, rest % grids[1], rest // grids[1]))
                for region in self._shared:
                    ctypes.memset(region.start, _POISON, region.size)
                if shadow is not None:
                    shadow.enter_block(linear)
                if waits is None:
                    order = np.arange(threads) if random is None else random.permutation(threads)
                    self._straight(order.ctypes.data, threads)
                    found = ""
                else:
                    found = self._fibers_run(waits)
                if shadow is not None:
                    shadow.check(self.name)
                if found:
                    raise SimtError(f"{self.name}: {found}")
        del keep

    def _shadow(self, arguments: tuple[Any, ...], threads: int) -> Shadow:
        """What the arrays given and the shared ones are held against."""
        names = self._names or tuple(f"argument {number}" for number in range(len(arguments)))
        arrays = [
            Region(name, value.ctypes.data, value.nbytes, value.itemsize, False)
            for name, value in zip(names, arguments, strict=True)
            if isinstance(value, np.ndarray)
        ]
        shadow = Shadow((*arrays, *self._shared), threads)
        self._set("simt.shadow", shadow.address)
        return shadow

    def _fibers(self, threads: int, seed: int) -> "_Waits":
        """Contexts and stacks for the threads of one block, used again for each."""
        waits = _Waits(threads, turns(threads, seed, self.checked))
        for name, array in waits.storage.items():
            self._set(f"simt.{name}", array.ctypes.data)
        self._set("simt.stack.bytes", STACK_BYTES)
        return waits

    def _fibers_run(self, waits: "_Waits") -> str:
        """Runs one block; what is wrong with its waits."""
        assert self._rounds is not None
        waits.state[:] = runtime.RUNNABLE
        self._start(waits.state.size)
        found: int = self._rounds()
        return problem(found, waits.turns, waits.state) if found else ""

    def _function(self, name: str, arguments: int, result: Any = None) -> Any:
        address = self._engine.get_function_address(name)
        return ctypes.CFUNCTYPE(result, *[ctypes.c_size_t] * arguments)(address)

    def _set(self, name: str, value: int) -> None:
        ctypes.c_uint64.from_address(self._engine.get_global_value_address(name)).value = value

    def _write(self, name: str, values: tuple[int, ...]) -> None:
        (ctypes.c_int32 * 3).from_address(self._engine.get_global_value_address(name))[:] = values


class _Waits:
    """Where each thread of a block notes what it waits for, and what it runs on."""

    def __init__(self, threads: int, turns: np.ndarray[Any, Any]) -> None:
        self.turns = turns
        self.state = _aligned(threads, np.int32)
        self.storage = {
            "contexts": _aligned(threads * runtime.CONTEXT_BYTES, np.uint8),
            "stacks": _aligned(threads * STACK_BYTES, np.uint8),
            "state": self.state,
            "mask": _aligned(threads, np.uint32),
            "site": _aligned(threads, np.uint64),
            "sent": _aligned(threads, np.uint32),
            "received": _aligned(threads, np.uint32),
            "order": _aligned(threads, np.int64),
            "turns": turns,
        }


def _aligned(items: int, dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    """An array (zeroed only where its pages are touched) on a 64-byte boundary: contexts and stacks need one."""
    size = np.dtype(dtype).itemsize
    room = np.zeros(items * size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + items * size].view(dtype)


def _flatten(arguments: tuple[Any, ...], types: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """numba's argument list: an array is (meminfo, parent, items, itemsize, data, shape…, strides…), a scalar itself."""
    if len(arguments) != len(types):
        raise TargetError(f"a kernel of {len(types)} arguments was given {len(arguments)}")
    flat: list[Any] = []
    for value, kind in zip(arguments, types, strict=True):
        if isinstance(value, np.ndarray):
            array = cast("np.ndarray[Any, Any]", value)
            header = (0, 0, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides)
            flat.extend(np.array([number], np.int64) for number in header)
        else:
            flat.append(np.array([value], np.dtype(str(kind))))
    return list(arguments), flat


def _native(lowered: Lowered, checked: bool) -> tuple[Any, bool, tuple[Region, ...]]:
    """The engine that holds the code, whether threads wait for each other, and the shared arrays."""
    llvm = _llvm()
    machine = _machine()
    module = _link(llvm, lowered, machine)
    shared = [(g.name, *_bytes(str(g.global_value_type))) for g in module.global_variables if g.name.startswith("_cudapy_smem")]
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = False  # every access stays one that the shadow sees
    builder = llvm.create_pass_builder(machine, tuning)
    unused = llvm.create_new_module_pass_manager()
    unused.add_global_dead_code_eliminate_pass()
    unused.run(module, builder)
    waits = any(f.name in runtime.WAITING for f in module.functions)
    if not waits:
        module.get_function("simt.rounds").linkage = "internal"  # so that it goes: what it calls is not there
    builder.getModulePassManager().run(module, builder)
    if inline := next((str(f) for f in module.functions if not f.is_declaration and " asm " in str(f)), None):
        raise TargetError(f"the CPU cannot run inline PTX:{inline[inline.index(' asm ') : inline.index(' asm ') + 80]}")
    if missing := sorted(f.name for f in module.functions if f.is_declaration and f.name.startswith(("nvvm.", "__nv", "___numba", "_Z"))):
        raise TargetError(f"{lowered.name} uses what the CPU cannot run: {', '.join(missing)}")
    if waits:
        llvm.add_symbol(runtime.TURN, next_turn())
    if checked:
        llvm.add_symbol(HOOK, hook())
        module = _parse(llvm, instrumented(str(module)), machine)
    engine = llvm.create_mcjit_compiler(module, _machine())
    engine.finalize_object()
    regions = (
        Region(f"shared array {number}", engine.get_global_value_address(name), size, itemsize, True)
        for number, (name, size, itemsize) in enumerate(shared)
    )
    return engine, waits, tuple(regions)


def _link(llvm: Any, lowered: Lowered, machine: Any) -> Any:
    module = _parse(llvm, "\n".join(map(_without_inline_ptx, lowered.modules)), machine)
    if any(f.name.startswith("__nv_") for f in module.functions):
        module.link_in(llvm.parse_bitcode(_libdevice()))
    entry = module.get_function(lowered.entry)
    thunk = _thunk(lowered.entry, [str(argument.type) for argument in entry.arguments])
    module.link_in(_parse(llvm, runtime.RUNTIME + thunk, machine))
    module.link_in(_parse(llvm, _intrinsics(module), machine))
    exported = ("simt.start", "simt.rounds", "simt.straight")
    for function in module.functions:
        if not function.is_declaration and function.name not in exported:
            function.linkage = "internal"
    return module


def _parse(llvm: Any, text: str, machine: Any) -> Any:
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if function.is_declaration and function.name.startswith("llvm.nvvm."):
            # Under its own name LLVM would look for a GPU instruction.
            function.name = function.name.removeprefix("llvm.")
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return module


def _without_inline_ptx(text: str) -> str:
    """LLVM text with inline PTX turned into calls, and with the metadata that only NVVM reads left out."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("!nvvm"))
    declared: dict[str, str] = {}

    def call(match: re.Match[str]) -> str:
        code = re.sub(r"\\0[9A]", " ", match["code"])
        name = inline_name(code, match["constraints"])
        if name is None:
            raise TargetError(f"the CPU cannot run inline PTX: {code}")
        kinds = [argument.rpartition(" ")[0] for argument in match["arguments"].split(", ")]
        declared[name] = f"declare {match['result']} @{name}({', '.join(kinds)})"
        return f"call {match['result']} @{name}({match['arguments']})"

    text = _INLINE.sub(call, text)
    return "\n".join([text, *(declared[name] for name in sorted(declared))])


_INLINE: Final = re.compile(
    r'call (?P<result>\{[^}]*\}|\w+) asm\s+(?:sideeffect\s+)?"(?P<code>[^"]*)", "(?P<constraints>[^"]*)"\s*\((?P<arguments>[^()]*)\)'
)


@functools.cache
def _libdevice() -> bytes:
    """libdevice as bitcode without inline PTX, each function to be linked only where it is called."""
    llvm = _llvm()
    module = _parse(llvm, _without_inline_ptx(str(llvm.parse_bitcode(libdevice()))), _machine())
    for function in module.functions:
        if not function.is_declaration:
            function.linkage = "linkonce_odr"
    return module.as_bitcode()


def _thunk(entry: str, kinds: list[str]) -> str:
    """`simt.kernel`: calls the kernel with the arguments that `simt.arguments` points to."""
    # Never inlined: checks look for the kernel's own code here.
    lines = ["define void @simt.kernel() noinline {", "  %a = load ptr, ptr @simt.arguments"]
    for number, kind in enumerate(kinds):
        lines += [
            f"  %p{number} = getelementptr ptr, ptr %a, i64 {number}",
            f"  %q{number} = load ptr, ptr %p{number}",
            f"  %v{number} = load {kind}, ptr %q{number}",
        ]
    values = ", ".join(f"{kind} %v{number}" for number, kind in enumerate(kinds))
    lines += [f'  call void @"{entry}"({values})', "  ret void", "}"]
    declaration = f'declare void @"{entry}"({", ".join(kinds)})'
    return "\n".join([declaration, *lines])


def _intrinsics(module: Any) -> str:
    """Definitions of every NVVM intrinsic that the module declares and that the CPU can run."""
    texts: list[str] = []
    for function in module.functions:
        if not function.is_declaration or not function.name.startswith("nvvm."):
            continue
        result, _, arguments = str(function.global_value_type).partition(" (")
        kinds = tuple(kind for kind in arguments.rstrip(")").split(", ") if kind)
        if (text := definition(function.name, result, kinds)) is not None:
            texts.append(text)
    externals = [f"@simt.{name} = external global [3 x i32]" for name in ("grid", "block", "block.index", "thread")]
    return "\n".join([*externals, "@simt.lane = external global i32", *texts])


def _bytes(kind: str) -> tuple[int, int]:
    """Size of an LLVM array type "[8 x float]", and of its elements."""
    if (found := re.fullmatch(r"\[(\d+) x (\w+)\]", kind)) is None:
        raise TargetError(f"shared memory of type {kind} is not supported on the CPU")
    return int(found[1]) * _ITEM_BYTES[found[2]], _ITEM_BYTES[found[2]]


@functools.cache
def _llvm() -> Any:
    llvm = import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _machine() -> Any:
    llvm = _llvm()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=2, jit=True)

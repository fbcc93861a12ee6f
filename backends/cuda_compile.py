"""A numba.cuda kernel function becomes NVVM IR, PTX, a cubin and SASS, for any compute capability and without a driver.

The only module that knows numba-cuda's insides (0.30, in maintenance mode): everything else sees plain functions and strings.
"""

import functools
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from kernel_ir.errors import TargetError

INSTALL_HINT: Final = "pip install 'kir[cuda]'"
ARCHITECTURES: Final[dict[str, tuple[int, int]]] = {"sm_75": (7, 5), "sm_80": (8, 0), "sm_90": (9, 0)}


@dataclass(frozen=True, slots=True)
class Lowered:
    """NVVM IR of one kernel: `modules` of LLVM text, the mangled `entry`, the numba types and names of its arguments."""

    name: str
    entry: str
    modules: tuple[str, ...]
    arguments: tuple[Any, ...]
    cc: tuple[int, int]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code of one kernel, and what the assembler says it uses (`stack` and spills in bytes a thread)."""

    code: bytes
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    log: str


def available() -> bool:
    """Whether numba-cuda is installed."""
    return find_spec("numba_cuda") is not None


@functools.cache
def numba_cuda() -> ModuleType:
    """The module `numba.cuda` of numba-cuda; raises TargetError with the command that installs it where it is absent."""
    if not available():
        raise TargetError("CUDA code needs numba-cuda, which is not installed", hint=INSTALL_HINT)
    return import_module("numba.cuda")


def gpu_present() -> bool:
    """Whether a CUDA device can run kernels here (numba-cuda and a driver with a device)."""
    if not available():
        return False
    return bool(numba_cuda().is_available())


def capability(target: str) -> tuple[int, int]:
    """The compute capability that a name such as "sm_90" means.

    >>> capability("sm_75")
    (7, 5)
    """
    if target not in ARCHITECTURES:
        raise TargetError(f"unknown GPU architecture {target!r}", hint=f"write one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[target]


def lower(kernel: Any, arguments: tuple[Any, ...], cc: tuple[int, int], launch_bounds: int | None = None) -> Lowered:
    """The NVVM IR that numba-cuda makes of `kernel` (a `cuda.jit` dispatcher or a plain function) for these numba types."""
    cuda = numba_cuda()
    compiler, nvvm = import_module("numba.cuda.compiler"), import_module("numba.cuda.cudadrv.nvvm")
    function: Callable[..., Any] = getattr(kernel, "py_func", kernel)
    if launch_bounds is None:
        launch_bounds = getattr(kernel, "targetoptions", {}).get("launch_bounds")
    compiled = compiler.compile_cuda(function, cuda.types.void, arguments, cc=cc, nvvm_options={"opt": 3})
    library = compiled.library
    entry: str = compiled.fndesc.llvm_func_name
    definition = library.get_function(entry)
    compiler.kernel_fixup(definition, False)
    nvvm.set_launch_bounds(definition, launch_bounds)
    names = function.__code__.co_varnames[: len(arguments)]
    return Lowered(function.__name__, entry, tuple(library.llvm_strs), arguments, cc, names)


def ptx(lowered: Lowered, contract: bool = False) -> str:
    """PTX of a lowered kernel. NVVM may fuse a multiplication and an addition only if `contract`."""
    nvvm = import_module("numba.cuda.cudadrv.nvvm")
    major, minor = lowered.cc
    text: bytes = nvvm.compile_ir(list(lowered.modules), opt=3, arch=f"compute_{major}{minor}", fma=contract)
    return text.decode().strip("\x00").strip() + "\n"


def ptx_of_source(source: str, signatures: Mapping[str, str], target: str, contract: bool = False) -> dict[str, str]:
    """PTX of each kernel named in `signatures` ("void(float32[::1], uint32)") of a Python module's text.

    `source` is executed: pass only code that you would run. Raises TargetError where numba-cuda is absent or `target` unknown.
    """
    cc = capability(target)
    numba_cuda()
    normalize = import_module("numba.cuda.core.sigutils").normalize_signature
    namespace: dict[str, Any] = {"__name__": "kernel"}
    exec(compile(source, "<kernel>", "exec"), namespace)
    texts: dict[str, str] = {}
    for name, signature in signatures.items():
        arguments, _ = normalize(signature)
        texts[name] = ptx(lower(namespace[name], tuple(arguments), cc), contract)
    return texts


def libdevice() -> bytes:
    """NVIDIA's device mathematics library, as LLVM bitcode."""
    numba_cuda()
    return import_module("numba.cuda.cudadrv.nvvm").LibDevice().get()


_USAGE: Final = {
    "registers": r"Used (\d+) registers",
    "stack": r"(\d+) bytes stack frame",
    "spill_stores": r"(\d+) bytes spill stores",
    "spill_loads": r"(\d+) bytes spill loads",
    "shared": r"(\d+) bytes smem",
}


def cubin(text: str, target: str) -> Cubin:
    """PTX assembled by nvJitLink, in this process. Raises TargetError where cuda.core is absent."""
    if find_spec("cuda.core") is None:
        raise TargetError("assembling PTX needs cuda.core and nvJitLink, which are not installed", hint=INSTALL_HINT)
    core = import_module("cuda.core")
    capability(target)
    options = core.LinkerOptions(arch=target, verbose=True, ptxas_options=["-v"])
    linker = core.Linker(core.ObjectCode.from_ptx(text.encode()), options=options)
    try:
        code = bytes(linker.link("cubin").code)
        log: str = linker.get_info_log()
    finally:
        linker.close()
    found = {key: re.search(pattern, log) for key, pattern in _USAGE.items()}
    return Cubin(code, log=log, **{key: int(match[1]) if match else 0 for key, match in found.items()})


_INSTRUCTION: Final = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z0-9_.a-z]+)")


def sass(code: bytes) -> tuple[str, ...]:
    """The instructions of a cubin in order ("FADD", "LDG.E.CONSTANT", …), the padding at the end left off."""
    instructions = [match[1] for line in disassembly(code).splitlines() if (match := _INSTRUCTION.match(line))]
    while instructions and instructions[-1].split(".")[0] in ("NOP", "BRA"):
        instructions.pop()
    return tuple(instructions)


def disassembly(code: bytes) -> str:
    """The text of a cubin's machine code, a line an instruction or label. Raises TargetError where nvdisasm is absent."""
    tool: str | None = None
    if find_spec("cuda.pathfinder") is not None:
        tool = import_module("cuda.pathfinder").find_nvidia_binary_utility("nvdisasm")
    if tool is None:
        raise TargetError("reading machine code needs nvdisasm, which is not installed", hint="pip install nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(code)
        return subprocess.run([tool, "-c", str(path)], capture_output=True, text=True, check=True).stdout


def instruction_counts(instructions: tuple[str, ...]) -> dict[str, int]:
    """How often each opcode (without its modifiers) occurs, by name.

    >>> instruction_counts(("LDG.E", "FADD", "LDG.E.CONSTANT"))
    {'FADD': 1, 'LDG': 2}
    """
    return dict(sorted(Counter(name.split(".")[0] for name in instructions).items()))

"""A plan for a GPU becomes source text, PTX, and a callable: on the GPU, or on the CPU from the very same kernels (`cuda-on-cpu`)."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

import numpy as np

from backends import cuda_compile
from backends.cuda_source import Emitted, cuda_source
from backends.simt_run import SimtKernel
from kernel_ir.errors import TargetError
from kernel_ir.plan import Plan
from kernel_ir.shapes import open_sizes, optional_sizes

DEFAULT: Final = "sm_80"


def emit(plan: Plan) -> str:
    """The numba.cuda module of a plan: readable, standalone, the same bytes each time."""
    return cuda_source(plan).source


class CudaKernel:
    """A plan compiled for a GPU of one architecture; `.ptx` works without a GPU, a call does not.

    Call it with the parameters in order, sizes that no input fixes by keyword.
    """

    def __init__(self, plan: Plan, architecture: str) -> None:
        self.name = plan.kernel.name
        self.architecture = architecture
        self.contract = "contract" in plan.fast_math
        self._emitted: Emitted = cuda_source(plan)
        self._run: Callable[..., Any] | None = None
        positional = [inspect.Parameter(p.name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in plan.kernel.params]
        named = (*open_sizes(plan.kernel), *optional_sizes(plan.kernel))
        keyword = [inspect.Parameter(size, inspect.Parameter.KEYWORD_ONLY) for size in named]
        self.__signature__ = inspect.Signature([*positional, *keyword])

    @property
    def source(self) -> str:
        """The Python module that runs."""
        return self._emitted.source

    @property
    def ptx_by_kernel(self) -> dict[str, str]:
        """PTX of each kernel of the module, with 32-bit indices, by name."""
        narrow = _load(self.source)["narrow"]
        cuda_compile.numba_cuda()
        normalize = import_module("numba.cuda.core.sigutils").normalize_signature
        texts: dict[str, str] = {}
        for kernel, (name, signature) in zip(narrow, self._emitted.signatures.items(), strict=True):
            arguments, _ = normalize(signature)
            lowered = cuda_compile.lower(kernel, tuple(arguments), cuda_compile.capability(self.architecture))
            texts[name] = cuda_compile.ptx(lowered, self.contract)
        return texts

    @property
    def ptx(self) -> str:
        """PTX of every kernel, one after the other; one launch is one kernel."""
        return "\n".join(self.ptx_by_kernel.values())

    def cubins(self) -> dict[str, cuda_compile.Cubin]:
        """Machine code, registers and spills of each kernel, by name. Raises TargetError where nvJitLink is absent."""
        return {name: cuda_compile.cubin(text, self.architecture) for name, text in self.ptx_by_kernel.items()}

    def __call__(self, *arguments: Any, **sizes: int) -> Any:
        """Runs it on the GPU. Raises TargetError where there is none."""
        if self._run is None:
            if not cuda_compile.gpu_present():
                raise TargetError(
                    f"{self.name} is compiled for {self.architecture}, but no GPU is here to run it",
                    hint='compile with target="cuda-on-cpu" to run the same kernels on the CPU, or read .ptx',
                )
            self._run = _entry(_load(self.source), self.source)
        with warnings.catch_warnings():
            # A small problem has few blocks: that is no fault of the caller's.
            warnings.filterwarnings("ignore", r"Grid size \d+ will likely result in GPU under-utilization")
            return self._run(*arguments, **sizes)


class CudaOnCpu(CudaKernel):
    """The same module with its kernels executed on the CPU, thread by thread; `seed` shuffles the order of threads and blocks.

    `source` stands in for the plan's own. `compiled` keeps native code by the text that it is made from: modules that differ in one
    kernel can share the others.
    """

    def __init__(self, plan: Plan, seed: int = 0, source: str = "", compiled: "dict[tuple[str, ...], SimtKernel] | None" = None) -> None:
        super().__init__(plan, DEFAULT)
        self.seed = seed
        self.compiled: dict[tuple[str, ...], SimtKernel] = {} if compiled is None else compiled
        if source:
            self._emitted = replace(self._emitted, source=source)

    def __call__(self, *arguments: Any, **sizes: int) -> Any:
        """Runs it on NumPy arrays. Raises SimtError where threads wait for each other wrongly."""
        if self._run is None:
            namespace = _load(self.source)
            texts = _kernel_texts(self.source)
            for width in ("narrow", "wide"):
                kernels = namespace[width]
                namespace[width] = tuple(_Launcher(k, (width, *texts[k.py_func.__name__]), self) for k in kernels)
            namespace["device_array"] = _poisoned
            namespace["aligned"] = _aligned
            namespace["to_device"] = _host_copy
            self._run = _entry(namespace, self.source)
        return self._run(*arguments, **sizes)


def build(plan: Plan, target: str, seed: int = 0) -> CudaKernel:
    """`plan` compiled for "cuda" (the GPU that is here), "cuda:sm_90" or "cuda-on-cpu".

    Raises TargetError for an unknown target, or where numba-cuda is not installed.
    """
    cuda_compile.numba_cuda()
    match target.partition(":"):
        case "cuda-on-cpu", _, _:
            return CudaOnCpu(plan, seed)
        case "cuda", "", _:
            return CudaKernel(plan, _here())
        case "cuda", _, architecture if architecture in cuda_compile.ARCHITECTURES:
            return CudaKernel(plan, architecture)
        case _:
            names = ", ".join(f"cuda:{name}" for name in cuda_compile.ARCHITECTURES)
            raise TargetError(f"unknown CUDA target {target!r}", hint=f"write cuda, {names} or cuda-on-cpu")


def _here() -> str:
    """The newest architecture of ours that the GPU here runs; DEFAULT where there is none."""
    if not cuda_compile.gpu_present():
        return DEFAULT
    here: tuple[int, int] = cuda_compile.numba_cuda().get_current_device().compute_capability
    fitting = [name for name, cc in cuda_compile.ARCHITECTURES.items() if cc <= here]
    return fitting[-1] if fitting else DEFAULT


def _load(source: str) -> dict[str, Any]:
    """The names that the module defines."""
    cuda_compile.numba_cuda()
    namespace: dict[str, Any] = {"__name__": "kernel"}
    exec(compile(source, "<cuda kernel>", "exec"), namespace)
    return namespace


def _entry(namespace: dict[str, Any], source: str) -> Callable[..., Any]:
    """The module's last function: the kernel's, whatever Python let it be called."""
    return namespace[source[source.rindex("\ndef ") :].removeprefix("\ndef ").partition("(")[0]]


def _kernel_texts(source: str) -> dict[str, tuple[str, str]]:
    """What the code of each kernel of a module is made from, by name: the text before the kernels, and its own."""
    before, _, rest = source.partition("\ndef kernels(index):\n")
    made = rest[: rest.index("\n    return (")].split("\n    def ")[1:]
    return {text.partition("(")[0]: (before, text) for text in made}


class _Launcher:
    """Stands for a `cuda.jit` kernel in the module: `kernel[blocks, threads](…)` compiles for the arguments' types, and runs on the CPU."""

    def __init__(self, kernel: Any, text: tuple[str, ...], owner: CudaOnCpu) -> None:
        self.kernel = kernel
        self.text = text
        self.owner = owner

    def __getitem__(self, configuration: tuple[int, int]) -> Callable[..., None]:
        blocks, threads = configuration

        def run(*arguments: Any) -> None:
            types = tuple(map(_numba_type, arguments))
            key = (*self.text, *map(str, types))
            if key not in self.owner.compiled:
                cc = cuda_compile.capability(self.owner.architecture)
                self.owner.compiled[key] = SimtKernel(cuda_compile.lower(self.kernel, types, cc))
            self.owner.compiled[key]((blocks,), (threads,), arguments, self.owner.seed)

        return run


def _numba_type(value: Any) -> Any:
    """The numba type of an argument: a one-dimensional C-ordered array, or a NumPy or Python scalar."""
    types = cuda_compile.numba_cuda().types
    from_dtype = import_module("numba.cuda.np.numpy_support").from_dtype
    if isinstance(value, np.ndarray):
        return types.Array(from_dtype(value.dtype), 1, "C")  # pyright: ignore[reportUnknownMemberType]
    return from_dtype(np.asarray(value).dtype)


class _HostArray(np.ndarray[Any, np.dtype[Any]]):
    """A NumPy array that answers to a device array's names."""

    def copy_to_host(self) -> Any:
        """A plain copy."""
        return np.array(self)


def _poisoned(shape: Any, dtype: Any) -> _HostArray:
    """A new array of bits that no kernel writes by chance: NaN in every float type."""
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8)[...] = 0x7F if array.dtype == np.bool_ else 0xFF
    return array.view(_HostArray)


def _aligned(*arrays: np.ndarray[Any, Any]) -> bool:
    return all(array.ctypes.data % 16 == 0 for array in arrays)


def _host_copy(array: np.ndarray[Any, Any]) -> _HostArray:
    return np.array(array).view(_HostArray)

"""Turns a plan into source text, PTX, or a callable that takes NumPy arrays, checks them, and runs."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from keyword import iskeyword
from types import ModuleType
from typing import Any, Final

import numpy as np

from backends.target import Target
from backends.target import target as target_named
from extract.machine import load_machine
from kernel_ir.arguments import kind_text
from kernel_ir.binding import Binding, binding
from kernel_ir.error_budget import ErrorBudget
from kernel_ir.errors import ArgumentError, TargetError
from kernel_ir.fastmath import NONE, Flags
from kernel_ir.known_calls import known_calls
from kernel_ir.laid_call import LaidCall, packable, packed_array, stood_in
from kernel_ir.layout import Layout, laid, laid_anyhow
from kernel_ir.nodes import Kernel
from kernel_ir.packed import Packed
from kernel_ir.plan import Plan
from kernel_ir.shapes import optional_sizes

CHECK_EXAMPLES: Final = 5
"""Drawn inputs on which compiled code is compared with its kernel before it is handed out."""


class Compiled:
    """A compiled kernel: call it by keyword or in order; sizes that no input fixes go by keyword.

    One output is returned as an array, several as a named tuple; `inout` arrays are updated in place. `kernel` is the (optimized)
    kernel that it computes, `source` the code that runs, `notes` what the user should know (a cache that cannot be written, for one).
    `layouts` says how it wants each `@ any` array to lie: a call lays out what does not, `pack` does it once for many calls.
    """

    def __init__(
        self,
        kernel: Kernel,
        plan: Plan,
        target: Target,
        source: str,
        run: Callable[..., Any],
        notes: tuple[str, ...],
        on_memory: "Callable[[Binding], LaidCall] | None" = None,
    ) -> None:
        self.kernel = kernel
        self.plan = plan
        self.target = target
        self.source = source
        self.notes = notes
        self._run = run
        self._binding: Binding = binding(kernel)
        self._known = known_calls(kernel)
        self.layouts: dict[str, Layout] = {p.name: found for p in laid_anyhow(kernel) if (found := plan.layout(p.name)) is not None}
        self._on_memory = None if on_memory is None else on_memory(self._binding)
        self._laid = plan.packed or any(not layout.is_rows for layout in self.layouts.values())
        self._named = (*self._binding.open_sizes, *optional_sizes(kernel))
        self.__name__ = kernel.name
        self.__doc__ = str(kernel)
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(_shown(p.name), inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in kernel.params]
            + [inspect.Parameter(_shown(size), inspect.Parameter.KEYWORD_ONLY) for size in self._binding.open_sizes]
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it. Raises ArgumentError, before anything is written, for arguments that do not fit the kernel or break its facts."""
        if self.target.backend == "cuda" and any(map(_is_device_array, (*args, *kwargs.values()))):
            return self._on_device(args, kwargs)
        if self.layouts and (self._laid or any(isinstance(a, Packed) for a in (*args, *kwargs.values()))):
            if self._on_memory is not None:
                return self._on_memory(args, kwargs)
            args, kwargs = stood_in(self.kernel, self.layouts, frozenset(), args, kwargs)
        shapes = self._known.shapes(args) if self._known is not None and not kwargs else None
        if shapes is not None and self._known is not None:
            sizes = self._known.sizes(shapes)
            if sizes is not None:
                return self._run(*args, **sizes)
        bound = self._binding(args, kwargs)
        sizes = {size: bound.sizes[size] for size in self._named}
        result = self._run(*self._binding.for_code(bound.values).values(), **sizes)
        if shapes is not None and self._known is not None:
            self._known.learn(shapes, sizes)
        bound.finish()
        return self._packed_result(result) if self.plan.packed else result

    def _packed_result(self, result: Any) -> Any:
        """The result with the outputs packed that the caller takes so; where the code is not on memory, those lie as their views say."""

        def one(name: str, array: Any) -> Any:
            layout = self.layouts.get(name)
            return array if name not in self.plan.packed or layout is None else Packed(laid(array, layout), layout, array.shape)

        if len(self.kernel.outputs) < 2:
            return one(self.kernel.outputs[0].name, result) if self.kernel.outputs else result
        return type(result)(*(one(p.name, array) for p, array in zip(self.kernel.outputs, result, strict=True)))

    def pack(self, *array: Any, **arrays: Any) -> Any:
        """The array, laid out as this kernel wants it: a call takes it as it is. Where several may be packed, give them by name; several
        come back as a dict: `f(**f.pack(x=x, w=w))`.

        >>> import kernel_ir as kir
        >>> k = kir.parse("kernel norm(p: f32[N, 2] @ any) -> (y: f32[N]) { y[n] = sqrt(p[n, 0] ** 2 + p[n, 1] ** 2) }")["norm"]
        >>> f = kir.optimize(k, target="cpu", packed=True).compile()
        >>> p = f.pack(np.array([[3, 4], [5, 12]], np.float32))
        >>> p.shape, f(p).tolist()
        ((2, 2), [5.0, 13.0])

        Raises ArgumentError for an array that the parameter does not take, or has no layout of its own.
        """
        given = packable(self.kernel, self.layouts, array, arrays)
        params = {p.name: p for p in self.kernel.params}
        found = {name: packed_array(params[name], self.layouts[name], a, _laying_code) for name, a in given.items()}
        return found if len(found) > 1 else next(iter(found.values()))

    def ready(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, those packed that the caller was said to pack: what a fair timing calls with."""
        names = [p.name for p in self.kernel.params if p.name in self.plan.packed & self.layouts.keys()]
        return {**values, **{name: self.pack(**{name: values[name]}) for name in names}}

    def unpack(self, array: Any) -> Any:
        """The ordinary array of one that is packed: a view, but for tiles a copy."""
        if not isinstance(array, Packed):
            raise ArgumentError(
                f"unpack takes what pack or a call gave, not {kind_text(array)}", self.kernel.span, "it is unpacked already"
            )
        return array.unpack()

    def _on_device(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs on arrays that are on the device already. Facts about data are the caller's: reading them would copy the arrays back."""
        turned = next((name for name, layout in self.layouts.items() if not layout.is_rows), None)
        if turned is not None:
            hint = "pass NumPy arrays and what pack makes of them, or optimize without packed="
            raise ArgumentError(f"`{turned}` does not lie in C order in this kernel, and arrays are on the device", self.kernel.span, hint)
        try:
            given = self.__signature__.bind(*args, **kwargs)
        except TypeError as problem:
            raise ArgumentError(f"{self.kernel.name}: {problem}", self.kernel.span, f"the signature is {self.__signature__}") from None
        return self._run(*given.args, **given.kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Machine code stays here: another process compiles the plan again, or finds it in the cache.
        return compiled, (self.plan, self.target)

    def __repr__(self) -> str:
        return f"<compiled {self.kernel.name} for {self.target}>"


def _shown(name: str) -> str:
    """A name as a signature can show it: Python's words are no parameters (a call passes them by `**`)."""
    return f"{name}_" if iskeyword(name) else name


def _is_device_array(argument: object) -> bool:
    """Whether an argument is an array on a device: it says so by its interface (CUDA array interface, DLPack)."""
    if hasattr(argument, "__cuda_array_interface__"):
        return True
    return hasattr(argument, "__dlpack__") and not isinstance(argument, np.ndarray | np.generic)


def source_text(plan: Plan, target: Target) -> str:
    """The backend's Python source of a plan."""
    match target.backend:
        case "numpy":
            from backends.numpy_source import numpy_source

            return numpy_source(plan.kernel)
        case "cpu":
            from backends.cpu_source import cpu_source

            return cpu_source(plan)
        case "cuda" | "cuda-on-cpu":
            from backends.cuda import emit

            return emit(plan)


def ptx_text(plan: Plan, target: Target) -> str:
    """The PTX of a plan's kernels, for the target's architecture; needs no GPU. Raises TargetError for targets that have none."""
    if target.backend not in ("cuda", "cuda-on-cpu"):
        raise TargetError(f"target {target} has no PTX", hint="choose --target cuda:sm_90, cuda:sm_80 or cuda:sm_75")
    from backends.cuda import build

    return build(plan, target.name).ptx


def compiled(plan: Plan, target: Target, check: bool = False, fast_math: Flags = NONE, budget: ErrorBudget | None = None) -> Compiled:
    """The plan, compiled; with `check` compared with the meaning of its kernel on a few small inputs before it is returned.

    Raises EquivalenceError, with the shrunk inputs, where the code computes something else, or exceeds the error budget.
    """
    source = source_text(plan, target)
    run, notes, on_memory = _runner(plan, target, source)
    result = Compiled(plan.kernel, plan, target, source, run, notes, on_memory)
    if check and _runs_here(target):
        from kernel_ir.testing import quick_check

        quick_check(plan.kernel, result, fast_math, examples=CHECK_EXAMPLES)
        if budget is not None:
            budget.demand(result)
    return result


OnMemory = Callable[[Binding], LaidCall]


def _runner(plan: Plan, target: Target, source: str) -> tuple[Callable[..., Any], tuple[str, ...], OnMemory | None]:
    """What runs a plan, notes, and, where the plan has a say in layouts, what runs it on memory that is laid out."""
    if target.backend in ("numpy", "cpu"):
        from backends.cpu_names import entry_name
        from backends.load import load
        from backends.threads import guarded

        loaded = load(source, plan.kernel.name)
        name = entry_name(plan.kernel.name) if target.backend == "cpu" else plan.kernel.name
        run: Callable[..., Any] = getattr(loaded.module, name)
        notes = (loaded.note,) if loaded.note else ()
        parallel = "prange(" in source
        on_memory = None if target.backend == "numpy" or not plan.layouts else partial(_on_memory, plan, loaded.module, parallel)
        return guarded(run) if parallel else run, notes, on_memory
    from backends.cuda import build

    return build(plan, target.name), (), None


def _on_memory(plan: Plan, module: ModuleType, parallel: bool, bound: Binding) -> LaidCall:
    from backends.threads import guarded

    several: Any = next((v for v in vars(module).values() if isinstance(v, type) and hasattr(v, "_fields")), None)
    launch = guarded(module.launch) if parallel else module.launch
    return LaidCall(plan, bound, launch, getattr(module, "fresh", np.empty), several, _laying_code)


@lru_cache(maxsize=64)
def _laying_code(kernel: Kernel) -> Compiled:
    """A kernel that lays arrays out or back, compiled."""
    from kernel_ir.costing import Costing

    place = target_named("cpu")
    costing = Costing(place, load_machine(place.machine), dict.fromkeys(kernel.sizes, 4096), NONE)
    return compiled(costing.input(kernel)[0], place)


def _runs_here(target: Target) -> bool:
    if target.backend != "cuda":
        return True
    from backends.target import cuda_device_present

    return cuda_device_present()

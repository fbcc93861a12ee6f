"""Turns a kernel into contenders on the GPU: arrays on the device once, outside of what is timed; a call ends when the GPU is done.

`ours` is the kernel optimized for the GPU that is here, `naive` the kernel as written with a thread for each point and no flags: what a
first numba.cuda version is. On a machine without a GPU both run on the CPU (`cuda-on-cpu`), to see that all works.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from benchmarks.inputs import Inputs
from benchmarks.ours import FLAGS
from benchmarks.peers import Absent, Array, Bound, Contender, Signature, function_of, several, split
from kernel_ir.nodes import Kernel

SLOW: Final = 1.0
"""Seconds of a call from which on the naive kernel is not run: a prefix sum as written is quadratic."""
Makers = Mapping[str, Callable[[], Contender]]


def contenders(kernel: Kernel, sizes: Mapping[str, int], signature: Signature, target: str) -> Makers:
    """Ours, naive numba.cuda, torch eager, Triton and torch.compile, by name, each compiled when it is asked for."""
    extents = {name: sizes[name] for name in kernel.sizes}
    return {
        "ours": lambda: _on_device(_ours(kernel, extents, target), signature, target),
        "naive": lambda: _on_device(_naive(kernel, extents, target), signature, target),
        "torch": lambda: _torch("torch_peers", signature, target, compiled=False),
        "triton": lambda: _triton(signature, target),
        "torch.compile": lambda: _torch("torch_peers", signature, target, compiled=True),
    }


def copies(target: str) -> Callable[[int], Callable[[], Any]]:
    """A copy on the device that reads and writes, in all, so many bytes."""

    def copy(moved: int) -> Callable[[], Any]:
        if target == "cuda-on-cpu":
            array = np.ones(max(1, moved // 2), np.uint8)
            return array.copy
        torch: Any = importlib.import_module("torch")
        source = torch.ones(max(1, moved // 8), dtype=torch.float32, device="cuda")
        other = torch.empty_like(source)

        def call() -> None:
            other.copy_(source)
            torch.cuda.synchronize()

        return call

    return copy


def _ours(kernel: Kernel, extents: Mapping[str, int], target: str) -> Callable[..., Any]:
    import kernel_ir as kir

    return kir.optimize(kernel, target=target, fast_math=FLAGS, sizes=extents).compile(check=False)


def _naive(kernel: Kernel, extents: Mapping[str, int], target: str) -> Callable[..., Any]:
    from backends.target import target as named
    from extract.cost import cost
    from extract.machine import load_machine
    from extract.schedule_cuda import cuda_plans
    from kernel_ir.compiled import compiled

    place = named(target)
    plain = [p for p in cuda_plans(kernel, place.machine, extents) if len(p.schedule) == 3 and ("products", "plain") in p.schedule]
    plan = next((p for p in plain if ("map", "point") in p.schedule), plain[0])
    machine = load_machine(place.machine)
    seconds = cost(plan, machine, extents).cycles / machine.clock_ghz / 1e9
    if target != "cuda-on-cpu" and seconds > SLOW:
        raise Absent(f"a call would take {seconds:.0f} s, by the cost model")
    return compiled(plan, place)


def _on_device(function: Callable[..., Any], signature: Signature, target: str) -> Contender:
    def bind(inputs: Inputs) -> Bound:
        if target == "cuda-on-cpu":
            own = {n: v.copy() if n in signature.inout else v for n, v in inputs.items()}
        else:
            cuda: Any = importlib.import_module("numba.cuda")
            own = {n: cuda.to_device(v) if isinstance(v, np.ndarray) else v for n, v in inputs.items()}
        positional, free = split(own, signature)

        def call() -> Any:
            returned = function(*positional, **free)
            if target != "cuda-on-cpu":
                importlib.import_module("numba.cuda").synchronize()
            return returned

        def results(returned: Any) -> tuple[Array, ...]:
            arrays = (*several(returned), *(own[n] for n in signature.inout))
            return tuple(a.copy_to_host() if hasattr(a, "copy_to_host") else np.asarray(a) for a in arrays)

        return Bound(call, results)

    return bind


def _triton(signature: Signature, target: str) -> Contender:
    if target == "cuda-on-cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise Absent("Triton needs a GPU, or TRITON_INTERPRET=1")
    return _torch("triton_peers", signature, target, compiled=False)


def _torch(module: str, signature: Signature, target: str, compiled: bool) -> Contender:
    function = function_of(module, signature)
    torch: Any = importlib.import_module("torch")
    device = "cpu" if target == "cuda-on-cpu" else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise Absent("this torch has no CUDA")
    # Without a GPU what is traced runs as it is: code that the compiler makes for the CPU would say nothing, and take minutes.
    backend = "inductor" if device == "cuda" else "aot_eager"
    run: Any = torch.compile(function, dynamic=False, backend=backend) if compiled else function

    def bind(inputs: Inputs) -> Bound:
        def tensor(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return torch.from_numpy(value.copy()).to(device)
            return value if isinstance(value, int) else value.item()

        own = {name: tensor(value) for name, value in inputs.items()}
        positional, free = split(own, signature)

        def call() -> Any:
            with torch.inference_mode(), torch.device(device):
                returned = run(*positional, **free)
            if device == "cuda":
                torch.cuda.synchronize()
            return returned

        def results(returned: Any) -> tuple[Array, ...]:
            return tuple(t.cpu().numpy() for t in (*several(returned), *(own[n] for n in signature.inout)))

        return Bound(call, results)

    return bind

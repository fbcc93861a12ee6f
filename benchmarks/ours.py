"""Turns a kernel into our contenders: optimized under the flags, optimized without flags, and as written through the same backend."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.peers import Contender, Signature, on_arrays
from kernel_ir.nodes import Kernel

FLAGS: Final = "reassoc,contract,arcp,afn,nsz"
"""What `fastmath=True` licenses in numba, without its promise that no NaN or infinity ever occurs."""


def ours(kernel: Kernel, sizes: Mapping[str, int], flags: str) -> Callable[..., Any]:
    """The kernel optimized for this CPU at these sizes, compiled."""
    import kernel_ir as kir

    return kir.optimize(kernel, target="cpu", fast_math=flags, sizes=sizes).compile()


def as_written(kernel: Kernel, sizes: Mapping[str, int], flags: str) -> Callable[..., Any]:
    """The kernel as it stands, through the same scheduler and backend: what the rewriting adds is the difference."""
    from backends.target import target
    from kernel_ir import fastmath
    from kernel_ir.compiled import compiled
    from kernel_ir.optimizer import best_plan

    place = target("cpu")
    return compiled(best_plan(kernel, place, sizes, fastmath.flags(flags)), place)


def variants(kernel: Kernel, sizes: Mapping[str, int], signature: Signature) -> dict[str, Callable[[], Contender]]:
    """Our contenders by name, each compiled when it is asked for."""
    extents = {name: sizes[name] for name in kernel.sizes}
    makers = {"ours": (ours, FLAGS), "exact": (ours, "none"), "written": (as_written, FLAGS)}
    return {
        name: lambda make=make, flags=flags: on_arrays(make(kernel, extents, flags), signature) for name, (make, flags) in makers.items()
    }

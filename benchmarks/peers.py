"""Turns a kernel's name into contenders: each library's function for it, its data converted once, outside of what is timed.

A contender given inputs is a `Bound`: a call to time, on its own copies of the inout arrays, and a way to see the results as NumPy.
Those of JAX and torch exist where the libraries are installed.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.inputs import Inputs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """A contender with its data: `call` is what is timed; `results` turns what it returned into the outputs, then the inout arrays."""

    call: Callable[[], Any]
    results: Callable[[Any], tuple[Array, ...]]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a contender must know of a kernel: its name, its parameters in order, and which of them are inout arrays."""

    name: str
    params: tuple[str, ...]
    inout: tuple[str, ...] = ()


Contender = Callable[[Inputs], Bound]


class Absent(Exception):
    """Why a library has no contender for a kernel."""


def on_arrays(function: Callable[..., Any], signature: Signature) -> Contender:
    """A contender that takes NumPy arrays in the kernel's order, free sizes by keyword, and updates inout arrays in place."""

    def bind(inputs: Inputs) -> Bound:
        own = {name: value.copy() if name in signature.inout else value for name, value in inputs.items()}
        arguments, free = split(own, signature)

        def call() -> Any:
            return function(*arguments, **free)

        return Bound(call, lambda returned: (*several(returned), *(own[name] for name in signature.inout)))

    return bind


def numba(signature: Signature) -> Contender:
    return on_arrays(function_of("naive", signature), signature)


def numpy(signature: Signature) -> Contender:
    return on_arrays(function_of("numpy_peers", signature), signature)


def jax(signature: Signature) -> Contender:
    """Jitted, with 64-bit types only where an input is f64 or all are i64; a call ends when its results are ready."""
    function = function_of("jax_peers", signature)
    library: Any = importlib.import_module("jax")

    def bind(inputs: Inputs) -> Bound:
        types = [np.asarray(value).dtype for value in inputs.values()]
        wide = np.dtype(np.float64) in types or all(kind == np.int64 for kind in types)
        precision: Callable[[], Any] = (lambda: library.enable_x64(True)) if wide else nullcontext
        with precision():
            own = {n: library.numpy.asarray(v) if n in signature.params else v for n, v in inputs.items()}
        arguments, free = split(own, signature)
        jitted = library.jit(function, static_argnames=tuple(free))

        def call() -> Any:
            with precision():
                return library.block_until_ready(jitted(*arguments, **free))

        return Bound(call, lambda returned: tuple(np.asarray(value) for value in several(returned)))

    return bind


def torch(signature: Signature, compiled: bool = False) -> Contender:
    """Eager, or through `torch.compile`."""
    function = function_of("torch_peers", signature)
    library: Any = importlib.import_module("torch")
    if compiled:
        function = _torch_compiled(library, function)

    def bind(inputs: Inputs) -> Bound:
        own = {name: _tensor(library, value, copy=name in signature.inout) for name, value in inputs.items()}
        arguments, free = split(own, signature)

        def call() -> Any:
            with library.inference_mode():
                return function(*arguments, **free)

        def results(returned: Any) -> tuple[Array, ...]:
            return tuple(tensor.numpy() for tensor in (*several(returned), *(own[name] for name in signature.inout)))

        return Bound(call, results)

    return bind


def _torch_compiled(library: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled for its shapes; of one that repeats a step, the step alone: torch.compile would write out every one."""
    repeated = inspect.signature(function).parameters.get("step")
    if repeated is None:
        return library.compile(function, dynamic=False)
    return partial(function, step=library.compile(repeated.default, dynamic=False))


PEERS: dict[str, Callable[[Signature], Contender]] = {
    "numba": numba,
    "numpy": numpy,
    "jax": jax,
    "torch": torch,
    "torch.compile": lambda signature: torch(signature, compiled=True),
}


def widened(inputs: Inputs) -> Inputs:
    """The inputs with every narrower float as f64 (inout arrays copied): what the reference results are computed from."""

    def wide(value: Any) -> Any:
        if isinstance(value, int):
            return value
        return value.astype(np.float64) if value.dtype.kind == "f" else value

    return {name: wide(value) for name, value in inputs.items()}


def split(own: Inputs, signature: Signature) -> tuple[tuple[Any, ...], Inputs]:
    """Arguments by position, and the sizes that no input fixes by name."""
    free = {name: value for name, value in own.items() if name not in signature.params}
    return tuple(own[name] for name in signature.params), free


def function_of(module: str, signature: Signature) -> Callable[..., Any]:
    library = module.removesuffix("_peers")
    if module != "naive" and importlib.util.find_spec(library) is None:
        raise Absent(f"{library} is not installed")
    public = getattr(importlib.import_module(f"benchmarks.{module}"), signature.name, None)
    more = f"benchmarks.npbench_{library}"
    found = public or (getattr(importlib.import_module(more), signature.name, None) if importlib.util.find_spec(more) else None)
    if found is None:
        raise Absent(f"{library} has no natural form of it")
    return found


def several(returned: Any) -> Iterable[Any]:
    if returned is None:
        return ()
    return returned if isinstance(returned, tuple) else (returned,)


def _tensor(library: Any, value: Any, copy: bool) -> Any:
    if isinstance(value, np.ndarray):
        return library.from_numpy(value.copy() if copy else value)
    return value if isinstance(value, int) else value.item()

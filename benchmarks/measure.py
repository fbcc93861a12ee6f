"""Turns a kernel and its contenders into timings: verified, timed in turn in one run, verified again on other values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.check import verdict
from benchmarks.inputs import Case, Inputs, Sizes
from benchmarks.machine import copy_into, settle
from benchmarks.peers import Absent, Array, Contender
from benchmarks.reference import expected, result_types, signature
from kernel_ir.nodes import Kernel
from kernel_ir.timing import Timing, alternating

Makers = Mapping[str, Callable[[], Contender]]


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel: bytes of its inputs and results, each once; the timings; why other contenders have none."""

    kernel: str
    sizes: Sizes
    bytes: int
    timings: dict[str, Timing]
    faults: dict[str, str]
    absent: dict[str, str]

    def ratio(self, name: str) -> float | None:
        """How many times as long as ours it takes, if both ran."""
        return self.timings["ours"].ratio(self.timings[name]) if {"ours", name} <= self.timings.keys() else None


def parallel_copy(moved: int) -> Callable[[], Any]:
    """A parallel copy that reads and writes, in all, so many bytes."""
    source = np.ones(max(1, moved // 8), np.float32)
    target = np.empty_like(source)
    return lambda: copy_into(source, target)


def measured(
    kernel: Kernel,
    case: Case,
    sizes: Sizes,
    makers: Makers,
    rounds: int,
    seconds: float,
    copy: Callable[[int], Callable[[], Any]] = parallel_copy,
) -> Row:
    """The kernel's row. A contender that fails or gives a wrong result is a fault and has no timing.

    `copy` makes the copy, of as many bytes as the kernel's inputs and results have, that is timed beside them.
    """
    inputs = case.inputs(sizes, seed=0)
    reference = expected(signature(kernel), inputs)
    contenders: dict[str, Contender] = {}
    calls: dict[str, Callable[[], Any]] = {}
    faults: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name, make in makers.items():
        try:
            contender = make()
            bound = contender(inputs)
            fault = verdict(bound.results(bound.call()), reference, *result_types(kernel))
        except Absent as reason:
            absent[name] = str(reason)
            continue
        except Exception as error:
            fault = _message(error)
        if fault:
            faults[name] = fault
        else:
            contenders[name], calls[name] = contender, bound.call
    moved = _bytes(kernel, inputs, reference)
    timings = alternating(calls | {"copy": copy(moved)}, rounds, seconds, settle) if calls else {}
    faults |= _faults_on_other_values(kernel, case, sizes, inputs, contenders)
    return Row(kernel.name, sizes, moved, {n: t for n, t in timings.items() if n not in faults}, faults, absent)


def _faults_on_other_values(
    kernel: Kernel, case: Case, sizes: Sizes, inputs: Inputs, contenders: Mapping[str, Contender]
) -> dict[str, str]:
    """Faults after the arrays, at the same addresses, got other values: no result may come from what an earlier call left."""
    for name, value in case.inputs(sizes, seed=1).items():
        if isinstance(value, np.ndarray):
            inputs[name][...] = value
    reference = expected(signature(kernel), inputs)
    faults: dict[str, str] = {}
    for name, contender in contenders.items():
        bound = contender(inputs)
        fault = verdict(bound.results(bound.call()), reference, *result_types(kernel))
        if fault:
            faults[name] = f"on other values: {fault}"
    return faults


def _bytes(kernel: Kernel, inputs: Inputs, results: tuple[Array, ...]) -> int:
    read = sum(value.nbytes for value in inputs.values() if isinstance(value, np.ndarray))
    written = sum(result.size * dtype.itemsize for result, dtype in zip(results, result_types(kernel)[0], strict=True))
    return read + written


def _message(error: Exception) -> str:
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first}"

"""Turns the best few plans by prediction into the fastest by measurement, on this machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from backends.target import Target
from kernel_ir.compiled import compiled, source_text
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan
from kernel_ir.timing import alternating, readable
from kernel_ir.tuned import Question, known, processor, remember

ROUNDS = 7
SECONDS = 2.0


def fastest(kernel: Kernel, plans: Sequence[Plan], target: Target, sizes: Mapping[str, int], seed: int) -> tuple[int, tuple[str, ...]]:
    """(position of the fastest plan, a note a plan): all timed in one run, alternating, on inputs of the given sizes.

    The winner is kept in the cache directory: the same question on the same machine is not measured again, and the note says so.
    Raises TargetError where the target does not run on this machine.
    """
    from kernel_ir.inputs import sample_inputs

    if target.backend == "cuda":
        from backends.target import cuda_device_present

        if not cuda_device_present():
            raise TargetError(f"cannot tune for {target}: no GPU is here", hint="tune on a machine that has one")
    sources = [source_text(plan, target) for plan in plans]
    question = Question(str(kernel), f"{target} {target.machine}", sizes, _machine(target), sources)
    answer = known(question)
    if answer is not None:
        place, took = answer
        return place, (f"tuned: plan {place} of {len(plans)} took {took} when it was measured on this machine; from {question.path}",)
    values: dict[str, Any] = sample_inputs(kernel, seed, sizes)
    contenders = {str(n): compiled(plan, target) for n, plan in enumerate(plans)}
    given = {name: f.ready(values) for name, f in contenders.items()}
    timings = alternating({name: lambda f=f, own=given[name]: f(**own) for name, f in contenders.items()}, ROUNDS, SECONDS)
    order = sorted(timings, key=lambda name: timings[name].median)
    notes = tuple(f"tuned: plan {name} of {len(plans)} took {readable(timings[name].median)}" for name in order)
    lost = remember(question, int(order[0]), readable(timings[order[0]].median))
    return int(order[0]), (*notes, lost) if lost else notes


def _machine(target: Target) -> str:
    """The machine that is measured: the processor, and the GPU where it runs the code."""
    if target.backend != "cuda":
        return processor()
    from backends.cuda_compile import numba_cuda

    return f"{processor()}, {numba_cuda().get_current_device().name}"

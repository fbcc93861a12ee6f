"""Turns a faulty plan into how the execution on the CPU catches it, or into the proof that there is nothing to catch."""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from backends.cuda import CudaOnCpu
from backends.cuda_lines import grid_of
from backends.simt_errors import SimtError
from benchmarks.fault_cases import launches
from benchmarks.fault_seeds import Fault, slipped
from extract.wide_cuda import takes_rest
from kernel_ir.dtypes import I64
from kernel_ir.evaluate import evaluate
from kernel_ir.nodes import Kernel, const
from kernel_ir.plan import Buffer, Launch, Loop, Plan

SEEDS = (1, 2)
"""The orders of threads and blocks that a faulty kernel runs in."""


class Trial:
    """A schedule of a kernel, the values that it is run on, and what they must give; its code is compiled once for all faults."""

    def __init__(self, kernel: Kernel, plan: Plan, values: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.kernel, self.plan, self.values, self.sizes = kernel, plan, values, sizes
        self.expected = reference(kernel, values, sizes)
        self._compiled: dict[tuple[str, ...], Any] = {}

    def caught(self, fault: Fault) -> str:
        """How the fault showed: `error`, `result`, `refused` (the code does not compile), or nothing."""
        try:
            run = CudaOnCpu(fault.plan, source=fault.source, compiled=self._compiled)
        except Exception:  # whatever the compiler makes of a plan that no scheduler would write
            return "refused"
        for run.seed in SEEDS:
            try:
                got = outputs(run, self.kernel, self.values, self.sizes)
            except SimtError:
                return "error"
            except Exception:  # kernels are compiled at their first call
                return "refused"
            if not all(_agree(got[name], wanted) for name, wanted in self.expected.items()):
                return "result"
        return ""


def outputs(run: Any, kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """What one run returns or updates, by name."""
    own = {p.name: np.copy(values[p.name]) if p.inout else values[p.name] for p in kernel.params}
    returned = run(*own.values(), **{n: s for n, s in sizes.items() if n in run.__signature__.parameters})
    names = [p.name for p in kernel.outputs]
    arrays = dict(zip(names, [returned] if len(names) == 1 else returned or (), strict=True))
    return arrays | {p.name: own[p.name] for p in kernel.params if p.inout}


PROVED: tuple[tuple[str, str, str], ...] = (
    (
        "bound slipped",
        r"(row_block|column_block)\d* < hi \+ 1",
        "a block past the last has no points: they start at side * ceil(extent / side) >= extent, and code tests each against the extent",
    ),
    (
        "bound slipped",
        r"\bblock < hi \+ 1",
        "a block past the last has no terms, since blocks * ceil(n / blocks) >= n, and adds zeros (-0.0 for floats), which changes nothing",
    ),
)
"""Faults without effect: their kind, a pattern of where they are, and the proof."""


def equivalent(fault: Fault, plan: Plan) -> str:
    """The proof that the fault changes nothing; empty where there is none.

    One of `PROVED`; or it leaves the set of points as it is (`_same_points`); or the host runs the same text, but for which width of
    index it takes (both give the same results), and the kernels are the same text or the same PTX.
    """
    for kind, where, proof in PROVED:
        if fault.kind == kind and re.search(where, fault.where):
            return proof
    pairs = zip(launches(plan.steps), launches(fault.plan.steps), strict=True)
    buffers = {b.name: b for b in plan.buffers}
    if not fault.source and all(a == b or _same_points(a, b, buffers) for a, b in pairs):
        return "a call that meets the guard has an extent of whole steps, and one point more makes no further step"
    right, wrong = CudaOnCpu(plan), CudaOnCpu(fault.plan, source=fault.source)
    texts = [re.sub(r"^    index, \(.*\n", "", run.source, flags=re.MULTILINE) for run in (right, wrong)]
    if texts[0] == texts[1]:
        return "the same source"
    host = [text.partition("narrow, wide = kernels")[2] for text in texts]
    return "the same PTX" if host[0] == host[1] and right.ptx == wrong.ptx else ""


def _same_points(right: Launch, wrong: Launch, buffers: Mapping[str, Buffer]) -> bool:
    """Whether all that is wrong is one point more in a grid's last loop, of w neighbours a thread, in a launch whose guard demands that
    w divides its extent n. The grid has n // w threads there, and (n + 1) // w is the same for w > 1."""
    loops = grid_of(right).loops
    last = loops[-1]
    whole = right.guard is not None and any(e == last.hi and n % last.step == 0 for e, n in right.guard.multiples)
    if last.step == 1 or last.lo != const(0, I64) or not whole or takes_rest(loops, buffers):
        return False
    longer: Loop = replace(last, hi=slipped(last.hi, 1))
    for loop in reversed(loops[:-1]):
        longer = replace(loop, body=(longer,))
    return replace(right, body=(longer,)) == wrong


def _agree(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "fV":
        return bool(np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=3e-5, atol=1e-6, equal_nan=True))
    return bool((a == b).all())


def reference(kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """What the reference evaluator gives for every output and updated array."""
    found = evaluate(kernel, deepcopy(dict(values)), sizes)
    names = [*(p.name for p in kernel.outputs), *(p.name for p in kernel.params if p.inout)]
    return {name: found[name] for name in names}

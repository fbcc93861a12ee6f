"""Turns a kernel and full-size inputs into the results that every contender must give."""

from benchmarks.inputs import Inputs
from benchmarks.peers import Array, Signature, numpy, widened
from kernel_ir.dtypes import DType
from kernel_ir.nodes import Kernel


def signature(kernel: Kernel) -> Signature:
    """What contenders must know of the kernel."""
    params = kernel.params
    return Signature(kernel.name, tuple(p.name for p in params), tuple(p.name for p in params if p.inout))


def result_types(kernel: Kernel) -> tuple[tuple[DType, ...], tuple[str, ...]]:
    """Storage types and names of what contenders give: the outputs, then the inout arrays."""
    given = (*kernel.outputs, *(p for p in kernel.params if p.inout))
    return tuple(p.type.dtype for p in given), tuple(p.name for p in given)


def expected(which: Signature, inputs: Inputs) -> tuple[Array, ...]:
    """The kernel's results in f64 by NumPy: the tests hold these functions to the evaluator, which would take minutes here."""
    bound = numpy(which)(widened(inputs))
    return bound.results(bound.call())

"""Runs two versions of a kernel on the same inputs and finds the first element in which they differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernel_ir import meaning
from kernel_ir.errors import ArgumentError, UsageError
from kernel_ir.evaluate import evaluate
from kernel_ir.fastmath import Flags
from kernel_ir.inputs import Inputs
from kernel_ir.nodes import Kernel, Param
from kernel_ir.number_system import Array
from kernel_ir.truth import Judge, Truth, certain, judge, truth


@dataclass(frozen=True, slots=True)
class Subject:
    """One side of a comparison: a kernel, how to run it (its reference meaning, or compiled code), and its exact values."""

    kernel: Kernel
    run: Callable[[Inputs], dict[str, Array]]
    truth: Callable[[Inputs, Flags], dict[str, Truth]]
    compiled: bool


def subject(given: Any) -> Subject:
    """The subject that a Kernel, a text with one kernel, or a compiled callable (with `.kernel`) stands for. Else UsageError."""
    if isinstance(given, Subject):
        return given
    if isinstance(given, str):
        from kernel_ir.parser import parse

        module = parse(given)
        if len(module) != 1:
            raise UsageError(f"the text has {len(module)} kernels, and one is compared", hint="give parse(text)[name]")
        given = next(iter(module.values()))
    if isinstance(given, Kernel):
        kernel = given
        return Subject(kernel, lambda drawn: evaluate(kernel, drawn.values, drawn.sizes), _truth_of(kernel), compiled=False)
    kernel = getattr(given, "kernel", None)
    if callable(given) and isinstance(kernel, Kernel):
        return Subject(kernel, lambda drawn: _run_compiled(given, kernel, drawn), _truth_of(kernel), compiled=True)
    raise UsageError(f"cannot compare a {type(given).__name__}", hint="give a Kernel, its text, or a compiled kernel")


def remembering(kernel: Kernel) -> Subject:
    """The kernel as a subject that computes nothing twice: for many comparisons on the same inputs."""
    plain = subject(kernel)
    results: dict[object, dict[str, Array]] = {}
    truths: dict[object, dict[str, Truth]] = {}

    def run(drawn: Inputs) -> dict[str, Array]:
        key = _key(drawn)
        if key not in results:
            results[key] = plain.run(drawn)
        return results[key]

    def exact(drawn: Inputs, flags: Flags) -> dict[str, Truth]:
        key = _key(drawn), flags
        if key not in truths:
            truths[key] = plain.truth(drawn, flags)
        return truths[key]

    return Subject(kernel, run, exact, compiled=False)


def _key(drawn: Inputs) -> object:
    arrays = ((name, np.asarray(value)) for name, value in drawn.values.items())
    return tuple(drawn.sizes.items()), tuple((name, a.shape, a.dtype.str, a.tobytes()) for name, a in arrays)


def _truth_of(kernel: Kernel) -> Callable[[Inputs, Flags], dict[str, Truth]]:
    return lambda drawn, flags: truth(kernel, drawn.values, drawn.sizes, flags)


def _run_compiled(f: Callable[..., Any], kernel: Kernel, drawn: Inputs) -> dict[str, Array]:
    arguments = drawn.arguments(kernel)
    returned = f(**arguments)
    names = [p.name for p in kernel.outputs]
    outputs: Sequence[Any] = [returned] if len(names) == 1 else returned or ()
    arrays = {p.name: arguments[p.name] for p in kernel.params if p.inout} | dict(zip(names, outputs, strict=True))
    types = kernel.arrays
    return {name: _stored(a, types[name].dtype.numpy) for name, a in arrays.items()}


def _stored(array: Any, dtype: np.dtype[Any]) -> Array:
    """The array as the evaluator stores it: bfloat16 as its bits."""
    a = np.asarray(array)
    return a.view(dtype) if a.dtype != dtype and a.dtype.itemsize == dtype.itemsize and a.dtype.name == "bfloat16" else a


def same_signature(a: Kernel, b: Kernel) -> None:
    """Raises ArgumentError where the two kernels could not be called alike: names, types, shapes, order."""
    for kind, left, right in (("parameter", a.params, b.params), ("output", a.outputs, b.outputs)):
        for p, q in zip(left, right, strict=False):
            if (p.name, p.type.dtype, p.type.shape, p.inout) != (q.name, q.type.dtype, q.type.shape, q.inout):
                raise ArgumentError(
                    f"the kernels cannot be compared: {kind} `{_shown(p)}` of {a.name!r} is `{_shown(q)}` in {b.name!r}", q.span, _ALIKE
                )
        if len(left) != len(right):
            owner, longer = (a, left) if len(left) > len(right) else (b, right)
            extra = longer[min(len(left), len(right))]
            message = f"the kernels cannot be compared: only {owner.name!r} has the {kind} `{_shown(extra)}`"
            raise ArgumentError(message, extra.span, _ALIKE)


_ALIKE = "give both kernels the same parameters and outputs, in the same order"


def _shown(p: Param) -> str:
    from kernel_ir.printer import expr_text

    extents = ", ".join(map(expr_text, p.type.shape))
    return f"{'inout ' if p.inout else ''}{p.name}: {p.type.dtype}{f'[{extents}]' if p.type.shape else ''}"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first element that differs: array and index, the two results, the exact value and how far from it each may lie."""

    array: str
    index: tuple[int, ...]
    left: Any
    right: Any
    truth: float
    bounds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two subjects of one signature, and how to judge their results."""

    a: Subject
    b: Subject
    flags: Flags
    judge: Judge

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels whose facts inputs must obey."""
        return (self.a.kernel,) if self.a.kernel is self.b.kernel else (self.a.kernel, self.b.kernel)

    @property
    def layouts(self) -> bool:
        """Whether memory order can matter: compiled code."""
        return self.a.compiled or self.b.compiled

    def mismatch(self, drawn: Inputs) -> Mismatch | None:
        """The first difference on these inputs, None for agreement."""
        left, right = self.a.run(drawn), self.b.run(drawn)
        for name in left:
            if left[name].shape != right[name].shape:
                raise ArgumentError(f"the kernels' results for {name!r} have shapes {left[name].shape} and {right[name].shape}")
        # Equal bits agree under every judge, and need no truth.
        if all(_identical(left[name], right[name]) for name in left):
            return None
        types = self.a.kernel.arrays
        truths = self.a.truth(drawn, self.flags)
        # What agrees within the bound of the one side alone agrees within that of both, and a bound is half the work.
        if all(self.judge.agree(left[name], right[name], one, certain(one), types[name].dtype).all() for name, one in truths.items()):
            return None
        others = self.b.truth(drawn, self.flags)
        for name in left:
            ours, theirs = truths[name], others[name]
            wrong = ~self.judge.agree(left[name], right[name], ours, theirs, types[name].dtype)
            if wrong.any():
                at = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
                shown = [meaning.read(side[name], types[name].dtype)[at].item() for side in (left, right)]
                bounds = (float(ours.bound[at]), float(theirs.bound[at]))
                return Mismatch(name, at, shown[0], shown[1], float(ours.value[at]), bounds)
        return None


def _identical(x: Array, y: Array) -> bool:
    return x.dtype == y.dtype and np.ascontiguousarray(x).tobytes() == np.ascontiguousarray(y).tobytes()


def comparison(a: Any, b: Any, flags: Flags, tolerance: float | None) -> Comparison:
    """The comparison of two subjects as `subject` takes them. Raises a KernelError where they cannot be compared."""
    left, right = subject(a), subject(b)
    same_signature(left.kernel, right.kernel)
    return Comparison(left, right, flags, judge(left.kernel, right.kernel, flags, tolerance))


def value_text(values: Mapping[str, Any], kernel: Kernel) -> list[str]:
    """One line a parameter: `x = [[1.0, 2.0]]`; long arrays are cut in the middle."""
    types = kernel.arrays
    lines: list[str] = []
    for name, value in values.items():
        shown = meaning.read(np.asarray(value), types[name].dtype)
        text = np.array2string(shown, separator=", ", threshold=64, edgeitems=3, floatmode="unique") if shown.ndim else str(shown.item())
        lines.append(f"{name} = " + text.replace("\n", "\n" + " " * (len(name) + 3)))
    return lines

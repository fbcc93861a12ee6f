"""Turns a kernel and a form of it into a verdict under an error budget, from both forms' measured errors on sampled inputs.

A form is within the budget where, at every element of every sample, |form - truth| <= |original - truth| + tolerance * |truth|. The truth
is the original's formula in higher precision and with a wider range: where the original overflows on its way, its own error is infinite.

A tolerance above zero leaves two kinds of elements to looser bounds, for no form could promise more: where the original's own rounding
may cost half of the digits (cancellation) or decide a comparison, its rounding bound counts; where the flags license any result, and
near the end of the range (another order of arithmetic overflows elsewhere), nothing is asked. A tolerance of zero makes no exception.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from kernel_ir import meaning
from kernel_ir.accuracy import Errors, Measured, Tally, error, measured
from kernel_ir.compare import Subject, subject
from kernel_ir.errors import EquivalenceError
from kernel_ir.fastmath import NONE, Flags
from kernel_ir.inputs import Inputs, sampled
from kernel_ir.nodes import Kernel
from kernel_ir.number_system import Array
from kernel_ir.truth import truth

SAMPLES: Final = 24
CODE_SAMPLES: Final = 8
"""Samples for compiled code: running CUDA code on the CPU is slow."""
WORK: Final = 1 << 10
"""Most points a statement in a sample."""
HEADROOM: Final = 2.0**-16
"""Nearer than this to the greatest number, a tolerance above zero asks nothing of a form that the flags license."""
TRUTHS_OWN: Final = 2.0**-10
"""How much of a formula's rounding bound in working precision the truth itself may be off: long double has 11 bits more than float64."""


@dataclass(frozen=True, slots=True)
class Excess:
    """The element that exceeds the budget most: its place and sizes, the truth, the value of the original and of the form."""

    place: str
    sizes: str
    truth: float
    original: float
    form: float

    def __str__(self) -> str:
        at = f"{self.place} with {self.sizes}" if self.sizes else self.place
        return f"{at} is {self.form!r}, as written {self.original!r}, truth {self.truth!r}"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Measured errors of a form and of the original on the same `elements`; `excess` is None where the form is within the budget."""

    original: Errors
    form: Errors
    elements: int
    excess: Excess | None


@dataclass(frozen=True, slots=True)
class _Sample:
    """One call: its inputs, what the original makes of them, and where the flags license any result."""

    drawn: Inputs
    arrays: dict[str, Measured]
    free: dict[str, Array]


@dataclass(frozen=True)
class ErrorBudget:
    """A kernel on seeded samples, ordinary and adversarial, and how much relative error a form of it may add under the flags."""

    kernel: Kernel
    tolerance: float
    flags: Flags = NONE
    seed: int = 0
    _known: dict[Kernel, Accuracy] = field(default_factory=dict[Kernel, Accuracy], repr=False, compare=False)

    def accuracy(self, form: Kernel) -> Accuracy:
        """The errors of a form by its reference meaning."""
        if form not in self._known:
            self._known[form] = self._accuracy(subject(form), self._samples, code=False)
        return self._known[form]

    def demand(self, code: Any) -> None:
        """Raises EquivalenceError where compiled code exceeds the budget.

        Code regroups sums, and its functions have their documented ULP, in any form of a kernel: it may also err by as much as
        the original's own rounding bound.
        """
        excess = self._accuracy(subject(code), self._samples[:CODE_SAMPLES], code=True).excess
        if excess is not None:
            raise EquivalenceError(
                f"{self.kernel.name}: the compiled code exceeds the error budget of {self.tolerance:g}: {excess}",
                self.kernel.span,
                "raise the tolerance, or turn fewer flags on",
            )

    @cached_property
    def _samples(self) -> list[_Sample]:
        return [self._sample(sampled((self.kernel,), self.seed * 1009 + number, work=WORK)) for number in range(SAMPLES)]

    def _sample(self, drawn: Inputs) -> _Sample:
        exact = truth(self.kernel, drawn.values, drawn.sizes, wide=True)
        results, types = subject(self.kernel).run(drawn), self.kernel.arrays
        arrays = {name: measured(results[name], known, types[name].dtype) for name, known in exact.items()}
        licensed = truth(self.kernel, drawn.values, drawn.sizes, self.flags) if self.flags and self.tolerance else {}
        free = {name: np.isinf(known.bound) | (arrays[name].size > HEADROOM * arrays[name].greatest) for name, known in licensed.items()}
        return _Sample(drawn, arrays, free)

    def _accuracy(self, form: Subject, samples: list[_Sample], code: bool) -> Accuracy:
        ours, own = Tally(), Tally()
        worst, excess = 0.0, None
        for sample in samples:
            results = form.run(sample.drawn)
            for name, array in sample.arrays.items():
                values = meaning.read(results[name], array.dtype)
                errors = error(values, array.exact)
                ours.add(errors, array)
                own.add(array.error, array)
                over = _over(errors, self._allowed(array, sample.free.get(name), code)) / array.size
                if over.size and over.max() > worst:
                    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(over)), over.shape))
                    worst = float(over[at])
                    excess = _excess(sample.drawn, name, at, array, values)
        return Accuracy(own.figures(), ours.figures(), own.elements, excess)

    def _allowed(self, of: Measured, free: Array | None, code: bool) -> Array:
        """The error that each element may have."""
        allowed = of.error + np.where(np.isfinite(of.bound), TRUTHS_OWN * of.bound, 0.0)
        if self.tolerance or code:
            allowed = np.where(of.ill | code, np.maximum(allowed, of.bound), allowed)
        if of.dtype.is_float:
            allowed = allowed + self.tolerance * of.size
        return allowed if free is None else np.where(free, np.inf, allowed)


def _over(errors: Array, allowed: Array) -> Array:
    """How far errors exceed what is allowed; nothing does where anything is."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(allowed), 0, np.maximum(errors - allowed, 0))


def _excess(drawn: Inputs, name: str, at: tuple[int, ...], of: Measured, values: Array) -> Excess:
    place = name + (f"[{', '.join(map(str, at))}]" if at else "")
    sizes = ", ".join(f"{size}={extent}" for size, extent in drawn.sizes.items())
    return Excess(place, sizes, float(of.exact[at]), of.values[at].item(), values[at].item())

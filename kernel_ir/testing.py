"""Turns two versions of a kernel into a verdict: equal on many drawn inputs, or an EquivalenceError with the smallest counterexample.

>>> import kernel_ir as kir
>>> a = "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] + x[i] }"
>>> b = "kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }"
>>> kir.testing.assert_equivalent(a, b, seed=1)
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernel_ir.compare import Comparison, comparison
from kernel_ir.counterexample import Counterexample as Counterexample
from kernel_ir.counterexample import difference_error, load_inputs
from kernel_ir.counterexample import save_counterexample as save_counterexample
from kernel_ir.errors import ArgumentError
from kernel_ir.fastmath import Flag, flags
from kernel_ir.generate import kernels as kernels
from kernel_ir.inputs import WORK, Inputs, drawn_inputs, sampled
from kernel_ir.inputs import inputs as inputs
from kernel_ir.inputs import sample_inputs as sample_inputs
from kernel_ir.simplify import simplified

__all__ = ["Counterexample", "assert_equivalent", "inputs", "kernels", "quick_check", "replay", "sample_inputs", "save_counterexample"]

QUICK_WORK = 1 << 11
"""Most points a statement in an example of `quick_check`."""


def assert_equivalent(
    a: Any,
    b: Any,
    fast_math: str | Iterable[str | Flag] | None = None,
    tolerance: float | None = None,
    max_examples: int = 100,
    seed: int | None = None,
) -> None:
    """Checks that `a` and `b` give equal results on inputs that Hypothesis draws.

    Each is a Kernel, the text of one kernel, or a compiled kernel (a callable with `.kernel`). Without float sums, products and
    inexact functions, and without flags, results must be equal bit for bit (NaN equals NaN). Otherwise they may differ by the rounding
    errors that each kernel's formula allows, bounded while it runs in higher precision; under `fast_math` flags, also by what
    the flags license (nnan, ninf: whatever comes of a NaN or an infinity; nsz: the sign of a zero). `tolerance` accepts that
    much relative error besides.

    The same `seed` (None: a fixed one) draws the same inputs. Hypothesis profiles and databases are neither used nor changed.

    Raises EquivalenceError, with the shrunk inputs in its message and its `counterexample`; ArgumentError where the signatures differ.
    """
    from hypothesis import currently_in_test_context

    compared = comparison(a, b, flags(fast_math), tolerance)
    # Hypothesis refuses to run inside one of its own tests (nested_given).
    search = _sample if currently_in_test_context() else _search
    drawn = search(compared, max_examples, 0 if seed is None else seed)
    if drawn is not None:
        raise _shrunk(compared, drawn)


def quick_check(
    a: Any,
    b: Any,
    fast_math: str | Iterable[str | Flag] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    examples: int = 12,
) -> None:
    """Like `assert_equivalent`, on a few small seeded inputs, in milliseconds and without Hypothesis."""
    compared = comparison(a, b, flags(fast_math), tolerance)
    drawn = _sample(compared, examples, seed, QUICK_WORK)
    if drawn is not None:
        raise _shrunk(compared, drawn)


def replay(path: str | Path, a: Any, b: Any, fast_math: str | Iterable[str | Flag] | None = None, tolerance: float | None = None) -> None:
    """Compares `a` and `b` on the inputs of a counterexample file. Raises EquivalenceError where they (still) differ."""
    compared = comparison(a, b, flags(fast_math), tolerance)
    drawn = load_inputs(path)
    missing = [p.name for p in compared.a.kernel.params if p.name not in drawn.values]
    if missing:
        raise ArgumentError(f"the counterexample in {path} has no input {missing[0]!r}", hint="replay it with the kernel it was found for")
    found = compared.mismatch(drawn)
    if found is not None:
        raise difference_error(compared, drawn, found)


def _shrunk(compared: Comparison, drawn: Inputs) -> Exception:
    small = simplified(compared.kernels, drawn, lambda tried: compared.mismatch(tried) is not None)
    found = compared.mismatch(small)
    assert found is not None
    return difference_error(compared, small, found)


def _sample(compared: Comparison, examples: int, seed: int, work: int = WORK) -> Inputs | None:
    """The first failing inputs of a seeded sample; None if all agree."""
    for number in range(examples):
        drawn = sampled(compared.kernels, seed * 1009 + number, compared.layouts, work)
        if compared.mismatch(drawn) is not None:
            return drawn
    return None


class _Differs(Exception):
    """Tells Hypothesis that an input fails."""


def _search(compared: Comparison, max_examples: int, seed: int) -> Inputs | None:
    """The smallest failing inputs that Hypothesis finds; None if all agree."""
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable

    failing: Inputs | None = None

    @seeded(seed)
    @settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    @given(drawn_inputs(compared.kernels, compared.layouts))
    def agree(drawn: Inputs) -> None:
        nonlocal failing
        if compared.mismatch(drawn) is not None:
            failing = drawn
            raise _Differs

    try:
        agree()
    except _Differs:
        return failing
    except Unsatisfiable:
        raise ArgumentError(
            f"found no inputs that satisfy the facts of {compared.a.kernel.name!r}", compared.a.kernel.span, "check that the facts can hold"
        ) from None
    return None

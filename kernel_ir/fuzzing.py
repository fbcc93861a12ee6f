"""Turns a seed into whole drawn kernels, each optimized (and compiled) and compared with itself: the compiler's own fuzz test."""

from dataclasses import dataclass

from kernel_ir.errors import EquivalenceError
from kernel_ir.nodes import Kernel


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many kernels were drawn, how many of them the optimizer changed, and the first failure with its kernel (None if none)."""

    kernels: int
    changed: int
    failure: str | None


def fuzz_compiler(count: int, seed: int, fast_math: str = "none", compiled: bool = False) -> Outcome:
    """Draws `count` kernels and checks that each stays equal; a failing kernel is shrunk before it is reported."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from kernel_ir.optimizer import optimize
    from kernel_ir.testing import kernels

    drawn = changed = 0
    failing = ""

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(kernels())
    def one(kernel: Kernel) -> None:
        nonlocal drawn, changed, failing
        drawn += 1
        failing = str(kernel)
        result = optimize(kernel, target="cpu", fast_math=fast_math, seed=seed)
        changed += result.kernel != kernel
        if compiled:
            result.compile()

    try:
        one()
    except EquivalenceError as error:
        return Outcome(drawn, changed, f"{failing}\n{error}")
    return Outcome(drawn, changed, None)

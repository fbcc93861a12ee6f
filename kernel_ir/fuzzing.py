"""Turns a seed into whole drawn kernels, each optimized (and compiled) and compared with itself: the compiler's own fuzz test."""

import time
from dataclasses import dataclass, field

from kernel_ir.errors import EquivalenceError, KernelError, TargetError, UsageError
from kernel_ir.nodes import Kernel


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many kernels were drawn, how many of them the optimizer changed, how many the target cannot compile (each says so), and the
    first failure with its kernel (None if none). `ended` says what ended the run: count, seconds, failure, interrupt."""

    kernels: int
    changed: int
    refused: int
    failure: str | None
    ended: str


class _Enough(BaseException):
    """Ends the run; Hypothesis lets what is no Exception pass."""


@dataclass(slots=True)
class _Run:
    """Counts as the run goes on."""

    target: str
    fast_math: str
    seed: int
    compiled: bool
    seconds: float | None
    began: float = field(default_factory=time.monotonic)
    kernels: int = 0
    changed: int = 0
    refused: int = 0
    last: str = ""

    def one(self, kernel: Kernel) -> None:
        """Optimizes (and compiles) one kernel, with all checks on."""
        from kernel_ir.optimizer import optimize

        if self.seconds is not None and time.monotonic() - self.began > self.seconds:
            raise _Enough
        self.last = str(kernel)
        self.kernels += 1
        try:
            result = optimize(kernel, target=self.target, fast_math=self.fast_math, seed=self.seed)
            self.changed += result.kernel != kernel
            if self.compiled:
                result.compile()
        except TargetError:
            self.refused += 1

    def outcome(self, ended: str, failure: str | None = None) -> Outcome:
        return Outcome(self.kernels, self.changed, self.refused, failure, ended)


def fuzz_compiler(
    count: int, seed: int, fast_math: str = "none", compiled: bool = False, target: str = "cpu", seconds: float | None = None
) -> Outcome:
    """Draws `count` kernels, for `seconds` at most, and checks that each stays equal; a failing one is shrunk before it is reported.

    Whatever else a drawn kernel raises is a failure too. Ctrl-C ends the run, and its counts are kept. Raises UsageError, TargetError
    for bad arguments.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from backends.target import target as target_named
    from kernel_ir.fastmath import flags
    from kernel_ir.testing import kernels

    if count < 1 or seed < 0:
        raise UsageError(f"{count} kernels from seed {seed} cannot be drawn", hint="at least 1 kernel, and a seed of at least 0")
    place = target_named(target)
    if compiled and place.backend == "cuda":
        from backends.target import cuda_device_present

        if not cuda_device_present():
            raise TargetError(f"no GPU is here to run code for {target}", hint="--target cuda-on-cpu runs the same kernels on the CPU")
    flags(fast_math)
    run = _Run(target, fast_math, seed, compiled, seconds)

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(kernels())
    def drawn(kernel: Kernel) -> None:
        run.one(kernel)

    try:
        drawn()
    except KeyboardInterrupt:
        return run.outcome("interrupt")
    except _Enough:
        return run.outcome("seconds")
    except EquivalenceError as error:
        return run.outcome("failure", f"{run.last}\n{error}")
    except Exception as error:
        kind = "" if isinstance(error, KernelError) else f"{type(error).__name__}: "
        return run.outcome("failure", f"{run.last}\n{kind}{error}")
    return run.outcome("count")

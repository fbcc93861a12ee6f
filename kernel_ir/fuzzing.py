"""Turns a seed into whole drawn kernels, each optimized (and compiled, by one plan or by all) and compared with itself: the compiler's own
fuzz test."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kernel_ir.errors import EquivalenceError, KernelError, TargetError, UsageError
from kernel_ir.fastmath import Flags
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan
from kernel_ir.schedule import schedule_of

if TYPE_CHECKING:
    from backends.target import Target

EXTENTS: Final = (8, 4096)
"""Sizes that plans are made for: what fits every cache, and what fits none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many kernels were drawn, how many of them the optimizer changed, how many plans were compiled, how many kernels the target
    cannot compile (each says so), and the first failure with its kernel (None if none). `ended` says what ended the run: count, seconds,
    failure, interrupt."""

    kernels: int
    changed: int
    plans: int
    refused: int
    failure: str | None
    ended: str


class _Enough(BaseException):
    """Ends the run; Hypothesis lets what is no Exception pass."""


@dataclass(slots=True)
class _Run:
    """Counts as the run goes on."""

    place: "Target"
    licence: Flags
    seed: int
    compiled: bool
    every: bool
    seconds: float | None
    began: float = field(default_factory=time.monotonic)
    kernels: int = 0
    changed: int = 0
    plans: int = 0
    refused: int = 0
    last: str = ""

    def one(self, kernel: Kernel) -> None:
        """Optimizes (and compiles) one kernel, with all checks on."""
        from kernel_ir.optimizer import optimize

        self._go_on()
        self.last = str(kernel)
        self.kernels += 1
        try:
            result = optimize(kernel, target=self.place, fast_math=self.licence, seed=self.seed)
            self.changed += result.kernel != kernel
            if self.compiled and not self.every:
                self.plans += 1
                result.compile()
            for form in dict.fromkeys((kernel, result.kernel)) if self.every else ():
                for plan in every_plan(form, self.place, self.licence):
                    self._compile(plan)
        except TargetError:
            self.refused += 1

    def _go_on(self) -> None:
        if self.seconds is not None and time.monotonic() - self.began > self.seconds:
            raise _Enough

    def _compile(self, plan: Plan) -> None:
        """Compiles one plan of a kernel, and compares it with the kernel's meaning."""
        from kernel_ir.compiled import compiled

        self._go_on()
        self.last = f"{plan.kernel}\n{schedule_of(plan)}"
        self.plans += 1
        compiled(plan, self.place, check=True, fast_math=self.licence)

    def outcome(self, ended: str, failure: str | None = None) -> Outcome:
        return Outcome(self.kernels, self.changed, self.plans, self.refused, failure, ended)


def every_plan(kernel: Kernel, place: "Target", licence: Flags) -> tuple[Plan, ...]:
    """Each different plan that the scheduler makes for a kernel of small or large sizes, those included that pay at neither."""
    from backends.plans import layouts, plans
    from extract.machine import load_machine
    from extract.schedule_cpu import ANYWHERE

    machine = load_machine(place.machine)
    found: dict[tuple[object, ...], Plan] = {}
    for extent in EXTENTS:
        sizes = dict.fromkeys(kernel.sizes, extent)
        laid = layouts(kernel, place, machine, sizes, frozenset(), {}, True)
        for plan in plans(kernel, place, machine, sizes, licence, laid, every=True, named=ANYWHERE):
            found.setdefault((plan.buffers, plan.steps), plan)
    return tuple(found.values())


def fuzz_compiler(
    count: int,
    seed: int,
    fast_math: str = "none",
    compiled: bool = False,
    target: str = "cpu",
    seconds: float | None = None,
    every_plan: bool = False,
) -> Outcome:
    """Draws `count` kernels, for `seconds` at most, and checks that each stays equal; a failing one is shrunk before it is reported.

    With `compiled` the code of each is compared too, with `every_plan` that of every plan that the scheduler makes, of the kernel as drawn
    and of its optimized form.

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
    if (compiled or every_plan) and place.backend == "cuda":
        from backends.target import cuda_device_present

        if not cuda_device_present():
            raise TargetError(f"no GPU is here to run code for {target}", hint="--target cuda-on-cpu runs the same kernels on the CPU")
    run = _Run(place, flags(fast_math), seed, compiled, every_plan, seconds)

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

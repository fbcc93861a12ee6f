"""Turns kernels and someone who suggests rules into rules that are proved and worth it: what `kir rules suggest` runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backends.target import target as target_named
from extract.suggest import Found, Suggester
from extract.suggest_database import Database, digest
from extract.suggest_isolate import Isolated
from extract.suggest_judge import Judge
from extract.suggest_loop import Notify, Report, run
from extract.suggest_pool import Pool
from kernel_ir import __version__
from kernel_ir.directories import cache_directory
from kernel_ir.fastmath import flags, flags_text
from kernel_ir.nodes import Kernel
from kernel_ir.optimizer import Result, optimize
from kernel_ir.report import cost_lines
from rewrites.books import rules_of
from rewrites.certificates import remember
from rewrites.rule import Rule

NEAREST: Final = 4
TIMED_ROUNDS: Final = 9
TIMED_SECONDS: Final = 4.0


def database_path() -> Path:
    """Where tried suggestions are kept unless a user says otherwise."""
    return cache_directory() / "suggestions.sqlite"


@dataclass(frozen=True, slots=True)
class Search:
    """How kernels are optimized with suggested rules, and for what: it goes to another process, so it holds names."""

    target: str | None = None
    fast_math: str = "none"
    sizes: Mapping[str, int] | None = None
    rules: tuple[Rule, ...] = ()
    pack: str | None = None
    seed: int = 0

    def result(self, kernel: Kernel, extra: tuple[Rule, ...]) -> Result:
        """What `optimize` finds with the rules besides."""
        for rule in extra:
            remember(rule)  # the judge hands over none that is not proved, if perhaps in another process
        sizes = {name: extent for name, extent in (self.sizes or {}).items() if name in kernel.sizes}
        return optimize(kernel, self.target, self.fast_math, sizes, rules=(*self.rules, *extra), pack=self.pack, seed=self.seed)

    def __call__(self, kernel: Kernel, extra: tuple[Rule, ...]) -> Found:
        result = self.result(kernel, extra)
        nearest = [(cycles, str(k)) for k, cycles in result.candidates if k not in (kernel, result.kernel)]
        saturations = [r.found.saturation for r in result.rounds if r.found.saturation is not None]
        stop = saturations[0].stop.value if saturations else ""
        fired = tuple(dict.fromkeys(name for s in saturations for name, _ in s.matches))
        spent, near = tuple(cost_lines(result)), tuple(nearest[:NEAREST])
        return Found(kernel, result.text, result.baseline_cycles, result.cycles, result.provenance, spent, near, stop, fired, result.notes)

    def base(self) -> tuple[Rule, ...]:
        """All rules that there are before any suggestion."""
        return (*rules_of(self.pack), *self.rules)

    def setting(self, kernels: Sequence[Kernel], clock: bool) -> str:
        """A name for what the fate of a suggestion depends on."""
        sizes = ",".join(f"{name}={extent}" for name, extent in sorted((self.sizes or {}).items()))
        licence = flags_text(flags(self.fast_math))
        return digest(
            __version__, *map(str, kernels), licence, target_named(self.target).name, sizes, str(clock), *(r.text for r in self.base())
        )


@dataclass(frozen=True, slots=True)
class Clock:
    """Times a kernel optimized without and with rules, alternating in one run, on inputs of the sizes given."""

    search: Search

    def __call__(self, kernel: Kernel, before: tuple[Rule, ...], after: tuple[Rule, ...]) -> tuple[float, float]:
        """Seconds a call, before and after (the median, and that by the median ratio of the rounds); equal where the code is the same."""
        from kernel_ir.inputs import sample_inputs
        from kernel_ir.timing import alternating

        results = [self.search.result(kernel, extra) for extra in (before, after)]
        if results[0].plan == results[1].plan:
            return 1.0, 1.0
        values: dict[str, Any] = sample_inputs(kernel, self.search.seed, dict(self.search.sizes or {}))
        old, new = (r.compile() for r in results)
        calls: dict[str, Callable[[], object]] = {"before": lambda: old(**values), "after": lambda: new(**values)}
        timed = alternating(calls, TIMED_ROUNDS, TIMED_SECONDS)
        after_seconds = timed["after"].median
        return after_seconds * timed["after"].ratio(timed["before"]), after_seconds


def suggest(
    kernels: Sequence[Kernel],
    suggester: Suggester,
    search: Search,
    database: Database,
    rounds: int = 3,
    seconds: float | None = None,
    tune: bool = False,
    notify: Notify | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Rules for the kernels, suggested by anybody, admitted by proof alone, kept for their gain (by prediction; by the clock if `tune`).

    Raises what `optimize` raises where the kernels cannot be optimized as they are, and ModelError where a model gives no answer at all.
    """
    with Isolated() as isolated, Pool() as pool:
        clock = Clock(search) if tune else None
        setting = search.setting(kernels, tune)
        progress("optimizing the kernels as they are")
        judge = Judge(tuple(kernels), search.base(), flags(search.fast_math), search, database, isolated, setting, clock, pool, progress)
        return run(judge, suggester, rounds, search.seed, seconds, notify)

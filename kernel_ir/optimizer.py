"""Turns a kernel into the cheapest kernel and plan that the rules, the flags and the target allow, checked against the original."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, TypedDict

from backends.target import Target
from backends.target import target as target_named
from extract.candidates import Candidates, candidates
from extract.cycles import Cost
from extract.machine import load_machine
from kernel_ir.arguments import MAX_SIZE
from kernel_ir.climb import Round, climbed
from kernel_ir.costing import Costing, packed_names
from kernel_ir.error_budget import Accuracy, ErrorBudget
from kernel_ir.errors import UsageError
from kernel_ir.fastmath import Flag, Flags, flags
from kernel_ir.layout import Layout
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan
from kernel_ir.schedule import Schedule, schedule_of
from kernel_ir.trial import Refusal, Trial
from rewrites.books import check_names, proved_book, rules_of
from rewrites.certificates import admitted
from rewrites.rule import Rule
from rewrites.saturate import Budget

if TYPE_CHECKING:
    from kernel_ir.compiled import Compiled
    from kernel_ir.explain import Saving
    from rewrites.chain import Chain

DEFAULT_EXTENT: Final = 1024
"""The extent to cost for where the caller gives none."""


@dataclass(frozen=True)
class Result:
    """What `optimize` found.

    `cycles` and `baseline_cycles` are the predicted cycles of the result and of the input, on the target at the sizes given.
    `rules` names the rules that mattered, `provenance` those that made the chosen terms or found them equal, as the e-graphs tell.
    `candidates` is every kernel considered with its predicted cycles, `layouts` the layout chosen for each `@ any` array. Where a
    tolerance was given, `refused` holds the cheaper forms that exceed it, and `accuracy` the measured errors of the result and of the
    original.
    """

    original: Kernel
    kernel: Kernel
    target: Target
    fast_math: Flags
    plan: Plan
    cost: Cost
    baseline: Cost
    provenance: tuple[str, ...]
    rounds: tuple[Round, ...]
    notes: tuple[str, ...] = ()
    budget: ErrorBudget | None = None
    refused: tuple[Refusal, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    _compiled: "list[Compiled]" = field(default_factory=list["Compiled"], repr=False, compare=False)

    @property
    def text(self) -> str:
        """The optimized kernel as KIR: parses, equals the input under the flags, and does not change when optimized again."""
        return str(self.kernel)

    @property
    def schedule(self) -> Schedule:
        """The choices that made the plan, as the block that `record` prints."""
        return replace(schedule_of(self.plan), target=self.target.name)

    @property
    def record(self) -> str:
        """The optimized kernel and its schedule as KIR: all that a later run needs to make the same plan."""
        return f"{self.text}\n\n{self.schedule}"

    @property
    def cycles(self) -> float:
        return self.cost.cycles

    @property
    def baseline_cycles(self) -> float:
        return self.baseline.cycles

    @property
    def candidates(self) -> tuple[tuple[Kernel, float], ...]:
        """Every kernel considered, with the predicted cycles of its best plan, cheapest first."""
        found = {c.kernel: cycles for r in self.rounds for c, cycles in zip(r.found.candidates, r.costs, strict=True)}
        return tuple(sorted(found.items(), key=lambda pair: pair[1]))

    @property
    def accuracy(self) -> Accuracy | None:
        """The measured errors of the result and of the original on the same samples; None without a tolerance."""
        return None if self.budget is None else self.budget.accuracy(self.kernel)

    @cached_property
    def source(self) -> str:
        """The backend's Python source: readable, and runs without this package."""
        from kernel_ir.compiled import source_text

        return source_text(self.plan, self.target)

    @property
    def layouts(self) -> dict[str, Layout]:
        """How each `@ any` array lies, and each temporary that does not lie in C order; `str` of one is what a schedule block says.

        An array that lies so already is taken as it is: `compile().pack(x)` makes one, once for many calls.
        """
        return {one.name: one.layout for one in self.plan.layouts}

    @cached_property
    def chain(self) -> "Chain":
        """The steps from the original to the result, one rule each; found when first asked for. `kir.replay` checks it.

        Raises ChainError where the search finds none.
        """
        from kernel_ir.explain import chain_of

        return chain_of(self)

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """The rules that mattered: those of the chain, what saved most first (`savings` has the cycles); found when first asked for.

        Where no chain is found, or none of its steps needs a rule, what `provenance` says.
        """
        from kernel_ir.explain import rules_of_chain

        return rules_of_chain(self) or self.provenance

    @property
    def savings(self) -> "tuple[Saving, ...]":
        """For each rule of the chain, what saved most first, the predicted cycles between the result and the cheapest form without it.

        Forms are those that the search considered, the kernel as written among them. Savings overlap: rules that only help together
        save the same cycles. Raises ChainError where there is no chain.
        """
        from kernel_ir.explain import savings

        return savings(self)

    @property
    def report(self) -> str:
        """The explanation that `kir optimize --explain` prints, as text."""
        from kernel_ir.report import explanation

        return explanation(self)

    def compile(self, check: bool = True) -> "Compiled":
        """The compiled kernel, callable with NumPy arrays; compiled once, and (unless `check` is off) checked on small inputs first.

        Raises EquivalenceError with the shrunk inputs where the code does not compute the original, or exceeds the error budget.
        """
        from kernel_ir.compiled import compiled

        if not self._compiled:
            self._compiled.append(compiled(self.plan, self.target, check, self.fast_math, self.budget))
        return self._compiled[0]


class Options(TypedDict, total=False):
    """Keyword arguments of `optimize`, shared by every command that optimizes."""

    target: str | Target | None
    fast_math: str | Iterable[str | Flag] | None
    tolerance: float | None
    rules: tuple[str | Rule, ...]
    pack: str | None
    budget: Budget | None
    tune: int
    seed: int
    check: bool
    exact: float


def options(**given: Any) -> Options:
    """The options, typed. Bad names of targets, flags and packs are refused here, before any file is read."""
    target_named(given.get("target"))
    flags(given.get("fast_math"))
    rules_of(given.get("pack"))
    return Options(**given)


def optimize(
    kernel: Kernel,
    target: str | Target | None = None,
    fast_math: str | Iterable[str | Flag] | None = None,
    sizes: Mapping[str, int] | None = None,
    tolerance: float | None = None,
    rules: Iterable[str | Rule] = (),
    pack: str | None = None,
    budget: Budget | None = None,
    tune: int = 0,
    seed: int = 0,
    check: bool = True,
    exact: float = 0.0,
    schedule: Schedule | None = None,
    packed: Iterable[str] | bool = (),
) -> Result:
    """The cheapest equal form of `kernel` for `target` that the rules can reach under the `fast_math` flags.

    `sizes` are the extents to cost for (1024 each where not given); the result is right for all sizes. `rules` adds rules, or paths
    of rule books, to the built-in ones; `pack` names a pack (`kir rules packs`) that takes the place of the built-in ones. `tolerance`
    is an error budget: a form that needs a flag is taken only if, on sampled inputs, |result - truth| <= |original - truth| +
    tolerance * |truth| at every element (0.0: never worse than the kernel as written); then the compiler contracts nothing by itself.
    `tune` measures that many of the best plans on this machine and keeps the fastest. `exact` seconds (SciPy is needed) let branch and
    bound propose the proved optimum of each e-graph besides the greedy choices. `schedule` pins choices of the plan (`Module.schedule`
    reads a file's block); what it does not say is searched. `packed` names the `@ any` arrays (True: all) that the caller packs, and
    the outputs that it takes packed: for the others the search counts what it costs to bring them from C order to another layout. With
    `check`, the result is compared to the original on drawn inputs before it is returned.

    >>> import kernel_ir as kir
    >>> k = kir.parse("kernel root(x: f32[N]) -> (y: f32[N]) { y[i] = sqrt(x[i] * 1.0) / 1.0 }")["root"]
    >>> print(kir.optimize(k, target="cpu").text)
    kernel root(x: f32[N]) -> (y: f32[N]) {
      y[i] = sqrt(x[i])
    }

    Raises UsageError, TargetError, RuleError for bad arguments; EquivalenceError if the result were not equal (the original is kept).
    """
    if not isinstance(kernel, Kernel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"optimize takes a Kernel, not {type(kernel).__name__}", hint='kir.parse(text)["name"] gives one')
    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"tolerance is {tolerance!r}, and a relative error of at least 0 was expected", hint="1e-6, for one")
    if not exact >= 0:
        raise UsageError(f"exact is {exact!r}, and seconds of at least 0 were expected", hint="10, for one; 0 leaves exact extraction out")
    place, licence = target_named(target), flags(fast_math)
    extents = _extents(kernel, sizes or {})
    every = (*rules_of(pack), *_extra_rules(rules))
    check_names(every)
    allowed = tuple(rule for rule in every if rule.needs <= licence)
    limit = budget or Budget()
    errors = None if tolerance is None else ErrorBudget(kernel, float(tolerance), licence, seed)
    allowed_here = licence if errors is None else licence - {Flag.CONTRACT}
    costing = Costing(place, load_machine(place.machine), extents, allowed_here, schedule, packed_names(kernel, packed))
    trial = Trial(kernel, licence, errors, seed, check, frozenset(rule.name for rule in allowed if rule.needs))

    def search(form: Kernel, having: tuple[Rule, ...]) -> Candidates:
        return candidates(form, licence, extents, costing.machine, having, limit, seed, exact)

    found = climbed(kernel, allowed, trial, costing, search)
    best, plan, least = found.best, found.plan, found.least
    costing.settle(best)
    plan, least = min([(plan, least), *costing.all(best)], key=lambda pair: pair[1].cycles)
    notes = tuple(dict.fromkeys((*(note for r in found.rounds for note in r.found.notes), *trial.notes)))
    refused = tuple(trial.refusals)
    result = Result(
        kernel,
        best,
        place,
        licence,
        plan,
        least,
        found.baseline,
        found.made_by[best],
        tuple(found.rounds),
        notes,
        errors,
        refused,
        sizes=extents,
    )
    if tune <= 1:
        return result
    return _tuned(result, costing, {k: rules for k, rules in found.made_by.items() if trial.passes(k, rules)}, tune, seed)


def best_plan(kernel: Kernel, place: Target, sizes: Mapping[str, int], licence: Flags, schedule: Schedule | None = None) -> Plan:
    """The cheapest plan of the kernel as it stands, of those that agree with a schedule. Raises NameError_ where none does."""
    return Costing(place, load_machine(place.machine), _extents(kernel, sizes), licence, schedule).input(kernel)[0]


def _extents(kernel: Kernel, sizes: Mapping[str, int]) -> dict[str, int]:
    """An extent for every size; raises UsageError for a name that is no size of the kernel, or a negative or non-integer extent."""
    for name, value in sizes.items():
        if name not in kernel.sizes:
            raise UsageError(f"{kernel.name} has no size {name!r}", hint=f"its sizes are {', '.join(kernel.sizes) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) <= MAX_SIZE:
            raise UsageError(f"size {name} = {value!r} is not an integer from 0 to {MAX_SIZE}")
    return {name: int(sizes.get(name, DEFAULT_EXTENT)) for name in kernel.sizes}


def _extra_rules(given: Iterable[str | Rule]) -> tuple[Rule, ...]:
    """Rules that were proved in this process, and the rules of the books whose paths are given, proved as their certificates say."""
    if isinstance(given, str):
        given = (given,)
    return tuple(rule for one in given for rule in ((admitted(one),) if isinstance(one, Rule) else proved_book(one)))


def _tuned(result: Result, costing: Costing, made_by: Mapping[Kernel, tuple[str, ...]], count: int, seed: int) -> Result:
    """The result with the fastest, by the clock, of the `count` best plans of the kernels given with the rules that made them."""
    from kernel_ir.tuning import fastest

    found = sorted((pair for kernel in made_by for pair in costing.all(kernel)), key=lambda pair: pair[1].cycles)[:count]
    best, notes = fastest(result.original, [plan for plan, _ in found], result.target, costing.extents, seed)
    plan, predicted = found[best]
    named = made_by[plan.kernel]
    return replace(result, kernel=plan.kernel, plan=plan, cost=predicted, provenance=named, notes=(*result.notes, *notes))

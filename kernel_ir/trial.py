"""Turns a candidate into a verdict: equal to the original on drawn inputs, and within the error budget where the caller gave one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kernel_ir.error_budget import Accuracy, ErrorBudget
from kernel_ir.errors import EquivalenceError, KernelError
from kernel_ir.fastmath import Flags
from kernel_ir.nodes import Kernel

if TYPE_CHECKING:
    from kernel_ir.compare import Subject

CHECK_EXAMPLES: Final = 12


@dataclass(frozen=True, slots=True)
class Refusal:
    """A cheaper form that the error budget refused: the rules that need a flag and made it, and what was measured."""

    kernel: Kernel
    rules: tuple[str, ...]
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class Trial:
    """What a candidate must pass before it is chosen; `licensed` names the rules that need a flag."""

    original: Kernel
    licence: Flags
    budget: ErrorBudget | None
    seed: int
    check: bool
    licensed: frozenset[str]
    notes: list[str] = field(default_factory=list[str])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    verdicts: dict[tuple[Kernel, bool], bool] = field(default_factory=dict["tuple[Kernel, bool]", bool])
    _subject: "list[Subject]" = field(default_factory=list["Subject"], repr=False)
    """The original, which every candidate is compared with on the same inputs."""

    def passes(self, candidate: Kernel, rules: tuple[str, ...], exact: bool = False) -> bool:
        """Whether the candidate equals the original on drawn inputs, and stays within the error budget.

        `rules` made it; `exact`: none but rules that need no flag took part in the search. They change no rounding (a sum has no
        order), and need no budget.

        A flag may license what drawn inputs do not bear out (an intermediate that overflows): such a candidate is dropped with a note.
        Raises EquivalenceError where exact rules alone made one that differs: a bug of a rule or of ours, never of the user.
        """
        if candidate == self.original:
            return True
        key = candidate, exact
        if key not in self.verdicts:
            risky = tuple(name for name in rules if name in self.licensed)
            within = exact or self._within(candidate, risky)
            self.verdicts[key] = within and self._readable(candidate) and self._equal(candidate, risky)
        return self.verdicts[key]

    def blamed(self, tried: Iterable[tuple[Kernel, tuple[str, ...]]]) -> frozenset[str]:
        """The rules without which the search should go on, after the budget refused some of the forms tried (with the rules that made
        each): those that need a flag and that all the refused share; every rule that needs a flag, where they share none."""
        refused = {refusal.kernel for refusal in self.refusals}
        used = [self.licensed.intersection(rules) for kernel, rules in tried if kernel in refused]
        if not used:
            return frozenset[str]()
        return used[0].intersection(*used[1:]) or self.licensed

    def _within(self, candidate: Kernel, risky: tuple[str, ...]) -> bool:
        if self.budget is None:
            return True
        measured = self.budget.accuracy(candidate)
        if measured.excess is not None:
            self.refusals.append(Refusal(candidate, risky, measured))
        return measured.excess is None

    def _readable(self, candidate: Kernel) -> bool:
        """Whether the text of the candidate, which is what the user gets, says the candidate: what was checked is what was written."""
        from kernel_ir.parser import parse

        try:
            reads = parse(str(candidate), f"<{candidate.name}>")[candidate.name]
        except KernelError as error:
            reads, why = None, error.message
        else:
            why = "it reads otherwise"
        if reads != candidate:
            self.notes.append(f"a cheaper form was dropped, as no text says it: {why}")
        return reads == candidate

    def _equal(self, candidate: Kernel, risky: tuple[str, ...]) -> bool:
        if not self.check:
            return True
        from kernel_ir.compare import remembering
        from kernel_ir.testing import quick_check

        if not self._subject:
            self._subject.append(remembering(self.original))
        tolerance = self.budget.tolerance if self.budget is not None and risky else None
        try:
            quick_check(self._subject[0], candidate, self.licence, tolerance, self.seed, CHECK_EXAMPLES)
        except EquivalenceError as difference:
            if not risky:
                raise
            self.notes.append(f"a cheaper form by {', '.join(risky)} was dropped: {difference}")
            return False
        return True

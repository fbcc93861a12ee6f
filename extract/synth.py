"""Turns kernels, rules and a licence into new rules, without a model: enumerates what the kernels' ops can say, minimises, proves.

The suggester of `kir rules suggest --model none`. Deterministic: all limits are counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from extract.suggest import Batch, Task
from extract.suggest_answer import MAX_RULES
from extract.suggest_pool import Pool
from extract.synth_minimal import Limits, Minimiser, relevant
from extract.synth_pool import Counted
from extract.synth_propose import Candidate, Proposals
from extract.synth_seeds import seeds
from extract.synth_work import Vocabulary, workloads
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.nodes import Kernel
from rewrites.rule import Rule

SOURCE = "enumeration"


@dataclass(frozen=True, slots=True)
class Synthesiser:
    """A `Suggester` that enumerates: first smaller forms of the kernels' own terms, then all small rules over their ops."""

    seed: int = 0
    limits: Limits = field(default_factory=lambda: Limits(1_200, 250, 120))
    progress: Callable[[str], None] = field(default=lambda _: None, repr=False)

    def suggest(self, task: Task) -> Iterator[Batch]:
        """Batches of proved rules, in the first round alone: a second one would find the same."""
        if task.round > 0:
            return
        kernels = [f.kernel for f in task.found]
        seed = self.seed + task.seed
        with Pool() as pool:
            yield from self._batches(synthesised(kernels, task.rules, task.flags, self.limits, seed, self.progress, pool))

    def _batches(self, found: Iterator[tuple[Rule, ...]]) -> Iterator[Batch]:
        for rules in found:
            for start in range(0, len(rules), MAX_RULES):
                yield Batch("".join(f"{rule.text}\n" for rule in rules[start : start + MAX_RULES]), SOURCE, general=True)


def synthesised(
    kernels: Sequence[Kernel],
    known: Sequence[Rule],
    licence: Flags | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
    pool: Pool | None = None,
) -> Iterator[tuple[Rule, ...]]:
    """Proved rules over the kernels' ops that are not derivable from the known ones, a few at a time; `licence`: flags they may need."""
    words = Vocabulary.of(kernels)
    flags = frozenset(Flag) if licence is None else frozenset(licence)
    counted = Counted(pool)
    minimiser = Minimiser(relevant(known, words), flags, limits or Limits(), progress, counted)
    progress("looking for smaller forms of the kernels' terms")
    yield from minimiser.run(seeds(kernels, seed))
    progress("enumerating small terms")
    yield from minimiser.run(candidates(words, seed, counted))


def candidates(words: Vocabulary, seed: int = 0, pool: Counted | None = None) -> tuple[Candidate, ...]:
    """Every candidate over a vocabulary, the most general and smallest first."""
    proposals = Proposals(seed)
    proposals.run(workloads(words), pool)
    return proposals.ordered()

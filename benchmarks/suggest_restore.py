"""Turns a book without 20 useful rules into figures: the cycles that the public kernels lose, and how many suggestions restore.

Suggested by a recording, or enumerated by the synthesiser alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

from extract.suggest import Found, Outcome, Suggester
from extract.suggest_book import book_text
from extract.suggest_chat import Spending
from extract.suggest_database import opened
from extract.suggest_model import ModelSuggester
from extract.suggest_pool import Pool
from extract.suggest_record import Replay
from extract.synth import Synthesiser
from kernel_ir.nodes import Kernel
from kernel_ir.optimizer import Result
from kernel_ir.parser import parse_file
from kernel_ir.suggesting import Search, suggest
from rewrites.books import default_rules, load_book
from rewrites.rule import Rule

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "benchmarks" / "suggestions" / "restore.jsonl"
FLAGS = "reassoc,contract,arcp,afn,nsz"
REMOVED: Final = (
    *("mul_comm", "add_comm", "mul_one", "one_mul", "neg_neg", "mul_minus_one", "powi_2", "div_of_mod", "mod_of_mod", "fuse_multiply"),
    *("div_to_reciprocal", "distribute", "add_over", "mul_over", "mul_div_cancel", "neg_sub", "exp_sub", "over_sqrt"),
    *("online_softmax", "online_softmax_one"),
)
"""Rules that made the results of the public kernels under these flags."""
SECONDS: Final = 3600.0
"""After which no further suggestion is looked at: a safety net, 20 suggestions take minutes."""
LOST: Final = 1.001
"""A kernel has lost something where its cycles rise by more than this ratio."""


@dataclass(frozen=True, slots=True)
class Reduced(Search):
    """A search whose built-in books lack some rules."""

    removed: tuple[str, ...] = ()

    def result(self, kernel: Kernel, extra: tuple[Rule, ...]) -> Result:
        with mock.patch("kernel_ir.optimizer.rules_of", return_value=self.base()):
            return Search.result(self, kernel, extra)

    def base(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in default_rules() if rule.name not in self.removed)


def _found(search: Search, rules: tuple[Rule, ...], kernel: Kernel) -> Found:
    return search(kernel, rules)


def recorded(say: Callable[[str], None], database: Path | None) -> dict[str, Any]:
    """What the recording restores."""
    replay = Replay(RECORDING)
    rounds = replay.left
    return {"recording": replay.model} | _restored(ModelSuggester(replay, Spending(), None), rounds, say, database)


def enumerated(say: Callable[[str], None], database: Path | None) -> dict[str, Any]:
    """What the synthesiser restores, which knows of no recording."""
    return _restored(Synthesiser(progress=say), 1, say, database)


def _restored(suggester: Suggester, rounds: int, say: Callable[[str], None], database: Path | None) -> dict[str, Any]:
    """Logarithms of cycles lost and recovered, summed over the public kernels that lose any.

    Recovered is what a user has afterwards: the kernels are optimized anew, with the book that the loop wrote loaded beside the others.
    """
    kernels = [k for path in sorted((ROOT / "examples" / "kernels").glob("*.kir")) for k in parse_file(path).values()]
    part = Reduced("cpu", FLAGS, removed=REMOVED)
    full, less = (_cycles(search, (), kernels) for search in (Search("cpu", FLAGS), part))
    losers = [k for k in kernels if less[k.name] > full[k.name] * LOST]
    say(f"{len(losers)} of {len(kernels)} kernels lose cycles")
    with opened(database) as tried:
        notify = partial(_tell, say)
        found = suggest(losers, suggester, part, tried, rounds, SECONDS, notify=notify, progress=say)
    book = book_text(found.kept)
    after = _cycles(part, load_book(f"{book}\n") if found.kept else (), losers)
    lost = sum(math.log(less[k.name] / full[k.name]) for k in losers)
    # What ends cheaper than with the whole book counts as restored, not as more.
    recovered = sum(math.log(less[k.name] / max(after[k.name], full[k.name])) for k in losers)
    rows = {k.name: {"whole_book": full[k.name], "without": less[k.name], "restored": after[k.name]} for k in losers}
    return {
        "removed": REMOVED,
        "suggestions": len(found.outcomes),
        "kept": [o.admitted for o in found.kept],
        "fates": {o.name: o.fate.value for o in found.outcomes},
        "kernels": rows,
        "recovered": recovered / lost,
        "ended": found.ended,
    }


def _tell(say: Callable[[str], None], o: Outcome) -> None:
    say(f"{o.fate.value} {o.name} {o.best:.3f}")


def _cycles(search: Search, rules: tuple[Rule, ...], kernels: Sequence[Kernel]) -> dict[str, float]:
    """The predicted cycles of each kernel, by its name."""
    with Pool() as pool:
        return {f.kernel.name: f.cycles for f in pool.results(partial(_found, search, rules), kernels, 600.0)}

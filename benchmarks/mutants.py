"""Turns the rule books into a mutation score: how many wrong variants of the rules does the checker refuse?

    python benchmarks/mutants.py [--family F] [--limit N] [--each 12] [--points 60000] [--json benchmarks/results/mutants.json]

Each rule is changed in one place, in up to `--each` ways (`mutations.py`). A mutant that does not load is counted as refused by the
loader. The others go to the checker (`rewrites.prove.check_rule`) and, apart from it, to an oracle (`oracle.py`) that runs both sides
by the language's own evaluators and looks for a counterexample. A mutant with a counterexample is really wrong, and the score is the
share of those that the checker refuses. One without is equivalent if the checker accepts it; if the checker refuses it all the same,
it is a claim that no value contradicts: it lacks a flag that it needs by licence, its guards never hold together, or no proof was found.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.mutations import Mutant, mutants
from benchmarks.oracle import counterexample
from kernel_ir.errors import KernelError
from kernel_ir.parser import parse_rules
from kernel_ir.syntax import RuleSyntax
from rewrites.books import BOOKS, load_book
from rewrites.prove import check_rule

LICENCE_KINDS: Final = ("drop a guard", "weaken a guard", "shift a range", "drop the flag", "widen the types")
"""Changes that leave the sides as they are: where one does not load, the loader has refused a wrong claim, not a slip of typing."""
PROCESSES: Final = 2

KILLED, SURVIVED, EQUIVALENT = "killed", "survived", "equivalent"
UNCONFIRMED, NOT_LOADED = "refused, not shown wrong", "refused by the loader"
OUTCOMES: Final = (KILLED, SURVIVED, EQUIVALENT, UNCONFIRMED, NOT_LOADED)

EXPLANATIONS: Final[dict[str, str]] = {}
"""Why the checker accepts a mutant that the oracle finds wrong, by the mutant's text."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant's fate: what the checker said and the counterexample, if there is one."""

    family: str
    rule: str
    kind: str
    text: str
    outcome: str
    counterexample: str
    why: str


def trial(family: str, mutant: Mutant, points: int) -> Trial:
    """The checker's word and the oracle's on one mutant."""
    try:
        (rule,) = load_book(mutant.text + "\n")
    except KernelError as error:
        return Trial(family, mutant.rule, mutant.kind, mutant.text, NOT_LOADED, "", error.message)
    verdict = check_rule(rule)
    wrong = counterexample(rule, points)
    outcome = {(True, True): SURVIVED, (True, False): KILLED, (False, True): EQUIVALENT, (False, False): UNCONFIRMED}[
        bool(wrong), verdict.holds
    ]
    return Trial(family, mutant.rule, mutant.kind, mutant.text, outcome, wrong, verdict.why)


def worth_trying(mutant: Mutant) -> bool:
    """Whether it loads, or is refused for what it claims."""
    if mutant.kind.startswith(LICENCE_KINDS):
        return True
    try:
        load_book(mutant.text + "\n")
    except KernelError:
        return False
    return True


def _of_rule(task: tuple[str, RuleSyntax, int, int]) -> list[Trial]:
    family, rule, each, points = task
    return [trial(family, mutant, points) for mutant in mutants(rule, each, worth_trying)]


def trials(family: str | None, limit: int | None, each: int, points: int, processes: int = PROCESSES) -> Iterator[list[Trial]]:
    """The trials of every rule in turn, books in order of their names."""
    tasks = [task for task in _tasks(each, points) if family in (None, task[0])][:limit]
    if processes == 1:
        yield from map(_of_rule, tasks)
        return
    err = Console(stderr=True)
    with ProcessPoolExecutor(processes) as pool:
        yield from track(pool.map(_of_rule, tasks), "mutants", total=len(tasks), console=err, disable=not err.is_terminal)


def _tasks(each: int, points: int) -> list[tuple[str, RuleSyntax, int, int]]:
    books = sorted(BOOKS.glob("*.rules"))
    return [(book.stem, rule, each, points) for book in books for rule in parse_rules(book.read_text("utf-8"), book.name)]


def summary(found: Sequence[Sequence[Trial]]) -> dict[str, Any]:
    """Counts in all, by family and by kind of change, the score, and every mutant whose fate is not as it should be."""
    flat = [t for row in found for t in row]
    counts = Counter(t.outcome for t in flat)
    wrong = counts[KILLED] + counts[SURVIVED]
    return {
        "rules": len(found),
        "mutants": len(flat),
        "least_mutants_of_a_rule": min(map(len, found), default=0),
        "outcomes": {name: counts[name] for name in OUTCOMES},
        "score": counts[KILLED] / wrong if wrong else None,
        "families": _by(flat, "family"),
        "kinds": _by(flat, "kind"),
        "survivors": [asdict(t) | {"explanation": EXPLANATIONS.get(t.text, "")} for t in flat if t.outcome == SURVIVED],
        "refused_not_shown_wrong": [{"text": t.text, "why": t.why} for t in flat if t.outcome == UNCONFIRMED],
        "equivalent": [t.text for t in flat if t.outcome == EQUIVALENT],
    }


def _by(flat: Sequence[Trial], field: str) -> dict[str, dict[str, int]]:
    names = sorted({str(getattr(t, field)) for t in flat})
    return {name: {o: sum(t.outcome == o and getattr(t, field) == name for t in flat) for o in OUTCOMES} for name in names}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where less than 99 % of the wrong mutants are killed."""
    parser = argparse.ArgumentParser(description="The mutation score of the rule checker over the rule books.")
    parser.add_argument("--family", metavar="F", help="only this family")
    parser.add_argument("--limit", metavar="N", type=int, help="only the first N rules")
    parser.add_argument("--each", metavar="N", type=int, default=12, help="mutants of a rule at most (default 12)")
    parser.add_argument("--points", metavar="N", type=int, default=60_000, help="points that the oracle tries at most (default 60000)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results to FILE")
    arguments = parser.parse_args(argv)
    found = list(trials(arguments.family, arguments.limit, arguments.each, arguments.points))
    result = summary(found)
    if arguments.json:
        settings = {name: getattr(arguments, name) for name in ("family", "limit", "each", "points")}
        arguments.json.write_text(json.dumps({"settings": settings, **result}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _show(result)
    return 0 if result["score"] is None or result["score"] >= 0.99 else 1


def _show(result: dict[str, Any]) -> None:
    out = Console(highlight=False)
    table = Table("change", *OUTCOMES, box=None)
    for kind, counts in (*result["kinds"].items(), ("in all", result["outcomes"])):
        table.add_row(kind, *(str(counts[o]) for o in OUTCOMES))
    out.print(table)
    for t in result["survivors"]:
        out.print(f"survived: {t['text']}\n    {t['counterexample']}\n    {t['explanation']}", markup=False, soft_wrap=True)
    score = "–" if result["score"] is None else f"{result['score']:.2%}"
    out.print(f"{result['mutants']} mutants of {result['rules']} rules; the checker refuses {score} of those that are really wrong")


if __name__ == "__main__":
    sys.exit(main())

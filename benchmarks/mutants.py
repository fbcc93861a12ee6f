"""Turns the rule books into a mutation score: how many wrong variants of the rules does the checker refuse?

    python benchmarks/mutants.py [--family F] [--limit N] [--each 8] [--points 60000] [--json benchmarks/results/mutants.json]

Each rule is changed in one place, in up to `--each` ways (`mutations.py`). An oracle apart from the checker (`oracle.py`) runs both
sides by the language's own evaluators and looks for a counterexample. A mutant that has one is really wrong; those go to the checker
(`rewrites.prove.check_rule`), and the score is the share that it refuses. The rest still hold as far as the oracle sees (a guard that was
made stronger, a flag that no value shows to be missing, sides that stay equal); they are counted apart, and so are changes of guards, flags
and types that the loader itself refuses.
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
SECONDS: Final = 10.0
"""How long the checker may look for a proof of one mutant: a safety net, far above what a counterexample takes."""

KILLED, SURVIVED, EQUIVALENT, NOT_LOADED = "killed", "survived", "not shown wrong", "refused by the loader"
OUTCOMES: Final = (KILLED, SURVIVED, EQUIVALENT, NOT_LOADED)

EXPLANATIONS: Final[dict[str, str]] = {}
"""Why the checker accepts a mutant that the oracle finds wrong, by the mutant's text."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant's fate: the oracle's counterexample, the checker's, or why there is none."""

    family: str
    rule: str
    kind: str
    text: str
    outcome: str
    counterexample: str = ""
    refuted: bool = False
    why: str = ""


def trial(family: str, mutant: Mutant, points: int) -> Trial:
    """The oracle's word on one mutant and, if that is wrong, the checker's."""
    given = (family, mutant.rule, mutant.kind, mutant.text)
    try:
        (rule,) = load_book(mutant.text + "\n")
    except KernelError as error:
        return Trial(*given, NOT_LOADED, why=error.message)
    wrong = counterexample(rule, points)
    if not wrong:
        return Trial(*given, EQUIVALENT)
    try:
        verdict = check_rule(rule, SECONDS)
    except Exception as error:  # a fault of the checker: the rule is not proved
        return Trial(*given, KILLED, wrong, why=f"the checker failed: {error!r}")
    return Trial(*given, SURVIVED if verdict.holds else KILLED, wrong, verdict.refuted, verdict.why)


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
        "killed_without_counterexample": [{"text": t.text, "why": t.why} for t in flat if t.outcome == KILLED and not t.refuted],
        "not_shown_wrong": [t.text for t in flat if t.outcome == EQUIVALENT],
    }


def _by(flat: Sequence[Trial], field: str) -> dict[str, dict[str, int]]:
    names = sorted({str(getattr(t, field)) for t in flat})
    return {name: {o: sum(t.outcome == o and getattr(t, field) == name for t in flat) for o in OUTCOMES} for name in names}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where less than 99 % of the wrong mutants are killed."""
    parser = argparse.ArgumentParser(description="The mutation score of the rule checker over the rule books.")
    parser.add_argument("--family", metavar="F", help="only this family")
    parser.add_argument("--limit", metavar="N", type=int, help="only the first N rules")
    parser.add_argument("--each", metavar="N", type=int, default=8, help="mutants of a rule at most (default 8)")
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

"""How much of a held-out half of our own books the synthesiser finds again, on the ops of the public kernels: a JSON report.

    python -m benchmarks.synth [--half development|held_out] [--books integers,index,algebra,fastmath] [--seed 0] [-o FILE]

Of the rules without reductions whose ops the kernels use, one half (`benchmarks/synth_halves.json`) was looked at while the enumeration
was written: `development`. The figure is that of the other half, `held_out`; of it, `not_tuned_on` are the rules that no earlier version
was tuned on either. A half is taken out of the books, and one of its rules counts as found again if the e-graph derives it, under no
more than its own flags, from the rules that were kept and those synthesised; `derivable_before` counts those that the kept rules derive
alone. The enumeration knows the kernels' ops and numbers and the kept rules, nothing of those taken out.

`cpu_seconds` are those of all processes, `seconds` what that is on as many cores with nothing else to do (this process, and a core's
share of the others): it stops in time to be done within ten minutes of these. `clock_seconds` went by, busy machine or not.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kernel_ir as kir
from extract.suggest_pool import Pool, cores
from extract.synth import candidates
from extract.synth_minimal import Limits, Minimiser, relevant
from extract.synth_pool import Counted
from extract.synth_work import Vocabulary
from rewrites.books import default_rules, load_book
from rewrites.derive import Effort, all_derivable, derivable
from rewrites.pattern import Apply, Reduction, subpatterns
from rewrites.rule import Rule

KERNELS = Path(__file__).parents[1] / "examples" / "kernels"
HALVES = Path(__file__).with_name("synth_halves.json")
SECONDS = 580.0
"""Ten minutes but for what is under way when they are over."""
FOUND = ("seconds", "cpu_seconds", "clock_seconds", "cores", "candidates", "looked_at", "proofs", "rules")
"""What a synthesis reports."""
JUDGE = Effort(nodes=6_000, rounds=6)
EXACT = ("integers", "index", "algebra", "fastmath")
BOOKS = (*EXACT, "functions", "logic")


def vocabulary() -> Vocabulary:
    """The ops of the public kernels."""
    return Vocabulary.of([k for path in sorted(KERNELS.glob("*.kir")) for k in kir.parse(path.read_text("utf-8")).values()])


def targets(words: Vocabulary, books: Sequence[str] = BOOKS) -> list[Rule]:
    """The rules of the books that speak of these ops alone."""

    def known(rule: Rule) -> bool:
        for p in (p for side in (rule.lhs, rule.rhs) for p in subpatterns(side)):
            if isinstance(p, Reduction):
                return False
            if isinstance(p, Apply):
                kinds = rule.types[p.type]
                ops = words.floats if kinds[0].is_float else words.integers if kinds[0].is_int else words.truths
                if p.op not in ops:
                    return False
        return rule.within is None

    return [rule for rule in default_rules() if rule.family in books and known(rule)]


def halves(words: Vocabulary, books: Sequence[str] = BOOKS) -> dict[str, list[Rule]]:
    """The rules to take out; what is new in the books is held out."""
    development = set(json.loads(HALVES.read_text("utf-8"))["development"])
    rules = targets(words, books)
    return {"development": [r for r in rules if r.name in development], "held_out": [r for r in rules if r.name not in development]}


def synthesis(half: str, books: Sequence[str], limits: Limits, seed: int, most: float = SECONDS) -> Iterator[dict[str, Any]]:
    """What is found without a half, so far: rules, and what they cost."""
    words = vocabulary()
    names = {rule.name for rule in halves(words, books)[half]}
    kept = tuple(rule for rule in default_rules() if rule.name not in names)
    started, cpu = time.perf_counter(), _cpu()
    with Pool() as pool:
        counted = Counted(pool)
        proposed = candidates(words, seed, counted)
        _say(f"{len(proposed)} candidates after {counted.seconds:.0f} s")
        minimiser = Minimiser(relevant(kept, words), limits=limits, progress=_say, pool=counted, seconds=most)
        for _ in minimiser.run(proposed):
            yield _report(minimiser, len(proposed), counted.seconds, time.perf_counter() - started)
        seconds = counted.seconds
    clock, cpu = time.perf_counter() - started, _cpu() - cpu
    _say(f"{len(minimiser.accepted)} rules after {seconds:.0f} s")
    yield {**_report(minimiser, len(proposed), seconds, clock), "cpu_seconds": round(cpu, 1)}


def _report(minimiser: Minimiser, proposed: int, seconds: float, clock: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "clock_seconds": round(clock, 1),
        "cores": cores(),
        "candidates": proposed,
        "looked_at": minimiser.looked,
        "proofs": minimiser.proofs,
        "rules": [rule.text for rule in minimiser.accepted],
    }


def judged(half: str, books: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
    """The report on a half: which of its rules follow from those found and those kept."""
    taken = halves(vocabulary(), books)[half]
    names = {rule.name for rule in taken}
    kept = tuple(rule for rule in default_rules() if rule.name not in names)
    made = load_book("".join(f"{text}\n" for text in found["rules"]))
    before = _derived(taken, kept)
    after = [b or a for b, a in zip(before, _derived(taken, (*kept, *made)), strict=True)]
    tuned = set(json.loads(HALVES.read_text("utf-8"))["tuned_on_before"])

    def counts(chosen: Callable[[Rule], bool]) -> dict[str, Any]:
        rows = [(b, a) for r, b, a in zip(taken, before, after, strict=True) if chosen(r)]
        again = sum(a for _, a in rows)
        return {
            "taken_out": len(rows),
            "derivable_before": sum(b for b, _ in rows),
            "rediscovered": again,
            "rate": round(again / len(rows), 3) if rows else None,
        }

    return {
        **counts(lambda _: True),
        **({"not_tuned_on": counts(lambda r: r.name not in tuned)} if half == "held_out" else {}),
        "books": {book: counts(lambda r, book=book: r.family == book) for book in books},
        **found,
        "missing": [rule.text for rule, a in zip(taken, after, strict=True) if not a],
    }


def _derived(rules: Sequence[Rule], known: Sequence[Rule]) -> list[bool]:
    """Which are derivable; those that fail together are asked alone, as an e-graph has room for one's terms or for many's."""
    first = all_derivable(rules, known, JUDGE)
    return [found or derivable(rule, known, nodes=JUDGE.nodes, rounds=JUDGE.rounds) for rule, found in zip(rules, first, strict=True)]


def _cpu() -> float:
    """CPU seconds of this process and of those that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _say(text: str) -> None:
    print(time.strftime("%X"), text, file=sys.stderr, flush=True)


def main() -> None:
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("development", "held_out"), default="held_out")
    parser.add_argument(
        "--books", default=",".join(BOOKS), help="whose rules are taken out; the exact integer and real-algebra ones: " + ",".join(EXACT)
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--proofs", type=int, default=6_000)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when to stop, in `seconds` of the report")
    parser.add_argument("-o", "--output", help="JSON file: the report takes this half's place there")
    parser.add_argument("--judge", action="store_true", help="judge the rules that FILE has of this half, without a new synthesis")
    arguments = parser.parse_args()
    books = tuple(arguments.books.split(","))
    if unknown := set(books) - set(BOOKS):
        parser.error(f"no such books: {', '.join(sorted(unknown))}")
    half, path = arguments.half, Path(arguments.output) if arguments.output else None
    reports: dict[str, Any] = json.loads(path.read_text("utf-8")) if path is not None and path.exists() else {}
    key = half if books == BOOKS else f"{half} of {', '.join(books)}"
    if not arguments.judge:
        limits = Limits(arguments.candidates, arguments.proofs, 1_500)
        for report in synthesis(half, books, limits, arguments.seed, arguments.seconds):
            reports[key] = report
            _write(path, reports)
    found = {name: reports[key][name] for name in FOUND if name in reports[key]}
    reports[key] = judged(half, books, found)
    _write(path, reports)
    if path is None:
        print(json.dumps(reports, indent=1))


def _write(path: Path | None, reports: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps({half: reports[half] for half in sorted(reports)}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

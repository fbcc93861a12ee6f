"""How much of a held-out half of our own books the synthesiser finds again, on the ops of the public kernels: a JSON report.

    python -m benchmarks.synth [--seed 0] [--candidates 20000] [--proofs 3000] [-o benchmarks/results/synth.json]

Held out is every second rule, without reductions, whose ops the kernels use. One counts as found again if the e-graph derives it, under
no more than its own flags, from the rules that were kept and those synthesised; `derivable_before` counts those that the kept rules
derive alone. The enumeration knows the kernels' ops and numbers and the kept rules, nothing of those held out. `seconds` is by the
clock, from the first term to the last proof, `cpu_seconds` of all processes; after ten minutes it stops.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kernel_ir as kir
from extract.suggest_pool import Pool, cores
from extract.synth import candidates
from extract.synth_minimal import Limits, Minimiser, relevant
from extract.synth_work import Vocabulary
from rewrites.books import default_rules
from rewrites.derive import all_derivable
from rewrites.pattern import Apply, Reduction, subpatterns
from rewrites.rule import Rule

KERNELS = Path(__file__).parents[1] / "examples" / "kernels"
SECONDS = 600.0
BOOKS = ("integers", "index", "algebra", "fastmath", "functions", "logic")


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


def held_out(limits: Limits, seed: int, most: float = SECONDS) -> dict[str, Any]:
    """The report."""
    words = vocabulary()
    held = targets(words)[1::2]
    names = {rule.name for rule in held}
    kept = tuple(rule for rule in default_rules() if rule.name not in names)
    before = all_derivable(held, kept)
    started, cpu = time.perf_counter(), _cpu()
    with Pool() as pool:
        proposed = candidates(words, seed, pool)
        _say(f"{len(proposed)} candidates after {time.perf_counter() - started:.0f} s")
        minimiser = Minimiser(
            relevant(kept, words), limits=limits, progress=_say, pool=pool, until=time.monotonic() + most - (time.perf_counter() - started)
        )
        for _ in minimiser.run(proposed):
            pass
    seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    after = all_derivable(held, (*kept, *minimiser.accepted))
    books = {
        book: {
            "held_out": sum(r.family == book for r in held),
            "derivable_before": sum(b for r, b in zip(held, before, strict=True) if r.family == book),
            "rediscovered": sum(a for r, a in zip(held, after, strict=True) if r.family == book),
        }
        for book in BOOKS
    }
    return {
        "held_out": len(held),
        "derivable_before": sum(before),
        "rediscovered": sum(after),
        "books": books,
        "rate": round(sum(after) / len(held), 3),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "cores": cores(),
        "candidates": len(proposed),
        "looked_at": minimiser.looked,
        "proofs": minimiser.proofs,
        "rules": [rule.text for rule in minimiser.accepted],
        "missing": [rule.text for rule, a in zip(held, after, strict=True) if not a],
    }


def _cpu() -> float:
    """CPU seconds of this process and of those that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _say(text: str) -> None:
    print(time.strftime("%X"), text, file=sys.stderr, flush=True)


def main() -> None:
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--proofs", type=int, default=3_000)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when to stop, by the clock")
    parser.add_argument("-o", "--output")
    arguments = parser.parse_args()
    report = held_out(Limits(arguments.candidates, arguments.proofs, 1_500), arguments.seed, arguments.seconds)
    text = json.dumps(report, indent=1) + "\n"
    if arguments.output:
        Path(arguments.output).write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()

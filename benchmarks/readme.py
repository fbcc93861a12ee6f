"""Turns the rule books and the committed results into the tables of the README, between their markers.

    python benchmarks/readme.py [--check]

`--check` changes nothing and tells by its exit code, 1, that the README is not current. The tables: `rules` from the books, `packs` from
`results/packs.json`, `mutants` from `results/mutants.json`. (The table of times comes from `table.py`.)
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.packs import cell
from kernel_ir.fastmath import Flag
from rewrites import certificates
from rewrites.books import BOOKS, default_rules, pack_names
from rewrites.guards import Guard
from rewrites.pattern import Var
from rewrites.rule import Rule

README: Final = Path(__file__).resolve().parents[1] / "README.md"
RESULTS: Final = Path(__file__).resolve().parent / "results"


def rules_table() -> str:
    """One line a family: how many rules, both ways, guarded, without a flag, by flag; and by which methods they are proved."""
    families = list(dict.fromkeys(rule.family for rule in default_rules()))
    flags = sorted({flag for rule in default_rules() for flag in rule.needs}, key=list(Flag).index)
    lines = [
        _line("family", "rules", "both ways", "guarded", "no flag", *(f"`{flag}`" for flag in flags), "proved by"),
        _line("---", *("--:" for _ in range(4 + len(flags))), "---"),
    ]
    for family in families:
        rules = [r for r in default_rules() if r.family == family]
        lines.append(_line(f"`{family}`", *_counts(rules, flags), _methods(rules)))
    lines.append(_line("**in all**", *(f"**{count}**" for count in _counts(default_rules(), flags)), ""))
    return "\n".join(lines)


def _counts(rules: Sequence[Rule], flags: Sequence[Flag]) -> list[str]:
    needs = Counter(flag for rule in rules for flag in rule.needs)
    guarded = sum(any(map(_written, rule.guards)) for rule in rules)
    counts = [
        len(rules),
        sum(rule.both for rule in rules),
        guarded,
        sum(not rule.needs for rule in rules),
        *(needs[flag] for flag in flags),
    ]
    return [str(count) if count else "" for count in counts]


def _methods(rules: Sequence[Rule]) -> str:
    """How many rules of a family each method proved, by their certificates."""
    found = certificates.read(BOOKS / f"{rules[0].family}.rules")
    proved = [found[rule.name] for rule in rules if rule.name in found and found[rule.name].key == certificates.key(rule)]
    counts = Counter(c.method.partition(" + ")[0] or c.domain for c in proved)
    return ", ".join(f"{method} {count}" for method, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _written(guard: Guard) -> bool:
    """Whether the rule's text has the guard: those about an implicit range come by themselves."""
    return not any(isinstance(arg, Var) and "." in arg.name for arg in guard.args)


def packs_table() -> str:
    """One line a kernel: each pack's predicted cycles and measured time, as multiples of those with the default books."""
    result = json.loads((RESULTS / "packs.json").read_text("utf-8"))
    names = pack_names()
    lines = [_line("kernel", *(f"`{name}`" for name in names)), _line("---", *("--:" for _ in names))]
    lines += [_line(f"`{r['kernel']}`", *(cell(r, name) for name in names)) for r in result["kernels"]]
    means = result["geometric_means"]
    lines.append(_line("**geometric mean**", *(f"**{', '.join(f'{value:.2f}×' for value in means[name].values())}**" for name in names)))
    return "\n".join(lines)


def mutants_text() -> str:
    """The score in two sentences, and the survivors."""
    result = json.loads((RESULTS / "mutants.json").read_text("utf-8"))
    outcomes = result["outcomes"]
    killed, wrong = outcomes["killed"], outcomes["killed"] + outcomes["survived"]
    text = (
        f"{result['mutants']} mutants of {result['rules']} rules, at least {result['least_mutants_of_a_rule']} of each. For {wrong} the "
        f"oracle has a counterexample; the checker refuses {killed} of these ({result['score']:.2%}), all but "
        f"{len(result['killed_without_counterexample'])} by a counterexample of its own. Of the others, {outcomes['not shown wrong']} "
        f"still hold as far as the oracle sees, and {outcomes['refused by the loader']} do not load."
    )
    survivors = [f"- `{t['text']}`: {t['counterexample']}. {t['explanation']}".rstrip() for t in result["survivors"]]
    return "\n".join((text, *survivors))


TABLES: Final[dict[str, Callable[[], str]]] = {"rules": rules_table, "packs": packs_table, "mutants": mutants_text}


def current(text: str) -> str:
    """The README's text with every table made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- /generated: {name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", text)
    return text


def _line(*cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where `--check` finds the README old."""
    parser = argparse.ArgumentParser(description="The tables of the README, from the rule books and the committed results.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the README is not current")
    arguments = parser.parse_args(argv)
    text = README.read_text("utf-8")
    new = current(text)
    if arguments.check:
        if new != text:
            print("README.md is not current: run python benchmarks/readme.py", file=sys.stderr)
        return int(new != text)
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

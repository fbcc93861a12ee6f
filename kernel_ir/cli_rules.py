"""The actions of `kir rules`: list the rules or the packs, show one in full, check them all afresh."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernel_ir.cli_common import closest, console, write_json
from kernel_ir.errors import UsageError
from kernel_ir.fastmath import flags
from rewrites.books import pack_names, pack_rules, pack_says, rules_of
from rewrites.rule import Rule


def _row(rule: Rule) -> dict[str, Any]:
    parts = _clauses(rule.text.partition(":")[2])
    lhs, _, rhs = parts["sides"].partition("<=>" if rule.both else "=>")
    return {
        "name": rule.name,
        "family": rule.family,
        "needs": sorted(map(str, rule.needs)),
        "lhs": lhs.strip(),
        "rhs": rhs.strip(),
        "both_ways": rule.both,
        "on": parts.get("on", ""),
        "guard": parts.get("if", ""),
        "within": parts.get("within", ""),
        "book": Path(rule.span.source.name).name,
    }


def _clauses(text: str) -> dict[str, str]:
    """The sides and the clauses `on`, `if`, `needs`, `within` of a rule's text: these words outside of all brackets."""
    clause, found, depth = "sides", dict[str, list[str]](), 0
    for word in text.split():
        if depth == 0 and word in ("on", "if", "needs", "within"):
            clause = word
        else:
            found.setdefault(clause, []).append(word)
        depth += sum(map(word.count, "([")) - sum(map(word.count, ")]"))
    return {name: " ".join(words) for name, words in found.items()}


def list_rules(arguments: argparse.Namespace) -> int:
    """Every rule, by family; `--family` and `--needs` narrow. A table on a terminal; else a rule book that parses."""
    needed = flags(arguments.needs)
    book = rules_of(arguments.pack)
    families = list(dict.fromkeys(r.family for r in book))
    if arguments.family is not None and arguments.family not in families:
        raise UsageError(f"no rule family {arguments.family!r}", hint=f"the families are {', '.join(families)}")
    rules = [r for r in book if needed <= r.needs and arguments.family in (None, r.family)]
    if arguments.json:
        write_json({"rules": [_row(r) for r in rules]})
    elif sys.stdout.isatty():
        _show_table(rules)
    else:
        sys.stdout.write("".join(f"{rule.text}\n" for rule in rules))
    if not arguments.json:
        console().print(f"{len(rules)} rules")
    return 0


def _show_table(rules: Sequence[Rule]) -> None:
    """The rules as one table a family."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    for family in dict.fromkeys(r.family for r in rules):
        rows = [_cells(r) for r in rules if r.family == family]
        table = Table(title=f"{family}: {len(rows)} rules", box=None, title_justify="left", title_style="bold")
        shown = [n for n, column in enumerate(zip(*rows, strict=True)) if any(column)]
        for n in shown:
            table.add_column(("name", "rule", "on", "if", "needs", "within")[n], overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[n]) for n in shown))
        out.print(table)
        out.print()


def _cells(rule: Rule) -> tuple[str, ...]:
    row = _row(rule)
    sides = f"{row['lhs']} {'<=>' if rule.both else '=>'} {row['rhs']}"
    return (rule.name, sides, row["on"], row["guard"], ", ".join(row["needs"]), row["within"])


def list_packs(arguments: argparse.Namespace) -> int:
    """The packs: name, number of rules, where the rules are from."""
    packs = [{"name": name, "rules": len(pack_rules(name)), "says": pack_says(name)} for name in pack_names()]
    if arguments.json:
        write_json({"packs": packs})
        return 0
    sys.stdout.write("".join(f"{pack['name']}: {pack['rules']} rules. {pack['says']}\n" for pack in packs))
    return 0


def show_rules(arguments: argparse.Namespace) -> int:
    """The named rules in full."""
    if not arguments.names:
        raise UsageError("which rule?", hint="`kir rules list` names them")
    known = {r.name: r for r in rules_of(arguments.pack)}
    shown: list[dict[str, Any]] = []
    for name in arguments.names:
        if name not in known:
            near = closest(name, known)
            raise UsageError(f"no rule {name!r}", hint=f"did you mean {near}?" if near else "`kir rules list` names them")
        shown.append(_row(known[name]))
    if arguments.json:
        write_json({"rules": shown})
        return 0
    for row in shown:
        words = {key: ", ".join(row["needs"]) if key == "needs" else str(value) for key, value in row.items()}
        sys.stdout.write("".join(f"{key:9} {value}\n" for key, value in words.items() if value))
    return 0

"""The commands `fmt`, `targets` and `rules`: formatting files in place, and showing what kir knows."""

import argparse
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from backends.target import NAMES, target
from kernel_ir.cli_common import console, read_text, replacing, write_json
from kernel_ir.errors import UsageError


def fmt(arguments: argparse.Namespace) -> int:
    """`kir fmt FILE…`: rewrites each file in the canonical format; with --check only says which would change (exit 1)."""
    from kernel_ir.fmt import format_text

    err = console()
    # All files are read and formatted first: a fault in one leaves every one untouched.
    formatted = [(path, *_formatted(path, format_text)) for path in arguments.files]
    changed = [path for path, before, after in formatted if before != after]
    if arguments.check:
        for path in changed:
            err.print(f"would change {path}", markup=False, soft_wrap=True)
        return 1 if changed else 0
    for path, before, after in formatted:
        if path == "-":
            sys.stdout.write(after)
        elif before != after:
            with replacing(path) as temporary:
                Path(temporary).write_text(after, encoding="utf-8")
            err.print(f"formatted {path}", markup=False, soft_wrap=True)
    return 0


def _formatted(path: str, format_text: Callable[[str, str], str]) -> tuple[str, str]:
    text, name = read_text(path)
    return text, format_text(text, name)


def targets(arguments: argparse.Namespace) -> int:
    """`kir targets`: the targets, which of them run here, and the figures of one machine."""
    from rich.table import Table

    from extract.machine import machine_text

    if arguments.action == "show":
        if arguments.name is None:
            raise UsageError("which target?", hint=f"one of {', '.join(NAMES)}")
        text = machine_text(target(arguments.name).machine)
        if arguments.json:
            write_json(tomllib.loads(text))
        else:
            sys.stdout.write(text)
        return 0
    rows = [{"name": name, "machine": target(name).machine, "runs_here": _runs_here(name)} for name in NAMES]
    if arguments.json:
        write_json({"targets": rows, "default": target().name})
        return 0
    table = Table("target", "machine file", "runs here", box=None)
    for row in rows:
        table.add_row(str(row["name"]), str(row["machine"]), "yes" if row["runs_here"] else "compiles only")
    from rich.console import Console

    Console(highlight=False).print(table)
    return 0


def _runs_here(name: str) -> bool:
    from backends.target import cuda_device_present

    return cuda_device_present() if name.startswith("cuda") and name != "cuda-on-cpu" else True


def rules(arguments: argparse.Namespace) -> int:
    """`kir rules list|packs|show|check|mine|suggest`: books, packs, one rule in full, a fresh check, new rules from kernels."""
    from kernel_ir.cli_rules import list_packs, list_rules, show_rules

    match arguments.action:
        case "suggest":
            from kernel_ir.cli_suggest import suggest

            return suggest(arguments)
        case "mine":
            from kernel_ir.cli_mine import mine

            return mine(arguments)
        case "list":
            return list_rules(arguments)
        case "packs":
            return list_packs(arguments)
        case "show":
            return show_rules(arguments)
        case _:
            from kernel_ir.cli_prove import check_rules

            return check_rules(arguments)

"""The commands `fmt` and `rules`: formatting files in place, and showing what kir knows."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from kernel_ir.cli_common import console, read_text, replacing


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

"""The command `rules mine`: two equal kernels, a slow one and a person's fast one, into the rules that lead from one to the other."""

import argparse
from pathlib import Path

from extract.mine import Mined, check_signatures, mined
from extract.suggest_book import certificates_text
from kernel_ir import testing
from kernel_ir.cli_common import chosen, console, read_module, working, write_json, write_out
from kernel_ir.errors import EquivalenceError, UsageError
from kernel_ir.fastmath import flags, flags_text
from kernel_ir.nodes import Kernel
from rewrites.books import load_book, rules_of
from rewrites.certificates import path_of


def mine(arguments: argparse.Namespace) -> int:
    """`kir rules mine SLOW FAST`: exit code 0 if rules were found or none is needed, 1 if the kernels differ or nothing was proved."""
    slow, fast = (_one(path, arguments.kernel) for path in (arguments.slow, arguments.fast))
    check_signatures(slow, fast)
    licence = flags(arguments.fast_math)
    book = (*rules_of(arguments.pack), *(rule for path in arguments.rules for rule in load_book(Path(path))))
    err = console()
    try:
        with working(f"checking that {slow.name} and {fast.name} are equal"):
            testing.assert_equivalent(slow, fast, arguments.fast_math, seed=arguments.seed)
    except EquivalenceError as error:
        err.print(f"[red]not equal[/]  {slow.name}: there is no rule to find", soft_wrap=True)
        err.print(str(error), markup=False, soft_wrap=True)
        return 1
    with working("looking for what connects them"):
        found = mined(slow, fast, book, licence, slow.name)
    _write(arguments, found)
    err.print(_summary(found, flags_text(licence)), markup=False, soft_wrap=True)
    return 0 if found.known or found.rules else 1


def _one(path: str, names: list[str]) -> Kernel:
    kernels = chosen(read_module(path), names, path)
    if len(kernels) != 1:
        raise UsageError(f"{path} has {len(kernels)} kernels, and one of each file is compared", hint="choose with -k NAME")
    return kernels[0]


def _write(arguments: argparse.Namespace, found: Mined) -> None:
    note = f"# mined from {Path(arguments.slow).name} and {Path(arguments.fast).name}\n"
    text = "".join(f"{note}{rule.text}\n" for rule in found.rules)
    if arguments.json:
        write_json({"known": found.known, "connects": found.connects, "rules": [rule.text for rule in found.rules]})
    elif arguments.output is None:
        write_out(text, None)
    if arguments.output is not None and found.rules:
        write_out(text, arguments.output)
        path = Path(arguments.output)
        write_out(certificates_text(path), str(path_of(path)))


def _summary(found: Mined, licence: str) -> str:
    if found.known:
        return "nothing to mine: the book proves the kernels equal"
    if not found.rules:
        return f"no rule was proved under the flags {licence}: more flags may license one (--fast-math)"
    rest = "with the book they make one kernel of the other" if found.connects else "their guards are not known to hold in these kernels"
    return f"{len(found.rules)} rule{'s' if len(found.rules) > 1 else ''} proved; {rest}"

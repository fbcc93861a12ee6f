"""The commands `check` and `fuzz`: are two files' kernels equal, and does the compiler keep drawn kernels equal?"""

import argparse
from dataclasses import asdict
from typing import Final

from kernel_ir.cli_common import chosen, console, read_module, working, write_json
from kernel_ir.errors import EquivalenceError, UsageError
from kernel_ir.nodes import Kernel

INTERRUPTED: Final = 130


def check(arguments: argparse.Namespace) -> int:
    """`kir check A B`: compares kernels of the same name (or the only two); exit code 1 with a counterexample file if one differs."""
    from kernel_ir import testing

    pairs = _pairs(arguments)
    report: list[dict[str, object]] = []
    err = console()
    for a, b in pairs:
        entry: dict[str, object] = {"kernel": a.name, "equal": True}
        try:
            with working(f"checking {a.name}"):
                if arguments.replay:
                    testing.replay(arguments.replay, a, b, fast_math=arguments.fast_math, tolerance=arguments.tolerance)
                else:
                    testing.assert_equivalent(
                        a,
                        b,
                        fast_math=arguments.fast_math,
                        tolerance=arguments.tolerance,
                        max_examples=arguments.examples,
                        seed=arguments.seed,
                    )
            err.print(f"[green]equal[/]  {a.name}: {1 if arguments.replay else arguments.examples} inputs", soft_wrap=True)
        except EquivalenceError as error:
            entry |= {"equal": False, "message": str(error)}
            err.print(f"[red]not equal[/]  {a.name}", soft_wrap=True)
            err.print(str(error), markup=False, soft_wrap=True)
            if not arguments.replay and isinstance(error.counterexample, testing.Counterexample):
                path = arguments.save or f"{a.name}.counterexample.npz"
                testing.save_counterexample(path, error.counterexample)
                entry["counterexample"] = path
                err.print(f"written to {path}; run it again with --replay {path}", markup=False, soft_wrap=True)
        report.append(entry)
    equal = all(entry["equal"] for entry in report)
    if arguments.json:
        write_json({"a": arguments.a, "b": arguments.b, "equal": equal, "kernels": report})
    return 0 if equal else 1


def _pairs(arguments: argparse.Namespace) -> list[tuple[Kernel, Kernel]]:
    """Kernels to compare: by name; a lone kernel of each file is compared whatever its name."""
    if arguments.a == "-" and arguments.b == "-":
        raise UsageError("only one of the two files can be standard input")
    module_a, module_b = read_module(arguments.a), read_module(arguments.b)
    kernels_a = chosen(module_a, arguments.kernel, arguments.a)
    if not arguments.kernel and len(module_a) == 1 and len(module_b) == 1:
        return [(kernels_a[0], next(iter(module_b.values())))]
    kernels_b = {k.name: k for k in chosen(module_b, arguments.kernel, arguments.b)}
    alone = [k.name for k in kernels_a if k.name not in kernels_b] + [n for n in kernels_b if n not in {k.name for k in kernels_a}]
    if alone:
        raise UsageError(f"only one of the files has a kernel {alone[0]!r}", hint="choose the kernels to compare with -k NAME")
    return [(k, kernels_b[k.name]) for k in kernels_a]


def fuzz(arguments: argparse.Namespace) -> int:
    """`kir fuzz`: draws kernels, optimizes each, and checks the result (and its compiled code with --compile)."""
    from kernel_ir.fuzzing import fuzz_compiler

    err = console()
    options = arguments.seed, arguments.fast_math, arguments.compile, arguments.target, arguments.seconds, arguments.plans
    with working(f"drawing {arguments.kernels} kernels"):
        outcome = fuzz_compiler(arguments.kernels, *options)
    if arguments.json:
        write_json({**asdict(outcome), "seed": arguments.seed, "target": arguments.target})
    if outcome.failure is None:
        refused = f", {outcome.refused} beyond {arguments.target}" if outcome.refused else ""
        compiled = f", {outcome.plans} plans compiled" if outcome.plans else ""
        what = f"{outcome.kernels} kernels, {outcome.changed} of them changed by the optimizer{compiled}{refused}"
        err.print(f"[green]equal[/]  {what}" + (f" (stopped by {outcome.ended})" if outcome.ended != "count" else ""), soft_wrap=True)
        return INTERRUPTED if outcome.ended == "interrupt" else 0
    err.print(f"[red]a failure[/] after {outcome.kernels} kernels: please report this one", soft_wrap=True)
    err.print(outcome.failure, markup=False, soft_wrap=True)
    return 1

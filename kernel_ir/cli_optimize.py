"""The commands `optimize` and `emit`: a KIR file into optimized KIR, or into backend source or PTX."""

import argparse
from typing import TYPE_CHECKING, Any

from backends.target import target
from kernel_ir.cli_common import check_sizes_known, chosen, console, read_module, sizes, sizes_of, working, write_json, write_out
from kernel_ir.compiled import ptx_text, source_text
from kernel_ir.errors import UsageError
from kernel_ir.explain import chain_json
from kernel_ir.explain import replay as replayed
from kernel_ir.fastmath import flags
from kernel_ir.nodes import Kernel
from kernel_ir.optimizer import optimize as optimized
from kernel_ir.report import explanation, result_json, summary

if TYPE_CHECKING:
    from kernel_ir.optimizer import Result


def optimize(arguments: argparse.Namespace) -> int:
    """`kir optimize FILE`: writes the optimized kernels, or their code."""
    results = results_of(arguments)
    if arguments.verify_chain:
        for result in results:
            replayed(result.chain, arguments.rules)
    if arguments.chain:
        write_out(chain_json([r.chain for r in results]), arguments.chain)
    if arguments.json:
        write_json({"file": arguments.file, "kernels": [result_json(r, arguments.explain) for r in results]})
        if arguments.output:
            write_out(_text(results, arguments.emit), arguments.output)
    else:
        write_out(_text(results, arguments.emit), arguments.output)
    err = console()
    for result in results:
        err.print(explanation(result) if arguments.explain else summary(result), markup=False, soft_wrap=True)
    return 0


def results_of(arguments: argparse.Namespace, lenient_sizes: bool = False) -> "list[Result]":
    """One result a chosen kernel, in file order; `lenient_sizes` where another file's kernels may own a size."""
    from kernel_ir.optimizer import options

    module = read_module(arguments.file)
    kernels = chosen(module, arguments.kernel, arguments.file)
    given = sizes(arguments.size)
    place = target(arguments.target).name
    if not lenient_sizes:
        check_sizes_known(kernels, given)
    chosen_options = options(
        target=arguments.target,
        fast_math=arguments.fast_math,
        tolerance=getattr(arguments, "tolerance", None),
        rules=tuple(getattr(arguments, "rules", ())),
        pack=getattr(arguments, "pack", None),
        tune=getattr(arguments, "tune", 0),
        seed=arguments.seed,
        check=not getattr(arguments, "no_check", False),
        exact=getattr(arguments, "exact", 0.0),
    )
    results: list[Result] = []
    for kernel in kernels:
        with working(f"optimizing {kernel.name}"):
            pinned = None if getattr(arguments, "reschedule", False) else module.schedule(kernel.name, place)
            packed = tuple(getattr(arguments, "packed", ()))
            results.append(optimized(kernel, sizes=sizes_of(kernel, given), schedule=pinned, packed=packed, **chosen_options))
    return results


def _text(results: "list[Result]", what: str) -> str:
    match what:
        case "kir":
            return "\n\n".join(r.record for r in results) + "\n"
        case "python":
            return one(results).source
        case _:
            return ptx_text(one(results).plan, one(results).target)


def one(items: "list[Any]") -> Any:
    """The only one: code of several kernels does not go into one file."""
    if len(items) != 1:
        raise UsageError("the file holds several kernels", hint="choose one with -k NAME")
    return items[0]


def emit(arguments: argparse.Namespace) -> int:
    """`kir emit FILE`: backend source or PTX of the kernels as they stand."""
    module = read_module(arguments.file)
    kernels = chosen(module, arguments.kernel, arguments.file)
    given = sizes(arguments.size)
    check_sizes_known(kernels, given)
    kernel: Kernel = one(list(kernels))
    place = target(arguments.target)
    licence = flags(arguments.fast_math)
    from kernel_ir.optimizer import best_plan

    plan = best_plan(kernel, place, sizes_of(kernel, given), licence, module.schedule(kernel.name, place.name))
    code = ptx_text(plan, place) if arguments.emit == "ptx" else source_text(plan, place)
    if arguments.json:
        write_json({"file": arguments.file, "kernel": kernel.name, "target": place.name, "emit": arguments.emit, "code": code})
    else:
        write_out(code, arguments.output)
    return 0

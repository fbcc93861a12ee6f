"""The commands `run` and `bench`: a kernel with given or drawn inputs on this machine, and its times beside its peers'."""

import argparse
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernel_ir import meaning
from kernel_ir.cli_common import check_sizes_known, chosen, console, read_module, replacing, sizes, sizes_of, working, write_json
from kernel_ir.cli_optimize import one, results_of
from kernel_ir.dtypes import BOOL, DType
from kernel_ir.errors import UsageError
from kernel_ir.nodes import Kernel
from kernel_ir.timing import Timing, alternating, readable

if TYPE_CHECKING:
    from kernel_ir.optimizer import Result

Arrays = dict[str, Any]


def run(arguments: argparse.Namespace) -> int:
    """`kir run FILE`: runs the optimized kernel; the outputs' figures go to standard output, the arrays to `--output`."""
    given = _load(arguments.input) if arguments.input else None
    result = one(results_of(arguments))
    kernel = result.original
    given_sizes = sizes_of(kernel, sizes(arguments.size))
    values = _inputs(kernel, given, given_sizes, arguments.seed)
    function = _compiled(result)
    outputs = _outputs(kernel, function(**_fresh(kernel, values)), values)
    if arguments.output:
        with replacing(arguments.output) as temporary, Path(temporary).open("wb") as stream:
            np.savez(stream, **outputs)
    figures = {name: _figures(array, kernel.arrays[name].dtype) for name, array in outputs.items()}
    report: dict[str, Any] = {"kernel": kernel.name, "target": result.target.name, "outputs": figures}
    if arguments.bench:
        report["bench"] = timings_json(bench_one(result, values, given_sizes))
    if arguments.json:
        write_json(report)
    else:
        for name, shown in figures.items():
            sys.stdout.write(f"{name}: " + ", ".join(f"{key} {value}" for key, value in shown.items()) + "\n")
        if arguments.bench:
            _print_timings(kernel.name, report["bench"])
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """`kir bench FILE…`: `run --bench` for every kernel of the files."""
    rows: list[dict[str, Any]] = []
    given = sizes(arguments.size)
    check_sizes_known([k for f in arguments.files for k in chosen(read_module(f), arguments.kernel, f)], given)
    for file in arguments.files:
        arguments.file = file
        for result in results_of(arguments, lenient_sizes=True):
            given_sizes = sizes_of(result.original, given)
            values = _inputs(result.original, None, given_sizes, arguments.seed)
            timings = timings_json(bench_one(result, values, given_sizes))
            rows.append({"file": file, "kernel": result.original.name, "bench": timings})
            if not arguments.json:
                _print_timings(result.original.name, timings)
    if arguments.json:
        write_json({"kernels": rows})
    return 0


def bench_one(result: "Result", values: Arrays, extents: Mapping[str, int]) -> dict[str, Timing]:
    """Ours, the kernel as written on the same target and planned for the same sizes, and NumPy: alternating, in one run."""
    from backends.target import target
    from kernel_ir.compiled import compiled
    from kernel_ir.optimizer import best_plan

    kernel = result.original
    ours = _compiled(result)
    plain = compiled(best_plan(kernel, result.target, extents, result.fast_math), result.target)
    by_numpy = compiled(best_plan(kernel, target("numpy"), extents, result.fast_math), target("numpy"))

    def call(function: Callable[..., object]) -> Callable[[], object]:
        own = _fresh(kernel, values)
        return lambda: function(**own)

    with working(f"timing {kernel.name}"):
        return alternating({"optimized": call(ours), "as written": call(plain), "NumPy": call(by_numpy)})


def timings_json(timings: Mapping[str, Timing]) -> dict[str, Any]:
    """Medians, quartiles and ratios to the first contender, in seconds."""
    first = next(iter(timings.values()))
    return {
        name: {"median": t.median, "low": t.low, "high": t.high, "rounds": len(t.seconds), "ratio": first.ratio(t)}
        for name, t in timings.items()
    }


def _print_timings(name: str, timings: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(name, "median", "quartiles", "optimized is faster by", box=None)
    for who, t in timings.items():
        table.add_row(who, readable(t["median"]), f"{readable(t['low'])} – {readable(t['high'])}", f"{t['ratio']:.2f}×")
    console().print(table)


def _compiled(result: "Result") -> Callable[..., object]:
    with working(f"compiling {result.original.name}"):
        return result.compile()


def _load(path: str) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="give an .npz file of arrays by name") from None
    except (ValueError, zipfile.BadZipFile, AttributeError):
        raise UsageError(f"{path} is not an .npz file of plain arrays", hint="write it with numpy.savez") from None


def _inputs(kernel: Kernel, given: Arrays | None, extents: Mapping[str, int], seed: int) -> Arrays:
    """The inputs by name: given ones (scalars from rank-0 arrays), or drawn ones; sizes that no input fixes are added."""
    from kernel_ir.inputs import sample_inputs

    if given is None:
        return dict(sample_inputs(kernel, seed, extents))
    scalars = {p.name for p in kernel.params if p.type.rank == 0}
    values = {name: value[()] if name in scalars and value.ndim == 0 else value for name, value in given.items()}
    return values | dict(extents)


def _fresh(kernel: Kernel, values: Arrays) -> Arrays:
    """The inputs with each `inout` array copied: a call updates it in place."""
    inout = {p.name for p in kernel.params if p.inout}
    return {name: value.copy() if name in inout else value for name, value in values.items()}


def _outputs(kernel: Kernel, returned: Any, values: Arrays) -> Arrays:
    names = [p.name for p in kernel.outputs]
    arrays = dict(zip(names, [returned] if len(names) == 1 else returned or (), strict=True))
    return arrays | {p.name: values[p.name] for p in kernel.params if p.inout}


def _figures(array: Any, dtype: DType) -> dict[str, Any]:
    a = np.asarray(array)
    shown: dict[str, Any] = {"dtype": dtype.name, "shape": list(a.shape)}
    if a.size and dtype is not BOOL:
        wide = np.asarray(meaning.read(a, dtype), np.float64)
        with np.errstate(all="ignore"):
            shown |= {"min": float(wide.min()), "max": float(wide.max()), "mean": float(wide.mean())}
    return shown

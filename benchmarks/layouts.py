"""Turns kernels whose arrays may lie anyhow into the times of every layout, and how far the chosen one is from the fastest.

    python benchmarks/layouts.py --prepare              compiles all there is to measure, on no quiet machine
    python benchmarks/layouts.py [-k luma matvec] [--json benchmarks/results/layouts.json]

For each kernel and set of sizes, twice: with arrays that the caller has packed (`packed=True`), and with arrays in C order that each call
lays out (`as given`). Every combination of the layouts that the search knows is compiled and timed, alternating; a time is the least of its
rounds, as other programs only ever add to it. The fastest of a first pass is timed against the choice three times more, on arrays made anew
(in other pages of memory), and the median of these ratios counts: the least of many noisy times is below any one's true time. `noise` is
what the choice takes against itself on two sets of arrays, in the same passes; a case where that is more than 5 % is measured again, three
times at most.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console

import kernel_ir as kir
from backends.plans import plans
from backends.target import target
from benchmarks.machine import busy_cores, description
from extract.cost import cost
from extract.layouts import every
from extract.machine import load_machine
from kernel_ir.compiled import compiled
from kernel_ir.inputs import sample_inputs
from kernel_ir.layout import ArrayLayout, laid_anyhow
from kernel_ir.parser import parse_file
from kernel_ir.plan import Plan
from kernel_ir.timing import alternating

KERNELS: Final = Path(__file__).resolve().parent / "layouts.kir"
FLAGS: Final = "reassoc,contract"
WITHIN: Final = 1.05
REPEATS: Final = 3
ATTEMPTS: Final = 3
CASES: Final = (
    ("luma", {"N": 4_000_000}),
    ("luma", {"N": 50_000}),
    ("luma_image", {"H": 1080, "W": 1920}),
    ("rgb_to_yuv", {"N": 1_000_000}),
    ("kinetic", {"N": 1_000_000}),
    ("kinetic", {"N": 20_000}),
    ("push", {"N": 1_000_000}),
    ("centre", {"N": 2_000_000}),
    ("forces", {"N": 3000}),
    ("rotate", {"N": 2_000_000}),
    ("modulus", {"N": 2_000_000}),
    ("field", {"N": 1_000_000}),
    ("apply3", {"B": 500_000}),
    ("determinants", {"B": 1_000_000}),
    ("columns_sum", {"N": 4000, "M": 3000}),
    ("columns_sum", {"N": 200_000, "M": 16}),
    ("rows_sum", {"N": 4000, "M": 3000}),
    ("transposed_matvec", {"N": 4096, "M": 4096}),
    ("transposed_matvec", {"N": 600, "M": 700}),
    ("matvec", {"N": 3000, "M": 3000}),
    ("product_bt", {"N": 768, "K": 768, "M": 768}),
    ("product_at", {"N": 500, "K": 700, "M": 600}),
    ("add_transposed", {"N": 4096}),
    ("add_transposed", {"N": 1000}),
    ("softmax_columns", {"R": 2000, "C": 1000}),
    ("embed", {"V": 10_000, "D": 256, "T": 8000}),
    ("pick", {"V": 1_000_000, "T": 500_000}),
    ("heat", {"N": 192}),
    ("smooth_time", {"T": 100_000, "C": 32}),
    ("channel_means", {"B": 16, "S": 4096, "C": 48}),
    ("depth_image", {"H": 512, "W": 512, "C": 12}),
)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 where a layout computes something else."""
    arguments = _arguments(argv)
    console = Console(stderr=True, highlight=False)
    results: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text(encoding="utf-8")).get("cases", {})
    right = True
    for name, sizes in CASES:
        if arguments.kernels and name not in arguments.kernels:
            continue
        for packed in (True, False):
            contenders, chosen, predicted = _contenders(name, sizes, packed)
            key = f"{name} {' '.join(f'{n}={v}' for n, v in sizes.items())} {'packed' if packed else 'as given'}"
            if arguments.prepare:
                _calls(name, sizes, contenders)
                console.print(f"{key}: {len(contenders)} layouts, chosen {chosen}")
                continue
            row = _measured(name, sizes, contenders, chosen, arguments) | {"predicted_cycles": predicted}
            right &= row["right"]
            results[key] = row
            console.print(f"{key}: {row['ratio']:.3f} (noise {row['noise']:.3f}, attempt {row['attempts']})  {chosen}  best {row['best']}")
            if arguments.json:
                arguments.json.write_text(json.dumps(_summary(results), indent=1) + "\n", encoding="utf-8")
    if not arguments.prepare:
        console.print({k: v for k, v in _summary(results).items() if k not in ("cases", "machine")})
    return 0 if right else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times every layout of kernels whose arrays may lie anyhow, against the one chosen.")
    parser.add_argument(
        "-k", "--kernels", metavar="NAME", nargs="+", choices=sorted({name for name, _ in CASES}), help="only these kernels"
    )
    parser.add_argument("--prepare", action="store_true", help="compile, and measure nothing")
    parser.add_argument("--rounds", type=int, default=15, help="rounds a pass, at most (default 15)")
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long a pass (default 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="add the results to FILE")
    return parser.parse_args(argv)


def _contenders(name: str, sizes: Mapping[str, int], packed: bool) -> tuple[dict[str, Plan], str, dict[str, float]]:
    """The best plan of each layout, by the layout's text; the chosen one's text; predicted cycles."""
    kernel = parse_file(KERNELS)[name]
    result = kir.optimize(kernel, target="cpu", fast_math=FLAGS, sizes=sizes, packed=packed)
    place, machine = target("cpu"), load_machine(target("cpu").machine)
    names = [p.name for p in laid_anyhow(kernel)]
    others = tuple(one for one in result.plan.layouts if one.name not in names)
    found = {_text(result.plan, names): result.plan}
    predicted = {_text(result.plan, names): result.cycles}
    for laid in every(kernel, machine, sizes):
        text = "; ".join(f"{one.name}: {one.layout}" for one in laid)
        if text in found:
            continue
        able = [
            replace(p, packed=result.plan.packed)
            for p in plans(result.kernel, place, machine, sizes, result.fast_math, ((*laid, *others),))
        ]
        if able:
            costs = {cost(p, machine, sizes).cycles: p for p in able}
            predicted[text], found[text] = min(costs), costs[min(costs)]
    return found, _text(result.plan, names), predicted


def _text(plan: Plan, names: Sequence[str]) -> str:
    laid: tuple[ArrayLayout, ...] = plan.layouts
    return "; ".join(f"{one.name}: {one.layout}" for one in laid if one.name in names)


def _calls(name: str, sizes: Mapping[str, int], contenders: Mapping[str, Plan]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call of each contender, run once, and what each gave."""
    kernel = parse_file(KERNELS)[name]
    values: dict[str, Any] = sample_inputs(kernel, 0, sizes)
    calls: dict[str, Any] = {}
    gave: dict[str, Any] = {}
    for text, plan in contenders.items():
        f = compiled(plan, target("cpu"))
        own = {**values, **{p.name: np.array(values[p.name]) for p in kernel.params if p.inout}}
        given = f.ready(own)
        made = f(**given)
        inout = [given[p.name] for p in kernel.params if p.inout]
        gave[text] = [np.array(a) for a in (*inout, *(() if made is None else made if isinstance(made, tuple) else (made,)))]
        calls[text] = lambda f=f, given=given: f(**given)
    return calls, gave


def _measured(
    name: str, sizes: Mapping[str, int], contenders: Mapping[str, Plan], chosen: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    calls, gave = _calls(name, sizes, contenders)
    right = all(
        np.allclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True) for got in gave.values() for a, b in zip(got, gave[chosen], strict=True)
    )
    row: dict[str, Any] = {}
    for attempt in range(ATTEMPTS):
        row = _attempt(name, sizes, contenders, chosen, calls, arguments) | {"attempts": attempt + 1}
        if row["noise"] <= WITHIN:
            break
    return row | {"right": bool(right), "layouts": len(contenders), "chosen": chosen}


def _attempt(
    name: str,
    sizes: Mapping[str, int],
    contenders: Mapping[str, Plan],
    chosen: str,
    calls: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    first = alternating(calls, arguments.rounds, arguments.seconds)
    least = {text: min(timing.seconds) for text, timing in first.items()}
    best = min(least, key=lambda text: least[text])
    times: dict[str, list[float]] = {}
    for _ in range(REPEATS):  # arrays anew: where they lie in memory is luck, too
        again = _calls(name, sizes, {text: contenders[text] for text in dict.fromkeys((chosen, best))})[0]
        again["again"] = _calls(name, sizes, {chosen: contenders[chosen]})[0][chosen]
        for text, timing in alternating(again, arguments.rounds, arguments.seconds / 2).items():
            times.setdefault(text, []).append(min(timing.seconds))
    ratios = [a / b for a, b in zip(times[chosen], times[best], strict=True)]
    noises = [max(a / b, b / a) for a, b in zip(times[chosen], times["again"], strict=True)]
    return {
        "best": best,
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "noise": float(np.median(noises)),
        "noises": noises,
        "rows_ratio": least[_rows(contenders)] / least[chosen],
        "worst_ratio": max(least.values()) / least[chosen],
        "seconds": least,
        "median": {text: t.median for text, t in first.items()},
    }


def _rows(contenders: Mapping[str, Plan]) -> str:
    return next(text for text, plan in contenders.items() if all(one.layout.is_rows for one in plan.layouts if _is_caller_s(plan, one)))


def _is_caller_s(plan: Plan, one: ArrayLayout) -> bool:
    return any(p.name == one.name for p in laid_anyhow(plan.kernel))


def _summary(results: Mapping[str, Any]) -> dict[str, Any]:
    ratios = [row["ratio"] for row in results.values()]
    return {
        "machine": description(),
        "flags": FLAGS,
        "busy_cores": busy_cores(),
        "count": len(ratios),
        "within_5_percent": sum(r <= WITHIN for r in ratios),
        "best_found": sum(row["best"] == row["chosen"] for row in results.values()),
        "worst": max(ratios, default=1.0),
        "geometric_mean": float(np.exp(np.mean(np.log(ratios)))) if ratios else 1.0,
        "cases": dict(results),
    }


if __name__ == "__main__":
    sys.exit(main())

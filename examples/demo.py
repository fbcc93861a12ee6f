"""Optimizes a real kernel, shows what changed and why, runs it on this CPU, and measures it."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import kernel_ir as kir
from kernel_ir.timing import alternating, readable

HERE = Path(__file__).parent
SIZES = {"R": 4096, "C": 4096}
FLAGS = "reassoc,contract,arcp,afn,nsz"


def numpy_softmax(x):
    """What one would write by hand."""
    p = np.exp(x - x.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def main() -> None:
    """Prints the kernel before and after, the rules used, and the times."""
    out = Console(highlight=False)
    softmax = kir.parse_file(HERE / "kernels" / "rows.kir")["softmax"]
    out.rule("before")
    out.print(str(softmax), markup=False)
    result = kir.optimize(softmax, target="cpu", fast_math=FLAGS, sizes=SIZES)
    out.rule(f"after, for the CPU, with fast-math {FLAGS}")
    out.print(result.text, markup=False)
    out.print(f"rules: {', '.join(result.rules) or 'none'}", markup=False)
    out.print(f"predicted: {result.baseline_cycles:.3g} → {result.cycles:.3g} cycles")

    x = np.random.default_rng(0).standard_normal((SIZES["R"], SIZES["C"]), dtype=np.float32)
    fast, plain = result.compile(), kir.optimize(softmax, target="numpy", budget=kir.Budget(nodes=0)).compile()
    truth = numpy_softmax(x.astype(np.float64))
    error = float(np.max(np.abs(fast(x=x) - truth) / truth))
    out.rule(f"measured: {SIZES['R']} x {SIZES['C']}, f32")
    times = alternating({"kir": lambda: fast(x=x), "NumPy by hand": lambda: numpy_softmax(x), "the kernel as written": lambda: plain(x=x)})
    table = Table("", "median", "quartiles", "kir is faster by")
    for name, timing in times.items():
        table.add_row(
            name, readable(timing.median), f"{readable(timing.low)} – {readable(timing.high)}", f"{times['kir'].ratio(timing):.2f}×"
        )
    out.print(table)
    out.print(f"greatest relative error against float64: {error:.2g}")


if __name__ == "__main__":
    main()

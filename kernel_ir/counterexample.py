"""Turns a found difference into a readable message, and into a file that replays it (npz with a JSON header, no pickle)."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from kernel_ir.compare import Comparison, Mismatch, value_text
from kernel_ir.errors import EquivalenceError, UsageError
from kernel_ir.inputs import Inputs

FORMAT: Final = 1
HEADER: Final = "header"


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Inputs on which two kernels differ, and the first difference."""

    kernel: str
    inputs: Inputs
    mismatch: Mismatch


def difference_error(compared: Comparison, drawn: Inputs, found: Mismatch) -> EquivalenceError:
    """The error that shows sizes, inputs, both results, truth and bound."""
    a, b = compared.a.kernel, compared.b.kernel
    sizes = ", ".join(f"{name}={extent}" for name, extent in drawn.sizes.items())
    place = found.array + (f"[{', '.join(map(str, found.index))}]" if found.index else "")
    lines = [f"{a.name}: the two differ at {place}" + (f", with {sizes}" if sizes else "")]
    lines += ["  " + line.replace("\n", "\n  ") for line in value_text(drawn.values, a)]
    orders = [f"{name} ({layout})" for name, layout in drawn.layouts.items() if layout != "rows"]
    lines += [f"  memory order: {', '.join(orders)}"] if orders else []
    names = ("first", "second") if a.name == b.name else (a.name, b.name)
    width = max(map(len, (*names, "truth")))
    lines += [f"  {name:<{width}} {value!r}" for name, value in zip(names, (found.left, found.right), strict=True)]
    demand = "must agree bit for bit" if compared.judge.exact else f"may lie {sum(found.bounds):.3g} apart"
    lines.append(f"  {'truth':<{width}} {found.truth!r} (the two {demand})")
    return EquivalenceError("\n".join(lines), counterexample=Counterexample(a.name, drawn, found))


def save_counterexample(path: str | Path, counterexample: Counterexample) -> None:
    """Writes the inputs of a counterexample to `path`, for `replay`."""
    drawn = counterexample.inputs
    header: dict[str, Any] = {"format": FORMAT, "kernel": counterexample.kernel, "array": counterexample.mismatch.array}
    header |= {"sizes": drawn.sizes, "layouts": drawn.layouts}
    arrays: dict[str, Any] = {f"input_{name}": np.asarray(value) for name, value in drawn.values.items()}
    with Path(path).open("wb") as file:
        np.savez(file, **{HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8)}, **arrays)


def load_inputs(path: str | Path) -> Inputs:
    """The inputs in a file that `save_counterexample` wrote. Raises UsageError where it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            header = json.loads(bytes(data[HEADER]).decode())
            values = {name.removeprefix("input_"): data[name][()] for name in data.files if name != HEADER}
        if header["format"] != FORMAT:
            raise UsageError(f"{path} has format {header['format']}, and this version reads {FORMAT}")
        return Inputs(values, dict(header["sizes"]), dict(header["layouts"]))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint="give a counterexample file") from None
    except (ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile):
        raise UsageError(f"{path} is not a counterexample file", hint="`kir check` writes one where two kernels differ") from None

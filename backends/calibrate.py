"""Measures this machine's CPU into the figures of a machine file: units, functions, memory levels, what starting work costs.

Each figure is the difference between two loops that differ in it alone, in the first-level cache unless it is about another one,
as numba compiles our code. The tables say which loops; `backends/calibrate_loops.py` runs them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backends.calibrate_loops import (
    call_seconds,
    clock_ghz,
    copy_seconds,
    element_seconds,
    function_seconds,
    handoff_seconds,
    latency_seconds,
    launch_seconds,
    loop_seconds,
    past_seconds,
    product_seconds,
    sum_seconds,
    threads,
    turn_seconds,
)
from backends.host_caches import caches
from backends.vector_math import VECTOR
from extract.machine import vector_machine
from extract.machine_text import machine_file
from kernel_ir.ops import OPS, Unit

FUNCTIONS: Final = tuple(op for op, row in OPS.items() if row.unit in (Unit.EXP, Unit.TRIG))
PRODUCT: Final = 1024
"""Side of the matrices whose product is timed."""
MEASURED: Final = "measured by `kir targets calibrate`"
SOURCES: Final = {
    "clock_ghz": f"{MEASURED}: a chain of dependent integer operations, a cycle each",
    "units": "the threads that numba starts",
    "lanes_bits": "the width of a vector register, by the processor's flags",
    "line_bytes": "the cache line of every x86-64 processor",
    "latency": f"{MEASURED}: a chain of dependent f32 additions",
    "launch_cycles": f"{MEASURED}: a parallel loop with nothing to do, threads awake",
    "loop_cycles": f"{MEASURED}: rows of 64 f32 against one row of 4096",
    "cycles": f"{MEASURED}: cycles of one vector instruction, by rows of 4 and of 12 steps an element. IDIV, which no vector instruction "
    "does, is a scalar division times the lanes, and DIV of integers is IDIV; of floats SHIFT is LOGIC, IDIV two divisions and four "
    "additions; CONVERT is a rounding; EXP and TRIG are exp and erf",
    "functions": f"{MEASURED}: cycles an element as our backend computes them, in the first-level cache; `scalar`: those that the "
    "C library computes, or that take an f32 as long as an f64",
    "levels": f"sizes: the system's; bytes a cycle: {MEASURED}, by sums and copies of what fits; memory: of all cores, and of one",
    "extra": f"tile_bits, vector_registers: the instruction set's; window: of Zen 4 or Skylake; the rest: {MEASURED}",
}
"""Where each table and key of the file comes from."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Operations in a row on one element: text of one step on `v` with the loop's constants `a`, `b`; what else the step does; how many
    of the unit's operations a step has."""

    step: str
    besides: tuple[str, ...] = ()
    count: int = 1


CHAINS: Final[Mapping[str, Mapping[str, Chain]]] = {
    "f32": {
        "ADD": Chain("v = v + a"),
        "MUL": Chain("v = v * a"),
        "FMA": Chain("v = fmadd(v, a, b)"),
        "DIV": Chain("v = a / v"),
        "SQRT": Chain("v = math.sqrt(v)"),
        "CONVERT": Chain("v = np.floor(v) + a", ("ADD",)),
        "LOGIC": Chain("v = v + a if v > b else v", ("ADD", "ADD")),
    },
    "i32": {
        "LOGIC": Chain("v = (v ^ a) + b", count=2),  # the same ports add
        "ADD": Chain("v = (v ^ a) + b", count=2),
        "MUL": Chain("v = (v * a) ^ b", ("LOGIC",)),
        "SHIFT": Chain("v = (v >> 3) + a", ("ADD",)),
        "IDIV": Chain("v = v // a + b", ("ADD",)),
    },
}
"""The chains of f32 serve f64, those of i32 serve i64."""
NUMBERS: Final = {"f32": (1.0009765625, 0.5), "f64": (1.0009765625, 0.5), "i32": (3, 1), "i64": (3, 1)}
ORDER: Final = ("ADD", "MUL", "FMA", "DIV", "SQRT", "EXP", "TRIG", "LOGIC", "SHIFT", "IDIV", "CONVERT")


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to measure: what, and the measurement that writes it into the figures."""

    name: str
    run: Callable[[dict[str, Any]], None]


def works() -> Iterator[Work]:
    """All measurements in order: later ones use the clock and the units that earlier ones found."""
    yield Work("clock", _clock)
    yield Work("matrix product", _product)  # before any other threads wait for work
    for dtype in ("f32", "f64", "i32", "i64"):
        yield Work(f"units, {dtype}", lambda found, dtype=dtype: _units(dtype, found))
    for name in FUNCTIONS:
        yield Work(name, lambda found, name=name: _function(name, found))
    for number, (level, size) in enumerate(caches()):
        yield Work(level, lambda found, level=level, size=size, number=number: _level(level, size, number, found))
    yield Work("starting work", _starts)


def _lanes(found: Mapping[str, Any], dtype: str) -> int:
    return int(found["lanes_bits"]) // (64 if dtype in ("f64", "i64") else 32)


def _cycles(found: Mapping[str, Any], seconds: float) -> float:
    return max(0.0, seconds) * found["clock_ghz"] * 1e9


def _clock(found: dict[str, Any]) -> None:
    wide = vector_machine() == "avx512"
    found |= {"name": "cpu", "kind": "cpu", "clock_ghz": rounded(clock_ghz()), "units": threads(), "lanes_bits": 512 if wide else 256}
    found["line_bytes"] = 64
    found |= {"cycles": {}, "functions": {"f32": {}, "f64": {}}, "levels": []}
    found["extra"] = {"tile_bits": 512 if wide else 256, "vector_registers": 32 if wide else 16, "window": 320 if wide else 224}
    found["latency"] = rounded(_cycles(found, latency_seconds()))


def _units(dtype: str, found: dict[str, Any]) -> None:
    """Cycles of one vector instruction: what eight more steps a element add, less what the steps do besides."""
    row: dict[str, float] = {}
    lanes = _lanes(found, dtype)
    for unit, chain in CHAINS["f32" if dtype[0] == "f" else "i32"].items():
        constants = NUMBERS[dtype]
        seconds = element_seconds(chain.step, dtype, constants)
        row[unit] = rounded(max(0.1, (_cycles(found, seconds) * lanes - sum(row[other] for other in chain.besides)) / chain.count))
    if dtype[0] == "f":
        row["SHIFT"] = row["LOGIC"]
        row["IDIV"] = rounded(2 * row["DIV"] + 4 * row["ADD"])
    else:
        row["DIV"] = row["IDIV"]
        row["CONVERT"] = found["cycles"]["f32" if dtype == "i32" else "f64"]["CONVERT"]
    found["cycles"][dtype] = row


def _function(name: str, found: dict[str, Any]) -> None:
    """Cycles of an element; functions without a vector form are noted as such."""
    for dtype in ("f32", "f64"):
        found["functions"][dtype][name] = rounded(_cycles(found, function_seconds(name, dtype)))
        row = found["cycles"][dtype]
        if name == "exp":
            row["EXP"] = rounded(found["functions"][dtype][name] * _lanes(found, dtype))
        if name == "erf":
            row["TRIG"] = rounded(found["functions"][dtype][name] * _lanes(found, dtype))
        found["cycles"][dtype] = {unit: row[unit] for unit in ORDER if unit in row}
    if (name, "f32") not in VECTOR:
        found["functions"].setdefault("scalar", []).append(name)


def _level(level: str, size: int, number: int, found: dict[str, Any]) -> None:
    """Bytes a cycle that one core reads of what fits the level but not the one before, and how much longer writing takes."""
    before = found["levels"][-1]["bytes"] if found["levels"] else 0
    last = size == 0
    footprint = max(64 << 20, 6 * before) if last else max(2 * before, size // 2)
    alone = sum_seconds(footprint, 1)
    together = min(alone, sum_seconds(footprint, threads())) if last else alone
    copied = copy_seconds(footprint // 2, threads() if last else 1)
    read = footprint / _cycles(found, together)
    written = footprint / 2 / max(1e-9, _cycles(found, copied) - footprint / 2 / read)
    row = {"name": level, "bytes": (1 << 63) - 1 if last else size, "bytes_per_cycle": rounded(read), "written": rounded(written)}
    if last:
        row["alone"] = rounded(footprint / _cycles(found, alone))
        past = past_seconds(footprint // 2)
        row["past"] = rounded(footprint / 2 / max(1e-9, _cycles(found, past) - footprint / 2 / read))
    found["levels"].append(row)


def _product(found: dict[str, Any]) -> None:
    found["product"] = _cycles(found, product_seconds(PRODUCT))


def _starts(found: dict[str, Any]) -> None:
    found["launch_cycles"] = rounded(_cycles(found, launch_seconds()))
    found["loop_cycles"] = rounded(_cycles(found, loop_seconds()))
    found["extra"]["call_cycles"] = rounded(_cycles(found, call_seconds()))
    found["extra"]["library_handoff"] = rounded(_cycles(found, handoff_seconds(PRODUCT // 4))) if found["units"] > 1 else 0.0
    found["extra"]["turn_cycles"] = rounded(_cycles(found, turn_seconds()))
    peak = _lanes(found, "f32") / found["cycles"]["f32"]["FMA"] * found["units"]
    found["extra"]["product_efficiency"] = rounded(min(1.0, PRODUCT**3 / found.pop("product") / peak))
    found["cycles"]["bool"] = {unit: found["cycles"]["i32"][unit] for unit in ("ADD", "LOGIC", "CONVERT")}


def measured_file(found: Mapping[str, Any]) -> str:
    """The machine file of what `works` measured."""
    return machine_file(found, SOURCES, "This machine's CPU, as `kir targets calibrate` measured it.")


def rounded(value: float) -> float:
    """Three digits: what a measurement tells.

    >>> rounded(12345.6), rounded(0.33333)
    (12300.0, 0.333)
    """
    return float(f"{value:.3g}")

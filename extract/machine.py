"""Turns a file of `extract/targets` into a Machine: what an op, a byte and a launch cost on one target."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

from kernel_ir.directories import config_directory
from kernel_ir.dtypes import BOOL, DType, reads_as
from kernel_ir.errors import TargetError
from kernel_ir.ops import OPS, Unit


@dataclass(frozen=True, slots=True)
class Level:
    """One level of memory: bytes that fit (of one core, but the last cache is all cores'; memory holds everything), bytes a cycle that are
    read and that are written for one core, of memory for all cores together and `alone` for one that nobody disturbs; of memory `past`,
    bytes a cycle that are written past the caches."""

    name: str
    bytes: int
    bytes_per_cycle: float
    written: float = 0.0
    alone: float = 0.0
    past: float = 0.0

    def cycles(self, read: float, written: float, past: float = 0.0, alone: bool = False) -> float:
        """Cycles to read and write so many bytes."""
        slower = self.bytes_per_cycle / self.alone if alone and self.alone else 1.0
        streams = past / self.past if self.past else past / (self.written or self.bytes_per_cycle)
        return (read / self.bytes_per_cycle + written / (self.written or self.bytes_per_cycle) + streams) * slower


@dataclass(frozen=True, slots=True)
class Machine:
    """One target.

    `units` are cores or multiprocessors; `lanes_bits` the width of one vector instruction (a warp of 32-bit lanes on a GPU);
    `throughput` the reciprocal throughput in cycles of one vector instruction by unit and dtype name; `latency` cycles between
    dependent additions; `levels` nearest first (on a CPU the last one's bytes a cycle are all cores' together);
    `launch_cycles` what starting parallel work costs, `loop_cycles` what starting an
    inner loop costs; `extra` figures that only one kind of machine has (registers, warps, shared memory); `functions` cycles an element
    by function and dtype name; `scalar` the functions that have no vector form: a loop with one of them is no vector loop; of a GPU
    `beside` the integer instructions of a function (each time, and once for its constants), `ending` those whose last is a product.
    """

    name: str
    kind: Literal["cpu", "gpu"]
    clock_ghz: float
    units: int
    lanes_bits: int
    latency: float
    launch_cycles: float
    loop_cycles: float
    line_bytes: int
    throughput: Mapping[tuple[Unit, str], float] = field(repr=False)
    levels: tuple[Level, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict[str, float], repr=False)
    functions: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float], repr=False)
    scalar: frozenset[str] = frozenset()
    beside: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]], repr=False)
    ending: frozenset[str] = frozenset()

    def lanes(self, dtype: DType) -> int:
        """Elements of one vector instruction; bool goes by bytes of the comparison that made it, taken as 32 bits."""
        return max(1, self.lanes_bits // max(32, dtype.bits))

    def instruction_cycles(self, unit: Unit, dtype: DType) -> float:
        """Reciprocal throughput of one vector instruction, in cycles."""
        held = reads_as(dtype)
        found = self.throughput.get((unit, held.name))
        return found if found is not None else self.throughput[(unit, "i32" if held is BOOL else "f64")]

    def op_cycles(self, op: str, dtype: DType) -> float:
        """Cycles of one op of the op table for one element, in a vector loop; "load" is a load that hits the first level.

        >>> from kernel_ir.dtypes import F32, F64
        >>> cpu = load_machine("cpu")
        >>> cpu.op_cycles("add", F32) < cpu.op_cycles("add", F64) < cpu.op_cycles("exp", F64)
        True
        """
        if op == "load":
            return dtype.itemsize / self.levels[0].bytes_per_cycle
        if (op, dtype.name) in self.functions:
            return self.functions[op, dtype.name]
        row = OPS[op]
        return self.instruction_cycles(row.unit, dtype) / self.lanes(dtype)

    node_cost = op_cycles


_SCALARS: Final = ("name", "kind", "clock_ghz", "units", "lanes_bits", "latency", "launch_cycles", "loop_cycles", "line_bytes")


CPU: Final = "cpu"
"""The name of the host: what `kir targets calibrate` wrote of it, else the generic file for the vector instructions that it has."""


def load_machine(name: str) -> Machine:
    """The machine called `name`: "cpu" (the host), "avx2", "sm_80", …, or that of a file (a path that ends in .toml).

    Raises TargetError for a name that has no file, and for a file that is no machine file.
    """
    path = machine_path(name)
    return _loaded(path, path.stat().st_mtime_ns)


def machine_path(name: str) -> Path:
    """The file of the machine called `name`. Raises TargetError where there is none."""
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise TargetError(f"no machine file {name}", hint="`kir targets calibrate --out FILE` measures this machine and writes one")
        return path
    if name.isidentifier():
        written = config_directory() / f"{name}.toml"
        if written.is_file():
            return written
    path = _built_in(vector_machine() if name == CPU else name)
    if not name.isidentifier() or not path.is_file():
        raise TargetError(f"no machine file for {name!r}", hint=f"the machines are {', '.join((CPU, *machine_names()))}")
    return path


def _built_in(name: str) -> Path:
    return Path(str(files("extract") / "targets" / f"{name}.toml"))


@cache
def _loaded(path: Path, written: int) -> Machine:
    """The machine of a file that was written at that time."""
    try:
        return _machine(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
        hint = "`kir targets show cpu` prints one that is; `kir targets calibrate` writes one"
        raise TargetError(f"{path} is no machine file: {what}", hint=hint) from None


def _machine(data: dict[str, Any]) -> Machine:
    cycles = {(Unit[unit], dtype): float(value) for dtype, row in data["cycles"].items() for unit, value in row.items()}
    levels = tuple(
        Level(
            row["name"],
            int(row["bytes"]),
            float(row["bytes_per_cycle"]),
            float(row.get("written", 0.0)),
            float(row.get("alone", 0.0)),
            float(row.get("past", 0.0)),
        )
        for row in data["levels"]
    )
    extra = {key: float(value) for key, value in data.get("extra", {}).items()}
    table = data.get("functions", {})
    functions = {(name, dtype): float(value) for dtype in ("f32", "f64") for name, value in table.get(dtype, {}).items()}
    scalar, ending = (frozenset(map(str, table.get(key, ()))) for key in ("scalar", "ending"))
    beside = {name: (float(each), float(once)) for name, (each, once) in table.get("beside", {}).items()}
    figures = {key: data[key] for key in _SCALARS}
    return Machine(
        **figures,
        throughput=cycles,
        levels=levels,
        extra=extra,
        functions=functions,
        scalar=scalar,
        beside=beside,
        ending=ending,
    )


@cache
def vector_machine() -> str:
    """The generic machine with the vector instructions of this host: "avx512" or "avx2"."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("flags")[2].partition("\n")[0].split()
    except OSError:
        flags = []
    return "avx512" if {"avx512f", "avx512dq", "avx512vl"} <= set(flags) else "avx2"


def machine_text(name: str) -> str:
    """The file of the machine called `name`, with its sources. Raises TargetError as `load_machine` does."""
    load_machine(name)
    return machine_path(name).read_text("utf-8")


def machine_names() -> tuple[str, ...]:
    """Every machine that comes with kir, sorted."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in (files("extract") / "targets").iterdir() if p.name.endswith(".toml")))

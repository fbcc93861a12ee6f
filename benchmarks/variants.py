"""Turns a kernel and sizes into the variants that a model of its cost must order: forms from the e-graph, each by every schedule."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from backends.cpu_source import cpu_source
from backends.target import target
from benchmarks.inputs import CASES, NPBENCH, Case
from benchmarks.ours import FLAGS
from extract.machine import load_machine
from extract.schedule_cpu import plans
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan

SEARCHES: Final = ("none", "reassoc", FLAGS)
"""Flags under which forms are searched for; all run under the last."""
SHAPES: Final = ("avx2", "avx512")
"""Machines whose register tiles are tried besides those of the machine that is judged."""
MOST: Final = 8
"""Variants of one kernel at one size."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a kernel by one schedule, at sizes."""

    kernel: str
    sizes: Mapping[str, int]
    form: Kernel
    plan: Plan
    code: str = ""
    """The start of the hash of the code."""

    @property
    def numbers(self) -> dict[str, int]:
        """The sizes, and the scalars that count something."""
        return dict(self.sizes)

    @property
    def schedule(self) -> str:
        return ", ".join(f"{what}={how}" for what, how in self.plan.schedule)


def case_of(name: str) -> Case:
    return (CASES | NPBENCH)[name]


def sizes_of(name: str) -> tuple[dict[str, int], ...]:
    """The sizes of the full and of the quick run, and those half way between (geometrically)."""
    case = case_of(name)
    middle = {n: _between(n, case.quick[n], v) for n, v in case.full.items()}
    every = (dict(case.quick), middle, dict(case.full))
    return tuple(s for n, s in enumerate(every) if s not in every[:n])


def _between(name: str, small: int, large: int) -> int:
    return round((small * large) ** 0.5)


def forms(kernel: Kernel, sizes: Mapping[str, int]) -> tuple[Kernel, ...]:
    """Every form that the searches considered, the kernel as written first."""
    import kernel_ir as kir

    extents = {n: sizes[n] for n in kernel.sizes}
    found: dict[Kernel, None] = {kernel: None}
    for flags in SEARCHES:
        result = kir.optimize(kernel, target="cpu", fast_math=flags, sizes=extents, check=False)
        found.update(dict.fromkeys(form for form, _ in result.candidates))
    return tuple(found)


def variants(kernel: Kernel, sizes: Mapping[str, int]) -> Iterator[Variant]:
    """Variants whose code differs, at most `MOST`: an even choice of all there are, in the order in which they are made."""
    extents = {n: sizes[n] for n in kernel.sizes}
    flags = frozenset(FLAGS.split(","))
    machines = (load_machine(target("cpu").machine), *map(load_machine, SHAPES))
    found: dict[str, Variant] = {}
    for form in forms(kernel, sizes):
        for machine in machines:
            for plan in plans(form, machine, extents, flags):
                code = sha256(cpu_source(plan).encode()).hexdigest()[:12]
                found.setdefault(code, Variant(kernel.name, dict(sizes), form, plan, code))
    every = list(found.values())
    step = max(1.0, len(every) / MOST)
    yield from (every[int(n * step)] for n in range(min(MOST, len(every))))


def compiled_call(variant: Variant, inputs: Mapping[str, Any]) -> Any:
    """A call of the compiled variant on the inputs."""
    from benchmarks.peers import on_arrays
    from benchmarks.reference import signature
    from kernel_ir.compiled import compiled

    function = compiled(variant.plan, target("cpu"))
    return on_arrays(function, signature(variant.plan.kernel))(dict(inputs)).call

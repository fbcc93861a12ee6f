"""One loop of a CPU launch while its work is counted: what its body binds and has computed, and the cycles of a core that it takes."""

from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import Final

from kernel_ir.nodes import Expr

Loops = tuple[tuple[str, int], ...]
"""Names and extents of loops, outermost first."""


class Port(Enum):
    """What works at the same time in a core, on different instructions of one loop."""

    PIPES = auto()  # additions, products, functions
    DIVIDER = auto()  # divisions and square roots
    MEMORY = auto()  # loads and stores


PORTS: Final = {"DIV": Port.DIVIDER, "SQRT": Port.DIVIDER, "load": Port.MEMORY, "store": Port.MEMORY}
OVERLAP: Final = 0.5
"""Share of what is not the bottleneck of a loop that runs in its shadow."""
NEAR: Final = 2.0
"""How sharply the longer of two bounds of a loop decides: the power of the mean that joins them."""


@dataclass(slots=True)
class Frame:
    """A loop's body: the names that it binds, how often it runs, whether in vectors, what is computed in it already, and its cycles in all,
    by port; `number`: which loop it is, in the order of the code; `chain`: cycles of the longest chain of operations of a turn; `window`:
    cycles of instructions that a core keeps in flight, where turns do not wait for each other."""

    names: set[str]
    times: float
    loops: Loops
    vector: bool
    seen: set[Expr] = field(default_factory=set[Expr])
    ports: dict[Port, float] = field(default_factory=dict[Port, float])
    number: int = 0
    chain: float = 0.0
    window: float = inf

    def add(self, unit: str, cycles: float) -> None:
        port = PORTS.get(unit, Port.PIPES)
        self.ports[port] = self.ports.get(port, 0.0) + cycles

    @property
    def core(self) -> float:
        """Cycles of one core: the slowest port, and of the others what does not run in its shadow; or the chain of a turn, with as many
        turns at a time as the core keeps in flight. Near each other, both count."""
        slowest, all_ = max(self.ports.values(), default=0.0), sum(self.ports.values())
        busy, waiting = slowest + (1.0 - OVERLAP) * (all_ - slowest), self.chain * all_ / self.window
        return (busy**NEAR + waiting**NEAR) ** (1.0 / NEAR)

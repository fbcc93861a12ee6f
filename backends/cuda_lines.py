"""What the parts of a kernel's printer share: the lines so far and their depth, the launch, its grid, and the texts of expressions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from backends.cuda_expr import Expressions
from extract.intervals import Ranges
from kernel_ir.errors import TargetError
from kernel_ir.plan import Launch, Loop, LoopKind, Node

WARP: Final = 32
_TOP: Final = (LoopKind.GRID, LoopKind.BLOCK, LoopKind.WARP)


@dataclass(frozen=True, slots=True)
class Grid:
    """How a launch covers its points: the parallel loops, outermost first, and who runs one point."""

    loops: tuple[Loop, ...]
    kind: LoopKind
    body: tuple[Node, ...]


def grid_of(launch: Launch) -> Grid:
    """The parallel loops at the top of a launch."""
    loops: list[Loop] = []
    body = launch.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind in _TOP and (not loops or body[0].kind is loops[0].kind):
        loops.append(body[0])
        body = body[0].body
    if not loops:
        raise TargetError(f"the launch {launch.name} has no parallel loop for the GPU")
    return Grid(tuple(loops), loops[0].kind, body)


class Lines(ABC):
    """The lines of one kernel function, as they are printed."""

    def __init__(self, launch: Launch, expressions: Expressions) -> None:
        self.launch = launch
        self.e = expressions
        self.grid = grid_of(launch)
        self.lines: list[str] = []
        self.shared: list[str] = []
        self.bits: set[str] = set()
        self.depth: int = 1
        self.looped: int = 0
        """How many loops that a thread runs alone, one inside another, are around what is printed."""

    @abstractmethod
    def nodes(self, nodes: Sequence[Node]) -> None:
        """Prints nodes in order."""

    def line(self, text: str) -> None:
        """One line at the present depth."""
        self.lines.append("    " * self.depth + text)

    def block(self, head: str, body: Sequence[Node]) -> None:
        """A head and, deeper, the nodes under it."""
        self.line(head)
        self.depth += 1
        self.nodes(body)
        self.depth -= 1

    def close(self, outer: Ranges) -> None:
        """Ends a loop's body; `outer`: the ranges around it."""
        self.depth -= 1
        self.e.ranges = outer

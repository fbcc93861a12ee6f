"""Answers what a CPU launch is: a library's product, or parallel loops around the rest; and from when on threads share it."""

from typing import Final

from extract.fuse import Nodes
from kernel_ir.plan import Alloc, Launch, Loop, LoopKind, Matmul

SERIAL_BELOW: Final = 8192
"""Loop iterations under which starting threads costs more than it saves (some 10 µs)."""


def product_of(launch: Launch) -> Matmul | None:
    """The library call that the launch is; None for our own loops."""
    (first, *more) = launch.body or (None,)
    return first if isinstance(first, Matmul) and not more else None


def peeled(body: Nodes) -> tuple[list[Loop], Nodes]:
    """The parallel loops around everything, which threads share as one, and what is inside them."""
    loops: list[Loop] = []
    rest = tuple(n for n in body if not isinstance(n, Alloc))
    while len(rest) == 1 and isinstance(rest[0], Loop) and rest[0].kind is LoopKind.PARALLEL:
        loops.append(rest[0])
        rest = rest[0].body
    return loops, rest

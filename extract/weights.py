"""Turns a saturated e-graph into costs: own cycles of each e-node, and the classes it needs.

A value lives at the outermost loop that binds its free indices: a node costs its cycles × the extents of the free indices of its
class, and is paid once however many loops around read it. A reduction pays its own index besides.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from extract.sizes import DEFAULT
from kernel_ir.dtypes import DType
from kernel_ir.ops import OPS, REDUCTIONS, Unit
from rewrites.adapter import Frozen
from rewrites.declare import DTYPES_BY_CODE, OP_OF_CONSTRUCTOR
from rewrites.temporaries import unversioned
from rewrites.terms import Term, Variable, is_loop

LEAVES: Final = ("Lit", "Size", "Par", "Ix", "Loc")
SMALLEST: Final = 0.01
"""A node that is not a leaf costs at least this, in cycles: two forms never tie because one more step is free."""

NodeCost = Callable[[str, DType], float]
"""Reciprocal throughput, in cycles, of an op of the op table, or of "load" for a stored dtype."""


class OpCosts(Protocol):
    """What a machine tells of itself."""

    def op_cycles(self, op: str, dtype: DType) -> float:
        """Reciprocal throughput, in cycles, of one op of the op table, or of "load"."""
        ...


_UNIT_CYCLES: Final = {
    Unit.ADD: 0.5,
    Unit.MUL: 0.5,
    Unit.FMA: 0.5,
    Unit.DIV: 4.0,
    Unit.SQRT: 4.5,
    Unit.EXP: 8.0,
    Unit.TRIG: 20.0,
    Unit.LOGIC: 0.35,
    Unit.SHIFT: 0.5,
    Unit.IDIV: 20.0,
    Unit.CONVERT: 1.0,
}


def default_cycles(name: str, dtype: DType) -> float:
    """Rough cycles for no machine in particular: today's x86 cores, scalar."""
    if name == "load":
        return 0.125 * dtype.itemsize
    return _UNIT_CYCLES[OPS[name].unit] * (2.0 if dtype.name == "f64" else 1.0)


@dataclass(frozen=True, slots=True)
class Weighting:
    """What a proposal values: arithmetic, loads, and passes (each turn of a reduction's loop), relative to the machine's cycles."""

    name: str
    arithmetic: float
    load: float
    turn: float


WEIGHTINGS: Final = (
    Weighting("balanced", 1.0, 1.0, 0.25),
    Weighting("arithmetic", 1.0, 0.05, 0.01),
    Weighting("memory", 0.2, 4.0, 4.0),
)


def extents(terms: tuple[Term, ...], variables: Mapping[str, Variable], sizes: Mapping[str, int]) -> dict[str, float]:
    """The mean length of each variable's range: sizes not given are 1024, a bound that reads an outer index takes it at its middle."""
    middle: dict[str, float] = {}
    lengths: dict[str, float] = {}

    def value(number: int) -> float:
        term = terms[number]
        match term.name:
            case "Lit":
                return float(term.args[1])
            case "Size":
                return float(sizes.get(str(term.args[0]), DEFAULT))
            case "Ix":
                return middle.get(str(term.args[0]), 0.0)
            case _:
                pass
        below = [value(c) for c in term.children]
        match term.name:
            case "i_add":
                return below[0] + below[1]
            case "i_sub":
                return below[0] - below[1]
            case "i_mul":
                return below[0] * below[1]
            case "i_floordiv":
                return below[0] // below[1] if below[1] else 0.0
            case "i_min":
                return min(below)
            case "i_max":
                return max(below)
            case _:
                return float(DEFAULT)

    for name, variable in variables.items():
        lo, hi = value(variable.lo), value(variable.hi)
        middle[name] = (lo + hi - 1) / 2
        lengths[name] = max(1.0, hi - lo)
    return lengths


@dataclass(frozen=True)
class Edges:
    """What e-nodes need: node i lies in class `classes[i]`, and an edge leads from `parent[e]`, in order, to the class `child[e]`."""

    classes: np.ndarray
    parent: np.ndarray
    child: np.ndarray
    roots: tuple[int, ...]
    count: int
    """Of classes."""

    @cached_property
    def below(self) -> list[list[int]]:
        """The classes that each node needs."""
        starts = np.searchsorted(self.parent, np.arange(len(self.classes) + 1)).tolist()
        child = self.child.tolist()
        return [child[a:b] for a, b in itertools.pairwise(starts)]


@dataclass(frozen=True, slots=True)
class CostGraph:
    """E-nodes with their costs: `own[i]` the cycles of node i.

    Nodes beyond those of the frozen graph, and their classes, are the shared exponentials of `expsum`s over equal scores.
    """

    own: np.ndarray
    edges: Edges

    @property
    def size(self) -> int:
        return len(self.own)


def cost_graph(
    frozen: Frozen,
    variables: Mapping[str, Variable],
    lengths: Mapping[str, float],
    stored: Mapping[str, DType],
    node_cost: NodeCost,
    weighting: Weighting,
    roots: tuple[int, ...],
) -> CostGraph:
    """The costs of a frozen graph; `stored` gives the dtype in which each array lies in memory, `roots` the classes that are needed."""
    return Weighed(frozen, variables, lengths, stored, roots).graph(node_cost, weighting)


Kind = tuple[str, int, str]
"""What a node's cycles depend on, besides how often it runs: its constructor, its dtype code, the array that it loads."""


class Weighed:
    """A frozen graph, ready to be weighed one way or another: for each node its kind, and how often it runs."""

    def __init__(
        self,
        frozen: Frozen,
        variables: Mapping[str, Variable],
        lengths: Mapping[str, float],
        stored: Mapping[str, DType],
        roots: tuple[int, ...],
    ) -> None:
        loops = _Loops(variables, lengths)
        around = [loops.extent(mask) for mask in frozen.free]
        kinds: dict[Kind, int] = {}
        kind: list[int] = []
        times: list[float] = []
        classes = list(frozen.classes)
        parent: list[int] = []
        child: list[int] = []
        shared: dict[tuple[str, int], int] = {}
        total = len(frozen.free)
        for i, (node, home) in enumerate(zip(frozen.nodes, frozen.classes, strict=True)):
            name, args = node
            needs = node.children
            turns = around[home]
            if name in LEAVES:
                key = _LEAF
            elif name.startswith("Load"):
                key = "Load", node.code, str(args[1])
            else:
                key = name, node.code, ""
                if node.is_loop:
                    turns *= loops.lengths[node.variables[0]]
            kind.append(kinds.setdefault(key, len(kinds)))
            times.append(turns)
            if name == "R_expsum":
                lo, hi, score, value = needs
                exponential = shared.setdefault((node.variables[0], score), total + len(shared))
                needs = (lo, hi, exponential, value)
            parent.extend([i] * len(needs))
            child.extend(needs)
        for (variable, score), home in shared.items():
            kind.append(kinds.setdefault(_EXPONENTIAL, len(kinds)))
            times.append(loops.extent(frozen.free[score] | 1 << variables[variable].bit))
            parent.append(len(classes))
            child.append(score)
            classes.append(home)
        self._stored = stored
        self._kinds = tuple(kinds)
        self._kind, self._times = np.array(kind, np.int64), np.array(times)
        arrays = (np.array(classes, np.int64), np.array(parent, np.int64), np.array(child, np.int64))
        self._edges = Edges(*arrays, roots, total + len(shared))

    def graph(self, node_cost: NodeCost, weighting: Weighting) -> CostGraph:
        """The costs by one weighing."""
        cycles = _cycles(node_cost, weighting, self._stored)
        each = np.array([_own(kind, cycles, weighting) for kind in self._kinds])
        return CostGraph(each[self._kind] * self._times, self._edges)


_LEAF: Final[Kind] = ("", 0, "")
_EXPONENTIAL: Final[Kind] = ("exponential", 0, "")
_FLOAT: Final = 3


class _Loops:
    """Extents of sets of variables, given as masks; carries count as their fold's index."""

    def __init__(self, variables: Mapping[str, Variable], lengths: Mapping[str, float]) -> None:
        self.lengths = lengths
        self._bits = [(1 << v.bit, 1 << variables[v.loop].bit if v.loop else 1 << v.bit) for v in variables.values()]
        self._length = {1 << v.bit: lengths[v.name] for v in variables.values()}
        self._extents: dict[int, float] = {}

    def extent(self, mask: int) -> float:
        """The product of the extents of the variables in `mask`."""
        known = self._extents.get(mask)
        if known is None:
            loops = {loop for bit, loop in self._bits if mask & bit}
            known = 1.0
            for loop in sorted(loops):
                known *= self._length[loop]
            self._extents[mask] = known
        return known


def _cycles(node_cost: NodeCost, weighting: Weighting, stored: Mapping[str, DType]) -> Callable[[str, int], float]:
    """Weighted cycles of one constructor, looked up once."""
    known: dict[tuple[str, int], float] = {}

    def cycles(name: str, code: int) -> float:
        key = (name, code)
        if key not in known:
            if name.startswith("load:"):
                known[key] = node_cost("load", stored.get(name[5:], DTYPES_BY_CODE[code])) * weighting.load
            else:
                known[key] = node_cost(OP_OF_CONSTRUCTOR[name].name, DTYPES_BY_CODE[code]) * weighting.arithmetic
        return known[key]

    return cycles


def _own(kind: Kind, cycles: Callable[[str, int], float], weighting: Weighting) -> float:
    """The cycles of one run of a node of this kind; of a loop, of one turn."""
    name, code, array = kind
    if kind == _LEAF:
        return 0.0
    if kind == _EXPONENTIAL:
        return max(SMALLEST, sum(cycles(op, _FLOAT) for op in ("f_exp", "f_sub", "f_max")))
    if name == "Load":
        return max(SMALLEST, cycles(f"load:{unversioned(array)}", code))
    if is_loop(name):
        return max(SMALLEST, sum(cycles(op, code) for op in _combines(name, code)) + weighting.turn)
    return max(SMALLEST, cycles(name, code))


def _combines(name: str, code: int) -> Iterator[str]:
    """The constructors of what a loop does each turn besides its body."""
    letter = "f" if code >= _FLOAT else "i" if code else "b"
    match name:
        case "R_expsum":
            yield from ("f_mul", "f_add")
        case "R_argmax" | "R_argmin":
            yield f"{letter}_lt"
        case _ if name.startswith("R_"):
            yield f"{letter}_{REDUCTIONS[name[2:]].combine}"
        case _:
            yield "i_add"

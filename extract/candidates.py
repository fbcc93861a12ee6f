"""Turns a kernel into the candidates that an e-graph proposes: kernels equal to it under the rules, the kernel itself first.

Each way of weighing (arithmetic, loads, passes) and of sharing (tree, DAG) proposes one; equal texts count once. What they really cost
is for the schedules to say.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from extract.exact import exact
from extract.extractor import Choice, choices
from extract.weights import WEIGHTINGS, CostGraph, NodeCost, OpCosts, Weighed, default_cycles, extents
from kernel_ir.dtypes import DType
from kernel_ir.errors import KernelError
from kernel_ir.fastmath import Flags
from kernel_ir.nodes import Kernel
from rewrites.adapter import Frozen
from rewrites.decode import NotDecodable, decode
from rewrites.encode import Encoding, NotEncodable, encode
from rewrites.gather import gathered, passed
from rewrites.rule import Rule
from rewrites.saturate import Budget, Saturation, Stop, saturate, select, selects
from rewrites.sharing import free_variables, ranges
from rewrites.terms import Term

INPUT: Final = "input"


@dataclass(frozen=True, slots=True)
class Form:
    """What a candidate was decoded from: the term chosen for each class (its parts are classes), and the class of each root."""

    terms: Mapping[int, Term]
    roots: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kernel, the e-graph's cost for it (cycles with each value at its outermost loop), the rules that made it, who proposed it."""

    kernel: Kernel
    cost: float
    rules: tuple[str, ...]
    origin: str
    form: Form | None = field(default=None, repr=False, compare=False)
    """None for the input."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates, the input first; the saturation (None where the kernel is beyond the e-graph's limits); notes on what is missing.

    `selection` is the saturation of instruction selection, where there was any.
    """

    candidates: tuple[Candidate, ...]
    saturation: Saturation | None = field(repr=False)
    notes: tuple[str, ...] = ()
    encoding: Encoding | None = field(default=None, repr=False, compare=False)
    selection: Saturation | None = field(default=None, repr=False, compare=False)
    allowed: tuple[Rule, ...] = field(default=(), repr=False, compare=False)
    """The rules that could run."""


def candidates(
    kernel: Kernel,
    flags: Flags,
    sizes: Mapping[str, int],
    machine: OpCosts | None,
    rules: Sequence[Rule],
    budget: Budget | None = None,
    seed: int = 0,
    exact_seconds: float = 0.0,
) -> Candidates:
    """What the rules that `flags` license propose for a kernel, in a fixed order.

    `sizes` are extents to weigh with, 1024 where not given; `machine` gives cycles of ops (None: rough ones of our own). `seed` turns the
    order in which rules run, which matters where the budget ends the search. With `exact_seconds`, each weighing also proposes its optimum,
    found by branch and bound in at most that time (a note says where it ran out); it needs SciPy.
    """
    allowed = tuple(rule for rule in rules if rule.needs <= flags)
    turn = seed % len(allowed) if allowed else 0
    try:
        encoding = encode(kernel)
    except NotEncodable as reason:
        return Candidates((Candidate(kernel, 0.0, (), INPUT),), None, (f"not rewritten: {reason}",))
    allowed = (*allowed[turn:], *allowed[:turn])
    saturation = saturate(encoding, allowed, budget)
    search = _Search(encoding, saturation.rules, default_cycles if machine is None else machine.op_cycles, sizes, exact_seconds)
    first = Candidate(kernel, search.input_cost(), (), INPUT)
    if saturation.frozen is None:
        return Candidates((first,), saturation, (f"not rewritten: {saturation.message}",))
    found = {kernel: first}
    selection = _selection(search, saturation.frozen, allowed, budget)
    for candidate in search.proposals(saturation.frozen if selection is None or selection.frozen is None else selection.frozen):
        found.setdefault(candidate.kernel, candidate)
    notes = tuple(dict.fromkeys((*_story(saturation), *search.notes)))
    return Candidates(tuple(found.values()), saturation, notes, encoding, selection, allowed)


def costed(
    kernel: Kernel, flags: Flags, sizes: Mapping[str, int], machine: OpCosts | None, rules: Sequence[Rule], budget: Budget | None = None
) -> tuple[CostGraph, tuple[int, ...]] | None:
    """The balanced costs of a kernel's saturated e-graph and the sources of its nodes; None where the kernel is beyond the e-graph.

    Raises NotEncodable where no e-graph can hold the kernel at all.
    """
    encoding = encode(kernel)
    saturation = saturate(encoding, tuple(rule for rule in rules if rule.needs <= flags), budget)
    if saturation.frozen is None:
        return None
    search = _Search(encoding, saturation.rules, default_cycles if machine is None else machine.op_cycles, sizes)
    return search.graph(saturation.frozen, 0), saturation.frozen.sources


def _selection(search: "_Search", frozen: Frozen, rules: Sequence[Rule], budget: Budget | None) -> Saturation | None:
    """Instruction selection on what every weighing would choose; None if there is none to do."""
    if not selects(rules):
        return None
    chosen = [{home: i for home, i in c.nodes.items() if i < len(frozen.nodes)} for _, c in search.choices(frozen)]
    selection = select(gathered(search.encoding, frozen, chosen), rules, budget)
    search.gathered = selection.frozen is not None
    return selection


def _story(saturation: Saturation) -> Iterator[str]:
    if saturation.stop not in (Stop.SATURATED, Stop.ITERATIONS):
        grew = ", ".join(saturation.growing)
        yield f"saturation stopped at its limit of {saturation.stop.value}; the rules that grew the e-graph most: {grew}"


class _Search:
    """The proposals of one saturated graph."""

    def __init__(
        self, encoding: Encoding, rules: tuple[str, ...], node_cost: NodeCost, sizes: Mapping[str, int], exact_seconds: float = 0.0
    ) -> None:
        self.encoding = encoding
        self.exact_seconds = exact_seconds
        self.rules = rules
        self.node_cost = node_cost
        self.lengths = extents(encoding.terms, encoding.variables, sizes)
        self.stored: dict[str, DType] = {name: a.dtype for name, a in encoding.kernel.arrays.items()}
        self.notes: list[str] = []
        self.gathered = False
        self._weighed: tuple[Frozen, Weighed] | None = None

    def graph(self, frozen: Frozen, weighting: int) -> CostGraph:
        """The costs of a saturated graph, by the weighing of this number."""
        if self._weighed is None or self._weighed[0] is not frozen:
            roots = tuple(dict.fromkeys(frozen.roots[i] for i in self.encoding.values()))
            self._weighed = frozen, Weighed(frozen, self.encoding.variables, self.lengths, self.stored, roots)
        return self._weighed[1].graph(self.node_cost, WEIGHTINGS[weighting])

    def input_cost(self) -> float:
        """The cost of the kernel as it stands: of a graph that holds nothing but its own terms."""
        terms, variables = self.encoding.terms, self.encoding.variables
        free = free_variables(terms, ranges(terms, variables))
        masks = tuple(sum(1 << variables[x].bit for x in names) for names in free)
        own = Frozen(terms, tuple(range(len(terms))), masks, dict(enumerate(self.encoding.roots)), (0,) * len(terms))
        graph = self.graph(own, 0)
        return sum(c.cost for c in choices(graph, own.sources)[:1])

    def choices(self, frozen: Frozen) -> Iterator[tuple[str, Choice]]:
        """Each different choice with the name of its proposer, most balanced weighing first."""
        seen: set[tuple[tuple[int, int], ...]] = set()
        for position, weighting in enumerate(WEIGHTINGS):
            for way, choice in self._ways(self.graph(frozen, position), frozen.sources):
                key = tuple(sorted(choice.nodes.items()))
                if key not in seen:
                    seen.add(key)
                    yield f"{weighting.name} {way}", choice

    def _ways(self, graph: CostGraph, sources: tuple[int, ...]) -> Iterator[tuple[str, Choice]]:
        yield from zip(("tree", "dag"), choices(graph, sources), strict=False)
        found = exact(graph, sources, self.exact_seconds) if self.exact_seconds > 0 else None
        if found is not None:
            if found.ending == "time":
                self.notes.append(f"exact extraction ran out of its {self.exact_seconds:g} s, at most {found.gap:.0%} above the optimum")
            yield "exact", found.choice

    def proposals(self, frozen: Frozen) -> Iterator[Candidate]:
        """The candidates of all choices that are kernels."""
        own = self.graph(frozen, 0).own
        for name, choice in self.choices(frozen):
            form = Form({home: frozen.nodes[node] for home, node in choice.nodes.items() if node < len(frozen.nodes)}, frozen.roots)
            kernel = self._kernel(form)
            if kernel is not None:
                cost = float(sum(own[node] for node in choice.nodes.values()))
                yield Candidate(kernel, cost, self._rules(frozen, choice), name, form)

    def _kernel(self, form: Form) -> Kernel | None:
        """The kernel of a choice; loops stay under their conditions where the checker cannot prove them outside."""
        reason = ""
        for hoist in (True, False):
            try:
                return decode(self.encoding, form.terms, form.roots, hoist)
            except NotDecodable as error:
                reason = str(error)
            except KernelError as error:
                reason = error.message
        self.notes.append(f"a candidate was dropped: {reason}")
        return None

    def _rules(self, frozen: Frozen, choice: Choice) -> tuple[str, ...]:
        """Names of the rules that made what was chosen, or that found it equal to what the input said there."""
        used: set[int] = set()
        # A graph of gathered choices holds no more what they passed over, and knows `via` of nothing else.
        left = frozenset(frozen.via) if self.gathered else passed(frozen, choice.nodes)
        for home, node in choice.nodes.items():
            if node < len(frozen.nodes) and frozen.sources[node]:
                used.add(frozen.sources[node])
            elif home in left and home in frozen.via:
                used.add(frozen.via[home])
        return tuple(sorted({self.rules[number - 1] for number in used}))

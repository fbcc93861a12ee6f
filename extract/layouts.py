"""Turns a kernel into the ways its `@ any` arrays and temporaries may lie that are worth a plan each: the cheapest by the cycle model.

Every order of dimensions (of three at most), tiles of one vector or cache line, rows with room behind them, judged by the plan that each
makes and by what it costs to bring the caller's arrays there; one array after the other, from C order and from one plane a field.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Final

from extract.cost import cost
from extract.groups import grouping
from extract.machine import Machine
from extract.schedule_cpu import Choice, local_arrays, plan
from extract.sizes import number
from kernel_ir.layout import ArrayLayout, Layout, Layouts, Part, laid_anyhow, rows_of
from kernel_ir.nodes import Kernel, Param
from kernel_ir.plan import Plan

Sizes = Mapping[str, int]
KEPT: Final = 3
"""Combinations of layouts that get every schedule; the search judges them by one."""
SWEEPS: Final = 2
"""Times that each array gets its turn, while something changes."""
WORTH: Final = 0.98
"""What another layout must cost of the simpler one's cycles: less is within the model's own doubt."""
WAYS_BYTES: Final = 4096
"""Rows this far apart (or a multiple) fall into one set of a first-level cache."""
FIRST: Final = Choice("most", library=False, pack=False)


def layouts_of(p: Param, machine: Machine, sizes: Sizes, temporary: bool = False) -> tuple[Layout, ...]:
    """The layouts worth a trial for an array, the simplest first."""
    rank = p.type.rank
    rows = tuple(range(rank))
    if rank < 2:
        return (Layout.ordered(rows),)
    orders = list(permutations(rows)) if rank <= 3 else _few_orders(rows)
    found = [Layout.ordered(order) for order in orders]
    if temporary:
        return tuple(found)
    line = machine.line_bytes // p.type.dtype.itemsize
    *rest, before, last = map(Part, rows)
    for dim in (before.dim, last.dim):
        if number(p.type.shape[dim], sizes) >= line:
            other = last if dim == before.dim else before
            found.append(Layout((*rest, Part(dim, line), other, Part(dim, line, inside=True))))
    for order in orders[:2] if rank == 2 else orders[:1]:
        if number(p.type.shape[order[-1]], sizes) * p.type.dtype.itemsize % WAYS_BYTES == 0:
            found.append(Layout(tuple(map(Part, order)), line))
    return tuple(dict.fromkeys(found))


def _few_orders(rows: tuple[int, ...]) -> list[tuple[int, ...]]:
    """C order, each other dimension fastest, the last one slowest, and columns."""
    nearest = [(*(x for x in rows if x != d), d) for d in reversed(rows)]
    return list(dict.fromkeys([*nearest, (rows[-1], *rows[:-1]), rows[::-1]]))


def searched(
    kernel: Kernel,
    machine: Machine,
    sizes: Sizes,
    packed: frozenset[str] = frozenset(),
    pinned: Mapping[str, Layout] | None = None,
    temporaries: bool = False,
) -> tuple[Layouts, ...]:
    """The combinations of layouts to make plans for, the most promising first; C order everywhere is always among them.

    `packed`: arrays that the caller packs; `pinned`: what is settled already; `temporaries`: whether those have a say too.
    """
    settled = pinned or {}
    base = _with(rows_of(kernel), settled)
    arrays = {p.name: layouts_of(p, machine, sizes) for p in laid_anyhow(kernel)}
    if temporaries:
        arrays |= {p.name: layouts_of(p, machine, sizes, temporary=True) for p in _stored(kernel) if p.type.rank > 1}
    arrays = {name: options for name, options in arrays.items() if len(options) > 1 and name not in settled}
    if not arrays:
        return (base,)
    judge = _Judge(machine, sizes, packed, lambda laid: plan(kernel, replace(FIRST, layouts=laid), machine=machine, sizes=sizes))
    planes = {p.name: Layout.ordered((p.type.rank - 1, *range(p.type.rank - 1))) for p in laid_anyhow(kernel) if p.name in arrays}
    return judge.best(base, (base, _with(base, planes)), arrays)


def searched_cuda(
    kernel: Kernel, target: str, machine: Machine, sizes: Sizes, packed: frozenset[str], pinned: Mapping[str, Layout]
) -> tuple[Layouts, ...]:
    """The combinations of orders to make plans for on a GPU. Only arrays that the caller packs have a say: to turn one on the host takes
    longer than any kernel gains. Of pinned layouts, those with tiles or padding are for the CPU, and no plan has them."""
    settled = {name: layout for name, layout in pinned.items() if layout.plain}
    base = _with(rows_of(kernel), {p.name: settled[p.name] for p in laid_anyhow(kernel) if p.name in settled})
    arrays = {p.name: layouts_of(p, machine, sizes, temporary=True) for p in laid_anyhow(kernel) if p.name in packed - settled.keys()}
    from extract.schedule_cuda import cuda_plan

    judge = _Judge(machine, sizes, packed, lambda laid: cuda_plan(kernel, target, sizes, laid))
    return judge.best(base, (base,), arrays)


def _stored(kernel: Kernel) -> tuple[Param, ...]:
    """The temporaries that are whole arrays in memory."""
    grouped = grouping(kernel, FIRST.fusion)
    held = {p.name for p in grouped.temps} - local_arrays(grouped.work)
    return tuple(p for p in kernel.temps if p.name in held)


class _Judge:
    """Predicted cycles by combination of layouts."""

    def __init__(self, machine: Machine, sizes: Sizes, packed: frozenset[str], make: Callable[[Layouts], Plan | None]) -> None:
        self.machine, self.sizes, self.packed, self.make = machine, sizes, packed, make
        self.known: dict[Layouts, float] = {}

    def best(self, base: Layouts, starts: Sequence[Layouts], arrays: Mapping[str, Sequence[Layout]]) -> tuple[Layouts, ...]:
        """The best combinations found from these starts, the base last."""
        self.cycles(base)
        for start in starts:
            self.descend(start, arrays)
        least = self.known[base] * WORTH
        ranked = sorted(self.known.items(), key=lambda pair: pair[1])
        return tuple(dict.fromkeys((*[laid for laid, cycles in ranked if cycles < least][:KEPT], base)))

    def cycles(self, laid: Layouts) -> float:
        if laid not in self.known:
            made = self.make(laid)
            self.known[laid] = float("inf") if made is None else cost(given(made, self.packed), self.machine, self.sizes).cycles
        return self.known[laid]

    def descend(self, start: Layouts, arrays: Mapping[str, Sequence[Layout]]) -> None:
        """Gives each array in turn the layout that is best while the others stay."""
        best = start
        self.cycles(best)
        for _ in range(SWEEPS):
            before = best
            for name, options in arrays.items():
                for layout in options:
                    tried = _with(best, {name: layout})
                    if self.cycles(tried) < self.cycles(best) * WORTH:
                        best = tried
            if best == before:
                return


def given(made: Plan, packed: frozenset[str]) -> Plan:
    """The plan for a caller who packs these arrays."""
    return replace(made, packed=packed) if packed else made


def _with(laid: Layouts, changed: Mapping[str, Layout]) -> Layouts:
    kept = {**{one.name: one.layout for one in laid}, **changed}
    return tuple(ArrayLayout(name, layout) for name, layout in kept.items())


def every(kernel: Kernel, machine: Machine, sizes: Sizes) -> Iterable[Layouts]:
    """Every combination that the search can reach, each once: what an exhaustive measurement goes through."""
    found: list[dict[str, Layout]] = [{}]
    for p in laid_anyhow(kernel):
        found = [{**one, p.name: layout} for one in found for layout in layouts_of(p, machine, sizes)]
    base = rows_of(kernel)
    return [_with(base, one) for one in found]

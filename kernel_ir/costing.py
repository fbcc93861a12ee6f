"""Turns a kernel into its plans and what each costs: for one target, sizes, licence, schedule, and one caller, who packs arrays or not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from backends.plans import layouts, plans
from backends.target import Target
from extract.cost import cost
from extract.cycles import Cost
from extract.machine import Machine
from kernel_ir.errors import NameError_, UsageError
from kernel_ir.fastmath import Flags
from kernel_ir.layout import Layout, Layouts, laid_anyhow
from kernel_ir.nodes import Kernel
from kernel_ir.plan import Plan
from kernel_ir.schedule import LAYOUT, Schedule, pinned


@dataclass(frozen=True, slots=True)
class Costing:
    """What a plan costs, for one target, sizes and licence."""

    place: Target
    machine: Machine
    extents: dict[str, int]
    licence: Flags
    schedule: Schedule | None = None
    packed: frozenset[str] = frozenset()
    known: dict[Kernel, list[tuple[Plan, Cost]]] = field(default_factory=dict[Kernel, "list[tuple[Plan, Cost]]"], compare=False)
    laid: list[Layouts] = field(default_factory=list[Layouts], compare=False)
    """Layouts worth plans, as the input kernel's search found: the other forms of the kernel are tried with these."""

    def input(self, kernel: Kernel) -> tuple[Plan, Cost]:
        """The cheapest plan of a kernel that the user gave. Raises NameError_ where none agrees with the schedule."""
        self.laid[:] = self._searched(kernel, temporaries=True)
        best = self.best(kernel)
        if best is None:
            assert self.schedule is not None, "a kernel has a plan"
            found = self._plans(kernel, self.laid)
            settled = next((c for c in self.schedule.choices if c.key.startswith(LAYOUT)), None)
            if not found and settled is not None:
                hint = "tiles do not go with every schedule: write an order of the dimensions, such as d1, d0, for one of the arrays"
                raise NameError_(f"no plan for `{kernel.name}` on {self.place.name} has these layouts", settled.span, hint)
            pinned(found, self.schedule)
            raise AssertionError("a schedule that no plan agrees with has a choice to blame")
        return best

    def best(self, kernel: Kernel) -> tuple[Plan, Cost] | None:
        """The cheapest plan of a kernel, of equal ones the first; None where none agrees with the schedule."""
        return min(self.all(kernel), key=lambda pair: pair[1].cycles, default=None)

    def all(self, kernel: Kernel) -> list[tuple[Plan, Cost]]:
        """Every plan of a kernel with its cost."""
        if kernel not in self.known:  # each round begins with the last one's result
            self.known[kernel] = self._costed(kernel, self.laid)
        return self.known[kernel]

    def settle(self, kernel: Kernel) -> None:
        """Searches layouts for the form that was chosen, its temporaries included; what is new is among its plans from then on."""
        new = [one for one in self._searched(kernel, temporaries=True) if one not in self.laid]
        if new:
            self.known[kernel] = [*self.all(kernel), *self._costed(kernel, new)]

    def _searched(self, kernel: Kernel, temporaries: bool) -> tuple[Layouts, ...]:
        return layouts(kernel, self.place, self.machine, self.extents, self.packed, pinned_layouts(kernel, self.schedule), temporaries)

    def _costed(self, kernel: Kernel, laid: Iterable[Layouts]) -> list[tuple[Plan, Cost]]:
        found = self._plans(kernel, laid)
        if self.schedule is not None:
            found = [plan for plan in found if self.schedule.agrees(plan)]
        return [(plan, cost(plan, self.machine, self.extents)) for plan in found]

    def _plans(self, kernel: Kernel, laid: Iterable[Layouts]) -> list[Plan]:
        named = {} if self.schedule is None else {c.key: c.values for c in self.schedule.choices}
        found = plans(kernel, self.place, self.machine, self.extents, self.licence, tuple(laid), self.schedule is not None, named)
        return [replace(plan, packed=self.packed) for plan in found] if self.packed else list(found)


def packed_names(kernel: Kernel, packed: Iterable[str] | bool) -> frozenset[str]:
    """The arrays that the caller packs; `True` for all whose layout is the compiler's to choose. Raises UsageError for others."""
    able = [p.name for p in laid_anyhow(kernel)]
    names = frozenset(able if packed is True else packed or () if not isinstance(packed, str) else (packed,))
    for name in sorted(names):
        if name not in able:
            hint = f"those that may be packed are {', '.join(able)}" if able else "write `@ any` after the array's type"
            raise UsageError(
                f"packed names {name!r}, and `{kernel.name}` has no such array with a layout of the compiler's choice", hint=hint
            )
    return names


def pinned_layouts(kernel: Kernel, schedule: Schedule | None) -> Mapping[str, Layout]:
    """The layouts that a schedule gives to arrays of the kernel. Raises NameError_ for what is none, or none for that array."""
    found: dict[str, Layout] = {}
    able = {p.name: p for p in (*laid_anyhow(kernel), *kernel.temps)}
    for choice in () if schedule is None else schedule.choices:
        name = choice.key.removeprefix(LAYOUT)
        if not choice.key.startswith(LAYOUT) or name not in able:
            continue
        try:
            layout = Layout.of(*choice.values)
        except UsageError as problem:
            raise NameError_(problem.message, choice.span, problem.hint) from None
        if layout.rank != able[name].type.rank:
            what = f"`{choice}` is a layout of {layout.rank} dimensions, and `{name}` has {able[name].type.rank}"
            raise NameError_(what, choice.span, f"C order is {', '.join(f'd{d}' for d in range(able[name].type.rank))}")
        found[name] = layout
    return found

"""Turns the choices that made a plan into a `schedule` block, and a block that was parsed into a filter of plans.

A block pins what it says and leaves open what it does not; of the plans that agree with it, the cheapest runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

from kernel_ir.errors import NameError_, Span
from kernel_ir.plan import Plan
from kernel_ir.render import schedule_lines
from kernel_ir.surface import NOWHERE
from kernel_ir.syntax import File, ScheduleSyntax

LAYOUT: Final = "layout_"
"""Begins the key of the choice that says how an array lies: `layout_x = d1, d0`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a schedule: `key = value, …`."""

    key: str
    values: tuple[str, ...]
    span: Span = field(compare=False, repr=False, default=NOWHERE)

    def __str__(self) -> str:
        return f"{self.key} = {', '.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a file, or an optimizer, says of how a kernel runs on a target."""

    kernel: str
    target: str
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        return schedule_lines(self.kernel, self.target, [(c.key, c.values) for c in self.choices])

    def agrees(self, plan: Plan) -> bool:
        """Whether the plan was made by these choices."""
        made = {c.key: c.values for c in schedule_of(plan).choices}
        return all(made.get(c.key) == c.values for c in self.choices)


def schedule_of(plan: Plan) -> Schedule:
    """The choices that made a plan.

    >>> import kernel_ir as kir
    >>> k = kir.parse("kernel twice(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }")["twice"]
    >>> schedule_of(kir.optimize(k, target="cpu").plan).target
    'cpu'
    """
    choices = tuple(Choice(key.replace(" ", "_"), tuple(value.replace(" ", "_").split(","))) for key, value in plan.schedule)
    return Schedule(plan.kernel.name, plan.target, choices)


def pinned(plans: Iterable[Plan], schedule: Schedule) -> list[Plan]:
    """The plans that agree with a schedule.

    Raises NameError_ at the first choice that no plan has, or that no plan has together with those before it.
    """
    left = list(plans)
    for choice in schedule.choices:
        offered = list(dict.fromkeys(c.values for plan in left for c in schedule_of(plan).choices if c.key == choice.key))
        if not offered:
            keys = list(dict.fromkeys(c.key for plan in left for c in schedule_of(plan).choices))
            near = get_close_matches(choice.key, keys, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"the choices are {', '.join(keys) or 'none'}"
            raise NameError_(f"no plan for `{schedule.kernel}` on {schedule.target} has a choice `{choice.key}`", choice.span, hint)
        if choice.values not in offered:
            values = " | ".join(", ".join(v) for v in offered)
            raise NameError_(f"`{choice}` is no plan for `{schedule.kernel}` on {schedule.target}", choice.span, f"here it can be {values}")
        one = Schedule(schedule.kernel, schedule.target, (choice,))
        left = [plan for plan in left if one.agrees(plan)]
    return left


def schedules(file: File, kernels: Iterable[str]) -> tuple[Schedule, ...]:
    """The schedules of a file, in order. Raises NameError_ for one of no kernel, and for what is said twice."""
    known, seen = list(kernels), set[tuple[str, str]]()
    found: list[Schedule] = []
    for item in (i for i in file.items if isinstance(i, ScheduleSyntax)):
        name = item.kernel.name
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise NameError_(
                f"a schedule of `{name}`, which is no kernel of this file",
                item.kernel.span,
                f"did you mean `{near[0]}`?" if near else f"its kernels are {', '.join(known) or 'none'}",
            )
        if (name, item.target.name) in seen:
            raise NameError_(f"`{name}` has a schedule on {item.target.name} already", item.kernel.span, "keep one of them")
        seen.add((name, item.target.name))
        found.append(Schedule(name, item.target.name, _choices(item)))
    return tuple(found)


def _choices(item: ScheduleSyntax) -> tuple[Choice, ...]:
    known = set[str]()
    for choice in item.choices:
        if choice.key.name in known:
            raise NameError_(f"`{choice.key.name}` is chosen twice", choice.key.span, "keep one of them")
        known.add(choice.key.name)
    return tuple(Choice(c.key.name, c.values, c.span) for c in item.choices)

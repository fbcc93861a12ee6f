"""Turns a plan into one that has, beside each launch for any sizes, one for the sizes given, which runs where a call has just these.

    y[b, k, i, j] = sum(c, r, s: …)    with R = 3, S = 3: `if R == 3 and S == 3:` loops of three turns, which the compiler writes out

Only sizes that are the few turns of a sum are worth that: a loop that starts anew for each three turns takes longer to start than to run.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from extract.launches import product_of
from extract.sizes import number
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Expr, Kernel, Reduce, Repeat, SizeRef, Stmt, const
from kernel_ir.plan import Guard, Launch, Plan, RepeatLaunch, Step
from kernel_ir.walk import map_children, statements, subtrees

KEY: Final = "written for"
FEW: Final = 8
"""Turns, at most."""

Values = Mapping[str, int]


def few_turns(kernel: Kernel, sizes: Values) -> dict[str, int]:
    """The sizes given that are the few turns of a reduction."""
    extents = [b.hi for s in statements(kernel.body) for x in subtrees(s.value) if isinstance(x, Reduce) for b in x.binders]
    names = {hi.name for hi in extents if isinstance(hi, SizeRef)}
    return {name: sizes[name] for name in kernel.sizes if name in names and 1 <= sizes.get(name, 0) <= FEW}


def fixed(kernel: Kernel, values: Values) -> Kernel:
    """The kernel with reductions over so many terms; it computes the same where its sizes are these."""

    def bound(b: Binder) -> Binder:
        known = values.get(b.hi.name) if isinstance(b.hi, SizeRef) else None
        return b if known is None else replace(b, hi=const(known, I64))

    def visit(e: Expr) -> Expr:
        e = map_children(visit, e)
        return replace(e, binders=tuple(map(bound, e.binders))) if isinstance(e, Reduce) else e

    def body(stmts: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(replace(s, body=body(s.body)) if isinstance(s, Repeat) else replace(s, value=visit(s.value)) for s in stmts)

    return replace(kernel, body=body(kernel.body))


def beside(general: Plan, special: Plan | None, values: Values) -> Plan | None:
    """The general plan with the launches of the special one beside its own; None where these are not the same steps, or not other ones."""
    if special is None or special.buffers != general.buffers or len(special.steps) != len(general.steps):
        return None
    steps = [_either(one, other, values) for one, other in zip(general.steps, special.steps, strict=True)]
    found = [step for step in steps if step is not None]
    if len(found) < len(steps) or tuple(found) == general.steps:
        return None
    choice = (KEY, ",".join(f"{name} {n}" for name, n in values.items()))
    return replace(general, steps=tuple(found), schedule=(*general.schedule, choice))


def _either(general: Step, special: Step, values: Values) -> Step | None:
    if isinstance(general, RepeatLaunch) or isinstance(special, RepeatLaunch):
        return general if general == special else None
    if general.name != special.name:
        return None
    if general == special or product_of(general) or product_of(special):
        return general
    guard = Guard(equal=tuple((SizeRef(name), n) for name, n in values.items()))
    return replace(special, guard=guard, otherwise=general)


def pinned_values(named: Mapping[str, tuple[str, ...]], kernel: Kernel) -> dict[str, int]:
    """The sizes of the kernel that a schedule's choices name: `written_for = R_3, S_3`."""
    found = [re.fullmatch(r"(\w+)_(\d+)", word) for word in named.get(KEY.replace(" ", "_"), ())]
    values = {m[1]: int(m[2]) for m in found if m is not None}
    return {name: values[name] for name in kernel.sizes if 1 <= values.get(name, 0) <= FEW}


def that_runs(launch: Launch, sizes: Values) -> Launch:
    """The launch, or what runs instead of it at these sizes."""
    while launch.guard is not None and launch.otherwise is not None and any(number(e, sizes) != n for e, n in launch.guard.equal):
        launch = launch.otherwise
    return launch

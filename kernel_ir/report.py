"""Turns a result into words: a line of summary, an explanation of what was done and why, or JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal

from extract.floor import Floor, floor
from extract.machine import load_machine
from kernel_ir.explain import is_cheap, rules_of_chain
from kernel_ir.fastmath import flags_text
from rewrites.chain import ChainError

if TYPE_CHECKING:
    from kernel_ir.error_budget import Accuracy
    from kernel_ir.optimizer import Result, Round


SHOWN: Final = 4
"""Refused forms that a report shows."""


_HEADINGS: Final = {"chain": "rules", "terms": "rules of its terms"}


def named_rules(result: "Result", proved: bool = True) -> "tuple[tuple[str, ...], Literal['chain', 'terms']]":
    """The rules that a report names, and whether they are the chain's or (no chain found, or not `proved`) what made the result's terms."""
    names = rules_of_chain(result) if proved else ()
    return (names, "chain") if names or not result.provenance else (result.provenance, "terms")


def summary(result: "Result") -> str:
    """One line: predicted gain, rules, notes."""
    names, where = named_rules(result, is_cheap(result))
    rules = f"; {_HEADINGS[where]}: {', '.join(names)}" if names else "; nothing cheaper than the kernel as written was found"
    more = "".join(f"\n  {line}" for line in (*_error_lines(result), *(f"note: {note}" for note in result.notes)))
    return f"{result.original.name}: {_cycles(result)} on {result.target}{rules}{more}"


def explanation(result: "Result") -> str:
    """What was tried, what was found, what bounds the result: for people."""
    names, where = named_rules(result)
    lines = [
        f"{result.original.name} on {result.target}, fast-math {flags_text(result.fast_math)}",
        f"  predicted: {_cycles(result)}",
        f"  {_HEADINGS[where]}: {', '.join(names) or 'none: the kernel as written is the cheapest form found'}",
    ]
    lines += [f"  {line}" for line in _error_lines(result)]
    lines += [f"  {line}" for line in _chain_lines(result)]
    for number, one in enumerate(result.rounds, 1):
        lines += [f"  round {number}: {line}" for line in _round_lines(one)]
    lines.append("  candidates, by predicted cycles:")
    lines += [f"    {cycles:12.4g}  {_first_statements(kernel)}" for kernel, cycles in result.candidates[:8]]
    lines.append("  schedule:")
    lines += [f"    {what}: {how}" for what, how in result.plan.schedule]
    lines.append("  cost:")
    lines += [f"    {line}" for line in cost_lines(result)]
    lines += [f"  note: {note}" for note in result.notes]
    return "\n".join(lines)


def _round_lines(one: "Round") -> list[str]:
    found = one.found
    if found.saturation is None:
        return list(found.notes)
    s = found.saturation
    lines = [f"{s.stop.value} after {len(s.sizes)} steps, e-nodes {' → '.join(map(str, s.sizes))}; {len(found.candidates)} candidates"]
    if s.growing:
        lines.append("a limit stopped it; the rules that grew the graph most:")
        lines += [f"  {g.nodes:8} e-nodes in {g.matches} matches: {g.rule}" for g in s.growth[:8]]
    return lines


def _chain_lines(result: "Result") -> list[str]:
    """Each step from the kernel as written to the result, and what each rule saved."""
    try:
        chain = result.chain
    except ChainError as error:
        return [f"steps: not found: {error.message}"]
    if not chain.steps:
        return []
    saved = [f"{one.rule}: {one.cycles:.4g} cycles" for one in result.savings]
    lines = ["steps, from the kernel as written to the result:", *(f"  {line}" for line in str(chain).splitlines())]
    return [*lines, "saved against the cheapest form found without each rule:", *(f"  {line}" for line in saved)] if saved else lines


def _error_lines(result: "Result") -> list[str]:
    """Measured errors under a tolerance, and each cheaper form that it refused."""
    found = result.accuracy
    if found is None or result.budget is None:
        return []
    lines = [f"error at most {found.form} on {found.elements} elements; as written {found.original}"]
    for one in result.refused[:SHOWN]:
        by = f" by {', '.join(one.rules)}" if one.rules else ""
        form = f"a form{by}, error at most {one.accuracy.form}"
        lines.append(f"refused under tolerance {result.budget.tolerance:g}: {form}: {one.accuracy.excess}")
    left = len(result.refused) - SHOWN
    return [*lines, f"refused besides: {left} more"] if left > 0 else lines


def cost_lines(result: "Result") -> list[str]:
    """Where the cycles go: by unit, by memory level, in what runs at the same time; what bounds them, and the floor beside them."""
    cost, least = result.cost, floor_of(result)
    busy = [f"{unit}: {cycles:.4g} cycles" for unit, cycles in sorted(cost.arithmetic.items(), key=lambda item: -item[1]) if cycles]
    moved = [f"{level}: {count:.4g} bytes" for level, count in cost.bytes.items() if count]
    at_once = ", ".join(f"{name} {cycles:.4g}" for name, cycles in cost.parts.items() if cycles)
    return [
        *busy,
        *moved,
        *([f"at the same time: {at_once} cycles"] if at_once else []),
        f"starting launches: {cost.overhead:.4g} cycles",
        f"in all: {cost.cycles:.4g} cycles, bound by {cost.bound}",
        f"floor: {least.moving:.4g} cycles for {least.bytes:.4g} bytes once from {least.level}, {least.arithmetic:.4g} for the arithmetic "
        + f"at full rate: predicted is {cost.cycles / max(least.cycles, 1e-9):.2f}× the larger",
    ]


def floor_of(result: "Result") -> Floor:
    """The time that no schedule of the result can beat."""
    return floor(result.plan, result.cost, load_machine(result.target.machine), result.sizes)


def _cost_json(result: "Result") -> dict[str, Any]:
    least = floor_of(result)
    cost = result.cost
    return {
        "units": dict(cost.arithmetic),
        "bytes": dict(cost.bytes),
        "parts": dict(cost.parts),
        "launches": cost.overhead,
        "bound": cost.bound,
        "floor": {**asdict(least), "cycles": least.cycles},
    }


def _cycles(result: "Result") -> str:
    gain = result.baseline_cycles / result.cycles if result.cycles else 1.0
    return f"{result.baseline_cycles:.4g} → {result.cycles:.4g} cycles ({gain:.2f}×)"


def _first_statements(kernel: object) -> str:
    """The statements of a kernel on one line, cut short."""
    body = " ; ".join(line.strip() for line in str(kernel).splitlines()[1:-1])
    return body if len(body) <= 110 else body[:107] + "…"


def result_json(result: "Result", explain: bool = False) -> dict[str, Any]:
    """The documented JSON of one result: no clock in it, so that the same input gives the same bytes. `explain` adds its steps."""
    names, where = named_rules(result, explain or is_cheap(result))
    return {
        **(_explained_json(result) if explain else {}),
        "name": result.original.name,
        "target": result.target.name,
        "fast_math": sorted(map(str, result.fast_math)),
        "text": result.text,
        "changed": result.kernel != result.original,
        "cycles": result.cycles,
        "baseline_cycles": result.baseline_cycles,
        "cost": _cost_json(result),
        "rules": list(names),
        "rules_from": where,
        "candidates": [{"cycles": cycles, "text": str(kernel)} for kernel, cycles in result.candidates],
        "layouts": {name: list(layout.values) for name, layout in result.layouts.items()},
        "schedule": [{"what": what, "how": how} for what, how in result.plan.schedule],
        "rounds": [_round_json(one) for one in result.rounds],
        "accuracy": None if result.accuracy is None else _accuracy_json(result.accuracy),
        "refused": [{"text": str(r.kernel), "rules": list(r.rules), **_accuracy_json(r.accuracy)} for r in result.refused],
        "notes": list(result.notes),
    }


def _accuracy_json(found: "Accuracy") -> dict[str, Any]:
    """Errors of a form and of the original; values of the worst element over the budget as text, since JSON has no infinity."""
    worst = None if found.excess is None else {key: str(value) for key, value in asdict(found.excess).items()}
    return {"elements": found.elements, "error": asdict(found.form), "as_written": asdict(found.original), "excess": worst}


def _explained_json(result: "Result") -> dict[str, Any]:
    try:
        steps = [{"rule": s.name, "kind": s.kind, "back": s.back, "shown": s.shown} for s in result.chain.steps]
    except ChainError as error:
        return {"steps": None, "steps_missing": error.message}
    return {"steps": steps, "saved": {one.rule: one.cycles for one in result.savings}}


def _round_json(one: "Round") -> dict[str, Any]:
    s = one.found.saturation
    if s is None:
        return {"stop": "not run", "notes": list(one.found.notes)}
    return {
        "stop": s.stop.value,
        "e_nodes": list(s.sizes),
        "matches": dict(s.matches),
        "growth": {g.rule: g.nodes for g in s.growth},
        "held_back": list(s.banned),
    }

"""Turns a result into words: a line of summary, an explanation of what was done and why, or JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kernel_ir.fastmath import flags_text

if TYPE_CHECKING:
    from kernel_ir.error_budget import Accuracy
    from kernel_ir.optimizer import Result, Round


def summary(result: "Result") -> str:
    """One line: predicted gain, rules, notes."""
    rules = f"; rules: {', '.join(result.rules)}" if result.rules else "; nothing cheaper than the kernel as written was found"
    more = "".join(f"\n  {line}" for line in (*_error_lines(result), *(f"note: {note}" for note in result.notes)))
    return f"{result.original.name}: {_cycles(result)} on {result.target}{rules}{more}"


def explanation(result: "Result") -> str:
    """What was tried, what was found, what bounds the result: for people."""
    lines = [
        f"{result.original.name} on {result.target}, fast-math {flags_text(result.fast_math)}",
        f"  predicted: {_cycles(result)}",
        f"  rules: {', '.join(result.rules) or 'none: the kernel as written is the cheapest form found'}",
    ]
    lines += [f"  {line}" for line in _error_lines(result)]
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
        counts = dict(s.matches)
        lines.append("a limit stopped it; the rules that grew the graph: " + ", ".join(f"{name} ({counts[name]})" for name in s.growing))
    return lines


def _error_lines(result: "Result") -> list[str]:
    """Measured errors under a tolerance, and each cheaper form that it refused."""
    found = result.accuracy
    if found is None or result.budget is None:
        return []
    lines = [f"error at most {found.form} on {found.elements} elements; as written {found.original}"]
    for one in result.refused:
        by = f" by {', '.join(one.rules)}" if one.rules else ""
        lines.append(
            f"refused under tolerance {result.budget.tolerance:g}: a form{by}, error at most {one.accuracy.form}: {one.accuracy.excess}"
        )
    return lines


def cost_lines(result: "Result") -> list[str]:
    """Where the cycles go: by unit, by memory level, in starting launches."""
    cost = result.cost
    busy = [f"{unit}: {cycles:.4g} cycles" for unit, cycles in sorted(cost.arithmetic.items(), key=lambda item: -item[1])]
    moved = [f"{level}: {count:.4g} bytes" for level, count in cost.bytes.items()]
    return [*busy, *moved, f"starting launches: {cost.overhead:.4g} cycles", f"in all: {cost.cycles:.4g} cycles"]


def _cycles(result: "Result") -> str:
    gain = result.baseline_cycles / result.cycles if result.cycles else 1.0
    return f"{result.baseline_cycles:.4g} → {result.cycles:.4g} cycles ({gain:.2f}×)"


def _first_statements(kernel: object) -> str:
    """The statements of a kernel on one line, cut short."""
    body = " ; ".join(line.strip() for line in str(kernel).splitlines()[1:-1])
    return body if len(body) <= 110 else body[:107] + "…"


def result_json(result: "Result") -> dict[str, Any]:
    """The documented JSON of one result: no clock in it, so that the same input gives the same bytes."""
    return {
        "name": result.original.name,
        "target": result.target.name,
        "fast_math": sorted(map(str, result.fast_math)),
        "text": result.text,
        "changed": result.kernel != result.original,
        "cycles": result.cycles,
        "baseline_cycles": result.baseline_cycles,
        "rules": list(result.rules),
        "candidates": [{"cycles": cycles, "text": str(kernel)} for kernel, cycles in result.candidates],
        "layouts": {name: list(order) for name, order in result.layouts.items()},
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


def _round_json(one: "Round") -> dict[str, Any]:
    s = one.found.saturation
    if s is None:
        return {"stop": "not run", "notes": list(one.found.notes)}
    return {"stop": s.stop.value, "e_nodes": list(s.sizes), "matches": dict(s.matches), "held_back": list(s.banned)}

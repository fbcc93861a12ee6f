"""Turns a slow and a fast kernel that are equal into the rules that connect them: mined, proved, and shown to do it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from extract.mine_align import Alignment
from extract.mine_graph import joined
from extract.mine_rule import Generaliser
from kernel_ir.errors import UsageError
from kernel_ir.fastmath import Flags
from kernel_ir.nodes import Kernel
from rewrites.prove import holds as proved
from rewrites.rule import Rule
from rewrites.wording import rule_text

SECONDS = 20.0
"""A safety net for one proof."""


@dataclass(frozen=True, slots=True)
class Mined:
    """What connects two kernels: nothing new (`known`: the book does already), rules, or neither (`rules` empty).

    `connects`: whether the book and the rules together prove the kernels equal in the e-graph.
    """

    known: bool
    rules: tuple[Rule, ...]
    connects: bool


def mined(slow: Kernel, fast: Kernel, rules: Sequence[Rule], licence: Flags, name: str = "mined") -> Mined:
    """The rules that make the fast kernel of the slow one, beyond those of the book; both must have the same signature, and be equal."""
    allowed = tuple(rule for rule in rules if rule.needs <= licence)
    both = joined(slow, fast, allowed)
    if not both.open:
        return Mined(True, (), True)
    proofs: dict[Rule, bool] = {}

    def holds(rule: Rule) -> bool:
        if rule not in proofs:
            proofs[rule] = proved(rule, SECONDS)
        return proofs[rule]

    alignment = Alignment(both, Generaliser(both, licence, holds).rule)
    found: dict[str, Rule] = {}
    for a, b in both.open:
        for rule in alignment.rules(a, b) or ():
            key = rule.text.partition(":")[2]
            if key not in found:
                called = f"{name}_{len(found) + 1}"
                found[key] = replace(rule, name=called, text=rule_text(rule, called), family="mined")
    new = tuple(found.values())
    connects = bool(new) and not joined(slow, fast, (*allowed, *new)).open
    return Mined(False, new, connects)


def check_signatures(slow: Kernel, fast: Kernel) -> None:
    """Raises UsageError unless both kernels have the same parameters and outputs, by name."""
    one, two = ([(p.name, p.type.dtype, p.type.rank) for p in (*k.params, *k.outputs)] for k in (slow, fast))
    if one != two:
        listed = ", ".join(name for name, _, _ in one)
        raise UsageError(f"{slow.name} and {fast.name} have different signatures", hint=f"give both kernels these names: {listed}")

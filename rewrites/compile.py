"""Turns a typed rule into egglog commands: one for each direction, operator family and way to prove its guards.

A command is named `rule`, `rule~` (right to left), `rule#2` (the second variant), so that reports and provenance lead back to the rule.
"""

import itertools
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kernel_ir.dtypes import DType
from kernel_ir.nodes import const
from kernel_ir.ops import OPS
from rewrites.declare import CODES, PROVENANCE, SIGNATURES, VIA, class_letter, op_constructor
from rewrites.guards import Context, Guard, Ways, conditions, index_name
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, subpatterns
from rewrites.rule import Phase, Rule, phase


@dataclass(frozen=True, slots=True)
class Command:
    """One egglog rule: the facts that it matches, the term that it adds and unites with the class `e_`, and the new e-nodes of it;
    the constructors of the facts and of the term."""

    name: str
    phase: Phase
    facts: tuple[str, ...]
    term: str
    nodes: tuple[str, ...]
    needs: frozenset[str]
    makes: frozenset[str]

    @property
    def is_known(self) -> bool:
        """Whether what the rule finds is one of its variables: then it makes no e-node that could tell which rule this was."""
        return self.term.startswith("v_")

    @property
    def adds(self) -> bool:
        """Whether the rule makes e-nodes, literals apart."""
        return not self.is_known and not self.term.startswith("(Lit ")

    def text(self, ruleset: str, number: int | None = None) -> str:
        """The egglog rule. With a number, the `src_…` table of each new node is set to it (first writer wins), or `via` of the class."""
        actions = [f"(union e_ {self.term})"]
        if number is not None:
            actions = [f"(set ({VIA} e_) {number})", *actions] if self.is_known else actions
            actions += [f"(set ({PROVENANCE}{node[1:]} {number})" for node in self.nodes]
        return f'(rule ({" ".join(self.facts)}) ({" ".join(actions)}) :ruleset {ruleset} :name "{self.name}")'


_WORD: Final = re.compile(r"\((\w+)")


def constructors(text: str) -> frozenset[str]:
    """The constructors of e-nodes in some egglog text."""
    return frozenset(word for word in _WORD.findall(text) if word in SIGNATURES)


def joins(facts: Iterable[str]) -> int:
    """How many e-nodes some facts match."""
    return sum(word in SIGNATURES for fact in facts for word in _WORD.findall(fact))


def rule_name(command: str) -> str:
    """The name of the rule that a command came from.

    >>> rule_name("add_zero~#2")
    'add_zero'
    """
    return command.partition("#")[0].rstrip("~")


_known: Final[dict[int, tuple[Rule, tuple[Command, ...]]]] = {}


def remember(rules: Sequence[Rule], compiled: Sequence[tuple[Command, ...]]) -> None:
    """Tells the commands of rules that were compiled before."""
    _known.update((id(rule), (rule, found)) for rule, found in zip(rules, compiled, strict=True))  # each entry keeps its rule's id taken


def commands(rule: Rule) -> tuple[Command, ...]:
    """Every command of the rule."""
    known = _known.get(id(rule))
    return tuple(_commands(rule)) if known is None else known[1]


def _commands(rule: Rule) -> Iterator[Command]:
    if rule.substitutes:
        return
    for way, (lhs, rhs) in enumerate(rule.directions):
        base = rule.name + "~" * way
        when = phase(rule, lhs, rhs)
        variants = dict.fromkeys(v for chosen in _assignments(rule) for v in _variants(rule, chosen, lhs, rhs))
        for count, (facts, term, nodes) in enumerate(variants, 1):
            name = base if count == 1 else f"{base}#{count}"
            yield Command(name, when, facts, term, nodes, constructors(" ".join(facts)), constructors(term))


Chosen = dict[int, tuple[DType, ...]]
"""For each type variable, dtypes of one class."""


def _assignments(rule: Rule) -> Iterator[Chosen]:
    """Every choice of one class (and, where a literal's bits depend on it, one dtype) for each type variable."""
    patterns = [*subpatterns(rule.lhs), *subpatterns(rule.rhs)]
    used = sorted({t for p in patterns for t in _types(p)})
    narrow = {p.type for p in patterns if isinstance(p, Lit) and not _same_in_f32(p.value)}
    choices: list[list[tuple[DType, ...]]] = []
    for t in used:
        classes: dict[str, tuple[DType, ...]] = {}
        for dtype in rule.types[t]:
            key = dtype.name if t in narrow and dtype.is_float else class_letter(dtype)
            classes[key] = (*classes.get(key, ()), dtype)
        choices.append(list(classes.values()))
    for combination in itertools.product(*choices):
        yield dict(zip(used, combination, strict=True))


def _types(p: Pattern) -> tuple[int, ...]:
    return (p.type, p.result) if isinstance(p, Apply | Reduction) else (p.type,)


def _same_in_f32(value: bool | int | float) -> bool:
    if not isinstance(value, float) or value != value:
        return True
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0] == value
    except OverflowError:
        return False


def _variants(rule: Rule, chosen: Chosen, lhs: Pattern, rhs: Pattern) -> Iterator[tuple[tuple[str, ...], str, tuple[str, ...]]]:
    """Facts, new term and its nodes, for each way in which the guards can be known."""
    writer = _Writer(chosen)
    left, right = writer.term(lhs), writer.term(rhs)
    constants = frozenset(n for g in rule.guards for n in _constants(g))
    context = Context(writer.term, writer.code, writer.letter, constants, lhs)
    # Constants first: later guards compute with their bits.
    ordered = sorted(rule.guards, key=lambda g: not _constants(g))
    ways: list[Ways] = [conditions(g, context) for g in ordered]
    known = set(subpatterns(lhs))
    nodes = tuple(dict.fromkeys(writer.term(p) for p in subpatterns(rhs) if not isinstance(p, Var) and p not in known))
    for alternative in itertools.product(*ways):
        facts = dict.fromkeys((f"(= e_ {left})", *(fact for way in alternative for fact in way)))
        yield tuple(facts), right, nodes


def _constants(guard: Guard) -> tuple[str, ...]:
    """The variables that a guard knows to be literals."""
    return tuple(a.name for a in guard.args if isinstance(a, Var)) if guard.kind in ("is_const", "pow2", "divides") else ()


@dataclass(frozen=True, slots=True)
class _Writer:
    chosen: Chosen

    def code(self, t: int) -> str:
        """The dtype column: a code, or a variable where a whole class will do."""
        dtypes = self.chosen.get(t, ())
        return str(CODES[dtypes[0].name]) if len(dtypes) == 1 else f"t{t}"

    def letter(self, t: int) -> str:
        return class_letter(self.chosen[t][0]) if t in self.chosen else "i"

    def term(self, p: Pattern) -> str:
        """The egglog term of a pattern."""
        match p:
            case Var():
                return f"v_{p.name}"
            case Index():
                return f"(Ix {index_name(p.name)})"
            case Lit():
                return f"(Lit {self.code(p.type)} {const(p.value, self.chosen[p.type][0]).bits})"
            case Apply():
                name = op_constructor(OPS[p.op], self.chosen[p.type][0])
                return f"({name} {self.code(p.type)} {' '.join(map(self.term, p.args))})"
            case Reduction():
                parts = " ".join(map(self.term, (p.lo, p.hi, *p.bodies)))
                return f"(R_{p.kind} {self.code(p.type)} {index_name(p.index)} {parts})"
            case At():
                raise AssertionError("a substitution is no term of the e-graph")

"""Turns the egglog rules that one kernel may need into rulesets that are loaded when they can first match.

Most rules that a kernel's constructors allow never meet all that they match: some two thirds. egglog takes a third of a millisecond to
load each, and copies all at each push. So a ruleset is defined when every constructor that one of its rules matches has e-nodes.
`analysis` and `shrink` hold many rules, which run at once: there each rule is a ruleset by itself, and what runs combines those that
can match, in their fixed order. What an e-graph has loaded for other kernels thus changes nothing.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

JOINS: Final = 6
"""A rule that matches so many e-nodes at once is loaded before there are any: egglog plans its joins then, and plans them worse by the
sizes of tables that are still growing (by three times, for the third powers of `horner_cubic`)."""
TOGETHER: Final = ("analysis", "shrink")
"""The rulesets of many rules, of which those run that can match."""


@dataclass(frozen=True, slots=True)
class Line:
    """One egglog rule: the constructors that it matches and makes, and its ruleset, which is in the index phase or not."""

    text: str
    needs: frozenset[str]
    makes: frozenset[str]
    ruleset: str = ""
    index: bool = False
    joins: int = 0
    """How many e-nodes it matches at once."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A ruleset, and the commands that define it."""

    name: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A ruleset that egglog can run once all is defined, in this order; the last is the ruleset itself."""

    definitions: tuple[Definition, ...]

    @property
    def name(self) -> str:
        return self.definitions[-1].name


@dataclass(frozen=True, slots=True)
class Stage:
    """What one e-graph is loaded with: its declarations, the rulesets of the index phase, all rulesets of the rounds, and for each
    ruleset its rules.

    `program` tells apart what is called alike: stages of one program may share an e-graph.
    """

    program: str
    commands: tuple[str, ...]
    index: tuple[str, ...]
    rulesets: tuple[str, ...]
    lines: dict[str, tuple[Line, ...]]
    _made: dict[tuple[str, frozenset[str]], Ruleset] = field(default_factory=dict[tuple[str, frozenset[str]], Ruleset], compare=False)

    def can_match(self, ruleset: str, present: frozenset[str]) -> bool:
        """Whether a rule of the ruleset can match where no other constructors than these have e-nodes."""
        return any(line.needs <= present for line in self.lines[ruleset])

    def at_first(self, present: frozenset[str]) -> tuple[Ruleset, ...]:
        """The rulesets that a kernel of these constructors runs whatever rules make of it, and those that are best loaded at once."""
        exploring = (name for name in self.rulesets if self.can_match(name, present) or self._joins_much(name))
        return tuple(self.ruleset(name, present) for name in (*TOGETHER, *exploring))

    def _joins_much(self, ruleset: str) -> bool:
        return any(line.joins >= JOINS for line in self.lines[ruleset])

    def ruleset(self, name: str, present: frozenset[str]) -> Ruleset:
        """The ruleset as it runs where these constructors have e-nodes."""
        key = name, present if name in TOGETHER else frozenset[str]()
        if key not in self._made:
            together = name in TOGETHER
            self._made[key] = _combined(name, self.lines[name], present) if together else Ruleset((_ruleset(name, self.lines[name]),))
        return self._made[key]


def _combined(name: str, lines: tuple[Line, ...], present: frozenset[str]) -> Ruleset:
    parts = tuple(_ruleset(_own_name(line.text), (line,)) for line in lines if line.needs <= present)
    names = " ".join(part.name for part in parts)
    whole = f"{name}:{sha256(names.encode()).hexdigest()[:16]}"
    return Ruleset((*parts, Definition(whole, (f"(unstable-combined-ruleset {whole} {names})",))))


def _ruleset(name: str, lines: tuple[Line, ...]) -> Definition:
    texts = (line.text if name == line.ruleset else _moved(line.text, name) for line in lines)
    return Definition(name, (f"(ruleset {name})", *texts))


_NAME: Final = ' :name "'
_RULESET: Final = " :ruleset "


def _own_name(text: str) -> str:
    """A ruleset for a rule alone: the rule's name is the only one of its kind in the e-graph."""
    return "only:" + text.rpartition(_NAME)[2].partition('"')[0].replace(" ", ":")


def _moved(text: str, ruleset: str) -> str:
    """The rule in another ruleset."""
    start, _, end = text.rpartition(_RULESET)
    return f"{start}{_RULESET}{ruleset}{end[end.index(_NAME) :]}"

"""Turns a list of rules into what an e-graph is loaded with for one kernel: the commands that can ever match there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from rewrites import analyses
from rewrites.compile import commands, constructors
from rewrites.declare import declarations
from rewrites.pattern import Apply, Var
from rewrites.rule import SELECT_FAMILY, Rule

KEPT: Final = 8
"""Compiled lists of rules that are kept."""
SURPLUS: Final = 1.5
"""How many times the rules that it needs a kernel may find loaded: each costs a little, and loading anew costs more."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one e-graph is loaded with: its commands, the rulesets of the index phase, all rulesets of the rounds, and for each of
    these the constructors that its rules match."""

    commands: tuple[str, ...]
    index: tuple[str, ...]
    rulesets: tuple[str, ...]
    needs: dict[str, tuple[frozenset[str], ...]]

    def can_match(self, ruleset: str, present: frozenset[str]) -> bool:
        """Whether a rule of the ruleset can match where no other constructors than these have e-nodes."""
        return any(needs <= present for needs in self.needs[ruleset])


@dataclass(frozen=True, slots=True)
class Line:
    """One egglog rule: the constructors that it matches and makes, and its ruleset, which is in the index phase or not."""

    text: str
    needs: frozenset[str]
    makes: frozenset[str]
    ruleset: str = ""
    index: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A list of rules, compiled: the lines of the search and of instruction selection, the rules' names by number - 1."""

    search: tuple[Line, ...]
    selection: tuple[Line, ...]
    names: tuple[str, ...]
    exact: bool
    """Whether no rule needs a flag."""
    _stages: dict[tuple[bool, frozenset[str]], Stage] = field(default_factory=dict[tuple[bool, frozenset[str]], Stage], compare=False)

    def stage(self, constructors: Collection[str], selection: bool = False) -> Stage:
        """The stage for a kernel made of these constructors: rules that need what no rule can make of them do not run.

        They may be loaded, though, where a stage made before can serve: rules that cannot match change nothing.
        """
        own = self.selection if selection else self.search
        known = closure(constructors, (*analysis_lines(), *own))
        key = selection, known
        if key not in self._stages:
            lines = [line for line in own if line.needs <= known]
            needs: dict[str, tuple[frozenset[str], ...]] = {}
            for line in lines:
                if line.ruleset:
                    needs[line.ruleset] = (*needs.get(line.ruleset, ()), line.needs)
            index = tuple(dict.fromkeys(line.ruleset for line in lines if line.ruleset and line.index))
            rulesets = tuple(dict.fromkeys((*index, *needs)))
            commands = self._shared(key, len(lines)) or loaded(known, lines, rulesets, self.exact)
            self._stages[key] = Stage(commands, index, rulesets, needs)
        return self._stages[key]

    def _shared(self, key: tuple[bool, frozenset[str]], count: int) -> tuple[str, ...]:
        """The commands of a stage made before that serves here too and is not much larger; none if there is none."""
        selection, known = key
        for (same, others), stage in self._stages.items():
            if same == selection and known <= others and sum(map(len, stage.needs.values())) <= SURPLUS * count:
                return stage.commands
        return ()


def loaded(known: frozenset[str], lines: Sequence[Line], rulesets: Sequence[str], exact: bool) -> tuple[str, ...]:
    """Declarations, rulesets and rules."""
    texts = [line.text for line in (*analysis_lines(), *lines) if line.needs <= known]
    return (*declarations(known, exact), *analyses.DECLARATIONS, *analyses.SETUP, *(f"(ruleset {name})" for name in rulesets), *texts)


def closure(constructors: Collection[str], lines: Sequence[Line]) -> frozenset[str]:
    """The constructors, and all that rules can make of them."""
    known = set(constructors)
    waiting = list(lines)
    while True:
        ready = [line for line in waiting if line.needs <= known]
        if not ready:
            return frozenset(known)
        waiting = [line for line in waiting if not line.needs <= known]
        known.update(*(line.makes for line in ready))


_programs: Final[dict[tuple[int, ...], tuple[Sequence[Rule], Program]]] = {}


def program_of(rules: Sequence[Rule]) -> Program:
    """The rules compiled; once a list of rules."""
    key = tuple(map(id, rules))
    if key not in _programs:
        numbered = list(enumerate(rules, 1))
        selecting = [(n, rule) for n, rule in numbered if rule.family == SELECT_FAMILY]
        ordering = [(n, rule) for n, rule in numbered if _only_orders(rule)] if selecting else []
        search = _lines([(n, rule) for n, rule in numbered if rule.family != SELECT_FAMILY])
        exact = not any(rule.needs for rule in rules)
        program = Program(search, _lines([*selecting, *ordering]), tuple(rule.name for rule in rules), exact)
        _programs[key] = tuple(rules), program  # holds on to the rules, so that their ids stay theirs
        while len(_programs) > KEPT:
            del _programs[next(iter(_programs))]
    return _programs[key][1]


def _only_orders(rule: Rule) -> bool:
    """Whether the rule is `a op b => b op a`."""
    match rule.lhs, rule.rhs:
        case Apply(op=one, args=(Var() as a, Var() as b)), Apply(op=two, args=(c, d)):
            return one == two and (a, b) == (d, c)
        case _:
            return False


def _lines(rules: Sequence[tuple[int, Rule]]) -> tuple[Line, ...]:
    lines: list[Line] = []
    groups: dict[str, str] = {}
    for number, rule in rules:
        for command in commands(rule):
            ruleset = ""
            # A rule that shrinks, but makes e-nodes, can still go on for ever where a class holds a term of itself.
            if command.adds:
                ruleset = groups.setdefault(command.name.partition("#")[0], f"rule{len(groups)}")
            text = command.text(ruleset or "shrink", number)
            lines.append(Line(text, command.needs, command.makes, ruleset, command.phase in ("index", "shrink")))
    return tuple(lines)


_analysis: Final[list[Line]] = []


def analysis_lines() -> Sequence[Line]:
    """The rules of the analyses."""
    if not _analysis:
        _analysis.extend(line_of(text) for text in analyses.analysis_rules())
    return _analysis


def line_of(text: str) -> Line:
    """A rule `(rule (facts) (actions) …)` with the constructors of both halves."""
    needs, makes = map(constructors, _halves(text))
    return Line(text, needs, makes)


def _halves(text: str) -> tuple[str, str]:
    """The list of facts, and all after it."""
    start = len("(rule ")
    depth = 0
    for end, character in enumerate(text[start:], start + 1):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[start:end], text[end:]
    raise AssertionError(f"no list of facts in {text}")

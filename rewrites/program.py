"""Turns a list of rules into what an e-graph is loaded with for one kernel: the commands that can ever match there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from rewrites import analyses
from rewrites.compile import commands, constructors, joins
from rewrites.declare import always, declarations, tables
from rewrites.pattern import Apply, Var
from rewrites.rule import SELECT_FAMILY, Rule
from rewrites.stage import TOGETHER, Line, Stage

KEPT: Final = 8
"""Compiled lists of rules that are kept."""
SURPLUS: Final = 1.5
"""How many times the rulesets that it needs a kernel may find declared for: each table costs a little, and another e-graph costs more."""


@dataclass(frozen=True, slots=True)
class _Tables:
    """Declarations of constructors for the search or for selection, first made for a stage of so many rulesets."""

    selection: bool
    known: frozenset[str]
    count: int
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A list of rules, compiled: the lines of the search and of instruction selection, the rules' names by number - 1."""

    search: tuple[Line, ...]
    selection: tuple[Line, ...]
    names: tuple[str, ...]
    exact: bool
    """Whether no rule needs a flag."""
    digest: str
    """Of all its lines."""
    _stages: dict[tuple[bool, frozenset[str]], Stage] = field(default_factory=dict[tuple[bool, frozenset[str]], Stage], compare=False)
    _tables: "list[_Tables]" = field(default_factory=list["_Tables"], compare=False)

    def stage(self, constructors: Collection[str], selection: bool = False) -> Stage:
        """The stage for a kernel made of these constructors: rules that need what no rule can make of them do not run."""
        own = self.selection if selection else self.search
        known = closure(constructors, (*analysis_lines(), *own))
        key = selection, known
        if key not in self._stages:
            analysis = (*map(line_of, always(known, self.exact)), *analysis_lines())
            lines = {"analysis": tuple(line for line in analysis if line.needs <= known), "shrink": tuple[Line, ...]()}
            for line in own:
                if line.needs <= known:
                    lines[line.ruleset] = (*lines.get(line.ruleset, ()), line)
            exploring = tuple(name for name in lines if name not in TOGETHER)
            index = tuple(name for name in exploring if any(line.index for line in lines[name]))
            rulesets = tuple(dict.fromkeys((*index, *exploring)))
            name = "select" if selection else "search"
            self._stages[key] = Stage(f"{name} {self.digest}", self._declared(selection, known, len(lines)), index, rulesets, lines)
        return self._stages[key]

    def _declared(self, selection: bool, known: frozenset[str], count: int) -> tuple[str, ...]:
        """The declarations for these constructors; those of a stage made before where they serve here too and are not many more.

        A search declares what selection can make of its terms as well: the next round begins with that.
        """
        for other in self._tables:
            if other.selection == selection and known <= other.known and other.count <= SURPLUS * count:
                return other.commands
        every = known if selection else closure(known, (*analysis_lines(), *self.search, *self.selection))
        made = _Tables(selection, every, count, (*tables(every), *analyses.DECLARATIONS, *analyses.SETUP))
        self._tables.append(made)
        return made.commands


def loaded(known: frozenset[str], lines: Sequence[Line], rulesets: Sequence[str], exact: bool) -> tuple[str, ...]:
    """Declarations, rulesets and all rules that can ever match, for an e-graph that loads them at once."""
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
        selection = _lines([*selecting, *ordering])
        digest = sha256("\n".join((str(exact), *(line.text for line in (*search, *selection)))).encode()).hexdigest()
        program = Program(search, selection, tuple(rule.name for rule in rules), exact, digest)
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
            ruleset = "shrink"
            # A rule that shrinks, but makes e-nodes, can still go on for ever where a class holds a term of itself.
            if command.adds:
                ruleset = groups.setdefault(command.name.partition("#")[0], f"rule{len(groups)}")
            text = command.text(ruleset, number)
            lines.append(Line(text, command.needs, command.makes, ruleset, command.phase in ("index", "shrink"), joins(command.facts)))
    return tuple(lines)


_analysis: Final[list[Line]] = []


def analysis_lines() -> Sequence[Line]:
    """The rules of the analyses."""
    if not _analysis:
        _analysis.extend(line_of(text) for text in analyses.analysis_rules())
    return _analysis


def line_of(text: str) -> Line:
    """A rule of the analyses, `(rule (facts) (actions) …)` with the constructors of both halves."""
    needs, makes = map(constructors, _halves(text))
    return Line(text, needs, makes, "analysis")


def _halves(text: str) -> tuple[str, str]:
    """The list of facts, and all after it."""
    start = len("(rule ")
    depth = 0
    for end, character in enumerate(text[start:], start + 1):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[start:end], text[end:]
    raise AssertionError(f"no list of facts in {text}")

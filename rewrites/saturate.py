"""Turns an encoded kernel and rules into a saturated e-graph, within a budget, and says how that went.

Phases: analyses to a fixpoint; index arithmetic to its normal form; then rounds in which each exploring rule runs once, between which
everything that only shrinks runs freely; last, instruction selection. egglog has no limit inside an iteration, so each exploring rule
is a ruleset of its own: one whose matches outgrow its limit is banned for some rounds (Willsey et al. 2021, the back-off scheduler of
egg), and one that is foreseen to burst the node limit does not run. All limits are counts, and time is only a safety net.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from rewrites import analyses
from rewrites.adapter import EGraphError, Frozen, RefusedCommand, Session, session
from rewrites.compile import commands, rule_name
from rewrites.declare import VIA, declarations
from rewrites.encode import Encoding
from rewrites.rule import Rule


class Stop(Enum):
    """Why saturation stopped."""

    SATURATED = "saturated"  # no rule has anything to add
    ITERATIONS = "iterations"
    NODES = "nodes"
    TIME = "time"
    FAILED = "failed"  # egglog stopped with an error: nothing may be extracted


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one saturation: seconds (a safety net), e-nodes, exploring rounds, matches of one rule in its first round.

    >>> Budget(seconds=1.0, nodes=15_000).rounds
    12
    """

    seconds: float = 1.0
    nodes: int = 12_000
    rounds: int = 12
    matches: int = 400


@dataclass(frozen=True, slots=True)
class Saturation:
    """A saturated e-graph (None if it failed) and its story.

    `sizes` counts e-nodes after each round, `matches` every rule's matches (most first), `banned` the rules that a limit held back,
    `rules[n - 1]` the name of the rule that `Frozen.sources` calls n.
    """

    stop: Stop
    frozen: Frozen | None
    sizes: tuple[int, ...]
    matches: tuple[tuple[str, int], ...]
    banned: tuple[str, ...]
    rules: tuple[str, ...]
    seconds: float = field(compare=False)
    message: str = ""

    @property
    def growing(self) -> tuple[str, ...]:
        """Where a limit stopped it: the rules that matched most."""
        return () if self.stop is Stop.SATURATED else tuple(name for name, _ in self.matches[:5])


@dataclass(frozen=True, slots=True)
class _Program:
    commands: tuple[str, ...]
    explore: tuple[str, ...]
    names: tuple[str, ...]


_BAN_ROUNDS: Final = 2
_SETTLE: Final = 8
_INDEX_ROUNDS: Final = 8
_programs: Final[dict[tuple[int, ...], tuple[Sequence[Rule], _Program]]] = {}


def saturate(encoding: Encoding, rules: Sequence[Rule], budget: Budget | None = None) -> Saturation:
    """Saturates the kernel's terms under the rules (all of them licensed: the caller has chosen by flags).

    A contradiction or a fault inside egglog is a Saturation that FAILED; a rule that egglog does not take raises RefusedCommand.
    """
    started = time.perf_counter()
    program = _program(rules)
    run = _Run(budget or Budget(), started)
    frozen: Frozen | None = None
    try:
        with session(program.commands) as graph:
            graph.insert(encoding.terms, tuple(encoding.variables.values()), encoding.roots, encoding.facts)
            stop = run.phases(graph, program.explore)
            frozen = graph.freeze()
        message = ""
    except RefusedCommand:
        raise
    except EGraphError as error:
        stop, message = Stop.FAILED, error.message
    matches = tuple(sorted(run.matches.items(), key=lambda item: (-item[1], item[0])))
    seconds = time.perf_counter() - started
    return Saturation(stop, frozen, tuple(run.sizes), matches, tuple(run.banned), program.names, seconds, message)


def _program(rules: Sequence[Rule]) -> _Program:
    """The egglog text of declarations, analyses and rules; made once a list of rules."""
    key = tuple(map(id, rules))
    if key not in _programs:
        _programs[key] = tuple(rules), _compiled(rules)  # holds on to the rules, so that their ids stay theirs
        while len(_programs) > 8:
            del _programs[next(iter(_programs))]
    return _programs[key][1]


def _compiled(rules: Sequence[Rule]) -> _Program:
    texts: list[str] = []
    explore: dict[str, str] = {}
    for number, rule in enumerate(rules, 1):
        for command in commands(rule, number):
            text = command.text
            if command.term.startswith("v_"):  # a variable: no e-node will tell which rule this was
                text = text.replace("((union e_ ", f"((set ({VIA} e_) {number}) (union e_ ", 1)
            if command.phase == "explore":
                ruleset = explore.setdefault(command.name.partition("#")[0], f"explore{len(explore)}")
                text = text.replace(":ruleset explore ", f":ruleset {ruleset} ")
            texts.append(text)
    own = (*declarations(), *analyses.DECLARATIONS, *analyses.SETUP, *analyses.analysis_rules())
    rulesets = tuple(f"(ruleset {name})" for name in explore.values())
    return _Program((*own, *rulesets, *texts), tuple(explore.values()), tuple(rule.name for rule in rules))


@dataclass(slots=True)
class _Ban:
    """A rule's history: its match limit, the round in which it may run again, and its last run's matches at the rows then."""

    limit: int
    until: int = 0
    last: int = 0
    rows: int = 1


@dataclass(slots=True)
class _Run:
    """One saturation under way."""

    budget: Budget
    started: float
    sizes: list[int] = field(default_factory=list[int])
    matches: dict[str, int] = field(default_factory=dict[str, int])
    banned: dict[str, None] = field(default_factory=dict[str, None])

    def phases(self, graph: Session, explore: Sequence[str]) -> Stop:
        """Runs all phases; why the exploring one stopped."""
        self._settle(graph)
        for _ in range(_INDEX_ROUNDS):
            if not self._step(graph, "index"):
                break
            self._settle(graph)
        self.sizes.append(graph.rows())
        stop = self._explore(graph, explore)
        for _ in range(2):
            self._step(graph, "select")
            self._settle(graph)
        self.sizes.append(graph.rows())
        return stop

    def _explore(self, graph: Session, explore: Sequence[str]) -> Stop:
        bans = {name: _Ban(self.budget.matches) for name in explore}
        for number in range(self.budget.rounds):
            rows = self.sizes[-1]
            updated = held = False
            for ruleset, ban in bans.items():
                foreseen = ban.last * (rows / ban.rows) ** 2
                if ban.until > number or rows + foreseen > 2 * self.budget.nodes:
                    held = True
                    continue
                before = dict(self.matches)
                updated |= self._step(graph, ruleset)
                new = {n: m - before.get(n, 0) for n, m in self.matches.items() if m != before.get(n, 0)}
                ban.last, ban.rows = sum(new.values()), rows
                if ban.last > ban.limit:
                    ban.until, ban.limit = number + 1 + _BAN_ROUNDS, ban.limit * 2
                    self.banned.update(dict.fromkeys(new))
                if ban.last > 50:
                    rows = graph.rows()
                if rows > self.budget.nodes:
                    self.sizes.append(rows)
                    return Stop.NODES
                if time.perf_counter() - self.started > self.budget.seconds:
                    return Stop.TIME
            updated |= self._settle(graph)
            self.sizes.append(graph.rows())
            if not updated and not held:
                return Stop.SATURATED
            if self.sizes[-1] > self.budget.nodes:
                return Stop.NODES
        return Stop.ITERATIONS

    def _settle(self, graph: Session) -> bool:
        """Analyses and shrinking rules until nothing changes; whether anything shrank."""
        shrank = False
        for _ in range(_SETTLE):
            for _ in range(_SETTLE):
                if not self._step(graph, "analysis"):
                    break
            if not self._step(graph, "shrink"):
                break
            shrank = True
        return shrank

    def _step(self, graph: Session, ruleset: str) -> bool:
        step = graph.step(ruleset)
        if ruleset != "analysis":
            for name, count in step.matches.items():
                name = rule_name(name)
                self.matches[name] = self.matches.get(name, 0) + count
        return step.updated

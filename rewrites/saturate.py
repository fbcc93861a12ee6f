"""Turns an encoded kernel and rules into a saturated e-graph, within a budget, and says how that went.

Phases: analyses to a fixpoint; index arithmetic to its normal form; then rounds in which each rule that makes e-nodes runs once, between
which those that make none run freely. Instruction selection works on what the search has chosen. egglog has no limit inside an
iteration, so each rule that makes e-nodes is a ruleset of its own: one whose matches outgrow its limit is banned for some rounds
(Willsey et al. 2021, the back-off scheduler of egg), and one that is foreseen to burst the node limit does not run. All limits are counts,
and time is only a safety net.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from rewrites.adapter import EGraphError, Frozen, RefusedCommand, Session, session
from rewrites.compile import rule_name
from rewrites.encode import Encoding
from rewrites.gather import Gathered
from rewrites.program import Program, program_of
from rewrites.rule import Rule
from rewrites.stage import Ruleset, Stage
from rewrites.substitute import with_substitutions


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

    Seconds are of this thread's processor time: what else the machine does must not change a result.

    >>> Budget(seconds=1.0, nodes=15_000).rounds
    12
    """

    seconds: float = 1.0
    nodes: int = 8_000
    rounds: int = 12
    matches: int = 200


@dataclass(frozen=True, slots=True)
class Growth:
    """What a rule added to an e-graph: the e-nodes that it was the first to make, and its matches."""

    rule: str
    nodes: int
    matches: int


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
    def growth(self) -> tuple[Growth, ...]:
        """What each rule that matched added, most e-nodes first: who is to blame where a limit stopped the search."""
        sources = () if self.frozen is None else self.frozen.sources
        made = Counter(self.rules[number - 1] for number in sources if number)
        return tuple(
            sorted((Growth(name, made[name], count) for name, count in self.matches), key=lambda g: (-g.nodes, -g.matches, g.rule))
        )

    @property
    def growing(self) -> tuple[str, ...]:
        """Where a limit stopped it: the rules that grew the graph most."""
        return () if self.stop is Stop.SATURATED else tuple(g.rule for g in self.growth[:5])


_BAN_ROUNDS: Final = 2
_SETTLE: Final = 8
BURST: Final = 1.25
"""How far beyond the limit of nodes a round may end; one that ends farther is undone."""
UNDONE: Final = 3
"""Rounds that may be undone before the search ends."""
FACTS: Final = 8
"""Rows of analyses that may come on each e-node of the limit."""


def saturate(encoding: Encoding, rules: Sequence[Rule], budget: Budget | None = None) -> Saturation:
    """Saturates the kernel's terms under the rules (all of them licensed: the caller has chosen by flags).

    A contradiction or a fault inside egglog is a Saturation that FAILED; a rule that egglog does not take raises RefusedCommand.
    """
    whole, sources = with_substitutions(encoding, rules)
    return _saturated(whole, sources, program_of(rules), False, budget or Budget())


def select(chosen: Gathered, rules: Sequence[Rule], budget: Budget | None = None) -> Saturation:
    """Instruction selection on terms that a search has chosen: rules of the family `select`, and those that only change an order.

    It comes after the search and not inside: a product of a hundred forms would give a fused node for each.
    """
    program = program_of(rules)
    return _saturated(chosen.encoding, chosen.sources, program, True, budget or Budget())


def selects(rules: Sequence[Rule]) -> bool:
    """Whether there is any rule for `select` to run."""
    return bool(program_of(rules).selection)


def _saturated(encoding: Encoding, sources: Sequence[int], program: Program, selection: bool, budget: Budget) -> Saturation:
    started = time.perf_counter()
    names = frozenset(term.name for term in encoding.terms)
    stage = program.stage(names, selection)
    run = _Run(budget, stage)
    frozen: Frozen | None = None
    try:
        with session(stage.commands, stage.program, stage.at_first(names)) as graph:
            run.started = graph.seconds  # loading rules is no part of the search
            graph.insert(encoding.terms, sources, tuple(encoding.variables.values()), encoding.roots, encoding.facts)
            run.present = graph.rows().present
            stop = run.phases(graph)
            frozen = graph.freeze()
        message = ""
    except RefusedCommand:
        raise
    except EGraphError as error:
        stop, message = Stop.FAILED, error.message
    matches = tuple(sorted(run.matches.items(), key=lambda item: (-item[1], item[0])))
    seconds = time.perf_counter() - started
    return Saturation(stop, frozen, tuple(run.sizes), matches, tuple(run.banned), program.names, seconds, message)


@dataclass(slots=True)
class _Ban:
    """A rule's history: its match limit, the round in which it may run again, and its last run's matches at the rows then."""

    limit: int
    until: int = 0
    last: int = 0
    rows: int = 0


class _Halt(Exception):
    """A limit was reached."""

    def __init__(self, stop: Stop) -> None:
        super().__init__()
        self.stop = stop


@dataclass(slots=True)
class _Run:
    """One saturation under way."""

    budget: Budget
    stage: Stage
    started: float = 0.0
    rows: int = 0
    present: frozenset[str] = frozenset()
    undone: int = 0
    changes: int = 0
    ran: dict[str, int] = field(default_factory=dict[str, int])
    """The changes that there had been when a ruleset last ran: where there have been none since, it would find nothing."""
    steps: list[Ruleset] = field(default_factory=list[Ruleset])
    sizes: list[int] = field(default_factory=list[int])
    matches: dict[str, int] = field(default_factory=dict[str, int])
    banned: dict[str, None] = field(default_factory=dict[str, None])

    def phases(self, graph: Session) -> Stop:
        """Runs all phases; why the last stopped."""
        try:
            self._settle(graph)
            if self.stage.index:
                self._rounds(graph, self.stage.index)
            return self._rounds(graph, self.stage.rulesets)
        except _Halt as halt:
            self.sizes.append(self.rows)
            return halt.stop

    def _rounds(self, graph: Session, rulesets: Sequence[str]) -> Stop:
        """Rounds in which each rule that is not banned runs once; a round that bursts the limit by far is undone, without its culprit."""
        bans = {name: _Ban(self.budget.matches) for name in rulesets}
        for number in range(self.budget.rounds):
            begun = len(self.steps)
            try:
                updated, waiting, full = self._round(graph, bans, number)
            except _Halt as halt:
                if halt.stop is not Stop.NODES or self.rows <= BURST * self.budget.nodes:
                    raise
                culprit = bans.get(self.steps[-1].name)
                del self.steps[begun:]
                graph.replay(self.steps)
                self.ran.clear()
                self._count(graph)
                self.undone += 1
                if culprit is None or self.undone > UNDONE:
                    raise
                culprit.until = self.budget.rounds
                continue
            self.sizes.append(self.rows)
            if not updated and not waiting:
                return Stop.NODES if full else Stop.SATURATED
        return Stop.ITERATIONS

    def _round(self, graph: Session, bans: dict[str, _Ban], number: int) -> tuple[bool, bool, bool]:
        """One round: whether anything changed, whether a rule waits out a ban, whether the node limit holds one back."""
        updated = waiting = full = False
        for ruleset, ban in bans.items():
            foreseen = max(1, ban.last) * (self.rows / ban.rows) ** 2 if ban.rows else 0
            if ban.until > number:
                waiting, full = waiting or ban.until < self.budget.rounds, full or ban.until >= self.budget.rounds
                continue
            if self.rows + foreseen > 2 * self.budget.nodes:
                full = True
                continue
            ban.rows, ban.last = max(1, self.rows), 0
            if not self.stage.can_match(ruleset, self.present):
                continue
            new = self._step(graph, ruleset)
            if new is None:
                continue
            updated, ban.last = True, sum(new.values())
            if ban.last > ban.limit:
                ban.until, ban.limit = number + 1 + _BAN_ROUNDS, ban.limit * 2
                self.banned.update(dict.fromkeys(new))
        return updated | self._settle(graph), waiting, full

    def _settle(self, graph: Session) -> bool:
        """Analyses and shrinking rules until nothing changes; whether anything shrank."""
        shrank = False
        for _ in range(_SETTLE):
            for _ in range(_SETTLE):
                if self._step(graph, "analysis") is None:
                    break
            if self._step(graph, "shrink") is None:
                break
            shrank = True
        return shrank

    def _step(self, graph: Session, name: str) -> dict[str, int] | None:
        """Runs a ruleset once: the matches of each rule, or None where it changed nothing. Stops everything at a limit."""
        ruleset = self.stage.ruleset(name, self.present)
        changes = self.changes
        if self.ran.get(ruleset.name) == changes:
            return None
        self.ran[ruleset.name] = changes
        step = graph.step(ruleset)
        if not step.updated:
            return None
        self.changes += 1
        self.steps.append(ruleset)  # what changed nothing need not be run again where a round is undone
        found: dict[str, int] = {}
        if name != "analysis":
            for command, count in step.matches.items():
                rule = rule_name(command)
                found[rule] = found.get(rule, 0) + count
                self.matches[rule] = self.matches.get(rule, 0) + count
        if self._count(graph):
            raise _Halt(Stop.NODES)
        if graph.seconds - self.started > self.budget.seconds:
            raise _Halt(Stop.TIME)
        return found

    def _count(self, graph: Session) -> bool:
        """Counts e-nodes; whether there are too many, or too many facts."""
        rows = graph.rows()
        self.rows, self.present = rows.nodes, rows.present
        return rows.nodes > self.budget.nodes or rows.facts > FACTS * self.budget.nodes

"""Turns terms and rules into calls of egglog, and its e-graph back into plain rows: the only module that touches egglog.

A loaded e-graph (declarations and rules) is kept a thread and set of rules; each kernel works between a push and a pop. What rulesets a
kernel was the first to need, the next one finds loaded. egglog panics are caught, the e-graph that had one is thrown away.
"""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from kernel_ir.errors import KernelError
from rewrites.declare import PROVENANCE, SIGNATURES, VIA
from rewrites.native import bindings
from rewrites.stage import Definition, Ruleset
from rewrites.terms import Arg, Term, Variable

KEPT: Final = 8
"""Loaded e-graphs kept a thread."""
LIFETIME: Final = 100
"""Kernels after which an e-graph is loaded anew: egglog leaks some 50 KB at each pop."""


class EGraphError(KernelError):
    """egglog stopped with an error: a contradiction that a rule made, or a fault of its own."""


class RefusedCommand(EGraphError):
    """egglog does not take a declaration or rule: no kernel can be optimized with it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one iteration of a ruleset did: whether anything changed, matches by rule."""

    updated: bool
    matches: dict[str, int]


_NOTHING: Final = Step(False, {})


@dataclass(frozen=True, slots=True)
class Rows:
    """How much an e-graph holds: e-nodes, rows of analyses, the constructors that have any e-node."""

    nodes: int
    facts: int
    present: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something known of terms: a row of a relation (`Le`, with a dtype code `nw_mul`), of a function (`lo`, `flo`), a `union`.

    `value` is the function's: an integer, or of `flo` and `fhi` a float.
    """

    name: str
    terms: tuple[int, ...]
    value: int | float | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    """A saturated e-graph as plain rows.

    Node `i` is `nodes[i]`, its E columns are class numbers, and it lies in class `classes[i]`. `free` is the bitmask of free variables of
    each class, `roots` the class of each root, `sources` the number of the rule that first made each node (0: the input), `via` that of the
    rule that first found a class to be a form that was there already.
    """

    nodes: tuple[Term, ...]
    classes: tuple[int, ...]
    free: tuple[int, ...]
    roots: dict[int, int]
    sources: tuple[int, ...]
    via: dict[int, int] = field(default_factory=dict[int, int])


@dataclass(slots=True)
class _Loaded:
    """An e-graph, the kernels that it had, the rulesets that are defined by name, those that a pop took away, seconds of defining them."""

    egraph: Any
    kernels: int = 0
    defined: set[str] = field(default_factory=set[str])
    lost: dict[str, Definition] = field(default_factory=dict[str, Definition])
    loading: float = 0.0


class _Threads(threading.local):
    def __init__(self) -> None:
        self.loaded: OrderedDict[tuple[str, ...], _Loaded] = OrderedDict()


_threads: Final = _Threads()


@dataclass(frozen=True, slots=True)
class Session:
    """One kernel's stay in a loaded e-graph."""

    _loaded: _Loaded
    _names: Iterator[int] = field(repr=False)
    _inserted: list[Any] = field(default_factory=list[Any], repr=False)
    _marked: list[tuple[Ruleset | str, ...]] = field(default_factory=list["tuple[Ruleset | str, ...]"], repr=False)
    """The steps after which a copy of the e-graph is kept to go back to: at most one."""
    _levels: list[list[Definition]] = field(default_factory=list[list[Definition]], repr=False)
    """What was defined since each push."""

    @property
    def egraph(self) -> Any:
        return self._loaded.egraph

    @property
    def seconds(self) -> float:
        """Seconds of this thread's processor time, less those that loading rulesets took."""
        return time.thread_time() - self._loaded.loading

    def insert(
        self, terms: Sequence[Term], sources: Sequence[int], variables: Sequence[Variable], roots: Sequence[int], facts: Sequence[Fact]
    ) -> None:
        """Adds terms (children first) with the numbers of the rules that made them, their variables' bits and ranges, roots and facts.

        All is one rule whose head is a chain of lets: three times faster than a command a term.
        """
        egg = bindings()
        span = egg.RustSpan("", 0, 0)

        def column(arg: Arg, sort: str) -> Any:
            match sort:
                case "E":
                    return egg.Var(span, f"n{arg}")
                case "X":
                    return egg.Call(span, "Named", [egg.Lit(span, egg.String(str(arg)))])
                case "A":
                    return egg.Call(span, "Arg", [egg.Lit(span, egg.String(str(arg)))])
                case "String":
                    return egg.Lit(span, egg.String(str(arg)))
                case _:
                    return number(int(arg))

        def number(value: int) -> Any:
            return egg.Lit(span, egg.Int(value))

        def term(value: int) -> Any:
            return egg.Var(span, f"n{value}")

        actions: list[Any] = []
        for i, ((name, args), source) in enumerate(zip(terms, sources, strict=True)):
            columns = [column(a, sort) for a, sort in zip(args, SIGNATURES[name], strict=True)]
            actions.append(egg.Let(span, f"n{i}", egg.Call(span, name, columns)))
            actions.append(egg.Set(span, PROVENANCE + name, columns, number(source)))
        for x in variables:
            key = [column(x.name, "X")]
            actions.append(egg.Set(span, "bit", key, number(1 << x.bit)))
            actions.append(egg.Set(span, "XLo", key, term(x.lo)))
            actions.append(egg.Set(span, "XHi", key, term(x.hi)))
        for i, root in enumerate(roots):
            actions.append(egg.Union(span, egg.Call(span, "Root", [number(i)]), term(root)))
        for fact in facts:
            keys = ([] if fact.code is None else [number(fact.code)]) + [term(i) for i in fact.terms]
            if fact.name == "union":
                actions.append(egg.Union(span, keys[0], keys[1]))
            elif fact.value is None:
                actions.append(egg.Expr_(span, egg.Call(span, fact.name, keys)))
            else:
                value = egg.Lit(span, egg.Float(fact.value)) if isinstance(fact.value, float) else number(fact.value)
                actions.append(egg.Set(span, fact.name, keys, value))
        ruleset = f"insert{next(self._names)}"
        rule = egg.Rule(span, actions, [], ruleset, ruleset)
        run = egg.RunSchedule(egg.Run(span, egg.RunConfig(ruleset)))
        self._inserted.extend((egg.AddRuleset(span, ruleset), egg.RuleCommand(rule), run))
        self._run(*self._inserted)

    def step(self, ruleset: Ruleset | str) -> Step:
        """Runs one iteration of a ruleset, which is defined first if it is not."""
        if isinstance(ruleset, Ruleset):
            self.define((ruleset,))
            ruleset = ruleset.name
        (output,) = self._run(_iteration(ruleset))
        report = output.report
        if not report.updated:
            return _NOTHING
        return Step(True, {name: n for name, n in report.num_matches_per_rule.items() if n})

    def define(self, rulesets: Sequence[Ruleset]) -> None:
        """Defines rulesets: for this kernel, and, before `enter`, for all."""
        for ruleset in rulesets:
            if ruleset.name not in self._loaded.defined:
                self._define(ruleset.definitions)

    def _define(self, definitions: Sequence[Definition]) -> None:
        defined = self._loaded.defined
        new = [one for one in definitions if one.name not in defined]
        started = time.thread_time()
        _command(self.egraph, *(command for one in new for command in one.commands))
        self._loaded.loading += time.thread_time() - started
        defined.update(one.name for one in new)
        if self._levels:
            self._levels[-1] += new

    def enter(self) -> None:
        """Remembers the e-graph as it is, which at first is the rules alone."""
        egg = bindings()
        if not self._levels:
            self._define(tuple(self._loaded.lost.values()))
            self._loaded.lost.clear()
        self._run(egg.Push(1))
        self._levels.append([])

    def leave(self) -> None:
        """Goes back to the rules alone."""
        self._pop(1 + len(self._marked))
        self._marked.clear()

    def _pop(self, times: int) -> None:
        egg = bindings()
        self._run(egg.Pop(egg.RustSpan("", 0, 0), times))
        for _ in range(times):
            gone = {one.name: one for one in self._levels.pop()}
            self._loaded.defined.difference_update(gone)
            self._loaded.lost.update(gone)

    def replay(self, rulesets: Sequence[Ruleset | str]) -> None:
        """Goes back to an earlier state: what was inserted, after these steps.

        A copy of the e-graph at each round, to go back to, would cost more than the rare need to run the steps again; but who comes back
        once often does again, with another rule too many: for that there is a copy (a tenth of the time of running the steps).
        """
        steps = tuple(rulesets)
        if self._marked == [steps]:
            self._pop(1)
        else:
            self.leave()
            self.enter()
            self._run(*self._inserted)
            for ruleset in rulesets:
                self.step(ruleset)
            self._marked.append(steps)
        self.enter()

    def rows(self) -> Rows:
        """How much the e-graph holds."""
        egg = bindings()
        (output,) = self._run(egg.PrintSize(egg.RustSpan("", 0, 0), None))
        nodes = facts = 0
        present: set[str] = set()
        for name, size in output.sizes:
            if name in SIGNATURES:
                nodes += size
                if size:
                    present.add(name)
            elif not name.startswith(PROVENANCE):
                facts += size
        return Rows(nodes, facts, frozenset(present))

    def roots(self) -> dict[int, int]:
        """The class of each root, numbered as they appear: what `freeze` tells of them, and nothing else."""
        numbers: dict[Any, int] = {}
        rows = self.egraph.freeze().functions["Root"].rows
        return {self.egraph.value_to_i64(row.inputs[0]): numbers.setdefault(row.output, len(numbers)) for row in rows}

    def freeze(self) -> Frozen:
        """The e-graph as plain rows."""
        functions = self.egraph.freeze().functions
        reader = _Reader(self.egraph, functions)
        nodes: list[Term] = []
        classes: list[int] = []
        sources: list[int] = []
        for name, sorts in SIGNATURES.items():
            rows = functions[name].rows if name in functions else ()
            if not rows:
                continue
            source = {tuple(row.inputs): self.egraph.value_to_i64(row.output) for row in functions[PROVENANCE + name].rows}
            for row in rows:
                nodes.append(Term(name, reader.columns(row.inputs, sorts)))
                classes.append(reader.number(row.output))
                sources.append(source.get(tuple(row.inputs), 0))
        free = [0] * len(reader.numbers)
        for row in functions["free"].rows:
            if row.inputs[0] in reader.numbers:
                free[reader.numbers[row.inputs[0]]] = self.egraph.value_to_i64(row.output)
        roots = {self.egraph.value_to_i64(row.inputs[0]): reader.numbers[row.output] for row in functions["Root"].rows}
        found = functions[VIA].rows
        via = {reader.numbers[r.inputs[0]]: self.egraph.value_to_i64(r.output) for r in found if r.inputs[0] in reader.numbers}
        return Frozen(tuple(nodes), tuple(classes), tuple(free), roots, tuple(sources), via)

    def _run(self, *commands: Any) -> list[Any]:
        return self.egraph.run_program(*commands)


class _Reader:
    """Reads egglog values: dense class numbers in order of appearance, names and numbers once each."""

    def __init__(self, egraph: Any, functions: Any) -> None:
        self.numbers: dict[Any, int] = {}
        self._integers: dict[Any, int] = {}
        self._egraph = egraph
        self._strings: dict[Any, str] = {}
        self._named = {sort: {r.output: r.inputs[0] for r in functions[f].rows} for sort, f in (("X", "Named"), ("A", "Arg"))}

    def number(self, value: Any) -> int:
        return self.numbers.setdefault(value, len(self.numbers))

    def columns(self, values: Sequence[Any], sorts: tuple[str, ...]) -> tuple[Arg, ...]:
        return tuple(self._column(value, sort) for value, sort in zip(values, sorts, strict=True))

    def _column(self, value: Any, sort: str) -> Arg:
        match sort:
            case "E":
                return self.numbers.setdefault(value, len(self.numbers))
            case "i64":
                if value not in self._integers:
                    self._integers[value] = self._egraph.value_to_i64(value)
                return self._integers[value]
            case "X" | "A":
                value = self._named[sort][value]
            case _:
                pass
        if value not in self._strings:
            self._strings[value] = self._egraph.value_to_string(value)
        return self._strings[value]


def _counter() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


_names: Final = _counter()


@functools.lru_cache(4096)
def _iteration(ruleset: str) -> Any:
    """The command that runs one iteration of a ruleset."""
    egg = bindings()
    span = egg.RustSpan("", 0, 0)
    return egg.RunSchedule(egg.Run(span, egg.RunConfig(ruleset)))


def _command(egraph: Any, *commands: str) -> None:
    """Runs commands given as text. Each span copies the whole text it lies in, so each is parsed by itself."""
    for command in commands:
        try:
            egraph.run_program(*egraph.parse_program(command))
        except BaseException as error:
            if _is_egglogs(error):
                raise RefusedCommand(f"egglog refuses {command}: {error}") from error
            raise


def _load(commands: tuple[str, ...]) -> Any:
    egraph: Any = bindings().EGraph()
    _command(egraph, *commands)
    return egraph


def _is_egglogs(error: BaseException) -> bool:
    """Whether egglog is at fault. A Rust panic derives from BaseException alone: its module tells."""
    egg = bindings()
    return isinstance(error, egg.EggSmolError) or type(error).__module__ == "pyo3_runtime"


@contextmanager
def session(commands: tuple[str, ...], program: str = "", needed: Sequence[Ruleset] = ()) -> Generator[Session, None, None]:
    """An e-graph with these declarations and rules, for one kernel; raises EGraphError for whatever goes wrong inside egglog.

    It is shared by those who give the same commands and the same program, whose rulesets of one name are the same. Those `needed` from
    the start are defined once for all its kernels.
    """
    kept = _threads.loaded
    key = (*commands, program)
    loaded = kept.pop(key, None)
    if loaded is None or loaded.kernels >= LIFETIME:
        lost = {} if loaded is None else loaded.lost
        loaded = _Loaded(_load(commands), lost=lost)
    try:
        own = Session(loaded, _names)
        own.define(needed)
        own.enter()
        yield own
        own.leave()
    except BaseException as error:
        if _is_egglogs(error):
            raise EGraphError(f"egglog stopped: {error}") from error
        raise
    loaded.kernels += 1
    kept[key] = loaded
    while len(kept) > KEPT:
        kept.popitem(last=False)

"""Turns a rule into ground terms: both sides over fresh variables, and the facts that its guards are.

A variable that depends on no index is a parameter, one that does is a read of an array of its own at those indices. What a guard knows to
be a literal becomes one: a few choices stand for all. A `nowrap` says that values are small: so are then its variables.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy

from kernel_ir.dtypes import I64, DType
from kernel_ir.nodes import const
from kernel_ir.ops import OPS
from rewrites.adapter import Fact
from rewrites.declare import CODES, class_letter, op_constructor
from rewrites.guards import COMPARISONS, SCOPE, Guard
from rewrites.matching import substituted
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, subpatterns, variables
from rewrites.prove_meaning import guard_holds
from rewrites.prove_values import Samples, assignments, dependence
from rewrites.rule import Rule
from rewrites.terms import Dag, Variable

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype

LITERALS: Final = (12, 3, 7, 24, 4, 5, 48, 16, 2, 8, 1, 0, -1, -5, -12, -13)
"""What a variable that a guard knows to be a literal is replaced by, the least special first."""
CHOICES: Final = 2
"""Choices of such literals that are tried."""
SMALL: Final = 1 << 9
"""A product of three such numbers fits i32."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A rule with a dtype for each type variable, and a number for each literal of its guards."""

    rule: Rule
    dtypes: Mapping[int, DType]
    literals: Mapping[str, float]
    depends: Mapping[str, frozenset[str]] = field(repr=False)

    @property
    def key(self) -> tuple[object, ...]:
        """Grounds of one key may share an e-graph: they assume the same of variables of the same names."""
        assumed = [(g.kind, *(self._spelled(a) for a in g.args)) for g in self.rule.guards if g.kind not in SCOPE]
        return tuple(sorted(map(str, assumed)))

    def _spelled(self, p: Pattern) -> str:
        match p:
            case Var():
                where = ",".join(sorted(self.depends[p.name]))
                return f"{self.literals.get(p.name, p.name)}:{self.dtypes[p.type].name}[{where}]"
            case Lit():
                return f"{p.value}:{self.dtypes[p.type].name}"
            case Apply():
                return f"{p.op}({', '.join(map(self._spelled, p.args))})"
            case _:
                return str(p)


def grounds(rule: Rule, every_type: bool = True) -> tuple[Ground, ...]:
    """The rule for each choice of dtypes (or one of each class: f32, i32, bool) and of literals; none where no literals meet the guards."""
    depends = dependence(rule)
    found: dict[tuple[object, ...], Ground] = {}
    for dtypes in assignments(rule):
        key = tuple(class_letter(t) for t in dtypes.values()) if not every_type else tuple(dtypes.items())
        if key in {k[0] for k in found}:
            continue
        for n, literals in enumerate(_literals(rule, dtypes)):
            found[key, n] = Ground(rule, dtypes, literals, depends)
    return tuple(found.values())


def _literals(rule: Rule, dtypes: Mapping[int, DType]) -> list[dict[str, float]]:
    """A few choices of numbers for the variables that guards know to be literals, which meet all guards about these alone."""
    types = {a.name: dtypes[a.type] for g in rule.guards if g.kind in ("is_const", "pow2", "divides") for a in g.args if isinstance(a, Var)}
    if not types:
        return [{}]
    count = len(LITERALS) ** len(types)
    picks = np.array(list(itertools.product(LITERALS, repeat=len(types)))).reshape(count, len(types))
    # The most general first: few repetitions, early numbers.
    rank = {v: n for n, v in enumerate(LITERALS)}
    order = sorted(range(count), key=lambda i: (-len(set(picks[i].tolist())), sum(rank[v] for v in picks[i].tolist())))
    values = {name: picks[order, n].astype(t.numpy) for n, (name, t) in enumerate(types.items())}
    samples = Samples(values, {}, {}, dtypes)
    good = np.ones(count, bool)
    for g in rule.guards:
        if g.kind not in (*SCOPE, "nowrap") and all(v in types for a in g.args for v in variables(a)):
            good &= guard_holds(g, samples)
    chosen: list[dict[str, float]] = []
    for i in np.flatnonzero(good).tolist():
        one = {name: v[i].item() for name, v in values.items()}
        if all(one[name] != other[name] for other in chosen for name in one):
            chosen.append(one)
        if len(chosen) == CHOICES:
            break
    return chosen


@dataclass(slots=True)
class Room:
    """The terms, index variables and facts of grounds that share an e-graph; the roots are the two sides of each."""

    dag: Dag = field(default_factory=Dag)
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    facts: dict[Fact, None] = field(default_factory=dict[Fact, None])
    roots: list[int] = field(default_factory=list[int])

    def add(self, ground: Ground) -> None:
        """Adds both sides, and the guards as facts."""
        builder = _Builder(self, ground)
        self.roots += builder.term(ground.rule.lhs), builder.term(ground.rule.rhs)
        self.facts.update(dict.fromkeys(builder.known()))

    def variable(self, index: str, lo: int, hi: int) -> str:
        """The variable of an index of this range."""
        name = f"{index}:{lo}:{hi}"
        self.variables.setdefault(name, Variable(name, len(self.variables), lo, hi, (index,)))
        return name


@dataclass(slots=True)
class _Builder:
    room: Room
    ground: Ground
    scopes: dict[str, str] = field(default_factory=dict[str, str])

    def term(self, p: Pattern) -> int:
        """The ground term of a pattern."""
        add, dtypes = self.room.dag.add, self.ground.dtypes
        match p:
            case Var():
                return self._variable(p)
            case Index():
                return add("Ix", self.scopes[p.name])
            case Lit():
                return add("Lit", CODES[dtypes[p.type].name], const(p.value, dtypes[p.type]).bits)
            case Apply():
                t = dtypes[p.type]
                return add(op_constructor(OPS[p.op], t), CODES[t.name], *[self.term(a) for a in p.args])
            case Reduction():
                lo, hi = self.term(p.lo), self.term(p.hi)
                # One variable for an index, whatever its ranges: a rule that splits a range speaks of one.
                if p.index not in self.scopes:
                    self.scopes[p.index] = self.room.variable(p.index, lo, hi)
                x = self.scopes[p.index]
                bodies = [self.term(b) for b in p.bodies]
                return add(f"R_{p.kind}", CODES[dtypes[p.type].name], x, lo, hi, *bodies)
            case At():
                return substituted(self.term(p.of), self.scopes[p.index], self.term(p.to), self.room.dag)

    def _variable(self, p: Var) -> int:
        add, t = self.room.dag.add, self.ground.dtypes[p.type]
        if p.name in self.ground.literals:
            return add("Lit", CODES[t.name], const(self.ground.literals[p.name], t).bits)
        places = [self.scopes[i] for i in sorted(self.ground.depends.get(p.name, ()))]
        if not places and any(g.kind == "varies" and p in g.args for g in self.ground.rule.guards):
            places = [self.room.variable("point", *(add("Par", f"point.{end}", CODES[I64.name]) for end in ("lo", "hi")))]
        if not places:
            return add("Par", p.name, CODES[t.name])
        return add(f"Load{len(places)}", CODES[t.name], p.name, *(add("Ix", x) for x in places))

    def known(self) -> Iterator[Fact]:
        """What the guards say of the terms."""
        rule = self.ground.rule
        bounds = _Intervals(self.ground)
        for g in rule.guards:
            if g.kind not in (*SCOPE, "pow2", "divides"):
                yield from self._guard(g)
        for p in dict.fromkeys(x for side in (rule.lhs, rule.rhs) for x in subpatterns(side) if isinstance(x, Var)):
            if p.name in bounds.low:
                yield Fact("lo", (self.term(p),), bounds.low[p.name])
            if p.name in bounds.high:
                yield Fact("hi", (self.term(p),), bounds.high[p.name])

    def _guard(self, g: Guard) -> Iterator[Fact]:
        a = g.args[0]
        floating = self.ground.dtypes[a.type].is_float
        if g.kind == "nowrap":
            for p in subpatterns(a):
                if isinstance(p, Apply) and p.op in ("add", "sub", "mul", "neg"):
                    code = CODES[self.ground.dtypes[p.type].name]
                    yield Fact(f"nw_{p.op}", tuple(self.term(x) for x in p.args), code=code)
        elif g.kind in COMPARISONS and not floating:
            yield from self._order(g.kind, *g.args)
        elif floating and g.kind in COMPARISONS:
            yield from self._compared(g.kind, *g.args)
        elif floating:
            yield Fact(_FACTS[g.kind], (self.term(a),))
        elif g.kind == "nonzero":
            yield Fact("NonZero", (self.term(a),))

    def _compared(self, kind: str, a: Pattern, b: Pattern) -> Iterator[Fact]:
        """A float and a literal."""
        if not isinstance(b, Lit):
            return
        for name in {"gt": ("Positive",), "ge": ("NonNeg", "NotNan"), "ne": ("NonZero",)}.get(kind, ()) if b.value == 0 else ():
            yield Fact(name, (self.term(a),))
        if kind in ("le", "ge"):
            yield Fact("fhi" if kind == "le" else "flo", (self.term(a),), float(b.value))

    def _order(self, kind: str, a: Pattern, b: Pattern) -> Iterator[Fact]:
        match kind:
            case "gt" | "ge":
                yield from self._order({"gt": "lt", "ge": "le"}[kind], b, a)
            case "lt" | "le":
                yield Fact("Lt" if kind == "lt" else "Le", (self.term(a), self.term(b)))
            case "eq":
                yield Fact("union", (self.term(a), self.term(b)))
            case _:
                if isinstance(b, Lit) and b.value == 0:
                    yield Fact("NonZero", (self.term(a),))


_FACTS: Final = {"nonneg": "NonNeg", "positive": "Positive", "nonzero": "NonZero", "finite": "Finite", "notnan": "NotNan"}


class _Intervals:
    """What the guards say of the range of each integer variable."""

    def __init__(self, ground: Ground) -> None:
        self.low: dict[str, int] = {}
        self.high: dict[str, int] = {}
        self.ground = ground
        ints = {
            p.name
            for side in (ground.rule.lhs, ground.rule.rhs)
            for p in subpatterns(side)
            if isinstance(p, Var) and ground.dtypes[p.type].is_int
        }
        self.free = ints - set(ground.literals)
        for g in ground.rule.guards:
            if g.kind == "nowrap":
                for name in variables(g.args[0]):
                    self._within(name, -SMALL, SMALL)
        for _ in range(3):  # an order may follow from another
            for g in ground.rule.guards:
                match g.kind:
                    case "lt" | "le":
                        self._below(g.args[0], g.args[1], int(g.kind == "lt"))
                    case "gt" | "ge":
                        self._below(g.args[1], g.args[0], int(g.kind == "gt"))
                    case "nonneg" | "positive" if isinstance(g.args[0], Var):
                        self._within(g.args[0].name, int(g.kind == "positive"), None)
                    case _:
                        pass

    def _within(self, name: str, low: int | None, high: int | None) -> None:
        if name not in self.free:
            return
        if low is not None:
            self.low[name] = max(low, self.low.get(name, low))
        if high is not None:
            self.high[name] = min(high, self.high.get(name, high))

    def _below(self, a: Pattern, b: Pattern, step: int) -> None:
        low, high = self._end(a, self.low), self._end(b, self.high)
        if isinstance(b, Var) and low is not None:
            self._within(b.name, low + step, None)
        if isinstance(a, Var) and high is not None:
            self._within(a.name, None, high - step)

    def _end(self, p: Pattern, ends: Mapping[str, int]) -> int | None:
        match p:
            case Lit():
                return int(p.value)
            case Var():
                return int(self.ground.literals[p.name]) if p.name in self.ground.literals else ends.get(p.name)
            case _:
                return None

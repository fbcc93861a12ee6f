"""Turns a pair of terms into a rule: what both sides share becomes variables, as large as a proof allows; its types and guards widened."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from extract.mine_graph import Joined
from extract.suggest_general import generalised
from extract.suggest_repair import repaired
from kernel_ir.dtypes import BOOL, F32, F64, I32, I64, DType
from kernel_ir.errors import KernelError
from kernel_ir.fastmath import Flag, Flags
from kernel_ir.nodes import Const
from kernel_ir.ops import Types
from kernel_ir.surface import NOWHERE
from rewrites.books import load_book
from rewrites.declare import DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, result_dtype
from rewrites.derive import derivable
from rewrites.guards import Guard
from rewrites.pattern import Apply, Index, Lit, Pattern, Reduction, Var, subpatterns
from rewrites.rule import Rule
from rewrites.terms import Term
from rewrites.wording import rule_text

Holds = Callable[[Rule], bool]
CUTS: Final = 12
"""Choices of variables that are tried for a pair."""
MOST_NODES: Final = 40
_EXCLUDED: Final = (frozenset[Flag](), frozenset((Flag.NNAN,)), frozenset((Flag.NNAN, Flag.NINF)))
LICENCES: Final = (
    frozenset[Flag](),
    frozenset((Flag.NSZ,)),
    frozenset((Flag.NNAN,)),
    frozenset((Flag.NNAN, Flag.NSZ)),
    frozenset((Flag.NNAN, Flag.NINF, Flag.NSZ)),
    *(
        frozenset(flags) | more
        for more in _EXCLUDED
        for flags in (
            (Flag.CONTRACT,), (Flag.ARCP,), (Flag.REASSOC,), (Flag.AFN,), (Flag.AFN, Flag.ARCP), (Flag.REASSOC, Flag.AFN),
        )
    ),
)  # fmt: skip
"""Flags to try, those that give away least first."""
_FIRST: Final = (BOOL, I64, F32, F64, I32)
"""Type variables: those that every rule has first, as `elaborate` numbers them."""


class _TooLarge(Exception):
    """A side has too many nodes, or something that no rule can say."""


@dataclass(slots=True)
class Generaliser:
    """Makes rules of pairs of the joined graph, proved with `holds`, under no more than the licence."""

    joined: Joined
    licence: Flags
    holds: Holds
    free: Mapping[int, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.free = _free(self.joined)

    def rule(self, a: int, b: int) -> Rule | None:
        """The most general rule that holds of the pair, from the larger side to the smaller; None if none was proved."""
        for left, right in ((a, b), (b, a)):
            stated = (self._stated(left, right, cut, explicit) for explicit in (False, True) for cut in self._cuts(left, right))
            for rule in dict.fromkeys(rule for rule in stated if rule is not None):
                proved = self._licensed(rule) or repaired(rule, self.licence, self.holds)
                if proved is not None:
                    wider = generalised(proved, self.holds)
                    return wider if derivable(proved, (wider,)) else proved
        return None

    def _licensed(self, rule: Rule) -> Rule | None:
        """The rule under the first flags of the licence that suffice: a guard may not be known where the kernel stands."""
        floating = any(t.is_float for p in subpatterns(rule.lhs) for t in rule.types[p.type])
        for needs in LICENCES if floating else LICENCES[:1]:
            licensed = _with_text(replace(rule, needs=needs)) if needs <= self.licence else None
            if licensed is not None and self.holds(licensed):
                return licensed
        return None

    def _cuts(self, a: int, b: int) -> Iterator[frozenset[int]]:
        """Sets of classes to make variables of, the largest terms first; then with some of these opened up."""
        shared = self._shared(a, b)
        yield from itertools.islice(self._opened(shared), CUTS)

    def _shared(self, a: int, b: int) -> list[int]:
        """Classes that both sides have, largest terms first; those of literals apart."""
        left, right = self._below(a), self._below(b)
        classes = self.joined.classes
        both = {classes[n] for n in left} & {classes[n] for n in right} - {classes[a], classes[b]}
        literal = {classes[n] for n in (*left, *right) if self.joined.terms[n].name == "Lit"}
        heights = {classes[n]: len(self._below(n)) for n in (*left, *right)}
        return sorted(both - literal, key=lambda c: (-heights[c], c))

    def _opened(self, shared: list[int]) -> Iterator[frozenset[int]]:
        yield frozenset(shared)
        for count in (1, 2):
            for opened in itertools.combinations(shared, count):
                yield frozenset(shared) - frozenset(opened)

    def _below(self, number: int) -> tuple[int, ...]:
        found: dict[int, None] = {}
        stack = [number]
        while stack:
            n = stack.pop()
            if n not in found:
                found[n] = None
                stack += self.joined.terms[n].children
        return tuple(found)

    def _stated(self, a: int, b: int, cut: frozenset[int], explicit: bool) -> Rule | None:
        """The rule with these classes as variables; None where a side is a variable, or the left does not bind the right."""
        writer = _Writer(self.joined, cut, self.free, explicit)
        try:
            lhs, rhs = writer.pattern(a, frozenset()), writer.pattern(b, frozenset())
        except _TooLarge:
            return None
        names = [{p.name for p in subpatterns(side) if isinstance(p, Var)} for side in (lhs, rhs)]
        if not isinstance(lhs, Apply | Reduction) or not names[1] <= names[0] or lhs == rhs:
            return None
        guards = tuple(writer.guards(lhs, rhs))
        rule = Rule("mined", "mined", lhs, rhs, False, tuple(writer.types), guards, frozenset(), "", NOWHERE)
        return _with_text(rule)


def _with_text(rule: Rule) -> Rule | None:
    """The rule as a book would have it."""
    try:
        text = rule_text(rule)
        return replace(load_book(f"{text}\n")[0], family="mined")
    except KernelError:
        return None


@dataclass(slots=True)
class _Writer:
    joined: Joined
    cut: frozenset[int]
    free: Mapping[int, frozenset[str]]
    explicit: bool
    """Whether ranges are written out: a term may speak of their ends."""
    names: dict[int, str] = field(default_factory=dict[int, str])
    indices: dict[str, str] = field(default_factory=dict[str, str])
    types: list[tuple[DType, ...]] = field(default_factory=lambda: [(t,) for t in _FIRST])
    nodes: int = 0

    def pattern(self, number: int, around: frozenset[str]) -> Pattern:
        """The pattern of a term inside the loops over the variables `around`."""
        term = self.joined.terms[number]
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _TooLarge
        if self.joined.classes[number] in self.cut and term.name != "Lit":
            return self.variable(number)
        match term.name:
            case "Lit":
                dtype = DTYPES_BY_CODE[term.code]
                return Lit(Const(int(term.args[1]), dtype).value, _FIRST.index(dtype))
            case "Ix" if term.variables[0] in around:
                return Index(self.index(term.variables[0]), 1)
            case name if name in OP_OF_CONSTRUCTOR:
                args = tuple(self.pattern(c, around) for c in term.children)
                if OP_OF_CONSTRUCTOR[name].types is Types.BOOL:
                    self.types.append((BOOL,))
                    return Apply(OP_OF_CONSTRUCTOR[name].name, args, len(self.types) - 1, 0)
                result = _FIRST.index(result_dtype(name, term.code))
                return Apply(OP_OF_CONSTRUCTOR[name].name, args, _FIRST.index(DTYPES_BY_CODE[term.code]), result)
            case name if name.startswith("R_"):
                return self.reduction(term, around)
            case _:
                return self.variable(number)

    def reduction(self, term: Term, around: frozenset[str]) -> Pattern:
        x = term.variables[0]
        index = self.index(x)
        implicit = (Var(f"{index}.{end}", 1) for end in ("lo", "hi"))
        lo, hi = (self.pattern(c, around) for c in term.children[:2]) if self.explicit else implicit
        bodies = tuple(self.pattern(c, around | {x}) for c in term.children[2:])
        dtype: DType = DTYPES_BY_CODE[term.code]
        return Reduction(term.name[2:], index, lo, hi, bodies, _FIRST.index(dtype), _FIRST.index(result_dtype(term.name, term.code)))

    def variable(self, number: int) -> Var:
        home = self.joined.classes[number]
        name = self.names.setdefault(home, "abcdefghklmnopqrstuvwxyz"[len(self.names) % 24])
        term = self.joined.terms[number]
        return Var(name, _FIRST.index(result_dtype(term.name, term.code)))

    def index(self, x: str) -> str:
        return self.indices.setdefault(x, ("i", "j", "i2", "j2", "i3", "j3")[len(self.indices) % 6])

    def guards(self, lhs: Pattern, rhs: Pattern) -> Iterator[Guard]:
        """Of each variable, which indices it does not depend on."""
        used = {p.name: p for side in (lhs, rhs) for p in subpatterns(side) if isinstance(p, Var) and "." not in p.name}
        bound = {p.index for side in (lhs, rhs) for p in subpatterns(side) if isinstance(p, Reduction)}
        for home, name in self.names.items():
            for x, index in self.indices.items():
                if name in used and index in bound and x not in self.free[home]:
                    yield Guard("absent", (Index(index, 1), used[name]), NOWHERE)


def _free(joined: Joined) -> dict[int, frozenset[str]]:
    """The index variables that each class may depend on: what all of its terms read."""
    of: list[frozenset[str]] = []
    classes: dict[int, frozenset[str]] = {}
    for number, term in enumerate(joined.terms):
        inside = frozenset[str]().union(*(of[c] for c in term.children))
        own = frozenset(term.variables)
        of.append(inside | own if term.name in ("Ix", "Loc") else inside - own)
        home = joined.classes[number]
        classes[home] = classes.get(home, of[number]) & of[number]
    return classes

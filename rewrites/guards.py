"""The guard vocabulary: turns a guard of a rule into egglog conditions that hold only where the fact is known.

A float variable may be held to a closed interval of literals, `-4.0 <= x, x <= 4.0`: it lies there or is NaN (but `x >= 0.0`, a fact
of its own, excludes NaN). A comparison of integers is about mathematical integers: `a + b < n` compares the true sum. It is proved
from the intervals of its variables, or, between two plain operands, from an order fact (`Lt`, `Le`). Several ways to prove one guard
are several conditions, any of which will do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from kernel_ir.errors import Span
from rewrites.pattern import Apply, Index, Lit, Pattern, Var, subpatterns, variables

Sort = Literal["any", "int", "float", "number"]


@dataclass(frozen=True, slots=True)
class GuardKind:
    """One word of the vocabulary: how many arguments, of which sort, and what it says."""

    name: str
    arity: int
    sort: Sort
    says: str


GUARDS: Final[dict[str, GuardKind]] = {
    g.name: g
    for g in (
        GuardKind("is_const", 1, "any", "is a literal"),
        GuardKind("pow2", 1, "number", "is a literal power of two, whose reciprocal is exact if a float"),
        GuardKind("divides", 2, "int", "both are literals and the first divides the second"),
        GuardKind("nonneg", 1, "number", "is not below zero (a float may be -0 or NaN)"),
        GuardKind("positive", 1, "number", "is above zero (and no NaN)"),
        GuardKind("nonzero", 1, "number", "is not zero"),
        GuardKind("finite", 1, "float", "is neither infinite nor NaN"),
        GuardKind("notnan", 1, "float", "is no NaN"),
        GuardKind("nowrap", 1, "int", "each operation in it gives the mathematical result"),
        GuardKind("varies", 1, "any", "depends on an index: what is the same at every point is computed once, and not worth a rule"),
    )
}
SCOPE: Final = ("absent", "is_const", "varies")
"""Guards about what a term is, not about its value: a proof may take them to be true."""
WRAPPING: Final = ("add", "sub", "mul", "neg")
"""The operations that `nowrap` speaks of."""
COMPARISONS: Final = ("lt", "le", "gt", "ge", "eq", "ne")


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard: `kind` a name of GUARDS, a comparison of COMPARISONS, or "absent" (args: an index and a variable)."""

    kind: str
    args: tuple[Pattern, ...]
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """What compiling a guard needs: the text of a pattern, of a type's dtype code, its class, the constants, the left side's nodes."""

    term: Callable[[Pattern], str]
    code: Callable[[int], str]
    letter: Callable[[int], str]
    constants: frozenset[str]
    lhs: Pattern


Ways = tuple[tuple[str, ...], ...]
"""Alternatives, each a conjunction of egglog facts."""

_FACTS: Final = {"nonneg": "NonNeg", "positive": "Positive", "nonzero": "NonZero", "finite": "Finite", "notnan": "NotNan"}
_FLOAT_COMPARISONS: Final = {"gt": ("Positive",), "ge": ("NonNeg", "NotNan"), "ne": ("NonZero",)}


def conditions(guard: Guard, context: Context) -> Ways:
    """The ways in which egglog can know the guard."""
    a = guard.args[0]
    match guard.kind:
        case "absent":
            index, variable = guard.args
            assert isinstance(index, Index)
            return ((f"(= 0 (& (free {context.term(variable)}) (bit {index_name(index.name)})))",),)
        case "varies":
            return ((f"(!= 0 (free {context.term(a)}))",),)
        case "is_const":
            return ((_literal(a, context),),)
        case "pow2":
            return (_power_of_two(a, context),)
        case "divides":
            divisor, dividend = guard.args
            constants = (_literal(divisor, context), _literal(dividend, context))
            return ((*constants, f"(= 0 (% {bits_name(dividend)} {bits_name(divisor)}))"),)
        case "nowrap":
            return _nowrap(a, context)
        case kind if kind in COMPARISONS:
            return _comparison(kind, a, guard.args[1], context)
        case kind if context.letter(_type(a)) == "f" or kind == "nonzero":
            return ((f"({_FACTS[kind]} {context.term(a)})",),)
        case "nonneg":
            return ((f"(>= {_low(a, context)} 0)",),)
        case _:
            return ((f"(> {_low(a, context)} 0)",),)


def index_name(name: str) -> str:
    """The egglog variable of a reduction's index (sort X)."""
    return f"x_{name}"


def bits_name(p: Pattern) -> str:
    """The egglog variable of a constant's bits."""
    assert isinstance(p, Var)
    return f"bits_{p.name}"


def _type(p: Pattern) -> int:
    return p.type


def _literal(p: Pattern, context: Context) -> str:
    return f"(= {context.term(p)} (Lit {context.code(_type(p))} {bits_name(p)}))"


def _power_of_two(p: Pattern, context: Context) -> tuple[str, ...]:
    bits = bits_name(p)
    if context.letter(_type(p)) == "i":
        return (_literal(p, context), f"(> {bits} 0)", f"(= 0 (& {bits} (- {bits} 1)))")
    # A zero mantissa, and an exponent so far from both ends that value and reciprocal are normal in f32 as well.
    exponent = f"(& (>> {bits} 52) 2047)"
    return (_literal(p, context), f"(= 0 (& {bits} 4503599627370495))", f"(>= {exponent} 897)", f"(<= {exponent} 1149)")


def _comparison(kind: str, a: Pattern, b: Pattern, context: Context) -> Ways:
    if context.letter(_type(a)) == "f":
        if isinstance(b, Lit) and b.value == 0 and kind in _FLOAT_COMPARISONS:
            return (tuple(f"({fact} {context.term(a)})" for fact in _FLOAT_COMPARISONS[kind]),)
        return (_in_interval(kind, a, b, context),)
    if kind in ("gt", "ge"):
        return _comparison({"gt": "lt", "ge": "le"}[kind], b, a, context)
    if kind == "ne":
        zero = isinstance(b, Lit) and b.value == 0 and isinstance(a, Var)
        return ((f"(NonZero {context.term(a)})",),) if zero else (*_comparison("lt", a, b, context), *_comparison("lt", b, a, context))
    names = {*variables(a), *variables(b)}
    if names <= context.constants:
        symbol = {"lt": "<", "le": "<=", "eq": "="}[kind]
        # egglog's `!=` and `=` on i64 compare values; constants are bound by their own guards.
        return ((f"({symbol} {_exact(a)} {_exact(b)})",),)
    if kind == "eq":
        return ((f"(= {_low(a, context)} {_high(a, context)})", f"(= {_low(a, context)} {_low(b, context)})"),)
    symbol, relation = ("<", "Lt") if kind == "lt" else ("<=", "Le")
    ways: list[tuple[str, ...]] = [(f"({symbol} {_high(a, context)} {_low(b, context)})",)]
    if all(isinstance(p, Var | Index) for p in (a, b)):
        ways.append((f"({relation} {context.term(a)} {context.term(b)})",))
        if kind == "le":
            ways.append((f"(Lt {context.term(a)} {context.term(b)})",))
    return tuple(ways)


def _in_interval(kind: str, a: Pattern, b: Pattern, context: Context) -> tuple[str, ...]:
    """A float is known to be NaN or on one side of a literal."""
    assert isinstance(b, Lit)
    return (f"(>= (flo {context.term(a)}) {float(b.value)!r})" if kind == "ge" else f"(<= (fhi {context.term(a)}) {float(b.value)!r})",)


def _nowrap(p: Pattern, context: Context) -> Ways:
    """By the facts about the left side's own nodes; for a term that is not there, by the interval of its exact value."""
    if p not in set(subpatterns(context.lhs)):
        assert isinstance(p, Apply)
        code = context.code(p.type)
        return ((f"(>= {_low(p, context)} (least {code}))", f"(<= {_high(p, context)} (greatest {code}))"),)
    facts = tuple(
        f"(nw_{x.op} {context.code(x.type)} {' '.join(map(context.term, x.args))})"
        for x in subpatterns(p)
        if isinstance(x, Apply) and x.op in WRAPPING
    )
    return (facts,)


_EXACT: Final[Mapping[str, str]] = {
    "add": "(+ {} {})",
    "sub": "(- {} {})",
    "mul": "(* {} {})",
    "neg": "(- 0 {})",
    "mod": "(% (+ (% {0} {1}) {1}) {1})",
    "min": "(min {} {})",
    "max": "(max {} {})",
}


def _exact(p: Pattern) -> str:
    """An integer expression of literals as egglog arithmetic."""
    match p:
        case Lit():
            return str(int(p.value))
        case Var():
            return bits_name(p)
        case Apply():
            return _EXACT[p.op].format(*map(_exact, p.args))
        case _:
            raise AssertionError(p)


def _low(p: Pattern, context: Context) -> str:
    """A lower bound of an integer expression over the mathematical integers."""
    return _bound(p, context, "lo")


def _high(p: Pattern, context: Context) -> str:
    return _bound(p, context, "hi")


def _bound(p: Pattern, context: Context, end: Literal["lo", "hi"]) -> str:
    other: Literal["lo", "hi"] = "hi" if end == "lo" else "lo"
    match p:
        case Lit():
            return str(int(p.value))
        case Var() if p.name in context.constants:
            return bits_name(p)
        case Apply("add", (a, b)):
            return f"(+ {_bound(a, context, end)} {_bound(b, context, end)})"
        case Apply("sub", (a, b)):
            return f"(- {_bound(a, context, end)} {_bound(b, context, other)})"
        case Apply("neg", (a,)):
            return f"(- 0 {_bound(a, context, other)})"
        case Apply("mul", (a, b)):
            pick = "min" if end == "lo" else "max"
            x, y = ((_bound(a, context, side), _bound(b, context, side)) for side in ("lo", "hi"))
            corners = [f"(* {u} {v})" for u in (x[0], y[0]) for v in (x[1], y[1])]
            return f"({pick} ({pick} {corners[0]} {corners[1]}) ({pick} {corners[2]} {corners[3]}))"
        case Apply("mod", (_, Var() as n)) if n.name in context.constants:
            return f"(min 0 (+ {bits_name(n)} 1))" if end == "lo" else f"(max 0 (- {bits_name(n)} 1))"
        case Apply("min" | "max" as op, (a, b)):
            return f"({op} {_bound(a, context, end)} {_bound(b, context, end)})"
        case _:
            return f"({end} {context.term(p)})"

"""Turns a rule whose sides agree somewhere into the rules to claim: under the least flags, or the weakest guards, that samples allow.

Samples only propose; the prover decides. A float rule is claimed bit for bit if it may be, else under guards as well as under flags.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.fastmath import Flag
from kernel_ir.ops import OPS
from rewrites.guards import WRAPPING, Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, size, subpatterns
from rewrites.prove_meaning import bits_value, guard_holds
from rewrites.prove_values import Samples, assignments, samples
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any

ROWS: Final = 3_000
SHORT: Final = 8
"""Nodes of both sides up to which guards are asked of a rule of floats: they hold of few long ones, and to prove those takes longest."""
ENOUGH: Final = 20
"""Rows at which guards must still hold."""
TRIES: Final = 3
"""Sets of guards to try, one after another."""
MOST: Final = 2
"""Guards together, those against wrapping apart: more are seldom known to hold."""
_EXCLUSIONS: Final = (
    {Flag.NSZ},
    {Flag.NNAN},
    {Flag.NNAN, Flag.NSZ},
    {Flag.NNAN, Flag.NINF},
    {Flag.NNAN, Flag.NINF, Flag.NSZ},
)
_FUNCTION_LICENCES: Final = ({Flag.AFN}, {Flag.AFN, Flag.ARCP}, {Flag.AFN, Flag.REASSOC})
_DIVISION_LICENCES: Final = ({Flag.ARCP}, {Flag.REASSOC})
_BOUNDED: Final = {"asin", "acos", "atanh"}
_BOUNDS: Final = (1.5, 1.0, 0.5)
"""How far from zero a variable may be where a function has no value far from it, or an inverse has but one."""
_RELAXED: Final = (set[Flag](), {Flag.NNAN}, {Flag.NNAN, Flag.NINF})


@dataclass(frozen=True, slots=True)
class Claims:
    """What may be claimed of a pair: alternatives to prove, each list to be tried in order until one holds."""

    tries: tuple[tuple[Rule, ...], ...]


def settled(rule: Rule, reals: bool) -> Claims:
    """The claims; none where no guard helps. `reals`: the sides agree over the reals, so that flags of algebra may do."""
    (first, *_) = assignments(rule)
    s = samples(rule, first, ROWS)
    with np.errstate(all="ignore"):
        left, right = (np.atleast_1d(bits_value(side, s)) for side in (rule.lhs, rule.rhs))
    count = max(len(left), len(right))
    same = np.broadcast_to(_same(left, right), (count,))
    if same.all():
        return Claims(((rule,),))
    tries: list[tuple[Rule, ...]] = []
    if _is_float(rule):
        excluded = _excluding(rule, s, left, right, count)
        if excluded is not None:
            tries.append((excluded,))
    if not _is_float(rule) or size(rule.lhs) + size(rule.rhs) <= SHORT:
        guarded = [t for t in _guarded(rule, s, same, np.broadcast_to(left, (count,))) if t]
        tries += [t for n, t in enumerate(guarded) if t[0] not in {u[0] for u in guarded[:n]}]
    if _is_float(rule) and reals and not any(r.needs for t in tries for r in t):
        tries += _licensed(rule)
    return Claims(tuple(tries))


def _is_float(rule: Rule) -> bool:
    return any(t.is_float for p in subpatterns(rule.lhs) for t in rule.types[p.type])


def _same(left: Array, right: Array) -> Array:
    if left.dtype.kind != "f":
        return left == right
    return ((left == right) & (np.signbit(left) == np.signbit(right))) | (np.isnan(left) & np.isnan(right))


def _excluding(rule: Rule, s: Samples, left: Array, right: Array, count: int) -> Rule | None:
    """The rule under the first flags for what may not occur that suffice."""
    seen: list[Array] = []
    bits_value(rule.lhs, s, seen)
    arrays = [np.broadcast_to(x, (count,)) for x in (*seen, *s.values.values()) if x.dtype.kind == "f"]
    nan = np.logical_or.reduce([np.isnan(x) for x in arrays]) if arrays else np.zeros(count, bool)
    inf = np.logical_or.reduce([np.isinf(x) for x in arrays]) if arrays else np.zeros(count, bool)
    for flags in _EXCLUSIONS:
        skip = (nan if Flag.NNAN in flags else False) | (inf if Flag.NINF in flags else np.zeros(count, bool))
        equal = _same(left, right) | ((left == right) if Flag.NSZ in flags else False)
        if (equal | skip).all() and (~skip).sum() >= ENOUGH:
            return replace(rule, needs=frozenset(flags))
    return None


def _licensed(rule: Rule) -> list[tuple[Rule, ...]]:
    """The rule under flags of algebra, least first; where a function has no value everywhere, under guards as well."""
    functions = any(is_function(p) for side in (rule.lhs, rule.rhs) for p in subpatterns(side))
    ops = {p.op for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Apply)}
    fused = ({Flag.CONTRACT},) if "fma" in ops else ()
    licences = _FUNCTION_LICENCES if functions else (*fused, *(_DIVISION_LICENCES if "div" in ops else ({Flag.REASSOC},)))
    tries = [tuple(replace(rule, needs=frozenset(x | more)) for more in _RELAXED for x in licences)]
    if functions:
        variables = _variables(rule)
        for kind in ("ge", "gt"):
            guards = tuple(Guard(kind, (v, Lit(0.0, v.type)), rule.span) for v in variables)
            tries.append(tuple(replace(rule, guards=guards, needs=frozenset(x)) for x in licences))
        if ops & _BOUNDED:
            ranges = (tuple(g for v in variables for g in _within(rule, v, most)) for most in _BOUNDS)
            tries.append(tuple(replace(rule, guards=guards, needs=frozenset({Flag.AFN})) for guards in ranges))
    return tries


def _within(rule: Rule, v: Var, most: float) -> tuple[Guard, Guard]:
    return Guard("ge", (v, Lit(-most, v.type)), rule.span), Guard("le", (v, Lit(most, v.type)), rule.span)


def is_function(p: Pattern) -> bool:
    """Whether `afn` speaks of the op."""
    return isinstance(p, Apply) and (OPS[p.op].ulp > 0 or p.op == "sqrt")


def _variables(rule: Rule) -> list[Var]:
    return list(dict.fromkeys(p for p in subpatterns(rule.lhs) if isinstance(p, Var)))


Atom = tuple[tuple[Guard, ...], Any]
"""Guards, and where they all hold."""


def _guarded(rule: Rule, s: Samples, same: Array, value: Array) -> Iterator[tuple[Rule, ...]]:
    """The rule under the fewest, weakest guards that leave out each sample at which the sides differ, of one kind after another.

    Each with what to try next, as samples know less than the prover. Where its guards leave the left side but one value, a rule says
    little, and what it says follows from others.
    """
    atoms = [a for a in _atoms(rule, s, len(same)) if a[1].sum() >= ENOUGH]
    wraps, multiples, powers = ([a for a in atoms if a[0][0].kind == kind] for kind in ("nowrap", "divides", "pow2"))
    others = [a for a in atoms if a[0][0].kind not in ("nowrap", "divides", "pow2")]

    def tries(base: Sequence[Atom], one: Sequence[Atom], more: Sequence[Atom]) -> tuple[Rule, ...]:
        return tuple(itertools.islice(_sufficient(rule, base, one, more, ~same, value), TRIES))

    if _is_float(rule):
        yield tries((), (), (*others, *powers))[:1]  # a proof about floats takes long
        return
    usual = tries((), (), others)
    yield tries(wraps, (), others) if wraps else ()
    yield usual
    yield tries(wraps, multiples, others)
    yield () if usual else tries((), powers, others)


def _sufficient(rule: Rule, base: Sequence[Atom], one: Sequence[Atom], more: Sequence[Atom], bad: Array, value: Array) -> Iterator[Rule]:
    """The rule under `base` and one smallest set after another of further guards, the fewest first: of `one`, if any, and of `more`."""
    mask = np.logical_and.reduce([np.ones(len(bad), bool), *(m for _, m in base)])
    firsts = [(a,) for a in one] if one else [()]
    sets = [(*first, *rest) for first in firsts for n in range(MOST + 1 - len(first)) for rest in itertools.combinations(more, n)]
    sets.sort(key=lambda chosen: (sum(len(guards) for guards, _ in chosen), -len(chosen)))
    found: list[set[Guard]] = []
    for chosen in sets:
        guards = {guard for some, _ in chosen for guard in some}
        if any(known <= guards for known in found) or len(guards) > MOST or _equates(guards) or not (chosen or base):
            continue
        held = np.logical_and.reduce([mask, *(m for _, m in chosen)])
        if not (held & bad).any() and held.sum() >= ENOUGH:
            found.append(guards)
            if isinstance(rule.rhs, Lit) or len(np.unique(value[held])) > 1:
                yield _without_spare(rule, [*chosen, *base], bad)


def _equates(guards: Iterable[Guard]) -> bool:
    """Whether the guards leave two variables equal."""
    pairs = [guard.args for guard in guards if guard.kind == "le"]
    return any(pair[::-1] in pairs for pair in pairs)


def _without_spare(rule: Rule, chosen: Sequence[Atom], bad: Array) -> Rule:
    kept = list(chosen)
    for atom in chosen[::-1]:
        rest = [a for a in kept if a is not atom]
        if rest and not (np.logical_and.reduce([m for _, m in rest]) & bad).any():
            kept = rest
    return replace(rule, guards=tuple(dict.fromkeys(g for guards, _ in kept for g in guards)))


def _atoms(rule: Rule, s: Samples, count: int) -> Iterator[Atom]:
    for guards in _vocabulary(rule, s.dtypes):
        mask = np.logical_and.reduce([np.broadcast_to(guard_holds(g, s), (count,)) for g in guards])
        yield guards, mask


def _vocabulary(rule: Rule, dtypes: Any) -> Iterator[tuple[Guard, ...]]:
    """Guards to try, the weakest first."""

    def guard(kind: str, *args: Pattern) -> Guard:
        return Guard(kind, args, rule.span)

    def is_of(p: Pattern, kind: str) -> bool:
        dtype: DType = dtypes[p.type]
        return dtype is not BOOL and getattr(dtype, kind)

    variables = [v for v in _variables(rule) if dtypes[v.type] is not BOOL]
    divisors = {v for p in subpatterns(rule.lhs) if isinstance(p, Apply) and p.op in ("floordiv", "mod") for v in subpatterns(p.args[1])}
    # Of what one divides by the sign is known sooner: it is a size.
    ints = sorted((v for v in variables if is_of(v, "is_int")), key=lambda v: v not in divisors)
    floats = [v for v in variables if is_of(v, "is_float")]
    for v in ints:
        zero = Lit(0, v.type)
        yield (guard("ne", v, zero),)
        yield (guard("ge", v, zero),)
        yield (guard("gt", v, zero),)
    for u, v in itertools.permutations(ints, 2):
        yield (guard("le", u, v),)
        yield (guard("le", Lit(0, u.type), u), guard("lt", u, v))
    for p in _arithmetic(rule.lhs, dtypes):
        yield (guard("nowrap", p),)
    for p in _arithmetic(rule.rhs, dtypes):
        if p not in set(subpatterns(rule.lhs)):
            yield (guard("nowrap", p),)
    for v in ints:
        yield (guard("pow2", v),)
    for u, v in itertools.permutations(ints, 2):
        yield (guard("divides", u, v),)
    inner = [
        p
        for p in dict.fromkeys(subpatterns(rule.lhs))
        if isinstance(p, Apply) and p != rule.lhs and p.op in ("add", "sub") and is_of(p, "is_float")
    ]
    for p in floats:
        for kind in ("notnan", "nonzero", "finite", "nonneg", "positive"):
            yield (guard(kind, p),)
    for p in inner:
        yield (guard("nonzero", p),)
    for v in floats:
        yield (guard("nonzero", v), guard("finite", v))
        yield (guard("positive", v), guard("finite", v))
        yield (guard("pow2", v),)


def _arithmetic(side: Pattern, dtypes: Any) -> list[Pattern]:
    """The largest integer terms that may wrap."""
    found: list[Pattern] = []

    def visit(p: Pattern) -> None:
        if isinstance(p, Apply) and p.op in WRAPPING and dtypes[p.type] is not BOOL and dtypes[p.type].is_int:
            found.append(p)
        elif isinstance(p, Apply):
            for a in p.args:
                visit(a)

    visit(side)
    return list(dict.fromkeys(found))

"""Turns a refuted rule into one that holds: the weakest of the obvious guards, then licensed flags, that a proof accepts.

Strong guards are tried first, all together: if these do not help, no weaker ones will. Then each is weakened or dropped while the proof
still holds, so that the rule fires wherever it may.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from kernel_ir.fastmath import Flag, Flags
from rewrites.guards import Guard
from rewrites.pattern import Apply, Lit, Pattern, Reduction, Var, subpatterns
from rewrites.prove_verdict import EXCLUSIONS
from rewrites.rule import Rule

Holds = Callable[[Rule], bool]
MAX_FLAGS: Final = 3
"""Flags that may be added together."""
_FLOAT: Final = (("positive", ("nonneg", "nonzero")), ("finite", ("notnan",)))
"""For a float: each strong guard with the weaker ones that may do instead."""
_LOW: Final = (("positive", ("nonneg", "nonzero")),)


def flags_in_order() -> Iterator[Flag]:
    """Flags, those that give away least first."""
    yield from (Flag.NSZ, Flag.NNAN, Flag.NINF, Flag.CONTRACT, Flag.ARCP, Flag.REASSOC, Flag.AFN)


def repaired(rule: Rule, flags: Flags, holds: Holds) -> Rule | None:
    """The rule with the guards and licensed flags that it was found to need, without flags that are off; None where none of these help."""
    asked = replace(rule, needs=rule.needs & flags)
    for needs in _licences(asked, flags):
        licensed = replace(asked, needs=needs)
        if licensed != rule and holds(licensed):
            return licensed
        guarded = _guarded(licensed, holds)
        if guarded is not None:
            return guarded
    return None


def _licences(rule: Rule, flags: Flags) -> Iterator[frozenset[Flag]]:
    """The rule's own flags, then more, few before many, those that give away least first. Integers know no flags."""
    yield rule.needs
    if not any(t.is_float for p in subpatterns(rule.lhs) for t in rule.types[p.type]):
        return
    more = [f for f in flags_in_order() if f in flags and f not in rule.needs]
    # Beside a licence of the reals, one for what may not occur: two of the former together are no weaker than each.
    for count in range(1, MAX_FLAGS + 1):
        for chosen in itertools.combinations(more, count):
            if sum(f not in EXCLUSIONS for f in (*rule.needs, *chosen)) <= 2:
                yield rule.needs | frozenset(chosen)


def _guarded(rule: Rule, holds: Holds) -> Rule | None:
    """The rule with the weakest of the obvious guards."""
    for family in _families(rule):
        new = [g for g, _ in family if g not in rule.guards]
        if new and holds(_with(rule, new)):
            return _weakened(rule, new, dict(family), holds)
    return None


def _with(rule: Rule, guards: Sequence[Guard]) -> Rule:
    return replace(rule, guards=(*rule.guards, *guards))


def _weakened(rule: Rule, guards: list[Guard], weaker: dict[Guard, tuple[Guard, ...]], holds: Holds) -> Rule:
    """Each guard dropped, or replaced by a weaker one, in turn, while the proof holds."""
    kept = list(guards)
    for guard in guards:
        rest = [g for g in kept if g != guard]
        options = [rest, *([*rest, g] for g in weaker[guard])]
        kept = next((o for o in options if holds(_with(rule, o))), kept)
    return _with(rule, kept)


Family = list[tuple[Guard, tuple[Guard, ...]]]
"""Guards that are tried together, each with the weaker ones that may stand for it."""


def _families(rule: Rule) -> Iterator[Family]:
    """Sets of guards: of values, of integer ranges, of constants, of sizes."""
    names = {p.name: p for p in subpatterns(rule.lhs) if isinstance(p, Var) and "." not in p.name}
    floats = [v for v in names.values() if all(t.is_float for t in rule.types[v.type])]
    ints = [v for v in names.values() if all(t.is_int for t in rule.types[v.type])]
    values = [_choice(rule, kind, weak, v) for v in floats for kind, weak in _FLOAT]
    values += [_choice(rule, kind, weak, v) for v in ints for kind, weak in _LOW]
    wraps = [(_guard(rule, "nowrap", p), ()) for p in _wrapping(rule)]
    if values:
        yield values
    if wraps:
        yield wraps
        yield values + wraps
    numbers = [*ints, *floats]
    for v in numbers:
        yield [(_guard(rule, "pow2", v), ())]
    for a, b in itertools.permutations(ints, 2):
        low = _guard(rule, "le", Lit(0, a.type), a)
        yield [(low, ()), (_guard(rule, "lt", a, b), (_guard(rule, "le", a, b),)), *wraps]
        yield [(_guard(rule, "le", a, b), ()), *wraps]
        yield [(_guard(rule, "divides", a, b), ()), (_guard(rule, "positive", a), ()), *wraps]
    sizes = [(_guard(rule, "lt", r.lo, r.hi), (_guard(rule, "le", r.lo, r.hi),)) for r in _ranged(rule)]
    if sizes:
        yield sizes
        yield values + sizes


def _choice(rule: Rule, kind: str, weaker: tuple[str, ...], v: Var) -> tuple[Guard, tuple[Guard, ...]]:
    return _guard(rule, kind, v), tuple(_guard(rule, w, v) for w in weaker)


def _guard(rule: Rule, kind: str, *args: Pattern) -> Guard:
    return Guard(kind, args, rule.span)


def _wrapping(rule: Rule) -> list[Pattern]:
    """The largest integer terms of the left side that may wrap."""
    found: list[Pattern] = []

    def visit(p: Pattern) -> None:
        match p:
            case Apply("add" | "sub" | "mul" | "neg") if all(t.is_int for t in rule.types[p.type]):
                found.append(p)
            case Apply(args=args):
                for a in args:
                    visit(a)
            case Reduction(bodies=bodies):
                for b in bodies:
                    visit(b)
            case _:
                pass

    visit(rule.lhs)
    return list(dict.fromkeys(found))


def _ranged(rule: Rule) -> list[Reduction]:
    """Reductions of the left side whose bounds are written: a guard can speak of these alone."""
    return [
        p
        for p in dict.fromkeys(subpatterns(rule.lhs))
        if isinstance(p, Reduction) and not any(isinstance(x, Var) and "." in x.name for b in (p.lo, p.hi) for x in subpatterns(b))
    ]

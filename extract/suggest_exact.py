"""Turns a rule of real algebra into a counterexample in exact rational arithmetic, or none: at ties, integers and the rule's own numbers.

A licence of the reals is easily proved at random points, where nothing ever ties and a constant may be off by an ulp. Here points are
drawn to deceive, numbers are exact, and ranges are longer than a proof unrolls. It refutes; it proves nothing.
"""

import math
import operator
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Final

from rewrites.guards import Guard
from rewrites.pattern import Apply, Index, Lit, Pattern, Reduction, Var, subpatterns
from rewrites.prove_meaning import real_value
from rewrites.prove_values import dependence
from rewrites.rule import Rule

Number = Any  # a Fraction, or a bool
Env = Mapping[str, Callable[[Mapping[str, int]], Number]]
POINTS: Final = 400
DIGITS: Final = 40
ALIKE: Final = 13
"""Digits to which a rule of functions must agree: a constant such as log2(e) is itself rounded."""
LONGEST: Final = 9
"""Terms of a reduction at most."""


class Undefined(Exception):
    """The value is not a rational number, or none at all (a division by zero, a literal that is infinite)."""


def counterexample(rule: Rule) -> str:
    """A point at which the sides differ over the rationals, in words; empty where none was met, or the rule is not of algebra alone."""
    for env, where in _points(rule):
        try:
            left, right = _evaluate(rule.lhs, env, {}), _evaluate(rule.rhs, env, {})
        except (Undefined, ZeroDivisionError, OverflowError):
            continue
        if left != right:
            return f"{where}: {left} is not {right}"
    return ""


def undefined(rule: Rule) -> str:
    """A point at which the left side has a value and the right side none, or another, functions included; empty where none was met."""
    import mpmath  # pyright: ignore[reportMissingTypeStubs]

    mp: Any = mpmath.mp.clone()
    mp.dps = DIGITS
    for env, where in _points(rule):
        real = {n: partial(_real, mp, value) for n, value in env.items()}
        try:
            left, right = (real_value(side, real, {}, mp) for side in (rule.lhs, rule.rhs))
        except (ValueError, TypeError, OverflowError, ArithmeticError):
            continue
        if left is None:
            continue
        if right is None:
            return f"{where}: {mp.nstr(left, 8)} is not undefined"
        if isinstance(left, bool) or isinstance(right, bool):
            if bool(left) != bool(right):
                return f"{where}: {left} is not {right}"
        elif abs(left - right) > mp.mpf(10) ** -ALIKE * (1 + abs(left) + abs(right)):
            return f"{where}: {mp.nstr(left, 8)} is not {mp.nstr(right, 8)}"
    return ""


def _real(mp: Any, value: Callable[[Mapping[str, int]], Number], indices: Mapping[str, int]) -> Any:
    number = value(indices)
    return number if isinstance(number, bool) else mp.mpf(number.numerator) / number.denominator if number.denominator != 1 else int(number)


def _points(rule: Rule) -> Iterator[tuple[Env, str]]:
    """Values of the variables under which the guards hold, and the same in words."""
    draw = random.Random(zlib.crc32(rule.text.encode()))
    depends = dependence(rule)
    nodes = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side)]
    numbers = [Fraction(p.value) for p in nodes if isinstance(p, Lit) and not isinstance(p.value, bool) and math.isfinite(p.value)]
    kinds = {p.name: rule.types[p.type] for p in nodes if isinstance(p, Var)}
    for _ in range(POINTS):
        pool = _pool(draw, numbers)
        env = {n: _value(draw, pool, kinds[n][0].kind, depends.get(n, frozenset())) for n in kinds}
        try:
            if not all(_holds(g, env) for g in rule.guards):
                continue
        except (Undefined, ZeroDivisionError):
            continue
        yield env, ", ".join(f"{n}={env[n]({})}" for n in kinds if not depends.get(n) and "." not in n) or "for some values"


def _pool(draw: random.Random, numbers: list[Fraction]) -> list[Fraction]:
    """A few numbers for all variables of a point, so that they tie often."""
    near = [n + d for n in numbers for d in (-1, 0, 0, 1)]
    drawn = [Fraction(draw.randint(-12, 12), draw.choice((1, 1, 2, 3, 4))) for _ in range(3)]
    return draw.sample([*drawn, *near, Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2)], k=4)


def _value(draw: random.Random, pool: list[Fraction], kind: str, depends: frozenset[str]) -> Callable[[Mapping[str, int]], Number]:
    memory: dict[tuple[tuple[str, int], ...], Number] = {}

    def value(indices: Mapping[str, int]) -> Number:
        key = tuple(sorted((i, n) for i, n in indices.items() if i in depends))
        if key not in memory:
            number = draw.choice(pool)
            memory[key] = draw.random() < 0.5 if kind == "bool" else Fraction(draw.randint(-2, LONGEST)) if kind == "int" else number
        return memory[key]

    return value


def _holds(g: Guard, env: Env) -> bool:
    if g.kind in ("absent", "is_const", "finite", "notnan", "nowrap"):
        return True
    values = [Fraction(_evaluate(a, env, {})) for a in g.args]
    match g.kind:
        case "nonneg":
            return values[0] >= 0
        case "positive":
            return values[0] > 0
        case "nonzero":
            return values[0] != 0
        case "pow2":
            x = abs(values[0])
            return values[0] > 0 and (x.numerator & (x.numerator - 1)) == 0 == (x.denominator & (x.denominator - 1))
        case "divides":
            return values[0] != 0 and values[1] % values[0] == 0
        case kind:
            return bool(_OPS[kind](*values))


def _div(a: Fraction, b: Fraction) -> Fraction:
    return a / b


def _abs(a: Fraction) -> Fraction:
    return abs(a)


def _floor(x: Fraction) -> Fraction:
    return Fraction(math.floor(x))


def _ceil(x: Fraction) -> Fraction:
    return Fraction(math.ceil(x))


def _trunc(x: Fraction) -> Fraction:
    return Fraction(math.trunc(x))


def _and(a: bool, b: bool) -> bool:
    return a and b


def _or(a: bool, b: bool) -> bool:
    return a or b


def _select(c: bool, a: Number, b: Number) -> Number:
    return a if c else b


def _round(x: Fraction) -> Fraction:
    return Fraction(round(x))


def _sign(x: Fraction) -> Fraction:
    return Fraction((x > 0) - (x < 0))


def _power(x: Fraction, n: Fraction) -> Fraction:
    if n.denominator != 1 or abs(n) > 64:
        raise Undefined
    return x ** int(n)


def _fma(a: Fraction, b: Fraction, c: Fraction) -> Fraction:
    return a * b + c


_OPS: Final[Mapping[str, Callable[..., Any]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _div,
    "neg": operator.neg,
    "abs": _abs,
    "sign": _sign,
    "fma": _fma,
    "powi": _power,
    "min": min,
    "max": max,
    "fmin": min,
    "fmax": max,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "floor": _floor,
    "ceil": _ceil,
    "trunc": _trunc,
    "round": _round,
    "not": operator.not_,
    "and": _and,
    "or": _or,
    "select": _select,
    "f32": Fraction,
    "f64": Fraction,
}
"""The ops that keep to the rationals; what is not here makes a value undefined, and the point is left out."""


def _evaluate(p: Pattern, env: Env, indices: Mapping[str, int]) -> Number:
    match p:
        case Var():
            return env[p.name](indices)
        case Index():
            return Fraction(indices[p.name])
        case Lit():
            if isinstance(p.value, bool):
                return p.value
            if not math.isfinite(p.value):
                raise Undefined
            return Fraction(p.value)
        case Apply():
            if p.op not in _OPS:
                raise Undefined
            meaning: Any = _OPS[p.op]
            return meaning(*(_evaluate(a, env, indices) for a in p.args))
        case Reduction():
            return _reduced(p, env, indices)


def _reduced(p: Reduction, env: Env, indices: Mapping[str, int]) -> Number:
    lo, hi = (int(Fraction(_evaluate(b, env, indices))) for b in (p.lo, p.hi))
    if hi - lo > LONGEST * 2 or len(p.bodies) != 1:
        raise Undefined
    terms = [_evaluate(p.bodies[0], env, {**indices, p.index: n}) for n in range(lo, hi)]
    match p.kind:
        case "sum":
            return sum(map(Fraction, terms), Fraction(0))
        case "prod":
            return math.prod(map(Fraction, terms), start=Fraction(1))
        case "any":
            return any(terms)
        case "all":
            return all(terms)
        case "max" | "min" if terms:
            return max(terms) if p.kind == "max" else min(terms)
        case _:
            raise Undefined

"""Turns a rule into an evaluation of both sides over the reals, at 50 digits, at random points where its guards hold."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.fastmath import Flag
from rewrites.guards import COMPARISONS, SCOPE, Guard
from rewrites.pattern import Lit, Var, subpatterns, variables
from rewrites.prove_meaning import real_value
from rewrites.prove_values import bound_variables, dependence
from rewrites.prove_verdict import Outcome
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Random = Any  # a NumPy Generator

POINTS: Final = 40
DIGITS: Final = 50


def at_points(rule: Rule, dtypes: Mapping[int, DType]) -> Outcome:
    """Whether the sides agree at each point where the left side is defined, and the right side is defined no less."""
    count, why = _over_the_reals(rule, dtypes)
    if why:
        return Outcome("refuted", why=why)
    return Outcome("proved" if count else "unknown", why="" if count else "no point satisfies the guards", weight=count)


def _over_the_reals(rule: Rule, dtypes: Mapping[int, DType]) -> tuple[int, str]:
    import mpmath  # pyright: ignore[reportMissingTypeStubs]

    mp: Any = mpmath.mp.clone()
    mp.dps = DIGITS
    rng = np.random.default_rng(zlib.crc32(rule.name.encode()))
    depends, bounds = dependence(rule), bound_variables(rule)
    kinds = {p.name: dtypes[p.type] for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var)}
    # A constant such as log2(e) is itself rounded to a double.
    literals = [p.value for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Lit)]
    digits = DIGITS // 2 if all(abs(v) == np.inf or (v * 4) % 1 == 0 for v in literals) else 14
    guarded = {n for g in rule.guards for a in g.args for n in variables(a)}
    count = 0
    for _ in range(POINTS * 4):
        env = {name: _drawn(mp, rng, kinds[name], name in bounds, depends[name], name not in guarded) for name in sorted(kinds)}
        if not all(_real_guard(g, env, mp) for g in rule.guards):
            continue
        left, right = (real_value(side, env, {}, mp) for side in (rule.lhs, rule.rhs))
        if left is None and (right is None or Flag.NNAN in rule.needs):
            continue
        count += 1
        if not _agree(left, right, digits, mp):
            where = ", ".join(f"{name}={env[name]({}) if not depends[name] else '…'}" for name in sorted(kinds) if "." not in name)
            return count, f"{where}: {left} is not {right}"
        if count == POINTS:
            break
    return count, ""


def _agree(left: Any, right: Any, digits: int, mp: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, bool) or isinstance(right, bool):
        return bool(left) == bool(right)
    if left == right or not (mp.isfinite(left) and mp.isfinite(right)):
        return bool(left == right)
    return abs(left - right) <= mp.mpf(10) ** -digits * (1 + abs(left) + abs(right))


def _drawn(
    mp: Any, rng: Random, dtype: DType, is_bound: bool, depends: frozenset[str], free: bool
) -> Callable[[Mapping[str, int]], Any]:  # fmt: skip
    """A random value for a variable: one for each setting of the indices that it depends on, of either sign where no guard speaks of it."""
    sign, scale = rng.choice([1.0, 1.0, -1.0]), rng.choice([0.25, 1.0, 3.0])
    memory: dict[tuple[tuple[str, int], ...], Any] = {}

    def value(indices: Mapping[str, int]) -> Any:
        key = tuple(sorted((i, n) for i, n in indices.items() if i in depends))
        if key not in memory:
            if dtype is BOOL:
                memory[key] = bool(rng.integers(2))
            elif dtype.is_int:
                memory[key] = int(rng.integers(0, 5)) if is_bound else int(rng.integers(-9, 10))
            else:
                value = mp.mpf(float(sign * rng.uniform(0.05, 1.0) * scale))
                memory[key] = -value if free and len(memory) % 3 == 1 else value
        return memory[key]

    return value


def _real_guard(g: Guard, env: Mapping[str, Any], mp: Any) -> bool:
    """Whether the guard holds at a point; a value that depends on an index is checked at its first few."""
    if g.kind in (*SCOPE, "finite", "notnan", "nowrap"):
        return True
    values = [real_value(a, env, {}, mp) for a in g.args]
    x = values[0]
    match g.kind:
        case kind if kind in COMPARISONS:
            a, b = values
            return {"lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "eq": a == b, "ne": a != b}[kind]
        case "nonneg":
            return x >= 0
        case "positive":
            return x > 0
        case "nonzero":
            return x != 0
        case _:
            return False

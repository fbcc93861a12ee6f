"""Turns an integer rule into a check in narrow wrapping types: every combination of 8-bit values, and z3 at 12 and 16 bits.

A rule may depend on the width of its types only by its literals: with one that does not fit, this check says nothing.
"""

import itertools
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, I8
from kernel_ir.ops import OPS
from rewrites.pattern import Apply, Lit, Var, subpatterns
from rewrites.prove_meaning import bits_value, guard_holds
from rewrites.prove_smt import difference
from rewrites.prove_unroll import BOOLEAN, Ground
from rewrites.prove_values import Samples
from rewrites.prove_verdict import Deadline, Outcome

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype

INNER: Final = 2
"""Variables that run within one evaluation: 65,536 combinations; the others run from one to the next."""
MOST: Final = 3
WIDTHS: Final = (12, 16)
RESOURCES: Final = 30_000_000


def in_narrow_types(ground: Ground, deadline: Deadline) -> Outcome:
    """Proved where every combination of 8-bit values agrees, and z3 proves the rule at 12 and 16 bits."""
    rule = ground.rule
    patterns = [p for side in (rule.lhs, rule.rhs, *(a for g in rule.guards for a in g.args)) for p in subpatterns(side)]
    if any(isinstance(p, Lit) and not isinstance(p.value, bool) and abs(p.value) > 7 for p in patterns):
        return Outcome("unknown", why="z3 gave up, and a literal does not fit narrow types")
    if any(isinstance(p, Apply) and (OPS[p.op].cast is not None or p.op in ("shl", "shr")) for p in patterns):
        return Outcome("unknown", why="z3 gave up, and the rule depends on its types' widths")
    names = sorted({p.name for p in patterns if isinstance(p, Var) and p.type != BOOLEAN and ground.dtypes[p.type] is not BOOL})
    logical = sorted({p.name for p in patterns if isinstance(p, Var)} - set(names))
    if len(names) > MOST:
        return Outcome("unknown", why=f"z3 gave up, and {len(names)} variables are too many for every combination")
    why = _exhausted(ground, names, logical, deadline)
    if why:
        return Outcome("unknown", why=why)
    for bits in WIDTHS:
        outcome = difference(ground, deadline, {"i32": bits, "i64": bits}, RESOURCES)
        if not outcome.proved:
            return Outcome("unknown", why=f"at {bits} bits: {outcome.why}")
    return Outcome("proved", "exhaustive + z3 bit vectors", "all values of 8 bits; all of 12 and 16 bits; edge grids of i32 and i64")


def _exhausted(ground: Ground, names: list[str], logical: list[str], deadline: Deadline) -> str:
    every = np.arange(-128, 128).astype(np.int8)
    dtypes = {t: BOOL if d is BOOL else I8 for t, d in ground.dtypes.items()}
    inner, outer = names[-INNER:], names[:-INNER]
    mesh: list[Any] = np.meshgrid(*[every] * len(inner), indexing="ij") if inner else []
    flat = {n: m.ravel() for n, m in zip(inner, mesh, strict=True)}
    for truth in itertools.product((False, True), repeat=len(logical)):
        for chosen in itertools.product(every, repeat=len(outer)):
            if deadline.passed:
                return "out of time"
            fixed = {n: np.full(1, v) for n, v in (*zip(logical, truth, strict=True), *zip(outer, chosen, strict=True))}
            s = Samples({**flat, **fixed}, {}, {}, dtypes)
            good = np.asarray(True)
            for g in ground.rule.guards:
                good = good & guard_holds(g, s)
            if not good.any():
                continue
            wrong = good & (bits_value(ground.rule.lhs, s) != bits_value(ground.rule.rhs, s))
            if wrong.any():
                at = int(np.argmax(wrong))
                where = ", ".join(f"{n}={v[at] if len(v) > 1 else v[0]}" for n, v in sorted(s.values.items()))
                return f"at 8 bits the sides differ: {where}"
    return ""

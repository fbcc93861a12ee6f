"""Turns wished-for sizes into nearby ones that satisfy a kernel's facts, give no negative extent and are cheap enough to run."""

import operator
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from kernel_ir.dtypes import I64
from kernel_ir.errors import ArgumentError
from kernel_ir.nodes import Assign, Call, Const, Expr, Fold, Kernel, Load, ParamRef, Reduce, Repeat, SizeRef, Stmt, const
from kernel_ir.ops import OPS
from kernel_ir.walk import children, expressions, statements, substitute, subtrees


def repaired(
    kernels: Sequence[Kernel], facts: Sequence[Expr], env: dict[str, int], work: int | None, fixed: frozenset[str] = frozenset()
) -> dict[str, int] | None:
    """Nearby sizes that satisfy the facts about them, give no negative extent and need at most `work` points; None if not found."""
    demands = [f for f in facts if not any(isinstance(x, Load | Reduce) for x in subtrees(f))]
    demands = [f for f in demands if all(x.name in env for x in subtrees(f) if isinstance(x, ParamRef))]
    extents = [e for p in (*kernels[0].params, *kernels[0].outputs) for e in p.type.shape if not isinstance(e, SizeRef)]
    env = dict(env)
    for _ in range(40):
        broken = next((f for f in demands if not number(f, env)), None) or next((e for e in extents if number(e, env) < 0), None)
        if broken is not None:
            if not _mend(broken, env, fixed, minimum=broken in extents):
                return None
        elif work is not None and (load := max(points(k, env) for k in kernels)) > work:
            movable = [name for name in env if name not in fixed and env[name] > 1]
            if not movable:
                return None
            # All large ones at once: extents that a fact ties together (H >= R) would pull each other up again.
            cap = max(1, max(env[name] for name in movable) // (2 if load < 8 * work else 4))
            env |= {name: min(env[name], cap) for name in movable}
        else:
            return env
    return None


def _mend(broken: Expr, env: dict[str, int], fixed: frozenset[str], minimum: bool) -> bool:
    """Moves one number as little as possible, so that the fact holds (or the extent is not negative)."""
    names = [x.name for x in subtrees(broken) if isinstance(x, SizeRef | ParamRef) and x.name not in fixed]
    steps = [s * d for d in range(1, 130) for s in (1, -1)] + [1 << p for p in range(8, 22)]
    for step in steps:
        for name in dict.fromkeys(names):
            tried = {**env, name: env[name] + step}
            if tried[name] >= 0 and (number(broken, tried) >= 0 if minimum else number(broken, tried)):
                env[name] = tried[name]
                return True
    return False


_PLAIN: Final = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
}
"""Ops over Python integers, for speed: sizes are far from where i64 wraps."""


def number(e: Expr, env: Mapping[str, int]) -> int:
    """The value of an integer or bool expression over sizes and integer parameters."""
    match e:
        case Const():
            return int(e.value)
        case SizeRef() | ParamRef():
            return env[e.name]
        case Call():
            args = [number(a, env) for a in e.args]
            if e.op in _PLAIN:
                return int(_PLAIN[e.op](*args))
            return int(OPS[e.op].numpy(*(np.asarray(v, a.dtype.numpy) for v, a in zip(args, e.args, strict=True))))
        case _:
            raise ArgumentError("not an expression over sizes", getattr(e, "span", None))


def points(kernel: Kernel, env: Mapping[str, int]) -> int:
    """An upper estimate of the points that the costliest statement visits, repetitions counted."""

    def of_expr(e: Expr, ranges: dict[str, int]) -> int:
        own, inner = 1, ranges
        for b in e.binders if isinstance(e, Reduce) else (e.binder,) if isinstance(e, Fold) else ():
            extent = _extent(b.lo, b.hi, env, inner)
            own, inner = own * extent, {**inner, b.index: extent}
        return own * max((of_expr(c, inner) for c in children(e)), default=1)

    def of_body(body: Sequence[Stmt], ranges: dict[str, int]) -> int:
        most = 1
        for stmt in body:
            if isinstance(stmt, Repeat):
                steps = max(1, _upper(stmt.steps, env, ranges))
                inner = {**ranges, stmt.index: steps} if stmt.index else ranges
                most = max(most, steps * of_body(stmt.body, inner))
            else:
                most = max(most, of_statement(stmt, ranges))
        return most

    def of_statement(stmt: Assign, ranges: dict[str, int]) -> int:
        own = 1
        for b in stmt.binders:
            extent = _extent(b.lo, b.hi, env, ranges)
            own, ranges = own * extent, {**ranges, b.index: extent}
        return own * max(of_expr(e, ranges) for e in (stmt.value, *stmt.indices))

    return of_body(kernel.body, {})


def _extent(lo: Expr, hi: Expr, env: Mapping[str, int], ranges: Mapping[str, int]) -> int:
    return max(1, _upper(hi, env, ranges))


def _upper(e: Expr, env: Mapping[str, int], ranges: Mapping[str, int]) -> int:
    """A guess from above: indices at their greatest value."""
    try:
        return number(substitute(e, {name: const(max(0, n - 1), I64) for name, n in ranges.items()}), env)
    except (ArgumentError, KeyError):
        return 8


def conjuncts(fact: Expr) -> list[Expr]:
    if isinstance(fact, Call) and fact.op == "and":
        return [part for a in fact.args for part in conjuncts(a)]
    return [fact]


def structural(kernels: Sequence[Kernel]) -> tuple[str, ...]:
    """Integer parameters that ranges, shapes, repetitions or facts depend on."""
    tops: list[Expr] = []
    for k in kernels:
        tops += [e for t in k.arrays.values() for e in t.shape] + [*k.facts, *k.implied]
        tops += [s.steps for s in _repeats(k.body)]
        for stmt in statements(k.body):
            tops += [e for b in stmt.binders for e in (b.lo, b.hi)]
            for top in expressions(stmt):
                for x in subtrees(top):
                    binders = x.binders if isinstance(x, Reduce) else (x.binder,) if isinstance(x, Fold) else ()
                    tops += [e for b in binders for e in (b.lo, b.hi)]
                    tops += x.indices if isinstance(x, Load) else ()
    names = {x.name for top in tops for x in subtrees(top) if isinstance(x, ParamRef) and x.dtype.is_int}
    return tuple(p.name for p in kernels[0].params if p.name in names)


def _repeats(body: Sequence[Stmt]) -> list[Repeat]:
    found = [s for s in body if isinstance(s, Repeat)]
    return found + [inner for s in found for inner in _repeats(s.body)]

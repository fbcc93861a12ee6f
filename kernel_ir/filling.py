"""Turns a parameter, a pattern and a seed into an array whose elements obey the facts about it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kernel_ir import meaning
from kernel_ir.dtypes import DType, reads_as
from kernel_ir.evaluate import evaluate_expr
from kernel_ir.nodes import Call, Expr, Fold, Kernel, Load, Param, ParamRef, Reduce
from kernel_ir.number_system import Array
from kernel_ir.patterns import fill
from kernel_ir.sizes import conjuncts, number
from kernel_ir.walk import expressions, statements, subtrees


def filled(kernels: Sequence[Kernel], p: Param, facts: Sequence[Expr], env: Mapping[str, int], pattern: str, seed: int) -> Any:
    """An array (or scalar) of the pattern, inside the range that the facts leave it."""
    shape = tuple(number(e, env) for e in p.type.shape)
    dtype = p.type.dtype
    rng = np.random.default_rng(seed)
    reach = _index_reach(kernels, p.name, env)
    values = fill(pattern, shape, dtype, rng, reach)
    low, high = _range(p.name, facts, env)
    arithmetic = reads_as(dtype)
    if low is not None or high is not None:
        values = _brought(values, low, high, arithmetic)
    stored = meaning.store(values, dtype)
    return stored if p.type.rank else stored[()]


def _brought(values: Array, low: float | None, high: float | None, dtype: DType) -> Array:
    """Values brought between the inclusive bounds: integers by wrapping, floats by folding over the nearer bound."""
    if dtype.is_int:
        floor, ceiling = (
            int(low if low is not None else high - 100 if high is not None else 0),
            int(high if high is not None else (low or 0) + 100),
        )
        return (floor + np.mod(values.astype(np.int64) - floor, max(1, ceiling - floor + 1))).astype(dtype.numpy)
    with np.errstate(all="ignore"):
        values = np.where(np.isnan(values), 0, values)
        if low is not None:
            values = np.where(values < low, 2 * low - values, values)
        return np.clip(values, low, high).astype(dtype.numpy)


def _range(name: str, facts: Sequence[Expr], env: Mapping[str, int]) -> tuple[float | None, float | None]:
    """Inclusive bounds on every element of an array (or on a scalar) that comparisons among the facts give."""
    low: float | None = None
    high: float | None = None
    for fact in facts:
        for part in conjuncts(fact.bodies[0]) if isinstance(fact, Reduce) and fact.kind == "all" else (fact,):
            match part:
                case Call("lt" | "le" | "gt" | "ge" as op, (a, b)):
                    pass
                case _:
                    continue
            if _names(b, name):
                a, b = b, a
                op = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}[op]
            if not _names(a, name):
                continue
            limit = _limit(b, env)
            if limit is None:
                continue
            inexact = a.dtype.is_float
            if op in ("lt", "le"):
                limit = limit if op == "le" else float(np.nextafter(a.dtype.numpy.type(limit), -np.inf)) if inexact else limit - 1
                high = limit if high is None else min(high, limit)
            else:
                limit = limit if op == "ge" else float(np.nextafter(a.dtype.numpy.type(limit), np.inf)) if inexact else limit + 1
                low = limit if low is None else max(low, limit)
    return low, high


def _names(e: Expr, name: str) -> bool:
    """Whether `e` is an element of the array, or the scalar, `name`, perhaps through a cast."""
    while isinstance(e, Call) and len(e.args) == 1 and e.op in ("i64", "f64"):
        e = e.args[0]
    return (isinstance(e, Load) and e.array == name) or (isinstance(e, ParamRef) and e.name == name)


def _limit(e: Expr, env: Mapping[str, int]) -> float | None:
    if any(isinstance(x, Load | Reduce | Fold) for x in subtrees(e)):
        return None
    try:
        value = evaluate_expr(e, {x.name: env[x.name] for x in subtrees(e) if isinstance(x, ParamRef)}, env)
    except KeyError:
        return None
    return value.item()


def _index_reach(kernels: Sequence[Kernel], name: str, env: Mapping[str, int]) -> int | None:
    """For an array whose elements serve as indices, the extent that they index at most; None for any other."""
    for k in kernels:
        if name in _index_arrays(k):
            return max((env[s] for s in k.sizes), default=4)
    return None


@lru_cache(maxsize=64)
def _index_arrays(k: Kernel) -> frozenset[str]:
    """The arrays whose elements choose elements, or statements, of the kernel: asked at each draw of each array."""
    found: set[str] = set()
    for stmt in statements(k.body):
        places = [*stmt.indices, *([] if stmt.where is None else [stmt.where])]
        places += [i for top in expressions(stmt) for x in subtrees(top) if isinstance(x, Load) for i in x.indices]
        found |= {x.array for place in places for x in subtrees(place) if isinstance(x, Load)}
    return frozenset(found)

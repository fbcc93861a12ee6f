"""Turns a rule at one choice of dtypes into what an oracle can try: expressions over lanes of points, and where its guards hold."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from kernel_ir.dtypes import DType
from kernel_ir.evaluate import evaluate_expr
from kernel_ir.nodes import Binder, Call, Expr, IndexRef, Load, Local, Reduce, const
from kernel_ir.ops import OPS
from kernel_ir.walk import subtrees as expressions
from rewrites.guards import SCOPE, Guard
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, scopes, subpatterns
from rewrites.rule import Rule

LANE: Final = "lane"
ROUNDED: Final = frozenset(("sum", "prod", "expsum"))
ZEROS: Final = frozenset(("min", "max", "fmin", "fmax"))

Points = dict[str, Any]
"""For each variable an array over the points, and over the indices that it may depend on."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One rule at one choice of dtypes: its sides as expressions, and how its claim is to be tried."""

    rule: Rule
    dtypes: Mapping[int, DType]

    @property
    def kinds(self) -> dict[str, DType]:
        return {p.name: self.dtypes[p.type] for p in self._nodes if isinstance(p, Var)}

    @property
    def _nodes(self) -> list[Pattern]:
        return [p for side in (self.rule.lhs, self.rule.rhs) for p in subpatterns(side)]

    @property
    def indices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p.index for p in self._nodes if isinstance(p, Reduction)))

    @property
    def bounds(self) -> frozenset[str]:
        ends = [end for p in self._nodes if isinstance(p, Reduction) for end in (p.lo, p.hi)]
        ends += [p.to for p in self._nodes if isinstance(p, At)]
        return frozenset(v.name for end in ends for v in subpatterns(end) if isinstance(v, Var))

    @property
    def compound(self) -> bool:
        return any(isinstance(end, Apply) for p in self._nodes if isinstance(p, Reduction) for end in (p.lo, p.hi))

    @property
    def regrouped(self) -> bool:
        """Whether a float sum or product is in it, whose order is free."""
        return any(isinstance(p, Reduction) and p.kind in ROUNDED and self.dtypes[p.type].is_float for p in self._nodes)

    @property
    def free_zeros(self) -> bool:
        """Whether a float min or max is in it: which of two zeros comes out is not defined."""
        named = [(p.op if isinstance(p, Apply) else p.kind, p.type) for p in self._nodes if isinstance(p, Apply | Reduction)]
        return any(name in ZEROS and self.dtypes[t].is_float for name, t in named)

    def depends(self) -> dict[str, tuple[str, ...]]:
        """The indices inside which every occurrence of a variable stands, and that no guard excludes."""
        around: dict[str, set[str]] = {}
        for side in (self.rule.lhs, self.rule.rhs):
            for name, inside in scopes(side):
                around[name] = around.get(name, set(inside)) & inside
        for g in self.rule.guards:
            if g.kind == "absent" and isinstance(g.args[0], Index) and isinstance(g.args[1], Var):
                around.get(g.args[1].name, set()).discard(g.args[0].name)
        return {name: tuple(i for i in self.indices if i in inside) for name, inside in around.items()}

    def expression(self, p: Pattern) -> Expr:
        """The pattern as an expression over lanes: one lane a point."""
        match p:
            case Var():
                over = self.depends()[p.name]
                dtype = self.dtypes[p.type]
                if not over:
                    return Local(p.name, dtype)
                return Load(p.name, (IndexRef(LANE), *map(IndexRef, over)), dtype, const(0, dtype))
            case Index():
                return IndexRef(p.name)
            case Lit():
                return const(p.value, self.dtypes[p.type])
            case Apply():
                return Call(p.op, tuple(map(self.expression, p.args)), self.dtypes[p.result])
            case At():
                over = self.depends()[p.of.name]
                dtype = self.dtypes[p.type]
                places = [self.expression(p.to) if i == p.index else IndexRef(i) for i in over]
                return Load(p.of.name, (IndexRef(LANE), *places), dtype, const(0, dtype))
            case Reduction():
                binder = Binder(p.index, self.expression(p.lo), self.expression(p.hi))
                return Reduce(p.kind, (binder,), tuple(map(self.expression, p.bodies)), self.dtypes[p.result])  # pyright: ignore


def scope_of(e: Expr, given: Points) -> tuple[dict[str, Any], dict[str, tuple[Any, DType]]]:
    """The points as an evaluator takes them: lanes by name, and arrays to load from."""
    loads = {x.array: x.dtype for x in expressions(e) if isinstance(x, Load)}
    count = len(next(iter(given.values()))) if given else 1
    lanes: dict[str, Any] = {name: a for name, a in given.items() if a.ndim == 1}
    return {**lanes, LANE: np.arange(count)}, {name: (given[name], dtype) for name, dtype in loads.items()}


def value_of(e: Expr, given: Points) -> Any:
    lanes, arrays = scope_of(e, given)
    value = evaluate_expr(e, lanes, {}, arrays)
    return np.broadcast_to(value, (len(lanes[LANE]),))


_WHOLE: Final[Mapping[str, Callable[..., Any]]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "neg": operator.neg,
    "min": np.minimum, "max": np.maximum,
    "mod": np.frompyfunc(lambda a, b: a % b if b else 0, 2, 1), "floordiv": np.frompyfunc(lambda a, b: a // b if b else 0, 2, 1),
}  # fmt: skip
_ORDER: Final = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne}


def holds(claim: Claim, g: Guard, given: Points) -> Any:
    """Where a guard is true, by the words of the rule language: comparisons of integers are about mathematical integers."""
    if g.kind in SCOPE:
        return np.asarray(True)
    if g.kind == "nowrap":
        return _fits(claim, g.args[0], given)
    x = _plain(claim, g.args[0], given)
    floating = x.dtype.kind == "f"
    match g.kind:
        case kind if kind in _ORDER:
            values = [_plain(claim, a, given) if floating else _whole(claim, a, given) for a in g.args]
            return np.asarray(_ORDER[kind](*values), bool)
        case "pow2" if floating:
            mantissa, _ = np.frexp(x)
            with np.errstate(all="ignore"):
                back = 1 / x
            tiny = np.finfo(np.float32).tiny
            return (np.abs(mantissa) == 0.5) & (np.abs(x) >= tiny) & (np.abs(back) >= tiny)
        case "pow2":
            return np.asarray([int(v) > 0 and int(v).bit_count() == 1 for v in x.ravel()], bool).reshape(x.shape)
        case "divides":
            y = _plain(claim, g.args[1], given)
            return (x != 0) & (_WHOLE["mod"](y.astype(object), x.astype(object)) == 0).astype(bool)
        case "nonneg":
            return ~(x < 0)
        case "positive":
            return x > 0
        case "nonzero":
            return x != 0
        case "finite":
            return np.isfinite(x)
        case "notnan":
            return ~np.isnan(x)
        case _:
            raise AssertionError(g.kind)


def _plain(claim: Claim, p: Pattern, given: Points) -> Any:
    """A guard's expression in machine arithmetic: an axis for the lanes, and one for each index that a variable may depend on."""
    match p:
        case Var():
            array, over = np.asarray(given[p.name]), claim.depends().get(p.name, ())
            extents = dict(zip(over, array.shape[1:], strict=True))
            return array.reshape(len(array), *(extents.get(index, 1) for index in claim.indices))
        case Apply():
            with np.errstate(all="ignore"):
                return np.asarray(OPS[p.op].numpy(*(_plain(claim, a, given) for a in p.args)))
        case _:
            return value_of(claim.expression(p), given).reshape(-1, *(1 for _ in claim.indices))


def _whole(claim: Claim, p: Pattern, given: Points) -> Any:
    if not isinstance(p, Apply):
        return np.asarray(_plain(claim, p, given)).astype(object)
    return _WHOLE[p.op](*(_whole(claim, a, given) for a in p.args))


def _fits(claim: Claim, p: Pattern, given: Points) -> Any:
    fits = np.asarray(True)
    for x in subpatterns(p):
        if isinstance(x, Apply) and x.op in ("add", "sub", "mul", "neg"):
            true = _WHOLE[x.op](*(_plain(claim, a, given).astype(object) for a in x.args))
            ends = np.iinfo(claim.dtypes[x.type].numpy)
            fits = fits & np.asarray((true >= ends.min) & (true <= ends.max), bool)
    return fits

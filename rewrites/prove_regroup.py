"""Turns a rule that only regroups float sums into a question about multisets: a reduction is the bag of its terms.

A reduction has no order, so equal bags of terms are equal values: a reduction of reductions of its own kind is one bag, and one term
is its own reduction. Arithmetic is uninterpreted: nothing is assumed of `+`, `*`, `exp` …, but that `+` and `*` commute.
"""

from dataclasses import dataclass, field
from typing import Final

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.ops import OPS, REDUCTIONS
from rewrites.pattern import Apply, Lit, Pattern
from rewrites.prove_meaning import over_nothing
from rewrites.prove_terms import Encoding, Term, Unsupported, z3
from rewrites.prove_unroll import Ground
from rewrites.prove_verdict import Deadline, Outcome

RESOURCES: Final = 4_000_000


@dataclass(slots=True)
class _Bags(Encoding):
    """Floats are of an uninterpreted sort; integers and truth values are themselves."""

    terms: list[Term] = field(default_factory=list[Term])

    def sort(self, dtype: DType) -> Term:
        return z3.DeclareSort(dtype.name) if dtype.is_float else Encoding.sort(self, dtype)

    def literal(self, p: Lit) -> Term:
        dtype = self.dtype(p.type)
        return z3.Const(f"literal {float(p.value)!r}", self.sort(dtype)) if dtype.is_float else Encoding.literal(self, p)

    def applied(self, p: Apply) -> Term:
        dtype = self.dtype(p.type)
        if p.op in REDUCTIONS and p.op not in OPS:
            return self.bag(p, dtype)
        result = self.dtype(p.result)
        if p.op == "select" or not (dtype.is_float or result.is_float):
            return Encoding.applied(self, p)
        args = [self.value(a) for a in p.args]
        function = z3.Function(f"{p.op} {result}", *(a.sort() for a in args), self.sort(result))
        if OPS[p.op].commutative:
            self.axioms.append(function(*args) == function(*args[::-1]))
        return function(*args)

    def bag(self, p: Apply, dtype: DType) -> Term:
        """The reduction: `made` of the sum of what `counted` gives for each term."""
        if p.args and all(isinstance(a, Lit) and a.value == REDUCTIONS[p.op].over_nothing and str(a.value) != "-0.0" for a in p.args):
            return self.value(p.args[0])  # of reductions over nothing: 0 + 0 is 0, 1 * 1 is 1
        sort = self.sort(dtype)
        counted, made = z3.Function(f"counted {p.op}", sort, z3.IntSort()), z3.Function(f"made {p.op}", z3.IntSort(), sort)
        args = [self.value(a) for a in p.args]
        if p.op == "expsum":
            pair = z3.Function("weighted", sort, sort, sort)
            args = [pair(s, v) for s, v in zip(args[::2], args[1::2], strict=True)]
        total = z3.Sum(*(counted(a) for a in args)) if args else z3.IntVal(0)
        if not args:
            self.axioms.append(made(total) == self.literal(Lit(over_nothing(p.op, dtype), p.type)))
        self.axioms.append(counted(made(total)) == total)
        if p.op != "expsum":
            self.axioms += [made(counted(a)) == a for a in args]
        return made(total)


def regrouped(ground: Ground, deadline: Deadline) -> Outcome:
    """Whether the sides are equal whatever the float operations mean. It proves or gives up."""
    bags = _Bags(ground.dtypes)
    try:
        left, right = (bags.value(side) for side in (ground.rule.lhs, ground.rule.rhs))
        guards = [bags.guard(g) for g in ground.rule.guards if not _of_floats(g.args[0], bags)]
    except (Unsupported, z3.Z3Exception) as missing:
        return Outcome("unknown", why=f"no translation of {missing}")
    solver = z3.Solver()
    solver.set("rlimit", RESOURCES)
    solver.set("timeout", deadline.milliseconds)
    solver.add(*bags.axioms, *guards, left != right)
    answer = solver.check()
    if answer == z3.unsat:
        return Outcome("proved", "z3 multisets", "any meaning of the float operations")
    where = f" at {ground.where}" if ground.where else ""
    return Outcome("unknown", why=f"the sides differ by more than the grouping of their sums{where}" if answer == z3.sat else "z3 gave up")


def _of_floats(p: Pattern, bags: _Bags) -> bool:
    return isinstance(p, Apply) or bags.dtype(p.type).is_float or bags.dtype(p.type) is BOOL

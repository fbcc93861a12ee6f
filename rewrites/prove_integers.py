"""Turns an integer rule into a question about mathematical integers, for z3: there `//` and `%` of products are easier than as bits.

A machine integer of w bits is a mathematical one from -2**(w-1) to 2**(w-1) - 1. Sums and products are exact until something else looks at
them; there the machine's value is `exact + k * 2**w` for some k, and k = 0 where a guard `nowrap` says so. `x // n` and `x % n` are the q
and r with x = n * q + r and r between 0 and n. z3 does not multiply inequalities by itself, so the products that such
proofs need are handed to it: of each divisor with each remainder's bounds, and with each difference of interest (lemmas are valid for
all integers, so they cannot make a wrong rule true).
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kernel_ir.dtypes import BOOL, DType
from rewrites.guards import COMPARISONS, SCOPE, WRAPPING, Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, multiplied_out, subpatterns, type_of
from rewrites.prove_terms import ORDER, PLAIN, RING, WIDTHS, Term, Unsupported, z3
from rewrites.prove_unroll import BOOLEAN, Ground
from rewrites.prove_verdict import Deadline, Outcome

RESOURCES: Final = 2_500_000
PLAINLY: Final = "plainly"
"""Not a logic, but z3's solver as it is. Else it first looks for solutions of few bits, which takes a hundred times as long as the proof
that the lemmas make easy."""
ATTEMPTS: Final = (("QF_NIA", 0), ("", 0), ("", 1), ("QF_NIA", 2))
"""Logics (z3's own choice: "") and seeds."""
MOST_LEMMAS: Final = 600
MOST_GROUPS: Final = 60
SOON: Final = 3
"""Of the resources, the part that the first question with all lemmas may take."""
ALONE: Final = 8
"""Of the resources, the part that a group of lemmas alone may take."""
MOST_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class _Division:
    dividend: Term
    divisor: Term
    quotient: Term
    remainder: Term


@dataclass(slots=True)
class _Integers:
    """Terms of one query, and the facts that they come with."""

    dtypes: Mapping[int, DType]
    guards: tuple[Guard, ...]
    exact_nodes: frozenset[Pattern]
    count: int = 0
    facts: list[Term] = field(default_factory=list[Term])
    divisions: dict[tuple[str, str], _Division] = field(default_factory=dict[tuple[str, str], _Division])
    known: dict[Pattern, Term] = field(default_factory=dict[Pattern, Term])
    whole: dict[Pattern, Term] = field(default_factory=dict[Pattern, Term])

    def dtype(self, t: int) -> DType:
        return BOOL if t == BOOLEAN else self.dtypes[t]

    def fresh(self, name: str) -> Term:
        self.count += 1
        return z3.Int(f"{name}.{self.count}")

    def in_range(self, x: Term, dtype: DType) -> Term:
        half = 2 ** (WIDTHS[dtype.name] - 1)
        return z3.And(-half <= x, x <= half - 1)

    def value(self, p: Pattern) -> Term:
        """The machine's value."""
        if p not in self.known:
            self.known[p] = self._value(p)
        return self.known[p]

    def _value(self, p: Pattern) -> Term:
        match p:
            case Var() if self.dtype(p.type) is BOOL:
                return z3.Bool(p.name)
            case Var():
                x = z3.Int(p.name)
                self.facts.append(self.in_range(x, self.dtype(p.type)))
                return x
            case Lit() if self.dtype(p.type) is BOOL:
                return z3.BoolVal(bool(p.value))
            case Lit():
                return z3.IntVal(int(p.value))
            case Apply() if p.op in WRAPPING:
                return self.wrapped(p)
            case Apply():
                return self.applied(p)
            case _:
                raise Unsupported(str(p))

    def exact(self, p: Pattern) -> Term:
        """The value of a tree of sums and products before any wrap: congruent to the machine's."""
        if not (isinstance(p, Apply) and p.op in WRAPPING):
            return self.value(p)
        if p not in self.whole:
            args = [self.exact(a) for a in p.args]
            self.whole[p] = RING[p.op](*args)
        return self.whole[p]

    def wrapped(self, p: Apply) -> Term:
        dtype = self.dtype(p.type)
        if p in self.exact_nodes:
            return RING[p.op](*(self.value(a) for a in p.args))
        x, turns = self.fresh("w"), self.fresh("k")
        self.facts += [x == self.exact(p) + turns * 2 ** WIDTHS[dtype.name], self.in_range(x, dtype)]
        return x

    def applied(self, p: Apply) -> Term:
        dtype = self.dtype(p.type)
        if p.op == "powi":
            product = multiplied_out(p)
            if product is None or (isinstance(product, Apply) and product.op == "div"):
                raise Unsupported("this power")
            return self.value(product)
        args = [self.value(a) for a in p.args]
        least = -(2 ** (WIDTHS[dtype.name] - 1))
        if p.op in ("floordiv", "mod"):
            division = self.division(*args)
            if p.op == "mod" or self.positive(p.args[1]):
                return division.remainder if p.op == "mod" else division.quotient
            return z3.If(z3.And(args[0] == least, args[1] == -1), least, division.quotient)
        if p.op == "shr" and isinstance(p.args[1], Lit) and 0 <= p.args[1].value < WIDTHS[dtype.name]:
            return self.division(args[0], z3.IntVal(2 ** int(p.args[1].value))).quotient
        if p.op == "abs":
            return z3.If(args[0] == least, least, z3.If(args[0] < 0, -args[0], args[0]))
        if p.op not in _OTHER:
            raise Unsupported(p.op)
        return _OTHER[p.op](*args)

    def positive(self, p: Pattern) -> bool:
        """Whether a guard, or the literal itself, says so."""
        if isinstance(p, Lit):
            return p.value > 0
        for g in self.guards:
            match g:
                case Guard("positive", (a,)) | Guard("gt", (a, Lit(value=0 | 1))) | Guard("lt", (Lit(value=0 | 1), a)) if a == p:
                    return True
                case _:
                    pass
        return False

    def division(self, x: Term, n: Term) -> _Division:
        key = (x.sexpr(), n.sexpr())
        if key not in self.divisions:
            q, r = self.fresh("q"), self.fresh("r")
            self.facts += [
                z3.Implies(n != 0, x == n * q + r),
                z3.Implies(n > 0, z3.And(r >= 0, r < n)),
                z3.Implies(n < 0, z3.And(n < r, r <= 0)),
                z3.Implies(n == 0, z3.And(q == 0, r == 0)),
            ]
            self.divisions[key] = _Division(x, n, q, r)
        return self.divisions[key]

    # guards

    def multiples(self) -> None:
        """What `divides(d, n)` says: n is d * m from the start, so that products of it are products of d."""
        for g in self.guards:
            if g.kind == "divides":
                d, n = g.args
                assert isinstance(n, Var)
                if n in self.known:
                    raise Unsupported("a chain of multiples")
                divisor, m = self.value(d), self.fresh("m")
                self.known[n] = divisor * m
                self.facts += [self.in_range(self.known[n], self.dtype(n.type)), divisor != 0]
                self.divisions[self.known[n].sexpr(), divisor.sexpr()] = _Division(self.known[n], divisor, m, z3.IntVal(0))

    def guard(self, g: Guard) -> Term:
        a = g.args[0]
        match g.kind:
            case kind if kind in SCOPE:
                return z3.BoolVal(True)
            case "nowrap":
                nodes = [x for x in subpatterns(a) if isinstance(x, Apply) and x.op in WRAPPING]
                return z3.And(*(self.in_range(RING[x.op](*(self.value(v) for v in x.args)), self.dtype(x.type)) for x in nodes), True)
            case "divides":
                # Its dividend was made a multiple of its divisor before anything else was translated.
                return self.value(g.args[0]) != 0
            case kind if kind in COMPARISONS and self.dtype(type_of(a)) is not BOOL:
                return _OTHER[kind](*(self.guarded(x) for x in g.args))
            case "nonneg":
                return self.value(a) >= 0
            case "positive":
                return self.value(a) > 0
            case "nonzero":
                return self.value(a) != 0
            case _:
                raise Unsupported(g.kind)

    def guarded(self, p: Pattern) -> Term:
        """An integer expression of a guard: of mathematical integers throughout."""
        if not isinstance(p, Apply):
            return self.value(p)
        args = [self.guarded(a) for a in p.args]
        if p.op in ("floordiv", "mod"):
            division = self.division(*args)
            return division.remainder if p.op == "mod" else division.quotient
        if p.op in RING:
            return RING[p.op](*args)
        return _OTHER[p.op](*args)

    def lemmas(self, sides: tuple[Pattern, ...]) -> list[list[Term]]:
        """Products of inequalities: of each divisor with the remainders' bounds, and with the sign of what is of interest, in groups.

        Of interest for a divisor n: what stands beside n in a product, and quotients, each added, subtracted or left out.
        """
        found: list[list[Term]] = []
        divisions = list(self.divisions.values())
        products = [poly for side in sides for x in subpatterns(side) for poly in [self.polynomial(x)]]
        for name, n in {d.divisor.sexpr(): d.divisor for d in divisions}.items():
            if z3.is_int_value(n):
                continue
            factors = tuple(sorted(_factors(n)))
            beside = dict.fromkeys(c for poly in products for c in (_without(m, factors) for m in poly) if c is not None)
            named = {
                t.sexpr(): t for t in [*(_product(c) for c in beside if c), *(d.quotient for d in divisions if d.divisor.sexpr() == name)]
            }
            others = list(named.values())
            for signs in itertools.product((1, 0, -1), repeat=min(len(others), MOST_PARTS)):
                if next((s for s in signs if s), 0) != 1:
                    continue
                t = z3.Sum(*(s * x for s, x in zip(signs, others, strict=False) if s))
                group: list[Term] = [z3.Implies(t == 0, n * t == 0)]
                for s in (1, -1):
                    group += [
                        z3.Implies(z3.And(s * n > 0, t > 0), s * n * t >= s * n),
                        z3.Implies(z3.And(s * n > 0, t < 0), s * n * t <= -s * n),
                    ]
                found.append(group)
            for d in divisions:
                bounds = z3.And(n * d.remainder >= 0, n * d.remainder <= n * d.divisor - n)
                found.append([z3.Implies(z3.And(n > 0, d.divisor > 0), bounds)])
        return found

    def times_remainders(self, sides: tuple[Pattern, ...]) -> Iterator[Term]:
        """Of each (x % n) * y: it is x * y - n * (x // n) * y."""
        for p in (x for side in sides for x in subpatterns(side) if isinstance(x, Apply) and x.op == "mul"):
            for a, y in (p.args, p.args[::-1]):
                if isinstance(a, Apply) and a.op == "mod":
                    d, factor = self.division(*(self.value(v) for v in a.args)), self.value(y)
                    yield z3.Implies(d.divisor != 0, d.remainder * factor == d.dividend * factor - d.divisor * d.quotient * factor)

    def polynomial(self, p: Pattern) -> dict[tuple[str, ...], int]:
        """The exact value as a sum of products of z3 constants by name; x % n as x - n * (x // n)."""
        match p:
            case Apply("add" | "sub" as op, (a, b)):
                return _added(self.polynomial(a), self.polynomial(b), 1 if op == "add" else -1)
            case Apply("neg", (a,)):
                return _added({}, self.polynomial(a), -1)
            case Apply("mul", (a, b)):
                return _multiplied(self.polynomial(a), self.polynomial(b))
            case Apply("mod", (a, n)):
                quotient = self.division(self.value(a), self.value(n)).quotient
                return _added(self.polynomial(a), _multiplied(self.polynomial(n), {(quotient.sexpr(),): 1}), -1)
            case _:
                term = self.value(p)
                if z3.is_bool(term):
                    return {}
                return {tuple(sorted(_factors(term))): 1} if not isinstance(p, Lit) else {(): int(p.value)}


def _nested(divisions: list[_Division]) -> list[Term]:
    """Of each (x // d) // m beside x // (d * m): they are equal, x % (d * m) is d * (x // d % m) + x % d, for positive d and m."""
    found: list[Term] = []
    for inner, outer, whole in itertools.permutations(divisions, 3):
        chained = outer.dividend.sexpr() == inner.quotient.sexpr() and whole.dividend.sexpr() == inner.dividend.sexpr()
        if chained and sorted(_factors(whole.divisor)) == sorted([*_factors(inner.divisor), *_factors(outer.divisor)]):
            equal = z3.And(outer.quotient == whole.quotient, whole.remainder == inner.divisor * outer.remainder + inner.remainder)
            found.append(z3.Implies(z3.And(inner.divisor > 0, outer.divisor > 0), equal))
    return found


def _factors(term: Term) -> list[str]:
    """Names of the factors of a product."""
    return [f for x in term.children() for f in _factors(x)] if z3.is_mul(term) else [term.sexpr()]


def _without(monomial: tuple[str, ...], factors: tuple[str, ...]) -> tuple[str, ...] | None:
    """The monomial divided by the product of the factors."""
    rest = list(monomial)
    for f in factors:
        if f not in rest:
            return None
        rest.remove(f)
    return tuple(rest)


def _product(names: tuple[str, ...]) -> Term:
    first, *rest = (z3.Int(n.strip("|")) for n in names)
    return z3.Product(first, *rest) if rest else first


def _added(a: Mapping[tuple[str, ...], int], b: Mapping[tuple[str, ...], int], sign: int) -> dict[tuple[str, ...], int]:
    total = {m: a.get(m, 0) + sign * b.get(m, 0) for m in {**a, **b}}
    return {m: c for m, c in total.items() if c}


def _multiplied(a: Mapping[tuple[str, ...], int], b: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    total: dict[tuple[str, ...], int] = {}
    for m, c in a.items():
        for n, d in b.items():
            key = tuple(sorted((*m, *n)))
            total[key] = total.get(key, 0) + c * d
    return total


def _sign(a: Term) -> Term:
    return z3.If(a > 0, z3.IntVal(1), z3.If(a < 0, z3.IntVal(-1), z3.IntVal(0)))


_OTHER: Final = {**ORDER, **PLAIN, "sign": _sign}


def true_of_integers(ground: Ground, deadline: Deadline, resources: int = RESOURCES) -> Outcome:
    """Whether the sides agree, by an argument about mathematical integers. It proves or gives up; it never refutes."""
    rule = ground.rule
    exact = frozenset(
        x for g in rule.guards if g.kind == "nowrap" for x in subpatterns(g.args[0]) if isinstance(x, Apply) and x.op in WRAPPING
    )
    worker = _Integers(ground.dtypes, rule.guards, exact)
    try:
        worker.multiples()
        guards = [worker.guard(g) for g in rule.guards]
        left, right = worker.value(rule.lhs), worker.value(rule.rhs)
        groups = worker.lemmas((rule.lhs, rule.rhs))
    except (Unsupported, KeyError) as missing:
        return Outcome("unknown", why=f"no translation of {missing}")
    facts = [*guards, *worker.facts, *worker.times_remainders((rule.lhs, rule.rhs)), *_nested(list(worker.divisions.values()))]
    question = _text(*facts, *[lemma for group in groups for lemma in group][:MOST_LEMMAS], left != right)
    if _unsatisfiable(question, PLAINLY, 0, resources // SOON, deadline):
        return Outcome("proved")
    for group in ([], *groups[:MOST_GROUPS]):
        if len(group) != 1 and _unsatisfiable(_text(*facts, *group, left != right), PLAINLY, 0, resources // ALONE, deadline):
            return Outcome("proved")
    for logic, seed in ((PLAINLY, 0), *ATTEMPTS):
        if _unsatisfiable(question, logic, seed, resources, deadline):
            return Outcome("proved")
        if deadline.passed:
            break
    return Outcome("unknown", why="z3 gave up")


def _text(*facts: Term) -> str:
    solver = z3.Solver()
    solver.add(*facts)
    return solver.to_smt2()


def _unsatisfiable(text: str, logic: str, seed: int, resources: int, deadline: Deadline) -> bool:
    """Asked in a context of its own: what z3 did before would change its search."""
    context = z3.Context()
    makers = {PLAINLY: z3.SimpleSolver, "": z3.Solver}
    solver = makers[logic](ctx=context) if logic in makers else z3.SolverFor(logic, ctx=context)
    solver.set("rlimit", resources)
    solver.set("timeout", deadline.milliseconds)
    solver.set("random_seed", seed)
    solver.from_string(text)
    return solver.check() == z3.unsat

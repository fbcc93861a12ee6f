"""Turns a rule as parsed (`syntax.RuleSyntax`) into a typed `Rule`: names bound, type variables solved, scopes checked."""

import difflib
import math
from collections.abc import Iterable
from typing import Final

from kernel_ir import syntax
from kernel_ir.dtypes import ARITHMETIC, BOOL, DTYPES, F32, F64, I32, I64, DType
from kernel_ir.errors import RuleError, Span
from kernel_ir.fastmath import Flag
from kernel_ir.nodes import const
from kernel_ir.ops import BINARY_SYMBOLS, CONSTANTS, FUNCTIONS, OPS, REDUCTIONS, Op
from rewrites.guards import COMPARISONS, GUARDS, Guard
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, scopes, subpatterns, type_of, variables
from rewrites.rule import Rule, Within, source_text

Types = tuple[DType, ...]
FLOATS: Final[Types] = (F32, F64)
INTS: Final[Types] = (I32, I64)
ON: Final[dict[str, Types]] = {
    "float": FLOATS,
    "int": INTS,
    "number": (*INTS, *FLOATS),
    "any": ARITHMETIC,
    **{t.name: (t,) for t in ARITHMETIC},
}
_LITERALS: Final[dict[str, bool | float]] = {"true": True, "false": False, **{name: CONSTANTS[name] for name in ("inf", "nan", "pi")}}
_FLOAT_GUARDS: Final = ("gt", "ge", "ne")
_COMPARE: Final = {OPS[name].symbol: name for name in COMPARISONS}


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them."""
    names = sorted(known)
    if not names:
        return "there is none"
    near = difflib.get_close_matches(word, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


class _TypeVariables:
    """Union-find over type variables, each with the dtypes it may still be."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.allowed: list[Types] = []

    def fresh(self, allowed: Types) -> int:
        self.parent.append(len(self.parent))
        self.allowed.append(allowed)
        return len(self.parent) - 1

    def root(self, v: int) -> int:
        while self.parent[v] != v:
            v = self.parent[v]
        return v

    def restrict(self, v: int, allowed: Types, span: Span) -> None:
        v = self.root(v)
        both = tuple(t for t in self.allowed[v] if t in allowed)
        if not both:
            raise RuleError(
                f"the types do not agree: this is {_names(self.allowed[v])}, and must be {_names(allowed)}",
                span,
                "convert with a cast, such as f32(…)",
            )
        self.allowed[v] = both

    def unify(self, a: int, b: int, span: Span) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self.restrict(b, self.allowed[a], span)
            self.parent[a] = b


def _wrong_count(name: str, wanted: int, what: str, found: int, span: Span) -> RuleError:
    what = what if wanted == 1 else f"{what}s"
    hint = f"write one {what}" if wanted == 1 else f"write {wanted} {what}, with commas between"
    return RuleError(f"{name} takes {wanted} {what}, found {found}", span, hint)


def _names(types: Types) -> str:
    return " or ".join(t.name for t in types)


class _Elaborator:
    def __init__(self) -> None:
        self.types = _TypeVariables()
        self.variables: dict[str, int] = {}
        self.places: dict[str, Span] = {}
        self.numbers: list[tuple[Lit, Span]] = []
        self.indices: set[str] = set()
        self.places_of: dict[str, str] = {}
        """For a variable that is written `f[k]`, the index k."""
        self.right = False
        self.bool = self.types.fresh((BOOL,))
        self.i64 = self.types.fresh((I64,))

    def pattern(self, e: syntax.SyntaxExpr, indices: frozenset[str] = frozenset()) -> Pattern:
        """The typed pattern of an expression inside the reductions over `indices`."""
        match e:
            case syntax.Group() | syntax.Expanded():
                return self.pattern(e.body, indices)
            case syntax.Number():
                return self.number(e.value, e.span)
            case syntax.Unary("-", syntax.Number(value)):
                return self.number(-value, e.span)
            case syntax.Name():
                return self.name(e, indices)
            case syntax.Unary():
                if e.op == "+":
                    return self.pattern(e.operand, indices)
                return self.apply(OPS[{"-": "neg", "~": "bnot", "not": "not"}[e.op]], [e.operand], indices, e.span)
            case syntax.Binary(op="**", right=(syntax.Number(int()) | syntax.Unary("-", syntax.Number(int())))):
                return self.apply(OPS["powi"], [e.left, e.right], indices, e.span)
            case syntax.Binary():
                return self.apply(OPS["pow" if e.op == "**" else BINARY_SYMBOLS[e.op]], [e.left, e.right], indices, e.span)
            case syntax.Compare():
                return self.comparison(e, indices)
            case syntax.Select():
                return self.apply(OPS["select"], [e.condition, e.then, e.otherwise], indices, e.span)
            case syntax.CallSyntax():
                return self.call(e, indices)
            case syntax.ReduceSyntax():
                return self.reduction(e, indices)
            case syntax.Index():
                return self.indexed(e, indices)
            case syntax.FoldSyntax():
                raise RuleError("a rule cannot name a fold", e.span, "a variable stands for any expression, folds included")

    def indexed(self, e: syntax.Index, indices: frozenset[str]) -> Pattern:
        """`f[k]` inside the reduction over k: an expression that may read k. `f[e]` on the right: that expression, with e for k."""
        name, *others = e.array.name, *e.indices
        if len(others) != 1 or e.default is not None:
            raise RuleError("a rule cannot name an array", e.span, "a variable stands for any expression, reads included")
        (place,) = others
        if isinstance(place, syntax.Name) and place.name in indices:
            self.places_of.setdefault(name, place.name)
            if self.places_of[name] != place.name:
                raise RuleError(
                    f"{name!r} stands for what reads {self.places_of[name]!r}", place.span, f"write {name}[{self.places_of[name]}]"
                )
            return self.name(e.array, indices)
        if name not in self.places_of or not self.right:
            hint = f"write {name}[k] on the left, inside a reduction over k: then {name}[e] on the right is the same with e for k"
            raise RuleError(f"nothing says which index of {name!r} becomes this", e.span, hint)
        of, to = self.name(e.array, indices), self.pattern(place, indices)
        assert isinstance(of, Var)
        self.types.unify(self.i64, type_of(to), place.span)
        return At(of, self.places_of[name], to, of.type)

    def number(self, value: bool | int | float, span: Span) -> Pattern:
        if isinstance(value, bool):
            return Lit(value, self.bool)
        literal = Lit(value, self.types.fresh(FLOATS if isinstance(value, float) else (*INTS, *FLOATS)))
        self.numbers.append((literal, span))
        return literal

    def name(self, e: syntax.Name, indices: frozenset[str]) -> Pattern:
        if e.name in _LITERALS:
            return self.number(_LITERALS[e.name], e.span)
        if e.name in indices:
            return Index(e.name, self.i64)
        if e.name not in self.variables:
            self.variables[e.name] = self.types.fresh(ARITHMETIC)
            self.places[e.name] = e.span
        return Var(e.name, self.variables[e.name])

    def apply(self, op: Op, args: list[syntax.SyntaxExpr], indices: frozenset[str], span: Span) -> Pattern:
        return self.node(op, [(self.pattern(a, indices), a.span) for a in args], span)

    def node(self, op: Op, args: list[tuple[Pattern, Span]], span: Span) -> Pattern:
        """The op applied, its signature unified with the arguments' types."""
        letters, _, out = op.signature.partition("->")
        if len(args) != len(letters):
            raise _wrong_count(op.name, len(letters), "argument", len(args), span)
        t = self.types.fresh(op.types.value)
        for letter, (arg, place) in zip(letters, args, strict=True):
            self.types.unify(type_of(arg), {"T": t, "x": t, "b": self.bool, "i": self.i64}[letter], place)
        results = {"T": t, "b": self.bool, "i": self.i64}
        result = results[out] if op.cast is None else self.types.fresh((DTYPES[op.cast.reads_as],))
        return Apply(op.name, tuple(arg for arg, _ in args), t, result)

    def comparison(self, e: syntax.Compare, indices: frozenset[str]) -> Pattern:
        links = [
            self.apply(OPS[_COMPARE[op]], [a, b], indices, e.span)
            for op, a, b in zip(e.ops, e.operands[:-1], e.operands[1:], strict=True)
        ]  # fmt: skip
        whole = links[0]
        for link in links[1:]:
            whole = self.node(OPS["and"], [(whole, e.span), (link, e.span)], e.span)
        return whole

    def call(self, e: syntax.CallSyntax, indices: frozenset[str]) -> Pattern:
        name = e.function.name
        if name not in FUNCTIONS and name not in DTYPES and name != "powi":
            raise RuleError(f"unknown function {name!r}", e.function.span, suggest(name, FUNCTIONS))
        return self.apply(OPS[name], list(e.args), indices, e.span)

    def reduction(self, e: syntax.ReduceSyntax, indices: frozenset[str]) -> Pattern:
        kind = e.kind.name
        if kind not in REDUCTIONS:
            raise RuleError(f"unknown reduction {kind!r}", e.kind.span, suggest(kind, REDUCTIONS))
        first, *rest = e.ranges
        name = first.index.name
        if any(name == other.index.name for other in rest):
            raise RuleError(f"{name!r} is there twice", first.index.span, "give each index a name of its own")
        self.indices.add(name)
        lo, hi = (
            Var(f"{name}.{end}", self.i64) if bound is None else self.pattern(bound, indices)
            for end, bound in (("lo", first.lo), ("hi", first.hi))
        )
        for bound in (lo, hi):
            self.types.unify(type_of(bound), self.i64, first.span)
        inner = indices | {name}
        if rest:
            nested = self.reduction(syntax.ReduceSyntax(e.kind, tuple(rest), e.bodies, e.span), inner)
            return Reduction(kind, name, lo, hi, (nested,), type_of(nested), type_of(nested))
        bodies = tuple(self.pattern(b, inner) for b in e.bodies)
        if len(bodies) != (2 if kind == "expsum" else 1):
            raise _wrong_count(kind, 2 if kind == "expsum" else 1, "expression", len(bodies), e.span)
        t = self.types.fresh(REDUCTIONS[kind].types.value)
        for body, place in zip(bodies, e.bodies, strict=True):
            self.types.unify(type_of(body), t, place.span)
        return Reduction(kind, name, lo, hi, bodies, t, self.i64 if kind.startswith("arg") else t)

    def guards(self, items: Iterable[syntax.Guard]) -> list[Guard]:
        return [guard for item in items for guard in self.guard(item)]

    def guard(self, g: syntax.Guard) -> list[Guard]:
        match g:
            case syntax.Absent():
                if g.index.name not in self.indices:
                    raise RuleError(f"no reduction runs over {g.index.name!r}", g.index.span, suggest(g.index.name, self.indices))
                return [Guard("absent", (Index(g.index.name, self.i64), self.name(g.variable, frozenset())), g.span)]
            case syntax.Group() | syntax.Expanded():
                return self.guard(g.body)
            case syntax.Compare():
                return [self.compared(_COMPARE[op], a, b, g.span) for op, a, b in zip(g.ops, g.operands[:-1], g.operands[1:], strict=True)]
            case syntax.CallSyntax() if g.function.name in GUARDS:
                kind = GUARDS[g.function.name]
                args = tuple(self.pattern(a) for a in g.args)
                if len(args) != kind.arity:
                    raise _wrong_count(kind.name, kind.arity, "argument", len(args), g.span)
                for arg, place in zip(args, g.args, strict=True):
                    self.types.restrict(type_of(arg), ON[kind.sort], place.span)
                return [Guard(kind.name, args, g.span)]
            case syntax.CallSyntax():
                raise RuleError(f"unknown guard {g.function.name!r}", g.function.span, suggest(g.function.name, GUARDS))
            case _:
                raise RuleError("this is no guard", g.span, f"write a comparison, `i not in a`, or one of {', '.join(GUARDS)}")

    def compared(self, kind: str, a: syntax.SyntaxExpr, b: syntax.SyntaxExpr, span: Span) -> Guard:
        left, right = self.pattern(a), self.pattern(b)
        self.types.unify(type_of(left), type_of(right), span)
        return Guard(kind, (left, right), span)


def elaborate(rule: syntax.RuleSyntax, family: str) -> Rule:
    """The typed rule; RuleError for an unbound or captured variable, an unknown name, types that cannot agree."""
    flags = frozenset(_flag(name, span) for name, span in zip(rule.needs, rule.needs_spans, strict=True))
    worker = _Elaborator()
    lhs = worker.pattern(rule.lhs)
    worker.right = True
    rhs = worker.pattern(rule.rhs)
    worker.types.unify(type_of(lhs), type_of(rhs), rule.span)
    guards = worker.guards(rule.guards)
    if rule.both and any(isinstance(p, At) for p in subpatterns(rhs)):
        raise RuleError("what was put in an index's place cannot be taken out again", rule.span, "write `=>`")
    _check_bound(rule, worker, lhs, rhs, guards)
    guards += _scope_guards(rule, worker, lhs, rhs, guards)
    used = {worker.types.root(type_of(p)) for side in (lhs, rhs) for p in subpatterns(side)}
    _choose_types(rule, worker, used, bool(flags))
    types = tuple(worker.types.allowed[worker.types.root(v)] for v in range(len(worker.types.parent)))
    _check_numbers(worker, types)
    left, right, *sides = (_resolved(p, worker.types) for p in (lhs, rhs, *(a for g in guards for a in g.args)))
    if left == right:
        raise RuleError("both sides are the same", rule.span, "take the rule out, or write what the left side becomes")
    typed: list[Guard] = []
    for g in guards:
        args, sides = tuple(sides[: len(g.args)]), sides[len(g.args) :]
        typed.append(_variable_first(Guard(g.kind, args, g.span)))
        _check_guard(typed[-1], types)
    within = _within(rule, flags)
    return Rule(rule.name, family, left, right, rule.both, types, tuple(typed), flags, source_text(rule.span), rule.span, within)


def _within(rule: syntax.RuleSyntax, flags: frozenset[Flag]) -> Within | None:
    """The stated error; RuleError for an unknown unit, an error of nothing, or one that no flag licenses."""
    stated = rule.within
    if stated is None:
        return None
    if stated.unit not in ("", "relative", "ulp"):
        raise RuleError(
            f"unknown unit {stated.unit!r} of an error",
            stated.span,
            "write `within 2e-3` (absolute), `within 1e-6 relative` or `within 4 ulp`",
        )
    if not stated.error > 0:
        raise RuleError("an approximation has some error", stated.span, "leave the clause away: without it the sides are equal")
    if Flag.AFN not in flags:
        raise RuleError("an approximation needs the flag afn", stated.span, "add `needs afn` before `within`")
    if rule.both:
        raise RuleError(
            "an approximation has one direction", stated.span, "write `=>`: the error is that of the right side against the left"
        )
    return Within(float(stated.error), stated.unit)


def _flag(name: str, span: Span) -> Flag:
    known = {flag.value: flag for flag in Flag}
    if name not in known:
        raise RuleError(f"unknown fast-math flag {name!r}", span, suggest(name, known))
    return known[name]


def _check_bound(rule: syntax.RuleSyntax, worker: _Elaborator, lhs: Pattern, rhs: Pattern, guards: list[Guard]) -> None:
    if not isinstance(lhs, Apply | Reduction) or (rule.both and not isinstance(rhs, Apply | Reduction)):
        raise RuleError(
            "a rule must start from an operation",
            rule.span,
            "a bare variable matches everything: write `=>` with the operation on the left",
        )
    left, right = variables(lhs), variables(rhs)
    used = [*right, *(left if rule.both else ()), *(n for g in guards for a in g.args for n in variables(a))]
    for name in used:
        known = left if name not in left else right if rule.both else left
        if name not in known:
            what = f"the range of {name.partition('.')[0]!r}" if "." in name else f"variable {name!r}"
            side = "right" if name in left and rule.both else "left"
            raise RuleError(
                f"{what} is not bound on the {side} side",
                worker.places.get(name, rule.span),
                f"the {side} side has {', '.join(v for v in known if '.' not in v) or 'no variables'}",
            )


def _scope_guards(rule: syntax.RuleSyntax, worker: _Elaborator, lhs: Pattern, rhs: Pattern, guards: list[Guard]) -> list[Guard]:
    """Guards that implicit ranges need; RuleError where a variable would leave or enter a reduction's scope unguarded."""
    inside: dict[str, list[frozenset[str]]] = {}
    for side in (lhs, rhs):
        for name, around in scopes(side):
            inside.setdefault(name, []).append(around)
    given = {(i.name, v.name) for g in guards if g.kind == "absent" for i, v in [g.args] if isinstance(i, Index) and isinstance(v, Var)}
    found: list[Guard] = []
    for name, places in inside.items():
        moved = sorted(frozenset[str]().union(*places) - places[0].intersection(*places))
        for index in moved:
            if "." in name:
                found.append(Guard("absent", (Index(index, worker.i64), Var(name, worker.i64)), rule.span))
            elif (index, name) not in given:
                raise RuleError(
                    f"{name!r} is moved across the reduction over {index!r}",
                    worker.places.get(name, rule.span),
                    f"add the guard `{index} not in {name}`",
                )
    return found


def _choose_types(rule: syntax.RuleSyntax, worker: _Elaborator, used: set[int], flags: bool) -> None:
    """Settles what the operations leave open: by `on`, else float if something is, else integer."""
    types = worker.types
    roots = sorted({types.root(v) for v in range(len(types.parent))})
    if rule.on:
        wanted = tuple(dict.fromkeys(t for name, span in zip(rule.on, rule.on_spans, strict=True) for t in _on(name, span)))
        hits = [r for r in roots if set(types.allowed[r]) & set(wanted)]
        if not used & set(hits):
            raise RuleError(f"nothing in this rule can be {_names(wanted)}", rule.on_spans[0], "name a type that the operations take")
        for r in hits:
            types.allowed[r] = tuple(t for t in types.allowed[r] if t in wanted)
    open_ = [r for r in roots if not any(set(types.allowed[r]) <= set(c) for c in (FLOATS, INTS, (BOOL,)))]
    if not open_ or rule.on:
        return
    evidence = [set(types.allowed[r]) for r in roots if r not in open_ and r != types.root(worker.i64)]
    if flags or any(e <= set(FLOATS) for e in evidence):
        chosen = FLOATS
    elif any(e <= set(INTS) for e in evidence):
        chosen = INTS
    else:
        raise RuleError("nothing says which types this rule is for", rule.name_span, "add `on float`, `on int`, `on number` or `on any`")
    for r in open_:
        types.allowed[r] = tuple(t for t in types.allowed[r] if t in chosen) or types.allowed[r]


def _check_numbers(worker: _Elaborator, types: tuple[Types, ...]) -> None:
    """RuleError for a literal that some type of the rule cannot hold: it would stand for another number there."""
    for literal, span in worker.numbers:
        for dtype in types[worker.types.root(literal.type)]:
            value = const(literal.value, dtype).value
            if value != literal.value and (dtype.is_int or abs(value) == math.inf):
                raise RuleError(f"{literal.value} does not fit {dtype}", span, "write a smaller number, or name a wider type after `on`")


def _on(name: str, span: Span) -> Types:
    if name not in ON:
        raise RuleError(f"unknown type {name!r} after `on`", span, suggest(name, ON))
    return ON[name]


_TURNED: Final = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}


def _variable_first(guard: Guard) -> Guard:
    """`-4.0 <= x` as `x >= -4.0`."""
    if guard.kind in _TURNED and isinstance(guard.args[0], Lit) and isinstance(guard.args[0].value, float):
        return Guard(_TURNED[guard.kind], guard.args[::-1], guard.span)
    return guard


def _check_guard(guard: Guard, types: tuple[Types, ...]) -> None:
    if guard.kind not in COMPARISONS:
        return
    a, b = guard.args
    floats = set(types[type_of(a)]) & set(FLOATS)
    fact = guard.kind in _FLOAT_GUARDS and isinstance(b, Lit) and b.value == 0
    interval = guard.kind in ("le", "ge") and isinstance(b, Lit) and abs(b.value) < float("inf")
    if floats and not (isinstance(a, Var) and (fact or interval)):
        raise RuleError(
            "floats have no such guard",
            guard.span,
            "write x > 0, x >= 0, x != 0, a closed interval `-4.0 <= x, x <= 4.0`, or one of " + ", ".join(GUARDS),
        )


def _resolved(p: Pattern, types: _TypeVariables) -> Pattern:
    """The pattern with each type variable replaced by its root."""
    match p:
        case Var():
            return Var(p.name, types.root(p.type))
        case Index():
            return Index(p.name, types.root(p.type))
        case Lit():
            root = types.root(p.type)
            return Lit(p.value, root)
        case Apply():
            return Apply(p.op, tuple(_resolved(a, types) for a in p.args), types.root(p.type), types.root(p.result))
        case Reduction():
            lo, hi = _resolved(p.lo, types), _resolved(p.hi, types)
            bodies = tuple(_resolved(b, types) for b in p.bodies)
            return Reduction(p.kind, p.index, lo, hi, bodies, types.root(p.type), types.root(p.result))
        case At():
            return At(Var(p.of.name, types.root(p.of.type)), p.index, _resolved(p.to, types), types.root(p.type))

"""Turns the syntax of a file into kernels and rules without constants, functions, parentheses or named numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from kernel_ir import consts
from kernel_ir.dtypes import DTYPES
from kernel_ir.errors import KernelError, NameError_, Span, TypeError_
from kernel_ir.ops import CONSTANTS, FUNCTIONS, REDUCTIONS
from kernel_ir.spelling import FUNCTIONS_ELSEWHERE, suggestion
from kernel_ir.syntax import (
    Absent,
    AssignSyntax,
    Binary,
    CallSyntax,
    CarrySyntax,
    Compare,
    ConstSyntax,
    Expanded,
    File,
    FnSyntax,
    FoldSyntax,
    Group,
    Guard,
    Index,
    KernelSyntax,
    Name,
    Number,
    ParamSyntax,
    Range,
    ReduceSyntax,
    RepeatSyntax,
    RuleSyntax,
    Select,
    StatementSyntax,
    SyntaxExpr,
    Unary,
    subtrees,
)

MAX_DEPTH: Final = 120
"""Levels of nesting in one expression; more would overflow the stack of any tree walk."""
MAX_NODES: Final = 20_000
"""Nodes of one kernel after its functions are expanded."""

Env = Mapping[str, SyntaxExpr]
_T = TypeVar("_T", ConstSyntax, FnSyntax, KernelSyntax)


def kernels(file: File) -> tuple[KernelSyntax, ...]:
    """The kernels of a file, expanded."""
    scope = Scope.of(file)
    return tuple(scope.kernel(k) for k in named(file, KernelSyntax).values())


def rules(file: File) -> tuple[RuleSyntax, ...]:
    """The rules of a file, expanded."""
    scope = Scope.of(file)
    return tuple(scope.rule(item) for item in file.items if isinstance(item, RuleSyntax))


def constants(file: File) -> dict[str, int | float]:
    """The values of the constants of a file."""
    scope = Scope.of(file)
    return {name: scope.constant(name).value for name in scope.consts}


def named(file: File, kind: type[_T]) -> dict[str, _T]:
    """The items of one kind by name, or a NameError_ for a name that is defined twice."""
    found: dict[str, _T] = {}
    for item in file.items:
        if not isinstance(item, kind):
            continue
        name = item.name
        if name.name in found:
            first = found[name.name].name.span
            raise NameError_(f"`{name.name}` is defined twice: first on line {first.line}", name.span, "rename one of them")
        found[name.name] = item
    return found


@dataclass(slots=True)
class Scope:
    """The constants and functions of a file, and the state of one expansion."""

    consts: dict[str, ConstSyntax]
    fns: dict[str, FnSyntax]
    declared: frozenset[str] = frozenset()
    stack: list[tuple[str, Span]] = field(default_factory=list[tuple[str, Span]])
    values: dict[str, Number] = field(default_factory=dict[str, Number])
    depth: int = 0
    nodes: int = 0
    in_rule: bool = False
    weights: dict[int, int] = field(default_factory=dict[int, int])
    """Nodes of each argument, by identity: each use of a parameter counts the whole argument."""

    @staticmethod
    def of(file: File) -> "Scope":
        scope = Scope(named(file, ConstSyntax), named(file, FnSyntax))
        for name, fn in scope.fns.items():
            _refuse_builtin(fn.name)
            if name in scope.consts:
                raise NameError_(f"`{name}` is a constant and a function", fn.name.span, "rename one of them")
            _refuse_twice(fn.params)
        for const in scope.consts.values():
            _refuse_builtin(const.name)
            if const.name.name in CONSTANTS:
                raise NameError_(f"`{const.name.name}` is a constant of the language", const.name.span, "choose another name")
        for name in scope.consts:
            scope.constant(name)
        return scope

    def constant(self, name: str) -> Number:
        """The number that a constant stands for."""
        if name not in self.values:
            const = self.consts[name]
            self._enter(name, const.name.span)
            value = consts.evaluate(self.expr(const.value, {}, frozenset()))
            self.stack.pop()
            self.values[name] = Number(value, "", const.value.span)
        return self.values[name]

    def _enter(self, name: str, span: Span) -> None:
        names = [n for n, _ in self.stack]
        if name in names:
            chain = " → ".join((*names[names.index(name) :], name))
            raise NameError_(f"`{name}` is defined by itself: {chain}", span, "functions and constants do not recur; use `fold` for a loop")
        self.stack.append((name, span))

    def kernel(self, k: KernelSyntax) -> KernelSyntax:
        """The kernel with everything expanded."""
        targets = [s.target for s in _assigns(k.body)]
        names = [*(p.name for p in (*k.params, *k.outputs)), *targets]
        for name in names:
            if name.name in self.consts:
                line = self.consts[name.name].span.line
                raise NameError_(f"`{name.name}` is already the constant of line {line}", name.span, "choose another name")
        self.declared = frozenset(n.name for n in names)
        self.nodes = 0
        return replace(
            k,
            params=self._shaped(k.params),
            outputs=self._shaped(k.outputs),
            facts=tuple(self.expr(f, {}, self.declared) for f in k.facts),
            body=tuple(self._statement(s, self.declared) for s in k.body),
        )

    def _shaped(self, params: tuple[ParamSyntax, ...]) -> tuple[ParamSyntax, ...]:
        return tuple(replace(p, shape=tuple(self.expr(x, {}, self.declared) for x in p.shape)) for p in params)

    def _statement(self, s: StatementSyntax, bound: frozenset[str]) -> StatementSyntax:
        if isinstance(s, RepeatSyntax):
            inner = bound if s.index is None else bound | {s.index.name}
            return replace(s, steps=self.expr(s.steps, {}, bound), body=tuple(self._statement(x, inner) for x in s.body))
        ranged = {r.index.name for r in s.ranges}
        indices = {i.name for i in s.indices if isinstance(i, Name) and i.name not in self.consts}
        inner = bound | ranged | indices
        return replace(
            s,
            indices=tuple(self.expr(i, {}, inner) for i in s.indices),
            value=self.expr(s.value, {}, inner),
            ranges=tuple(self._range(r, {}, inner) for r in s.ranges),
            where=None if s.where is None else self.expr(s.where, {}, inner),
        )

    def rule(self, r: RuleSyntax) -> RuleSyntax:
        """The rule with constants and functions expanded; every other name but inf, nan and pi is a pattern variable."""
        sides = [x.name for side in (r.lhs, r.rhs) for x in subtrees(side) if isinstance(x, Name)]
        self.declared = frozenset(sides) - self.consts.keys() - {"inf", "nan", "pi"}
        self.nodes, self.in_rule = 0, True
        lhs, rhs = (self.expr(side, {}, self.declared) for side in (r.lhs, r.rhs))
        guards: tuple[Guard, ...] = tuple(g if isinstance(g, Absent) else self.expr(g, {}, self.declared) for g in r.guards)
        return replace(r, lhs=lhs, rhs=rhs, guards=guards)

    def expr(self, e: SyntaxExpr, env: Env, bound: frozenset[str]) -> SyntaxExpr:
        """`e` expanded. `env`: what the parameters of a `fn` and renamed indices stand for; `bound`: names that are no constants here."""
        self._count(1, e.span)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise KernelError(f"this is nested deeper than {MAX_DEPTH} levels", e.span, "split it with temporaries")
        result = self._expr(e, env, bound)
        self.depth -= 1
        return result

    def _count(self, more: int, span: Span) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            raise KernelError(f"the functions expand to more than {MAX_NODES} nodes", span, "keep shared parts in temporaries")

    def _expr(self, e: SyntaxExpr, env: Env, bound: frozenset[str]) -> SyntaxExpr:
        def sub(x: SyntaxExpr) -> SyntaxExpr:
            return self.expr(x, env, bound)

        match e:
            case Number():
                return e
            case Name():
                return self._name(e, env, bound)
            case Group() | Expanded():
                return sub(e.body)
            case Unary(op="-", operand=Number() as number):
                return Number(-number.value, "", e.span)
            case Unary(op="-", operand=Name() as name):
                operand = sub(name)
                if isinstance(operand, Number) and name.name not in env:
                    return Number(-operand.value, "", e.span)
                return replace(e, operand=operand)
            case Unary(op="+"):
                return sub(e.operand)
            case Unary():
                return replace(e, operand=sub(e.operand))
            case Binary():
                return replace(e, left=sub(e.left), right=sub(e.right))
            case Compare():
                return replace(e, operands=tuple(map(sub, e.operands)))
            case Select():
                return replace(e, condition=sub(e.condition), then=sub(e.then), otherwise=sub(e.otherwise))
            case Index():
                indices = tuple(map(sub, e.indices))
                return replace(e, array=self._array(e, env), indices=indices, default=None if e.default is None else sub(e.default))
            case CallSyntax():
                return self._call(e, tuple(self._argument(a, env, bound) for a in e.args))
            case ReduceSyntax():
                return self._reduce(e, env, bound)
            case FoldSyntax():
                return self._fold(e, env, bound)

    def _name(self, e: Name, env: Env, bound: frozenset[str]) -> SyntaxExpr:
        if e.name in env:
            self._count(self.weights.get(id(env[e.name]), 0), e.span)
            return env[e.name]
        if e.name in bound:
            return e
        if e.name in self.consts:
            return replace(self.constant(e.name), span=e.span)
        if e.name in CONSTANTS:
            return Number(CONSTANTS[e.name], "", e.span)
        if self.stack:
            owner = self.stack[-1][0]
            kind, sees = ("function", "its parameters and constants") if owner in self.fns else ("constant", "other constants")
            hint = suggestion(e.name, (*env, *self.consts, *CONSTANTS)) or (
                "make it a parameter" if kind == "function" else "write a number, or make this a `fn`"
            )
            raise NameError_(f"unknown name `{e.name}`: the {kind} `{owner}` sees only {sees}", e.span, hint)
        return e

    def _array(self, e: Index, env: Env) -> Name:
        base = env.get(e.array.name, e.array)
        if not isinstance(base, Name):
            owner = self.stack[-1][0]
            raise TypeError_(
                f"`{e.array.name}` is indexed in `{owner}`, so it must be given the name of an array", base.span, "pass the array's name"
            )
        if e.array.name not in env and self.stack:
            owner = self.stack[-1][0]
            raise NameError_(
                f"unknown array `{e.array.name}`: the function `{owner}` sees only its parameters", e.array.span, "make it a parameter"
            )
        return base

    def _argument(self, e: SyntaxExpr, env: Env, bound: frozenset[str]) -> SyntaxExpr:
        before = self.nodes
        result = self.expr(e, env, bound)
        self.weights[id(result)] = self.nodes - before
        return result

    def _call(self, e: CallSyntax, args: tuple[SyntaxExpr, ...]) -> SyntaxExpr:
        name = e.function.name
        if name in DTYPES or name in FUNCTIONS:
            return replace(e, args=args)
        if self.in_rule and name not in self.fns:
            return replace(e, args=args)  # the rule checker knows the guards' functions
        if name not in self.fns:
            known = (*FUNCTIONS, *DTYPES, *REDUCTIONS, *self.fns)
            if name in REDUCTIONS:
                raise TypeError_(f"`{name}` needs an index to run over", e.span, f"write `{name}(i: …)`")
            hint = FUNCTIONS_ELSEWHERE.get(name) or suggestion(name, known) or "define it: `fn " + name + "(x) = …`"
            raise NameError_(f"unknown function `{name}`", e.function.span, hint)
        fn = self.fns[name]
        if len(args) != len(fn.params):
            takes = f"`{name}` takes {_count(len(fn.params), 'argument')}, and {len(args)} {'is' if len(args) == 1 else 'are'} given"
            raise TypeError_(takes, e.span, f"it is `fn {name}({', '.join(p.name for p in fn.params)})` of line {fn.span.line}")
        self._enter(name, e.function.span)
        result = self.expr(fn.body, dict(zip((p.name for p in fn.params), args, strict=True)), frozenset())
        self.stack.pop()
        return result if self.in_rule or isinstance(result, Number | Name) else Expanded(e.function, result, e.span)

    def _bind(self, names: Iterable[Name], env: Env, bound: frozenset[str]) -> tuple[tuple[Name, ...], Env, frozenset[str]]:
        """New binders inside `env`: renamed within a `fn` where they would capture a name of an argument or of the kernel."""
        inner, new = dict(env), list[Name]()
        taken = self.declared.union(*({x.name for x in subtrees(v) if isinstance(x, Name)} for v in env.values()))
        for name in names:
            inner.pop(name.name, None)
            fresh, number = name.name, 0
            while self.stack and fresh in taken:
                number += 1
                fresh = f"{name.name}{number}"
            new.append(Name(fresh, name.span))
            if fresh != name.name:
                inner[name.name] = new[-1]
        return tuple(new), inner, bound.union(n.name for n in new)

    def _range(self, r: Range, env: Env, bound: frozenset[str], index: Name | None = None) -> Range:
        lo, hi = (None if b is None else self.expr(b, env, bound) for b in (r.lo, r.hi))
        return replace(r, index=index or r.index, lo=lo, hi=hi)

    def _reduce(self, e: ReduceSyntax, env: Env, bound: frozenset[str]) -> SyntaxExpr:
        if e.kind.name not in REDUCTIONS:
            hint = suggestion(e.kind.name, REDUCTIONS) or f"the reductions are {', '.join(REDUCTIONS)}"
            raise NameError_(f"unknown reduction `{e.kind.name}`", e.kind.span, hint)
        ranges: list[Range] = []
        for r in e.ranges:
            (index,), inner, within = self._bind((r.index,), env, bound)
            ranges.append(self._range(r, env, bound, index))
            env, bound = inner, within
        return replace(e, ranges=tuple(ranges), bodies=tuple(self.expr(b, env, bound) for b in e.bodies))

    def _fold(self, e: FoldSyntax, env: Env, bound: frozenset[str]) -> SyntaxExpr:
        (index, *names), inner, within = self._bind((e.range.index, *(c.name for c in e.carries)), env, bound)
        carries = tuple(CarrySyntax(n, self.expr(c.init, env, bound), c.span) for n, c in zip(names, e.carries, strict=True))
        renamed = {c.name.name: n.name for n, c in zip(names, e.carries, strict=True)}
        return replace(
            e,
            range=self._range(e.range, env, bound, index),
            carries=carries,
            condition=None if e.condition is None else self.expr(e.condition, inner, within),
            updates=tuple(self.expr(u, inner, within) for u in e.updates),
            result=Name(renamed.get(e.result.name, e.result.name), e.result.span),
        )


def _assigns(body: tuple[StatementSyntax, ...]) -> Iterable[AssignSyntax]:
    for s in body:
        if isinstance(s, RepeatSyntax):
            yield from _assigns(s.body)
        else:
            yield s


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _refuse_builtin(name: Name) -> None:
    if name.name in FUNCTIONS or name.name in REDUCTIONS or name.name in DTYPES:
        raise NameError_(f"`{name.name}` is a word of the language", name.span, "choose another name")


def _refuse_twice(names: Iterable[Name]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.name in seen:
            raise NameError_(f"`{name.name}` is named twice", name.span, "rename one of them")
        seen.add(name.name)

"""Turns expressions with constants, functions, parentheses and named numbers into expressions without them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from kernel_ir import consts
from kernel_ir.dtypes import DTYPES
from kernel_ir.errors import KernelError, NameError_, Span, TypeError_
from kernel_ir.ops import CONSTANTS, FUNCTIONS, REDUCTIONS
from kernel_ir.spelling import FUNCTIONS_ELSEWHERE, suggestion
from kernel_ir.syntax import (
    Binary,
    CallSyntax,
    CarrySyntax,
    Compare,
    ConstSyntax,
    Expanded,
    FnSyntax,
    FoldSyntax,
    Group,
    Index,
    Name,
    Number,
    Range,
    ReduceSyntax,
    Select,
    SyntaxExpr,
    Unary,
    subtrees,
)

MAX_DEPTH: Final = 120
"""Levels of nesting in one expression; more would overflow the stack of any tree walk."""
MAX_NODES: Final = 20_000
"""Nodes of one kernel after its functions are expanded."""

Env = Mapping[str, SyntaxExpr]


@dataclass(slots=True)
class Inliner:
    """The constants and functions of a file, and the state of one expansion.

    `declared`: names that the kernel or rule at hand gives a meaning of its own; `stack`: the functions and constants being expanded.
    """

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


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

"""Turns the syntax of a file into kernels and rules without constants, functions, parentheses or named numbers."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from kernel_ir import consts
from kernel_ir.dtypes import DTYPES
from kernel_ir.errors import KernelError, NameError_, Span, TypeError_
from kernel_ir.ops import CONSTANTS, FUNCTIONS, REDUCTIONS
from kernel_ir.syntax import (
    Absent,
    AssignSyntax,
    Binary,
    CallSyntax,
    CarrySyntax,
    Compare,
    ConstSyntax,
    File,
    FnSyntax,
    FoldSyntax,
    Group,
    Guard,
    Index,
    KernelSyntax,
    Name,
    Number,
    Range,
    ReduceSyntax,
    RepeatSyntax,
    RuleSyntax,
    Select,
    StatementSyntax,
    SyntaxExpr,
    Unary,
    bounds,
    subtrees,
)

MAX_DEPTH: Final = 120
"""Levels of nesting in one expression; more would overflow the stack of any tree walk."""
MAX_NODES: Final = 100_000
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


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """The nearest known name as a hint."""
    near = difflib.get_close_matches(name, sorted(known), 1, 0.6)
    return f"did you mean `{near[0]}`?" if near else None


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
            value = consts.evaluate(self.expr(const.value, {}, None))
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
        shaped = lambda ps: tuple(replace(p, shape=tuple(self.expr(x, {}, self.declared) for x in p.shape)) for p in ps)  # noqa: E731
        return replace(
            k,
            params=shaped(k.params),
            outputs=shaped(k.outputs),
            facts=tuple(self.expr(f, {}, self.declared) for f in k.facts),
            body=tuple(self._statement(s, self.declared) for s in k.body),
        )

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
        """The rule with constants and functions expanded; every other name is a pattern variable."""
        names = {x.name for side in (r.lhs, r.rhs) for x in subtrees(side) if isinstance(x, Name)} - self.consts.keys() - {"inf", "nan"}
        self.declared, bound = frozenset(names), frozenset(names)
        sides = (self.expr(side, {}, bound) for side in (r.lhs, r.rhs))
        guards: tuple[Guard, ...] = tuple(g if isinstance(g, Absent) else self.expr(g, {}, None, rule=True) for g in r.guards)
        return replace(r, lhs=next(sides), rhs=next(sides), guards=guards)

    def expr(self, e: SyntaxExpr, env: Env, bound: frozenset[str] | None, *, rule: bool = False) -> SyntaxExpr:
        """`e` expanded. `env` gives what the parameters of a `fn` and renamed indices stand for; `bound` the names that are
        not constants here, None in a constant or function, where any other name is unknown."""
        self.nodes += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise KernelError(f"this is nested deeper than {MAX_DEPTH} levels", e.span, "split it with temporaries")
        if self.nodes > MAX_NODES:
            raise KernelError(f"the functions expand to more than {MAX_NODES} nodes", e.span, "keep shared parts in temporaries")
        result = self._expr(e, env, bound)
        self.depth -= 1
        return result

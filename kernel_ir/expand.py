"""Turns the syntax of a file into kernels and rules without constants, functions, parentheses or named numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from kernel_ir.dtypes import DTYPES
from kernel_ir.errors import NameError_
from kernel_ir.inline import Inliner
from kernel_ir.ops import CONSTANTS, FUNCTIONS, REDUCTIONS
from kernel_ir.syntax import (
    Absent,
    AssignSyntax,
    ConstSyntax,
    File,
    FnSyntax,
    Guard,
    KernelSyntax,
    Name,
    ParamSyntax,
    RepeatSyntax,
    RuleSyntax,
    StatementSyntax,
    subtrees,
)

_T = TypeVar("_T", ConstSyntax, FnSyntax, KernelSyntax)


def kernels(file: File) -> tuple[KernelSyntax, ...]:
    """The kernels of a file, expanded."""
    scope = _Expander.of(file)
    return tuple(scope.kernel(k) for k in named(file, KernelSyntax).values())


def rules(file: File) -> tuple[RuleSyntax, ...]:
    """The rules of a file, expanded."""
    scope = _Expander.of(file)
    return tuple(scope.rule(item) for item in file.items if isinstance(item, RuleSyntax))


def constants(file: File) -> dict[str, int | float]:
    """The values of the constants of a file."""
    scope = _Expander.of(file)
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
class _Expander(Inliner):
    """Expands whole kernels and rules."""

    @staticmethod
    def of(file: File) -> "_Expander":
        scope = _Expander(named(file, ConstSyntax), named(file, FnSyntax))
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


def _assigns(body: tuple[StatementSyntax, ...]) -> Iterable[AssignSyntax]:
    for s in body:
        if isinstance(s, RepeatSyntax):
            yield from _assigns(s.body)
        else:
            yield s


def _refuse_builtin(name: Name) -> None:
    if name.name in FUNCTIONS or name.name in REDUCTIONS or name.name in DTYPES:
        raise NameError_(f"`{name.name}` is a word of the language", name.span, "choose another name")


def _refuse_twice(names: Iterable[Name]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.name in seen:
            raise NameError_(f"`{name.name}` is named twice", name.span, "rename one of them")
        seen.add(name.name)

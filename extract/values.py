"""Turns an expression into one without reductions and folds; what a reduction, a fold or a load becomes is the lowering's own."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace

from kernel_ir.dtypes import BOOL
from kernel_ir.nodes import Call, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef


class Values(ABC):
    """What the lowerings for CPU and GPU share: a loop that stands in a branch is emitted under the branch's condition."""

    def value(self, e: Expr, hint: str = "") -> Expr:
        """`e` without reductions and folds: their loops are emitted, their results named (after `hint`, where it is given)."""
        match e:
            case Const() | SizeRef() | ParamRef() | IndexRef() | Local():
                return e
            case Load():
                return self._load(e)
            case Call("select", (c, a, b)):
                condition = self.value(c)
                with self._guard(condition):
                    then = self.value(a)
                with self._guard(Call("not", (condition,), BOOL)):
                    otherwise = self.value(b)
                return replace(e, args=(condition, then, otherwise))
            case Call("and" | "or", (a, b)):
                first = self.value(a)
                with self._guard(first if e.op == "and" else Call("not", (first,), BOOL)):
                    second = self.value(b)
                return replace(e, args=(first, second))
            case Call():
                return self._call(e)
            case Reduce():
                return self._reduce(e, hint)
            case Fold():
                return self._fold(e, hint)

    @abstractmethod
    def _guard(self, condition: Expr) -> AbstractContextManager[None]:
        """Within it, loops run only where the condition holds."""

    @abstractmethod
    def _load(self, e: Load) -> Expr: ...

    @abstractmethod
    def _call(self, e: Call) -> Expr: ...

    @abstractmethod
    def _reduce(self, r: Reduce, hint: str) -> Expr: ...

    @abstractmethod
    def _fold(self, f: Fold, hint: str) -> Expr: ...

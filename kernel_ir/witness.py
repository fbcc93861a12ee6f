"""Turns a claim that is not proved into a small counterexample: sizes, indices and data for which it fails, found by trying."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kernel_ir.dtypes import BOOL, DTYPES, I64
from kernel_ir.integers import value_range
from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, Kernel, Load, Local, ParamRef, Reduce, SizeRef, const
from kernel_ir.walk import substitute, subtrees

MAX_TRIES: Final = 20_000
SIZES: Final = (1, 2, 3, 4, 5, 0)
NUMBERS: Final = (0, 1, -1, 2, 3, 4, 5)
ENDS: Final = 3
"""How many values at each end of a long range are tried."""

Env = Mapping[str, int]
"""Values by name: sizes, indices, parameters, and data by its text (`id[3]`)."""
Step = Callable[[Env], Iterator[Env]]


class Unknown(Exception):
    """A value that the search must choose: its name and the values to try. No values: it cannot be evaluated at all."""

    def __init__(self, name: str, values: tuple[int, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.values = values


@dataclass(slots=True)
class Search:
    """A depth-first search for an environment in which all steps can be taken; `tries` counts what was tried."""

    kernel: Kernel
    tries: int = 0

    def find(self, items: tuple[Binder | tuple[Expr, bool], ...], goals: tuple[Step, ...]) -> Env | None:
        """The first environment in which the kernel's facts and all `items` hold and every goal lets one through."""
        facts = [self.holds(f, True) for f in (*self.kernel.facts, *self.kernel.implied, *self._extents()) if not isinstance(f, Reduce)]
        inner = [self.bound(i) if isinstance(i, Binder) else self.holds(*i) for i in items]
        return next(self._run([*facts, *inner, *goals], {}), None)

    def _extents(self) -> Iterator[Expr]:
        """That no extent is negative, where an extent is more than a size."""
        for p in (*self.kernel.params, *self.kernel.outputs):
            yield from (Call("ge", (x, const(0, I64)), BOOL) for x in p.type.shape if isinstance(x, Call))

    def _run(self, steps: list[Step], env: Env) -> Iterator[Env]:
        if not steps:
            yield env
            return
        try:
            for found in steps[0](env):
                yield from self._run(steps[1:], found)
        except Unknown as unknown:
            for value in unknown.values:
                self.tries += 1
                if self.tries > MAX_TRIES:
                    return
                yield from self._run(steps, {**env, unknown.name: value})

    def holds(self, condition: Expr, value: bool) -> Step:
        """Lets an environment through where the condition has the value."""

        def step(env: Env) -> Iterator[Env]:
            if bool(self.value(condition, env)) == value:
                yield env

        return step

    def bound(self, binder: Binder) -> Step:
        """Gives the index of a range each of its values (of a long range, those at the ends)."""

        def step(env: Env) -> Iterator[Env]:
            lo, hi = self.value(binder.lo, env), self.value(binder.hi, env)
            near = range(lo, min(hi, lo + ENDS))
            far = range(max(lo + ENDS, hi - ENDS), hi)
            for at in (*near, *far):
                self.tries += 1
                if self.tries > MAX_TRIES:
                    return
                yield {**env, binder.index: at}

        return step

    def value(self, e: Expr, env: Env) -> int:
        """The value of an integer or boolean expression; raises Unknown where something has none yet."""
        match e:
            case Const():
                return int(e.value)
            case SizeRef() | IndexRef() | ParamRef() | Local():
                if e.name in env:
                    return env[e.name]
                raise Unknown(e.name, SIZES if isinstance(e, SizeRef) else self._numbers(e))
            case Load():
                return self._datum(e, env)
            case Call(op="and" | "or", args=(a, b)):
                first = bool(self.value(a, env))
                return first if first == (e.op == "or") else self.value(b, env)
            case Call(op="select", args=(c, a, b)):
                return self.value(a if self.value(c, env) else b, env)
            case Call(op=op, args=args) if op in _MEANING and all(not a.dtype.is_float for a in args):
                return int(_MEANING[op](*(self.value(a, env) for a in args)))
            case Call(op=op, args=(a,)) if op in DTYPES and not a.dtype.is_float:
                return self._wrapped(self.value(a, env), op)
            case _:
                return self._opaque(e, env)

    def _numbers(self, e: Expr) -> tuple[int, ...]:
        return (1, 0) if e.dtype.name == "bool" else () if e.dtype.is_float else NUMBERS

    def _datum(self, e: Load, env: Env) -> int:
        """An element of an array that facts do not restrict: any number of its type."""
        at = [self.value(i, env) for i in e.indices]
        name = f"{e.array}[{', '.join(map(str, at))}]"
        if name in env:
            return env[name]
        restricted = any(isinstance(x, Load) and x.array == e.array for f in self.kernel.facts for x in subtrees(f))
        if restricted or e.default is not None or e.dtype.is_float:
            raise Unknown(name, ())
        limits = value_range(self.kernel.arrays[e.array].dtype)
        raise Unknown(name, tuple(n for n in self._numbers(e) if limits is None or limits[0] <= n))

    def _opaque(self, e: Expr, env: Env) -> int:
        """A condition on floats: it may be true or false."""
        name = self.text(e, env)
        if name in env:
            return env[name]
        raise Unknown(name, (1, 0) if e.dtype.name == "bool" else ())

    def text(self, e: Expr, env: Env) -> str:
        """An expression as text, with the indices and sizes that are known put in."""
        from kernel_ir.printer import expr_text

        return expr_text(substitute(e, {name: const(value, I64) for name, value in env.items()}))

    @staticmethod
    def _wrapped(value: int, dtype: str) -> int:
        limits = value_range(DTYPES[dtype])
        return value if limits is None else (value - limits[0]) % (limits[1] - limits[0] + 1) + limits[0]


def _floordiv(a: int, b: int) -> int:
    return a // b if b else 0


def _mod(a: int, b: int) -> int:
    return a % b if b else 0


def _power(a: int, n: int) -> int:
    return int(a**n)


def _shl(a: int, n: int) -> int:
    return a << n if 0 <= n < 64 else 0


def _shr(a: int, n: int) -> int:
    return a >> (n if 0 <= n < 64 else 63)


_MEANING: Final[dict[str, Callable[..., Any]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "floordiv": _floordiv,
    "mod": _mod,
    "powi": _power,
    "min": min,
    "max": max,
    "abs": abs,
    "shl": _shl,
    "shr": _shr,
    "band": int.__and__,
    "bor": int.__or__,
    "bxor": int.__xor__,
    "bnot": operator.invert,
    "not": operator.not_,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


def witness_text(env: Env, about: Iterable[Expr]) -> str:
    """`N = 1, i = 0`: the values in the environment of the names in some expressions, and of the data that was chosen."""
    names = {x.name for e in about for x in subtrees(e) if isinstance(x, SizeRef | IndexRef | ParamRef | Local)}
    return ", ".join(_value_text(n, value) for n, value in env.items() if n in names or not n.isidentifier())


def _value_text(name: str, value: int) -> str:
    """An opaque condition is named by its text, data by `id[3]`."""
    return f"{name} = {value}" if name.isidentifier() or name.endswith("]") else f"`{name}` is {'true' if value else 'false'}"

"""Turns statements into terms with temporaries inlined at their uses; every bound variable is still its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.nodes import (
    Binder,
    Call,
    Const,
    Expr,
    Fold,
    IndexRef,
    Load,
    Local,
    ParamRef,
    Reduce,
    SizeRef,
)
from kernel_ir.ops import OPS
from kernel_ir.walk import children
from rewrites.declare import CODES, op_constructor
from rewrites.temporaries import Place, versioned
from rewrites.terms import Dag, Term


class NotEncodable(Exception):
    """The kernel goes beyond a limit of the e-graph; the text says which."""


MAX_TERMS = 5000


@dataclass(frozen=True, slots=True)
class Unique:
    """A bound variable before naming: its range, the name its user gave it; for a carry the variable of its fold."""

    lo: int
    hi: int
    hint: str
    loop: str | None = None
    repeats: bool = False


Env = Mapping[str, int]
"""The term that each index or carried name stands for."""


@dataclass(slots=True)
class Inliner:
    """Builds the terms of a kernel's statements, sharing what is equal."""

    temps: Mapping[str, Place]
    dag: Dag = field(default_factory=Dag)
    variables: dict[str, Unique] = field(default_factory=dict[str, Unique])
    instances: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict[int, tuple[str, tuple[int, ...]]])
    """The temporary that a term is the value of, and the terms of its indices there."""
    _free: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    _names: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    _made: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict[tuple[int, tuple[int, ...]], int])

    def free(self, number: int) -> frozenset[str]:
        """Free variables of a term, and those on which their ranges depend."""
        return self._free[number]

    def bind(self, hint: str, lo: int, hi: int, loop: str | None = None, repeats: bool = False) -> str:
        """A new variable."""
        name = f"v{len(self.variables)}"
        self.variables[name] = Unique(lo, hi, hint, loop, repeats)
        return name

    def binder(self, binder: Binder, env: dict[str, int], versions: Mapping[str, int], repeats: bool = False) -> str:
        """Binds an index for the rest of `env`'s scope."""
        lo, hi = self.expr(binder.lo, env, versions), self.expr(binder.hi, env, versions)
        name = self.bind(binder.index, lo, hi, repeats=repeats)
        env[binder.index] = self.add("Ix", name)
        return name

    def add(self, name: str, *args: int | str) -> int:
        """The number of a term, its free variables noted."""
        number = self.dag.add(name, *args)
        if number not in self._free:
            if number >= MAX_TERMS:
                raise NotEncodable(f"more than {MAX_TERMS} nodes once temporaries are inlined")
            self._free[number] = self._free_of(self.dag.terms[number])
        return number

    def _free_of(self, term: Term) -> frozenset[str]:
        below = [self._free[c] for c in term.children]
        if term.name in ("Ix", "Loc"):
            variable = self.variables[term.variables[0]]
            return self._free[variable.lo] | self._free[variable.hi] | frozenset(term.variables)
        if not term.is_loop:
            return frozenset[str]().union(*below)
        outside = 1 + len(term.variables)  # lo, hi and the first values of carries
        inner = frozenset[str]().union(*below[outside:]) - frozenset(term.variables)
        return inner.union(*below[:outside])

    def expr(self, e: Expr, env: Env, versions: Mapping[str, int]) -> int:
        """The term of `e` where its free names stand for the terms of `env`."""
        key = (id(e), tuple([env[n] for n in self._free_names(e)]))
        number = self._made.get(key)
        if number is None:
            number = self._made[key] = self._expr(e, env, versions)
        return number

    def _expr(self, e: Expr, env: Env, versions: Mapping[str, int]) -> int:
        match e:
            case Const():
                return self.add("Lit", CODES[e.dtype.name], e.bits)
            case SizeRef():
                return self.add("Size", e.name)
            case ParamRef():
                return self.add("Par", e.name, CODES[e.dtype.name])
            case IndexRef() | Local():
                return env[e.name]
            case Load():
                return self._load(e, env, versions)
            case Call():
                dtype = operand_dtype(e)
                args = [self.expr(a, env, versions) for a in e.args]
                return self.add(op_constructor(OPS[e.op], dtype), CODES[dtype.name], *args)
            case Reduce():
                return self._reduce(e, env, versions)
            case Fold():
                return self._fold(e, env, versions)

    def _load(self, e: Load, env: Env, versions: Mapping[str, int]) -> int:
        indices = [self.expr(i, env, versions) for i in e.indices]
        temp = self.temps.get(e.array)
        if temp is not None:
            names = [i.name for i in temp.stmt.indices if isinstance(i, IndexRef)]
            number = self.expr(temp.stmt.value, dict(zip(names, indices, strict=True)), temp.versions)
            self.instances.setdefault(number, (e.array, tuple(indices)))
            return number
        array, code = versioned(e.array, versions), CODES[e.dtype.name]
        if e.default is None:
            return self.add(f"Load{len(indices)}", code, array, *indices)
        return self.add(f"LoadElse{len(indices)}", code, array, *indices, self.expr(e.default, env, versions))

    def _reduce(self, e: Reduce, env: Env, versions: Mapping[str, int]) -> int:
        inner = dict(env)
        names = [self.binder(b, inner, versions) for b in e.binders]
        code = CODES[e.bodies[0].dtype.name]
        bodies = [self.expr(b, inner, versions) for b in e.bodies]
        for name in reversed(names):
            variable = self.variables[name]
            bodies = [self.add(f"R_{e.kind}", code, name, variable.lo, variable.hi, *bodies)]
        return bodies[0]

    def _fold(self, e: Fold, env: Env, versions: Mapping[str, int]) -> int:
        inner = dict(env)
        inits = [self.expr(c.init, env, versions) for c in e.carries]
        index = self.binder(e.binder, inner, versions)
        lo, hi = self.variables[index].lo, self.variables[index].hi
        carries = [self.bind(c.name, lo, hi, loop=index) for c in e.carries]
        for c, name in zip(e.carries, carries, strict=True):
            inner[c.name] = self.add("Loc", name, CODES[c.init.dtype.name])
        true = self.add("Lit", CODES["bool"], 1)
        condition = true if e.condition is None else self.expr(e.condition, inner, versions)
        updates = [self.expr(c.update, inner, versions) for c in e.carries]
        position = str([c.name for c in e.carries].index(e.result))
        return self.add(f"Fold{len(carries)}", CODES[e.dtype.name], position, index, lo, hi, *carries, *inits, condition, *updates)

    def _free_names(self, e: Expr) -> tuple[str, ...]:
        """`walk.free`, in order, each node asked once."""
        known = self._names.get(id(e))
        if known is None:
            known = self._names[id(e)] = tuple(sorted(self._free_name_set(e)))
        return known

    def _free_name_set(self, e: Expr) -> set[str]:
        match e:
            case IndexRef() | Local():
                return {e.name}
            case Reduce():
                names = set[str]().union(*[self._free_names(b) for b in e.bodies])
                for binder in reversed(e.binders):
                    names = (names - {binder.index}).union(self._free_names(binder.lo), self._free_names(binder.hi))
                return names
            case Fold():
                step = [c.update for c in e.carries] + ([] if e.condition is None else [e.condition])
                inner = set[str]().union(*[self._free_names(x) for x in step]) - {e.binder.index, *(c.name for c in e.carries)}
                outer = [e.binder.lo, e.binder.hi, *(c.init for c in e.carries)]
                return inner.union(*[self._free_names(x) for x in outer])
            case _:
                return set[str]().union(*[self._free_names(c) for c in children(e)])


def operand_dtype(e: Call) -> DType:
    """What the type variable of a call's op stands for (for a cast: its argument's dtype)."""
    letters = OPS[e.op].signature.partition("->")[0]
    for letter in ("T", "x"):
        if letter in letters:
            return e.args[letters.index(letter)].dtype
    return BOOL

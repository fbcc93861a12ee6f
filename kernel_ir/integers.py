"""Turns integer expressions into polynomials over atoms, and learns what defines each atom it meets.

An operand of a comparison, `//`, `%`, `min` or `max` is read as a polynomial only where its machine value is that polynomial and has
not wrapped (else as an atom of its own): sums and products of sizes and index variables are taken as exact (an index space beyond 2**63
points cannot run), data and parameters only within proved bounds. Sums, differences and products themselves may wrap: a polynomial
that is proved to lie inside an array is congruent to the machine value modulo 2**64, so the machine value lies there too.
"""

from collections.abc import Iterator, Mapping
from math import gcd
from typing import Final, Self

from kernel_ir.constraints import Constraints
from kernel_ir.dtypes import BOOL, DTYPES, I32, I64, DType
from kernel_ir.literals import Case, Truth, cases
from kernel_ir.nodes import ArrayType, Binder, Call, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef, const
from kernel_ir.polynomial import ZERO, Polynomial, atom, constant
from kernel_ir.walk import free, substitute, subtrees

MAX_TERMS: Final = 40
MAX_INSTANCING: Final = 2
"""How deep facts about array elements are instantiated: `p[i] <= p[i+1]` leads from one element to the next."""
INTEGERS: Final = (I32, I64)
NEGATED: Final = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


def value_range(dtype: DType) -> tuple[int, int] | None:
    """The least and greatest value that a read of an integer dtype gives; None where that is all of i64 or no integer.

    >>> from kernel_ir.dtypes import U8, U64
    >>> value_range(U8), value_range(U64)
    ((0, 255), None)
    """
    if not dtype.is_int or dtype.bits == 64:
        return None
    return (0, 2**dtype.bits - 1) if dtype.kind == "uint" else (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1)


class Integers:
    """Polynomials of expressions in one context, and the constraints on their atoms.

    `array_facts` say of every element of an array what each load of it then obeys: `all(i in 0..T: 0 <= id[i])`.
    """

    def __init__(self, arrays: Mapping[str, ArrayType], positive: frozenset[str] = frozenset()) -> None:
        self.arrays = arrays
        self.array_facts: tuple[Reduce, ...] = ()
        self.positive = positive
        self.constraints = Constraints()
        self.choices: tuple[tuple[Case, ...], ...] = ()
        self.truths: dict[tuple[str, ...], bool] = {}
        self.names: dict[str, str] = {}
        self.sizes: frozenset[str] = frozenset()
        self._exact: set[str] = set()
        self._quotients: dict[str, tuple[Polynomial, Polynomial]] = {}
        self._remainders: set[Polynomial] = set()
        self._nesting = 0
        self._instancing = 0
        self._wrapped = False

    def fork(self) -> Self:
        """A copy that can learn more without this one knowing."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.constraints = self.constraints.fork()
        copy.truths = dict(self.truths)
        copy.names = dict(self.names)
        copy._exact = set(self._exact)
        copy._quotients = dict(self._quotients)
        copy._remainders = set(self._remainders)
        return copy

    # Expressions to polynomials

    def polynomial(self, e: Expr) -> Polynomial:
        """The value of an i32 or i64 expression, modulo 2**64."""
        match e:
            case Const():
                return constant(int(e.value))
            case SizeRef():
                return self.size(e.name)
            case IndexRef():
                return self._atom(self.names.get(e.name, e.name), exact=True)
            case ParamRef():
                return self._atom(f"${e.name}", value_range(self.arrays[e.name].dtype) if e.name in self.arrays else value_range(e.dtype))
            case Local():
                return self._atom(f"%{e.name}", value_range(e.dtype))
            case Load():
                return self._load(e)
            case Call():
                p = self._call(e)
                if len(p.terms) > MAX_TERMS or (e.dtype is I32 and not self._fits(p, I32)):
                    return self._opaque(e)
                return p
            case Reduce(kind="argmax" | "argmin", binders=(binder,)) if binder.lo == Const(0, I64):
                p = self._opaque(e)
                self.constraints.add(p)
                self.constraints.add(self.polynomial(binder.hi) - 1 - p)
                return p
            case Reduce() | Fold():
                return self._opaque(e)

    def is_exact(self, p: Polynomial) -> bool:
        """Whether the machine value of the expression that gave `p` is known to be `p`, unwrapped."""
        if p.single is not None or p in self._remainders:
            return True
        if not all(map(self._is_exact_atom, p.atoms)):
            return False
        low, high = self.constraints.interval(p)
        return (low is None or low >= -(2**63)) and (high is None or high < 2**63)

    def exact(self, p: Polynomial) -> Polynomial:
        """The machine value of an expression whose polynomial is `p`: itself, or an atom for what wrapping may have made of it."""
        if self.is_exact(p):
            return p
        self._wrapped = True
        return self._atom(f"wrapped({p})")

    def value(self, e: Expr) -> Polynomial:
        """The machine value of an i32 or i64 expression."""
        return self.exact(self.polynomial(e))

    def _are_exact(self, *parts: Polynomial) -> bool:
        return all(self._is_exact_atom(name) for p in parts for name in p.atoms)

    def _is_exact_atom(self, name: str) -> bool:
        if name in self._exact:
            return True
        sides = {k.constant for k, r in self.constraints.bounds(name) if r.atoms <= self._exact}
        if {1, -1} <= sides:
            self._exact.add(name)
        return name in self._exact

    def size(self, name: str) -> Polynomial:
        """The polynomial of a size."""
        p = atom(name)
        if name not in self._exact:
            self._exact.add(name)
            self.sizes |= {name}
            self.constraints.declare(name)
            self.constraints.add(p - 1 if name in self.positive else p)
        return p

    def index(self, name: str) -> Polynomial:
        """The polynomial of an index variable, by its atom."""
        return self._atom(name, exact=True)

    def _atom(self, name: str, limits: tuple[int, int] | None = None, exact: bool = False) -> Polynomial:
        p = atom(name)
        if name not in self.constraints.order:
            self.constraints.declare(name)
            if limits is not None:
                self.constraints.add(p - limits[0])
                self.constraints.add(limits[1] - p)
        if exact or limits is not None:
            self._exact.add(name)
        return p

    def _opaque(self, e: Expr, limits: tuple[int, int] | None = None) -> Polynomial:
        return self._atom(self._node_key(e), limits or value_range(e.dtype))

    def _fits(self, p: Polynomial, dtype: DType) -> bool:
        limits = value_range(dtype)
        if limits is None:
            return True
        low, high = self.constraints.interval(p)
        return low is not None and high is not None and limits[0] <= low and high <= limits[1]

    def _load(self, e: Load) -> Polynomial:
        name = self._node_key(e)
        new = name not in self.constraints.order
        stored = self.arrays.get(e.array)
        p = self._atom(name, value_range(stored.dtype if stored and e.default is None else e.dtype))
        if new and e.default is None and self._instancing < MAX_INSTANCING:
            self._instancing += 1
            for fact in self.array_facts:
                for instance in self._instances(fact, e):
                    self.learn(cases(instance, True, self.compare, self.key))
            self._instancing -= 1
        return p

    def _instances(self, fact: Reduce, load: Load) -> Iterator[Expr]:
        """What a fact `all(i in …: … a[i + c] …)` says about the element that `load` reads."""
        (body,) = fact.bodies
        patterns = {x: None for x in subtrees(body) if isinstance(x, Load) and x.array == load.array and x.default is None}
        for pattern in patterns:
            places: dict[str, Expr] = {}
            for index, at in zip(pattern.indices, load.indices, strict=True):
                name, offset = _shifted_index(index)
                place = Call("sub", (at, const(offset, I64)), I64) if offset else at
                if places.setdefault(name, place) != place:
                    places[""] = place
            if set(places) == {b.index for b in fact.binders} and all(self._inside(b, places, pattern) for b in fact.binders):
                yield substitute(body, places)

    def _inside(self, binder: Binder, places: Mapping[str, Expr], pattern: Load) -> bool:
        """Whether the place is in the binder's range; a read at the bare index of a full range lies there as it lies in its array."""
        whole = zip(pattern.indices, self.arrays[pattern.array].shape, strict=True)
        if binder.lo == const(0, I64) and (IndexRef(binder.index), binder.hi) in whole:
            return True
        if free(binder.lo) | free(binder.hi):
            return False
        at = self.polynomial(places[binder.index])
        return self.constraints.nonneg(at - self.polynomial(binder.lo)) and self.constraints.nonneg(self.polynomial(binder.hi) - 1 - at)

    def _call(self, e: Call) -> Polynomial:
        if e.op in DTYPES:
            return self._cast(e, e.args[0], DTYPES[e.op])
        match e.op, e.args:
            case "add", (a, b):
                return self.polynomial(a) + self.polynomial(b)
            case "sub", (a, b):
                return self.polynomial(a) - self.polynomial(b)
            case "mul", (a, b):
                return self.polynomial(a) * self.polynomial(b)
            case "neg", (a,):
                return -self.polynomial(a)
            case "powi", (a, Const(bits=n)) if 0 <= n <= 4:
                result = constant(1)
                for _ in range(n):
                    result = result * self.polynomial(a)
                return result
            case "shl", (a, Const(bits=n)) if 0 <= n < e.dtype.bits - 1:
                return self.polynomial(a) * 2**n
            case (("floordiv" | "mod" | "min" | "max"), (a, b)):
                return self._exact_binary(e, self.value(a), self.value(b))
            case "shr", (a, Const(bits=n)) if 0 <= n < e.dtype.bits - 1:
                return self._exact_binary(e, self.value(a), constant(2**n))
            case "band", (a, Const(bits=mask)) if mask >= 0:
                return (
                    self._exact_binary(e, self.polynomial(a), constant(mask + 1)) if mask & (mask + 1) == 0 else self._opaque(e, (0, mask))
                )
            case "abs", (a,):
                p = self.value(a)
                size = self._extreme(p, -p, 1) if self._are_exact(p) else self._opaque(e)
                if self._are_exact(p):
                    self.constraints.add(size)
                return size
            case "sign", _:
                return self._opaque(e, (-1, 1))
            case "select", (c, a, b):
                return self._select(c, self.value(a), self.value(b))
            case _:
                return self._opaque(e)

    def _exact_binary(self, e: Call, a: Polynomial, b: Polynomial) -> Polynomial:
        match e.op:
            case "floordiv" | "shr":
                quotient = self._quotient(a, b)
                return self._opaque(e) if quotient is None else quotient
            case "mod" | "band":
                quotient = self._quotient(a, b)
                if quotient is None:
                    return self._opaque(e)
                rest = a - b * quotient if b.terms else ZERO
                self._remainders.add(rest)
                return rest
            case _:
                return self._extreme(a, b, 1 if e.op == "max" else -1)

    def _quotient(self, a: Polynomial, b: Polynomial) -> Polynomial | None:
        """`a // b` as a polynomial, over a new atom if need be; None where the sign of `b` is not known (`a // 0` is 0)."""
        if not b.terms:
            return ZERO
        if self.constraints.nonneg(-b - 1):
            if not self.is_exact(-a):  # the least i64 // -1 wraps
                return None
            a, b = -a, -b
        elif not self.constraints.nonneg(b - 1):
            return None
        whole, rest = a.divmod(b)
        for shift in (0, -1, 1):
            if self.constraints.nonneg(rest - shift * b) and self.constraints.nonneg((shift + 1) * b - 1 - rest):
                return whole + shift
        content = gcd(b.content, *(c for m, c in rest.terms if m))
        if content > 1:
            # (g*r + c) // (g*b) == r // b for 0 <= c < g
            less = self._quotient(rest.scaled_down(content), b.scaled_down(content))
            return None if less is None else whole + less
        if rest.single in self._quotients:
            above, below = self._quotients[rest.single]
            nested = self._quotient(above, below * b)
            if nested is None:
                return None
            self.constraints.add(rest - b * nested)
            self.constraints.add(b * nested + b - 1 - rest)
            return whole + nested
        name = f"({rest})//({b})"
        q = atom(name)
        if name not in self._quotients:
            self._quotients[name] = rest, b
            self._atom(name, exact=self._are_exact(rest, b))
            self.constraints.add(rest - b * q)
            self.constraints.add(b * q + b - 1 - rest)
            if self.constraints.nonneg(rest):
                self.constraints.add(q)
        return whole + q

    def _extreme(self, a: Polynomial, b: Polynomial, sign: int) -> Polynomial:
        """max (sign 1) or min (sign -1) of exact a and b."""
        if self.constraints.nonneg((a - b) * sign):
            return a
        if self.constraints.nonneg((b - a) * sign):
            return b
        name = f"{'max' if sign > 0 else 'min'}({', '.join(sorted((str(a), str(b))))})"
        new = name not in self.constraints.order
        p = self._atom(name, exact=self._are_exact(a, b))
        if new:
            over_a, over_b = (p - a) * sign, (p - b) * sign
            self.constraints.add(over_a)
            self.constraints.add(over_b)
            self.choices = (*self.choices, (((a - b) * sign, -over_a), ((b - a) * sign, -over_b)))
        return p

    def _select(self, condition: Expr, a: Polynomial, b: Polynomial) -> Polynomial:
        if a == b:
            return a
        name = f"({a} if {self.key(condition)} else {b})"
        new = name not in self.constraints.order
        p = self._atom(name, exact=self._are_exact(a, b))
        if new:
            then = tuple((*case, p - a, a - p) for case in cases(condition, True, self.compare, self.key))
            otherwise = tuple((*case, p - b, b - p) for case in cases(condition, False, self.compare, self.key))
            self.learn(then + otherwise)
        return p

    def _cast(self, e: Call, arg: Expr, dtype: DType) -> Polynomial:
        limits = value_range(dtype)
        if arg.dtype is BOOL:
            return self._opaque(e, (0, 1))
        if arg.dtype not in INTEGERS or (dtype.bits == 64 and dtype is not I64):
            return self._opaque(e, limits)
        p = self.polynomial(arg)
        if limits is None or (self.is_exact(p) and self._fits(p, dtype)):
            return p
        wrapped = self._opaque(e, limits)
        if self.is_exact(p) and self.constraints.nonneg(p):
            self.constraints.add(p - wrapped)
        return wrapped

    # Conditions to cases

    def learn(self, alternatives: tuple[Case, ...]) -> None:
        """Learns that one of the alternatives holds."""
        raise NotImplementedError

    def compare(self, e: Call, value: bool) -> tuple[Case, ...]:
        """The cases in which a comparison is `value`."""
        left, right = e.args
        op = e.op
        if left.dtype in INTEGERS:
            a, b = self.value(left), self.value(right)
            return _integer_cases(op if value else NEGATED[op], a, b)
        if left.dtype is BOOL:
            return ((Truth(("is", self._node_key(e)), value),),)
        names = self.key(left), self.key(right)
        if op in ("gt", "ge"):
            return ((Truth(({"gt": "lt", "ge": "le"}[op], names[1], names[0]), value),),)
        if op in ("eq", "ne"):
            return ((Truth(("eq", *sorted(names)), value == (op == "eq")),),)
        return ((Truth((op, *names), value),),)

    # Names of expressions

    def key(self, e: Expr) -> str:
        """A text that is the same only for expressions of the same value."""
        return f"({self.polynomial(e)})" if e.dtype in INTEGERS else self._node_key(e)

    def _node_key(self, e: Expr) -> str:
        match e:
            case Const():
                return f"{e.bits}:{e.dtype}"
            case SizeRef():
                return e.name
            case IndexRef():
                return self.names.get(e.name, e.name)
            case ParamRef():
                return f"${e.name}"
            case Local():
                return f"%{e.name}"
            case Load():
                indices = ", ".join(self.key(i) for i in e.indices)
                return f"{e.array}[{indices}]" if e.default is None else f"{e.array}[{indices} else {self.key(e.default)}]"
            case Call():
                return f"{e.op}:{e.dtype}({', '.join(map(self.key, e.args))})"
            case Reduce():
                outer = dict(self.names)
                ranges = [f"{self.key(b.lo)}..{self.key(b.hi)}{self._hide(b.index)}" for b in e.binders]
                bodies = ", ".join(map(self.key, e.bodies))
                self.names = outer
                self._nesting -= len(e.binders)
                return f"{e.kind}:{e.dtype}({', '.join(ranges)}: {bodies})"
            case Fold():
                outer = dict(self.names)
                first = ", ".join(f"%{c.name} = {self.key(c.init)}" for c in e.carries)
                span = f"{self.key(e.binder.lo)}..{self.key(e.binder.hi)}{self._hide(e.binder.index)}"
                condition = "" if e.condition is None else f" while {self.key(e.condition)}"
                updates = ", ".join(self.key(c.update) for c in e.carries)
                self.names = outer
                self._nesting -= 1
                return f"fold({span}, {first}{condition}: {updates}).{e.result}"

    def _hide(self, index: str) -> str:
        """Gives a bound index a name by its depth, so that keys do not depend on its own."""
        self._nesting += 1
        self.names[index] = f"@{self._nesting}"
        return ""


def _shifted_index(e: Expr) -> tuple[str, int]:
    """`(i, c)` for the index expression `i`, `i + c` or `i - c`; ("", 0) for others."""
    match e:
        case IndexRef():
            return e.name, 0
        case Call(op="add" | "sub", args=(IndexRef(name=name), Const(bits=offset))):
            return name, offset if e.op == "add" else -offset
        case _:
            return "", 0


def _integer_cases(op: str, a: Polynomial, b: Polynomial) -> tuple[Case, ...]:
    below, above = b - a, a - b
    options: dict[str, tuple[tuple[Polynomial, ...], ...]] = {
        "lt": ((below - 1,),),
        "le": ((below,),),
        "gt": ((above - 1,),),
        "ge": ((above,),),
        "eq": ((below, above),),
        "ne": ((below - 1,), (above - 1,)),
    }
    # A case with a literal that is plainly false is none; literals that are plainly true go.
    kept = [case for case in options[op] if all(p.constant is None or p.constant >= 0 for p in case)]
    return tuple(tuple(p for p in case if p.constant is None) for case in kept)

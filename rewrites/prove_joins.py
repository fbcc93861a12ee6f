"""Turns a rule without reductions into two normal forms: equal forms are equal values, found without a search.

The laws used hold for each value: integers modulo 2**w are a ring; `min`, `max`, `and`, `or` are associative, commutative and idempotent
(which of two zeros a float `min` gives is not said) and have their neutral elements; negation of floats is exact. Under
`reassoc` floats are a field too. A form is a tuple: an atom, or a sum of products of atoms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Any, Final

from kernel_ir.dtypes import BOOL, DType
from kernel_ir.ops import OPS
from rewrites.pattern import Apply, Lit, Pattern, Var
from rewrites.prove_meaning import over_nothing
from rewrites.prove_terms import Unsupported
from rewrites.prove_unroll import BOOLEAN, Ground

Form = tuple[Any, ...]
Number = int | Fraction
Sum = dict[Form, Number]
"""The coefficient of each product; a product is a sorted tuple of atoms."""

_HOLDS: Final = {"lt": int.__lt__, "le": int.__le__, "eq": int.__eq__, "ne": int.__ne__}
_TURNED: Final = {"gt": "lt", "ge": "le"}
_JOINS: Final = ("max", "min", "fmax", "fmin", "and", "or")
MOST_POWER: Final = 8
EXACT: Final = 2048
"""Integers up to here are values of every float type."""


def same_form(ground: Ground, real: bool = False) -> bool:
    """Whether both sides have one normal form; `real`: floats are a field."""
    forms = _Forms(ground.dtypes, real)
    try:
        return forms.form(ground.rule.lhs) == forms.form(ground.rule.rhs)
    except Unsupported:
        return False


@dataclass(frozen=True, slots=True)
class _Forms:
    dtypes: Mapping[int, DType]
    real: bool

    def dtype(self, t: int) -> DType:
        return BOOL if t == BOOLEAN else self.dtypes[t]

    def form(self, p: Pattern) -> Form:
        match p:
            case Var():
                return ("variable", p.name)
            case Lit():
                return self.literal(p.value, self.dtype(p.type))
            case Apply():
                return self.applied(p, tuple(self.form(a) for a in p.args))
            case _:
                raise Unsupported(str(p))

    def is_ring(self, dtype: DType) -> bool:
        return dtype.is_int or (self.real and dtype.is_float)

    def literal(self, value: Any, dtype: DType) -> Form:
        if dtype is BOOL:
            return ("literal", bool(value))
        if dtype.is_int:
            return self.sum({(): int(value)}, dtype)
        if self.real and isfinite(value):
            return self.sum({(): Fraction(float(value))}, dtype)
        return ("literal", repr(float(value)))

    def sum(self, terms: Sum, dtype: DType) -> Form:
        if dtype.is_int:
            terms = {m: c % 2**dtype.bits for m, c in terms.items()}
        terms = {m: c for m, c in terms.items() if c}
        match list(terms.items()):
            case [((atom,), 1)]:
                return atom
            case items:
                return ("+", tuple(sorted(items, key=repr)))

    def applied(self, p: Apply, args: tuple[Form, ...]) -> Form:
        dtype = self.dtype(p.type)
        if self.is_ring(dtype) and self.dtype(p.result) is dtype:
            terms = self.arithmetic(p, args, dtype)
            if terms is not None:
                return self.sum(terms, dtype)
        if p.op in _JOINS:
            return self.join(p.op, args, dtype)
        if p.op == "select":
            return _select(*args)
        if p.op == "not":
            return ("literal", not args[0][1]) if args[0][0] == "literal" else ("not", args[0])
        if p.op in _HOLDS or p.op in _TURNED:
            return self.compared(p, args, dtype)
        if p.op == "neg" and dtype.is_float:
            return args[0][1] if args[0][0] == "neg" else ("neg", args[0])
        known = [_constant(a) for a in args]
        if self.real and OPS[p.op].cast is not None and dtype.is_int and known[0] is not None:
            value = _signed(known[0], dtype)
            if abs(value) <= EXACT and self.dtype(p.result).is_float:
                return self.literal(float(value), self.dtype(p.result))
        if p.op in ("floordiv", "mod") and None not in known and known[1]:
            a, b = (_signed(c, dtype) for c in known if c is not None)
            return self.literal(a // b if p.op == "floordiv" else a % b, dtype)
        if OPS[p.op].commutative:
            args = tuple(sorted(args, key=repr))
        return ("apply", p.op, dtype.name, self.dtype(p.result).name, *args)

    def arithmetic(self, p: Apply, args: tuple[Form, ...], dtype: DType) -> Sum | None:
        """The sum of products that an operation of a ring gives; None for another operation."""
        first, *rest = (_terms(a) for a in args)
        match p.op:
            case "add":
                return _plus(first, rest[0], 1)
            case "sub":
                return _plus(first, rest[0], -1)
            case "neg":
                return _plus({}, first, -1)
            case "mul":
                return _times(first, rest[0])
            case "div":
                divisor = _constant(args[1])
                if divisor is None:
                    return _times(first, {(("over", args[1]),): 1})
                return _times(first, {(): 1 / Fraction(divisor)}) if divisor else None
            case "powi":
                power = _constant(args[1])
                if power is None or not 0 <= power <= MOST_POWER:
                    return None
                product: Sum = {(): 1}
                for _ in range(int(power)):
                    product = _times(product, first)
                return product
            case _:
                return None

    def join(self, op: str, args: tuple[Form, ...], dtype: DType) -> Form:
        neutral = self.literal(op == "and" if dtype is BOOL else over_nothing(op.removeprefix("f"), dtype), dtype)
        flat = [x for a in args for x in (a[2:] if a[:2] == ("join", op) else (a,))]
        if dtype is BOOL and ("literal", op == "or") in flat:
            return ("literal", op == "or")
        if not op.startswith("f"):
            flat = [x for x in flat if x != neutral] or [neutral]
        parts = sorted(dict.fromkeys(flat), key=repr)
        if len(parts) == 1:
            return parts[0]
        shared = self.shared(parts) if self.real and dtype.is_float else {}
        if shared:
            rest = tuple(self.sum(_plus(_terms(x), shared, -1), dtype) for x in parts)
            return self.sum(_plus(_terms(self.join(op, rest, dtype)), shared, 1), dtype)
        return ("join", op, *parts)

    def shared(self, parts: list[Form]) -> Sum:
        """What is added to every part."""
        first, *rest = (_terms(x) for x in parts)
        if any(x[0] == "literal" for x in parts):
            return {}
        return {m: c for m, c in first.items() if all(x.get(m) == c for x in rest)}

    def compared(self, p: Apply, args: tuple[Form, ...], dtype: DType) -> Form:
        op, (a, b) = _TURNED.get(p.op, p.op), args if p.op in _HOLDS else args[::-1]
        if dtype.is_int:
            x, y = _constant(a), _constant(b)
            if x is not None and y is not None:
                return ("literal", _HOLDS[op](_signed(x, dtype), _signed(y, dtype)))
        if a[0] == b[0] == "neg":
            a, b = b[1], a[1]
        if op in ("eq", "ne"):
            a, b = sorted((a, b), key=repr)
        return ("compare", op, dtype.name, a, b)


def _select(condition: Form, yes: Form, no: Form) -> Form:
    if condition[0] == "literal":
        return yes if condition[1] else no
    if yes == no:
        return yes
    if yes[0] == no[0] == "neg":
        return ("neg", _select(condition, yes[1], no[1]))
    return ("select", condition, yes, no)


def _terms(form: Form) -> Sum:
    return dict(form[1]) if form[0] == "+" else {(form,): 1}


def _constant(form: Form) -> Number | None:
    """The value of a sum that is one number."""
    terms = _terms(form)
    return terms.get((), 0) if set(terms) <= {()} else None


def _signed(value: Number, dtype: DType) -> int:
    return int(value) - 2**dtype.bits if value >= 2 ** (dtype.bits - 1) else int(value)


def _plus(a: Sum, b: Sum, sign: int) -> Sum:
    return {m: a.get(m, 0) + sign * b.get(m, 0) for m in {**a, **b}}


def _times(a: Sum, b: Sum) -> Sum:
    product: Sum = {}
    for m, c in a.items():
        for n, d in b.items():
            key = tuple(sorted((*m, *n), key=repr))
            product[key] = product.get(key, 0) + c * d
    return product

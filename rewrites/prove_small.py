"""Turns a rule into an exhaustive check in small IEEE formats: every value, every pair, every triple … of its variables.

Two of the formats are the fp8 types of `ml_dtypes` with infinities (`float8_e5m2`, `float8_e4m3`); rules of more variables than three
take formats of fewer bits. Each operation is correctly rounded: its float64 result, exact or innocuously rounded (53 >= 2 * 4 + 2 digits,
Figueroa 1995), is rounded once to the format. A value is held as its code, so that an operation is a look-up in a table of all its results.
"""

import functools
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL
from kernel_ir.fastmath import Flag
from kernel_ir.ops import OPS
from rewrites.guards import COMPARISONS, SCOPE, Guard
from rewrites.pattern import Apply, Lit, Pattern, Var, multiplied_out, subpatterns
from rewrites.prove_unroll import BOOLEAN, Ground
from rewrites.prove_verdict import Deadline, Outcome

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any

MOST: Final = 17_000_000
"""Combinations in one check: the triples of 256 values."""
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Format:
    """An IEEE 754 format with `exponent` and `fraction` bits. Codes count from +0 up to inf, then from -0 down to -inf, then NaN."""

    name: str
    exponent: int
    fraction: int

    @property
    def infinity(self) -> int:
        """The code of +inf."""
        return (2**self.exponent - 1) << self.fraction

    @property
    def nan(self) -> int:
        return 2 * (self.infinity + 1)

    @property
    def count(self) -> int:
        """How many values there are, all NaN as one."""
        return self.nan + 1


FORMATS: Final = (
    Format("e5m2", 5, 2),
    Format("e4m3", 4, 3),
    Format("e3m2", 3, 2),
    Format("e2m2", 2, 2),
    Format("e2m1", 2, 1),
)


@functools.cache
def values(form: Format) -> Array:
    """The float64 value of each code."""
    bias = 2 ** (form.exponent - 1) - 1
    code = np.arange(form.infinity)
    exponent, fraction = code >> form.fraction, code & (2**form.fraction - 1)
    scale = np.exp2(np.maximum(exponent, 1) - bias - form.fraction)
    finite = (fraction + np.where(exponent > 0, 2**form.fraction, 0)) * scale
    positive = np.append(finite, np.inf)
    return np.concatenate([positive, -positive, [np.nan]])


def encoded(x: Array, form: Format) -> Array:
    """The code of each float64, rounded to nearest, ties to even."""
    positive = values(form)[: form.infinity + 1].copy()
    bias = 2 ** (form.exponent - 1) - 1
    positive[-1] = 2.0 ** (bias + 1)  # what comes after the greatest number, if exponents went on
    middle = (positive[1:] + positive[:-1]) / 2
    size = np.abs(x)
    below, above = np.searchsorted(middle, size, "left"), np.searchsorted(middle, size, "right")
    code = np.where(below % 2 == 0, below, above)
    code = np.where(np.signbit(x), code + form.infinity + 1, code)
    return np.where(np.isnan(x), form.nan, code).astype(np.uint16 if form.count > 256 else np.uint8)


@functools.cache
def table(op: str, form: Format, minus: bool = False) -> Array:
    """The results of a one- or two-argument operation for all codes: codes, or truth values. `minus`: min and max of two zeros give -0."""
    x = values(form)
    args: list[Array] = [x] if OPS[op].arity == 1 else np.meshgrid(x, x, indexing="ij")
    with np.errstate(all="ignore"):
        result = np.asarray(OPS[op].numpy(*args))
    if op in ("min", "max", "fmin", "fmax"):
        a, b = args
        result = np.where((a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b)), -0.0 if minus else 0.0, result)
    return result if result.dtype == bool else encoded(result, form)


@functools.cache
def nudged(op: str, form: Format) -> Array:
    """The results of a function that is not correctly rounded, some of them one value off: what rests on all of them is no proof.

    Zeros, infinities and NaN stay, and so does what every library keeps: odd and even functions, bounds of 1 and -1.
    """
    codes, x = table(op, form).astype(np.int64), values(form)
    minus, one = form.infinity + 1, int(encoded(np.asarray(1.0), form))
    size = np.where(codes >= minus, codes - minus, codes)
    off = np.array([zlib.crc32(bytes((n & 255, n >> 8))) % 3 - 1 for n in range(form.count)])
    if op in (*ODD, *EVEN):
        off[minus : 2 * minus] = off[:minus]
    least, most = one if op == "cosh" else 1, one if op in ("sin", "cos", "tanh", "erf") else form.infinity - 1
    moved = np.clip(size + off, np.minimum(least, size), np.maximum(most, size))
    free = (codes != form.nan) & (size > 0) & (size < form.infinity) & (x != 0) & np.isfinite(x)
    return np.where(free, moved + np.where(codes >= minus, minus, 0), codes).astype(table(op, form).dtype)


ODD: Final = ("sin", "tan", "asin", "atan", "sinh", "tanh", "erf", "cbrt")
EVEN: Final = ("cos", "cosh")


def inexact(p: Pattern) -> bool:
    """Whether it is a function of one argument that backends compute as they like, within its error."""
    return isinstance(p, Apply) and len(p.args) == 1 and OPS[p.op].ulp > 0


class Unsupported(Exception):
    """The rule is not of floats and truth values alone."""


@dataclass(frozen=True, slots=True)
class _Point:
    """Codes of the variables at every combination of a chunk."""

    form: Format
    codes: Mapping[str, Array]
    zero: float = 0.0
    nudge: bool = False

    def value(self, p: Pattern, seen: list[Array] | None = None) -> Array:
        form = self.form
        match p:
            case Var():
                return self.codes[p.name]
            case Lit(value=bool()):
                return np.asarray(p.value)
            case Lit():
                if float(p.value) not in values(form) and p.value == p.value:
                    raise Unsupported("a number that is no value of the format")
                return encoded(np.asarray(float(p.value)), form)
            case Apply(op="powi"):
                product = multiplied_out(p)
                if product is None:
                    raise Unsupported("this power")
                return self.value(product, seen)
            case Apply(op="select"):
                result = np.where(*(self.value(a, seen) for a in p.args))
            case Apply(op="fma"):
                a, b, c = (values(form)[self.value(a, seen)] for a in p.args)
                with np.errstate(all="ignore"):
                    result = encoded(a * b + c, form)
            case Apply() if OPS[p.op].cast is None:
                args = [self.value(a, seen) for a in p.args]
                if p.op in ("and", "or", "not") or (p.op in ("eq", "ne") and args[0].dtype == bool):
                    result = OPS[p.op].numpy(*args)
                elif self.nudge and inexact(p):
                    result = nudged(p.op, form)[args[0]]
                else:
                    result = table(p.op, form, math.copysign(1.0, self.zero) < 0)[tuple(args)]
            case _:
                raise Unsupported(str(p))
        if seen is not None and result.dtype != bool:
            seen.append(result)
        return result

    def guard(self, g: Guard) -> Array:
        if g.kind in SCOPE:
            return np.asarray(True)
        if g.kind not in _GUARDS and g.kind not in COMPARISONS:
            raise Unsupported(g.kind)
        x = values(self.form)[self.value(g.args[0])]
        if g.kind in _GUARDS:
            return _GUARDS[g.kind](x)
        assert isinstance(g.args[1], Lit)
        bound = float(g.args[1].value)
        holds: Array = OPS[g.kind].numpy(x, bound)
        return holds if bound == 0 else holds | np.isnan(x)


def _power_of_two(x: Array) -> Array:
    """Powers of two whose reciprocal is normal too, as the guard asks of f32."""
    return (np.abs(np.frexp(x)[0]) == 0.5) & (np.abs(np.log2(np.abs(np.where(x == 0, 1, x)))) <= 1)


def _nonneg(x: Array) -> Array:
    return ~(x < 0)


def _positive(x: Array) -> Array:
    return x > 0


def _nonzero(x: Array) -> Array:
    return x != 0


def _notnan(x: Array) -> Array:
    return ~np.isnan(x)


_GUARDS: Final[dict[str, Callable[[Array], Array]]] = {
    "pow2": _power_of_two,
    "nonneg": _nonneg,
    "positive": _positive,
    "nonzero": _nonzero,
    "finite": np.isfinite,
    "notnan": _notnan,
}


def exhausted(ground: Ground, deadline: Deadline, zeros: tuple[float, ...]) -> Outcome:
    """Whether the sides have equal bits at every combination of values, in the largest formats of which there are not too many."""
    rule = ground.rule
    used = {p.name: p for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var)}
    logical = [n for n, p in used.items() if p.type == BOOLEAN or ground.dtypes[p.type] is BOOL]
    if any(not ground.dtypes[p.type].is_float for n, p in used.items() if n not in logical):
        return Outcome("unknown", why="integers have no small float format")
    floats = sorted(n for n in used if n not in logical)
    count = len(floats)
    fitting = [f for f in FORMATS if f.count**count * 2 ** len(logical) <= MOST]
    chosen = [f for f in fitting if f.exponent + f.fraction == fitting[0].exponent + fitting[0].fraction] if fitting else []
    done: list[str] = []
    for form in chosen:
        try:
            why = _differs(ground, form, floats, logical, zeros, deadline)
            if not why and any(map(inexact, (*subpatterns(rule.lhs), *subpatterns(rule.rhs)))):
                why = _differs(ground, form, floats, logical, zeros, deadline, nudge=True)
                if why and why != "time":
                    return Outcome("unknown", why=f"it rests on correctly rounded functions: with one value off, {why}")
        except Unsupported as missing:
            return Outcome("unknown", why=f"no small format for {missing}")
        if why:
            return Outcome("unknown" if why == "time" else "refuted", why=why)
        done.append(form.name)
    tuples = {0: "values", 1: "values", 2: "pairs", 3: "triples"}.get(count, f"{count}-tuples")
    return (
        Outcome("proved", domain=f"all {tuples} of {' and '.join(done)}")
        if done
        else Outcome("unknown", why=f"{count} variables are too many")
    )


def _differs(
    ground: Ground, form: Format, floats: list[str], logical: list[str], zeros: tuple[float, ...], deadline: Deadline, nudge: bool = False
) -> str:  # fmt: skip
    """Where the sides differ; "" if nowhere."""
    rule = ground.rule
    for codes in _chunks(form, floats, logical):
        if deadline.passed:
            return "time"
        point = _Point(form, codes, nudge=nudge)
        seen: list[Array] = []
        lefts = [replace(point, zero=z).value(rule.lhs, seen if z == 0 else None) for z in zeros]
        good = np.asarray(True)
        for g in rule.guards:
            good = good & point.guard(g)
        if rule.needs:
            good = good & _not_excluded(rule.needs, form, [*seen, *(codes[n] for n in floats)])
        for z in zeros:
            right = replace(point, zero=z).value(rule.rhs)
            same = functools.reduce(np.logical_or, [_same(left, right, form, Flag.NSZ in rule.needs) for left in lefts])
            wrong = good & ~same
            if wrong.any():
                shape = np.broadcast_shapes(*(c.shape for c in codes.values()), wrong.shape)
                at = int(np.argmax(np.broadcast_to(wrong, shape)))
                return _shown(form, codes, np.broadcast_to(lefts[0], shape), np.broadcast_to(right, shape), at)
    return ""


def _chunks(form: Format, floats: list[str], logical: list[str]) -> Iterator[dict[str, Array]]:
    """Every combination: the last float variables run within a chunk, the first ones from chunk to chunk."""
    inner = len(floats)
    while form.count**inner > CHUNK:
        inner -= 1
    outer, last = floats[: len(floats) - inner], floats[len(floats) - inner :]
    every = np.arange(form.count, dtype=encoded(np.zeros(1), form).dtype)
    mesh = np.meshgrid(*[every] * inner, indexing="ij") if last else [np.zeros(1, np.uint8)]
    flat = {n: m.ravel() for n, m in zip(last, mesh, strict=False)}
    for truth in itertools.product((False, True), repeat=len(logical)):
        fixed = {n: np.full(1, t) for n, t in zip(logical, truth, strict=True)}
        for chosen in itertools.product(range(form.count), repeat=len(outer)):
            yield {**fixed, **flat, **{n: np.full(1, c, every.dtype) for n, c in zip(outer, chosen, strict=True)}}


def _not_excluded(needs: frozenset[Flag], form: Format, arrays: list[Array]) -> Array:
    good = np.asarray(True)
    for codes in arrays:
        if Flag.NNAN in needs:
            good = good & (codes != form.nan)
        if Flag.NINF in needs:
            good = good & (codes != form.infinity) & (codes != 2 * form.infinity + 1)
    return good


def _same(left: Array, right: Array, form: Format, signless: bool) -> Array:
    same = left == right
    if signless and left.dtype != bool:
        same = same | ((values(form)[left] == 0) & (values(form)[right] == 0))
    return same


def _shown(form: Format, codes: Mapping[str, Array], left: Array, right: Array, at: int) -> str:
    def number(x: Array) -> str:
        flat = x.ravel()
        code = flat[at if len(flat) > 1 else 0]
        return str(bool(code)) if x.dtype == bool else repr(float(values(form)[code]))

    where = ", ".join(f"{n}={number(c)}" for n, c in sorted(codes.items()))
    return f"{form.name} {where}: {number(left)} is not {number(right)}"

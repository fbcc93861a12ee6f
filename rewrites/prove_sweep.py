"""Turns an approximation in f32 into compiled code, and that into its worst error over every f32 of an interval.

The truth is the left side in float64: first compared with 40 digits at points of the whole interval, since nothing is better than its
reference. The right side is computed in f32, each operation rounded once. Where every operation keeps or turns the sign, as in
`x * (a + b * (x * x))` for `tanh(x)`, both sides of -x are those of x bit for bit, and the negative half is not counted through again.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy

from kernel_ir.dtypes import F64
from rewrites.pattern import Apply, Lit, Pattern, Var, multiplied_out, subpatterns
from rewrites.prove_meaning import bits_value, real_value
from rewrites.prove_values import Samples
from rewrites.rule import Unit

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any
Errors = Callable[[Array], Array]

CHUNK: Final = 1 << 16
DIGITS: Final = 40
TRUE: Final = 1e-12
"""How far, relatively, float64 may lie from the truth: a hundred-thousandth of f32's own rounding."""
_SYMBOLS: Final = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_SLOW: Final = ("erf",)
"""Functions that NumPy does not have, or not vectorised; numba calls the C library's."""
_ODD: Final = ("neg", "sin", "tan", "asin", "atan", "sinh", "tanh", "erf", "cbrt", "trunc", "round", "sign")
_EVEN: Final = ("abs", "cos", "cosh")


def errors(lhs: Pattern, rhs: Pattern, unit: Unit) -> Errors | None:
    """The errors at some f32, in the unit that is stated; None where the right side is more than + - * / and powers."""
    if {p.op for p in subpatterns(rhs) if isinstance(p, Apply)} - {*_SYMBOLS, "neg", "abs", "powi"}:
        return None
    compare, truth = _compiled(rhs, unit), _truth(lhs)

    def found(x: Array) -> Array:
        result = np.empty(len(x), np.float64)
        compare(x, truth(x.astype(np.float64)), result)
        return result

    return found


def parity(p: Pattern) -> str:
    """`even` or `odd` where turning the variable's sign leaves, or turns, the value bit for bit; else nothing."""
    match p:
        case Var():
            return "odd"
        case Lit():
            return "even"
        case Apply("powi", (base, Lit(value=n))):
            return "even" if parity(base) and int(n) % 2 == 0 else parity(base)
        case Apply():
            kinds = [parity(a) for a in p.args]
            if not all(kinds):
                return ""
            if set(kinds) == {"even"}:
                return "even"
            if p.op in ("mul", "div"):
                return "odd" if len(set(kinds)) == 2 else "even"
            if p.op in ("add", "sub") or p.op in _ODD:
                return "odd" if set(kinds) == {"odd"} else ""
            return "even" if p.op in _EVEN else ""
        case _:
            return ""


def reference_fault(lhs: Pattern, points: Array) -> str:
    """Where float64 is no reference for the left side: farther than allowed from 40 digits; "" where it is one."""
    import mpmath  # pyright: ignore[reportMissingTypeStubs]

    mp: Any = mpmath.mp.clone()
    mp.dps = DIGITS
    (name,) = {p.name for p in subpatterns(lhs) if isinstance(p, Var)}
    found = _truth(lhs)(points.astype(np.float64))
    for x, value in zip(points.tolist(), found.tolist(), strict=True):
        exact = real_value(lhs, {name: functools.partial(_same, mp.mpf(x))}, {}, mp) if math.isfinite(x) else None
        if (
            exact is not None
            and math.isfinite(value)
            and not abs(value - exact) <= TRUE * max(abs(exact), float(np.finfo(np.float32).tiny))
        ):
            return f"float64 is no reference at {name}={x!r}: {value!r} is not {float(exact)!r}"
    return ""


def _same(value: Any, _indices: Any) -> Any:
    return value


def _truth(lhs: Pattern) -> Callable[[Array], Array]:
    (name,) = {p.name for p in subpatterns(lhs) if isinstance(p, Var)}
    match lhs:
        case Apply(op, (Var(),)) if op in _SLOW:
            return _vectorised(op)
        case _:
            dtypes = {t: F64 for q in subpatterns(lhs) for t in ((q.type, q.result) if isinstance(q, Apply) else (q.type,))}
            return lambda x: np.broadcast_to(bits_value(lhs, Samples({name: x}, {}, {}, dtypes)), x.shape)


@functools.cache
def _vectorised(name: str) -> Callable[[Array], Array]:
    import numba as untyped

    numba: Any = untyped
    return numba.vectorize(["float64(float64)"])(_defined(f"def f(x):\n    return math.{name}(x)\n", "f", {"math": math}))


@functools.cache
def _compiled(rhs: Pattern, unit: Unit) -> Callable[[Array, Array, Array], None]:
    """The loop that writes the errors of the right side: as fast as the machine's vectors, with no rounding but IEEE's."""
    import numba

    numbers: dict[str, Any] = {}
    expression = _source(rhs, numbers)
    scale = {"relative": "max(abs(t), tiny)", "ulp": "spacing(max(abs(t), tiny))", "": "1.0"}[unit]
    lines = ("def compare(x, truth, error):", "    for i in range(len(x)):", "        v = x[i]", "        t = truth[i]",
             f"        f = float64({expression})", f"        error[i] = 0.0 if f == t else abs(f - t) / {scale}")  # fmt: skip
    scope = {**numbers, "float64": np.float64, "tiny": float(np.finfo(np.float32).tiny), "spacing": _spacing()}
    return numba.njit(error_model="numpy", nogil=True)(_defined("\n".join(lines) + "\n", "compare", scope))


def _spacing() -> Any:
    """The distance of f32 at a float64: 2 ** (exponent - 23)."""
    import numba

    return numba.njit(_ulp)


def _ulp(size: float) -> float:
    return math.ldexp(1.0, math.frexp(size)[1] - 24)


def _source(p: Pattern, numbers: dict[str, Any]) -> str:
    """The expression in numba's float32 arithmetic; its numbers become names."""
    match p:
        case Var():
            return "v"
        case Lit():
            name = f"c{len(numbers)}"
            numbers[name] = np.float32(p.value)
            return name
        case Apply("powi"):
            product = multiplied_out(p)
            if product is None:
                raise ValueError(f"no product: {p}")
            return _source(product, numbers)
        case Apply("neg", (a,)):
            return f"(-{_source(a, numbers)})"
        case Apply("abs", (a,)):
            return f"abs({_source(a, numbers)})"
        case Apply():
            a, b = (_source(x, numbers) for x in p.args)
            return f"({a} {_SYMBOLS[p.op]} {b})"
        case _:
            raise ValueError(f"no arithmetic: {p}")


def _defined(source: str, name: str, scope: dict[str, Any]) -> Any:
    made = dict(scope)
    exec(compile(source, "<approximation>", "exec"), made)
    return made[name]


def bits_in_turn(first: int, last: int, sign: int) -> Iterator[Array]:
    """Every f32 of a run of bits, by the chunk."""
    for start in range(first, last + 1, CHUNK):
        bits = np.arange(start, min(start + CHUNK, last + 1), dtype=np.uint32)
        yield bits.view(np.float32) * np.float32(sign)

"""The typed pattern trees that both sides of a rewrite rule are, and walks over them."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Var:
    """A pattern variable: any expression whose dtype is the rule's type variable number `type`."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class Lit:
    """A number or truth value of the pattern."""

    value: bool | int | float
    type: int


@dataclass(frozen=True, slots=True)
class Index:
    """The value of a reduction's index variable (i64)."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class Apply:
    """An op of the op table; `type` is its signature's T (of a cast: its argument's), `result` the value's."""

    op: str
    args: "tuple[Pattern, ...]"
    type: int
    result: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """A reduction over one index; `type` is the body's, `result` the value's. An implicit range is two variables, `i.lo` and `i.hi`."""

    kind: str
    index: str
    lo: "Pattern"
    hi: "Pattern"
    bodies: "tuple[Pattern, ...]"
    type: int
    result: int


@dataclass(frozen=True, slots=True)
class At:
    """`f[e]` on a right side: what stands for `of`, which the left side has inside the reduction over `index`, with `to` for the index."""

    of: Var
    index: str
    to: "Pattern"
    type: int


Pattern = Var | Lit | Index | Apply | Reduction | At


def multiplied_out(p: Apply) -> Pattern | None:
    """A `powi` with a literal exponent as the products that define it: p(n) = p(n // 2) ** 2 * (base if n is odd), p(-n) = 1 / p(n)."""
    base, exponent = p.args
    if not isinstance(exponent, Lit) or abs(exponent.value) > 64:
        return None

    def raised(n: int) -> Pattern:
        if n < 2:
            return base if n else Lit(1, p.type)
        square = Apply("mul", (raised(n // 2), raised(n // 2)), p.type, p.result)
        return Apply("mul", (square, base), p.type, p.result) if n % 2 else square

    n = int(exponent.value)
    return Apply("div", (Lit(1, p.type), raised(-n)), p.type, p.result) if n < 0 else raised(n)


def type_of(p: Pattern) -> int:
    """The type variable of the pattern's value."""
    return p.result if isinstance(p, Apply | Reduction) else p.type


def parts(p: Pattern) -> tuple[Pattern, ...]:
    """Direct subpatterns, bounds first."""
    match p:
        case Apply():
            return p.args
        case Reduction():
            return (p.lo, p.hi, *p.bodies)
        case At():
            return (p.of, p.to)
        case _:
            return ()


def subpatterns(p: Pattern) -> Iterator[Pattern]:
    """`p` and everything below it, parents first."""
    waiting = [p]
    while waiting:
        p = waiting.pop()
        yield p
        waiting.extend(reversed(parts(p)))


def size(p: Pattern) -> int:
    """The number of nodes, implicit bounds apart."""
    return sum(not (isinstance(x, Var) and "." in x.name) for x in subpatterns(p))


def variables(p: Pattern) -> tuple[str, ...]:
    """Names of the variables, each once, in order of first appearance."""
    return tuple(dict.fromkeys(x.name for x in subpatterns(p) if isinstance(x, Var)))


def scopes(p: Pattern, around: frozenset[str] = frozenset()) -> Iterator[tuple[str, frozenset[str]]]:
    """Each occurrence of a variable with the reduction indices whose bodies it stands in."""
    match p:
        case Var():
            yield p.name, around
        case Reduction():
            for bound in (p.lo, p.hi):
                yield from scopes(bound, around)
            for body in p.bodies:
                yield from scopes(body, around | {p.index})
        case At():
            yield p.of.name, around | {p.index}
            yield from scopes(p.to, around)
        case _:
            for part in parts(p):
                yield from scopes(part, around)

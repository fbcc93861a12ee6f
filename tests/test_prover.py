"""Polynomials and the prover: what it must prove, and by brute force that what it proves holds."""

from collections.abc import Iterator
from itertools import product
from operator import add, mul, sub
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_ir.dtypes import BOOL, I32, I64, U8
from kernel_ir.nodes import ArrayType, Binder, Call, Expr, IndexRef, Kernel, Load, Param, ParamRef, SizeRef, const
from kernel_ir.polynomial import atom, constant
from kernel_ir.prover import Prover, int_range, prover_for
from kernel_ir.witness import Search

N, M = SizeRef("N"), SizeRef("M")
X, Y = IndexRef("i"), IndexRef("j")
KERNEL = Kernel("k", (), (), (), (), ("N", "M"), ())


def num(value: int) -> Expr:
    return const(value, I64)


def op(name: str, *args: Expr) -> Expr:
    return Call(name, args, BOOL if name in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not") else I64)


# Polynomials

n, i, j = atom("N"), atom("i"), atom("j")


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (n + 1 - n, "1"),
        ((n + i) * (n - i), "N*N - i*i"),
        (2 * i - 2 * i, "0"),
        (-(i - j), "-i + j"),
        (constant(3) * i * n - 4, "3*N*i - 4"),
        (1 - i, "-i + 1"),
    ],
)
def test_polynomials_have_one_form(p, text):
    assert str(p) == text


polynomials = st.recursive(
    st.sampled_from([n, i, j]) | st.integers(-5, 5).map(constant),
    lambda inner: st.tuples(st.sampled_from([add, sub, mul]), inner, inner).map(lambda t: t[0](t[1], t[2])),
    max_leaves=6,
)
values = st.fixed_dictionaries({"N": st.integers(-9, 9), "i": st.integers(-9, 9), "j": st.integers(-9, 9)})


@given(polynomials, polynomials, values)
def test_long_division_is_an_identity(p, d, at):
    if d.terms:
        q, r = p.divmod(d)
        assert p == d * q + r
        assert p.at(at) == d.at(at) * q.at(at) + r.at(at)


@given(polynomials, values)
def test_tightening_keeps_the_sign(p, at):
    assert (p.at(at) >= 0) == (p.tightened().at(at) >= 0)


@given(polynomials, values)
def test_splitting_is_an_identity(p, at):
    a, b = p.split("i")
    assert p.at(at) == a.at(at) * at["i"] + b.at(at) and "i" not in b.atoms


# Normal forms of `//` and `%`

ROW = op("add", op("mul", X, N), Y)


@pytest.mark.parametrize(
    ("e", "text"),
    [
        (op("floordiv", ROW, N), "i"),
        (op("mod", ROW, N), "j"),
        (op("add", op("mul", op("floordiv", ROW, N), N), op("mod", ROW, N)), "N*i + j"),
        (op("floordiv", op("sub", op("mul", X, N), num(1)), N), "i - 1"),
        (op("mod", op("mod", X, num(7)), num(7)), str(atom("i") - 7 * atom("(i)//(7)"))),
        (op("floordiv", op("floordiv", X, num(2)), num(3)), "(i)//(6)"),
        (op("floordiv", op("mul", X, num(6)), num(3)), "2*i"),
        (op("floordiv", op("add", op("mul", X, num(2)), num(1)), num(4)), "(i)//(2)"),
        (op("floordiv", op("neg", X), num(-1)), "i"),
        (op("floordiv", X, num(0)), "0"),
        (op("mod", X, num(0)), "0"),
        (op("floordiv", X, M), "floordiv:i64((i), (M))"),
        (op("min", Y, op("sub", N, num(1))), "j"),
        (op("max", X, num(-1)), "i"),
        (op("shr", op("shl", X, num(3)), num(2)), "2*i"),
        (op("band", op("mul", X, num(8)), num(7)), "0"),
        (op("powi", op("add", X, num(1)), num(2)), "i*i + 2*i + 1"),
        (op("abs", X), "i"),
        (op("select", op("lt", X, num(0)), X, X), "i"),
    ],
)
def test_normal_form(e, text):
    ranges = [Binder("i", num(0), N)] if "M" in text else [Binder("i", num(0), M), Binder("j", num(0), N)]
    here = prover_for(KERNEL, ranges)
    assert str(here.polynomial(e)) == text


# What is proved


@pytest.mark.parametrize(
    ("facts", "claim"),
    [
        ([op("lt", X, N)], op("le", X, N)),
        ([op("lt", X, N), op("lt", N, M)], op("lt", op("add", X, num(1)), M)),
        ([op("eq", N, op("mul", num(2), M)), op("lt", X, M)], op("lt", op("add", op("mul", num(2), X), num(1)), N)),
        ([op("eq", op("mod", N, num(4)), num(0)), op("lt", op("mul", num(4), X), N)], op("lt", op("add", op("mul", num(4), X), num(3)), N)),
        ([op("lt", X, op("mul", num(2), N))], op("lt", op("floordiv", X, num(2)), N)),
        ([op("ge", X, num(0)), op("lt", X, op("mul", N, M))], op("lt", op("floordiv", X, M), N)),
        (
            [op("or", op("lt", X, num(2)), op("gt", X, num(5))), op("ne", X, num(0)), op("ge", X, num(0)), op("lt", X, num(6))],
            op("eq", X, num(1)),
        ),
        ([op("not", op("lt", X, Y))], op("le", Y, X)),
        ([op("ge", X, num(1)), op("ge", Y, num(1))], op("gt", op("mul", X, Y), num(0))),
        ([op("lt", op("max", X, Y), N)], op("and", op("lt", X, N), op("lt", Y, N))),
        ([op("le", X, Y)], op("eq", op("min", X, Y), X)),
        ([op("ne", N, num(0))], op("ge", N, num(1))),
        ([op("ge", op("mul", N, M), num(1))], op("and", op("ge", N, num(1)), op("ge", M, num(1)))),
        ([op("ge", M, num(1))], op("lt", op("mod", X, M), M)),
        ([], op("ge", N, num(0))),
        ([], op("le", op("min", X, Y), X)),
        ([], op("or", op("lt", X, Y), op("ge", X, Y))),
        ([op("lt", op("select", op("lt", X, Y), X, Y), N)], op("lt", op("min", X, Y), N)),
    ],
)
def test_proved(facts, claim):
    assert prover_for(KERNEL, [], facts).holds(claim)


@pytest.mark.parametrize(
    ("facts", "claim"),
    [
        ([], op("ge", N, num(1))),
        ([op("le", X, N)], op("lt", X, N)),
        ([op("lt", X, N)], op("lt", op("add", X, num(1)), N)),
        ([], op("ge", op("sub", N, M), num(0))),
        ([op("lt", X, op("add", op("mul", num(2), N), num(1)))], op("lt", op("floordiv", X, num(2)), N)),
        ([], op("lt", op("mod", X, M), M)),
        ([op("or", op("lt", X, num(2)), op("gt", X, num(5)))], op("lt", X, num(2))),
    ],
)
def test_not_proved(facts, claim):
    assert not prover_for(KERNEL, [], facts).holds(claim)


def test_positive_sizes_are_asked_for():
    assert not prover_for(KERNEL).holds(op("ge", N, num(1)))
    assert prover_for(KERNEL, positive=["N"]).holds(op("ge", N, num(1)))


def test_data_wraps_unless_it_is_bounded():
    """`k + 1 > 0` says nothing of `k` where k may be the greatest i64; with `0 <= k, k < N` it does."""
    k = ParamRef("k", I64)
    kernel = Kernel("f", (Param("k", ArrayType(I64, ())),), (), (), (), ("N",), ())
    bounded = [op("le", num(0), k), op("lt", k, N)]
    assert not prover_for(kernel, [], [op("gt", op("add", k, num(1)), num(0))]).holds(op("ge", k, num(0)))
    assert not prover_for(kernel, [], [op("lt", op("mul", k, num(2)), N)]).holds(op("lt", k, N))
    assert prover_for(kernel, [], [*bounded, op("lt", op("mul", k, num(2)), N)]).holds(op("lt", op("add", k, k), N))


def test_storage_types_bound_what_they_hold():
    kernel = Kernel("f", (Param("x", ArrayType(U8, (N,))),), (), (), (), ("N",), ())
    load = Load("x", (X,), I32)
    assert int_range(kernel, Call("i64", (load,), I64), [Binder("i", num(0), N)]) == (0, 255)
    assert int_range(kernel, op("mul", Call("i64", (load,), I64), num(-2))) == (-510, 0)
    assert int_range(kernel, op("add", X, num(1)), [Binder("i", num(2), num(9))]) == (3, 9)


def test_an_inner_index_may_shadow():
    here = prover_for(KERNEL, [Binder("i", num(0), N), Binder("i", num(5), op("add", X, num(6)))])
    assert here.holds(op("ge", X, num(5))) and not here.holds(op("lt", X, N))


def test_proofs_are_deterministic():
    def known() -> list[str]:
        here = prover_for(KERNEL, [Binder("i", num(0), N)], [op("or", op("lt", X, M), op("eq", op("mod", X, num(3)), num(1)))])
        here.holds(op("lt", X, M))
        return [str(p) for p in here.constraints.known]

    assert known() == known()


# Soundness by brute force


COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def expr(rng: Random, leaves: tuple[Expr, ...], depth: int) -> Expr:
    """A random integer expression."""
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(leaves) if rng.random() < 0.7 else num(rng.randint(-3, 4))
    if rng.random() < 0.1:
        return op("select", condition(rng, leaves, 0), expr(rng, leaves, depth - 1), expr(rng, leaves, depth - 1))
    name = rng.choice(("add", "add", "sub", "sub", "mul", "floordiv", "mod", "min", "max"))
    return op(name, expr(rng, leaves, depth - 1), expr(rng, leaves, depth - 1))


def condition(rng: Random, leaves: tuple[Expr, ...], depth: int) -> Expr:
    """A random condition."""
    if depth and rng.random() < 0.4:
        parts = condition(rng, leaves, depth - 1), condition(rng, leaves, depth - 1)
        return op(rng.choice(("and", "or")), *parts) if rng.random() < 0.8 else op("not", parts[0])
    return op(rng.choice(COMPARISONS), expr(rng, leaves, 1), expr(rng, leaves, 1))


SEARCH = Search(KERNEL)


def environments(binders: tuple[Binder, ...], guard: Expr) -> Iterator[dict[str, int]]:
    """Every small state in which the ranges and the guard hold."""
    outer, inner = binders
    for size_n, size_m in product(range(5), repeat=2):
        env = {"N": size_n, "M": size_m}
        for a in range(SEARCH.value(outer.lo, env), min(SEARCH.value(outer.hi, env), 12)):
            here = {**env, "i": a}
            for b in range(SEARCH.value(inner.lo, here), min(SEARCH.value(inner.hi, here), 12)):
                if SEARCH.value(guard, found := {**here, "j": b}):
                    yield found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_proved_holds(seed):
    rng = Random(seed)
    lo = num(0) if rng.random() < 0.5 else expr(rng, (N, M), 1)
    hi = N if rng.random() < 0.5 else expr(rng, (N, M), 2)
    binders = (Binder("i", lo, hi), Binder("j", expr(rng, (N, X), 1), expr(rng, (N, M, X), 2)))
    every = (N, M, X, Y)
    guard, claim, e = condition(rng, every, 1), condition(rng, every, 1), expr(rng, every, 3)
    here = prover_for(KERNEL, binders, [guard])
    proved = here.holds(claim)
    impossible = here.is_impossible()
    below, above = here.interval(e)
    p = here.polynomial(e)
    signs = here.nonneg(p), here.nonneg(-p - 1)
    for env in environments(binders, guard):
        value = SEARCH.value(e, env)
        assert not impossible, env
        assert not proved or SEARCH.value(claim, env), env
        assert below is None or below <= value, env
        assert above is None or value <= above, env
        assert not signs[0] or value >= 0, env
        assert not signs[1] or value < 0, env


def test_the_doctest_prover_stands_alone():
    assert Prover({}).bind(Binder("i", num(1), N)).le(num(1), X)

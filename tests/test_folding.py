"""Arithmetic of float literals folds to the machine's bits; intervals of floats follow from facts, clamps and bounded functions."""

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.nodes import Const, const
from rewrites.books import load_book
from rewrites.encode import encode
from rewrites.saturate import saturate

RNG = np.random.default_rng(3)
OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "min": np.minimum, "max": np.maximum}
DRAWN = [float(s * m * 10.0**e) for s, m, e in zip(RNG.choice([-1, 1], 60), RNG.uniform(1, 10, 60), RNG.integers(-6, 7, 60), strict=True)]
PAIRS = [*zip(DRAWN[::2], DRAWN[1::2], strict=True), (1.0, 3.0), (1.0, 2.0**-23), (1.0, 2.0**-24), (0.1, 0.2), (2.0**24, 1.0), (2.0, 2.0)]


def kernels(bodies, dtype):
    """One kernel for each expression."""
    return [kir.parse(f"kernel k() -> (y: {dtype}) {{ y = {body} }}")["k"] for body in bodies]


def folded(kernel, rules=()):
    """The literal in the class of the kernel's value, if any."""
    result = saturate(encode(kernel), rules)
    assert result.frozen is not None, result.message
    for node, home in zip(result.frozen.nodes, result.frozen.classes, strict=True):
        if node.name == "Lit" and home == result.frozen.roots[0]:
            return int(node.args[1])
    return None


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("op", OPERATORS)
def test_arithmetic_folds_to_the_machines_bits(op, dtype):
    numpy_type = np.dtype({"f32": "f4", "f64": "f8"}[dtype]).type
    texts = [f"{op}({a!r}, {b!r})" if op.isalpha() else f"{a!r} {op} ({b!r})" for a, b in PAIRS]
    checked = 0
    for (a, b), kernel in zip(PAIRS, kernels(texts, dtype), strict=True):
        value = OPERATORS[op](numpy_type(a), numpy_type(b))
        got = folded(kernel)
        if got is None:
            assert value == 0 or not 2.0**-60 <= abs(value) < 2.0**62
            continue
        checked += 1
        assert got == const(float(value), kernel.outputs[0].type.dtype).bits, f"{a} {op} {b}"
    assert checked >= len(PAIRS) - 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-(2.0)", -2.0),
        ("--1.0", 1.0),
        ("-(0.0)", -0.0),
        ("abs(-2.5)", 2.5),
        ("trunc(-2.5)", -2.0),
        ("f32(f64(0.1))", 0.1),
        ("f32(3)", 3.0),
        ("1.0 if 2.0 < 3.0 else 4.0", 1.0),
        ("(1.0 / 3.0) * 3.0", 1.0),
    ],
)
def test_literals_fold(text, value):
    (kernel,) = kernels([text], "f32")
    rules = [r for book in ("logic", "algebra") for r in load_book(kir_book(book)) if not r.needs]
    bits = folded(kernel, rules)
    assert bits is not None
    assert Const(bits, kernel.outputs[0].type.dtype) == const(value, kernel.outputs[0].type.dtype)


def kir_book(name):
    from rewrites.books import BOOKS

    return BOOKS / f"{name}.rules"


def test_optimized_text_holds_no_arithmetic_of_literals():
    kernel = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * (-(2.0)) - --1.0 }")["k"]
    text = kir.optimize(kernel, target="cpu").text
    assert "-1.0" in text or "- 1.0" in text
    assert "--" not in text and "-(" not in text


PROBE = "rule probe: floor(x) => trunc(x) if {guard} needs afn\n"

INTERVALS = [
    ("min(max(x, -3.0), 3.0)", "", "-3.0 <= x, x <= 3.0", True),
    ("max(min(x, 3.0), -3.0)", "", "-3.0 <= x, x <= 3.0", True),
    ("fmin(fmax(x, -3.0), 3.0)", "", "-3.0 <= x, x <= 3.0", True),
    ("min(x, 3.0)", "", "-3.0 <= x", False),
    ("x", "", "x <= 3.0", False),
    ("x", "where x <= 3.0", "x <= 3.0", True),
    ("x", "where x <= 3.0", "x <= 2.5", False),
    ("-x", "where x <= 3.0", "-3.0 <= x", True),
    ("x * 2.0", "where -1.0 <= x, x <= 1.5", "-2.1 <= x, x <= 3.1", True),
    ("x * x", "where -1.0 <= x, x <= 1.5", "x <= 2.3", True),
    ("x * 2.0", "where -1.0 <= x, x <= 1.5", "x <= 2.9", False),
    ("x - 1.0", "where x <= 3.0, 0.0 <= x", "-1.1 <= x, x <= 2.1", True),
    ("tanh(x)", "", "-1.01 <= x, x <= 1.01", True),
    ("sin(x) + cos(x)", "", "-2.1 <= x, x <= 2.1", True),
    ("1.0 / (1.0 + exp(x))", "", "x <= 1.1", True),
    ("1.0 / (1.0 + exp(x))", "", "-0.1 <= x", True),
    ("1.0 / (2.0 - exp(x))", "", "x <= 1.1", False),
    ("exp(min(x, 0.0))", "", "x <= 1.1", True),
    ("exp(x)", "", "x <= 1.1", False),
    ("sqrt(x)", "where 0.0 <= x, x <= 4.0", "x <= 2.1", True),
    ("abs(x)", "where -4.0 <= x, x <= 1.0", "x <= 4.0, 0.0 <= x", True),
    ("x if x < y else y", "where x <= 1.0, 0.0 <= x, y <= 2.0, -1.0 <= y", "-1.0 <= x, x <= 2.0", True),
    ("max(i in 0..4: min(x, 2.0))", "", "x <= 2.0", True),
    ("max(i in 0..4: max(x, 2.0))", "", "2.0 <= x", False),
    ("f32(f64(min(x, 1.0)))", "", "x <= 1.1", True),
]


@pytest.mark.parametrize(("text", "facts", "guard", "known"), INTERVALS)
def test_an_interval_is_known_or_not(text, facts, guard, known):
    kernel = kir.parse(f"kernel k(x: f32, y: f32) -> (z: f32) {facts} {{ z = floor({text}) }}")["k"]
    result = saturate(encode(kernel), load_book(PROBE.format(guard=guard)))
    assert result.frozen is not None, result.message
    assert any(node.name == "f_trunc" for node in result.frozen.nodes) == known

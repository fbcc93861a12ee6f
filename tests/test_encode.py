"""Kernels as terms: canonical indices, sharing, versions, facts; and back."""

import pytest

from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse
from rewrites.decode import decode
from rewrites.encode import Encoding, NotEncodable, encode
from rewrites.terms import Term
from tests.conftest import PUBLIC, kernel


def parsed(text: str) -> Kernel:
    (k,) = parse(text).values()
    return k


def names(encoding: Encoding, constructor: str) -> list[Term]:
    return [t for t in encoding.terms if t.name == constructor]


def unchanged(encoding: Encoding) -> Kernel:
    """The kernel that the encoding's own terms give: each term is a class of its own."""
    return decode(encoding, dict(enumerate(encoding.terms)), dict(enumerate(encoding.roots)))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_kernel_survives_the_way_in_and_out(name: str) -> None:
    first = unchanged(encode(kernel(name)))
    assert unchanged(encode(first)) == first


@pytest.mark.parametrize(
    "name", ["matmul", "matmul_chain", "softmax", "layernorm", "conv2d", "gemver", "black_scholes", "nearest", "cumsum", "jacobi2d"]
)
def test_a_tidy_kernel_comes_back_as_it_was(name: str) -> None:
    assert str(unchanged(encode(kernel(name)))) == str(kernel(name))


def test_equal_loops_share_their_index() -> None:
    encoding = encode(kernel("log_softmax"))
    assert {t.args[1] for t in encoding.terms if t.name in ("R_max", "R_sum")} == {"0..C#0"}
    assert encoding.variables["0..C#0"].hints == ("c", "k")


def test_a_free_index_of_the_same_range_is_not_captured() -> None:
    encoding = encode(parsed("kernel f(x: f32[N, N]) -> (y: f32[N]) { y[i] = sum(j: x[i, j]) }"))
    assert [t.args[1] for t in names(encoding, "R_sum")] == ["0..N#1"]


def test_an_index_whose_range_reads_another_keeps_it_from_being_hidden() -> None:
    # In the inner sum, j is free and its range reads i: the inner index over 0..N must not take i's name.
    text = "kernel f(x: f32[N, N]) -> (y: f32[N]) { y[i] = sum(j in 0..i+1: sum(k: x[j, k])) }"
    encoding = encode(parsed(text))
    inner = next(t for t in names(encoding, "R_sum") if t.args[1] == "0..N#1")
    assert inner.variables == ("0..N#1",)


def test_temporaries_are_inlined_with_their_indices() -> None:
    encoding = encode(parsed("kernel f(x: f32[N, M]) -> (y: f32[M, N]) { t[a, b] = exp(x[a, b]) y[i, j] = t[j, i] + t[j, i] }"))
    assert len(names(encoding, "f_exp")) == 1
    assert [label.temp for label in encoding.labels] == ["t"]


def test_doubling_temporaries_stay_a_small_graph() -> None:
    steps = "\n".join(f"t{n}[i] = t{n - 1}[i] * t{n - 1}[i] + 1.0" for n in range(1, 200))
    encoding = encode(parsed(f"kernel f(x: f32[N]) -> (y: f32[N]) {{ t0[i] = x[i]\n{steps}\n y[i] = t199[i] }}"))
    assert len(encoding.terms) < 450
    assert str(unchanged(encoding)).count("\n") < 450


def test_a_sum_over_shifted_temporaries_inlines_each_shift_once() -> None:
    encoding = encode(
        parsed("kernel f(x: f32[N]) -> (y: f32[N]) where N >= 2 { t[i] = exp(x[i]) y[i] = t[i] + t[i - 1] for i in 1..N y[0] = t[0] }")
    )
    assert len(names(encoding, "f_exp")) == 3


VERSIONS = """
kernel f(inout a: f32[N], x: f32[N]) -> (y: f32[N]) {
  t[i] = a[i] + x[i]
  a[i] = 2.0 * x[i]
  y[i] = t[i] + a[i]
}
"""


def test_a_temporary_of_what_is_overwritten_stays() -> None:
    encoding = encode(parsed(VERSIONS))
    assert [r.place.stmt.target for r in encoding.statements] == ["t", "a", "y"]
    assert {str(t.args[1]) for t in names(encoding, "Load1")} == {"a", "x", "t@1", "a@1"}
    assert str(unchanged(encoding)) == str(parsed(VERSIONS))


def test_blocks_of_repeat_have_their_own_versions() -> None:
    encoding = encode(kernel("jacobi2d"))
    arrays = {str(t.args[1]) for t in names(encoding, "Load2")}
    assert arrays == {"a@1", "b@2"}


FACTS = [
    ("where N >= 3", "lo", 3),
    ("where N <= 9", "hi", 9),
    ("where N > 3", "lo", 4),
]


@pytest.mark.parametrize(("where", "name", "value"), FACTS)
def test_facts_about_sizes(where: str, name: str, value: int) -> None:
    encoding = encode(parsed(f"kernel f(x: f32[N]) -> (y: f32[N]) {where} {{ y[i] = x[i] }}"))
    (fact,) = [f for f in encoding.facts if f.name == name]
    assert encoding.terms[fact.terms[0]] == Term("Size", ("N",))
    assert fact.value == value


def test_facts_about_arrays_hold_for_what_is_read() -> None:
    encoding = encode(kernel("gather_rows"))
    (below,) = [f for f in encoding.facts if f.name == "Lt"]
    assert [encoding.terms[i].name for i in below.terms] == ["Load1", "Size"]


def test_float_facts() -> None:
    encoding = encode(parsed("kernel f(x: f32[N], eps: f32) -> (y: f32[N]) where eps > 0.0 { y[i] = x[i] + eps }"))
    assert {f.name for f in encoding.facts} == {"NotNan", "Positive", "flo"}


def test_a_multiplied_shape_is_the_true_product() -> None:
    encoding = encode(kernel("reshape_scale"))
    assert {"nw_mul", "lo", "hi"} <= {f.name for f in encoding.facts}


def test_limits_are_reasons() -> None:
    rows = " + ".join(f"sum(k in 0..{n}: x[i + k else 0.0])" for n in range(1, 80))
    with pytest.raises(NotEncodable, match="62 index variables"):
        encode(parsed(f"kernel f(x: f32[N]) -> (y: f32[N]) {{ y[i] = {rows} }}"))


def test_a_reduction_that_is_no_nest_keeps_its_statement() -> None:
    body = "m = max(i, j: x[i, j]) y[i] = expsum(a, b: x[a, b] - m, 1.0) + x[i, 0]"
    text = f"kernel f(x: f32[N, M]) -> (y: f32[N]) where N >= 1, M >= 1 {{ {body} }}"
    encoding = encode(parsed(text))
    assert [r.value is None for r in encoding.statements] == [False, True]

"""assert_equivalent passes equal kernels and catches wrong ones with small counterexamples; strategies obey facts; files replay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

import kernel_ir as kir
from kernel_ir.errors import ArgumentError, EquivalenceError, UsageError
from kernel_ir.evaluate import evaluate
from kernel_ir.generate import kernel_texts
from kernel_ir.inputs import LAYOUTS, drawn_inputs, holds, laid_out, sampled
from kernel_ir.nodes import Kernel
from kernel_ir.testing import assert_equivalent, inputs, kernels, quick_check, replay, sample_inputs, save_counterexample

EXAMPLES = Path(__file__).parent.parent / "examples" / "kernels"
PUBLIC = {name: k for path in sorted(EXAMPLES.glob("*.kir")) for name, k in kir.parse_file(path).items()}
QUIET = settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

ROW = "kernel k(x: f32[R, C]) -> (y: f32[R, C]) where C >= 1 "
VECTOR = "kernel k(x: f32[N]) -> (y: f32[N]) "
PAIR = "kernel k(a: f32[N], b: f32[N]) -> (y: f32[N]) "
WHOLE = "kernel k(a: i32[N], b: i32[N]) -> (y: i32[N]) "
SOFTMAX = ROW + "{ m[r] = max(c: x[r, c])\n z[r] = sum(c: exp(x[r, c] - m[r]))\n y[r, c] = exp(x[r, c] - m[r]) / z[r] }"

EQUAL = [
    ("doubling", VECTOR + "{ y[i] = x[i] + x[i] }", VECTOR + "{ y[i] = 2.0 * x[i] }", None),
    ("half", VECTOR + "{ y[i] = x[i] / 2.0 }", VECTOR + "{ y[i] = x[i] * 0.5 }", None),
    ("order of a sum", ROW + "{ y[r, c] = sum(k: x[r, k]) }", ROW + "{ s[r] = sum(k in 0..C: x[r, C - 1 - k])\n y[r, c] = s[r] }", None),
    ("max commutes", PAIR + "{ y[i] = max(a[i], b[i]) }", PAIR + "{ y[i] = max(b[i], a[i]) }", None),
    ("factor out", PAIR + "{ y[i] = sum(j: a[i] * b[j]) }", PAIR + "{ y[i] = a[i] * sum(j: b[j]) }", "reassoc,contract"),
    ("reassociated quotient", PAIR + "{ y[i] = a[i] * b[i] / 3.0 }", PAIR + "{ y[i] = a[i] * (b[i] / 3.0) }", "reassoc"),
    ("distributed", PAIR + "{ y[i] = a[i] * (a[i] + b[i]) }", PAIR + "{ y[i] = a[i] * a[i] + a[i] * b[i] }", "reassoc"),
    ("split sum", PAIR + "{ y[i] = sum(j: a[j] + b[j]) }", PAIR + "{ y[i] = sum(j: a[j]) + sum(j: b[j]) }", "reassoc"),
    ("one pass softmax", SOFTMAX,
     ROW + "{ y[r, c] = exp(x[r, c] - max(k: x[r, k])) / expsum(k: x[r, k], 1.0) }", "reassoc"),
    ("contract", PAIR + "{ y[i] = a[i] * b[i] + a[i] }", PAIR + "{ y[i] = fma(a[i], b[i], a[i]) }", "contract"),
    ("reciprocal", VECTOR + "{ y[i] = x[i] / 3.0 }", VECTOR + "{ y[i] = x[i] * 0.3333333333333333 }", "arcp"),
    ("x - x without NaN", VECTOR + "{ y[i] = x[i] - x[i] }", VECTOR + "{ y[i] = 0.0 }", "nnan,ninf,nsz"),
    ("zero sign", VECTOR + "{ y[i] = x[i] + 0.0 }", VECTOR + "{ y[i] = x[i] }", "nsz"),
    ("unshifted softmax without infinities", ROW + "{ z[r] = sum(c: exp(x[r, c]))\n y[r, c] = exp(x[r, c]) / z[r] }",
     ROW + "{ y[r, c] = exp(x[r, c]) / sum(k: exp(x[r, k])) }", "ninf,nnan"),
    ("shift and multiply", WHOLE + "{ y[i] = a[i] * 8 + b[i] }", WHOLE + "{ y[i] = (a[i] << 3) + b[i] }", None),
]  # fmt: skip

WRONG = [
    ("boundary", VECTOR + "{ y[i] = x[i-1 else 0.0] }", VECTOR + "{ y[i] = x[i-1 else 1.0] }", None),
    ("off by one", VECTOR + "{ y[i] = sum(j in 0..i+1: x[j]) }", VECTOR + "{ y[i] = sum(j in 0..i: x[j]) }", "reassoc"),
    ("no max subtraction", SOFTMAX, ROW + "{ z[r] = sum(c: exp(x[r, c]))\n y[r, c] = exp(x[r, c]) / z[r] }", "reassoc"),
    ("swapped operands", PAIR + "{ y[i] = a[i] - b[i] }", PAIR + "{ y[i] = b[i] - a[i] }", None),
    ("dropped eps", ROW + "{ s[r] = sum(c: x[r, c] ** 2) / C\n y[r, c] = x[r, c] / sqrt(s[r] + 0.00001) }",
     ROW + "{ s[r] = sum(c: x[r, c] ** 2) / C\n y[r, c] = x[r, c] / sqrt(s[r]) }", "all"),
    ("zero sign", VECTOR + "{ y[i] = x[i] + 0.0 }", VECTOR + "{ y[i] = x[i] }", None),
    ("NaN", PAIR + "{ y[i] = min(a[i], b[i]) }", PAIR + "{ y[i] = a[i] if a[i] < b[i] else b[i] }", None),
    ("x / x", VECTOR + "{ y[i] = x[i] / x[i] }", VECTOR + "{ y[i] = 1.0 }", None),
    ("reciprocal without arcp", VECTOR + "{ y[i] = x[i] / 3.0 }", VECTOR + "{ y[i] = x[i] * 0.3333333333333333 }", None),
    ("transposed", "kernel k(x: f32[N, N]) -> (y: f32[N, N]) { y[i, j] = x[i, j] }",
     "kernel k(x: f32[N, N]) -> (y: f32[N, N]) { y[i, j] = x[j, i] }", None),
    ("wrapping", WHOLE + "{ y[i] = 1 if a[i] + 1 > b[i] else 0 }", WHOLE + "{ y[i] = 1 if a[i] >= b[i] else 0 }", None),
    ("truncating division", WHOLE + "{ y[i] = a[i] // 2 }", WHOLE + "{ y[i] = (a[i] + (1 if a[i] < 0 else 0)) // 2 }", None),
    ("overwritten", VECTOR + "{ y[i] = 0.0 for i in 0..N // 2\n y[i] = x[i] otherwise }", VECTOR + "{ y[i] = x[i] }", None),
    ("wrong extreme of nothing", VECTOR + "{ y[i] = max(j in 0..i: x[j]) }", VECTOR + "{ y[i] = max(0.0, max(j in 0..i: x[j])) }", None),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "licence"), [case[1:] for case in EQUAL], ids=[case[0] for case in EQUAL])
def test_equal_pairs_pass(a: str, b: str, licence: str | None) -> None:
    assert_equivalent(a, b, fast_math=licence, max_examples=60)
    quick_check(a, b, licence)


@pytest.mark.parametrize(("a", "b", "licence"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_kernels_are_caught_small(a: str, b: str, licence: str | None) -> None:
    with pytest.raises(EquivalenceError) as caught:
        assert_equivalent(a, b, fast_math=licence)
    found = caught.value.counterexample
    assert all(extent <= 3 for extent in found.inputs.sizes.values())
    message = str(caught.value)
    assert "the two differ at y[" in message and "first " in message and "second " in message and "truth " in message


def test_message_shows_everything() -> None:
    with pytest.raises(EquivalenceError) as caught:
        assert_equivalent(PAIR + "{ y[i] = a[i] - b[i] }", PAIR + "{ y[i] = b[i] - a[i] }")
    lines = str(caught.value).splitlines()
    assert lines[0] == "k: the two differ at y[0], with N=1"
    assert [line.split(" = ")[0] for line in lines[1:3]] == ["  a", "  b"]
    assert lines[-1].endswith("(the two must agree bit for bit)")


def test_same_seed_same_counterexample() -> None:
    def message(seed: int) -> str:
        with pytest.raises(EquivalenceError) as caught:
            assert_equivalent(WRONG[1][1], WRONG[1][2], seed=seed)
        return str(caught.value)

    assert message(3) == message(3)


def test_files_replay(tmp_path: Path) -> None:
    a, b = WRONG[0][1], WRONG[0][2]
    with pytest.raises(EquivalenceError) as caught:
        assert_equivalent(a, b)
    path = tmp_path / "found.npz"
    save_counterexample(path, caught.value.counterexample)
    with pytest.raises(EquivalenceError, match=r"the two differ at y\[0\]"):
        replay(path, a, b)
    replay(path, a, a)
    (tmp_path / "bad.npz").write_text("no")
    with pytest.raises(UsageError, match="not a counterexample file"):
        replay(tmp_path / "bad.npz", a, b)
    with pytest.raises(UsageError, match="cannot read"):
        replay(tmp_path / "absent.npz", a, b)
    with pytest.raises(ArgumentError, match="no input 'a'"):
        replay(path, PAIR + "{ y[i] = a[i] }", PAIR + "{ y[i] = a[i] }")


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ("kernel k(z: f32[N]) -> (y: f32[N]) { y[i] = z[i] }", "parameter `x: f32[N]` of 'k' is `z: f32[N]`"),
        ("kernel k(x: f64[N]) -> (y: f64[N]) { y[i] = x[i] }", "parameter `x: f32[N]` of 'k' is `x: f64[N]`"),
        ("kernel k(x: f32[N], a: f32) -> (y: f32[N]) { y[i] = a * x[i] }", "only 'k' has the parameter `a: f32`"),
        ("kernel k(inout x: f32[N]) -> (y: f32[N]) { y[i] = x[i] }", "is `inout x: f32[N]`"),
    ],
)
def test_signatures_must_agree(b: str, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        assert_equivalent(VECTOR + "{ y[i] = x[i] }", b)
    assert message in str(caught.value)


def test_only_kernels_are_compared() -> None:
    with pytest.raises(UsageError, match="cannot compare a int"):
        assert_equivalent(3, 4)
    with pytest.raises(UsageError, match="2 kernels"):
        assert_equivalent(VECTOR + "{ y[i] = x[i] }" + PAIR.replace(" k(", " l(") + "{ y[i] = a[i] }", "")


class Compiled:
    """Code in the place of a compiled kernel."""

    def __init__(self, kernel: Kernel, code: Any) -> None:
        self.kernel = kernel
        self.code = code

    def __call__(self, **arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return self.code(**arguments)


def test_compiled_code_is_checked_in_other_memory_orders() -> None:
    kernel = kir.parse("kernel k(x: f64[N, M]) -> (y: f64[N, M]) { y[i, j] = x[i, j] * 2.0 }")["k"]
    assert_equivalent(kernel, Compiled(kernel, lambda x: x * 2))
    ignores_strides = Compiled(kernel, lambda x: np.frombuffer(x.tobytes("A"), x.dtype).reshape(x.shape) * 2)
    with pytest.raises(EquivalenceError, match="memory order: x"):
        assert_equivalent(kernel, ignores_strides)


def test_inout_arrays_of_compiled_code_are_compared() -> None:
    kernel = kir.parse("kernel k(inout x: f64[N]) { x[i] = x[i] * 2.0 }")["k"]

    def update(x: np.ndarray) -> None:
        x *= 3

    with pytest.raises(EquivalenceError, match=r"differ at x\[0\]"):
        quick_check(kernel, Compiled(kernel, update))


@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(inputs(PUBLIC["saxpy"]))
def test_inside_another_hypothesis_test(drawn: dict[str, Any]) -> None:
    assert_equivalent(PUBLIC["saxpy"], PUBLIC["saxpy"], max_examples=5)


def test_profiles_are_left_alone() -> None:
    settings.register_profile("of_the_user", max_examples=7, derandomize=True, database=None)
    before = settings.default
    settings.load_profile("of_the_user")
    try:
        assert_equivalent(EQUAL[0][1], EQUAL[0][2], max_examples=3, seed=5)
        assert settings.default.max_examples == 7
    finally:
        settings.register_profile("before", before)
        settings.load_profile("before")


@pytest.mark.parametrize("name", PUBLIC)
def test_public_kernels_equal_themselves(name: str) -> None:
    quick_check(PUBLIC[name], PUBLIC[name], "all")


@pytest.mark.parametrize("name", PUBLIC)
def test_inputs_obey_the_facts(name: str) -> None:
    kernel = PUBLIC[name]
    for seed in range(8):
        drawn = sampled([kernel], seed)
        assert holds([kernel], drawn)
        kernel(**drawn.arguments(kernel))


@pytest.mark.parametrize("name", PUBLIC)
def test_sampled_inputs_are_realistic_and_repeat(name: str) -> None:
    kernel = PUBLIC[name]
    sizes = dict.fromkeys(kernel.sizes, 4)
    first, second = sample_inputs(kernel, 3, sizes), sample_inputs(kernel, 3, sizes)
    assert first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)
    results = kernel(**first)
    for array in results if isinstance(results, tuple) else [] if results is None else [results]:
        assert np.isfinite(array).all()


def test_sizes_that_break_a_fact_are_refused() -> None:
    kernel = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) where N % 4 == 0 { y[i] = x[i] }")["k"]
    assert sample_inputs(kernel, 0)["x"].shape == (64,)
    with pytest.raises(ArgumentError, match="no inputs of 'k' with N=6"):
        sample_inputs(kernel, 0, {"N": 6})


FACTS = [
    (
        "kernel k(x: f32[N]) -> (y: f32[N]) where N % 4 == 0, N >= 100 { y[i] = x[i] }",
        lambda d: d.sizes["N"] % 4 == 0 and d.sizes["N"] >= 100,
    ),
    ("kernel k(x: f32[N, M]) -> (y: f32[N]) where N == 2 * M { y[i] = sum(j: x[i, j]) }", lambda d: d.sizes["N"] == 2 * d.sizes["M"]),
    ("kernel k(x: f32[N]) -> (y: f32[N]) where x > 0.0 { y[i] = log(x[i]) }", lambda d: (d.values["x"] > 0).all()),
    (
        "kernel k(p: i64[N], x: f32[M]) -> (y: f32[N]) where 0 <= p, p < M { y[i] = x[p[i]] }",
        lambda d: (d.values["p"] < d.sizes["M"]).all(),
    ),
    ("kernel k(x: f32[N], s: i64) -> (y: f32[N]) where 0 <= s, s < N { y[i] = x[s] }", lambda d: 0 <= d.values["s"] < d.sizes["N"]),
]


@pytest.mark.parametrize(("text", "obeyed"), FACTS)
def test_facts_are_constructed_not_awaited(text: str, obeyed: Any) -> None:
    kernel = kir.parse(text)["k"]

    @QUIET
    @given(drawn_inputs((kernel,)))
    def check(drawn: Any) -> None:
        assert obeyed(drawn)

    check()


def test_sizes_shrink_to_the_smallest() -> None:
    kernel = PUBLIC["softmax"]
    once = settings(max_examples=200, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink))
    smallest = find(drawn_inputs((kernel,)), lambda drawn: drawn.sizes["C"] >= 2, settings=once)
    assert smallest.sizes == {"R": 1, "C": 2} and not smallest.values["x"].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_the_values(layout: str) -> None:
    a = np.arange(24.0).reshape(2, 3, 4)
    other = laid_out(a, layout)
    assert np.array_equal(other, a) and (layout in ("rows",)) == other.flags.c_contiguous


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(kernel_texts())
def test_drawn_kernels_parse_print_and_run(text: str) -> None:
    kernel = kir.parse(text)["drawn"]
    assert kir.parse(str(kernel))["drawn"] == kernel
    drawn = sampled([kernel], 0)
    evaluate(kernel, drawn.values, drawn.sizes)


@pytest.mark.parametrize("part", ["prod(", "exp(", "repeat"])
def test_drawn_kernels_shrink_to_one_statement(part: str) -> None:
    once = settings(max_examples=500, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink))
    smallest = find(kernels(), lambda k: part in str(k), settings=once)
    assert len(smallest.body) == 1

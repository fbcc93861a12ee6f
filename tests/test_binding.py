"""Calls bound to arrays, scalars and sizes; what does not fit is an ArgumentError before anything is written."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import kernel_ir as kir
from backends.load import load
from backends.target import target as target_named
from kernel_ir.binding import Binding, bind
from kernel_ir.compiled import source_text
from kernel_ir.errors import ArgumentError
from kernel_ir.inputs import sample_inputs
from kernel_ir.meaning import from_bf16, to_bf16
from kernel_ir.parser import parse

TEXT = """
kernel saxpy(a: f32, x: f32[N], y: f32[N]) -> (z: f32[N]) { z[i] = a * x[i] + y[i] }
kernel join(x: f32[2*D], w: f32[D + 1]) -> (y: f32[D]) { y[d] = x[d] + x[d + D] * w[d + 1] }
kernel view(x: f32[H * W]) -> (y: f32[H, W]) { y[i, j] = x[i * W + j] }
kernel gather(t: f32[V, D], id: i64[T]) -> (y: f32[T, D]) where 0 <= id, id < V { y[i, d] = t[id[i], d] }
kernel first(x: f32[N]) -> (y: f32[M]) { y[i] = x[0] for i in 0..M }
kernel scale(inout a: f64[N, M], s: f64) { a[i, j] = a[i, j] * s }
kernel add(inout a: f32[N], x: f32[N]) { a[i] = a[i] + x[i] }
kernel cols(x: f32[N, M] @ cols) -> (y: f32[N, M] @ cols) { y[i, j] = x[i, j] }
kernel window(x: f32[N], w: f32[K]) -> (y: f32[N - K + 1]) where N % 2 == 0 { y[i] = sum(k: x[i + k] * w[k]) }
kernel scalars(n: i32, u: u8, h: f16, b: bool, k: bf16) -> (y: f32[1]) { y[i] = f32(n) + f32(u) + h + k if b else 0.0 }
kernel brain(x: bf16[N]) -> (y: bf16[N]) { y[i] = x[i] }
"""
KERNELS = parse(TEXT)
F = np.float32


def f(*shape: int) -> np.ndarray:
    return np.zeros(shape, F)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "sizes"),
    [
        ("saxpy", (2.0, f(3), f(3)), {}, {"N": 3}),
        ("saxpy", (2.0,), {"y": f(0), "x": f(0)}, {"N": 0}),
        ("join", (f(6), f(4)), {}, {"D": 3}),
        ("view", (f(6),), {"W": 2}, {"H": 3, "W": 2}),
        ("view", (f(6),), {"H": 2}, {"H": 2, "W": 3}),
        ("view", (f(6),), {"H": 2, "W": 3}, {"H": 2, "W": 3}),
        ("view", (f(0),), {"H": 0, "W": 3}, {"H": 0, "W": 3}),
        ("first", (f(2),), {"M": np.int64(7)}, {"N": 2, "M": 7}),
        ("saxpy", (2.0, f(3), f(3)), {"N": 3}, {"N": 3}),
    ],
)
def test_sizes(name, args, kwargs, sizes):
    bound = bind(KERNELS[name], args, kwargs, allocate=True)
    assert bound.sizes == sizes and list(bound.sizes) == list(KERNELS[name].sizes)
    assert len(bound.outputs) == 1 and bound.outputs[0].dtype == F


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "message"),
    [
        ("saxpy", (2.0, f(3), f(4)), {}, "`y` has extent 4 in dimension 1, but `N` is 3, as `x` has extent 3"),
        ("saxpy", (2.0, f(3), f(3)), {"N": 4}, "`x` has extent 3 in dimension 1, but `N` is 4, given by name"),
        ("saxpy", (2.0, f(3)), {}, "argument `y` of `saxpy` is missing"),
        ("saxpy", (2.0, f(3), f(3), 1), {}, "takes 3 arguments, and 4 were given"),
        ("saxpy", (2.0, f(3)), {"x": f(3)}, "`x` is given twice"),
        ("saxpy", (2.0, f(3)), {"yy": f(3)}, "did you mean `y`?"),
        ("saxpy", (2.0, [1.0], f(1)), {}, "`x` is a list, and an array was expected: `f32[N]`"),
        ("saxpy", (2.0, np.zeros(3), f(3)), {}, "`x` holds float64, and f32 was expected"),
        ("saxpy", (2.0, f(3, 1), f(3)), {}, "`x` has rank 2, and rank 1 was expected"),
        ("saxpy", (f(2), f(3), f(3)), {}, "`a` is an array of rank 1, and a number was expected"),
        ("saxpy", ("2", f(3), f(3)), {}, "`a` is a str, and f32 was expected"),
        ("saxpy", (1e300, f(3), f(3)), {}, "overflows f32"),
        ("saxpy", (2**24 + 1, f(3), f(3)), {}, "which is not exact in f32"),
        ("saxpy", (2.0, np.ma.masked_array(f(3)), f(3)), {}, "masked"),
        ("join", (f(7), f(4)), {}, "extent 7 of `x` in dimension 1 is not `2 * D` for any size `D`"),
        ("join", (f(6), f(5)), {}, "`w` has extent 5 in dimension 1, but `D + 1` is 4, as `x` has extent 6"),
        ("view", (f(6),), {}, "no argument fixes the size `W`"),
        ("view", (f(6),), {"W": 4}, "is not `H * W` for any size `H`"),
        ("view", (f(0),), {"W": 0}, "`H` can be anything, as `H * W` is 0"),
        ("view", (f(6),), {"W": 2.0}, "the size `W` is a float"),
        ("view", (f(6),), {"W": -2}, "the size `W` is -2"),
        ("view", (f(0),), {"W": 2**63}, "the size `W` is 9223372036854775808"),
        ("gather", (f(4, 2), np.array([0, 3, 4])), {}, "`id < V` does not hold: id[2] = 4, V = 4"),
        ("gather", (f(4, 2), np.array([0, -1])), {}, "`0 <= id` does not hold: id[1] = -1"),
        ("gather", (f(4, 2), np.zeros(3, np.uint64)), {}, "`id` holds uint64, and i64 was expected"),
        ("first", (f(0),), {"M": 1}, "`N >= 1` does not hold: N = 0"),
        ("window", (f(3), f(2)), {}, "`N % 2 == 0` does not hold: N = 3"),
        ("window", (f(2), f(5)), {}, "output `y` would have the extent -2"),
        ("scalars", (2**31, 0, 0.0, True, 0.0), {}, "`n` is 2147483648, which does not fit i32"),
        ("scalars", (0, -1, 0.0, True, 0.0), {}, "`u` is -1, which does not fit u8 (0 to 255)"),
        ("scalars", (0, 0, 1e6, True, 0.0), {}, "overflows f16"),
        ("scalars", (0, 0, 0.0, 1, 0.0), {}, "`b` is an int, and bool was expected"),
        ("scalars", (0.5, 0, 0.0, True, 0.0), {}, "`n` is a float, and i32 was expected"),
        ("scalars", (True, 0, 0.0, True, 0.0), {}, "`n` is a bool, and i32 was expected"),
    ],
)
def test_what_does_not_fit(name, args, kwargs, message):
    with pytest.raises(ArgumentError) as error:
        bind(KERNELS[name], args, kwargs)
    assert message in str(error.value)


def test_scalars_take_the_storage_type():
    values = bind(KERNELS["scalars"], (3, 7, 0.1, np.True_, 1.0), {}).values
    assert [values[n].dtype.name for n in "nuhbk"] == ["int32", "uint8", "float16", "bool", "uint16"]
    assert values["k"] == 0x3F80


def test_integers_widen_by_a_copy():
    ids = np.array([0, 1], np.int32)
    value = bind(KERNELS["gather"], (f(4, 2), ids), {}).values["id"]
    assert value.dtype == np.int64 and value.tolist() == [0, 1]


def test_arrays_are_passed_on_as_they_are():
    x = f(3)
    assert bind(KERNELS["saxpy"], (1.0, x, x), {}).values["x"] is x


def test_layouts():
    x = f(3, 2)
    bound = bind(KERNELS["cols"], (x,), {}, allocate=True)
    assert bound.values["x"].flags.f_contiguous and bound.outputs[0].flags.f_contiguous
    strided = f(6)[::2]
    assert bind(KERNELS["saxpy"], (1.0, strided, strided), {}).values["x"].flags.c_contiguous


def test_inout_is_copied_back():
    whole = np.arange(12.0).reshape(3, 4)
    part = whole[:, ::2]
    bound = bind(KERNELS["scale"], (part, 2.0), {})
    bound.values["a"][...] *= bound.values["s"]
    assert whole[0, 2] == 2.0
    bound.finish()
    assert whole[0, 2] == 4.0 and whole[0, 1] == 1.0


def test_inout_must_be_writable_apart_and_of_the_very_type():
    a = f(4)
    fixed = f(4)
    fixed.flags.writeable = False
    for args, message in [
        ((fixed, a), "read-only"),
        ((a, a), "`a` is updated in place and shares memory with `x`"),
        ((a[:3], a[1:]), "shares memory"),
        ((a.astype(np.float16), a), "`a` holds float16, and f32 was expected"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            bind(KERNELS["add"], args, {})


def test_bf16_is_viewed():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.ones(3, ml_dtypes.bfloat16)
    assert bind(KERNELS["brain"], (x,), {}).values["x"].tolist() == [0x3F80] * 3


def test_open_sizes():
    assert {name: Binding(k).open_sizes for name, k in KERNELS.items() if Binding(k).open_sizes} == {"view": ("W",), "first": ("M",)}


def test_a_bound_call_is_frozen():
    with pytest.raises(FrozenInstanceError):
        bind(KERNELS["saxpy"], (1.0, f(1), f(1)), {}).sizes = {}


def test_a_call_like_an_earlier_one_is_checked_as_that_was() -> None:
    """The second call of a shape takes what the first found out; whatever differs from it is looked at anew."""
    (kernel,) = kir.parse("kernel k(a: f32, x: f32[N], y: f32[2 * N]) -> (z: f32[N]) { z[i] = a * x[i] + y[i] }").values()
    function = kir.optimize(kernel, target="cpu").compile(check=False)
    a, x, y = np.float32(2.0), np.arange(3, dtype=np.float32), np.arange(6, dtype=np.float32)
    for n in (3, 3, 2, 3):
        assert np.array_equal(function(a, x[:n], y[: 2 * n]), 3.0 * x[:n])
    for wrong in ((a, x, y[:5]), (a, x[:2], y), (a, x.astype(np.float64), y), (a, x), (a, x, y, y)):
        with pytest.raises(ArgumentError):
            function(*wrong)
    wide = np.zeros(6, np.float32)
    wide[::2] = x
    assert np.array_equal(function(2.0, wide[::2], y), 3.0 * x)
    assert np.array_equal(function(a, y=y, x=x), 3.0 * x)


@pytest.mark.parametrize("target", ["cpu", "numpy", "cuda-on-cpu"])
def test_a_bfloat16_scalar_is_a_number(target: str) -> None:
    """It is stored as 16 bits, which no code may take for an integer; the argument is rounded."""
    k = kir.parse("kernel f(x: f32[N], s: bf16) -> (y: f32[N], z: bf16) { y[i] = x[i] * s\n z = s }")["f"]
    f = kir.optimize(k, target=target).compile()
    y, z = f(np.ones(3, np.float32), 1.001)
    assert y.tolist() == [1.0, 1.0, 1.0] and from_bf16(np.asarray(z)) == 1.0
    assert f(np.ones(1, np.float32), -2.5)[0].tolist() == [-2.5]
    assert isinstance(sample_inputs(k)["s"], float)


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_an_emitted_module_rounds_a_bfloat16_scalar(target: str) -> None:
    k = kir.parse("kernel f(x: f32[N], s: bf16) -> (y: f32[N]) { y[i] = x[i] * s }")["f"]
    code = load(source_text(kir.optimize(k, target=target).plan, target_named(target)), "f").module
    values = np.concatenate(
        [np.random.default_rng(0).standard_normal(200), [0.0, -0.0, 1.00390625, 1.01171875, 3.4e38, np.inf, -np.inf, np.nan]]
    )
    for value in values.astype(np.float32):
        (got,) = code.f(np.ones(1, np.float32), value)
        assert np.array_equal(got, from_bf16(to_bf16(value)), equal_nan=True)

"""Layouts of arrays: their index maps, the search, packed arrays, and what a schedule block says of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.target import target
from extract.cost import cost
from extract.groups import grouping
from extract.layouts import every, searched
from extract.machine import load_machine
from extract.schedule_cpu import CHOICES, plan
from kernel_ir.compiled import compiled
from kernel_ir.dtypes import F32, I64
from kernel_ir.laying import laying, unlaying
from kernel_ir.layout import ArrayLayout, Layout, laid, unlaid
from kernel_ir.layout_proof import is_bijection, unproved
from kernel_ir.nodes import Call, Expr, Kernel, SizeRef, const
from kernel_ir.testing import quick_check

LAYOUTS = (
    ("d0", "d1"),
    ("d1", "d0"),
    ("d0_by_16", "d1", "d0_in_16"),
    ("d1_by_4", "d0", "d1_in_4"),
    ("d1_by_8", "d0_by_4", "d0_in_4", "d1_in_8"),
    ("d0", "d1", "pad_16"),
    ("d0_by_3", "d1", "d0_in_3", "pad_5"),
)
TEXT = """
kernel fields(inout p: f32[N, 3] @ any, x: f32[N, 3] @ any, w: f32[3], id: i32[T]) -> (y: f32[N, 2] @ any, s: f32[3], z: f32[T])
where 0 <= id, id < N {
  y[n, c] = sum(d: x[n, d] * w[d]) * f32(c) + x[n-1, c else 2.0]
  s[c]    = sum(n: x[n, c])
  z[t]    = x[i64(id[t]), 1]
  p[n, d] = p[n, d] + x[n, d]
}
"""
KINETIC = "kernel kinetic(p: f32[N, 8] @ any) -> (e: f32[N]) { e[n] = 0.5 * p[n, 7] * (p[n, 3] ** 2 + p[n, 4] ** 2) }"


def parsed(text: str) -> Kernel:
    return next(iter(kir.parse(text).values()))


@pytest.mark.parametrize("values", LAYOUTS, ids=",".join)
@pytest.mark.parametrize("shape", [(5, 3), (16, 8), (0, 4), (1, 1)])
def test_an_array_comes_back_from_its_memory(values: tuple[str, ...], shape: tuple[int, ...]) -> None:
    layout, x = Layout.of(*values), np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    memory = laid(x, layout)
    assert Layout.of(*str(layout).split(", ")) == layout
    assert memory.shape == layout.extents(shape) and memory.flags.c_contiguous
    assert (unlaid(memory, layout, shape) == x).all()
    assert layout.tiled or np.shares_memory(unlaid(memory, layout, shape), memory) or not x.size


@pytest.mark.parametrize("values", LAYOUTS, ids=",".join)
def test_the_index_map_is_proved_a_bijection(values: tuple[str, ...]) -> None:
    n, m = SizeRef("N"), SizeRef("M")
    for shape in ((n, m), (n, const(3, I64)), (Call("mul", (const(2, I64), n), I64), m)):
        assert unproved(Layout.of(*values), shape) == ()


def test_a_wrong_index_map_is_not_proved() -> None:
    class Slipped(Layout):
        def back(self, at: Any) -> tuple[Expr, ...]:
            return super().back(at)[::-1]

    class Short(Layout):
        def shape(self, shape: Any) -> tuple[Expr, ...]:
            first, *rest = super().shape(shape)
            return (Call("sub", (first, const(1, I64)), I64), *rest)

    shape = (SizeRef("N"), SizeRef("M"))
    parts = Layout.of("d0_by_16", "d1", "d0_in_16").parts
    assert is_bijection(Layout(parts), shape)
    assert "dimension 0 is found again" in unproved(Slipped(parts), shape)
    assert "index 0 of the memory lies inside" in unproved(Short(parts), shape)


@pytest.mark.parametrize("values", [LAYOUTS[n] for n in (1, 2, 4)], ids=",".join)
def test_certified_rules_make_a_copy_of_laying_out_and_back(values: tuple[str, ...]) -> None:
    lay, unlay = laying(F32, Layout.of(*values)), unlaying(F32, Layout.of(*values))
    first, back = replace(lay.body[0], target="m"), unlay.body[0]
    back = replace(back, value=replace(back.value, array="m"))
    both = Kernel("both", lay.params, unlay.outputs, (), (first, back), lay.sizes, (replace(lay.outputs[0], name="m"),))
    text = kir.optimize(parsed(str(both)), target="numpy", check=False).text
    assert "y[i, j] = x[i, j]\n" in text or "y[i, j] = x[i, j else 0.0]\n" in text


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((), "a layout needs a part"),
        (("q",), "`q` is no part of a layout"),
        (("d1",), "dimension 0 must stand in it once"),
        (("d0", "d0"), "each dimension must stand in it once"),
        (("d0_by_4", "d1"), "dimension 0 must stand in it once"),
        (("d0_by_4", "d0_in_8"), "dimension 0 must stand in it once"),
        (("pad_4", "d0"), "`pad_4` is no part"),
    ],
)
def test_what_is_no_layout_is_refused(values: tuple[str, ...], says: str) -> None:
    with pytest.raises(kir.KernelError, match=says) as caught:
        Layout.of(*values)
    assert caught.value.hint


@pytest.mark.parametrize("values", [LAYOUTS[n] for n in (1, 4, 6)], ids=",".join)
def test_code_for_every_layout_means_the_same(values: tuple[str, ...]) -> None:
    kernel, layout = parsed(TEXT), Layout.of(*values)
    made = plan(kernel, replace(CHOICES[0], layouts=tuple(ArrayLayout(name, layout) for name in "pxy")))
    assert made is not None
    f = compiled(made, target("cpu"))
    quick_check(kernel, f, examples=8)
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((2, 37, 3), np.float32)
    given: dict[str, Any] = {"w": np.ones(3, np.float32), "id": np.arange(5, dtype=np.int32)}
    expected = p.copy()
    truth: Any = kernel(p=expected, x=x, **given)
    packed = f.pack(x=x, p=p)
    got = f(**packed, **given)
    np.testing.assert_allclose(got.y, truth.y, rtol=1e-5)
    np.testing.assert_array_equal(f.unpack(packed["p"]), expected)
    with pytest.raises(kir.KernelError, match="id < N"):
        f(**packed, w=given["w"], id=np.array([37], np.int32))


def test_a_library_product_takes_no_tiles() -> None:
    kernel = parsed("kernel f(a: f32[N, K] @ any, b: f32[K, M]) -> (c: f32[N, M]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }")
    choice = next(c for c in CHOICES if c.library)
    tiles = ArrayLayout("a", Layout.of("d0_by_16", "d1", "d0_in_16"))
    assert plan(kernel, replace(choice, layouts=(tiles,))) is None
    assert plan(kernel, choice) is not None


def test_conversion_counts_unless_the_caller_packs() -> None:
    kernel = parsed(KINETIC)
    given, packed = (kir.optimize(kernel, target="cpu", sizes={"N": 1 << 20}, packed=who) for who in ((), ("p",)))
    assert {name: str(layout) for name, layout in given.layouts.items()} == {"p": "d0, d1"}
    assert {name: str(layout) for name, layout in packed.layouts.items()} == {"p": "d1, d0"}
    assert packed.cycles < given.cycles
    machine = load_machine(packed.target.machine)
    assert cost(replace(packed.plan, packed=frozenset()), machine, {"N": 1 << 20}).cycles > packed.cycles


def test_the_search_is_no_worse_than_trying_everything_by_the_model() -> None:
    kernel, machine, sizes = parsed(TEXT), load_machine("cpu"), {"N": 1 << 18, "T": 100}
    names = frozenset("pxy")

    def cycles(choice: Any) -> float:
        made = plan(kernel, replace(CHOICES[0], layouts=choice), machine=machine, sizes=sizes)
        return float("inf") if made is None else cost(replace(made, packed=names), machine, sizes).cycles

    best = min(map(cycles, every(kernel, machine, sizes)))
    assert min(map(cycles, searched(kernel, machine, sizes, names))) <= 1.03 * best


def test_a_file_keeps_the_layouts() -> None:
    kernel = parsed(KINETIC)
    result = kir.optimize(kernel, target="cpu", packed=True, sizes={"N": 1 << 20})
    assert "  layout_p = d1, d0\n" in result.record
    module = kir.parse(result.record)
    again = kir.optimize(module["kinetic"], target="cpu", schedule=module.schedule("kinetic", "cpu"))
    assert again.record == result.record and again.layouts == result.layouts
    edited = kir.parse(result.record.replace("layout_p = d1, d0", "layout_p = d0_by_4, d1, d0_in_4"))
    by_hand = kir.optimize(edited["kinetic"], target="cpu", schedule=edited.schedule("kinetic", "cpu"))
    assert str(by_hand.layouts["p"]) == "d0_by_4, d1, d0_in_4"
    p = np.random.default_rng(0).standard_normal((21, 8), np.float32)
    np.testing.assert_allclose(by_hand.compile()(p), kernel(p), rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("layout_p = d1", "dimension 0 must stand in it once"),
        ("layout_p = d1, d0, d2", "a layout of 3 dimensions, and `p` has 2"),
        ("layout_q = d1, d0", "has a choice `layout_q`"),
    ],
)
def test_a_wrong_layout_in_a_file_is_pointed_at(line: str, says: str) -> None:
    module = kir.parse(f"{KINETIC}\nschedule kinetic on cpu {{\n  {line}\n}}\n")
    with pytest.raises(kir.KernelError, match=says) as caught:
        kir.optimize(module["kinetic"], target="cpu", schedule=module.schedule("kinetic", "cpu"))
    assert caught.value.span is not None and caught.value.hint


def test_packed_arrays_go_in_and_come_out_as_they_are() -> None:
    text = "kernel half(x: f32[N, 2] @ any) -> (y: f32[N, 2] @ any) { y[n, c] = 0.5 * x[n, c] }\nschedule half on cpu {\n  "
    module = kir.parse(text + "layout_x = d1, d0\n  layout_y = d1, d0\n}\n")
    f = kir.optimize(module["half"], target="cpu", schedule=module.schedule("half", "cpu"), packed=True).compile()
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    packed = f.pack(x)
    assert f.pack(packed) is packed and not np.shares_memory(packed.memory, x)
    quarter = f(f(packed))
    np.testing.assert_array_equal(quarter, x / 4)
    np.testing.assert_array_equal(f.unpack(quarter), x / 4)
    np.testing.assert_array_equal(f(x=x), x / 2)
    rows = kir.parse(text + "layout_x = d0, d1\n}\n")
    columns = kir.optimize(rows["half"], target="cpu", schedule=rows.schedule("half", "cpu")).compile(check=False)
    for call, says in (
        (lambda: columns(packed), "packed as d1, d0, and this kernel takes it as d0, d1"),
        (lambda: f.pack(x.astype(np.float64)), "holds float64, and f32 was expected"),
        (lambda: f.pack(y=x), "has no array `y` whose layout"),
        (lambda: f.pack(), "pack takes one array"),
        (lambda: f.unpack(x), "unpack takes what pack or a call gave"),
        (lambda: kir.optimize(module["half"], packed=("z",)), "packed names 'z'"),
    ):
        with pytest.raises(kir.KernelError, match=says) as caught:
            call()
        assert caught.value.hint


def test_numpy_takes_arrays_as_they_are() -> None:
    kernel = parsed(KINETIC)
    result = kir.optimize(kernel, target="numpy", packed=True)
    p = np.random.default_rng(0).standard_normal((5, 8), np.float32)
    f = result.compile()
    assert str(result.layouts.get("p", "d0, d1")) == "d0, d1"
    np.testing.assert_array_equal(f(np.asfortranarray(p)), f(p))


def test_temporaries_may_lie_otherwise_than_in_c_order() -> None:
    text = "kernel t(a: f32[N, M], b: f32[M, N]) -> (y: f32[M, N]) {\n  m[i, j] = sin(a[i, j])\n  y[j, i] = m[i, j] * b[j, i]\n}"
    module = kir.parse(text + "\nschedule t on cpu {\n  layout_m = d1, d0\n}\n")
    result = kir.optimize(module["t"], target="cpu", schedule=module.schedule("t", "cpu"), check=False)
    assert result.layouts == {"m": Layout.of("d1", "d0")}
    quick_check(module["t"], result.compile(), examples=4)


def test_other_fields_of_a_structure_are_read_without_a_copy() -> None:
    text = "kernel push(inout p: f32[N, 4] @ any) where N >= 1 { p[n, 0] = p[n, 0] + p[n, 2] p[n, 1] = p[N-1-n, 3] + p[0, 2] %s }"
    assert grouping(parsed(text % "")).temps == ()
    hazard = parsed(text % "p[n, 3] = p[N-1-n, 3]")
    assert [p.name for p in grouping(hazard).temps] == ["p_before"]
    quick_check(hazard, kir.optimize(hazard, target="cpu").compile(check=False), examples=12)


def test_a_gpu_takes_arrays_that_are_packed_as_planes() -> None:
    pytest.importorskip("numba.cuda.core", reason="numba-cuda is not installed")
    text = """kernel mix(x: f32[N, 3] @ any) -> (y: f32[N, 3] @ any, s: f32[N]) {
      y[n, 0] = x[n, 0] + x[n, 1]
      y[n, 1] = x[n, 1] - x[n, 2]
      y[n, 2] = x[n, 0] + x[n, 2]
      s[n]    = 2.0 * x[n, 0]
    }"""
    module = kir.parse(f"{text}\nschedule mix on cuda-on-cpu {{\n  layout_x = d1, d0\n  layout_y = d1, d0\n}}\n")
    assert kir.optimize(module["mix"], target="cuda-on-cpu", sizes={"N": 1 << 20}).layouts["x"].is_rows
    f = kir.optimize(module["mix"], target="cuda-on-cpu", schedule=module.schedule("mix", "cuda-on-cpu"), packed=True).compile(check=False)
    assert str(f.layouts["x"]) == "d1, d0"
    x = np.random.default_rng(0).standard_normal((70, 3), np.float32)
    got = f(f.pack(x))
    assert str(got.y) == "<packed float32[70, 3] as d1, d0>"
    np.testing.assert_array_equal(got.y, np.stack([x[:, 0] + x[:, 1], x[:, 1] - x[:, 2], x[:, 0] + x[:, 2]], 1))
    np.testing.assert_array_equal(got.s, 2 * x[:, 0])

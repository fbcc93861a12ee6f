"""What the checker makes of each feature: each file in tests/good, with its canonical print in the file of the same name with .txt."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernel_ir.dtypes import F32, F64, I64
from kernel_ir.errors import KernelError
from kernel_ir.nodes import IndexRef, Kernel, Load, Reduce, SizeRef
from kernel_ir.parser import parse, parse_file, parse_rules
from kernel_ir.syntax import Absent, Binary, Number

GOOD = Path(__file__).parent / "good"
FILES = sorted(GOOD.glob("*.kir"))


def one(text: str) -> Kernel:
    (k,) = parse(text).values()
    return k


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_canonical_print(path: Path) -> None:
    module = parse_file(path)
    text = str(module)
    assert text == path.with_suffix(".txt").read_text(encoding="utf-8")
    assert dict(parse(text)) == dict(module)


def test_module_is_an_immutable_mapping_in_file_order() -> None:
    module = parse("const B = 2 ** 4\nkernel b() -> (y: i64[B]) { y[i] = i }\nkernel a() -> (y: i64) { y = B }\nrule r: a + 0 => a")
    assert list(module) == ["b", "a"]
    assert dict(module.consts) == {"B": 16}
    assert [r.name for r in module.rules] == ["r"]
    with pytest.raises(KeyError, match="there are b, a"):
        module["c"]
    with pytest.raises(TypeError):
        module.kernels["c"] = module["a"]  # type: ignore[index]


def test_facts_about_arrays_hold_for_all_elements() -> None:
    k = one("kernel f(id: i64[T], x: f32[N]) -> (y: f32[T]) where 0 <= id, id < N { y[t] = x[id[t]] }")
    fact = k.facts[0]
    assert isinstance(fact, Reduce)
    assert fact.kind == "all"
    assert fact.binders[0].hi == SizeRef("T")


def test_sizes_stand_in_order_of_appearance() -> None:
    k = one("kernel f(x: f32[M, 2*K + 1], y: f32[N, M]) -> (z: f32[P, M]) { z[p, m] = x[m, 0] + sum(n: y[n, m]) }")
    assert k.sizes == ("M", "K", "N", "P")


def test_temporaries_take_shape_and_type_from_their_statements() -> None:
    k = one("kernel f(x: f64[N]) -> (y: f64[N]) { t[i, j] = x[i] * x[j] for j in 0..i+1  y[i] = t[i, i] }")
    (t,) = k.temps
    assert (t.name, t.type.dtype, t.type.shape) == ("t", F64, (SizeRef("N"), SizeRef("N")))


def test_spans_reach_the_last_character() -> None:
    k = one("kernel f(x: f32[N]) -> (y: f32[N]) {\n  y[i] = exp(x[i]) +\n    1.0\n}")
    value = k.body[0].value  # type: ignore[union-attr]
    assert (value.span.line, value.span.column, value.span.end_line, value.span.end_column) == (2, 10, 3, 8)


def test_reads_of_narrow_types_widen() -> None:
    k = one("kernel f(x: f16[N], i8s: i8[N], u: u32[N]) -> (y: f32[N], a: i64[N]) { y[i] = x[i] + f32(i8s[i])  a[i] = u[i] }")
    loads = {s.target: s.value.dtype for s in k.body}  # type: ignore[union-attr]
    assert loads == {"y": F32, "a": I64}


def test_rules_keep_their_parts() -> None:
    (rule,) = parse_rules("const TWO = 2\nrule r: sum(i: a * TWO) <=> TWO * sum(i: a) on int, f32 if i not in a, 0 <= a needs reassoc, nsz")
    assert (rule.name, rule.both, rule.on, rule.needs) == ("r", True, ("int", "f32"), ("reassoc", "nsz"))
    assert isinstance(rule.guards[0], Absent)
    assert isinstance(rule.rhs, Binary)
    assert isinstance(rule.rhs.left, Number)
    assert rule.rhs.left.value == 2


def test_a_fact_reads_its_array_at_every_index() -> None:
    k = one("kernel f(x: f32[M, N]) -> (y: f32) where x >= 0.0 { y = sum(i, j: x[i, j]) }")
    (fact,) = k.facts
    assert isinstance(fact, Reduce)
    load = fact.bodies[0].args[0]  # type: ignore[union-attr]
    assert load == Load("x", (IndexRef("i"), IndexRef("j")), F32)


@pytest.mark.parametrize(
    "text", ["(" * 5000, "y = " + "-" * 3000 + "1", "kernel f() { y = " + "(" * 4000 + "1" + ")" * 4000 + "}", "\x00", "#", "kernel"]
)
def test_no_input_crashes(text: str) -> None:
    with pytest.raises(KernelError):
        parse(text)


def test_the_parser_loads_no_heavy_library() -> None:
    check = (
        "import sys, kernel_ir.parser; print([m for m in ('numba', 'egglog', 'hypothesis', 'lark', 'rich', 'mpmath') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"

"""A user's rule book changes what is found; one that loops ends; one that is wrong says where."""

from pathlib import Path

import pytest

import kernel_ir as kir
from kernel_ir.errors import KernelError, RuleError
from rewrites.books import check_names, default_rules, load_book
from rewrites.encode import encode
from rewrites.saturate import Budget, Stop, saturate

KERNEL = "kernel k(x: f64[N]) -> (y: f64[N]) { y[i] = cosh(x[i]) * cosh(x[i]) + sinh(x[i]) * sinh(x[i]) }"


def book(folder: Path, text: str) -> str:
    path = folder / "mine.rules"
    path.write_text(text, encoding="utf-8")
    return str(path)


LOOPS = [
    "rule grow: a + b => (a + b) + 0.0 needs nsz\n",
    "rule swap: a + b <=> b + a on float\n",
    "rule deepen: exp(x) => exp(x * 1.0)\nrule more: x * 1.0 => (x * 1.0) * 1.0\n",
    "rule split: a * b => (a * 0.5) * (b * 2.0) needs reassoc\n",
]


@pytest.mark.parametrize("text", LOOPS)
def test_a_rule_that_loops_ends(text: str) -> None:
    kernel = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = exp(x[i]) * x[i] + x[i] * 2.0 }")["k"]
    result = saturate(encode(kernel), load_book(text), Budget(seconds=10.0, nodes=1_000))
    assert result.stop is not Stop.FAILED
    assert result.sizes[-1] <= 3_000


def test_a_name_that_a_book_has_already() -> None:
    with pytest.raises(RuleError, match="two rules are named 'mul_one'"):
        check_names((*default_rules(), *load_book("rule mul_one: x * 1.0 => x\n")))


def test_a_fault_is_shown_with_its_place(tmp_path: Path) -> None:
    path = book(tmp_path, "# mine\nrule r: sin(x) => cas(x)\n")
    with pytest.raises(KernelError) as error:
        kir.optimize(kir.parse(KERNEL)["k"], target="cpu", rules=[path])
    assert "mine.rules:2:19: unknown function 'cas'" in str(error.value)
    assert "did you mean 'cos'?" in str(error.value) or "abs" in str(error.value)

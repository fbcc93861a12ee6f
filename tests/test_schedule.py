"""`schedule` blocks: what an optimizer chose prints, parses back to the same plan, and can be edited."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kernel_ir as kir
from kernel_ir.cli import main
from kernel_ir.fmt import format_text
from kernel_ir.schedule import schedule_of

KERNELS = Path(__file__).resolve().parents[1] / "examples" / "kernels"
NAMES = ("saxpy", "softmax", "matmul", "nearest", "gravity")
PRODUCT = "kernel m(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }"


def kernels() -> dict[str, kir.Kernel]:
    return {k.name: k for path in KERNELS.glob("*.kir") for k in kir.parse_file(path).values() if k.name in NAMES}


@pytest.mark.parametrize("target", ["cpu", "cuda:sm_80"])
@pytest.mark.parametrize("name", NAMES)
def test_a_record_makes_the_same_plan_again(name: str, target: str) -> None:
    result = kir.optimize(kernels()[name], target=target, fast_math="reassoc,contract")
    module = kir.parse(result.record)
    assert module.schedules == (result.schedule,)
    assert str(module) == result.record + "\n"
    again = kir.optimize(module[name], target=target, fast_math="reassoc,contract", schedule=module.schedule(name, target))
    assert again.plan == result.plan
    assert again.record == result.record


@pytest.mark.parametrize(
    ("name", "choice"), [("cumsum", "scan"), ("histogram", "scatter"), ("transpose_add", "staging"), ("total", "parts")]
)
def test_a_record_made_for_large_sizes_holds_for_others(name: str, choice: str) -> None:
    found = {k.name: k for path in KERNELS.glob("*.kir") for k in kir.parse_file(path).values()}
    kernel = found.get(name) or kir.parse("kernel total(x: f32[N]) -> (s: f32) { s = sum(i: x[i] * x[i]) }")[name]
    large = {size: 1024 if size == "B" else 1 << (12 if name == "transpose_add" else 24) for size in kernel.sizes}
    result = kir.optimize(kernel, target="cuda:sm_80", sizes=large)
    assert choice in {c.key for c in result.schedule.choices}
    module = kir.parse(result.record)
    again = kir.optimize(module[name], target="cuda:sm_80", schedule=module.schedule(name, "cuda:sm_80"))
    assert again.plan.schedule == result.plan.schedule


def test_a_pinned_choice_is_kept_though_another_is_cheaper() -> None:
    kernel = kir.parse(PRODUCT)["m"]
    free = kir.optimize(kernel, target="cpu", sizes={"M": 1024, "N": 1024, "K": 1024})
    assert {c.key: c.values for c in free.schedule.choices}["products"] == ("library",)
    module = kir.parse(PRODUCT + "schedule m on cpu { products = loops }")
    pinned = kir.optimize(kernel, target="cpu", sizes={"M": 1024, "N": 1024, "K": 1024}, schedule=module.schedule("m", "cpu"))
    assert {c.key: c.values for c in schedule_of(pinned.plan).choices}["products"] == ("loops",)
    assert pinned.cycles >= free.cycles


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("schedule m on cpu { product = loops }", "no plan for `m` on cpu has a choice `product`"),
        ("schedule m on cpu { products = loop }", "`products = loop` is no plan for `m` on cpu"),
        ("schedule m on cpu { zzz = 4, 8 }", "no plan for `m` on cpu has a choice `zzz`"),
    ],
)
def test_a_choice_that_no_plan_has_is_an_error_at_its_place(block: str, message: str) -> None:
    module = kir.parse(f"{PRODUCT}\n{block}")
    with pytest.raises(kir.KernelError, match=message.replace("(", r"\(")) as error:
        kir.optimize(module["m"], target="cpu", schedule=module.schedule("m", "cpu"))
    assert "<string>:2:21" in str(error.value)
    assert "help: " in str(error.value)


def test_the_formatter_keeps_schedules_and_their_comments() -> None:
    text = PRODUCT + "\nschedule m on cuda:sm_90 { # mine\n tile=4 , 8 # rows, columns\n}\n"
    formatted = format_text(text)
    assert formatted.endswith("\nschedule m on cuda:sm_90 {  # mine\n  tile = 4, 8  # rows, columns\n}\n")
    assert format_text(formatted) == formatted


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(text: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        code = main([arguments[0], "-", "--target", "cpu", *arguments[1:]])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_on_the_command_line(run: Callable[..., tuple[int, str, str]]) -> None:
    code, record, _ = run(PRODUCT, "optimize")
    assert code == 0
    assert "products = library" in record
    edited = record.replace("products = library", "products = loops")
    assert run(edited, "optimize")[1] == edited
    assert run(edited, "optimize", "--reschedule")[1] == record
    assert "numpy.dot" not in run(edited, "emit")[1]
    code, out, err = run(record.replace("products = library", "products = nothing"), "emit")
    assert (code, out) == (2, "")
    assert "here it can be" in err

"""Machines, what plans are predicted to cost on them, what calibration writes, and what tuning keeps."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kernel_ir as kir
from benchmarks.model_judge import judged, spearman
from extract.cost import cost
from extract.floor import floor
from extract.machine import load_machine, machine_names, machine_path, machine_text
from extract.schedule_cpu import plans
from kernel_ir.cli import main
from kernel_ir.dtypes import F32, F64
from kernel_ir.errors import TargetError

SCALE = "kernel scale(a: f32, x: f32[N]) -> (y: f32[N]) {\n  y[i] = a * x[i]\n}\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KIR_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """The path of each figure of a machine file."""
    match value:
        case dict():
            for key, one in value.items():
                yield from leaves(one, f"{path}.{key}" if path else key)
        case list() if value and isinstance(value[0], dict):
            for one in value:
                yield from leaves(one, f"{path}.{one['name']}")
        case _:
            yield path


@pytest.mark.parametrize("name", machine_names())
def test_each_figure_has_a_source(name: str) -> None:
    data = tomllib.loads(machine_text(name))
    sources = data.pop("sources")
    for leaf in leaves(data):
        if leaf in ("name", "kind") or leaf.endswith(".name"):
            continue
        assert any(leaf == key or leaf.startswith(f"{key}.") for key in sources), leaf


def test_the_host_is_the_generic_machine_until_it_is_measured(config: Path) -> None:
    assert machine_path("cpu").stem in ("avx2", "avx512")
    config.mkdir()
    (config / "cpu.toml").write_text(machine_text("avx2").replace("units = 4", "units = 3"))
    assert load_machine("cpu").units == 3
    assert kir.optimize(kir.parse(SCALE)["scale"], target="cpu:avx512", check=False).target.machine == "avx512"


def test_a_file_that_is_no_machine_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('name = "x"\n')
    with pytest.raises(TargetError, match="is no machine file: 'cycles' is missing"):
        load_machine(str(path))
    with pytest.raises(TargetError, match="no machine file"):
        kir.optimize(kir.parse(SCALE)["scale"], target="cpu:absent.toml")


def test_calibration_measures_and_writes_where_the_target_finds_it(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from backends import calibrate

    def figures(found: dict[str, Any]) -> None:
        found |= tomllib.loads(machine_text("avx512")) | {"name": "cpu", "units": 7}
        del found["sources"]

    monkeypatch.setattr(calibrate, "works", lambda: [calibrate.Work("all", figures)])
    monkeypatch.setattr("kernel_ir.cli_targets.cuda_device_present", lambda: False)
    assert main(["targets", "calibrate", "--json"]) == 0
    first = (config / "cpu.toml").read_bytes()
    assert json.loads(capsys.readouterr().out)["figures"]["units"] == 7
    assert load_machine("cpu") == replace(load_machine("avx512"), name="cpu", units=7)
    assert main(["targets", "calibrate"]) == 0
    assert (config / "cpu.toml").read_bytes() == first
    capsys.readouterr()
    (config / "file").write_text("")
    assert main(["targets", "calibrate", "--out", str(config / "file" / "cpu.toml")]) == 2
    assert "choose another place" in capsys.readouterr().err


def test_a_loop_is_measured_by_what_more_steps_take() -> None:
    from backends.calibrate_loops import ELEMENTS, clock_ghz, element_seconds

    clock = clock_ghz()
    assert 0.5 < clock < 8.0
    assert 0.0 < element_seconds("v = a / v", "f64", (1.5, 0.5)) * ELEMENTS < 1e-3


def test_reads_and_writes_of_each_level_are_counted() -> None:
    machine = load_machine("avx512")
    kernel = kir.parse(SCALE)["scale"]
    small, large = ({"N": n} for n in (1 << 18, 1 << 26))
    few, many = (min((cost(p, machine, s) for p in plans(kernel, machine, s)), key=lambda c: c.cycles) for s in (small, large))
    assert few.bytes["memory"] == 0
    assert many.bytes["memory"] == pytest.approx(2 * 4 * (1 << 26), rel=0.05)
    assert many.bound == "memory"


def test_equal_values_are_counted_once_and_where_they_are_computed() -> None:
    machine = load_machine("avx512")
    text = "kernel k(x: f32[M, N], w: f32[M]) -> (y: f32[M, N]) {{ y[i, j] = {} }}"
    once, twice, outside = (
        min(cost(p, machine, {}).arithmetic["DIV"] for p in plans(kir.parse(text.format(e))["k"], machine, {}))
        for e in ("1.0 / x[i, j]", "1.0 / x[i, j] + (1.0 / x[i, j]) * x[i, j]", "x[i, j] + 1.0 / w[i]")
    )
    assert once == twice
    assert outside < once / 20


def test_no_prediction_is_below_the_floor() -> None:
    for name in ("avx2", "avx512"):
        machine = load_machine(name)
        kernel = kir.parse(SCALE)["scale"]
        for n in (1, 1000, 1 << 20, 1 << 26):
            for plan in plans(kernel, machine, {"N": n}):
                found = cost(plan, machine, {"N": n})
                assert found.cycles >= floor(plan, found, machine, {"N": n}).moving * 0.99


def test_explain_shows_the_floor_and_what_bounds(capsys: Any, tmp_path: Path) -> None:
    path = tmp_path / "scale.kir"
    path.write_text(SCALE)
    assert main(["optimize", str(path), "--target", "cpu", "--size", "N=67108864", "--explain", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["kernels"]
    assert found["cost"]["bound"] == "memory"
    assert found["cost"]["floor"]["bytes"] == 2 * 4 * 67108864


def test_the_fastest_plan_is_kept_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIR_CACHE_DIR", str(tmp_path))
    kernel = kir.parse("kernel two(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] / 2.0 + x[i] }")["two"]
    flags = {"target": "cpu", "fast_math": "reassoc,contract", "sizes": {"N": 4096}, "tune": 3, "check": False}
    first, second = kir.optimize(kernel, **flags), kir.optimize(kernel, **flags)
    assert first.plan == second.plan
    assert any("took" in note for note in first.notes) and not any("from" in note for note in first.notes)
    assert any(str(tmp_path) in note for note in second.notes)
    (kept,) = (tmp_path / "tuned").iterdir()
    kept.write_text("{")  # cut short by a full disk: measured again
    assert not any(str(tmp_path) in note for note in kir.optimize(kernel, **flags).notes)
    other = kir.optimize(kernel, **{**flags, "sizes": {"N": 8192}})
    assert not any(str(tmp_path) in note for note in other.notes)


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kernel_ir.tuned import Question, known, remember

    (tmp_path / "tuned").write_text("a file where the directory would be")
    monkeypatch.setenv("KIR_CACHE_DIR", str(tmp_path))
    question = Question("k", "cpu", {}, "m", ("a", "b"))
    assert "the winner is not kept" in remember(question, 1, "1 ms")
    assert known(question) is None


def test_verdict() -> None:
    assert spearman([1, 2, 3], [3, 2, 1]) == -1
    points = [
        {"kernel": "k", "sizes": {"N": 1}, "seconds": s, "predicted": p} for s, p in ((1.0, 1.9), (2.0, 2.5), (1.01, 1.91), (4.0, 9.0))
    ]
    verdict = judged(points)
    assert verdict["spearman_within_kernel_and_size_median"] == 1.0
    assert verdict["fastest_in_top_5"] == 1.0
    assert verdict["within_2x"] == 0.75


def test_divisions_run_in_the_shadow_of_loads_and_a_loop_in_that_of_memory_alone() -> None:
    machine = load_machine("avx512")
    text = "kernel k(x: f32[M, N]) -> (y: f32[M, N]) {{ y[i, j] = {} }}"
    plain, divided = (
        min(cost(p, machine, {"M": 512, "N": 4096}).cycles for p in plans(kir.parse(text.format(e))["k"], machine, {}))
        for e in ("x[i, j] * 3.0", "x[i, j] / 3.0")
    )
    quotient = 512 * 4096 / machine.lanes(F32) * machine.throughput[next(u for u, _ in machine.throughput if u.name == "DIV"), "f32"]
    assert plain < divided < plain + quotient / machine.units


def test_the_first_of_two_blocks_is_a_whole_one() -> None:
    machine = load_machine("avx512")
    kernel = kir.parse("kernel k(a: f64[M, K], b: f64[K, N]) -> (c: f64[M, N]) { c[i, j] = sum(k: a[i, k] * b[k, j]) }")["k"]
    for m in (192, 200, 384):
        sizes = {"M": m, "K": 240, "N": 220}
        for plan in plans(kernel, machine, sizes, frozenset({"reassoc", "contract"})):
            found = cost(plan, machine, sizes)
            assert found.cycles > m * 240 * 220 / machine.lanes(F64) / machine.units * 0.5


def test_a_point_is_timed_until_its_rounds_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import model

    rows = iter([2.0, 1.0] * 4 + [1.0] * 100)
    monkeypatch.setattr(model, "_row", lambda _: next(rows))
    seconds, noises = model.in_rows([lambda: None])
    assert seconds == [1.0] and noises[0] <= model.AGREE

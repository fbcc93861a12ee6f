"""The command line as a user meets it: streams, exit codes, files kept whole."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis.strategies import just

from backends.cpu_source import cpu_source
from backends.target import target
from kernel_ir.cli import main
from kernel_ir.fuzzing import every_plan
from kernel_ir.parser import parse
from tests.conftest import KERNELS, interruptible

SCALE = "kernel scale(a: f32, x: f32[N]) -> (y: f32[N]) {\n  y[i] = a * x[i]\n}\n"
WRONG = SCALE.replace("a * x[i]", "a + x[i]")


@pytest.fixture
def scale(tmp_path: Path) -> Path:
    path = tmp_path / "scale.kir"
    path.write_text(SCALE)
    return path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def kir(*words: object, **kwargs) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "kernel_ir.cli", *map(str, words)], capture_output=True, text=True, timeout=120, **kwargs)


def test_optimize_writes_only_the_kernel_and_its_schedule_to_stdout(scale, capsys):
    assert run("optimize", scale, "--target", "cpu") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{SCALE}\nschedule scale on cpu {{\n") and out.count("}\n") == 2
    assert "scale" in err


def test_optimize_is_a_fixed_point_and_deterministic(tmp_path, capsys):
    words = ("--target", "cpu", "--fast-math", "reassoc", "--size", "R=512", "--size", "C=512")
    assert run("optimize", KERNELS / "rows.kir", "-k", "softmax", *words) == 0
    first = capsys.readouterr().out
    assert run("optimize", KERNELS / "rows.kir", "-k", "softmax", *words) == 0
    assert capsys.readouterr().out == first
    again = tmp_path / "again.kir"
    again.write_text(first)
    assert run("optimize", again, *words) == 0
    assert capsys.readouterr().out == first


def test_optimize_output_file_and_standard_input(scale, tmp_path):
    out = tmp_path / "out.kir"
    done = kir("optimize", "-", "--target", "cpu", "-o", out, input=SCALE)
    assert (done.returncode, done.stdout, out.read_text().partition("\nschedule")[0]) == (0, "", SCALE)


def test_a_pipe_is_written_to_and_a_link_followed(scale, tmp_path):
    pipe, link, real = tmp_path / "pipe", tmp_path / "link.kir", tmp_path / "real.kir"
    os.mkfifo(pipe)
    link.symlink_to(real)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("optimize", scale, "--target", "cpu", "-o", pipe) == 0
    assert os.read(reader, 1 << 16).decode().startswith(SCALE)
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert run("optimize", scale, "--target", "cpu", "-o", link) == 0
    assert link.is_symlink() and real.read_text().startswith(SCALE)
    assert run("optimize", scale, "--target", "cpu", "-o", tmp_path) == 2


def test_optimize_json(scale, capsys):
    assert run("optimize", scale, "--target", "cpu", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["kernels"]
    assert entry["name"] == "scale" and entry["text"] + "\n" == SCALE and entry["cycles"] <= entry["baseline_cycles"]


def test_emitted_python_runs_alone(scale, tmp_path):
    out = tmp_path / "scale.py"
    assert run("optimize", scale, "--target", "cpu", "--emit", "python", "-o", out) == 0
    lines = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})",
        "import numpy as np, scale",
        "print(scale.scale(np.float32(2), np.arange(3, dtype=np.float32)))",
        "assert not any(m in sys.modules for m in ('kernel_ir', 'backends'))",
    )
    done = subprocess.run([sys.executable, "-c", "; ".join(lines)], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.stdout == "[0. 2. 4.]\n", done.stderr


BAD = [
    (("optimize", "missing.kir"), "cannot read missing.kir"),
    (("optimize", "{scale}", "-k", "scalee"), "did you mean scale?"),
    (("optimize", "{scale}", "--fast-math", "reasoc"), "unknown fast-math flag 'reasoc'"),
    (("optimize", "{scale}", "--target", "cpuu"), "unknown target 'cpuu'"),
    (("optimize", "{scale}", "--size", "N"), "not NAME=NUMBER"),
    (("optimize", "{scale}", "--size", "Q=3"), "no kernel here has a size Q"),
    (("optimize", "{scale}", "--size", "N=3", "--size", "N=4"), "twice"),
    (("optimize", "{scale}", "-o", "no/such/folder/out.kir"), "cannot write"),
    (("optimize", "{scale}", "--nonsense"), "takes no option '--nonsense'"),
    (("optimize",), "required: FILE"),
    ((), "required: COMMAND"),
    (("check", "{scale}", "missing.kir"), "cannot read"),
    (("check", "-", "-"), "only one of the two"),
    (("targets", "show", "sm_1"), "unknown target"),
    (("run", "{scale}", "--input", "missing.npz"), "cannot read"),
    (("run", "{scale}", "--target", "numpy", "--size", "N=100000000000000"), "not enough memory"),
    (("optimize", "{scale}", "--size", "N=99999999999999999999"), "not an integer from 0 to"),
    (("optimize", "{scale}", "-o", "."), "cannot write"),
    (("optimize", "{scale}", "--seed", "-1"), "not a whole number of at least 0"),
    (("optimize", "{scale}", "--tune", "many"), "not a whole number of at least 0"),
    (("optimize", "{scale}", "--tolerance", "nan"), "not a number of at least 0"),
    (("optimize", "{scale}", "--rules", "missing.rules"), "cannot read the rule book"),
    (("check", "{scale}", "{scale}", "--examples", "0"), "not a whole number of at least 1"),
    (("check", "{scale}", "{scale}", "--tolerance", "-1"), "not a number of at least 0"),
    (("check", "{scale}", "{scale}", "--replay", "{scale}"), "is not a counterexample file"),
    (("fuzz", "--kernels", "0"), "not a whole number of at least 1"),
    (("fuzz", "--target", "cuda:sm_90", "--compile"), "no GPU is here"),
    (("rules", "show", "no_such_rule"), "no rule 'no_such_rule'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(w) or "nothing" for w, _ in BAD])
def test_bad_usage_is_exit_2_and_one_message(words, said, scale, capsys):
    assert run(*(w.format(scale=scale) for w in words)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and said in err and "Traceback" not in err


def test_bad_file_writes_nothing_and_keeps_the_old(tmp_path, capsys):
    bad, out = tmp_path / "bad.kir", tmp_path / "out.kir"
    bad.write_text(SCALE.replace("x[i]", "x[i+1]"))
    out.write_text("precious")
    assert run("optimize", bad, "-o", out) == 2
    assert out.read_text() == "precious" and list(tmp_path.iterdir()).__len__() == 2
    assert f"{bad}:2:" in capsys.readouterr().err


def test_check_exit_codes(scale, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "wrong.kir"
    wrong.write_text(WRONG)
    assert run("check", scale, scale, "--examples", 10) == 0
    assert run("check", scale, wrong, "--examples", 30, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["equal"] is False
    saved = report["kernels"][0]["counterexample"]
    assert run("check", scale, wrong, "--replay", saved) == 1
    assert run("check", scale, scale, "--replay", saved) == 0


def test_fmt(tmp_path, capsys):
    path = tmp_path / "a.kir"
    path.write_text("# keep me\nkernel k(x:f32[N])->(y:f32[N]){y[i]=x[i]}\n")
    assert run("fmt", "--check", path) == 1
    assert run("fmt", path) == 0 and path.read_text().startswith("# keep me\nkernel k(x: f32[N]) -> (y: f32[N]) {\n")
    assert run("fmt", "--check", path) == 0


def test_targets_and_rules(capsys):
    assert run("targets") == 0 and "cuda:sm_90" in capsys.readouterr().out
    assert run("targets", "show", "cpu", "--json") == 0
    json.loads(capsys.readouterr().out)
    assert run("rules", "list", "--needs", "contract", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rules"]
    assert rows and all("contract" in row["needs"] for row in rows)


def test_run_writes_outputs(scale, tmp_path, capsys):
    import numpy as np

    given, out = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(given, a=np.float32(3), x=np.arange(4, dtype=np.float32))
    assert run("run", scale, "--target", "numpy", "--input", given, "--output", out) == 0
    assert np.load(out)["y"].tolist() == [0, 3, 6, 9]


def test_version_and_help(capsys):
    for words in (("--version",), ("--help",), ("optimize", "--help")):
        with pytest.raises(SystemExit) as stop:
            run(*words)
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith(("kir ", "usage: kir"))


FILES = {
    "empty": (b"", "the text is empty"),
    "comment": (b"# nothing\n", "the text is empty"),
    "binary": (bytes(range(128, 256)), "not UTF-8"),
    "NUL": (b"kernel k\0", "error: "),
    "unclosed": (SCALE[:-2].encode(), "`{` is never closed"),
    "huge integer": (SCALE.replace("x[i]", "x[9999999999999999999999]").encode(), "does not fit i64"),
    "huge number": (SCALE.replace("a *", "1e999 *").encode(), "does not fit f64"),
    "deep": (SCALE.replace("x[i]", "(" * 9000 + "x[i]" + ")" * 9000).encode(), "nested deeper"),
    "long": (SCALE.replace("x[i]", "+".join(["x[i]"] * 9000)).encode(), "nested deeper"),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("command", ["optimize", "emit", "run", "fmt", "check"])
def test_a_file_that_is_none_is_exit_2_and_one_message(command, what, tmp_path, capsys):
    if command == "fmt" and what in ("huge integer", "huge number", "long"):
        pytest.skip("formatting judges no numbers, and needs no depth for a chain")
    data, said = FILES[what]
    path = tmp_path / "k.kir"
    path.write_bytes(data)
    assert run(command, *[path] * (2 if command == "check" else 1)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and said in err and "Traceback" not in err
    assert path.read_bytes() == data


TYPOS = ["", "}", "(", "§", "kernel", "1.5.2", "@", "[", '"', "\t\t", ":=", "if"]


@pytest.mark.parametrize("typo", TYPOS, ids=repr)
def test_a_typo_at_any_place_is_an_error_of_ours_or_none(typo):
    from kernel_ir import KernelError, parse

    for at in range(0, len(SCALE), 2):
        for text in (SCALE[:at] + typo + SCALE[at:], SCALE[:at] + typo + SCALE[at + 3 :]):
            try:
                parse(text)
            except KernelError as error:
                assert error.message and "\n" not in error.message


def test_output_may_be_the_input_and_keeps_its_mode(scale):
    scale.chmod(0o640)
    assert run("optimize", scale, "--target", "cpu", "-o", scale) == 0
    assert scale.read_text().startswith(SCALE) and scale.stat().st_mode & 0o777 == 0o640


def test_fuzz_reports_its_counts(capsys):
    assert run("fuzz", "--kernels", 3, "--seed", 5, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kernels"], report["plans"], report["ended"], report["failure"]) == (3, 0, "count", None)
    assert run("fuzz", "--kernels", 100000, "--seconds", 0, "--json") == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "seconds"


@pytest.mark.skipif(os.name != "posix", reason="pipes are POSIX")
def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m kernel_ir.cli rules list --json | head -c 10"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=KERNELS.parent.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_interrupt_is_130_without_a_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "kernel_ir.cli", "fuzz", "--kernels", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    )
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err


def test_import_is_light():
    heavy = ("numba", "egglog", "hypothesis", "lark", "rich", "mpmath")
    code = f"import sys, kernel_ir; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "says", "help"),
    [
        (["optimise", "x.kir"], "invalid choice: 'optimise'", "did you mean 'optimize'?"),
        (["optimize", "--fast-mth", "all", "x.kir"], "`kir optimize` takes no option '--fast-mth'", "did you mean '--fast-math'?"),
        (["rules", "sugest"], "invalid choice: 'sugest'", "did you mean 'suggest'?"),
        (["check", "a", "b", "c"], "`kir check` takes no argument 'c'", "see `kir check --help`"),
        (["emit", "--zzz", "x.kir"], "`kir emit` takes no option '--zzz'", "see `kir emit --help`"),
    ],
)
def test_a_typo_on_the_command_line_is_named_with_what_was_meant(capsys, words, says, help):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert says in said and f"help: {help}" in said


def test_fuzz_compiles_every_plan(capsys):
    assert run("fuzz", "--kernels", 1, "--plans", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["plans"] > report["kernels"] == 1 and report["failure"] is None
    k = parse("kernel f(x: f32[R, C]) -> (y: f32[R, C]) { y[r, c] = exp(x[r, c] - max(k: x[r, k])) }")["f"]
    made = [dict(plan.schedule) for plan in every_plan(k, target("cpu"), frozenset())]
    assert {"reads", "stores"} <= {key for schedule in made for key in schedule}


def test_fuzz_reports_a_plan_that_differs(monkeypatch, capsys):
    """The failure names the kernel and the schedule of the plan that computes something else."""
    twice = parse("kernel twice(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }")["twice"]
    monkeypatch.setattr("kernel_ir.testing.kernels", lambda: just(twice))
    monkeypatch.setattr("backends.cpu_source.cpu_source", lambda plan: cpu_source(plan).replace("float32(2.0)", "float32(3.0)"))
    assert run("fuzz", "--kernels", 1, "--plans", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert "schedule twice on cpu {" in report["failure"] and "second 3.0" in report["failure"] and report["ended"] == "failure"

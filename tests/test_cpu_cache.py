"""Compiled CPU code between processes: found again, shared, and never trusted where it does not read back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import interruptible

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import json, sys
import numpy as np
from numba.core import event

class Listener(event.Listener):
    compiled = []
    def on_start(self, e):
        self.compiled.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e):
        pass

event.register("numba:compile", Listener())
import kernel_ir as kir
from backends.target import target
from kernel_ir.compiled import compiled
from kernel_ir.optimizer import best_plan

text = "kernel k(x: f32[N], a: f32) -> (y: f32[N]) { y[i] = a * x[i] + f32(i) }"
kernel = kir.parse(text)["k"]
f = compiled(best_plan(kernel, target("cpu"), {}, frozenset()), target("cpu"))
x = np.ones(3, np.float32)
x.flags.writeable = "readonly" not in sys.argv
print("ready", flush=True)
y = f(x, 2.0)
print(json.dumps({"compiled": Listener.compiled, "y": y.tolist(), "notes": f.notes}))
"""
RIGHT = [2.0, 3.0, 4.0]


def start(cache: Path, *words: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")} | {"KIR_CACHE_DIR": str(cache)}
    command = [sys.executable, "-W", "error", "-c", RUN, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, preexec_fn=interruptible, **pipes)


def report(process: "subprocess.Popen[str]"):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def run(cache: Path, *words: str):
    return report(start(cache, *words))


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A cache that one process has filled."""
    cache = tmp_path_factory.mktemp("cache")
    first = run(cache)
    assert first["y"] == RIGHT and first["compiled"] and not first["notes"]
    return cache


def copied(warm: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(warm, to / "cache"))


def test_a_second_process_compiles_nothing(warm):
    again = run(warm)
    assert again["compiled"] == [] and again["y"] == RIGHT


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "index cut": ("*.nbi", truncate),
    "code cut": ("*.nbc", truncate),
    "index empty": ("*.nbi", lambda path: path.write_bytes(b"")),
    "code empty": ("*.nbc", lambda path: path.write_bytes(b"")),
    "index of noise": ("*.nbi", lambda path: path.write_bytes(bytes(range(256)))),
    "code gone": ("*.nbc", Path.unlink),
}


@pytest.mark.parametrize("files", DAMAGE)
def test_what_does_not_read_back_is_compiled_again(files, warm, tmp_path):
    pattern, damage = DAMAGE[files]
    cache = copied(warm, tmp_path)
    for path in (cache / "__pycache__").glob(pattern):
        damage(path)
    assert run(cache)["y"] == RIGHT
    assert run(cache)["compiled"] == []


def test_two_processes_at_once_leave_a_cache_that_serves_both(tmp_path):
    for found in map(report, [start(tmp_path), start(tmp_path, "readonly")]):
        assert found["y"] == RIGHT
    for words in ((), ("readonly",)):
        found = run(tmp_path, *words)
        assert found["y"] == RIGHT and found["compiled"] == []


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("which", ["SIGINT", "SIGKILL"])
def test_an_interrupted_compilation_leaves_nothing_broken(which, tmp_path):
    process = start(tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(getattr(signal, which))
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert run(tmp_path)["y"] == RIGHT
    assert run(tmp_path)["compiled"] == []


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_cache_that_cannot_be_written_is_said_and_done_without(place, tmp_path):
    cache = tmp_path / "cache"
    if place == "file":
        cache.write_text("a file, not a folder")
    else:
        cache.mkdir(0o500)
        if os.access(cache, os.W_OK):
            pytest.skip("this user may write everywhere")
    found = run(cache)
    assert found["y"] == RIGHT and "compiled code is not kept" in found["notes"][0]

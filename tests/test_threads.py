"""Compiled code called from several threads, and in forked processes; sizes that the shapes do not always tell."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.errors import ArgumentError, UsageError

ROOT = Path(__file__).resolve().parent.parent
START = """
import os, sys, threading
import numpy as np
import kernel_ir as kir
from backends.target import target
from kernel_ir.compiled import compiled
from kernel_ir.optimizer import best_plan

kernel = kir.parse("kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = 2.0 * x[i] }")["k"]
f = compiled(best_plan(kernel, target("cpu"), {}, frozenset()), target("cpu"))
x = np.ones(1 << 16, np.float32)
"""
MANY = """
wrong = []
def work():
    for _ in range(50):
        if not (f(x) == 2).all():
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print("wrong", len(wrong), flush=True)
"""
FORK = """
f(x)
sys.stdout.flush()
child = os.fork()
if child == 0:
    try:
        f(x)
        print("ran", flush=True)
    except kir.KernelError as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("child", status, flush=True)
"""


def run(script: str, layer: str) -> str:
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    done = subprocess.run([sys.executable, "-c", START + script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"numba has no {layer} layer here")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_threads_may_call_at_once(layer):
    assert run(MANY, layer) == "wrong 0\n"


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="GNU OpenMP and fork: Linux")
@pytest.mark.parametrize(("layer", "said"), [("workqueue", "ran"), ("omp", "TargetError this process was forked")])
def test_a_forked_process_runs_or_says_why_not(layer, said):
    out = run(FORK, layer)
    assert out.startswith(said) and out.endswith("child 0\n")


FLAT = "kernel f(x: f32[H * W], a: f32) -> (y: f32[H, W]) { y[i, j] = a * x[i * W + j] }"
SHAPES = [
    # elements of x, sizes by name, the shape of y
    (6, {"W": 3}, (2, 3)),
    (6, {"H": 2, "W": 3}, (2, 3)),
    (0, {"H": 5, "W": 0}, (5, 0)),
    (0, {"H": 0, "W": 4}, (0, 4)),
    (0, {"W": 4}, (0, 4)),
]


@pytest.mark.parametrize("target", ["numpy", "cpu", "cuda-on-cpu"])
def test_a_size_that_the_shape_does_not_tell_may_be_given(target):
    (kernel,) = kir.parse(FLAT).values()
    try:
        f = kir.optimize(kernel, target=target, check=False).compile()
    except kir.TargetError as absent:
        pytest.skip(str(absent))
    for count, sizes, shape in SHAPES:
        x = np.arange(count, dtype=np.float32)
        assert f(x, 2.0, **sizes).shape == kernel(x, 2.0, **sizes).shape == shape
        assert (f(x, 2.0, **sizes).ravel() == 2 * x).all()
    with pytest.raises(ArgumentError, match="`H` can be anything"):
        f(np.zeros(0, np.float32), 2.0, W=0)


@pytest.mark.parametrize("size", [-1, 2**47, 2**63, True, 1.5])
def test_a_size_is_at_most_what_a_call_takes(size):
    (kernel,) = kir.parse(FLAT).values()
    with pytest.raises(UsageError, match=f"not an integer from 0 to {2**47 - 1}"):
        kir.optimize(kernel, target="cpu", sizes={"W": size})

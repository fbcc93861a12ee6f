"""Several sweeps in one pass over memory: any number of rows, threads and sweeps gives what one sweep after another gives, bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import kernel_ir as kir
from backends.cpu_source import cpu_source
from backends.load import load
from extract.cost import cost
from extract.machine import load_machine
from extract.schedule_cpu import plans
from extract.sweeps import in_a_pass, swept
from kernel_ir.plan import RepeatLaunch
from tests.conftest import sweeps_of

FAR = """kernel k(inout a: f64[N, M], inout b: f64[N, M], steps: i64) where N >= 5 {
  repeat steps {
    b[i, j] = a[i - 2, j] * 0.25 + a[i + 1, j] * 0.5 for i in 2..N-2, j in 0..M
    a[i, j] = b[i - 1, j] * 0.5 - b[i + 2, j] * 0.25 for i in 2..N-2, j in 0..M
  }
}"""
IN_PLACE = """kernel k(inout a: f64[N, M], inout b: f64[N, M], steps: i64) where N >= 2 {
  repeat steps {
    b[i, j] = b[i, j] - 0.5 * (a[i, j] - a[i - 1, j]) for i in 1..N-1, j in 0..M
    a[i, j] = a[i, j] - 0.5 * (b[i + 1, j] - b[i, j]) for i in 1..N-1, j in 0..M
  }
}"""
CUBE = """kernel k(inout a: f64[N, M, L], inout b: f64[N, M, L], steps: i64) where N >= 3, M >= 3 {
  repeat steps {
    b[i, j, l] = a[i - 1, j, l] - 0.5 * a[i, j + 1, l] + a[i + 1, j, l] for i in 1..N-1, j in 1..M-1, l in 0..L
    a[i, j, l] = b[i, j - 1, l] - 0.5 * b[i - 1, j, l] + b[i, j, l] for i in 1..N-1, j in 1..M-1, l in 0..L
  }
}"""
ONE_ROW = """kernel k(inout a: f64[N], inout b: f64[N], steps: i64) where N >= 2 {
  repeat steps {
    b[i] = a[i - 1] + a[i + 1] for i in 1..N-1
    a[i] = b[i - 1] * 0.5 for i in 1..N-1
  }
}"""
COUNTED = FAR.replace("repeat steps", "repeat t in steps").replace("a[i + 1, j] * 0.5", "a[i + 1, j] * f64(t)")


pytestmark = pytest.mark.usefixtures("kept_code")


def far(a: Any, b: Any) -> None:
    n = len(a)
    b[2 : n - 2] = a[: n - 4] * 0.25 + a[3 : n - 1] * 0.5
    a[2 : n - 2] = b[1 : n - 3] * 0.5 - b[4:] * 0.25


def in_place(a: Any, b: Any) -> None:
    b[1:-1] -= 0.5 * (a[1:-1] - a[:-2])
    a[1:-1] -= 0.5 * (b[2:] - b[1:-1])


def cube(a: Any, b: Any) -> None:
    b[1:-1, 1:-1] = a[:-2, 1:-1] - 0.5 * a[1:-1, 2:] + a[2:, 1:-1]
    a[1:-1, 1:-1] = b[1:-1, :-2] - 0.5 * b[:-2, 1:-1] + b[1:-1, 1:-1]


@pytest.mark.parametrize(("text", "step"), [(FAR, far), (IN_PLACE, in_place), (CUBE, cube)], ids=["far", "in place", "cube"])
def test_any_number_of_rows_threads_and_sweeps(text: str, step: Any) -> None:
    source = cpu_source(plans(kir.parse(text)["k"])[0])
    module: Any = load(source, "k").module
    passes = sweeps_of(module)
    rng = np.random.default_rng(0)
    assert "for i in range(whole," in source  # several rows at once
    for rows in (5, 12, 67) if text is CUBE else (5, 6, 7, 12, 23, 67, 131, 300):
        for columns in (1, 1200):  # one thread for little work
            shape = (rows, 5, min(columns, 300)) if text is CUBE else (rows, columns)
            for parts in (1, 2, 3, 7):
                for steps in (0, 1, 3, 6):
                    a, b = rng.standard_normal((2, *shape))
                    wanted = a.copy(), b.copy()
                    for _ in range(steps):
                        step(*wanted)
                    passes(parts, 2 * steps, a, b, *shape)
                    assert np.array_equal(a, wanted[0]) and np.array_equal(b, wanted[1]), (rows, columns, parts, steps)


@pytest.mark.parametrize("text", [ONE_ROW, COUNTED], ids=["one row", "counted"])
def test_other_repeats_do_one_sweep_after_another(text: str) -> None:
    """A row of single points is not worth a call each; a sweep that reads the number of the round is not the same again."""
    source = cpu_source(plans(kir.parse(text)["k"])[0])
    assert ("_edges(" in source) == (text is COUNTED)
    assert "for t in range(" in source or text is ONE_ROW


PASSES = [(70, 70, 1), (70, 70, 2), (700, 700, 2), (4000, 4000, 8), (9, 10, 4), (300, 9000, 16)]


@pytest.mark.parametrize(("rows", "columns", "parts"), PASSES)
def test_the_model_counts_the_sweeps_of_a_pass_as_the_code_does(rows: int, columns: int, parts: int) -> None:
    plan = plans(kir.parse(FAR)["k"])[0]
    (repeat,) = plan.steps
    assert isinstance(repeat, RepeatLaunch)
    both = swept(repeat.body, {b.name: b for b in plan.buffers}, repeat.index)
    assert both is not None
    lines = cpu_source(plan).splitlines()
    first, last = (next(n for n, line in enumerate(lines) if line.startswith(start)) for start in ("    most = min(", "    most = max("))
    a = np.empty((rows, columns))
    names: dict[str, Any] = {"N": rows, "M": columns, "parts": parts, "a": a, "b": a}
    exec("\n".join(line.removeprefix("    ") for line in lines[first : last + 1]), names)
    inner = rows - 4
    assert in_a_pass(both, inner, 2 * a.nbytes, parts) == names["most"]


def test_the_model_sees_that_a_pass_does_several_sweeps() -> None:
    """Where the arrays are larger than the caches, memory is not read and written anew for each sweep."""
    machine, sizes = load_machine("avx512"), {"N": 60000, "M": 500}
    k = kir.parse(FAR)["k"]
    both = next(p for p in plans(k, machine, sizes) if len(p.schedule) == 4)
    (repeat,) = both.steps
    assert isinstance(repeat, RepeatLaunch)
    apart = replace(both, steps=(replace(repeat, body=(repeat.body[0], *repeat.body)),))  # three steps are no pair
    assert cost(both, machine, sizes).bytes["memory"] < 0.3 * cost(apart, machine, sizes).bytes["memory"]

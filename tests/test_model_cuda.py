"""Instructions of GPU code as the cycle model counts them, and as machine code has them."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest

from benchmarks import sass_loops
from benchmarks.model_sass import Case, agrees, iteration, judged, machine_code, plan_of, predicted
from benchmarks.model_sass_kernels import ROWS, STRAIGHT, row_kernel, straight_kernel
from benchmarks.sass import RESULTS
from extract.machine import load_machine
from extract.schedule_cuda import cuda_plans
from kernel_ir.errors import TargetError

CODE = """
	.section	.text.k_r,"ax",@progbits
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_2:
        /*0010*/                   LDG.E.CONSTANT R4, [R4.64] ;
        /*0020*/              @P1  BRA `(.L_x_3) ;
        /*0030*/                   MOV R2, 0x40 ;
        /*0040*/                   CALL.REL.NOINC `($slow) ;
.L_x_3:
        /*0050*/                   FADD R5, R6, R5 ;
        /*0060*/             @!P0  BRA `(.L_x_2) ;
        /*0070*/                   STG.E [R6.64], R5 ;
        /*0080*/                   EXIT ;
.L_x_0:
        /*0090*/                   BRA `(.L_x_0);
        /*00a0*/                   NOP;
"""


def test_loops_and_slow_paths_are_found_in_machine_code() -> None:
    (code,) = sass_loops.functions(CODE).values()
    assert [one.opcode for one in code][-1] == "EXIT"
    assert sass_loops.straight(code) == {"float": 1, "memory": 2, "integer": 1}
    assert sass_loops.loops(code) == [{"float": 1, "memory": 1, "integer": 0}]


@pytest.mark.parametrize("name", ["add", "gauss"])
def test_instructions_of_a_thread(name: str) -> None:
    machine = load_machine("sm_80")
    found = predicted(plan_of(straight_kernel(STRAIGHT["tuned"][name]), machine), machine)
    assert found == {"add": {"float": 1, "memory": 3, "integer": 10}, "gauss": {"float": 18, "memory": 3, "integer": 14}}[name]


def test_a_turn_of_a_row_loop_counts_what_moves_with_it_and_nothing_else() -> None:
    machine = load_machine("sm_80")
    found = {}
    for name in ("sum", "weight"):
        kernel = row_kernel(*ROWS["tuned"][name])
        plans = {" ".join(h for _, h in p.schedule): p for p in cuda_plans(kernel, "cuda:sm_80", dict.fromkeys(kernel.sizes, 1 << 13))}
        plan = replace(plans["most nearest plain"], fast_math=frozenset({"contract"}))
        found[name] = {unit: count * 4 for unit, count in iteration(Case(name, "", plan, "N"), machine).items()}
    assert found["sum"] == pytest.approx({"float": 4, "memory": 4, "integer": 11})
    assert found["weight"] == pytest.approx(
        {"float": 32, "memory": 4, "integer": 17}
    )  # m[i] is loaded before the loop, exp's constants in it


@pytest.mark.parametrize(("threads", "integer"), [(128, 11), (512, 14)])
def test_where_many_extremes_are_joined_places_are_computed_anew(threads: int, integer: int) -> None:
    """In NVVM's code of 512 threads, whose 16 warps' maxima are joined, no place moves on with the loop; with 4 warps it does."""
    machine = load_machine("sm_80")
    kernel = row_kernel(*ROWS["tuned"]["greatest"])
    found = cuda_plans(kernel, "cuda:sm_80", dict.fromkeys(kernel.sizes, 4 * threads))
    plan = next(p for p in found if " ".join(h for _, h in p.schedule) == "most block plain 4")
    case = Case("greatest", "", replace(plan, fast_math=frozenset({"contract"})), "N")
    assert {unit: count * 16 for unit, count in iteration(case, machine).items()} == pytest.approx(
        {"float": 48, "memory": 4, "integer": integer}
    )


def test_the_committed_comparison_holds_what_the_readme_says() -> None:
    data = json.loads((RESULTS.parent / "model_sass.json").read_text(encoding="utf-8"))
    assert judged(data["rows"])["within_15_percent"] == data["within_15_percent"]
    for which in ("tuned", "held_out", "fresh"):
        assert all(data["within_15_percent"][which]["all"][unit] >= 0.9 for unit in sass_loops.UNITS)


@pytest.mark.skipif(find_spec("numba_cuda") is None or find_spec("cuda") is None, reason="numba-cuda is not installed")
def test_ptxas_makes_what_the_model_counts() -> None:
    machine = load_machine("sm_90")
    plan = plan_of(straight_kernel(STRAIGHT["tuned"]["decay"]), machine)
    try:
        row = {"sass": sass_loops.straight(machine_code(plan, machine)), "model": predicted(plan, machine)}
    except TargetError as error:  # nvdisasm is a package of its own
        pytest.skip(str(error))
    assert all(agrees(row, unit) for unit in sass_loops.UNITS)

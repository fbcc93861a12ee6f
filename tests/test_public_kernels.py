"""Every public kernel from end to end: optimized twice, checked, compiled for each target, run at awkward sizes."""

import re
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

import kernel_ir as kir
from kernel_ir.binding import binding
from kernel_ir.compare import comparison
from kernel_ir.compiled import ptx_text
from kernel_ir.errors import ArgumentError
from kernel_ir.fastmath import flags
from kernel_ir.inputs import Inputs, sample_inputs
from kernel_ir.nodes import Kernel
from tests.conftest import KERNELS, PUBLIC, SHARED, kernel

LICENCES = ("none", "reassoc,contract,arcp,afn,nsz")
FILES = sorted(path.name for path in KERNELS.glob("*.kir"))
EXTENTS = (0, 1, 7, 70)
"""Extents that every size of a kernel takes in turn: nothing, one, less than a vector, several blocks and a tail."""
WORK = 3_000_000
"""Points that the evaluator is asked for at most: the extent of a kernel of many dimensions is cut to this."""


@cache
def best(name: str, licence: str, target: str = "cpu") -> kir.Result:
    return kir.optimize(kernel(name), target=target, fast_math=licence)


def awkward(k: Kernel, extent: int) -> dict[str, Any] | None:
    """Inputs with all sizes about `extent`; None where the facts (a window in an image, a label among classes) forbid them."""
    dimensions = max(1, len(k.sizes))
    if extent > 16:
        extent = max(9, min(extent, int(WORK ** (1 / dimensions))))
    for shift in range(3):
        # Sizes that differ show a mix-up of dimensions.
        sizes = {size: max(0, extent - shift * number) for number, size in enumerate(k.sizes)}
        try:
            return sample_inputs(k, seed=extent, sizes=sizes)
        except ArgumentError:
            continue
    return None


def agrees(name: str, result: kir.Result, extent: int) -> bool:
    """Whether the compiled result equals the meaning of the kernel as written; False where no such inputs exist."""
    original = kernel(name)
    values = awkward(original, extent)
    if values is None:
        return False
    bound = dict(values)
    sizes = {size: bound.pop(size) for size in original.sizes if size in bound}
    known = binding(original)((), {**values}).sizes
    compared = comparison(original, result.compile(), flags(result.fast_math), None)
    assert compared.mismatch(Inputs(bound, known | sizes, {})) is None
    return True


@pytest.mark.parametrize("file", FILES)
def test_the_examples_are_the_shared_kernels(file: str) -> None:
    shared = SHARED / "kernels" / file
    if not shared.is_file():
        pytest.skip("the shared kernels ../shared/kernels are not here")
    assert (KERNELS / file).read_bytes() == shared.read_bytes()


@pytest.mark.parametrize("licence", LICENCES)
@pytest.mark.parametrize("name", PUBLIC)
def test_the_result_is_cheaper_equal_and_final(name: str, licence: str) -> None:
    original, result = kernel(name), best(name, licence)
    assert kir.parse(result.text)[name] == result.kernel
    assert result.cycles <= result.baseline_cycles
    assert bool(result.rules) == (result.kernel != original)
    kir.testing.quick_check(original, result.kernel, fast_math=licence, seed=1)
    assert kir.optimize(result.kernel, target="cpu", fast_math=licence).text == result.text


@pytest.mark.parametrize("name", PUBLIC)
def test_compiled_code_equals_the_meaning_at_awkward_sizes(name: str) -> None:
    result = best(name, LICENCES[1])
    ran = [agrees(name, result, extent) for extent in EXTENTS]
    assert any(ran)


@pytest.mark.parametrize("name", PUBLIC)
def test_numpy_code_equals_the_meaning_at_awkward_sizes(name: str) -> None:
    result = best(name, "none", "numpy")
    ran = [agrees(name, result, extent) for extent in EXTENTS]
    assert any(ran)


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
@pytest.mark.parametrize("name", PUBLIC)
def test_the_result_becomes_ptx(name: str) -> None:
    result = best(name, LICENCES[1], "cuda:sm_90")
    assert ".target sm_90" in ptx_text(result.plan, result.target)


@pytest.mark.parametrize("name", ["attention", "causal_attention"])
def test_reassoc_alone_makes_attention_online(name: str) -> None:
    result = best(name, "reassoc")
    assert "expsum(" in result.text
    assert not re.search(r"\bmax\(", result.text)
    assert "online_softmax" in result.rules

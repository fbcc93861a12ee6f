"""Every op of the op table and every cast, for each of its dtypes, as a CUDA kernel run on the CPU: the table's own rows are the tests."""

import itertools
from functools import cache

import numpy as np
import pytest

from kernel_ir.dtypes import BOOL, DTYPES, F32, F64, I32, I64, DType
from kernel_ir.nodes import ArrayType, Assign, Binder, Call, Const, Expr, IndexRef, Kernel, Load, Param, SizeRef, const
from kernel_ir.ops import OPS, Op

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1.5, 3.0, 7.25, -7.75, 100.0, 1e-3, 1e-40, -1e-40, 1e10, -3e9, 3e38, np.inf, -np.inf, np.nan]
INTS = [0, 1, -1, 2, -2, 3, -7, 10, 31, 32, 33, 64, -100, 2**31 - 1, -(2**31)]
DOMAIN = {"pow": (0.01, 10.0), "rsqrt": (1e-6, 1e6)}
"""Where an approximate op is compared, if not over all edge values."""


def sample(dtype: DType) -> np.ndarray:
    if dtype is BOOL:
        return np.array([False, True] * 10)
    if dtype.is_float:
        with np.errstate(over="ignore"):
            return np.array(FLOATS).astype(dtype.numpy)
    return np.array(INTS + ([2**40, -(2**63), 2**63 - 1] if dtype is I64 else []), dtype.numpy)


def grid(arity: int, dtypes: tuple[DType, ...]) -> list[np.ndarray]:
    """All combinations of edge values (of a third of them from the third argument on)."""
    pools = [sample(t)[:: 1 if n < 2 else 3] for n, t in enumerate(dtypes)]
    rows = list(itertools.product(*(range(len(p)) for p in pools)))
    return [np.array([pools[n][row[n]] for row in rows], t.numpy) for n, t in enumerate(dtypes)]


def signatures(op: Op) -> list[tuple[DType, ...]]:
    letters = op.signature.partition("->")[0]
    if op.cast is not None:
        return [(t,) for t in (BOOL, I32, I64, F32, F64)]
    return [tuple({"T": t, "b": BOOL, "i": I64}[letter] for letter in letters) for t in op.types.value]


CASES = [(op, dtypes) for op in OPS.values() if op.name != "powi" for dtypes in signatures(op)]
GROUPS: dict[tuple[DType, ...], list[Op]] = {}
for _op, _dtypes in CASES:
    GROUPS.setdefault(_dtypes, []).append(_op)


@cache
def results(dtypes: tuple[DType, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each op on these argument dtypes: (what the CUDA code gives, what the reference gives)."""
    from backends.cuda import build
    from extract.schedule_cuda import cuda_plans

    size, index = SizeRef("N"), IndexRef("i")
    params = tuple(Param(f"a{n}", ArrayType(t, (size,))) for n, t in enumerate(dtypes))
    arrays = grid(len(dtypes), dtypes)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for ops in itertools.batched(GROUPS[dtypes], 16) if hasattr(itertools, "batched") else _batches(GROUPS[dtypes], 16):
        calls: dict[str, Call] = {}
        for op in ops:
            result = op.result(dtypes)
            assert result is not None
            calls[op.name] = Call(op.name, tuple(Load(p.name, (index,), p.type.dtype) for p in params), result)
        outputs = tuple(Param(f"out_{name}", ArrayType(e.dtype, (size,))) for name, e in calls.items())
        binder = (Binder("i", const(0, I64), size),)
        body = tuple(Assign(f"out_{name}", (index,), "=", e, binder) for name, e in calls.items())
        kernel = Kernel("ops", params, outputs, (), body, ("N",), ())
        run = build(cuda_plans(kernel, "cuda-on-cpu", {})[0], "cuda-on-cpu")
        given = run(*arrays)
        given = [given] if len(outputs) == 1 else given
        with np.errstate(all="ignore"):
            for (name, e), array in zip(calls.items(), given, strict=True):
                found[name] = (array, np.asarray(OPS[name].numpy(*arrays)).astype(e.dtype.numpy))
    return found


def _batches(ops: list[Op], size: int) -> list[list[Op]]:
    return [ops[n : n + size] for n in range(0, len(ops), size)]


@pytest.mark.parametrize(("op", "dtypes"), CASES, ids=[f"{op.name}-{'-'.join(map(str, dtypes))}" for op, dtypes in CASES])
def test_op_means_on_cuda_what_the_table_says(op: Op, dtypes: tuple[DType, ...]) -> None:
    given, expected = results(dtypes)[op.name]
    assert given.dtype == expected.dtype
    arrays = grid(len(dtypes), dtypes)
    if op.exact or not dtypes[0].is_float:
        same = (given == expected) | ((given != given) & (expected != expected))
        assert same.all(), [(*tuple(a[n] for a in arrays), given[n], expected[n]) for n in np.flatnonzero(~same)[:5]]
        return
    inside = np.ones(len(given), bool)
    if op.name in DOMAIN:
        low, high = DOMAIN[op.name]
        inside = np.logical_and.reduce([(a >= low) & (a <= high) for a in arrays])
    given, expected = given[inside], expected[inside]
    finite = np.isfinite(expected)
    assert (np.isnan(given) == np.isnan(expected))[~finite].all()
    assert (given[~finite & ~np.isnan(expected)] == expected[~finite & ~np.isnan(expected)]).all()
    # NumPy's own float64 functions are within one ulp of the truth.
    spacing = np.spacing(np.abs(expected[finite])) * (op.ulp + 1)
    error = np.abs(given[finite].astype(np.float64) - expected[finite].astype(np.float64))
    assert (error <= spacing).all(), [
        (*tuple(a[inside][finite][n] for a in arrays), given[finite][n], expected[finite][n]) for n in np.flatnonzero(error > spacing)[:5]
    ]


@pytest.mark.parametrize("exponent", [-3, -1, 0, 1, 2, 3, 5, 10])
def test_integer_powers_are_the_reference_s_bits(exponent: int) -> None:
    from backends.cuda import build
    from extract.schedule_cuda import cuda_plans

    size, index = SizeRef("N"), IndexRef("i")
    power = Call("powi", (Load("x", (index,), F32), const(exponent, I64)), F32)
    kernel = Kernel(
        "power", (Param("x", ArrayType(F32, (size,))),), (Param("y", ArrayType(F32, (size,))),), (),
        (Assign("y", (index,), "=", power, (Binder("i", const(0, I64), size),)),), ("N",), (),
    )  # fmt: skip
    x = sample(F32)
    y = build(cuda_plans(kernel, "cuda-on-cpu", {})[0], "cuda-on-cpu")(x)
    with np.errstate(all="ignore"):
        expected = OPS["powi"].numpy(x, exponent)
    assert ((y == expected) | (np.isnan(y) & np.isnan(expected))).all()


STORAGE = [t for t in DTYPES.values() if not t.is_arithmetic]


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_narrow_arrays_are_read_and_rounded_as_the_reference_does(dtype: DType) -> None:
    from backends.cuda import build
    from extract.schedule_cuda import cuda_plans
    from kernel_ir import meaning
    from kernel_ir.dtypes import reads_as

    size, index = SizeRef("N"), IndexRef("i")
    held = reads_as(dtype)
    value: Expr = Load("x", (index,), held)
    two: Const = const(2, held)
    body = Call("add", (Call("mul", (value, two), held), const(1, held)), held)
    kernel = Kernel(
        "narrow", (Param("x", ArrayType(dtype, (size,))),), (Param("y", ArrayType(dtype, (size,))),), (),
        (Assign("y", (index,), "=", body, (Binder("i", const(0, I64), size),)),), ("N",), (),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        x = meaning.store(sample(held), dtype)
        read = meaning.read(x, dtype)
        expected = meaning.store(read * read.dtype.type(2) + read.dtype.type(1), dtype)
    y = build(cuda_plans(kernel, "cuda-on-cpu", {})[0], "cuda-on-cpu")(x)
    assert y.dtype == expected.dtype
    assert np.array_equal(meaning.read(y, dtype), meaning.read(expected, dtype), equal_nan=dtype.is_float)

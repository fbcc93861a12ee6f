"""FPBench's real expressions as kernels: they evaluate to the published binary64 values, and stay as accurate when optimized."""

import functools
import json
from fractions import Fraction

import numpy as np
import pytest

import kernel_ir as kir
from kernel_ir.truth import truth
from tests.conftest import SHARED

FILES = ("fpcore_core.json", "fpcore_extended.json")
FUNCTIONS = {"fabs": "abs", "pow": "**", "neg": "-"}
KNOWN = {
    "sqrt",
    "exp",
    "log",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "cbrt",
    "hypot",
    "log1p",
    "log2",
}
KNOWN |= {"floor", "fma", "fmin", "fmax", "+", "-", "*", "/", "neg", "fabs", "pow", "if", "<", "<=", ">", ">=", "==", "or"}


@functools.cache
def cases():
    found = {}
    for name in FILES:
        path = SHARED / "data" / name
        if path.exists():
            found |= {c["id"]: c for c in json.loads(path.read_text("utf-8"))["cases"]}
    return found


def text(e, names):
    """An FPCore expression as KIR."""
    match e:
        case str():
            return f"{names[e]}[i]"
        case ["num", number]:
            return repr(float(Fraction(number)))
        case ["const", name]:
            return {"PI": "pi", "E": "e", "INFINITY": "inf", "NAN": "nan"}[name]
        case ["if", c, a, b]:
            return f"({text(a, names)} if {text(c, names)} else {text(b, names)})"
        case ["neg", a]:
            return f"(-({text(a, names)}))"
        case ["pow", a, b]:
            return f"(({text(a, names)}) ** ({text(b, names)}))"
        case [("+" | "-" | "*" | "/" | "<" | "<=" | ">" | ">=" | "==" | "or") as op, a, b]:
            return f"({text(a, names)} {op} {text(b, names)})"
        case [op, *args]:
            return f"{FUNCTIONS.get(op, op)}({', '.join(text(a, names) for a in args)})"
    raise AssertionError(e)


def kernel(case):
    if unknown := set(case["ops"]) - KNOWN:
        pytest.skip(f"the language has no {', '.join(sorted(unknown))}")
    names = {name: f"a{i}" for i, name in enumerate(case["args"])}
    params = ", ".join(f"{n}: f64[N]" for n in names.values())
    lines = []
    for name, value in case["lets"]:
        line = text(value, names)
        names[name] = f"t{len(lines)}"
        lines.append(f"{names[name]}[i] = {line} for i in 0..N")
    lines.append(f"r[i] = {text(case['expr'], names)}")
    body = "\n  ".join(lines)
    return kir.parse(f"kernel f({params}) -> (r: f64[N]) {{\n  {body}\n}}")["f"]


def inputs(case):
    return {f"a{i}": np.array([point[i] for point, _, _ in case["samples"]]) for i in range(len(case["args"]))}


def bound(k, case):
    """The running error bound of the kernel at the samples."""
    return truth(k, inputs(case), {"N": len(case["samples"])})["r"].bound


def close(value, wanted, allowed):
    with np.errstate(invalid="ignore"):
        return (
            (value == wanted) | (np.isnan(value) & np.isnan(wanted)) | (np.abs(value - wanted) <= allowed + 4 * np.spacing(np.abs(wanted)))
        )


needs_data = pytest.mark.skipif(not cases(), reason="../shared/data is not there: the public data are not part of the repository")


@needs_data
@pytest.mark.parametrize("name", cases())
def test_evaluates_as_published(name):
    case = cases()[name]
    k = kernel(case)
    plain, real = (np.array([sample[i] for sample in case["samples"]], float) for i in (1, 2))
    value = k(**inputs(case))
    assert close(value, plain, 2 * bound(k, case)).all()
    assert close(value, real, bound(k, case)).all()


@needs_data
@pytest.mark.parametrize("fast_math", ["none", "reassoc,contract,arcp"])
@pytest.mark.parametrize("name", cases())
def test_optimized_stays_accurate(name, fast_math):
    case = cases()[name]
    k = kernel(case)
    real = np.array([sample[2] for sample in case["samples"]], float)
    result = kir.optimize(k, target="cpu", fast_math=fast_math, sizes={"N": 4096})
    assert close(result.kernel(**inputs(case)), real, 2 * bound(k, case)).all()

"""Turns a Python or NumPy number into a scalar of a parameter's dtype, without silent loss."""

import math
from typing import Any

import numpy as np

from kernel_ir.arguments import is_any, kind_text
from kernel_ir.dtypes import DType
from kernel_ir.errors import ArgumentError
from kernel_ir.meaning import read, store


def scalar(name: str, dtype: DType, value: Any) -> Any:
    """The NumPy scalar of `dtype`; raises an ArgumentError where `value` has another kind or does not fit.

    Floats round to the dtype but must not overflow; an integer for a float must be exact in it; a bool is only a bool.

    >>> from kernel_ir.dtypes import F32, I32
    >>> scalar("a", F32, 0.5).dtype, int(scalar("n", I32, 7))
    (dtype('float32'), 7)
    """
    if type(value) is np.ndarray and value.ndim == 0:
        value = value[()]
    if type(value) is dtype.numpy.type and dtype.name != "bf16":
        return value
    if is_any(value, np.ndarray):
        raise ArgumentError(f"`{name}` is an array of rank {value.ndim}, and a number was expected: `{dtype}`", hint="pass one element")
    match dtype.kind:
        case "bool":
            return _bool(name, value)
        case "float":
            return _float(name, dtype, value)
        case _:
            return _integer(name, dtype, value)


def _bool(name: str, value: Any) -> Any:
    if is_any(value, bool, np.bool_):
        return np.bool_(value)
    raise _other(name, value, "bool", "pass True or False")


def _integer(name: str, dtype: DType, value: Any) -> Any:
    if is_any(value, bool) or not is_any(value, int, np.integer):
        raise _other(name, value, str(dtype), f"pass `int({name})` if that is meant")
    number = int(value)
    low, high = (0, 2**dtype.bits - 1) if dtype.kind == "uint" else (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1)
    if not low <= number <= high:
        raise ArgumentError(f"`{name}` is {number}, which does not fit {dtype} ({low} to {high})")
    return dtype.numpy.type(number)


def _float(name: str, dtype: DType, value: Any) -> Any:
    number_like = is_any(value, float, int, np.integer, np.floating) or type(value).__name__ == "bfloat16"
    if is_any(value, bool) or not number_like:
        raise _other(name, value, str(dtype), f"pass `float({name})` if that is meant")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    with np.errstate(over="ignore"):
        stored = store(np.float32(number) if dtype.bits < 64 else np.float64(number), dtype)[()]
    kept = float(read(stored, dtype))
    if is_any(value, int, np.integer) and kept != value:
        raise ArgumentError(f"`{name}` is the integer {value}, which is not exact in {dtype}", hint=f"pass `float({name})` to round it")
    if math.isinf(kept) and not math.isinf(number):
        raise ArgumentError(f"`{name}` is {number}, which overflows {dtype}")
    return stored


def _other(name: str, value: Any, expected: str, hint: str) -> ArgumentError:
    return ArgumentError(f"`{name}` is {kind_text(value)}, and {expected} was expected", hint=hint)

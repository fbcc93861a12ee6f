"""Turns one array or size of a call into what its parameter asks for.

Arrays must have the parameter's dtype, or one of its kind that widens to it without loss (i32 to i64, f32 to f64: a copy is made;
an `inout` array never widens). bf16 arrays come as uint16 bits or as ml_dtypes.bfloat16. What does not lie as the layout says is copied.
"""

from typing import Any, Final, Literal

import numpy as np

from kernel_ir.dtypes import DType
from kernel_ir.errors import ArgumentError
from kernel_ir.nodes import Param

Array = np.ndarray[Any, np.dtype[Any]]
MAX_SIZE: Final = 2**47 - 1
"""The greatest size of a call: user addresses have 47 bits, so no array is longer, and index arithmetic that is proved under this
limit does not wrap."""
_WIDEN: Final = {"b": "b", "i": "iu", "u": "u", "f": "f"}
"""Kinds of NumPy dtypes that may widen to each kind."""
_MEMORY: Final[dict[str, tuple[Literal["C", "F", "A"], ...]]] = {"rows": ("C", "A"), "cols": ("F", "A"), "any": ("A",)}
"""What NumPy calls each layout, and alignment."""


def fitted(p: Param, argument: Any) -> Array:
    """The argument as an array of the parameter's dtype, rank and layout; raises an ArgumentError where it has another kind."""
    name, dtype = p.name, p.type.dtype
    if not is_any(argument, np.ndarray):
        hint = f"pass `np.asarray({name}, {_numpy_name(dtype)})`"
        raise ArgumentError(f"`{name}` is {kind_text(argument)}, and an array was expected: `{type_text(p)}`", p.span, hint)
    array: Array = argument
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentError(f"`{name}` is a masked array, whose mask would be lost", p.span, f"pass `{name}.filled(…)`")
    if array.dtype.name == "bfloat16" and dtype.name == "bf16":
        array = array.view(np.uint16)
    if array.ndim != p.type.rank:
        raise ArgumentError(f"`{name}` has rank {array.ndim}, and rank {p.type.rank} was expected: `{type_text(p)}`", p.span)
    if array.dtype != dtype.numpy and (p.inout or not _widens(array.dtype, dtype)):
        hint = f"convert it: `{name}.astype({_numpy_name(dtype)})`"
        raise ArgumentError(f"`{name}` holds {array.dtype}, and {dtype} was expected", p.span, hint)
    return np.require(array, dtype.numpy, _MEMORY[p.type.layout])


def is_any(value: object, *types: type) -> bool:
    """`isinstance` that narrows no type: NumPy's are generic, and narrowing leaves their parameters unknown."""
    return isinstance(value, types)


def _widens(given: np.dtype[Any], dtype: DType) -> bool:
    wanted = dtype.numpy
    return dtype.name != "bf16" and given.kind in _WIDEN[wanted.kind] and np.can_cast(given, wanted, "safe")


def size(name: str, value: Any) -> int:
    """A size given by name, as an int."""
    if is_any(value, bool) or not is_any(value, int, np.integer):
        raise ArgumentError(f"the size `{name}` is {kind_text(value)}, and an integer was expected", hint=f"pass `{name}=…` as an int")
    if not 0 <= int(value) <= MAX_SIZE:
        raise ArgumentError(f"the size `{name}` is {value}, and 0 to {MAX_SIZE} was expected")
    return int(value)


def type_text(p: Param) -> str:
    """A parameter's type as the language writes it."""
    from kernel_ir.printer import expr_text

    shape = ", ".join(map(expr_text, p.type.shape))
    return f"{p.type.dtype}[{shape}]" if shape else str(p.type.dtype)


def kind_text(value: object) -> str:
    """`a list`, `an int`, `None`."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _numpy_name(dtype: DType) -> str:
    return f"np.{dtype.numpy.name}"

"""The dtype table: each type of the language, how it is stored, and which arithmetic type holds it."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Kind = Literal["bool", "int", "uint", "float"]


@dataclass(frozen=True, slots=True)
class DType:
    """One type.

    `reads_as` names the arithmetic type that a read gives (itself for arithmetic types); `numpy` the NumPy
    dtype of arrays that store it (bf16 has none: its bits travel as uint16); `digits` the bits of a float's significand,
    the hidden one counted.
    """

    name: str
    kind: Kind
    bits: int
    reads_as: str
    numpy: np.dtype[np.generic]
    digits: int = 0

    @property
    def is_arithmetic(self) -> bool:
        """Whether expressions can have this type."""
        return self.reads_as == self.name

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        """Whether it is an integer type, signed or not (bool is not)."""
        return self.kind in ("int", "uint")

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name.upper()

    def __reduce__(self) -> str:
        return repr(self)  # the name of the constant: types are compared by identity, in every process


BOOL: Final = DType("bool", "bool", 8, "bool", np.dtype(np.bool_))
I32: Final = DType("i32", "int", 32, "i32", np.dtype(np.int32))
I64: Final = DType("i64", "int", 64, "i64", np.dtype(np.int64))
F32: Final = DType("f32", "float", 32, "f32", np.dtype(np.float32), 24)
F64: Final = DType("f64", "float", 64, "f64", np.dtype(np.float64), 53)
I8: Final = DType("i8", "int", 8, "i32", np.dtype(np.int8))
I16: Final = DType("i16", "int", 16, "i32", np.dtype(np.int16))
U8: Final = DType("u8", "uint", 8, "i32", np.dtype(np.uint8))
U16: Final = DType("u16", "uint", 16, "i32", np.dtype(np.uint16))
U32: Final = DType("u32", "uint", 32, "i64", np.dtype(np.uint32))
U64: Final = DType("u64", "uint", 64, "i64", np.dtype(np.uint64))
F16: Final = DType("f16", "float", 16, "f32", np.dtype(np.float16), 11)
BF16: Final = DType("bf16", "float", 16, "f32", np.dtype(np.uint16), 8)

ARITHMETIC: Final = (BOOL, I32, I64, F32, F64)
STORAGE: Final = (I8, I16, U8, U16, U32, U64, F16, BF16)
DTYPES: Final[dict[str, DType]] = {t.name: t for t in (*ARITHMETIC, *STORAGE)}


def reads_as(dtype: DType) -> DType:
    """The arithmetic type that a read of `dtype` gives.

    >>> reads_as(F16), reads_as(U8), reads_as(U64), reads_as(F64)
    (F32, I32, I64, F64)
    """
    return DTYPES[dtype.reads_as]

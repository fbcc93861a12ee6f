"""Turns plan expressions into Python text that numba types exactly: i32 stays i32, no index wraps around, branches guard as written."""

from collections.abc import Mapping
from typing import Final

from backends.vector_math import HELPERS, VECTOR
from kernel_ir.dtypes import BOOL, F32, F64, I32, I64, DType
from kernel_ir.nodes import Call, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef
from kernel_ir.ops import OPS
from kernel_ir.plan import Buffer
from kernel_ir.walk import subtrees

BINARY: Final = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "band": "&", "bor": "|", "bxor": "^",
}  # fmt: skip
NUMPY: Final = {"floor": "np.floor", "ceil": "np.ceil", "trunc": "np.trunc", "round": "np.rint", "sqrt": "math.sqrt"}
MATH: Final = {"cbrt", "exp2", "expm1", "log2", "log10", "log1p", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan",
               "atan2", "sinh", "cosh", "tanh", "erf", "pow", "hypot"}  # fmt: skip
SMALL_INTEGERS: Final = ("i8", "i16", "u8", "u16", "u32", "u64")


class Expressions:
    """Prints expressions, and notes which helper functions they use."""

    def __init__(self, buffers: Mapping[str, Buffer], flags: frozenset[str], safe: frozenset[str] = frozenset()) -> None:
        self.buffers = buffers
        self.flags = flags
        self.used: set[str] = set()
        self.from_zero: set[str] = set(safe)
        self.flat: dict[str, None] = {}
        """Arrays that are also read or written through `<name>_flat`, a view of one dimension."""

    def helper(self, name: str) -> str:
        """The helper's name, noted as used."""
        assert name in HELPERS, name
        self.used.add(name)
        return name

    def text(self, e: Expr) -> str:
        """`e` as Python, without outer parentheses."""
        printed = self.inner(e)
        return printed[1:-1] if printed.startswith("(") and _closes_last(printed) else printed

    def inner(self, e: Expr) -> str:
        """`e` as Python, in parentheses where it is an operation."""
        match e:
            case Const():
                return constant(e)
            case SizeRef(name) | IndexRef(name) | ParamRef(name) | Local(name):
                return name
            case Load():
                return self.load(e)
            case Call():
                return self.call(e)
            case Reduce() | Fold():
                raise AssertionError("a reduction is a loop by now")

    def load(self, e: Load) -> str:
        """A read, with its test where it has an `else`."""
        buffer = self.buffers[e.array]
        read = self.reading(self.element(e.array, e.indices), buffer.dtype)
        if e.default is None:
            return read
        tests = [f"0 <= {self.inner(i)} and {self.inner(i)} < {self.inner(n)}" for i, n in zip(e.indices, buffer.shape, strict=True)]
        return f"({read} if {' and '.join(tests)} else {self.inner(e.default)})"

    def element(self, array: str, indices: tuple[Expr, ...]) -> str:
        """An element as it is read or assigned. Fields of a structure (constants along the last dimension, whose extent is one) are
        found by their distance from the array's start: LLVM then knows their stride, and loads whole vectors of structures."""
        order = self.buffers[array].order
        fields = len(indices) > 1 and isinstance(indices[order[-1]], Const) and isinstance(self.buffers[array].shape[order[-1]], Const)
        if not fields:
            return f"{array}[{self.subscript(array, indices)}]"
        self.flat[array] = None
        slowest, *faster = order
        at = self.inner(indices[slowest])
        for n, d in enumerate(faster, 1):
            extent = self.buffers[array].shape[d]
            at = f"({at} * {self.inner(extent) if isinstance(extent, Const) else f'{array}.shape[{n}]'} + {self.inner(indices[d])})"
        return f"{array}_flat[uint64{at}]"

    def subscript(self, array: str, indices: tuple[Expr, ...]) -> str:
        """Indices in memory order; unsigned where numba could not see that they are not negative."""
        buffer = self.buffers[array]
        if not indices:
            return "0"  # a scalar travels as an array of one element: numba's threads would copy one of rank 0
        return ", ".join(self._index(indices[d]) for d in buffer.order)

    def _index(self, e: Expr) -> str:
        if isinstance(e, Const) or (isinstance(e, IndexRef) and e.name in self.from_zero):
            return self.text(e)
        return f"uint64({self.text(e)})"

    def reading(self, text: str, dtype: DType) -> str:
        """A stored element as the arithmetic type that holds it."""
        match dtype.name:
            case "f16" | "bf16":
                return f"{self.helper('from_' + dtype.name)}({text})"
            case "i8" | "i16" | "u8" | "u16":
                return f"int32({text})"
            case "u32" | "u64":
                return f"int64({text})"
            case _:
                return text

    def writing(self, e: Expr, dtype: DType) -> str:
        """A value as it is stored."""
        if isinstance(e, Call) and e.op == dtype.name and not dtype.is_arithmetic and e.args[0].dtype.is_float == dtype.is_float:
            e = e.args[0]  # the store rounds by itself
        match dtype.name:
            case "f16" | "bf16":
                name = f"{dtype.name}_of_f64" if e.dtype is F64 else f"to_{dtype.name}"
                return f"{self.helper(name)}({self.text(e)})"
            case name if name in SMALL_INTEGERS:
                return f"{_numba_type(dtype)}({self.text(e)})"
            case _:
                return self.text(e)

    def call(self, e: Call) -> str:
        op, args, dtype = e.op, e.args, e.dtype
        match op:
            case "select":
                c, a, b = (self.inner(x) for x in args)
                return f"({a} if {c} else {b})"
            case "and" if (inside := _within(e)) is not None:
                x, extent = inside
                return f"(uint64({self.text(x)}) < uint64({self.text(extent)}))"
            case "and" | "or":
                plain = not any(isinstance(x, Load) for x in subtrees(args[1]))  # without a guarded load, no branch
                word = {"and": "&", "or": "|"}[op] if plain else op
                return f"({self.inner(args[0])} {word} {self.inner(args[1])})"
            case "not":
                return f"(not {self.inner(args[0])})"
            case "neg":
                return self._wrapped(f"-{self.inner(args[0])}", dtype)
            case "bnot":
                return self._wrapped(f"~{self.inner(args[0])}", dtype)
            case "powi":
                return self.power(args[0], args[1], dtype)
            case "abs":
                return self._wrapped(f"abs({self.text(args[0])})", dtype)
            case "min" | "max":
                if dtype.is_float:
                    return f"{self.helper(op + '_nan')}({self.text(args[0])}, {self.text(args[1])})"
                return f"{_numba_type(dtype)}({op}({self.text(args[0])}, {self.text(args[1])}))"
            case "fmin" | "fmax" | "fma":
                return f"{self.helper(op)}({', '.join(self.text(a) for a in args)})"
            case "floordiv" | "mod" | "sign":
                return self._called(self.helper(f"{op}_{'float' if dtype.is_float else 'int'}"), args, dtype)
            case "shl" | "shr":
                return self._called(self.helper(f"{op}_{dtype.name}"), args, dtype)
            case "rsqrt":
                return f"({constant_text(1.0, dtype)} / math.sqrt({self.text(args[0])}))"
            case _ if op in BINARY:
                return self._wrapped(f"{self.inner(args[0])} {BINARY[op]} {self.inner(args[1])}", dtype)
            case _ if op in NUMPY:
                return f"{NUMPY[op]}({self.text(args[0])})"
            case _ if op in MATH:
                return self.function(op, args, dtype)
            case _:
                return self.cast(e)

    def function(self, op: str, args: tuple[Expr, ...], dtype: DType) -> str:
        """A float function: ours where it vectorises, else the C library's (in f64 where numba has no f32 form)."""
        name = VECTOR.get((op, dtype.name))
        printed = ", ".join(self.text(a) for a in args)
        if name is not None:
            return f"{self.helper(name)}({printed})"
        if op == "cbrt":
            return self._called("np.cbrt", args, dtype)
        if op == "exp2":
            return self._called("np.exp2", args, dtype)
        return f"{_numba_type(dtype)}(math.{op}({printed}))" if dtype is F32 else f"math.{op}({printed})"

    def power(self, base: Expr, exponent: Expr, dtype: DType) -> str:
        """A constant integer power by squaring, in the reference's order."""
        assert isinstance(exponent, Const)
        n = int(exponent.value)
        name = self.inner(base)

        def product(k: int) -> str:
            if k == 1:
                return name
            half = product(k // 2)
            square = self._wrapped(f"{half} * {half}", dtype)
            return self._wrapped(f"{square} * {name}", dtype) if k % 2 else square

        if n == 0:
            return constant_text(1, dtype)
        if n < 0:
            return f"({constant_text(1.0, dtype)} / {product(-n)})"
        return product(n)

    def cast(self, e: Call) -> str:
        (a,) = e.args
        target = OPS[e.op].cast
        assert target is not None, e.op
        source, text = a.dtype, self.text(a)
        if target == source:
            return self.inner(a)
        match target.name:
            case "bool":
                return f"({self.inner(a)} != {constant_text(0, source)})"
            case "f16" | "bf16":
                narrow = text if source is F32 else f"float32({text})"
                wide = f"{target.name}_of_f64" if source is F64 else ""
                stored = f"{self.helper(wide)}({text})" if wide else f"{self.helper('to_' + target.name)}({narrow})"
                return f"{self.helper('from_' + target.name)}({stored})"
            case "f32" | "f64":
                return f"{_numba_type(target)}({text})"
            case _:
                held = e.dtype
                whole = f"{self.helper('whole_' + held.name)}({text})" if source.is_float else text
                narrowed = whole if target == held else f"{_numba_type(target)}({whole})"
                return f"{_numba_type(held)}({narrowed})"

    def _called(self, name: str, args: tuple[Expr, ...], dtype: DType) -> str:
        printed = f"{name}({', '.join(self.text(a) for a in args)})"
        return f"int32({printed})" if dtype is I32 else printed

    def _wrapped(self, text: str, dtype: DType) -> str:
        """numba computes i32 in i64: cut it back."""
        return f"int32({text})" if dtype is I32 else f"({text})"


def constant(e: Const) -> str:
    """A constant of exactly its type."""
    return constant_text(e.value, e.dtype)


def _within(e: Call) -> tuple[Expr, SizeRef] | None:
    """What a condition on data holds to be at least 0 and less than a size: of unsigned numbers, one comparison."""
    match e.args:
        case (Call("le", (Const(0), x)), Call("lt", (y, SizeRef() as extent))) if x.dtype.is_int and not isinstance(x, IndexRef):
            wide = Call("i64", (x,), I64)
            return (y, extent) if y in (x, wide) and y.dtype == I64 else None
        case _:
            return None


def constant_text(value: bool | int | float, dtype: DType) -> str:
    if dtype is BOOL:
        return str(bool(value))
    if dtype.is_float:
        number = float(value)
        special = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(repr(number))
        text = special or repr(number)
        return f"float32({text})" if dtype is F32 else (f"({text})" if text.startswith("-") else text)
    text = str(int(value))
    if int(value) == -(2**63):
        text = "-9223372036854775807 - 1"
    if dtype is I64:
        return f"({text})" if text.startswith("-") else text
    return f"int32({text})"


def _numba_type(dtype: DType) -> str:
    names = {"bool": "bool", "i": "int", "u": "uint", "f": "float"}
    return "bool" if dtype is BOOL else f"{names[dtype.name[0]]}{dtype.bits}"


def numba_type(dtype: DType) -> str:
    """The numba name of an arithmetic or integer storage type."""
    return _numba_type(dtype)


def _closes_last(text: str) -> bool:
    """Whether the parenthesis that opens the text is the one that ends it."""
    depth = 0
    for n, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return n == len(text) - 1
    return False

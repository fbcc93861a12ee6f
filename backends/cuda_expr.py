"""A core expression inside a CUDA kernel becomes numba.cuda source text of exactly its meaning and type.

Integer expressions of sizes and indices have three readings: exact in the unsigned `index` type (32 bits where the sizes allow, else
64) if they are seen not to be negative; modulo its width, which is enough for an address; or signed 64-bit, always right and slower.
"""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from backends.cuda_prelude import helper_name
from extract.intervals import Ranges, greatest, nonnegative
from kernel_ir.dtypes import BOOL, DTYPES, F32, F64, I32, I64, DType, reads_as
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, Local, ParamRef, SizeRef, const
from kernel_ir.ops import OPS
from kernel_ir.plan import Buffer

TYPES: Final = {"bool": "boolean", "i32": "int32", "i64": "int64", "f32": "float32", "f64": "float64"}
"""numba's name of each arithmetic type."""
STORED: Final = {
    **TYPES, "i8": "int8", "i16": "int16",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "f16": "float16", "bf16": "uint16",
}  # fmt: skip
"""numba's name of the elements of an array of each storage type."""
_COMPARE: Final = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_INFIX: Final = {"add": "+", "sub": "-", "mul": "*", "band": "&", "bor": "|", "bxor": "^"}
_MATH: Final = {
    "sqrt": "math.sqrt", "exp": "math.exp", "expm1": "math.expm1", "log": "math.log", "log2": "math.log2", "log10": "math.log10",
    "log1p": "math.log1p", "sin": "math.sin", "cos": "math.cos", "tan": "math.tan", "asin": "math.asin", "acos": "math.acos",
    "atan": "math.atan", "atan2": "math.atan2", "sinh": "math.sinh", "cosh": "math.cosh", "tanh": "math.tanh", "erf": "math.erf",
    "pow": "math.pow", "hypot": "math.hypot", "fma": "cuda.fma",
}  # fmt: skip
_LIBDEVICE: Final = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint", "rsqrt": "rsqrt", "cbrt": "cbrt", "exp2": "exp2"}
_HELPED: Final = {
    ("max", "float"): "maximum", ("min", "float"): "minimum", ("fmax", "float"): "fmaximum", ("fmin", "float"): "fminimum",
    ("sign", "float"): "sign", ("sign", "int"): "sign", ("floordiv", "int"): "floordiv", ("mod", "int"): "mod",
    ("floordiv", "float"): "float_floordiv", ("mod", "float"): "float_mod", ("shl", "int"): "shl", ("shr", "int"): "shr",
}  # fmt: skip


class Expressions:
    """Prints expressions, and notes what they need: helpers, and bounds that must fit the `index` type.

    `wide` names the indices whose variable is a signed int64; all others are of type `index`. `ranges` bounds the indices in scope.
    `parts` gives the text of elements that are held by the thread: places that wide loads and stores move.
    """

    def __init__(self, buffers: Mapping[str, Buffer], contract: bool, names: Mapping[str, str]) -> None:
        self.buffers = buffers
        self.contract = contract
        self.names = names
        self.wide: set[str] = set()
        self.ranges: Ranges = {}
        self.helpers: set[str] = set()
        self.bounds: dict[Expr, None] = {}
        self.flat: tuple[str, tuple[tuple[str, Expr], ...]] | None = None
        self.parts: dict[tuple[str, tuple[Expr, ...]], str] = {}

    def name(self, name: str) -> str:
        """The Python name of an array, scalar, size or index."""
        return self.names.get(name, name)

    # -- values

    def text(self, e: Expr) -> str:
        """The value of `e`, of numba's type for its dtype (an i64 may stand in the `index` type inside comparisons only)."""
        match e:
            case Const():
                return constant(e)
            case SizeRef() | IndexRef():
                return self.signed(e)
            case ParamRef() | Local():
                return self.name(e.name)
            case Load():
                return self._load(e)
            case Call():
                return self.signed(e) if e.dtype is I64 else self._call(e)
            case _:
                raise TargetError(f"a plan for CUDA holds an unscheduled {type(e).__name__.lower()}", e.span)

    def _load(self, e: Load) -> str:
        part = self.parts.get((e.array, e.indices))
        read = self.element(e.array, part or f"{self.name(e.array)}[{self.place(e.array, e.indices)}]")
        if e.default is None:
            return read
        inside = " and ".join(c for c in map(self._inside, e.indices, self.buffers[e.array].shape) if c)
        return f"({read} if {inside} else {self.text(e.default)})" if inside else read

    def element(self, array: str, text: str) -> str:
        """An element of an array as its arithmetic type."""
        dtype = self.buffers[array].dtype
        if dtype.name == "bf16":
            return self.helper("from_bf16", text)
        return text if dtype.is_arithmetic else f"{TYPES[dtype.reads_as]}({text})"

    def stored(self, value: Expr, dtype: DType) -> str:
        """A value rounded or wrapped for an array of `dtype`."""
        text = self.text(value)
        if dtype.name == "bf16":
            return self.helper("to_bf16", text if value.dtype is F32 else f"float32({text})")
        return text if dtype.is_arithmetic else f"{STORED[dtype.name]}({text})"

    def helper(self, helper: str, *arguments: str) -> str:
        """A call of a function of the prelude."""
        self.helpers.add(helper)
        return f"{helper}({', '.join(arguments)})"

    def _call(self, e: Call) -> str:
        op, args = e.op, e.args
        match op:
            case "select":
                return f"({self.text(args[1])} if {self.text(args[0])} else {self.text(args[2])})"
            case "and" | "or":
                return f"({self.text(args[0])} {op} {self.text(args[1])})"
            case "not":
                return f"(not {self.text(args[0])})"
            case "powi":
                return self._power(e)
            case _ if op in _COMPARE:
                return self._comparison(op, *args)
            case _ if OPS[op].cast is not None:
                return self._cast(args[0], DTYPES[op])
            case _:
                return self._arithmetic(e)

    def _arithmetic(self, e: Call) -> str:
        kind = TYPES[e.dtype.name]
        args = [self.text(a) for a in e.args]
        is_float = e.dtype.is_float
        helper = _HELPED.get((e.op, "float" if is_float else "int"))
        if helper is not None:
            plain = self._by_constant(e, args)
            return plain or self.helper(helper_name(helper, kind), *args)
        if e.op == "mul" and is_float and not self.contract:
            # NVVM and ptxas may fuse a plain product into a later sum; this one they may not.
            return f"libdevice.{'fmul_rn' if e.dtype is F32 else 'dmul_rn'}({args[0]}, {args[1]})"
        suffix = "f" if e.dtype is F32 else ""
        match e.op:
            case "neg" | "bnot":
                text = f"{'-' if e.op == 'neg' else '~'}{args[0]}"
            case "abs":
                text = f"libdevice.fabs{suffix}({args[0]})" if is_float else f"abs({args[0]})"
            case "div":
                text = f"{args[0]} / {args[1]}"
            case "min" | "max":
                text = f"{e.op}({args[0]}, {args[1]})"
            case op if op in _INFIX:
                text = f"{args[0]} {_INFIX[op]} {args[1]}"
            case op if op in _LIBDEVICE:
                return f"libdevice.{_LIBDEVICE[op]}{suffix}({args[0]})"
            case op if op in _MATH:
                return f"{_MATH[op]}({', '.join(args)})"
            case op:
                raise TargetError(f"the CUDA backend has no code for {op}", e.span)
        return f"int32({text})" if e.dtype is I32 else f"({text})"

    def _by_constant(self, e: Call, args: list[str]) -> str | None:
        """Integer division, modulus and shifts by a constant need no care for 0 and -1, or for too long a shift."""
        right = e.args[-1]
        if e.dtype.is_float or len(args) != 2 or not isinstance(right, Const):
            return None
        kind, value = TYPES[e.dtype.name], int(right.value)
        if e.op in ("floordiv", "mod") and value not in (0, -1):
            return f"{kind}({args[0]} {'//' if e.op == 'floordiv' else '%'} {args[1]})"
        if e.op in ("shl", "shr") and 0 <= value < e.dtype.bits:
            return f"{kind}({args[0]} {'<<' if e.op == 'shl' else '>>'} {args[1]})"
        return None

    def _power(self, e: Call) -> str:
        exponent = e.args[1]
        if not isinstance(exponent, Const):
            raise TargetError("the exponent of an integer power must be a constant", e.span)
        n = int(exponent.value)
        base = self.text(e.args[0])
        return base if n == 1 else self.helper(helper_name(f"power{str(n).replace('-', 'm')}", TYPES[e.dtype.name]), base)

    def _comparison(self, op: str, a: Expr, b: Expr) -> str:
        if a.dtype is I64 and (exact := (self.exact(a), self.exact(b))) and None not in exact:
            return f"({exact[0]} {_COMPARE[op]} {exact[1]})"
        return f"({self.text(a)} {_COMPARE[op]} {self.text(b)})"

    def _cast(self, value: Expr, target: DType) -> str:
        held = reads_as(target)
        exact = self.exact(value) if target.is_float else None
        text = exact or self.text(value)
        if target is BOOL:
            return text if value.dtype is BOOL else f"({text} != {constant(const(0, value.dtype))})"
        if value.dtype is target:
            return text
        if target.is_int:
            whole = text
            if value.dtype.is_float:
                whole = self.helper(helper_name(f"to_{TYPES[held.name]}", TYPES[value.dtype.name]), text)
            narrow = whole if target.is_arithmetic else f"{STORED[target.name]}({whole})"
            return f"{TYPES[held.name]}({narrow})"
        if target.name == "bf16":
            return self.helper("from_bf16", self.helper("to_bf16", text if value.dtype is F32 else f"float32({text})"))
        if target.name == "f16":
            return f"float32(float16({text if value.dtype in (F32, F64) else f'float64({text})'}))"
        return f"{TYPES[target.name]}({text})"

    # -- integers

    def exact(self, e: Expr) -> str | None:
        """The value in the `index` type, where it is seen not to be negative and its bound can be checked at a launch."""
        if e.dtype is not I64 or not nonnegative(e, self.ranges) or self._wide_inside(e):
            return None
        match e:
            case Const():
                return f"index({int(e.value)})"
            case SizeRef() | IndexRef():
                return self.name(e.name)
            case Call("add" | "mul" | "min" | "max" | "floordiv" | "mod", (a, b)):
                x, y = self.exact(a), self.exact(b)
                bound = greatest(e, self.ranges)
                if x is None or y is None or bound is None:
                    return None
                self.bounds[bound] = None
                return _index_text(e.op, x, y, b)
            case _:
                return None

    def _wide_inside(self, e: Expr) -> bool:
        return isinstance(e, IndexRef) and (e.name in self.wide or e.name not in self.ranges)

    def address(self, e: Expr) -> str:
        """The value modulo the width of the `index` type."""
        if (exact := self.exact(e)) is not None:
            return exact
        match e:
            case Call("add" | "sub" | "mul", (a, b)):
                return f"index({self.address(a)} {_INFIX[e.op]} {self.address(b)})"
            case _:
                return f"index({self.signed(e)})"

    def signed(self, e: Expr) -> str:
        """The value of an i64 expression as int64."""
        if isinstance(e, Const):
            return constant(e)
        if (exact := self.exact(e)) is not None:
            return f"int64({exact})"
        match e:
            case SizeRef():
                return f"int64({self.name(e.name)})"
            case IndexRef() | Local() | ParamRef():
                return self.name(e.name)
            case Load():
                return self._load(e)
            case Call(op, _) if op in ("select", "powi") or OPS[op].cast is not None:
                return self._call(e)
            case Call():
                return self._arithmetic(e)
            case _:
                return self.text(e)

    def place(self, array: str, indices: tuple[Expr, ...]) -> str:
        """The flat position of an element, in the `index` type."""
        buffer = self.buffers[array]
        if not indices:
            return "index(0)"
        if self._is_flat(buffer, indices):
            assert self.flat is not None
            return self.flat[0]
        first, *rest = buffer.order
        position = self.address(indices[first])
        for d in rest:
            position = f"index({position} * {self.address(buffer.shape[d])} + {self.address(indices[d])})"
        return position

    def _is_flat(self, buffer: Buffer, indices: tuple[Expr, ...]) -> bool:
        """Whether the element is the thread's own number: the grid runs over just these indices and extents."""
        if self.flat is None or len(indices) != len(self.flat[1]) or len(indices) < 2:
            return False
        ordered = [(indices[d], buffer.shape[d]) for d in buffer.order]
        same = all(index == IndexRef(name) for (index, _), (name, _) in zip(ordered, self.flat[1], strict=True))
        return same and all(shape == extent for (_, shape), (_, extent) in zip(ordered[1:], self.flat[1][1:], strict=True))

    def _inside(self, index: Expr, extent: Expr) -> str:
        """The test that an index lies inside a dimension; empty where it is seen to."""
        end = self.address(extent)
        match index:
            case IndexRef(name) if name in self.ranges and nonnegative(index, self.ranges):
                last = self.ranges[name][1]
                if last == Call("sub", (extent, const(1, I64)), I64):
                    return ""
            case Call("add" | "sub", (i, Const(bits))) if self.exact(i) is not None and abs(bits) < 1 << 20:
                # A negative index wraps to far above every extent: one unsigned test does for both ends.
                return f"{self.address(index)} < {end}"
            case _:
                pass
        if (exact := self.exact(index)) is not None:
            return f"{exact} < {end}"
        text = self.signed(index)
        return f"0 <= {text} and {text} < int64({end})"


def _index_text(op: str, x: str, y: str, right: Expr) -> str | None:
    if op in ("min", "max"):
        return f"{op}({x}, {y})"
    if op in ("add", "mul"):
        return f"index({x} {_INFIX[op]} {y})"
    sign = "//" if op == "floordiv" else "%"
    if isinstance(right, Const):
        return f"index({x} {sign} {y})" if int(right.value) else "index(0)"
    return f"(index({x} {sign} {y}) if {y} != index(0) else index(0))"


def constant(e: Const) -> str:
    """A constant of exactly its value and type.

    >>> constant(const(0.1, F32)), constant(const(-0.0, F64)), constant(const(3, I32)), constant(const(7, I64))
    ('float32(0.1)', '-0.0', 'int32(3)', '7')
    """
    value = e.value
    if not e.dtype.is_float:
        return str(value) if e.dtype in (BOOL, I64) else f"int32({value})"
    number = float(value)
    if not math.isfinite(number):
        text = "math.nan" if math.isnan(number) else ("math.inf" if number > 0 else "-math.inf")
    else:
        text = repr(number)
        if e.dtype is F32:
            short = str(np.float32(number))
            text = short if float(np.float32(float(short))) == number and ("." in short or "e" in short) else text
    return f"float32({text})" if e.dtype is F32 else text

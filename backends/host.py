"""Turns what runs on the host into Python text: integer expressions over sizes, and the sizes read off the shapes of arrays."""

from collections.abc import Callable, Sequence
from typing import Final

from kernel_ir.dtypes import BOOL, I64, DType, reads_as
from kernel_ir.errors import TargetError
from kernel_ir.nodes import Call, Const, Expr, IndexRef, Kernel, ParamRef, SizeRef, const
from kernel_ir.shapes import Step, open_sizes, solution
from kernel_ir.walk import map_children

_PYTHON: Final = {
    "add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
Named = Callable[[str], str]


def host_text(e: Expr, named: Named = str) -> str:
    """An integer expression over sizes and parameters, in Python's own integers; `named` gives the Python name of each.

    >>> n = SizeRef("N")
    >>> host_text(Call("mul", (const(2, I64), Call("floordiv", (n, const(4, I64)), I64)), I64))
    '(2 * (N // 4))'

    Raises TargetError where it depends on more.
    """
    match e:
        case Const():
            return str(int(e.value))
        case SizeRef(name) | IndexRef(name):
            return named(name)
        case ParamRef(name):
            return f"int({named(name)})"
        case Call("min" | "max" as op, (a, b)):
            return f"{op}({host_text(a, named)}, {host_text(b, named)})"
        case Call("add" | "sub" | "mul" as op, (a, b)):
            return f"({host_text(a, named)} {_PYTHON[op]} {host_text(b, named)})"
        case Call("floordiv" | "mod" as op, (a, b)):
            quotient, divisor = f"{host_text(a, named)} {_PYTHON[op]} {host_text(b, named)}", host_text(b, named)
            return f"({quotient})" if _positive(divisor) else f"({quotient} if {divisor} else 0)"
        case Call("neg", (a,)):
            return f"(-{host_text(a, named)})"
        case Call("i64" | "i32", (a,)) if a.dtype.is_int:
            return host_text(a, named)
        case Call("select", (c, a, b)):
            return f"({host_text(a, named)} if {host_text(c, named)} else {host_text(b, named)})"
        case Call("lt" | "le" | "gt" | "ge" | "eq" | "ne" as op, (a, b)) if a.dtype is I64:
            return f"({host_text(a, named)} {_PYTHON[op]} {host_text(b, named)})"
        case _:
            raise TargetError("the number of points or steps depends on more than sizes and parameters", getattr(e, "span", None))


def size_lines(kernel: Kernel, named: Named = str) -> list[str]:
    """Assignments that read the sizes off the shapes, those that a call gives by name (`shapes.open_sizes`) being there already; one that
    it may give (`shapes.optional_sizes`) is None where it did not."""
    lines: list[str] = []
    for step in solution(kernel, frozenset(open_sizes(kernel))).steps:
        name, text = named(step.size), _size_text(kernel, step, named)
        lines.append(f"{name} = {text}" if step.certain else f"{name} = ({text}) if {name} is None else {name}")
    return lines


def _size_text(kernel: Kernel, step: Step, named: Named) -> str:
    """The text that reads a size from a shape: `extent == slope * size + rest`."""
    shape = f"{named(step.array)}.shape[{step.dim}]"
    if step.plain:
        return shape
    extent = next(p for p in kernel.params if p.name == step.array).type.shape[step.dim]
    rest = _at_size(extent, step.size, 0)
    slope = _at_size(Call("sub", (extent, rest), I64), step.size, 1)
    left = shape if rest == const(0, I64) else f"({shape} - {host_text(rest, named)})"
    divisor = host_text(slope, named)
    if divisor == "1":
        return left
    return f"{left} // {divisor}" if _positive(divisor) else f"{left} // {divisor} if {divisor} else 0"


def _positive(text: str) -> bool:
    return text.isdigit() and text != "0"


def _at_size(e: Expr, name: str, value: int) -> Expr:
    """The expression with a size replaced by 0 or 1, and what that makes trivial left out."""
    if isinstance(e, SizeRef) and e.name == name:
        return const(value, I64)
    e = map_children(lambda child: _at_size(child, name, value), e)
    zero, one = const(0, I64), const(1, I64)
    match e:
        case Call("mul", (a, b)) if zero in (a, b):
            return zero
        case Call("mul", (a, b)) if one in (a, b):
            return b if a == one else a
        case Call("add", (a, b)) if zero in (a, b):
            return b if a == zero else a
        case Call("sub", (a, b)) if b == zero:
            return a
        case Call("sub", (a, b)) if a == b:
            return zero
        case Call("add" | "sub" as op, (Const() as a, Const() as b)):
            return const(int(a.value) + int(b.value) * (1 if op == "add" else -1), I64)
        case _:
            return e


_AS_BF16: Final = (
    "(lambda x: x if x != x else "
    "np.uint32(int(x.view(np.uint32)) + 0x7FFF + (int(x.view(np.uint32)) >> 16 & 1) & 0xFFFF0000).view(np.float32))"
)
"""Rounds a float32 to the nearest bfloat16, ties to even: half of what is cut off is added to the bits, NaN apart."""


def scalar_text(name: str, dtype: DType) -> str:
    """A scalar argument, from a NumPy scalar or a Python number, as its arithmetic type."""
    if dtype is BOOL:
        return f"bool({name})"
    held = reads_as(dtype)
    if dtype.name == "bf16":
        return f"{_AS_BF16}(np.float32({name}))"
    narrow = name if held == dtype else f"np.{dtype.numpy.name}({name})"
    return f"np.{held.numpy.name}({narrow})"


def stored_type(dtype: DType) -> str:
    """The NumPy type in which arrays of a dtype are stored, as text."""
    return "np.bool_" if dtype is BOOL else f"np.{dtype.numpy.name}"


def turned(text: str, order: tuple[int, ...]) -> str:
    """An array's text with its dimensions in memory order."""
    return text if order == tuple(range(len(order))) else f"{text}.transpose({order})"


def turned_back(text: str, order: tuple[int, ...]) -> str:
    """The text of an array in memory order with its dimensions as the kernel names them."""
    return turned(text, tuple(order.index(d) for d in range(len(order))))


def parameter_texts(arguments: Sequence[str], needed: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The parameters of an entry: the kernel's own in order, then sizes by keyword, None for those that the shapes (may) tell.

    >>> parameter_texts(["x"], ["W"], ["H"])
    ['x', '*', 'W', 'H=None']
    """
    sizes = [*needed, *(f"{name}=None" for name in optional)]
    return [*arguments, *(["*", *sizes] if sizes else [])]


def tuple_text(parts: list[str]) -> str:
    """A tuple's text.

    >>> tuple_text(["a"]), tuple_text(["a", "b"])
    ('(a,)', '(a, b)')
    """
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def result_name(kernel: Kernel) -> str:
    """The name of the named tuple that several outputs are returned as."""
    return "".join(word.capitalize() for word in kernel.name.split("_")) + "Result"

"""Turns a kernel's signature into the entry function of an emitted module: sizes from shapes, fresh outputs, one call of `launch`."""

from collections.abc import Mapping

from kernel_ir.dtypes import BOOL, DType, reads_as
from kernel_ir.nodes import Call, Const, Expr, Kernel, Param, SizeRef
from kernel_ir.plan import Buffer
from kernel_ir.shapes import open_sizes


def entry_text(kernel: Kernel, buffers: Mapping[str, Buffer]) -> str:
    """The function named as the kernel; sizes that no input fixes are keyword arguments."""
    loose = list(open_sizes(kernel))
    solved = solved_sizes(kernel, loose)
    parameters = ", ".join([*(p.name for p in kernel.params), *(["*", *loose] if loose else [])])
    lines = [f"{s} = {text}" for s, text in solved.items()]
    arguments: list[str] = []
    after: list[str] = []
    for p in kernel.params:
        arguments.append(p.name)
        if p.type.rank == 0:
            continue
        order = buffers[p.name].order
        turned = order != tuple(range(len(order)))
        source = f"{p.name}.transpose({order})" if turned else p.name
        if p.inout:
            lines.append(f"{p.name}_given, {p.name} = {p.name}, np.ascontiguousarray({source})")
            back = f"{p.name}.transpose({_inverse(order)})" if turned else p.name
            after.append(f"if not np.shares_memory({p.name}_given, {p.name}):\n        {p.name}_given[...] = {back}")
        else:
            lines.append(f"{p.name} = np.ascontiguousarray({source})")
    results: list[str] = []
    for p in kernel.outputs:
        order = buffers[p.name].order
        shape = ", ".join(python_text(p.type.shape[d]) for d in order)
        make = "zeros" if _accumulated(kernel, p) else "empty"
        comma = "," if len(order) == 1 else ""
        lines.append(f"{p.name} = np.{make}(({shape}{comma}), {_dtype_text(p.type.dtype)})")
        arguments.append(p.name)
        results.append(f"{p.name}.transpose({_inverse(order)})" if order != tuple(range(len(order))) else p.name)
    lines.append(f"launch({', '.join([*arguments, *kernel.sizes])})")
    lines += after
    head = ""
    if len(results) == 1:
        lines.append(f"return {results[0]}")
    elif results:
        fields = " ".join(p.name for p in kernel.outputs)
        head = f'{_result_name(kernel)} = namedtuple("{_result_name(kernel)}", "{fields}")\n\n\n'
        lines.append(f"return {_result_name(kernel)}({', '.join(results)})")
    return head + f"def {kernel.name}({parameters}):\n" + "\n".join(f"    {line}" for line in lines) + "\n"


def _accumulated(kernel: Kernel, p: Param) -> bool:
    from kernel_ir.walk import statements

    return any(s.target == p.name and s.op != "=" for s in statements(kernel.body))


def solved_sizes(kernel: Kernel, given: list[str]) -> dict[str, str]:
    """For each size that an input's shape fixes (those `given` by name being known), the Python text that reads it."""
    found: dict[str, str] = {}
    for _ in kernel.sizes:
        for p in kernel.params:
            for d, extent in enumerate(p.type.shape):
                unknown = _sizes(extent) - set(found) - set(given)
                if len(unknown) == 1:
                    (name,) = unknown
                    text = _solved(extent, name, f"{p.name}.shape[{d}]")
                    if text is not None:
                        found[name] = text
    return {s: found[s] for s in sorted(found, key=lambda s: list(found).index(s))}


def _solved(e: Expr, name: str, value: str) -> str | None:
    """`name` from `e == value`, where it occurs once."""
    match e:
        case SizeRef():
            return value
        case Call("add" | "sub" | "mul", (a, b)):
            left, right = name in _sizes(a), name in _sizes(b)
            if left and right:
                return None
            other, inner = (b, a) if left else (a, b)
            text = python_text(other)
            match e.op:
                case "add":
                    return _solved(inner, name, f"({value} - {text})")
                case "mul":
                    return _solved(inner, name, f"({value} // {text})")
                case _:
                    return _solved(inner, name, f"({value} + {text})" if left else f"({text} - {value})")
        case _:
            return None


def _sizes(e: Expr) -> set[str]:
    from kernel_ir.walk import subtrees

    return {x.name for x in subtrees(e) if isinstance(x, SizeRef)}


def python_text(e: Expr) -> str:
    """A shape expression in plain Python integers."""
    match e:
        case Const():
            return str(int(e.value))
        case SizeRef(name):
            return name
        case Call("min" | "max" as op, (a, b)):
            return f"{op}({python_text(a)}, {python_text(b)})"
        case Call(op, (a, b)) if op in _PYTHON:
            return f"({python_text(a)} {_PYTHON[op]} {python_text(b)})"
        case Call("neg", (a,)):
            return f"(-{python_text(a)})"
        case _:
            raise AssertionError(f"not a shape: {e}")


_PYTHON = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%"}


def scalar_text(name: str, dtype: DType) -> str:
    """A scalar argument, from a NumPy scalar or a Python number, as its arithmetic type."""
    if dtype is BOOL:
        return f"bool({name})"
    held = reads_as(dtype)
    if dtype.name == "bf16":
        return f"np.float32({name})"
    narrow = name if held == dtype else f"np.{dtype.numpy.name}({name})"
    return f"np.{held.numpy.name}({narrow})"


def _dtype_text(dtype: DType) -> str:
    return "np.bool_" if dtype is BOOL else f"np.{dtype.numpy.name}"


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(d) for d in range(len(order)))


def _result_name(kernel: Kernel) -> str:
    return "".join(word.capitalize() for word in kernel.name.split("_")) + "Result"

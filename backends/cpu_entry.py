"""Turns a kernel's signature into the entry function of an emitted module: sizes from shapes, fresh outputs, one call of `launch`."""

from collections.abc import Mapping
from keyword import iskeyword
from typing import Final

from backends.cpu_names import IN_ENTRY
from backends.host import host_text, parameter_texts, result_name, size_lines, stored_type, tuple_text, turned, turned_back
from kernel_ir.layout import Layout
from kernel_ir.nodes import Kernel, Param
from kernel_ir.plan import Buffer
from kernel_ir.shapes import open_sizes, optional_sizes
from kernel_ir.walk import statements

FRESH: Final = '''KEPT = []


def fresh(shape, dtype):
    """An uninitialised array, in the memory of an earlier result that nobody holds any more where there is one: its pages are there."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < 1 << 20:
        return np.empty(shape, dtype)
    with LOCK:
        # The list, the loop and getrefcount's argument hold a block; every array in its memory holds it too.
        block = next((x for x in KEPT if x.size == size + 64 and getrefcount(x) == 3), None)
        if block is None:
            block = np.empty(size + 64, np.uint8)
            KEPT[:] = [x for x in KEPT if getrefcount(x) > 3 or x.size == block.size][-7:]
            KEPT.append(block)
        start = -block.ctypes.data % 64
        return block[start : start + size].view(dtype).reshape(shape)
'''
"""Large results reuse memory: the system zeroes each new page, which takes as long as writing the result."""


def entry_text(
    kernel: Kernel,
    buffers: Mapping[str, Buffer],
    given: Mapping[str, str] | None = None,
    empty: str = "fresh",
    layouts: Mapping[str, Layout] | None = None,
) -> str:
    """The function named as the kernel, with sizes that no input (always) fixes by keyword. `given`: the user's names of renamed ones;
    `empty`: what allocates the outputs; `layouts`: of arrays that lie in tiles or padded."""
    laid = layouts or {}
    users = {name: user for name, user in (given or {}).items() if user not in IN_ENTRY}
    arrays, needed, optional = [p.name for p in kernel.params], open_sizes(kernel), optional_sizes(kernel)
    taken = [*arrays, *needed, *optional]
    shown = [users.get(name, name) for name in taken]
    parameters = ", ".join(parameter_texts(*([users.get(name, name) for name in group] for group in (arrays, needed, optional))))
    lines = [f"{name} = {user}" for name, user in zip(taken, shown, strict=True) if name != user]
    lines += size_lines(kernel)
    after: list[str] = []
    for p in kernel.params:
        if p.type.rank == 0:
            continue
        order = buffers[p.name].order
        source = packed_text(p.name, laid[p.name]) if p.name in laid else f"np.ascontiguousarray({turned(p.name, order)})"
        if p.inout:
            lines.append(f"{p.name}_given, {p.name} = {p.name}, {source}")
            back = _back(p, laid, order)
            after.append(f"if not np.shares_memory({p.name}_given, {p.name}):\n        {p.name}_given[...] = {back}")
        else:
            lines.append(f"{p.name} = {source}")
    for p in kernel.outputs:
        shape = tuple_text([host_text(buffers[p.name].shape[d]) for d in buffers[p.name].order])
        make = "np.zeros" if is_accumulated(kernel, p.name) else empty
        lines.append(f"{p.name} = {make}({shape}, {stored_type(p.type.dtype)})")
    arguments = [*(p.name for p in (*kernel.params, *kernel.outputs)), *kernel.sizes]
    lines.append(f"launch({', '.join(arguments)})")
    lines += after
    results = [_back(p, laid, buffers[p.name].order) for p in kernel.outputs]
    head = ""
    if len(results) == 1:
        lines.append(f"return {results[0]}")
    elif results:
        originals = [(given or {}).get(p.name, p.name) for p in kernel.outputs]
        fields = " ".join(p.name if iskeyword(user) else user for p, user in zip(kernel.outputs, originals, strict=True))
        name = result_name(kernel)
        head = f'{name} = namedtuple("{name}", "{fields}")\n\n\n'
        lines.append(f"return {name}({', '.join(results)})")
    return head + f"def {kernel.name}({parameters}):\n" + "\n".join(f"    {line}" for line in lines) + "\n"


def packed_text(array: str, layout: Layout) -> str:
    """A call of `packed` that lays the array out."""
    return f"packed({array}, {layout.tiles}, {layout.turn}, {layout.pad})"


def _back(p: Param, laid: Mapping[str, Layout], order: tuple[int, ...]) -> str:
    """The text of an array with its dimensions as the kernel names them."""
    if p.name not in laid:
        return turned_back(p.name, order)
    layout, shape = laid[p.name], tuple_text([host_text(n) for n in p.type.shape])
    return f"unpacked({p.name}, {shape}, {layout.tiles}, {layout.turn}, {layout.pad})"


def is_accumulated(kernel: Kernel, array: str) -> bool:
    """Whether a statement adds into the array (`+=`, `max=`, `min=`), so that it must start defined."""
    return any(s.target == array and s.op != "=" for s in statements(kernel.body))

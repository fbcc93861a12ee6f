"""Turns a core kernel into a readable NumPy module that runs alone: one statement a line, whole ranges at once."""

import inspect
from collections.abc import Sequence
from typing import Final

from backends.cpu_entry import entry_text, is_accumulated
from backends.host import scalar_text, stored_type
from backends.numpy_expr import Code, Writer, shifted
from kernel_ir import meaning
from kernel_ir.dtypes import ARITHMETIC, DType, reads_as
from kernel_ir.nodes import Assign, Kernel, Repeat, Stmt
from kernel_ir.plan import Buffer
from kernel_ir.walk import statements

_AT: Final = '''def at(x, *index):
    """Elements of x; an index outside, which some mask or `else` leaves out, reads the nearest."""
    shape = np.broadcast_shapes(*(np.shape(i) for i in index))
    if 0 in x.shape:
        return np.zeros(shape, x.dtype)
    return x[tuple(np.clip(i, 0, n - 1) for i, n in zip(index, x.shape))]
'''
_INSIDE: Final = '''def inside(x, *index):
    """Where the index lies inside x."""
    total = np.True_
    for i, n in zip(index, x.shape):
        total = total & (np.asarray(i) >= 0) & (np.asarray(i) < n)
    return total
'''
_FIRST_EXTREME: Final = '''def first_extreme(ufunc, body, count, nothing, mask=True):
    """Position of the first greatest (least) element over the last `count` axes; the first NaN, where there is one."""
    outer = body.shape[: body.ndim - count]
    mask = np.broadcast_to(mask, body.shape).reshape(*outer, math.prod(body.shape[body.ndim - count :]))
    body = body.reshape(mask.shape)
    best = ufunc.reduce(body, axis=-1, keepdims=True, initial=nothing, where=mask)
    hit = mask & ((body == best) | ((body != body) & (best != best)))
    return np.argmax(hit, axis=-1) if body.shape[-1] else np.zeros(outer, np.int64)
'''
_SCATTER: Final = '''def scatter(ufunc, target, index, value, shape, mask=True):
    """Joins each value to the element of target at its index, duplicates included."""
    chosen = np.broadcast_to(mask, shape)
    index = tuple(np.broadcast_to(i, shape)[chosen] for i in index)
    ufunc.at(target, index, np.broadcast_to(value, shape)[chosen])
'''
_OWN: Final = {"at": _AT, "inside": _INSIDE, "first_extreme": _FIRST_EXTREME, "scatter": _SCATTER}
_ERF: Final = '''def erf(x):
    """The error function, computed in float64 and rounded once."""
    x = np.asarray(x)
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape).astype(x.dtype)
'''
_NEEDS: Final = {"fma": ("_fma_exact",)}


def numpy_source(kernel: Kernel) -> str:
    """The source of a module with `launch(params, outputs, sizes)` and a function named as the kernel.

    Sums may be regrouped (and products contracted) by NumPy and its BLAS. Temporaries are whole arrays.
    """
    w = Writer(kernel.arrays)
    w.taken = {*kernel.arrays, *kernel.sizes, "np", "math", "int", "len", "max", "range", kernel.name, "launch"}
    names = [*(p.name for p in kernel.params), *(p.name for p in kernel.outputs), *kernel.sizes]
    for p in kernel.params:
        if p.type.rank == 0:
            w.line(f"{p.name} = {scalar_text(p.name, p.type.dtype)}")
    for p in kernel.temps:
        shape = ", ".join(w.expr(e).text for e in p.type.shape)
        make = "zeros" if is_accumulated(kernel, p.name) else "empty"
        w.line(f"{p.name} = np.{make}(({shape}{',' if p.type.rank == 1 else ''}), {stored_type(p.type.dtype)})")
    for p in kernel.outputs:
        if is_accumulated(kernel, p.name):
            w.line(f"{p.name}[...] = 0")
    for stmt in kernel.body:
        _statement(w, stmt, kernel)
    body = "\n".join(_kept(w)) or "    pass"
    buffers = {
        p.name: Buffer(p.name, p.type.dtype, p.type.shape, "argument", tuple(range(p.type.rank))) for p in (*kernel.params, *kernel.outputs)
    }
    entry = entry_text(kernel, buffers, empty="np.empty")
    parts = [_head(kernel, entry, w), *(_helper(name) for name in _closure(w.helpers))]
    parts.append(f'@np.errstate(all="ignore")\ndef launch({", ".join(names)}):\n{body}\n')
    parts.append(entry)
    return "\n\n".join(part.rstrip("\n") + "\n" for part in parts)


def _head(kernel: Kernel, entry: str, w: Writer) -> str:
    lines = [f'"""{kernel.name}: NumPy code."""', ""]
    helpers = _closure(w.helpers)
    if {"erf", "_fma_exact", "first_extreme"} & set(helpers):
        lines.append("import math")
    if "namedtuple" in entry:
        lines.append("from collections import namedtuple")
    lines += ["", "import numpy as np"] if len(lines) > 2 else ["import numpy as np"]
    return "\n".join(lines)


def _closure(helpers: dict[str, None]) -> list[str]:
    return [name for helper in helpers for name in (*_NEEDS.get(helper, ()), helper)]


def _helper(name: str) -> str:
    """The source of a helper: the language's own meaning, where NumPy has no such function."""
    if name == "erf":
        return _ERF
    if name in _OWN:
        return _OWN[name]
    source = inspect.getsource(getattr(meaning, name))
    head, _, rest = source.partition("\n")
    plain = head.split("(", 1)[1].rsplit(") ->", 1)[0]
    arguments = ", ".join(a.partition(":")[0].strip() for a in _split(plain))
    return f"def {name}({arguments}):\n{rest}"


def _split(arguments: str) -> list[str]:
    """Arguments at commas outside brackets."""
    parts, depth = [""], 0
    for c in arguments:
        depth += (c == "[") - (c == "]")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def _kept(w: Writer) -> list[str]:
    """The lines, without index arrays that nothing uses."""
    return [line if isinstance(line, str) else line[0] for line in w.lines if isinstance(line, str) or line[1].used]


def _statement(w: Writer, stmt: Stmt, kernel: Kernel) -> None:
    if isinstance(stmt, Assign):
        _assign(w, stmt, kernel)
        return
    index = w.fresh(stmt.index or "_")
    w.line(f"for {index} in range({w.expr(stmt.steps).text}):")
    w.indent += 1
    if stmt.index:
        w.locals[stmt.index] = Code(index)
    for inner in stmt.body:
        _statement(w, inner, kernel)
    if not stmt.body:
        w.line("pass")
    w.indent -= 1


def _assign(w: Writer, stmt: Assign, kernel: Kernel) -> None:
    dtype = kernel.arrays[stmt.target].dtype
    if _is_parted(kernel, stmt) and _is_first(kernel, stmt):
        w.line(f"{_left(w, stmt)} = np.full({stmt.target}.shape, True)")
    before = dict(w.axes)
    masks = w.masks(stmt.binders)
    if stmt.where is not None:
        masks.append(w.expr(stmt.where))
    value = w.expr(stmt.value)
    if stmt.op != "=":
        _scatter(w, stmt, value, masks, dtype)
    else:
        text = Code(w.stored(value, reads_as(dtype), dtype), value.axes)
        _write(w, stmt, text, masks, kernel)
    w.leave(stmt.binders, before)


def _write(w: Writer, stmt: Assign, value: Code, masks: list[Code], kernel: Kernel) -> None:
    axes = tuple(b.index for b in stmt.binders)
    view = _target_view(w, stmt, stmt.target, axes)
    if stmt.otherwise:
        masks = [*masks, Code(_target_view(w, stmt, _left(w, stmt), axes), axes)]
    if masks:
        where = w.both(masks)
        w.line(f"np.copyto({view}, {w.aligned(value, axes)}, where={w.aligned(where, axes)})")
    else:
        w.line(f"{view if view.endswith(']') else view + '[...]'} = {w.aligned(value, axes)}")
    if _is_parted(kernel, stmt) and not stmt.otherwise:
        left = _target_view(w, stmt, _left(w, stmt), axes)
        mask = f", where={w.aligned(w.both(masks), axes)}" if masks else ""
        w.line(f"np.copyto({left}, False{mask})")


def _target_view(w: Writer, stmt: Assign, name: str, axes: tuple[str, ...]) -> str:
    """The part of the target that the statement defines, its dimensions in the order of the statement's indices."""
    pieces: list[str] = []
    order: list[str] = []
    for index, extent in zip(stmt.indices, w.arrays[stmt.target].shape, strict=True):
        base, offset = shifted(index)
        if base is None:
            pieces.append(str(offset))
            continue
        axis = w.axes[base]
        piece = w.slice(axis, 0, extent)
        if piece is None:
            w.use(base)
            piece = f":len({axis.name})" if axis.start == "0" else f"{axis.start}:{axis.start} + len({axis.name})"
        pieces.append(piece)
        order.append(base)
    text = f"{name}[{', '.join(pieces)}]" if any(p != ":" for p in pieces) else name
    wanted = tuple(axis for axis in axes if axis in order)
    if wanted == tuple(order):
        return text
    return f"{text}.transpose({', '.join(str(order.index(axis)) for axis in wanted)})"


def _scatter(w: Writer, stmt: Assign, value: Code, masks: list[Code], dtype: DType) -> None:
    axes = tuple(b.index for b in stmt.binders)
    shape = "(" + "".join(f"len({w.use(axis)}), " for axis in axes) + ")"
    ufunc = {"+=": "np.add", "max=": "np.maximum", "min=": "np.minimum"}[stmt.op]
    indices = "".join(f"{w.aligned(w.expr(i), axes)}, " for i in stmt.indices)
    mask = f", {w.aligned(w.both(masks), axes)}" if masks else ""
    target = stmt.target
    if dtype not in ARITHMETIC:
        target = w.fresh("work")
        w.line(f"{target} = {w.read(Code(stmt.target), dtype).text}")
    w.line(f"{w.helper('scatter')}({ufunc}, {target}, ({indices}), {w.aligned(value, axes)}, {shape}{mask})")
    if dtype not in ARITHMETIC:
        w.line(f"{stmt.target}[...] = {w.stored(Code(target, ('work',)), reads_as(dtype), dtype)}")


def _left(w: Writer, stmt: Assign) -> str:
    """The name of the array that says which elements of the target no statement has defined."""
    name = f"{stmt.target}_left"
    w.taken.add(name)
    return name


def _block(kernel: Kernel, stmt: Assign) -> Sequence[Stmt]:
    """The statements among which `stmt` stands."""

    def find(body: Sequence[Stmt]) -> Sequence[Stmt] | None:
        if any(s is stmt for s in body):
            return body
        found = [find(s.body) for s in body if isinstance(s, Repeat)]
        return next((f for f in found if f is not None), None)

    return find(kernel.body) or ()


def _is_parted(kernel: Kernel, stmt: Assign) -> bool:
    """Whether some statement defines what others leave of the target."""
    return any(s.target == stmt.target and s.otherwise for s in statements(kernel.body))


def _is_first(kernel: Kernel, stmt: Assign) -> bool:
    return next(s for s in _block(kernel, stmt) if isinstance(s, Assign) and s.target == stmt.target) is stmt

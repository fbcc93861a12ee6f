"""Turns a core kernel and NumPy arrays into the kernel's results: the reference meaning of the language, slow and right.

IEEE arithmetic in the op table's own functions, unordered reductions as NumPy's, rounding to the storage type on each write.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from kernel_ir import meaning
from kernel_ir.binding import bind
from kernel_ir.dtypes import DType, reads_as
from kernel_ir.interpret import Machine, Scope, nesting
from kernel_ir.nodes import AssignOp, Call, Expr, IndexRef, Kernel, Local, Param, ParamRef, Reduce
from kernel_ir.number_system import Array, Value
from kernel_ir.ops import OPS
from kernel_ir.walk import subtrees


class PlainNumbers:
    """NumPy arrays of the arithmetic dtypes themselves."""

    def exact(self, array: Array, dtype: DType) -> Value:
        return (array,)

    def read(self, stored: Value, dtype: DType) -> Value:
        return (meaning.read(stored[0], dtype),)

    def store(self, value: Value, dtype: DType) -> Value:
        return (meaning.store(value[0], dtype),)

    def call(self, e: Call, args: Sequence[Value]) -> Value:
        result = np.asarray(OPS[e.op].numpy(*(a[0] for a in args)))
        return (result.astype(e.dtype.numpy, copy=False),)

    def reduce(self, e: Reduce, bodies: Sequence[Value], mask: Array | None, axes: tuple[int, ...]) -> Value:
        if e.kind == "expsum":
            return (expsum(bodies[0][0], bodies[1][0], mask, axes),)
        return (reduce(e.kind, bodies[0][0], mask, axes),)

    def uncertain(self, value: Value) -> Array | None:
        return None

    def doubt(self, value: Value, where: Array) -> Value:
        return value

    def accumulator(self, target: Value, op: AssignOp, dtype: DType) -> "PlainAccumulator":
        return PlainAccumulator(target[0], op, dtype)


class PlainAccumulator:
    """Accumulates in the arithmetic type, and rounds to the storage type once."""

    def __init__(self, target: Array, op: AssignOp, dtype: DType) -> None:
        self.work = np.array(meaning.read(target, dtype), reads_as(dtype).numpy)
        self.join = {"+=": np.add, "max=": np.maximum, "min=": np.minimum}[op]
        self.dtype = dtype

    def add(self, index: tuple[Array, ...], value: Value) -> None:
        self.join.at(self.work, index, value[0])

    def finish(self) -> Value:
        return (meaning.store(self.work, self.dtype),)


def extreme(dtype: np.dtype[Any], least: bool) -> Any:
    """The value of max (least) or min over nothing: an infinity, or an integer dtype's end."""
    if dtype.kind == "f":
        return dtype.type(-np.inf if least else np.inf)
    info = np.iinfo(cast(Any, dtype))
    return dtype.type(info.min if least else info.max)


def reduce(kind: str, body: Array, mask: Array | None, axes: tuple[int, ...]) -> Array:
    """One of the reductions but expsum over `axes`, which stay with extent 1; False in `mask` leaves a point out."""
    if kind in ("argmax", "argmin"):
        return first_extreme(kind, body, mask, axes)
    ufunc, nothing = {
        "sum": (np.add, 0),
        "prod": (np.multiply, 1),
        "any": (np.logical_or, False),
        "all": (np.logical_and, True),
        "max": (np.maximum, None),
        "min": (np.minimum, None),
    }[kind]
    start = extreme(body.dtype, kind == "max") if nothing is None else body.dtype.type(nothing)
    terms = body if mask is None else np.where(mask, body, start)
    # Only max and min of nothing need to be told; a given start would turn a sum of -0.0 into 0.0.
    initial = {"initial": start} if nothing is None else {}
    return np.asarray(cast(Any, ufunc).reduce(terms, axis=axes, keepdims=True, dtype=body.dtype, **initial))


def first_extreme(kind: str, body: Array, mask: Array | None, axes: tuple[int, ...]) -> Array:
    """Flat position along `axes` of the first greatest or least element; the first NaN, where there is one."""
    best = reduce(kind.removeprefix("arg"), body, mask, axes)
    hit = (body == best) | (np.isnan(body) if body.dtype.kind == "f" else False)
    hit = np.where(np.isnan(best), np.isnan(body), hit) if body.dtype.kind == "f" else hit
    hit = hit if mask is None else hit & mask
    kept = tuple(1 if n in axes else extent for n, extent in enumerate(body.shape))
    if 0 in body.shape:
        return np.zeros(kept, np.int64)
    # The reduced axes are the last used ones, so the flat position along them is row-major.
    moved = np.moveaxis(hit, axes, range(hit.ndim - len(axes), hit.ndim))
    return np.argmax(moved.reshape(*moved.shape[: hit.ndim - len(axes)], -1), axis=-1).reshape(kept)


def expsum(s: Array, v: Array, mask: Array | None, axes: tuple[int, ...]) -> Array:
    """`sum(exp(s - max(s)) * v)`: the formula itself, which cannot overflow in exp."""
    weight = OPS["exp"].numpy(s - reduce("max", s, mask, axes))
    return reduce("sum", weight * v, mask, axes)


def evaluate(kernel: Kernel, values: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Array]:
    """Results of one call: each output and each `inout` array, new, by name. The inputs stay as they are.

    `values` holds every parameter (arrays in their storage dtype, bf16 as uint16 bits; scalars as numbers), `sizes` every size.
    No fact is checked here: `call` does that.
    """
    dtypes = {name: t.dtype for name, t in kernel.arrays.items()}
    memory: dict[str, Value] = {}
    written = {p.name for p in kernel.params if p.inout}
    for p in kernel.params:
        array = np.asarray(values[p.name]).astype(p.type.dtype.numpy, copy=p.inout)
        memory[p.name] = (array,)
    machine = Machine(PlainNumbers(), memory, dtypes, sizes)
    with np.errstate(all="ignore"):
        for p in (*kernel.outputs, *kernel.temps):
            memory[p.name] = (np.zeros(shape_of(machine, p), p.type.dtype.numpy),)
        machine.run(kernel.body)
    return {name: memory[name][0] for name in (*written_in_order(kernel, written), *(p.name for p in kernel.outputs))}


def written_in_order(kernel: Kernel, names: set[str]) -> list[str]:
    """The named parameters, in the kernel's order."""
    return [p.name for p in kernel.params if p.name in names]


def shape_of(machine: Machine, p: Param) -> tuple[int, ...]:
    """The shape of an output or temporary in this call."""
    machine.rank = max(1, *(nesting(extent) for extent in p.type.shape)) if p.type.shape else 1
    return tuple(max(0, int(machine.eval(extent, Scope())[0].flat[0])) for extent in p.type.shape)


def evaluate_expr(
    e: Expr, values: Mapping[str, Any], sizes: Mapping[str, int] | None = None, arrays: Mapping[str, tuple[Any, DType]] | None = None
) -> Array:
    """The value of an expression on many points at once.

    `values` gives the scalar parameters, free indices and locals: numbers, or arrays of one common broadcast shape, which is the
    result's shape. `arrays` gives each loaded array with its storage dtype.

    >>> from kernel_ir.dtypes import F32
    >>> from kernel_ir.nodes import Local
    >>> x = Local("x", F32)
    >>> evaluate_expr(Call("add", (x, x), F32), {"x": np.float32([1, 2])})
    array([2., 4.], dtype=float32)
    """
    wanted = {x.name: x.dtype for x in subtrees(e) if isinstance(x, ParamRef | IndexRef | Local)}
    lanes = {name: np.asarray(value, wanted[name].numpy) for name, value in values.items() if name in wanted}
    shape = np.broadcast_shapes(*(a.shape for a in lanes.values()))
    rank = max(1, len(shape) + nesting(e))
    aligned = {name: np.broadcast_to(a, shape).reshape(*shape, *(1,) * (rank - len(shape))) for name, a in lanes.items()}
    given = arrays or {}
    dtypes = {**wanted, **{name: dtype for name, (_, dtype) in given.items()}}
    memory = {**{name: (a,) for name, a in aligned.items()}, **{name: (np.asarray(a),) for name, (a, _) in given.items()}}
    machine = Machine(PlainNumbers(), memory, dtypes, sizes or {}, rank)
    with np.errstate(all="ignore"):
        result = machine.eval(e, Scope({name: (a,) for name, a in aligned.items()}, {}, len(shape)))[0]
        return np.broadcast_to(result.reshape(result.shape[: len(shape)]), shape).copy()


def surface(kernel: Kernel, results: Mapping[str, Any]) -> Any:
    """What a call returns: the one output's array, or a named tuple of several in their order; None for none."""
    outputs = [results[p.name] for p in kernel.outputs]
    if len(outputs) <= 1:
        return outputs[0] if outputs else None
    names = [p.name for p in kernel.outputs]
    return namedtuple(kernel.name, names, rename=True)(*outputs)  # pyright: ignore[reportUntypedNamedTuple]


def call(kernel: Kernel, args: Sequence[object], kwargs: Mapping[str, object]) -> Any:
    """One call by the surface rules: the output's array, or a named tuple of several; `inout` arrays are updated in place."""
    bound = bind(kernel, args, kwargs)
    results = evaluate(kernel, bound.values, bound.sizes)
    for p in kernel.params:
        if p.inout:
            bound.values[p.name][...] = results[p.name]
    bound.finish()
    columns = [p.name for p in kernel.outputs if p.type.layout == "cols"]
    return surface(kernel, results | {name: np.asfortranarray(results[name]) for name in columns})

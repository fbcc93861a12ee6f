"""Turns a plan into the same plan under names that an emitted CPU module can use: none that Python, numba or the module itself needs."""

import builtins
import keyword
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, cast

from backends.vector_math import HELPERS
from kernel_ir.dtypes import DType
from kernel_ir.errors import Span
from kernel_ir.plan import Plan

DEFINED: Final = frozenset(
    x for helper in HELPERS.values() for x in re.findall(r"^(?:def |class |(?=[A-Z]\w* = ))(\w+)", helper.text, re.M)
)
"""Names that the helpers' texts define."""
RESERVED: Final = frozenset({
    *keyword.kwlist, *dir(builtins), *DEFINED, "np", "math", "ir", "cgutils", "intrinsic", "njit", "prange", "types",
    "get_num_threads", "namedtuple", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "models", "register_model", "CACHE", "FAST", "KEPT", "LOCK", "Lock", "fresh", "getrefcount", "launch", "part", "parts", "first", "last",
    "at", "low", "high", "begin", "end", "lead", "sweep", "sweeps", "some", "most", "packed", "unpacked", "cache", "normalize_signature",
})  # fmt: skip
SUFFIXES: Final = ("_part", "_parts", "_own", "_given", "_steps", "_flat", "_rows", "_edges", "_fixed", "_code", "_types")
"""Ends of the names that the module makes of others."""
IN_TILES: Final = re.compile(r"(acc|at|mask|term)\d+(_\d+)?|whole")
"""Names that the statements of a tile make."""
IN_ENTRY: Final = frozenset({*keyword.kwlist, "np", "launch", "fresh", "min", "max", "bool", "packed", "unpacked"})
"""What a parameter of the entry cannot be called: Python's words, and what the entry itself uses."""
NAMING: Final = frozenset({"name", "index", "array", "buffer", "target", "sizes", "result"})
"""Fields of nodes that hold names."""
OPERANDS: Final = frozenset({"out", "a", "b"})
"""Fields of a library product: a name, indices, and whether it is turned."""


def entry_name(kernel: str) -> str:
    """The name of the entry function of a kernel's module: the kernel's, with `_` where the module needs that name itself.

    >>> entry_name("softmax"), entry_name("launch")
    ('softmax', 'launch_')
    """
    return kernel + "_" if _taken(kernel) else kernel


def usable(plan: Plan) -> tuple[Plan, dict[str, str]]:
    """The plan with every unusable name followed by `_`, and the new names by the old."""
    found: dict[str, None] = {}
    _collect(plan, found)
    names: dict[str, str] = {}
    for name in found:
        if _taken(name):
            new = name + "_"
            while name != plan.kernel.name and (new in found or new in names.values() or _taken(new)):
                new += "_"
            names[name] = new
    return (_renamed(plan, names) if names else plan), names


def _taken(name: str) -> bool:
    return name in RESERVED or name.endswith(SUFFIXES) or IN_TILES.fullmatch(name) is not None


def _collect(value: Any, found: dict[str, None]) -> None:
    if isinstance(value, tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            _collect(item, found)
    elif _is_node(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            if field.name in NAMING | OPERANDS:
                held = cast(tuple[Any, ...], inner) if isinstance(inner, tuple) else (inner,)
                found.update((x, None) for x in held if isinstance(x, str))
            _collect(inner, found)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, tuple):
        return tuple(_renamed(item, names) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if not _is_node(value):
        return value
    changed: dict[str, Any] = {}
    for field in fields(value):
        old = getattr(value, field.name)
        new = _renamed(old, names)
        if field.name in NAMING and isinstance(old, str):
            new = names.get(old, old)
        elif field.name in NAMING | OPERANDS and isinstance(old, tuple):
            new = tuple(names.get(x, x) if isinstance(x, str) else _renamed(x, names) for x in old)  # pyright: ignore[reportUnknownVariableType]
        if new != old:
            changed[field.name] = new
    return replace(value, **changed) if changed else value


def _is_node(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type | DType | Span)

"""Turns a kernel's facts into checks of a call: each passes, or raises an ArgumentError with the fact and the element that breaks it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kernel_ir.errors import ArgumentError
from kernel_ir.nodes import Expr, Kernel, Load, ParamRef, Reduce, SizeRef
from kernel_ir.shapes import integer_function, is_of_sizes
from kernel_ir.walk import free, subtrees

Check = Callable[[Mapping[str, Any], Mapping[str, int]], None]


def fact_checks(kernel: Kernel) -> tuple[Check, ...]:
    """The checks of a kernel's facts, those on sizes alone first, as they are what makes reads in the others lie inside."""
    facts = (*kernel.facts, *kernel.implied)
    of_sizes = [_size_check(kernel, f) for f in facts if is_of_sizes(f)]
    return (*of_sizes, *(_data_check(kernel, f) for f in facts if not is_of_sizes(f)))


def _size_check(kernel: Kernel, fact: Expr) -> Check:
    holds = integer_function(fact)

    def check(values: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        if not holds(sizes):
            raise _broken(kernel, fact, _known(fact, values, sizes))

    return check


def _data_check(kernel: Kernel, fact: Expr) -> Check:
    stored = {p.name: p.type.dtype for p in kernel.params}

    def check(values: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        from kernel_ir.evaluate import evaluate_expr

        arrays = {name: (values[name], stored[name]) for name in {x.array: None for x in subtrees(fact) if isinstance(x, Load)}}
        scalars = {x.name: values[x.name] for x in subtrees(fact) if isinstance(x, ParamRef)}
        if not bool(evaluate_expr(fact, scalars, sizes, arrays)):
            raise _broken(kernel, fact, _element(fact, scalars, sizes, arrays) or _known(fact, values, sizes))

    return check


def _known(fact: Expr, values: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """`N = 3`: the sizes and scalars of a fact, in order of their appearance."""
    found: dict[str, object] = {}
    for x in subtrees(fact):
        if isinstance(x, SizeRef):
            found[x.name] = sizes[x.name]
        elif isinstance(x, ParamRef):
            found[x.name] = values[x.name]
    return ", ".join(f"{name} = {value}" for name, value in found.items())


def _element(fact: Expr, scalars: Mapping[str, Any], sizes: Mapping[str, int], arrays: Mapping[str, tuple[Any, Any]]) -> str:
    """`id[3] = 9, V = 8`: the first elements that break `all(i in …: …)`."""
    from kernel_ir.evaluate import evaluate_expr

    if not isinstance(fact, Reduce) or fact.kind != "all" or any(free(b.lo) | free(b.hi) for b in fact.binders):
        return ""
    limits = [[int(evaluate_expr(x, scalars, sizes)) for x in (b.lo, b.hi)] for b in fact.binders]
    grid = np.meshgrid(*(np.arange(lo, hi) for lo, hi in limits), indexing="ij")
    at = {b.index: axis for b, axis in zip(fact.binders, grid, strict=True)}
    holds = evaluate_expr(fact.bodies[0], {**scalars, **at}, sizes, arrays)
    first = tuple(np.argwhere(~holds)[0])
    place = {name: axis[first] for name, axis in at.items()}
    loads = {x: None for x in subtrees(fact.bodies[0]) if isinstance(x, Load)}
    texts: dict[str, None] = {}
    for load in loads:
        indices = ", ".join(str(int(evaluate_expr(i, {**scalars, **place}, sizes, arrays))) for i in load.indices)
        texts[f"{load.array}[{indices}] = {evaluate_expr(load, {**scalars, **place}, sizes, arrays)}"] = None
    return ", ".join(filter(None, (*texts, _known(fact.bodies[0], scalars, sizes))))


def _broken(kernel: Kernel, fact: Expr, found: str) -> ArgumentError:
    from kernel_ir.printer import fact_text

    text = fact_text(kernel, fact)
    if fact in kernel.implied:
        return ArgumentError(
            f"`{text}` does not hold: {found}", kernel.span, f"`{kernel.name}` reads elements that are there only if it holds"
        )
    return ArgumentError(f"`{text}` does not hold: {found}", fact.span, f"`{kernel.name}` asks for it in its `where`")

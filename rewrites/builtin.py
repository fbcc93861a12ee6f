"""Steps that no rule book holds, and what each claims: arithmetic of literals, integers of one possible value, facts of the kernel."""

from collections.abc import Callable
from typing import Final

import numpy as np

from kernel_ir.nodes import Const, const
from rewrites.declare import CODES, DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, result_dtype
from rewrites.known import Known

FOLD: Final = "(fold)"
"""An operation of literals is the literal that the machine computes."""
RANGE: Final = "(range)"
"""An integer with only one possible value is that value."""
FACT: Final = "(fact)"
"""The kernel's own facts say that both are equal."""


def folded(number: int, known: Known) -> int | None:
    """The literal that an exact operation of literals gives."""
    term = known.dag.terms[number]
    op = OP_OF_CONSTRUCTOR.get(term.name)
    parts = [known.dag.terms[c] for c in term.children]
    if op is None or not op.exact or not parts or any(p.name != "Lit" for p in parts):
        return None
    args = [np.asarray(Const(int(p.args[1]), DTYPES_BY_CODE[p.code]).value, DTYPES_BY_CODE[p.code].numpy) for p in parts]
    with np.errstate(all="ignore"):
        value = np.asarray(op.numpy(*args)).item()
    dtype = result_dtype(term.name, term.code)
    return known.dag.add("Lit", CODES[dtype.name], const(value, dtype).bits)


def sole_value(number: int, known: Known) -> int | None:
    """The literal that is an integer term's only possible value."""
    term = known.dag.terms[number]
    dtype = known.dtype(number)
    if term.name == "Lit" or not dtype.is_int:
        return None
    low, high = known.interval(number)
    return known.dag.add("Lit", CODES[dtype.name], low) if low == high else None


def _given(before: int, after: int, known: Known) -> bool:
    return any(f.name == "union" and set(f.terms) == {before, after} for f in known.facts)


BUILTIN: Final[dict[str, Callable[[int, int, Known], bool]]] = {
    FOLD: lambda before, after, known: folded(before, known) == after,
    RANGE: lambda before, after, known: sole_value(before, known) == after,
    FACT: _given,
}
"""Whether `before` may be replaced by `after`, by the step's name."""

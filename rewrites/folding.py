"""Turns the float literals of a kernel into facts that fold arithmetic with them: egglog cannot compute with floats by their bits."""

from collections.abc import Iterator, Sequence

import numpy as np

from kernel_ir.dtypes import F32, F64
from kernel_ir.nodes import Const, const
from rewrites.adapter import Fact
from rewrites.declare import CODES
from rewrites.terms import Term

_FLOATS = {CODES[t.name]: t for t in (F32, F64)}


def reciprocals(terms: Sequence[Term]) -> Iterator[Fact]:
    """For each float literal, the bits of 1 / c in its own dtype's arithmetic, where both are finite and not zero."""
    for number, term in enumerate(terms):
        if term.name != "Lit" or term.args[0] not in _FLOATS:
            continue
        dtype = _FLOATS[int(term.args[0])]
        value = float(Const(int(term.args[1]), dtype).value)
        with np.errstate(all="ignore"):
            inverse = float(np.divide(1.0, value, dtype=dtype.numpy))
        if all(np.isfinite(x) and x != 0.0 for x in (value, inverse)):
            yield Fact("reciprocal", (number,), const(inverse, dtype).bits)

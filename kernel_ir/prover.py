"""Turns what holds at a place of a kernel (ranges, facts, conditions) into proofs about its integer expressions.

Unknown means no: each method answers True only for what holds for all calls that the kernel's facts allow. An operand of a
comparison, `//`, `%`, `min` or `max` is read as a polynomial only where its machine value is that polynomial: sums and products of
sizes and index variables are taken as exact (an index space beyond 2**63 points cannot run), data and parameters only within proved bounds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kernel_ir.constraints import Constraints
from kernel_ir.integers import Integers
from kernel_ir.literals import Case, Literal, Truth, consequences, negated
from kernel_ir.nodes import Binder, Call, Const, Expr, IndexRef, Kernel, SizeRef, const
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.polynomial import Polynomial

MAX_SPLITS: Final = 4
"""Alternatives (of `or`, `min`, `select`) looked into for one proof; each doubles the work."""


class Prover(Integers):
    """What is known at one place. Immutable to its users: `bind` and `assume` give a new one.

    `positive` names the sizes taken to be at least 1; the others are at least 0.
    """

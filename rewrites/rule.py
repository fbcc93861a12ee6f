"""A rewrite rule, typed: both sides, guards, licence; and the phase of saturation in which it runs."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from kernel_ir.dtypes import DType
from kernel_ir.errors import Span
from kernel_ir.fastmath import Flag
from rewrites.guards import Guard
from rewrites.pattern import At, Lit, Pattern, Var, size, subpatterns

Phase = Literal["index", "shrink", "explore", "select"]


Unit = Literal["", "relative", "ulp"]


@dataclass(frozen=True, slots=True)
class Within:
    """The stated error of an approximation: absolute, relative to the left side, or in ulp of the left side's dtype."""

    error: float
    unit: Unit

    def __str__(self) -> str:
        return f"within {self.error:g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Rule:
    """`lhs => rhs` (`<=>` if `both`) where every guard is known, licensed by the flags `needs`.

    `types` lists for each type variable of the patterns the dtypes it may be. `family` is the name of the book. `text` is the
    rule as written, with spaces normalised. Without flags a rule claims equal bits, NaN payloads apart. An approximation states its
    error, `within`, over the interval that its guards give.
    """

    name: str
    family: str
    lhs: Pattern
    rhs: Pattern
    both: bool
    types: tuple[tuple[DType, ...], ...]
    guards: tuple[Guard, ...]
    needs: frozenset[Flag]
    text: str
    span: Span = field(compare=False, repr=False)
    within: Within | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def substitutes(self) -> bool:
        """Whether its right side puts a term in an index's place: then it is applied to the kernel's terms, not inside the e-graph."""
        return any(isinstance(p, At) for p in subpatterns(self.rhs))

    @property
    def directions(self) -> tuple[tuple[Pattern, Pattern], ...]:
        """The (from, to) pairs: one, or two for `<=>`."""
        return ((self.lhs, self.rhs), (self.rhs, self.lhs)) if self.both else ((self.lhs, self.rhs),)


INDEX_FAMILY: Final = "index"
SELECT_FAMILY: Final = "select"


def phase(rule: Rule, lhs: Pattern, rhs: Pattern) -> Phase:
    """When a direction of the rule runs: what only shrinks runs freely, instruction selection last, the rest within a budget."""
    if rule.family == SELECT_FAMILY:
        return "select"
    if isinstance(rhs, Var | Lit) or (size(rhs) < size(lhs) and _uses_no_more(lhs, rhs)):
        return "shrink"
    # Without a budget only what cannot grow.
    settles = size(rhs) <= size(lhs) and _uses_no_more(lhs, rhs) and not rule.both
    return "index" if rule.family == INDEX_FAMILY and settles else "explore"


def _uses_no_more(lhs: Pattern, rhs: Pattern) -> bool:
    """Whether no variable occurs more often on the right than on the left."""
    left, right = ([x.name for x in subpatterns(p) if isinstance(x, Var)] for p in (lhs, rhs))
    return all(right.count(name) <= left.count(name) for name in set(right))


def source_text(span: Span) -> str:
    """The text under a span, comments dropped and spaces normalised."""
    lines = span.source.text.splitlines()[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return re.sub(r"\s+", " ", " ".join(line.partition("#")[0] for line in lines)).strip()

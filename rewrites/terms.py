"""Turns expressions into hash-consed terms: the common form of what goes into the e-graph and what comes out of it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from rewrites.declare import PARTS, SIGNATURES

Arg = int | str


class Term(NamedTuple):
    """One node: a constructor of `declare.SIGNATURES` and its columns.

    `i64` columns hold numbers, `String`, `X` and `A` columns names, `E` columns the number of a term (or of an e-class).
    """

    name: str
    args: tuple[Arg, ...]

    @property
    def children(self) -> tuple[int, ...]:
        """The E columns."""
        args = self.args
        return tuple([args[n] for n in PARTS[self.name]])  # type: ignore[misc]

    @property
    def variables(self) -> tuple[str, ...]:
        """The X columns: what the node binds or reads."""
        return tuple(a for a, sort in zip(self.args, SIGNATURES[self.name], strict=True) if sort == "X" and isinstance(a, str))

    @property
    def code(self) -> int:
        """The dtype column (i64 for sizes and indices)."""
        match self.name:
            case "Size" | "Ix":
                return 2
            case "Par" | "Loc":
                return int(self.args[1])
            case _:
                return int(self.args[0])

    @property
    def is_loop(self) -> bool:
        """Whether it is a reduction or a fold."""
        return is_loop(self.name)


def is_loop(name: str) -> bool:
    """Whether the constructor is that of a reduction or a fold."""
    return name.startswith(("R_", "Fold"))


@dataclass(frozen=True, slots=True)
class Variable:
    """An index variable or a fold's carry of the e-graph: its range (term numbers), its bit, and the names its users gave it.

    A carry has the range of its fold's index `loop`, and takes part in that loop's cost alone.
    """

    name: str
    bit: int
    lo: int
    hi: int
    hints: tuple[str, ...]
    loop: str | None = None
    repeats: bool = False


@dataclass(slots=True)
class Dag:
    """Terms in order of making, children first, each once."""

    terms: list[Term] = field(default_factory=list[Term])
    numbers: dict[Term, int] = field(default_factory=dict[Term, int])

    def add(self, name: str, *args: Arg) -> int:
        """The number of this term, made if new."""
        term = Term(name, args)
        number = self.numbers.get(term)
        if number is None:
            number = self.numbers[term] = len(self.terms)
            self.terms.append(term)
        return number

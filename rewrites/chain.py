"""A chain: the steps from an input kernel to its result, one rule each, as data that saves to JSON and loads back.

Each round is a way from one kernel to the next: its temporaries are inlined, rules rewrite the values of its statements, and what
is left is stored in temporaries and named anew. The terms of a round are rows, parts first, beginning with the kernel's own.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from kernel_ir.errors import KernelError

FORMAT: Final = "kir-chain 1"
Kind = Literal["rule", "builtin", "inline", "store"]


class ChainError(KernelError):
    """A chain that is no chain, or a step of it that does not hold."""


@dataclass(frozen=True, slots=True)
class Step:
    """`before` becomes `after`.

    By a rule or a builtin step: both are terms, at each of `paths` (the root's position, then a position among the parts of each node);
    `back`: from the rule's right side to its left. By `inline` and `store`: a temporary goes or comes, and `name` is its name.
    """

    kind: Kind
    name: str
    shown: str
    """`where: before ⇒ after`, for readers."""
    back: bool = False
    before: int = -1
    after: int = -1
    paths: tuple[tuple[int, ...], ...] = ()

    def __str__(self) -> str:
        what = f"{self.kind} {self.name}" if self.kind in ("inline", "store") else self.name
        return f"{what}{' (backwards)' if self.back else ''}  {self.shown}"


@dataclass(frozen=True, slots=True)
class Round:
    """The steps from one kernel (its text) to the next."""

    source: str
    target: str
    rows: tuple[tuple[str | int, ...], ...] = field(repr=False)
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """The way of one kernel: its name, the flags that rules may need, the rounds (none: the kernel as written), the result's text."""

    kernel: str
    flags: tuple[str, ...]
    source: str
    result: str
    rounds: tuple[Round, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return tuple(step for one in self.rounds for step in one.steps)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of the steps, each once, in order of first use."""
        return tuple(dict.fromkeys(step.name for step in self.steps if step.kind == "rule"))

    def __str__(self) -> str:
        lines = [f"{n:3}. {s}" for n, s in enumerate(self.steps, 1)]
        return "\n".join(lines) or "no step: the kernel as written"


def chain_json(chains: "list[Chain]") -> str:
    """The chains as a file's text: the same bytes for the same chains."""
    return json.dumps({"format": FORMAT, "chains": [asdict(c) for c in chains]}, indent=1, ensure_ascii=False) + "\n"


def chains_of(text: str, name: str = "<string>") -> "list[Chain]":
    """The chains of a file's text. Raises ChainError where it is not one, with the part at fault."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ChainError(f"{name} is no chain file: {error}", hint="`kir optimize FILE --chain OUT` writes one") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise ChainError(f"{name} is no chain file: it does not say {FORMAT!r}", hint="`kir optimize FILE --chain OUT` writes one")
    try:
        return [_chain(c) for c in data["chains"]]  # pyright: ignore[reportUnknownVariableType]
    except (KeyError, TypeError, ValueError) as error:
        raise ChainError(f"{name} is no chain file: a part is missing or of another kind ({error})") from None


def _chain(data: Any) -> Chain:
    rounds = tuple(_round(r) for r in data["rounds"])
    return Chain(_text(data["kernel"]), tuple(map(_text, data["flags"])), _text(data["source"]), _text(data["result"]), rounds)


def _round(data: Any) -> Round:
    rows = tuple(tuple(_column(c) for c in row) for row in data["rows"])
    return Round(_text(data["source"]), _text(data["target"]), rows, tuple(_step(s) for s in data["steps"]))


def _step(data: Any) -> Step:
    if data["kind"] not in ("rule", "builtin", "inline", "store"):
        raise ValueError(f"no step is of the kind {data['kind']!r}")
    paths = tuple(tuple(_number(n) for n in path) for path in data["paths"])
    before, after = _number(data["before"]), _number(data["after"])
    return Step(data["kind"], _text(data["name"]), _text(data["shown"]), bool(data["back"]), before, after, paths)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    return value


def _column(value: Any) -> str | int:
    return value if isinstance(value, str) else _number(value)

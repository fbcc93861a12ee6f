"""What a conversation with a model is, whoever holds it: a server's client, a recording, or a recorder in front of either."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from extract.suggest_prompt import Message
from kernel_ir.errors import UsageError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and the tokens that were read and written for it (by the server's count, else estimated)."""

    text: str
    read: int
    written: int


class Chat(Protocol):
    """Asks a model; `model` and `origin` say who answers, for provenance."""

    @property
    def model(self) -> str: ...

    def ask(self, asked: Sequence[Message], most: int) -> Answer:
        """The answer, of at most so many tokens. Raises ModelError where there is none."""
        ...


def estimated(text: str) -> int:
    """A cautious estimate of the tokens of a text: three characters each.

    >>> estimated("rule a: x + 0.0 => x")
    7
    """
    return -(-len(text) // 3)


@dataclass(slots=True)
class Spending:
    """What a run may spend, and what it has spent. Prices are USD for a million tokens, read and written."""

    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    prices: tuple[float, float] | None = None
    read: int = field(default=0, init=False)
    written: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.usd is not None and self.prices is None:
            raise UsageError("a budget in usd needs the price of a token", hint="--price IN,OUT: USD for a million tokens read and written")

    @property
    def cost(self) -> float:
        """USD spent, 0 where no price is known."""
        return self._price(self.read, self.written)

    def spend(self, answer: Answer) -> None:
        """Counts an answer."""
        self.read += answer.read
        self.written += answer.written

    def allowance(self, prompt: int, wanted: int) -> int:
        """The tokens of an answer that may still be asked for, after a prompt of so many; 0 where the budget is spent."""
        most = wanted
        if self.tokens is not None:
            most = min(most, self.tokens - self.read - self.written - prompt)
        if self.usd is not None and self.prices is not None:
            left = self.usd - self.cost - self._price(prompt, 0)
            most = min(most, int(left * 1e6 / self.prices[1]) if self.prices[1] else most if left >= 0 else 0)
        return max(most, 0)

    def _price(self, read: int, written: int) -> float:
        return 0.0 if self.prices is None else (read * self.prices[0] + written * self.prices[1]) / 1e6

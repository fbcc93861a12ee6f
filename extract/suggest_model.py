"""Turns a task into batches of a model's answers: asked once, within the budget, remembered."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from extract.suggest import Batch, Task
from extract.suggest_answer import rule_texts
from extract.suggest_chat import Chat, Spending, estimated
from extract.suggest_database import Database
from extract.suggest_prompt import messages, prompt_hash
from kernel_ir.errors import ModelError

WANTED: Final = 4_000
"""Tokens of an answer."""
LEAST: Final = 200
"""Tokens below which an answer is not worth asking for."""


@dataclass(slots=True)
class ModelSuggester:
    """Suggests what a model answers. `database` is None where a conversation is to be held as recorded: every round is asked then."""

    chat: Chat
    spending: Spending
    database: Database | None
    notes: list[str] = field(default_factory=list[str])

    def suggest(self, task: Task) -> Iterator[Batch]:
        """One batch, or none where the budget is spent or the model gives no answer (a note says which)."""
        asked = messages(task)
        prompt, model = prompt_hash(asked), self.chat.model
        known = self.database.answer(prompt, model) if self.database is not None else None
        if known is None:
            known = self._answer(task, prompt)
        if known is None:
            return
        if not rule_texts(known):
            self.notes.append(f"round {task.round + 1}: the answer, of {len(known)} characters, holds no rule")
        yield Batch(known, model, prompt)

    def _answer(self, task: Task, prompt: str) -> str | None:
        asked = messages(task)
        most = self.spending.allowance(sum(estimated(m.text) for m in asked), WANTED)
        if most < LEAST:
            self.notes.append(f"the budget is spent: {self.spending.read + self.spending.written} tokens, {self.spending.cost:.4f} USD")
            return None
        try:
            answer = self.chat.ask(asked, most)
        except ModelError as error:
            if task.round == 0:
                raise
            self.notes.append(str(error))  # what was found before is not lost
            return None
        self.spending.spend(answer)
        if self.database is not None:
            self.database.answered(prompt, self.chat.model, answer.text, answer.read, answer.written)
        return answer.text

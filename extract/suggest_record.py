"""Turns a conversation into a file and back: JSON lines, a header and then one exchange each, never a key.

A recording is also what a person may write by hand: the header then says so, and `prompt` is left out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from extract.suggest_answer import MAX_ANSWER
from extract.suggest_chat import Answer, Chat, estimated
from extract.suggest_prompt import Message, prompt_hash
from kernel_ir.errors import ModelError, UsageError

FORMAT: Final = "kir suggestions 1"
MAX_LINE: Final = 16 * MAX_ANSWER


@dataclass(slots=True)
class Recorder:
    """A chat that writes down each exchange as it happens."""

    chat: Chat
    path: Path
    _begun: bool = False

    @property
    def model(self) -> str:
        return self.chat.model

    def begin(self) -> None:
        """Writes the header; raises UsageError where the file cannot be written."""
        self._write({"format": FORMAT, "model": self.model, "origin": "recorded"}, "w")

    def ask(self, asked: Sequence[Message], most: int) -> Answer:
        answer = self.chat.ask(asked, most)
        exchange = {
            "prompt": prompt_hash(asked),
            "messages": [{"role": m.role, "content": m.text} for m in asked],
            "answer": answer.text,
            "read": answer.read,
            "written": answer.written,
        }
        self._write(exchange, "a")
        return answer

    def _write(self, value: dict[str, Any], mode: str) -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}", hint="choose another file with --record") from None


@dataclass(slots=True)
class Replay:
    """A chat that answers from a recording, in order; `notes` says where it was asked something else than was recorded."""

    path: Path
    notes: list[str] = field(default_factory=list[str])
    _header: dict[str, Any] = field(init=False, repr=False)
    _exchanges: list[dict[str, Any]] = field(init=False, repr=False)
    _next: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._header, *self._exchanges = _lines(self.path)

    @property
    def model(self) -> str:
        """The model that was recorded; of a recording by hand, that."""
        model, origin = (str(self._header.get(key, "")) for key in ("model", "origin"))
        return model if origin == "recorded" else f"{model} ({origin})"

    def ask(self, asked: Sequence[Message], most: int) -> Answer:
        if self._next >= len(self._exchanges):
            raise ModelError(f"the recording {self.path} has no more answers", hint=f"it holds {len(self._exchanges)} rounds: --rounds")
        exchange = self._exchanges[self._next]
        self._next += 1
        if exchange.get("prompt", prompt_hash(asked)) != prompt_hash(asked):
            self.notes.append(f"round {self._next} of the recording answered another prompt than is asked now")
        text = exchange["answer"]
        return Answer(text, int(exchange.get("read", 0)), int(exchange.get("written", estimated(text))))

    @property
    def left(self) -> int:
        """Answers that are left."""
        return len(self._exchanges) - self._next


def _lines(path: Path) -> list[dict[str, Any]]:
    """The header and the exchanges of a recording. Raises UsageError with the line at fault."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the recording {path}: {error}", hint="give a file that --record wrote") from None
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        value = _value(line)
        fault = "this is no JSON object" if value is None else _fault(value, number)
        if value is None or fault:
            raise UsageError(f"{path}:{number}: {fault}", hint="a recording is a header and one exchange a line, as --record writes them")
        found.append(value)
    if not found:
        raise UsageError(f"the recording {path} is empty", hint="give a file that --record wrote")
    return found


def _value(line: str) -> dict[str, Any] | None:
    try:
        value: object = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _fault(value: dict[str, Any], number: int) -> str:
    if number == 1:
        return "" if value.get("format") == FORMAT else f'the header has no "format": "{FORMAT}"'
    return "" if isinstance(value.get("answer"), str) else 'an exchange needs an "answer"'

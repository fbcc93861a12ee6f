"""Asks a model on a server with the OpenAI chat API: streamed, within time limits, again after a failure, the key never shown.

Any server will do (vLLM, llama.cpp, Ollama, a hosted one): the base URL and the key come from the environment or the caller. What the
server says is untrusted: it is cut at a size, and the key is struck out should it come back.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

from extract.suggest_answer import MAX_ANSWER, SCHEMA
from extract.suggest_chat import Answer, estimated
from extract.suggest_prompt import Message
from kernel_ir.errors import ModelError, UsageError

KEYS: Final = ("KIR_API_KEY", "OPENAI_API_KEY")
URLS: Final = ("KIR_BASE_URL", "OPENAI_BASE_URL")
FIRST_WAIT: Final = 1.0
"""Seconds before the first new attempt; each later one waits twice as long."""
LONGEST_WAIT: Final = 60.0
_AGAIN: Final = (408, 409, 429)
"""Statuses, besides those of the server's own faults, after which asking again may help."""
_DIALECT: Final = (400, 404, 415, 422, 501)
"""Statuses by which a server may say that it does not know an option."""
_WITHOUT_KEY: Final = "none"
"""What a server that wants no key is sent."""

Progress = Callable[[str], None]


def _quiet(_: str) -> None:
    """Shows nothing."""


class Secret:
    """A key: it is nowhere printed, and is struck out of texts."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")

    def reveal(self) -> str:
        """The key itself, for the client alone."""
        return self._value

    def struck(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._value, "[key]") if len(self._value) >= 4 and self._value != _WITHOUT_KEY else text


def key_of(environment: Mapping[str, str], base_url: str | None) -> Secret:
    """The key of the environment. Raises UsageError where there is none and the server is OpenAI's own."""
    for name in KEYS:
        if value := environment.get(name, "").strip():
            return Secret(value)
    if base_url is None:
        raise UsageError("no key for the model", hint=f"set {' or '.join(KEYS)}, or give the --base-url of a server that needs none")
    return Secret(_WITHOUT_KEY)


def url_of(environment: Mapping[str, str], given: str | None) -> str | None:
    """The base URL given, else the environment's; None for the client's own default."""
    return given or next((environment[name] for name in URLS if environment.get(name)), None)


@dataclass(slots=True)
class Client:
    """A chat with a model on a server."""

    model: str
    base_url: str | None = None
    key: Secret | None = field(default=None, repr=False)
    timeout: float = 120.0
    retries: int = 4
    progress: Progress = field(default=_quiet, repr=False)
    wait: Callable[[float], None] = field(default=time.sleep, repr=False)
    _refused: set[str] = field(default_factory=set[str], init=False)
    _client: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = url_of(os.environ, self.base_url)
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise UsageError(f"{self.base_url!r} is no base URL", hint="such as http://localhost:8000/v1")
        if self.key is None:
            self.key = key_of(os.environ, self.base_url)

    def ask(self, asked: Sequence[Message], most: int) -> Answer:
        """The answer. Raises ModelError where the server gave none, after the retries that may help."""
        openai = _package()
        for attempt in range(self.retries + 1):
            try:
                return self._answer(asked, most)
            except openai.APIStatusError as error:
                if error.status_code in _DIALECT and (refused := self._dialect(str(error.message))):
                    self._refused.add(refused)
                    return self.ask(asked, most)
                fault = f"the server answered {error.status_code}: {self._message(error)}"
                again = error.status_code in _AGAIN or error.status_code >= 500
                pause = _retry_after(error.response.headers, time.time())
            except Exception as error:  # what a broken server can make a client raise is not a closed set
                fault, again, pause = f"{type(error).__name__}: {self._message(error)}", True, None
            if not again or attempt == self.retries:
                raise ModelError(f"no answer from {self.model}: {fault}", hint=_hint(fault)) from None
            seconds = min(LONGEST_WAIT, pause if pause is not None else FIRST_WAIT * 2**attempt)
            self.progress(f"{fault[:80]}; again in {seconds:.3g} s")
            self.wait(seconds)
        raise AssertionError

    def _answer(self, asked: Sequence[Message], most: int) -> Answer:
        """One attempt: the stream's text up to the size limit."""
        assert self.key is not None
        stream = self._connected().chat.completions.create(
            model=self.model,
            messages=[{"role": m.role, "content": m.text} for m in asked],
            stream=True,
            **self._options(most),
        )
        parts: list[str] = []
        size, finished, usage = 0, False, None
        deadline = time.monotonic() + 10 * self.timeout
        with stream:
            for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices[:1]:
                    parts.append(choice.delta.content or "" if choice.delta else "")
                    size += len(parts[-1])
                    finished = finished or choice.finish_reason is not None
                self.progress(f"{self.model}: {size} characters")
                if size > MAX_ANSWER:
                    break
                if time.monotonic() > deadline:
                    raise _Broken("the answer drips without an end")
        if not finished and size <= MAX_ANSWER:
            raise _Broken("the answer broke off")
        text = self.key.struck("".join(parts))[:MAX_ANSWER]
        read = sum(estimated(m.text) for m in asked) if usage is None else usage.prompt_tokens
        return Answer(text, read, estimated(text) if usage is None else usage.completion_tokens)

    def _options(self, most: int) -> dict[str, Any]:
        """What not every server takes, as far as this one did not refuse it."""
        limit = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        options: dict[str, Any] = {
            limit: most,
            "stream_options": {"include_usage": True},
            "response_format": {"type": "json_schema", "json_schema": SCHEMA},
        }
        return {name: value for name, value in options.items() if name not in self._refused}

    def _dialect(self, message: str) -> str:
        """The option that a server most likely refused; empty where there is none to leave out any more."""
        open_ = [name for name in ("stream_options", "max_tokens", "response_format") if name not in self._refused]
        return next((name for name in open_ if name in message), "response_format" if "response_format" in open_ else "")

    def _connected(self) -> Any:
        if self._client is None:
            assert self.key is not None
            # The retries are ours: they obey the budget's clock, and say what they wait for.
            self._client = _package().OpenAI(api_key=self.key.reveal(), base_url=self.base_url, timeout=self.timeout, max_retries=0)
        return self._client

    def _message(self, error: Exception) -> str:
        assert self.key is not None
        return self.key.struck(" ".join(str(getattr(error, "message", error)).split()))[:300]


class _Broken(Exception):
    """The stream ended before the answer did."""


def _package() -> Any:
    try:
        import openai
    except ImportError:
        raise UsageError("the package `openai` is not installed", hint="pip install 'kir[llm]'") from None
    return openai


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait, by `retry-after-ms` or `Retry-After` (seconds or a date)."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        given = headers.get("retry-after", "")
        if not given:
            return None
        return max(0.0, float(given) if given.replace(".", "", 1).isdigit() else parsedate_to_datetime(given).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _hint(fault: str) -> str:
    if " 401" in fault or " 403" in fault:
        return f"is the key right? It is taken from {' or '.join(KEYS)}"
    if " 404" in fault:
        return "is the name of the model right, and the --base-url?"
    if " 429" in fault:
        return "the server limits how much may be asked: wait, or ask with fewer --rounds"
    return "is the server there? See --base-url, --timeout and --retries"

"""The client against a real server process: retries, rate limits, dialects, broken streams, sizes; and the key, which is nowhere."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from extract.suggest_chat import Answer, Spending
from extract.suggest_client import Client, Secret, key_of, url_of
from extract.suggest_prompt import Message
from extract.suggest_record import Recorder, Replay
from kernel_ir.errors import ModelError, UsageError

pytest.importorskip("openai", reason="the extra `llm` is not installed")
KEY = "sk-very-secret-0123456789"
RULE = "rule twice: x + x => x * 2.0"
ASKED = (Message("system", "s"), Message("user", "u"))


@dataclass
class Server:
    """A scripted server that runs."""

    url: str
    log: Path

    def requests(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture
def serve(tmp_path: Path) -> Iterator:
    processes: list[subprocess.Popen] = []

    def start(*script: dict) -> Server:
        path, log = tmp_path / f"script{len(processes)}.json", tmp_path / f"log{len(processes)}.jsonl"
        path.write_text(json.dumps(script))
        command = [sys.executable, str(Path(__file__).parent / "chat_server.py"), str(path), str(log)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout is not None
        return Server(f"http://127.0.0.1:{int(processes[-1].stdout.readline())}/v1", log)

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def client(server: Server, **given) -> tuple[Client, list[float]]:
    waits: list[float] = []
    return Client("scripted", server.url, Secret(KEY), timeout=given.pop("timeout", 5.0), wait=waits.append, **given), waits


def test_it_streams_with_a_schema_and_counts_tokens(serve):
    server = serve({"text": RULE * 10})
    chat, waits = client(server)
    assert chat.ask(ASKED, 500) == Answer(RULE * 10, 1000, 100)
    (request,) = server.requests()
    asked = request["asked"]
    assert request["authorization"] == f"Bearer {KEY}"
    assert (asked["model"], asked["stream"], asked["max_tokens"]) == ("scripted", True, 500)
    assert asked["response_format"]["type"] == "json_schema"
    assert asked["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert not waits


@pytest.mark.parametrize(
    ("first", "waited"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, [7.0]),
        ({"status": 429, "headers": {"retry-after-ms": "1500"}}, [1.5]),
        ({"status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}}, [0.0]),
        ({"status": 429, "headers": {"Retry-After": "soon"}}, [1.0]),
        ({"status": 429, "headers": {"Retry-After": "86400"}}, [60.0]),
        ({"status": 500}, [1.0]),
        ({"status": 503}, [1.0]),
        ({"text": RULE * 9, "cut": 2}, [1.0]),
        ({"garbage": True}, [1.0]),
    ],
    ids=str,
)
def test_it_asks_again_after_what_may_pass(serve, first, waited):
    chat, waits = client(serve(first, {"text": RULE}))
    assert chat.ask(ASKED, 500).text == RULE
    assert waits == waited


def test_it_backs_off_and_gives_up(serve):
    chat, waits = client(serve({"status": 500}), retries=3)
    with pytest.raises(ModelError, match=r"answered 500: .*scripted 500"):
        chat.ask(ASKED, 500)
    assert waits == [1.0, 2.0, 4.0]


def test_a_wrong_key_is_not_tried_again(serve):
    server = serve({"status": 401, "echo_key": True})
    chat, waits = client(server)
    with pytest.raises(ModelError, match="401") as error:
        chat.ask(ASKED, 500)
    assert KEY not in str(error.value) and "[key]" in str(error.value) and not waits
    assert len(server.requests()) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("response_format", "unknown field"),
        ("stream_options", "stream_options?"),
        ("max_tokens", "use max_completion_tokens, not max_tokens"),
    ],
)
def test_a_server_that_does_not_know_an_option_is_asked_without(serve, option, message):
    server = serve({"status": 400, "only_with": option, "body": {"error": {"message": message}}}, {"text": RULE})
    chat, waits = client(server)
    assert chat.ask(ASKED, 500).text == RULE
    first, second = (r["asked"] for r in server.requests())
    assert option in first and option not in second and not waits
    assert second.get("max_tokens", second.get("max_completion_tokens")) == 500


def test_a_slow_stream_times_out(serve):
    chat, _ = client(serve({"text": RULE, "pause": 3}), timeout=0.3, retries=0)
    with pytest.raises(ModelError, match=r"Timeout|timed out"):
        chat.ask(ASKED, 500)


def test_an_endless_answer_is_cut(serve):
    chat, _ = client(serve({"text": RULE, "endless": True}))
    assert len(chat.ask(ASKED, 500).text) == 64 * 1024


def test_no_server(tmp_path):
    chat, waits = client(Server("http://127.0.0.1:9/v1", tmp_path / "none"), retries=1)
    with pytest.raises(ModelError, match="no answer from scripted"):
        chat.ask(ASKED, 500)
    assert waits == [1.0]


def test_the_key_is_nowhere(serve, tmp_path):
    server = serve({"text": RULE, "echo_key": True})
    chat, _ = client(server)
    recorder = Recorder(chat, tmp_path / "talk.jsonl")
    recorder.begin()
    answer = recorder.ask(ASKED, 500)
    assert "[key]" in answer.text
    shown = (
        answer.text,
        (tmp_path / "talk.jsonl").read_text(),
        repr(chat),
        repr(chat.key),
        str(chat.key),
        f"{vars(recorder) if hasattr(recorder, '__dict__') else recorder}",
    )
    assert not any(KEY in text for text in shown)
    replay = Replay(tmp_path / "talk.jsonl")
    assert replay.ask(ASKED, 500).text == answer.text and replay.model == "scripted" and not replay.notes


def test_replay_says_where_it_was_asked_something_else(serve, tmp_path):
    chat, _ = client(serve({"text": RULE}))
    recorder = Recorder(chat, tmp_path / "talk.jsonl")
    recorder.begin()
    recorder.ask(ASKED, 500)
    replay = Replay(tmp_path / "talk.jsonl")
    replay.ask((Message("user", "something else"),), 500)
    assert len(replay.notes) == 1
    with pytest.raises(ModelError, match="no more answers"):
        replay.ask(ASKED, 500)


@pytest.mark.parametrize("text", ["", "{}\n", "[1]\n", '{"format": "kir suggestions 1"}\n{"answer": 3}\n', "\x00", "[" * 10**5])
def test_a_file_that_is_no_recording_is_refused(tmp_path, text):
    path = tmp_path / "talk.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"talk\.jsonl"):
        Replay(path)


def test_keys_and_urls_come_from_the_environment():
    assert key_of({"OPENAI_API_KEY": "b", "KIR_API_KEY": "a"}, None).reveal() == "a"
    assert url_of({"OPENAI_BASE_URL": "http://o", "KIR_BASE_URL": "http://k"}, None) == "http://k"
    assert url_of({"KIR_BASE_URL": "http://k"}, "http://given") == "http://given"
    assert key_of({}, "http://localhost:1") is not None
    with pytest.raises(UsageError, match="no key"):
        key_of({}, None)
    with pytest.raises(UsageError, match="base URL"):
        Client("m", "file:///etc/passwd", Secret("k"))


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match="not installed") as error:
        Client("m", "http://localhost:1", Secret("key")).ask(ASKED, 10)
    assert error.value.hint == "pip install 'kir[llm]'"


def test_budgets():
    spending = Spending(tokens=10_000)
    assert spending.allowance(1000, 4000) == 4000
    spending.spend(Answer("", 6000, 1000))
    assert (spending.allowance(1000, 4000), spending.allowance(5000, 4000)) == (2000, 0)
    money = Spending(usd=0.01, prices=(1.0, 10.0))
    assert money.allowance(1000, 4000) == 900
    money.spend(Answer("", 1000, 900))
    assert (money.allowance(0, 4000), round(money.cost, 6)) == (0, 0.01)
    with pytest.raises(UsageError, match="price"):
        Spending(usd=1.0)


def test_openai_is_imported_only_when_a_model_is_asked():
    code = "import sys, extract.suggest_client, extract.suggest_record; assert 'openai' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})

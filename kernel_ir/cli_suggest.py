"""The command `rules suggest`: kernels and a model (or none, or a recording) into rules that are proved and worth it."""

import argparse
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from extract.suggest import Outcome, Suggester
from extract.suggest_book import HEAD, added, book_text, certificates_text
from extract.suggest_chat import Chat, Spending
from extract.suggest_client import Client
from extract.suggest_database import Database, opened
from extract.suggest_loop import INTERRUPTED, Report
from extract.suggest_model import ModelSuggester
from extract.suggest_prompt import Message, messages
from extract.suggest_record import Recorder, Replay
from kernel_ir.cli_common import check_sizes_known, chosen, console, read_module, sizes, write_json, write_out
from kernel_ir.cli_suggest_options import NO_MODEL
from kernel_ir.errors import UsageError
from kernel_ir.fastmath import flags, flags_text
from kernel_ir.nodes import Kernel
from kernel_ir.optimizer import options
from kernel_ir.suggesting import Search, database_path
from kernel_ir.suggesting import suggest as suggested
from rewrites.books import load_book
from rewrites.certificates import path_of

if TYPE_CHECKING:
    from rich.console import Console

SHOWN: Final = 400
"""Characters of a rule, or of why it was refused, that a line shows; `--json` gives the whole."""


def suggest(arguments: argparse.Namespace) -> int:
    """`kir rules suggest FILE…`: exit code 0 whether or not a rule was found; 2 where nobody could be asked; 130 after Ctrl-C."""
    options(target=arguments.target, fast_math=arguments.fast_math, pack=arguments.pack)
    spending = _spending(arguments)
    search, kernels = _search(arguments)
    err = console()
    with opened(Path(arguments.database) if arguments.database else database_path()) as database:
        with _progress(err) as show:
            if arguments.dry_run:
                return _dry_run(arguments, kernels, search, database)
            suggester, notes = _suggester(arguments, spending, database, show)
            tune = arguments.tune > 0
            report = suggested(kernels, suggester, search, database, arguments.rounds, spending.seconds, tune, _teller(err), show)
        _write(arguments, report)
        _summarise(err, report, spending, [*notes, *database.notes])
    return 130 if report.ended == INTERRUPTED else 0


def _search(arguments: argparse.Namespace) -> tuple[Search, tuple[Kernel, ...]]:
    given = sizes(arguments.size)
    kernels = tuple(
        k for path in arguments.files for k in chosen(read_module(path), arguments.kernel if len(arguments.files) == 1 else (), path)
    )
    if len(arguments.files) > 1 and arguments.kernel:
        kernels = tuple(k for k in kernels if k.name in arguments.kernel)
    if not kernels:
        raise UsageError("no kernel is named so", hint="choose with -k NAME")
    check_sizes_known(kernels, given)
    extra = tuple(rule for path in arguments.rules for rule in load_book(Path(path)))
    licence = flags_text(flags(arguments.fast_math))
    return Search(arguments.target, licence, given, extra, arguments.pack, arguments.seed), kernels


def _spending(arguments: argparse.Namespace) -> Spending:
    """The budget: `tokens=…,usd=…,seconds=…` and prices."""
    limits: dict[str, float] = {"tokens": 200_000}
    for word in filter(None, arguments.budget.split(",")):
        name, _, value = word.partition("=")
        limits[name.strip()] = _number(value, f"--budget {word}")
        if name.strip() not in ("tokens", "usd", "seconds"):
            raise UsageError(f"--budget {word}: nothing is called {name.strip()!r}", hint="tokens=200000,usd=2,seconds=600")
    prices = None
    if arguments.price:
        read, comma, written = arguments.price.partition(",")
        if not comma:
            raise UsageError(
                f"--price {arguments.price}: two prices were expected", hint="--price 1.25,10: USD for a million tokens, read and written"
            )
        prices = _number(read, "--price"), _number(written, "--price")
    if arguments.rounds < 1:
        raise UsageError(f"--rounds {arguments.rounds}: at least one round", hint="--rounds 3")
    return Spending(int(limits["tokens"]), limits.get("usd"), limits.get("seconds"), prices)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        raise UsageError(f"{what}: a number of at least 0 was expected, and {text!r} found")
    return value


def _suggester(
    arguments: argparse.Namespace, spending: Spending, database: Database, show: Callable[[str], None]
) -> tuple[Suggester, list[str]]:
    """Who suggests, and the list to which that one adds notes."""
    if arguments.replay and arguments.record:
        raise UsageError("--record and --replay exclude each other", hint="copy the recording")
    if arguments.replay:
        replay = Replay(Path(arguments.replay))
        suggester = ModelSuggester(replay, spending, None, replay.notes)
        return suggester, replay.notes
    if arguments.model == NO_MODEL:
        if arguments.record:
            raise UsageError("without a model there is no conversation to record", hint="--model NAME")
        from extract.synth import Synthesiser

        return Synthesiser(arguments.seed, progress=show), []
    chat: Chat = Client(arguments.model, arguments.base_url, timeout=arguments.timeout, retries=arguments.retries, progress=show)
    if arguments.record:
        recorder = Recorder(chat, Path(arguments.record))
        recorder.begin()
        chat = recorder
    model = ModelSuggester(chat, spending, None if arguments.record else database)
    return model, model.notes


def _dry_run(arguments: argparse.Namespace, kernels: Sequence[Kernel], search: Search, database: Database) -> int:
    """Prints what a model would be asked first."""
    asked: list[Message] = []
    suggested(kernels, _Listener(asked), search, database, rounds=1)
    if arguments.json:
        write_json({"messages": [{"role": m.role, "content": m.text} for m in asked]})
    else:
        write_out("\n\n".join(f"[{m.role}]\n{m.text}" for m in asked) + "\n", None)
    return 0


class _Listener:
    """A suggester that only notes what it would be asked."""

    def __init__(self, asked: list[Message]) -> None:
        self.asked = asked

    def suggest(self, task: Any) -> Generator[Any]:
        """Nothing."""
        self.asked += messages(task)
        yield from ()


@contextmanager
def _progress(err: "Console") -> Generator[Callable[[str], None]]:
    """A line that says what goes on, on a terminal alone."""
    if not err.is_terminal:
        yield lambda _: None
        return
    from rich.text import Text

    with err.status("optimizing the kernels as they are") as status:
        yield lambda what: status.update(Text(what))


def _teller(err: "Console") -> Callable[[Outcome], None]:
    def tell(o: Outcome) -> None:
        gain = f", {o.best:.3f}×" if o.gains else ""
        why = f": {_shown(o.why.splitlines()[0])}" if o.why else ""
        err.print(f"{o.fate.value}{gain}  {_shown(o.admitted or o.suggested)}{why}", markup=False, soft_wrap=True)

    return tell


def _shown(text: str) -> str:
    """The head of what an answer says: that one is untrusted, and may be a rule of thousands of terms."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def _write(arguments: argparse.Namespace, report: Report) -> None:
    """The rules kept: into the book, or on standard output; with --json the whole report there."""
    if arguments.book:
        text, count = added(Path(arguments.book), report.kept)
        if count:
            write_out(text, arguments.book)
            write_out(certificates_text(Path(arguments.book)), str(path_of(Path(arguments.book))))
    if arguments.json:
        write_json(_json(report))
    elif not arguments.book and report.kept:
        write_out(HEAD + "\n" + book_text(report.kept), None)


def _json(report: Report) -> dict[str, Any]:
    return {
        "rounds": report.rounds,
        "kernels": [
            {"kernel": b.kernel.name, "before": b.cycles, "after": a.cycles, "rules": list(a.rules)}
            for b, a in zip(report.before, report.after, strict=True)
        ],
        "suggestions": [
            {
                "name": o.name,
                "suggested": o.suggested,
                "fate": o.fate.value,
                "why": o.why,
                "admitted": o.admitted,
                "method": o.method,
                "gains": [{"kernel": g.kernel, "before": g.before, "after": g.after, "unit": g.unit} for g in o.gains],
                "source": o.source,
                "prompt": o.prompt,
            }
            for o in report.outcomes
        ],
    }


def _summarise(err: "Console", report: Report, spending: Spending, notes: Sequence[str]) -> None:
    for b, a in zip(report.before, report.after, strict=True):
        ratio = b.cycles / a.cycles if a.cycles else 1.0
        err.print(f"{b.kernel.name}: {b.cycles:.4g} → {a.cycles:.4g} cycles ({ratio:.3f}×)", markup=False, soft_wrap=True)
    spent = f", {spending.read} tokens read and {spending.written} written" if spending.read else ""
    cost = f", {spending.cost:.4f} USD" if spending.prices else ""
    ended = f" ({report.ended})" if report.ended else ""
    err.print(f"{len(report.outcomes)} suggestions, {len(report.kept)} rules kept{spent}{cost}{ended}", markup=False, soft_wrap=True)
    for note in dict.fromkeys(notes):
        err.print(f"note: {note}", markup=False, soft_wrap=True)

"""Turns lists of suggestions into figures: are unsound ones refused, sound ones admitted with the right licence, lost rules restored?

    python -m benchmarks.suggest [--only unsound|sound|restore|enumerated|example]… [--database FILE] [--output …]

The suggestions (`benchmarks/suggestions/`) were written by hand, the unsound ones to deceive; no model was asked. Each goes through
the whole path of `kir rules suggest`: parsed, typed, licensed, proved, repaired, generalised. An unsound one that comes out repaired is
checked again by an oracle that shares nothing with the prover (`benchmarks/oracle.py`). Suggestions are judged on all cores at once; with
`--database`, a run that was broken off goes on with the proofs that it has, by this version of the prover (`proofs`: how many were new).
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from benchmarks.machine import description
from benchmarks.oracle import counterexample
from benchmarks.suggest_example import example
from benchmarks.suggest_restore import enumerated, recorded
from extract.suggest import Batch, Outcome
from extract.suggest_database import opened
from extract.suggest_isolate import Isolated
from extract.suggest_judge import Judge
from extract.suggest_pool import cores
from extract.suggest_read import one_rule, read_rule
from kernel_ir.fastmath import ALL, flags
from kernel_ir.suggesting import Search
from rewrites.rule import Rule

HERE = Path(__file__).parent
SUGGESTIONS = HERE / "suggestions"

SOUND: Final = 0.95
"""The part of the sound suggestions that is to be admitted."""
RESTORED: Final = 0.9
"""The part of the lost cycles (of their logarithms) that the recording is to restore."""

T = TypeVar("T")


@dataclass(frozen=True)
class Unsound:
    """One unsound suggestion: its kind, its text, the flags that are on."""

    kind: str
    text: str
    flags: str


def unsound() -> list[Unsound]:
    """The unsound suggestions, in the order of the file."""
    found: list[Unsound] = []
    kind = licence = ""
    for line in _lines("unsound.txt"):
        if line.startswith("=="):
            kind, licence = (part.strip() for part in line.removeprefix("==").split("|"))
        else:
            found.append(Unsound(kind, f"rule unsound_{len(found) + 1}: {line}", licence))
    return found


def sound() -> list[tuple[str, str]]:
    """(text, flags that the admitted rule must need: none, a list, or `any` for what guards may do instead) of each sound suggestion."""
    return [(f"rule sound_{n}: {line.rpartition(' | ')[0]}", line.rpartition(" | ")[2]) for n, line in enumerate(_lines("sound.txt"), 1)]


def _lines(name: str) -> list[str]:
    lines = (line.strip() for line in (SUGGESTIONS / name).read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class Judged:
    """The fate of a suggestion where no rule is there before, and no kernel: what the prover admits, in how many proofs and seconds."""

    outcome: Outcome
    proofs: int
    seconds: float


def judged(text: str, licence: str, isolated: Isolated, database: Path | None) -> Judged:
    """A suggestion's fate under the flags."""
    started = time.perf_counter()
    with opened(database) as proofs:
        judge = Judge((), (), flags(licence), Search(), proofs, isolated, f"evaluation {started}")
        outcome = judge.judge(text, Batch(text, "by hand"))
        return Judged(outcome, judge.prover.proofs, round(time.perf_counter() - started, 1))


def rows_of(row: Callable[[T, Isolated], dict[str, Any]], items: Sequence[T]) -> list[dict[str, Any]]:
    """The row of each item, in order, made on all cores."""
    idle: SimpleQueue[Isolated] = SimpleQueue()
    processes = [Isolated() for _ in range(cores())]

    def made(item: T) -> dict[str, Any]:
        isolated = idle.get()
        try:
            return row(item, isolated)
        finally:
            idle.put(isolated)

    try:
        for process in processes:
            idle.put(process)
        with ThreadPoolExecutor(len(processes)) as threads:
            return list(threads.map(made, items))
    finally:
        for process in processes:
            process.close()


def admitted_wrongly(suggested: str, outcome: Outcome) -> str:
    """Why an admitted rule is wrong; empty where it is not, or none was admitted."""
    if not outcome.fate.certified:
        return ""
    rule = one_rule(outcome.admitted)
    if _claim(rule) == _claim(one_rule(read_rule(suggested).text)):
        return "admitted as it was suggested"
    return counterexample(rule)


def _claim(rule: Rule) -> tuple[Any, ...]:
    return rule.lhs, rule.rhs, rule.guards, rule.needs


def evaluate_unsound(database: Path | None) -> dict[str, Any]:
    """How many of the unsound suggestions were admitted, by kind."""

    def row(one: Unsound, isolated: Isolated) -> dict[str, Any]:
        found = judged(one.text, one.flags, isolated, database)
        outcome = found.outcome
        wrong = admitted_wrongly(one.text, outcome)
        why = outcome.why.splitlines()[0] if outcome.why else ""
        _say(f"{'WRONG ' if wrong else ''}{outcome.fate.value:10} {one.text}  {outcome.admitted and '-> ' + outcome.admitted} {wrong}")
        return {
            "kind": one.kind,
            "suggested": one.text,
            "fate": outcome.fate.value,
            "admitted": outcome.admitted,
            "why": why,
            "wrong": wrong,
            "proofs": found.proofs,
            "seconds": found.seconds,
        }

    rows = rows_of(row, unsound())
    kinds = list(dict.fromkeys(r["kind"] for r in rows))
    by_kind = {kind: sum(bool(r["wrong"]) for r in rows if r["kind"] == kind) for kind in kinds}
    repaired = sum(bool(r["admitted"]) for r in rows)
    return {"suggestions": len(rows), "admitted": sum(by_kind.values()), "repaired": repaired, "admitted_by_kind": by_kind, "rows": rows}


def evaluate_sound(database: Path | None) -> dict[str, Any]:
    """How many of the sound suggestions were admitted with the licence that they must have."""

    def row(one: tuple[str, str], isolated: Isolated) -> dict[str, Any]:
        text, licence = one
        found = judged(text, "all", isolated, database)
        outcome = found.outcome
        needs = one_rule(outcome.admitted).needs if outcome.fate.certified else ALL
        right = outcome.fate.certified and (licence == "any" or needs == flags("none" if licence == "-" else licence))
        _say(f"{'' if right else 'MISSED '}{outcome.fate.value:10} {text} [{licence}] -> {outcome.admitted} {outcome.why.splitlines()[:1]}")
        return {
            "suggested": text,
            "licence": licence,
            "fate": outcome.fate.value,
            "admitted": outcome.admitted,
            "right": right,
            "proofs": found.proofs,
            "seconds": found.seconds,
        }

    rows = rows_of(row, sound())
    right = sum(r["right"] for r in rows)
    return {"suggestions": len(rows), "admitted": right, "rate": right / len(rows), "rows": rows}


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(re.sub(r"\s+", " ", text)[:240], file=sys.stderr, flush=True)


PARTS: Final[dict[str, Callable[[Path | None], dict[str, Any]]]] = {
    "unsound": evaluate_unsound,
    "sound": evaluate_sound,
    "restore": partial(recorded, _say),
    "enumerated": partial(enumerated, _say),
    "example": lambda _: example(),
}


def main() -> int:
    """Runs the evaluation; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="a part; may be given again (default: all but enumerated)")
    parser.add_argument("--database", type=Path, help="an SQLite file that keeps the proofs, so that a run can go on where it ended")
    parser.add_argument("--output", default=str(HERE / "results" / "suggest.json"))
    arguments = parser.parse_args()
    path = Path(arguments.output)
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result |= {"machine": description(), "suggestions": "written by hand; no language model was asked"}
    for name in arguments.only or ("unsound", "sound", "restore", "example"):
        started = time.perf_counter()
        found = PARTS[name](arguments.database)
        result[name] = found | {"seconds": round(time.perf_counter() - started, 1), "cores": cores()}
        _write(path, result)
    missed = (
        result.get("unsound", {}).get("admitted", 0) > 0,
        result.get("sound", {}).get("rate", 1) < SOUND,
        result.get("restore", {}).get("recovered", 1) < RESTORED,
    )
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())

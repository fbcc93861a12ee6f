"""Turns lists of suggestions into figures: are unsound ones refused, sound ones admitted with the right licence, lost rules restored?

    python -m benchmarks.suggest [--only unsound|sound|restore|example] [--output benchmarks/results/suggest.json]

The suggestions (`benchmarks/suggestions/`) were written by hand, the unsound ones to deceive; no model was asked. Each goes through
the whole path of `kir rules suggest`: parsed, typed, licensed, proved, repaired, generalised. An unsound one that comes out repaired is
checked again by an oracle that shares nothing with the prover (`benchmarks/oracle.py`).
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.oracle import counterexample
from benchmarks.suggest_example import example
from benchmarks.suggest_restore import restore
from extract.suggest import Batch, Outcome
from extract.suggest_database import Database
from extract.suggest_isolate import Isolated
from extract.suggest_judge import Judge
from extract.suggest_read import one_rule
from kernel_ir.fastmath import ALL, flags
from kernel_ir.suggesting import Search
from rewrites.rule import Rule

HERE = Path(__file__).parent
SUGGESTIONS = HERE / "suggestions"


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


def judged(texts: Sequence[str], licence: str, isolated: Isolated) -> list[Outcome]:
    """The fates of suggestions where no rule is there before, and no kernel: what the prover admits."""
    judge = Judge((), (), flags(licence), Search(), Database(None), isolated, "evaluation")
    return [judge.judge(text, Batch(text, "by hand")) for text in texts]


def admitted_wrongly(suggested: str, outcome: Outcome) -> str:
    """Why an admitted rule is wrong; empty where it is not, or none was admitted."""
    if not outcome.fate.certified:
        return ""
    rule = one_rule(outcome.admitted)
    if _claim(rule) == _claim(one_rule(_rule_text(suggested))):
        return "admitted as it was suggested"
    return counterexample(rule)


def _rule_text(suggested: str) -> str:
    from extract.suggest_read import read_rule

    return read_rule(suggested).text


def _claim(rule: Rule) -> tuple[Any, ...]:
    return rule.lhs, rule.rhs, rule.guards, rule.needs


def evaluate_unsound(isolated: Isolated) -> dict[str, Any]:
    """How many of the unsound suggestions were admitted, by kind."""
    rows: list[dict[str, Any]] = []
    for one in unsound():
        (outcome,) = judged([one.text], one.flags, isolated)
        wrong = admitted_wrongly(one.text, outcome)
        why = outcome.why.splitlines()[0] if outcome.why else ""
        rows.append(
            {"kind": one.kind, "suggested": one.text, "fate": outcome.fate.value, "admitted": outcome.admitted, "why": why, "wrong": wrong}
        )
        _say(f"{'WRONG ' if wrong else ''}{outcome.fate.value:10} {one.text}  {outcome.admitted and '-> ' + outcome.admitted} {wrong}")
    kinds = list(dict.fromkeys(r["kind"] for r in rows))
    by_kind = {kind: sum(bool(r["wrong"]) for r in rows if r["kind"] == kind) for kind in kinds}
    repaired = sum(bool(r["admitted"]) for r in rows)
    return {"suggestions": len(rows), "admitted": sum(by_kind.values()), "repaired": repaired, "admitted_by_kind": by_kind, "rows": rows}


def evaluate_sound(isolated: Isolated) -> dict[str, Any]:
    """How many of the sound suggestions were admitted with the licence that they must have."""
    rows: list[dict[str, Any]] = []
    for text, licence in sound():
        (outcome,) = judged([text], "all", isolated)
        needs = one_rule(outcome.admitted).needs if outcome.fate.certified else ALL
        right = outcome.fate.certified and (licence == "any" or needs == flags("none" if licence == "-" else licence))
        rows.append({"suggested": text, "licence": licence, "fate": outcome.fate.value, "admitted": outcome.admitted, "right": right})
        _say(f"{'' if right else 'MISSED '}{outcome.fate.value:10} {text} [{licence}] -> {outcome.admitted} {outcome.why.splitlines()[:1]}")
    right = sum(r["right"] for r in rows)
    return {"suggestions": len(rows), "admitted": right, "rate": right / len(rows), "rows": rows}


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(re.sub(r"\s+", " ", text)[:240], file=sys.stderr, flush=True)


def main() -> int:
    """Runs the evaluation; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("unsound", "sound", "restore", "example"), action="append")
    parser.add_argument("--output", default=str(HERE / "results" / "suggest.json"))
    arguments = parser.parse_args()
    path = Path(arguments.output)
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result |= {"machine": description(), "suggestions": "written by hand; no language model was asked"}
    parts: dict[str, Any] = {"unsound": evaluate_unsound, "sound": evaluate_sound}
    with Isolated() as isolated:
        for name, part in parts.items():
            if not arguments.only or name in arguments.only:
                started = time.perf_counter()
                result[name] = part(isolated) | {"seconds": round(time.perf_counter() - started, 1)}
                _write(path, result)
    if not arguments.only or "restore" in arguments.only:
        result["restore"] = restore(_say)
        _write(path, result)
    if not arguments.only or "example" in arguments.only:
        result["example"] = example()
        _write(path, result)
    good = result.get("unsound", {}).get("admitted", 0) == 0 and result.get("sound", {}).get("rate", 1) >= 0.95
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

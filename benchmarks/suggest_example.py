"""Turns the recorded conversation about the chance to win into figures: what was suggested, what was kept, what it saves by the clock."""

from pathlib import Path
from typing import Any, Final

from extract.suggest import Fate
from extract.suggest_chat import Spending
from extract.suggest_database import Database
from extract.suggest_model import ModelSuggester
from extract.suggest_read import one_rule
from extract.suggest_record import Replay
from kernel_ir.parser import parse_file
from kernel_ir.suggesting import Clock, Search, suggest

EXAMPLE = Path(__file__).parents[1] / "examples" / "suggest"
FLAGS = "reassoc,contract,afn"
SIZES = {"N": 1 << 21}
TIMES: Final = 5
"""Runs of the clock, each of both kernels in turn; the one of the median gain is told."""


def example() -> dict[str, Any]:
    """The loop on a kernel from the recording, and the kernel timed with the book's rules alone and with the rules kept besides."""
    kernel = parse_file(EXAMPLE / "win_chance.kir")["win_chance"]
    search = Search("cpu", FLAGS, SIZES)
    replay = Replay(EXAMPLE / "win_chance.jsonl")
    report = suggest((kernel,), ModelSuggester(replay, Spending(), None), search, Database(None), rounds=replay.left)
    kept = tuple(one_rule(o.admitted) for o in report.kept)
    timed = sorted((Clock(search)(kernel, (), kept) for _ in range(TIMES)), key=lambda pair: pair[0] / pair[1])
    before, after = timed[TIMES // 2]
    return {
        "kernel": kernel.name,
        "recording": replay.model,
        "sizes": SIZES,
        "fast_math": FLAGS,
        "suggestions": len(report.outcomes),
        "fates": {fate.value: sum(o.fate is fate for o in report.outcomes) for fate in Fate},
        "kept": [rule.text for rule in kept],
        "cycles": {"before": report.before[0].cycles, "after": report.after[0].cycles},
        "milliseconds": {"before": before * 1e3, "after": after * 1e3},
        "measured_gain": before / after,
        "measured_gains": [old / new for old, new in timed],
    }

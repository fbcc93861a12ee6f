"""Turns the question which of some plans is fastest into the answer of an earlier measurement: one file each in the cache directory."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kernel_ir import __version__
from kernel_ir.directories import ENVIRONMENT, cache_directory, write_whole


@dataclass(frozen=True, slots=True)
class Question:
    """What decides the winner: the kernel's text, the target, the sizes, the machine, kir's version, and each plan's code (its flags
    are in it)."""

    kernel: str
    target: str
    sizes: Mapping[str, int]
    machine: str
    sources: Sequence[str]

    @property
    def digest(self) -> str:
        whole = [self.kernel, self.target, sorted(self.sizes.items()), self.machine, __version__, [_digest(s) for s in self.sources]]
        return _digest(json.dumps(whole))

    @property
    def path(self) -> Path:
        return cache_directory() / "tuned" / f"{self.digest[:32]}.json"


def known(question: Question) -> tuple[int, str] | None:
    """(position of the winner, how long it took, for people), if it was measured here before. A file that cannot be read is no answer."""
    try:
        data: Any = json.loads(question.path.read_text("utf-8"))
        place, took = data["winner"], data["took"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(place, int) and 0 <= place < len(question.sources) and isinstance(took, str):
        return place, took
    return None


def remember(question: Question, winner: int, took: str) -> str:
    """Writes the winner; returns what the user should know (empty: nothing)."""
    path = question.path
    data = {"kernel": question.kernel, "target": question.target, "sizes": dict(question.sizes), "machine": question.machine}
    text = json.dumps({**data, "kir": __version__, "winner": winner, "took": took, "of": len(question.sources)}, indent=1) + "\n"
    try:
        write_whole(path, text.encode())
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        return f"the winner is not kept: {path.parent} cannot be written ({reason}); set {ENVIRONMENT} to a directory that can"
    return ""


@cache
def processor() -> str:
    """This machine's processor, and how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {name}, {cores} cores"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Turns a compiled parallel function into one that several threads, and a forked process, may call: run, run one at a time, or refused.

Numba's workqueue layer ends the process when two threads call it at once; GNU OpenMP ends a forked child that calls it after its parent.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from kernel_ir.errors import TargetError

WORKQUEUE: Final = "workqueue"
OPENMP: Final = "omp"


@dataclass(slots=True)
class _Process:
    """What this process knows of numba's thread pool: its layer once one runs, the process that started it."""

    layer: str | None = None
    started_in: int = 0
    lock: Any = field(default_factory=threading.RLock)


_PROCESS: Final = _Process()


def _unlock() -> None:
    """A child has one thread: whoever held the lock is not here."""
    _PROCESS.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def guarded(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run`, safe to call. Raises TargetError in a forked process whose parent has started GNU OpenMP's threads."""

    def call(*arguments: Any, **sizes: int) -> Any:
        if _PROCESS.layer is not None and _PROCESS.started_in != os.getpid() and _PROCESS.layer == OPENMP and sys.platform == "linux":
            raise TargetError(
                "this process was forked from one that has run compiled code in parallel, and OpenMP's threads do not survive a fork",
                hint='start processes by multiprocessing.get_context("spawn"), or set NUMBA_THREADING_LAYER=workqueue',
            )
        with nullcontext() if _PROCESS.layer not in (None, WORKQUEUE) else _PROCESS.lock:
            result = run(*arguments, **sizes)
            if _PROCESS.layer is None:
                _PROCESS.layer, _PROCESS.started_in = _running_layer(), os.getpid()
            return result

    return call


def _running_layer() -> str | None:
    """The layer of numba's threads; None while none has started (a call of no points)."""
    numba: Any = sys.modules["numba"]
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None

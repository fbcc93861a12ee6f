"""Turns a function and many inputs into their results, in order, on all cores: each call in another process, within limits."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, TypeVar

from extract.suggest_isolate import Isolated, Overrun
from kernel_ir.errors import KernelError

T = TypeVar("T")
R = TypeVar("R")
SECONDS: Final = 120.0
"""A safety net for one call."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(slots=True)
class Pool:
    """Processes that answer calls; started when they are first needed. Which process answers changes nothing in what it answers.

    On leaving (Ctrl-C too) all of them end at once, whatever they are at.
    """

    given: tuple[Isolated, ...] = ()
    """Processes to use, of somebody who ends them; else as many new ones as there are cores."""
    _workers: list[Isolated] = field(default_factory=list[Isolated])
    _idle: "SimpleQueue[Isolated]" = field(default_factory=SimpleQueue[Isolated])
    _threads: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[T], R], items: Sequence[T], seconds: float = SECONDS) -> Iterator[R | None]:
        """The result of each item, in order; None where a call took too long, its process died, or it raised a KernelError."""
        for future in self._calls(function, items, seconds):
            try:
                yield future.result()
            except (Overrun, KernelError):
                yield None

    def results(self, function: Callable[[T], R], items: Sequence[T], seconds: float = SECONDS) -> list[R]:
        """The result of each item, in order. Raises the first Overrun or KernelError."""
        return [future.result() for future in self._calls(function, items, seconds)]

    def _calls(self, function: Callable[[T], R], items: Sequence[T], seconds: float) -> list[Future[R]]:
        threads = self._started()

        def call(item: T) -> R:
            worker = self._idle.get()
            try:
                return worker.call(seconds, function, item)
            finally:
                self._idle.put(worker)

        return [threads.submit(call, item) for item in items]

    def close(self) -> None:
        """Ends all processes."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:
                worker.close()
        self._threads = None
        self._workers.clear()
        self._idle = SimpleQueue()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._workers += [] if self.given else [Isolated() for _ in range(cores())]
            for worker in self.given or self._workers:
                self._idle.put(worker)
            self._threads = ThreadPoolExecutor(len(self.given or self._workers))
        return self._threads

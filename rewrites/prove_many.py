"""Turns many rules into verdicts, in processes of their own: as many at a time as there are cores."""

import os
import signal
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

from rewrites.prove import SECONDS, check_rule
from rewrites.prove_verdict import Verdict
from rewrites.rule import Rule


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def verdicts(rules: Sequence[Rule], jobs: int, seconds: float = SECONDS) -> Generator[tuple[int, Verdict, float]]:
    """(position, verdict, CPU seconds) of each rule as it is proved, in no order; closing the generator ends the processes."""
    if jobs == 1 or len(rules) < 3:
        for number, rule in enumerate(rules):
            yield number, *_timed(rule, seconds)
        return
    # Fresh processes: z3 and its threads do not survive a fork.
    pool = ProcessPoolExecutor(min(jobs, len(rules)), mp_context=get_context("spawn"), initializer=_ignore_interrupts)
    try:
        waiting = {pool.submit(_timed, rule, seconds): number for number, rule in enumerate(rules)}
        for done in as_completed(waiting):
            yield waiting[done], *done.result()
    finally:
        running: dict[int, BaseProcess] = getattr(pool, "_processes", None) or {}
        processes = list(running.values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _ignore_interrupts() -> None:
    """Ctrl-C is the parent's business: it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _timed(rule: Rule, seconds: float) -> tuple[Verdict, float]:
    begun = time.process_time()
    verdict = check_rule(rule, seconds)
    return verdict, time.process_time() - begun

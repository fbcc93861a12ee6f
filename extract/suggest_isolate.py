"""Calls functions in a process of their own, under limits of time and memory: what a suggestion sets off cannot take the loop along."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from kernel_ir.errors import KernelError

P = ParamSpec("P")
T = TypeVar("T")
MEMORY: Final = 12 << 30
"""Bytes of address space: numba, LLVM and SMT solvers reserve far more than they use."""
LOADED: Final = 8
"""How many times its limit a call may take by the clock, on a machine that is busy with other things or sleeps: limits are CPU time."""
_GRACE: Final = 5
"""Seconds of CPU time more, after which a process that nobody stopped stops itself."""
_STEP: Final = 1.0
_STARTING: Final = threading.Lock()


class Overrun(Exception):
    """The function took too long or too much, or its process died; the message says which."""


@dataclass(slots=True)
class Isolated:
    """A process that calls what it is sent, one call at a time; started when it is needed, and again after an overrun.

    Functions and arguments must be picklable, and not of the script that runs. A KernelError of the function is raised here, any other
    error is an Overrun.
    """

    memory: int = MEMORY
    used: float = 0.0
    """Seconds of CPU time that the last call took."""
    _process: BaseProcess | None = None
    _pipe: "Connection[Any, Any] | None" = field(default=None, repr=False)

    def call(self, seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)` within so many seconds of CPU time, and not many times as long by the clock."""
        pipe = self._started()
        self.used = waited = 0.0
        try:
            before = self._spent()
            pipe.send((seconds, function, args, kwargs))
            while not pipe.poll(step := min(seconds, _STEP)):
                waited += step
                self.used = waited if before is None else (self._spent() or before) - before
                if self.used >= seconds or waited >= seconds * LOADED:
                    raise Overrun(f"it took more than {seconds:g} s")
            good, value, self.used = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.close()
            raise Overrun("its process died: out of memory, most likely") from None
        except BaseException:
            self.close()
            raise
        if good:
            return value
        raise value

    def _spent(self) -> float | None:
        """Seconds of CPU time of the process so far; None where the system does not tell."""
        try:
            fields = Path(f"/proc/{self._process and self._process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
            return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> "Connection[Any, Any]":
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self.close()
        # A fork would inherit threads of OpenMP and of the progress display.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.memory), daemon=True)
        with _no_script():
            process.start()
        self._process = process
        theirs.close()
        self._pipe = ours
        return ours


@contextlib.contextmanager
def _no_script() -> Generator[None]:
    """A process that starts meanwhile does not run the caller's script again: that needs no `if __name__ == "__main__"`."""
    script = sys.modules["__main__"]
    with _STARTING:
        kept = {name: script.__dict__.pop(name) for name in ("__file__", "__spec__") if name in script.__dict__}
        script.__spec__ = None
        try:
            yield
        finally:
            script.__dict__.update(kept)


def _serve(pipe: "Connection[Any, Any]", memory: int) -> None:
    """Answers calls until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller's to handle: it ends this process
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            seconds, function, args, kwargs = pipe.recv()
            # Should the caller be killed meanwhile, nobody else ends a call that runs away.
            signal.setitimer(signal.ITIMER_PROF, seconds + _GRACE)
            started = time.process_time()
            try:
                answer: tuple[bool, Any] = (True, function(*args, **kwargs))
            except KernelError as error:
                answer = (False, type(error)(error.message, error.span, error.hint))
            except MemoryError:
                answer = (False, Overrun("it took too much memory"))
            except RecursionError:
                answer = (False, Overrun("it is nested too deeply"))
            except Exception as error:  # a bug of ours must not end the whole run: the suggestion is refused, saying so
                answer = (False, Overrun(f"{type(error).__name__}: {error}"))
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send((*answer, time.process_time() - started))

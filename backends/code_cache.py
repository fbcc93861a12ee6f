"""Turns numba's cache of one function into one that processes share safely: entries that do not read back are compiled again.

numba saves its index, then its data, and takes for granted that both read back; two processes that save at once can leave an index of
one beside data of the other. Here saving holds a lock between processes, and whatever fails to load is dropped.
"""

import os
import pickle
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

LOCK: Final = ".lock"


def share(module: ModuleType) -> None:
    """Makes the caches of all compiled functions of a loaded module safe."""
    numba: Any = sys.modules.get("numba")
    if numba is None:
        return
    for function in vars(module).values():
        if numba.extending.is_jitted(function) and function._cache.cache_path is not None:
            function._cache = SharedCache(function._cache)


class SharedCache:
    """One function's cache of numba's (`load_overload`, `save_overload`, …), made safe."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled code for a signature; None where there is none that reads back."""
        try:
            code = self._cache.load_overload(signature, context)
        except Exception:
            # A truncated file, one of another version, one that is gone: unpickling raises all kinds of errors.
            with suppress(OSError), _locked(Path(self._cache.cache_path)):
                self._cache.flush()
            return None
        normalize: Any = import_module("numba.core.sigutils").normalize_signature
        return code if code is None or tuple(code.signature.args) == tuple(normalize(signature)[0]) else None

    def save_overload(self, signature: Any, code: Any) -> None:
        """Keeps compiled code; where that fails (a full disk) the code just runs."""
        with suppress(OSError), _locked(Path(self._cache.cache_path)):
            try:
                self._cache.save_overload(signature, code)
            except (EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError):
                self._cache.flush()  # the index that was there does not read back
                self._cache.save_overload(signature, code)


@contextmanager
def _locked(directory: Path) -> Generator[None]:
    """Holds the directory's lock among processes, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

"""Turns emitted source into a module that runs, compiled once and found again by later processes."""

import sys
import threading
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from backends.cache import cached_file
from backends.code_cache import share

_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The module, and what the user should know about the cache (empty: nothing)."""

    module: ModuleType
    note: str = ""


def load(source: str, stem: str) -> Loaded:
    """The module of `source`. It is in `sys.modules` before anything compiles, as numba's cache needs to find functions by name."""
    file = cached_file(source, stem)
    name = file.path.stem
    with _LOCK:
        known = sys.modules.get(name)
        if known is not None and known.__file__ == str(file.path):
            return Loaded(known, file.note)
        spec = spec_from_file_location(name, file.path)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        share(module)
    return Loaded(module, file.note)

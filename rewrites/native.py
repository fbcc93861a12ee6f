"""Turns the installed egglog into its native module alone.

Importing the package whole takes 0.17 s more on the machine of benchmarks/latency.py, for a Python face that kir passes by.
"""

import functools
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType

_PACKAGE, _MODULE = "egglog", "egglog.bindings"


@functools.cache
def bindings() -> ModuleType:
    """The module `egglog.bindings`, the same object for whoever imports egglog whole, before or after.

    Raises ImportError without egglog.
    """
    package = None if _PACKAGE in sys.modules else importlib.util.find_spec(_PACKAGE)
    found = None if package is None else PathFinder.find_spec(_MODULE, package.submodule_search_locations)
    if found is None or found.loader is None:
        from egglog import bindings as whole

        return whole
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    # A later import of the package must find it by itself, and so make it an attribute of the package: CPython gives the same object.
    sys.modules.pop(_MODULE, None)
    return module

"""The examples in docstrings print what they say: one item a docstring that has any."""

import doctest
import pkgutil
from importlib import import_module

import pytest

PACKAGES = ("kernel_ir", "rewrites", "extract", "backends")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    """Every module whose text has an example, by name alone so that collection imports none of the others."""
    for package in PACKAGES:
        root = import_module(package)
        for path in root.__path__:
            for found in pkgutil.iter_modules([path]):
                spec = found.module_finder.find_spec(found.name)
                if ">>> " in spec.loader.get_source(spec.name):
                    yield f"{package}.{found.name}"
        if ">>> " in (root.__doc__ or ""):
            yield package


NAMES = sorted(modules())


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for name in NAMES for test in finder.find(import_module(name)) if test.examples]


EXAMPLES = examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.name for e in EXAMPLES])
def test_docstring(example):
    said: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert outcome.failed == 0, "".join(said)


def test_every_package_has_examples():
    assert {name.split(".")[0] for name in NAMES} == set(PACKAGES) and len(EXAMPLES) > 40

"""What every test module shares: the public kernels, and where the shared public data may be."""

import os
import signal
import tempfile
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "examples" / "kernels"
SHARED = ROOT.parent / "shared"

# No test depends on what somebody measured of this machine.
os.environ["KIR_CONFIG_DIR"] = str(Path(tempfile.gettempdir()) / f"kir-tests-config-{os.getuid()}-{os.getppid()}")
# Compiled code of the suite goes to its own cache: a test must not pass because of an older build's code.
os.environ.setdefault("KIR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"kir-tests-{os.getuid()}-{os.getppid()}"))


def sweeps_of(module: Any) -> Callable[..., None]:
    """The function of an emitted module that does several sweeps in a pass, given the machine code of its rows."""
    passes = next(getattr(module, name) for name in dir(module) if f"{name}_edges" in dir(module))
    functions = [name.removesuffix("_code") for name in signature(passes.py_func).parameters if name.endswith("_code")]
    codes = [module.code_of(getattr(module, f), getattr(module, f"{f}_types")) for f in functions]
    return lambda parts, sweeps, *arguments: passes(parts, sweeps, *codes, *arguments)


def public_kernels() -> dict[str, tuple[Path, str]]:
    """Name → (file, name) of every kernel in examples/kernels, by its text alone so that collection needs no parser."""
    found: dict[str, tuple[Path, str]] = {}
    for path in sorted(KERNELS.glob("*.kir")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("kernel "):
                name = line.split()[1].split("(")[0]
                found[name] = (path, name)
    return found


PUBLIC = public_kernels()


def kernel(name: str):
    """One public kernel, parsed."""
    from kernel_ir.parser import parse_file

    return parse_file(PUBLIC[name][0])[name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared public data, or a skip where it is not."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the public data set ../shared/data is not here")
    return folder


def interruptible() -> None:
    """In a child before it runs: a suite that was started in the background, or by nohup, hands down an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def kept_code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is kept between runs of the suite."""
    monkeypatch.setenv("KIR_CACHE_DIR", str(request.config.cache.mkdir("kir")))

"""Turns what commands share — files, `-`, sizes, kernel choices — into values, and results into bytes on a stream or a file."""

import json
import os
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_ir.errors import UsageError
from kernel_ir.module import Module
from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse

if TYPE_CHECKING:
    from rich.console import Console


def read_text(path: str) -> tuple[str, str]:
    """(text, name) of a file, or of standard input for `-`. Raises UsageError where it cannot be read."""
    name = "<stdin>" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="give a .kir file, or - for standard input") from None
    try:
        return data.decode("utf-8"), name
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: byte {error.start} is {data[error.start]:#04x}", hint="save the file as UTF-8") from None


def read_module(path: str) -> Module:
    """The checked module of a file or of standard input."""
    text, name = read_text(path)
    return parse(text, name)


def chosen(module: Module, names: Sequence[str], path: str) -> tuple[Kernel, ...]:
    """The kernels named, or all; raises UsageError for an unknown name or a file without kernels."""
    if not module:
        raise UsageError(f"{path} holds no kernel", hint="a kernel begins with `kernel name(x: f32[N]) -> (y: f32[N]) {`")
    for name in names:
        if name not in module:
            near = closest(name, module)
            raise UsageError(
                f"{path} has no kernel {name!r}", hint=f"did you mean {near}?" if near else f"its kernels are {', '.join(module)}"
            )
    return tuple(module[name] for name in module if not names or name in names)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if one is like it."""
    return next(iter(get_close_matches(name, list(known), 1)), None)


def sizes(words: Sequence[str]) -> dict[str, int]:
    """`["N=4096"]` as a dict. Raises UsageError for anything else than NAME=integer >= 0, or a name given twice."""
    values: dict[str, int] = {}
    for word in words:
        name, equals, number = word.partition("=")
        if not equals or not name.isidentifier() or not number.replace("_", "").isdecimal():
            raise UsageError(f"--size {word!r} is not NAME=NUMBER", hint="write for example --size N=4096")
        if name in values:
            raise UsageError(f"--size gives {name} twice", hint="give each size once")
        values[name] = int(number)
    return values


def sizes_of(kernel: Kernel, given: Mapping[str, int]) -> dict[str, int]:
    """Those of the given sizes that this kernel has."""
    return {name: given[name] for name in kernel.sizes if name in given}


def check_sizes_known(kernels: Sequence[Kernel], given: Mapping[str, int]) -> None:
    """Raises UsageError for a size that none of the kernels has."""
    known = {name for kernel in kernels for name in kernel.sizes}
    for name in given:
        if name not in known:
            raise UsageError(f"no kernel here has a size {name}", hint=f"the sizes are {', '.join(sorted(known)) or 'none'}")


def write_out(text: str, path: str | None) -> None:
    """Writes the result to standard output, or to a file in one step: the old file stays whole until the new one is."""
    if path is None or path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    with replacing(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: str) -> Generator[str]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    A symbolic link keeps its name, its target changes. A device or pipe is written to, not replaced.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with _written_through(target) as name:
            yield name
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="choose another output path") from None
    try:
        yield name
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _written_through(target: Path) -> Generator[str]:
    """A temporary path whose bytes go to a device or pipe in the end."""
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder, "output")
        yield str(name)
        try:
            with target.open("wb") as stream:
                stream.write(name.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error.strerror}", hint="choose another output path") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(value: Mapping[str, Any]) -> None:
    """One JSON object and a newline on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def console() -> "Console":
    """The one console for people: standard error, colour only on a terminal and without NO_COLOR."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def working(what: str) -> Generator[None]:
    """Shows a spinner with `what` on a terminal while the block runs; nothing elsewhere."""
    err = console()
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield

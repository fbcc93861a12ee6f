"""The command `targets`: what kir compiles for, the figures of one machine, and measuring this one."""

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, TypeVar

from backends.target import NAMES, cuda_device_present, target
from kernel_ir.cli_common import console, replacing, write_json
from kernel_ir.directories import config_directory
from kernel_ir.errors import UsageError

SHOWN: Final = ", ".join((*NAMES, "cpu:FILE"))
T = TypeVar("T")


def targets(arguments: argparse.Namespace) -> int:
    """`kir targets`: the targets, which of them run here, the figures of one machine, new figures of this machine."""
    match arguments.action:
        case "show":
            return _show(arguments)
        case "calibrate":
            return _calibrate(arguments)
        case _:
            return _list(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from extract.machine import machine_path

    rows = [{"name": name, "machine": machine_path(target(name).machine).stem, "runs_here": _runs_here(name)} for name in NAMES]
    if arguments.json:
        write_json({"targets": rows, "default": target().name})
        return 0
    table = Table("target", "machine file", "runs here", box=None)
    for row in rows:
        table.add_row(str(row["name"]), str(row["machine"]), "yes" if row["runs_here"] else "compiles only")
    Console(highlight=False).print(table)
    return 0


def _runs_here(name: str) -> bool:
    return cuda_device_present() if name.startswith("cuda") and name != "cuda-on-cpu" else True


def _show(arguments: argparse.Namespace) -> int:
    from extract.machine import machine_text

    if arguments.name is None:
        raise UsageError("which target?", hint=f"one of {SHOWN}")
    text = machine_text(target(arguments.name).machine)
    if arguments.json:
        write_json(tomllib.loads(text))
    else:
        sys.stdout.write(text)
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    """Measures the CPU and writes its machine file; where a GPU is, its file too, beside the CPU's."""
    from backends.calibrate import measured_file, works

    path = Path(arguments.out).expanduser() if arguments.out else config_directory() / "cpu.toml"
    _writable(path)
    err = console()
    found: dict[str, Any] = {}
    for work in _followed(list(works()), lambda work: work.name):
        work.run(found)
    _write(path, measured_file(found))
    files = [path]
    if cuda_device_present():
        from backends.calibrate_gpu import measured_gpu

        name, text = measured_gpu()
        files.append(path.with_name(f"{name}.toml"))
        _write(files[-1], text)
    for file in files:
        err.print(f"wrote {file}", markup=False, soft_wrap=True)
    if arguments.json:
        write_json({"files": [str(file) for file in files], "figures": tomllib.loads(path.read_text("utf-8"))})
    elif path.parent == config_directory():
        err.print("the target cpu is costed by it from now on; delete the file to return to the generic figures")
    else:
        err.print(f"use it as --target cpu:{path}", markup=False, soft_wrap=True)
    return 0


def _followed(works: Sequence[T], name: Callable[[T], str]) -> Iterator[T]:
    """The works, one after the other, with a bar on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    err = console()
    if not err.is_terminal:
        yield from works
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("measuring", total=len(works))
        for work in works:
            progress.update(bar, description=name(work))
            yield work
            progress.advance(bar)


def _writable(path: Path) -> None:
    """Raises UsageError, before half a minute is spent on measuring, for a file that cannot be written."""
    hint = "choose another place: kir targets calibrate --out FILE.toml"
    if path.suffix != ".toml":
        raise UsageError(f"{path} does not end in .toml, by which `--target cpu:FILE` knows a file", hint=hint)
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory", hint=hint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=hint) from None


def _write(path: Path, text: str) -> None:
    with replacing(str(path)) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")

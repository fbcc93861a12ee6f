"""Turns emitted source into a file that stays: named by its hash, written atomically, in the user's cache directory or a temporary one."""

import atexit
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kernel_ir.directories import ENVIRONMENT, cache_directory


@dataclass(frozen=True, slots=True)
class CachedFile:
    """Where the source lies, its hash, and what the user should know (empty, or that nothing is kept and why)."""

    path: Path
    digest: str
    note: str = ""


def cached_file(source: str, stem: str) -> CachedFile:
    """A file that holds `source`, the same one in every process; in a temporary directory where the cache cannot be written."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:20]
    name = f"kir_{stem}_{digest}.py"
    try:
        directory = cache_directory()
        return CachedFile(_written(directory, name, source), digest)
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        note = f"compiled code is not kept: {cache_directory()} cannot be written ({reason}); set {ENVIRONMENT} to a directory that can"
        return CachedFile(_written(_temporary(), name, source), digest, note)


def _written(directory: Path, name: str, source: str) -> Path:
    """The file, whole at every moment: other processes see the old one or the new one."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    # numba writes its own files beside the source, so reading alone is not enough
    handle, scratch = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(source)
        if path.is_file() and path.read_text("utf-8") == source:
            return path  # the old file's time stamp is the key of numba's cache: keep it
        Path(scratch).replace(path)
        return path
    finally:
        Path(scratch).unlink(missing_ok=True)


_TEMPORARY: list[Path] = []


def _temporary() -> Path:
    """One temporary directory for this process, removed at its end."""
    if not _TEMPORARY:
        made = Path(tempfile.mkdtemp(prefix="kir_"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        _TEMPORARY.append(made)
    return _TEMPORARY[0]

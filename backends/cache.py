"""Turns emitted source into a file that stays: named by its hash, written atomically, in the user's cache directory or a temporary one."""

import atexit
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kernel_ir.directories import ENVIRONMENT, cache_directory, write_whole


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
    """The file; one that holds this source already stays, for its time stamp is the key of numba's cache."""
    # numba writes its own files beside the source, so reading alone would not be enough
    path = directory / name
    write_whole(path, source.encode())
    return path


_TEMPORARY: list[Path] = []


def _temporary() -> Path:
    """One temporary directory for this process, removed at its end."""
    if not _TEMPORARY:
        made = Path(tempfile.mkdtemp(prefix="kir_"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        _TEMPORARY.append(made)
    return _TEMPORARY[0]

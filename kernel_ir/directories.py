"""Where kir keeps files between runs, and how it writes them."""

import os
import tempfile
from pathlib import Path
from typing import Final

ENVIRONMENT: Final = "KIR_CACHE_DIR"
CONFIG: Final = "KIR_CONFIG_DIR"


def cache_directory() -> Path:
    """`$KIR_CACHE_DIR`, else `kir` in `$XDG_CACHE_HOME`, else `~/.cache/kir`."""
    return _directory(ENVIRONMENT, "XDG_CACHE_HOME", ".cache")


def config_directory() -> Path:
    """`$KIR_CONFIG_DIR`, else `kir` in `$XDG_CONFIG_HOME`, else `~/.config/kir`: what a user's machines cost, as measured."""
    return _directory(CONFIG, "XDG_CONFIG_HOME", ".config")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is whole at every moment: other processes see the old one or the new one. Raises OSError where it cannot.

    A file that holds the same already keeps its time stamp, but its directory must be one that can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        if not (path.is_file() and path.read_bytes() == data):
            Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _directory(own: str, base: str, usual: str) -> Path:
    """`$own`, else `kir` in `$base`, else `kir` in the usual folder of the user's home."""
    given = os.environ.get(own)
    if given:
        return Path(given).expanduser()
    home = os.environ.get(base)
    return (Path(home) if home else Path.home() / usual) / "kir"

"""Where kir keeps files between runs."""

import os
from pathlib import Path
from typing import Final

ENVIRONMENT: Final = "KIR_CACHE_DIR"


def cache_directory() -> Path:
    """`$KIR_CACHE_DIR`, else `kir` in `$XDG_CACHE_HOME`, else `~/.cache/kir`."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "kir"

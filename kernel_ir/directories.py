"""Where kir keeps files between runs."""

import os
from pathlib import Path
from typing import Final

ENVIRONMENT: Final = "KIR_CACHE_DIR"
CONFIG: Final = "KIR_CONFIG_DIR"


def cache_directory() -> Path:
    """`$KIR_CACHE_DIR`, else `kir` in `$XDG_CACHE_HOME`, else `~/.cache/kir`."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "kir"


def config_directory() -> Path:
    """`$KIR_CONFIG_DIR`, else `kir` in `$XDG_CONFIG_HOME`, else `~/.config/kir`: what a user's machines cost, as measured."""
    given = os.environ.get(CONFIG)
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "kir"

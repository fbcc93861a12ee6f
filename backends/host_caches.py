"""Reads the sizes of this machine's caches, nearest first, as one core sees them."""

from pathlib import Path
from typing import Final

CPU: Final = Path("/sys/devices/system/cpu/cpu0/cache")
TYPICAL: Final = (("L1", 32 << 10), ("L2", 1 << 20), ("L3", 16 << 20))
"""Where the system does not tell."""
UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def caches(folder: Path = CPU) -> tuple[tuple[str, int], ...]:
    """(name, bytes) of each data cache, then of memory with 0 bytes: no limit."""
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((index / part).read_text().strip() for part in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size[:-1]) * UNITS[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return (*(sorted(found.items()) or TYPICAL), ("memory", 0))

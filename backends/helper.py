"""Turns a helper function's text into something that an emitted CPU module can bring along with those it calls."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Helper:
    """One function of an emitted module: its text and the helpers it calls."""

    text: str
    uses: tuple[str, ...] = ()


EXACT: Final = '@njit(error_model="numpy", forceinline=True)\n'
REGROUPED: Final = '@njit(error_model="numpy", forceinline=True, fastmath={flags})\n'
"""A reduction has no order: this one addition may be regrouped, into vector lanes and threads."""

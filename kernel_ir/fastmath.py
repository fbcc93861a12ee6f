"""Turns a user's list of fast-math flags into a frozen set of LLVM's seven."""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from kernel_ir.errors import UsageError


class Flag(Enum):
    """LLVM's fast-math flags: each licenses one kind of rewrite that changes bits."""

    REASSOC = "reassoc"  # any real-algebra identity of +, -, *, /: reassociation, distribution, factoring
    CONTRACT = "contract"  # a * b + c in one rounding
    ARCP = "arcp"  # a / b as a * (1 / b)
    AFN = "afn"  # approximate functions: other formulas, stated ULP
    NNAN = "nnan"  # no argument or result is NaN
    NINF = "ninf"  # no argument or result is infinite
    NSZ = "nsz"  # the sign of a zero does not matter

    def __str__(self) -> str:
        return self.value


Flags = frozenset[Flag]
NONE: Final[Flags] = frozenset()
ALL: Final[Flags] = frozenset(Flag)


def flags(text: str | Iterable[str | Flag] | None) -> Flags:
    """The flags named in a comma list or iterable; "none", "" and None are none, "all" is all seven.

    >>> sorted(map(str, flags("contract, reassoc"))), flags("none") == NONE, flags("all") == ALL
    (['contract', 'reassoc'], True, True)

    Raises UsageError for a name that is not a flag.
    """
    if text is None:
        return NONE
    if not isinstance(text, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"fast_math is {text!r}", hint='give a comma list such as "reassoc,contract", "all" or "none"')
    words = text.split(",") if isinstance(text, str) else [str(word) for word in text]
    names = [word.strip().lower() for word in words if word.strip()]
    if names == ["all"]:
        return ALL
    if names == ["none"]:
        return NONE
    known = {flag.value: flag for flag in Flag}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown fast-math flag {name!r}", hint=f"the flags are {', '.join(known)}, or all, or none")
    return frozenset(known[name] for name in names)


def flags_text(chosen: Flags) -> str:
    """The comma list that `flags` reads back; "none" if empty."""
    return ",".join(flag.value for flag in Flag if flag in chosen) or "none"

"""Turns a word that the language does not know into a hint at the one that was meant."""

import difflib
from collections.abc import Iterable
from typing import Final

TYPES_ELSEWHERE: Final = {
    **{f"float{n}": f"f{n}" for n in (16, 32, 64)},
    **{f"int{n}": f"i{n}" for n in (8, 16, 32, 64)},
    **{f"uint{n}": f"u{n}" for n in (8, 16, 32, 64)},
    "float": "f32` or `f64",
    "double": "f64",
    "half": "f16",
    "bfloat16": "bf16",
    "int": "i32` or `i64",
    "bool_": "bool",
    "boolean": "bool",
}
"""What other languages call a type → what to write."""

FUNCTIONS_ELSEWHERE: Final = {
    **{name: f"write `{spelled}(…)`" for name, spelled in TYPES_ELSEWHERE.items() if "`" not in spelled},
    "float": "write `f32(…)` or `f64(…)`",
    "int": "write `i32(…)` or `i64(…)`",
    "ln": "write `log`",
    "fabs": "write `abs`",
    "arctan": "write `atan`",
    "arcsin": "write `asin`",
    "arccos": "write `acos`",
    "arctan2": "write `atan2`",
    "power": "write `pow` or `**`",
    "maximum": "write `max`",
    "minimum": "write `min`",
    "where": "write `a if c else b`",
    "select": "write `a if c else b`",
    "mean": "write `sum(i: …) / N`",
    "sigmoid": "define it: `fn sigmoid(x) = 1.0 / (1.0 + exp(-x))`",
}
"""What other languages call a function → what to write."""


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """The nearest known name as a hint."""
    if len(name) == 1:
        return None
    near = difflib.get_close_matches(name, sorted(known), 1, 0.6)
    return f"did you mean `{near[0]}`?" if near else None

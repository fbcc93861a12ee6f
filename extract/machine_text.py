"""Turns the figures of a machine into the text of its file, each figure beside where it comes from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

TABLES: Final = ("cycles", "functions", "levels", "extra", "sources")


def machine_file(figures: Mapping[str, Any], sources: Mapping[str, str], head: str) -> str:
    """TOML that `load_machine` reads: the same figures give the same bytes. `sources` says, by table or key, where figures come from.

    >>> print(machine_file({"name": "cpu", "units": 2, "cycles": {"f32": {"ADD": 0.5}}}, {"units": "counted"}, "A machine."))
    # A machine.
    name = "cpu"
    units = 2
    <BLANKLINE>
    [cycles.f32]
    ADD = 0.5
    <BLANKLINE>
    [sources]
    units = "counted"
    <BLANKLINE>
    """
    lines = [f"# {line}" for line in head.splitlines()]
    lines += [f"{key} = {_value(value)}" for key, value in figures.items() if key not in TABLES]
    for table in ("cycles", "functions"):
        rows: Mapping[str, Any] = figures.get(table, {})
        plain = {key: value for key, value in rows.items() if not isinstance(value, Mapping)}
        if plain:
            lines += ["", f"[{table}]", *(f"{key} = {_value(value)}" for key, value in plain.items())]
        for name, row in rows.items():
            if isinstance(row, Mapping):
                lines += ["", f"[{table}.{name}]", *_rows(cast("Mapping[str, Any]", row).items())]
    for level in figures.get("levels", ()):
        lines += ["", "[[levels]]", *_rows(level.items())]
    if figures.get("extra"):
        lines += ["", "[extra]", *_rows(figures["extra"].items())]
    lines += ["", "[sources]", *(f"{_key(key)} = {_value(text)}" for key, text in sources.items())]
    return "\n".join(lines) + "\n"


def _rows(items: Iterable[tuple[Any, Any]]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in items]


def _key(name: str) -> str:
    return name if name.isidentifier() else f'"{name}"'


def _value(value: Any) -> str:
    match value:
        case str():
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{quoted}"'
        case list() | tuple():
            return "[" + ", ".join(map(_value, cast("list[Any]", value))) + "]"
        case float():
            return f"{value:.1f}" if value.is_integer() else f"{value:.10g}"
        case _:
            return str(value)

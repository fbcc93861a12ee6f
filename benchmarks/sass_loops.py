"""Turns the text of machine code into the instructions of a kernel and those of its innermost loops, by unit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FLOAT: Final = frozenset({"FADD", "FMUL", "FFMA", "FSETP", "FSEL", "FMNMX", "MUFU", "FCHK", "DADD", "DMUL", "DFMA", "DSETP", "F2F", "FRND"})
MEMORY: Final = frozenset({"LDG", "STG", "LDS", "STS"})
CONTROL: Final = frozenset({"EXIT", "BRA", "NOP", "BSSY", "BSYNC", "CALL", "RET", "BAR", "WARPSYNC", "DEPBAR", "BREAK"})
UNITS: Final[tuple[str, ...]] = ("float", "memory", "integer")
SLOW_PATH: Final = 12
"""Instructions, at most, that prepare the call of a slow path."""
_SECTION: Final = re.compile(r"^\s*\.section\s+\.text\.([\w$.]+)")
_LABEL: Final = re.compile(r"^(\.L\w+):")
_LINE: Final = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:\{\s*)?(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)([^;]*)")
_TARGET: Final = re.compile(r"\(([.\w]+)\)")

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its opcode without modifiers, whether a predicate guards it, and the place in the code that it may jump to."""

    opcode: str
    guarded: bool
    target: int | None


def functions(text: str) -> dict[str, tuple[Instruction, ...]]:
    """The instructions of each function of a disassembled cubin, by the function's name; padding left off."""
    found: dict[str, tuple[Instruction, ...]] = {}
    lines = text.splitlines()
    starts = [(n, match[1]) for n, line in enumerate(lines) if (match := _SECTION.match(line))]
    for (start, name), end in zip(starts, (*(n for n, _ in starts[1:]), len(lines)), strict=True):
        found[name] = _function(lines[start:end])
    return found


def _function(lines: Sequence[str]) -> tuple[Instruction, ...]:
    labels: dict[str, int] = {}
    rows: list[tuple[str, bool, str]] = []
    for line in lines:
        if label := _LABEL.match(line):
            labels[label[1]] = len(rows)
        elif row := _LINE.match(line):
            rows.append((row[3].split(".")[0], row[2] is not None, row[4]))
    made: list[Instruction] = []
    for opcode, guarded, rest in rows:
        jump = _TARGET.search(rest) if opcode == "BRA" else None
        made.append(Instruction(opcode, guarded, None if jump is None else labels.get(jump[1])))
    while made and (made[-1].opcode == "NOP" or made[-1] == Instruction("BRA", False, len(made) - 1)):
        made.pop()
    return tuple(made)


def counts(instructions: Sequence[Instruction]) -> Counts:
    """Instructions by unit: ends, jumps and barriers belong to none."""
    found: Counts = dict.fromkeys(UNITS, 0)
    for one in instructions:
        if one.opcode not in CONTROL:
            found["float" if one.opcode in FLOAT else "memory" if one.opcode in MEMORY else "integer"] += 1
    return found


def straight(instructions: Sequence[Instruction]) -> Counts:
    """The instructions up to the last end: of code that runs from its first to its last, those that a thread runs."""
    last = max(n for n, one in enumerate(instructions) if one.opcode == "EXIT")
    return counts([one for n, one in enumerate(instructions[:last]) if n not in _rare(instructions)])


def loops(instructions: Sequence[Instruction]) -> list[Counts]:
    """What one turn of each innermost loop takes, in the order of the code."""
    return [_turn(instructions, span) for span in _innermost(_spans(instructions))]


def nested_turn(instructions: Sequence[Instruction], products: int) -> Counts:
    """One turn of the outermost loop of a product in tiles, which makes so many products: where a loop in it makes fewer, that runs as
    often as it must."""
    spans = _spans(instructions)
    most = max(spans, key=lambda span: (_turn(instructions, span)["float"], span[1] - span[0]))
    whole = _turn(instructions, most)
    inside = [span for span in _innermost(spans) if most[0] <= span[0] and span[1] <= most[1] and span != most]
    if not inside or whole["float"] >= products:
        return whole
    inner = max((_turn(instructions, span) for span in inside), key=lambda one: one["float"])
    more = products // inner["float"] - 1
    return {unit: whole[unit] + more * inner[unit] for unit in UNITS}


def _turn(instructions: Sequence[Instruction], span: tuple[int, int]) -> Counts:
    rare = _rare(instructions)
    return counts([instructions[n] for n in range(span[0], span[1] + 1) if n not in rare])


def _spans(instructions: Sequence[Instruction]) -> list[tuple[int, int]]:
    """First and last instruction of each loop: what a jump backwards, and not to itself, repeats."""
    return sorted({(one.target, n) for n, one in enumerate(instructions) if one.target is not None and one.target < n})


def _innermost(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in spans if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)]


def _rare(instructions: Sequence[Instruction]) -> frozenset[int]:
    """Slow paths: what a jump forwards passes over and what calls a function."""
    found: set[int] = set()
    for n, one in enumerate(instructions):
        if one.target is not None and one.target > n + 1 and one.guarded:
            inside = range(n + 1, one.target)
            calls = [m for m in inside if instructions[m].opcode == "CALL"]
            if calls and len(inside) <= SLOW_PATH:
                found |= set(inside)
    return frozenset(found)

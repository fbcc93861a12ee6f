"""Every access to memory in a kernel's LLVM IR becomes a question to a shadow of it: is this inside an array, and in order with the others?

A shadow holds, for each element of every array, who last wrote and read it and in which interval between barriers (as FastTrack does,
Flanagan and Freund 2009, with the intervals of a GPU in place of vector clocks). Found are accesses outside of every array, reads of
shared memory that nobody wrote, and two threads at one element of which one writes, with no barrier between them. The CPU is
kinder than a GPU: without these checks such a kernel may well give the right result here.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np

from backends.simt_errors import SimtError

LOAD: Final = 0
STORE: Final = 1
ATOMIC: Final = 2

_OUTSIDE: Final = 1
_UNWRITTEN: Final = 2
_RACE: Final = 3
_MISALIGNED: Final = 4

_HEADER: Final = 13
_COUNT, FAULT, _ADDRESS, _THREAD, _OTHER, _REGION, _KIND, _OTHER_KIND, _BLOCK, _THREADS, EPOCH, WARPS, _SINK = range(13)
_REGION_WORDS: Final = 5
"""A region: first address, address past the end, bytes of an element, place of its cells, whether the block shares it."""
_CELL_WORDS: Final = 7
"""An element: last writer and its interval, whether it wrote atomically, one reader and its interval, another reader and its interval."""
_SINK_BYTES: Final = 4096
WARP: Final = 32


@dataclass(frozen=True, slots=True)
class Region:
    """An array that a kernel may touch: what to call it, where it lies, and whether it belongs to one block."""

    name: str
    start: int
    size: int
    itemsize: int
    shared: bool


class Shadow:
    """What the accesses of one launch are held against, for blocks of so many threads."""

    def __init__(self, regions: tuple[Region, ...], threads: int) -> None:
        self.regions = regions
        self.threads = threads
        warps = -(-threads // WARP)
        cells = [-(-r.size // r.itemsize) for r in regions]
        first = _HEADER + _REGION_WORDS * len(regions) + warps
        self._words = np.zeros(first + _CELL_WORDS * sum(cells), np.int64)
        room = np.zeros(_SINK_BYTES + 64, np.uint8)
        self._sink = room[-room.ctypes.data % 64 :]
        self._cells: list[slice] = []
        self._warp = slice(first - warps, first)
        self._words[[_COUNT, _THREADS, WARPS, _SINK]] = len(regions), threads, first - warps, self._sink.ctypes.data
        for number, (region, count) in enumerate(zip(regions, cells, strict=True)):
            row = _HEADER + _REGION_WORDS * number
            self._words[row : row + _REGION_WORDS] = region.start, region.start + region.size, region.itemsize, first, region.shared
            self._cells.append(slice(first, first + _CELL_WORDS * count))
            first += _CELL_WORDS * count

    @property
    def address(self) -> int:
        """Where the hook finds it."""
        return int(self._words.ctypes.data)

    def enter_block(self, block: int) -> None:
        """A new block begins: its shared memory is nobody's yet."""
        self._words[_BLOCK] = block
        self.pass_barrier()
        for region, cells in zip(self.regions, self._cells, strict=True):
            if region.shared:
                self._words[cells] = 0

    def pass_barrier(self) -> None:
        """All threads of the block have met: what came before is in order with what follows."""
        self._words[EPOCH] += 1

    def pass_fence(self, warp: int) -> None:
        """All threads of a warp have met at a barrier of the warp."""
        self._words[self._warp][warp] += 1

    def check(self, kernel: str) -> None:
        """Raises SimtError with the first fault since the launch began."""
        if self._words[FAULT]:
            raise SimtError(f"{kernel}: {self._story()}")

    def _story(self) -> str:
        fault, address, other = (int(self._words[n]) for n in (FAULT, _ADDRESS, _OTHER))
        kind, other_kind = (_VERBS[int(self._words[n])] for n in (_KIND, _OTHER_KIND))
        who = self._thread(int(self._words[_THREAD]))
        if fault == _MISALIGNED:
            return f"{who} {kind} {other} bytes at once at {self._nearest(address)}, which is not so aligned"
        if fault == _OUTSIDE:
            return f"{who} {kind} outside of every array, nearest {self._nearest(address)}"
        region = self.regions[int(self._words[_REGION])]
        at = f"{region.name}[{(address - region.start) // region.itemsize}]"
        if fault == _UNWRITTEN:
            return f"{who} reads {at}, which no thread of its block wrote"
        return f"data race: {who} {kind} {at}, and {self._thread(other)} {other_kind} it, with no barrier between them"

    def _thread(self, number: int) -> str:
        block, thread = divmod(number - 1, self.threads)
        return f"thread {thread} of block {block}"

    def _nearest(self, address: int) -> str:
        near = min(self.regions, key=lambda r: max(r.start - address, address - (r.start + r.size - 1)), default=None)
        if near is None:
            return "nothing, as it has no array"
        item = (address - near.start) // near.itemsize
        return f"{near.name}[{item}] of {near.size // near.itemsize}"


_VERBS: Final = ("reads", "writes", "updates")


@functools.cache
def hook() -> int:
    """The address of the function that every access calls: (shadow, thread, address, bytes, kind and alignment) to the one to use."""
    numba: Any = import_module("numba")
    carray, types, jit = numba.carray, numba.types, numba.njit(inline="always")

    @jit
    def before(words: Any, who: Any, stamp: Any, me: Any, now: Any) -> Any:
        """Whether what `who` did in interval `stamp` is in order before what `me` does now."""
        if who == 0 or who == me:
            return True
        threads = words[_THREADS]
        if (who - 1) // threads != (me - 1) // threads:
            return False
        if stamp >> 32 != now >> 32:
            return True
        same_warp = ((who - 1) % threads) // WARP == ((me - 1) % threads) // WARP
        return same_warp and stamp != now

    @jit
    def fault(words: Any, what: Any, address: Any, me: Any, kind: Any, region: Any, other: Any, other_kind: Any) -> None:
        if words[FAULT] == 0:
            words[FAULT] = what
            words[_ADDRESS] = address
            words[_THREAD] = me
            words[_OTHER] = other
            words[_REGION] = region
            words[_KIND] = kind
            words[_OTHER_KIND] = other_kind

    def visit(table: Any, thread: Any, address: Any, size: Any, kind_and_alignment: Any) -> Any:
        words = carray(table, (1 << 60,))
        me = words[_BLOCK] * words[_THREADS] + thread + 1
        kind, alignment = kind_and_alignment & 3, kind_and_alignment >> 2
        if address & (alignment - 1):
            fault(words, _MISALIGNED, address, me, kind, 0, size, 0)
            return words[_SINK]
        now = (words[EPOCH] << 32) | words[words[WARPS] + thread // WARP]
        for number in range(words[_COUNT]):
            row = _HEADER + _REGION_WORDS * number
            if address < words[row] or address + size > words[row + 1]:
                continue
            item = words[row + 2]
            for element in range((address - words[row]) // item, (address + size - 1 - words[row]) // item + 1):
                cell = words[row + 3] + _CELL_WORDS * element
                place = words[row] + element * item
                if kind != STORE and words[row + 4] and words[cell] == 0:
                    fault(words, _UNWRITTEN, place, me, kind, number, 0, 0)
                # A loop of compare and swap reads, plainly, what others update: as good as atomic for an element of memory that all share.
                guess = kind == LOAD and not words[row + 4]
                excused = words[cell + 2] == 1 and (kind == ATOMIC or guess)
                if not excused and not before(words, words[cell], words[cell + 1], me, now):
                    fault(words, _RACE, place, me, kind, number, words[cell], STORE + words[cell + 2])
                if kind == LOAD:
                    at = cell + 3 if before(words, words[cell + 3], words[cell + 4], me, now) else cell + 5
                    words[at], words[at + 1] = me, now
                else:
                    for at in (cell + 3, cell + 5):
                        if not (kind == ATOMIC and not words[row + 4]) and not before(words, words[at], words[at + 1], me, now):
                            fault(words, _RACE, place, me, kind, number, words[at], LOAD)
                    words[cell], words[cell + 1], words[cell + 2] = me, now, 1 if kind == ATOMIC else 0
            return address
        fault(words, _OUTSIDE, address, me, kind, 0, 0, 0)
        return words[_SINK]

    made: Any = numba.cfunc(types.int64(types.CPointer(types.int64), types.int64, types.int64, types.int64, types.int64))(visit)
    _kept.append(made)
    return int(made.address)


_kept: Final[list[Any]] = []
"""Compiled hooks: their code must outlive the kernels that call it."""

HOOK: Final = "simt.visit"
SHARED: Final = "@_cudapy_smem"
_PADDING: Final = 256
"""Elements behind each shared array that are nobody's: what goes past its end must not be another array's."""
_DECLARATIONS: Final = f"""
declare i64 @{HOOK}(ptr, i64, i64, i64, i64)
"""
_BYTES: Final = {"float": 4, "double": 8, "half": 2, "bfloat": 2, "ptr": 8, "i1": 1}
_OWN: Final = ("simt.", "nvvm.")
_LOAD_TEXT: Final = re.compile(
    r"^  (?:%\S+ = )load (?:atomic )?(?:volatile )?(?P<type><[^>]*>|\{[^}]*\}|\[[^\]]*\]|\w+), (?P<pointer>ptr .*)$"
)
_STORE_TEXT: Final = re.compile(r"^  store (?:atomic )?(?:volatile )?(?P<type><[^>]*>|\{[^}]*\}|\[[^\]]*\]|\w+) .*?, (?P<pointer>ptr .*)$")
_RMW_TEXT: Final = re.compile(r"^  %\S+ = (?:atomicrmw (?:volatile )?\w+|cmpxchg (?:weak )?(?:volatile )?)\s*(?P<pointer>ptr .*)$")


def instrumented(text: str) -> str:
    """LLVM IR in which each load, store and atomic operation of the kernel asks the hook first, and goes where that says.

    Left alone are the runtime's own functions, the kernel's argument list, and the stack: numba's local arrays are of one thread.
    """
    out: list[str] = []
    private: set[str] = set()
    cells: set[str] = set()
    watching = False
    number = 0
    lines = text.splitlines()
    for n, line in enumerate(lines):
        if line.startswith(SHARED):
            line = re.sub(r"\[(\d+) x ", lambda m: f"[{int(m[1]) + _PADDING} x ", line, count=1)
        if line.startswith("define"):
            name = line[line.index("@") + 1 : line.index("(", line.index("@"))].strip('"')
            watching = name == "simt.kernel" or not name.startswith(_OWN)
            private, cells = _traced(lines[n:]) if watching else (set(), set())
        if watching:
            access = _access(line, private | cells)
            if access is not None:
                number += 1
                out.extend(_visited(line, access, number))
                continue
        out.append(line)
    return "\n".join(out) + _DECLARATIONS


def _traced(lines: list[str]) -> tuple[set[str], set[str]]:
    """The names of the function that begins with these lines which point into the stack, and the like: a use may stand before them."""
    private: set[str] = set()
    cells: set[str] = set()
    body = lines[: next((n for n, line in enumerate(lines) if line.startswith("}")), len(lines))]
    known = -1
    while known < len(private) + len(cells):
        known = len(private) + len(cells)
        for line in body:
            _trace(line, private, cells)
    return private, cells


def _trace(line: str, private: set[str], cells: set[str]) -> None:
    """Notes the names that point into the stack, a table of constants or the argument list (`private`, `cells`)."""
    found = re.match(r"^  (%\S+) = (.*)$", line)
    if found is None:
        return
    name, what = found[1], found[2]
    if what.startswith("alloca"):
        private.add(name)
    elif what.startswith("load ptr, ptr @simt.arguments"):
        cells.add(name)
    elif what.startswith(("getelementptr", "addrspacecast", "bitcast")):
        used = re.findall(r"ptr (?:addrspace\(\d+\) )?([%@][^\s,)]+)", what)
        if used and used[0] in cells:
            cells.add(name)
        elif used and (used[0] in private or (used[0].startswith("@") and not used[0].startswith(SHARED))):
            private.add(name)
    elif what.startswith(("phi ptr", "select i1")):
        # Which of a loop's local elements: pointers into the stack meet no others.
        if private & set(re.findall(r"%[^\s,)\]]+", what)):
            private.add(name)
    elif what.startswith("load ptr, ptr %"):
        pointer = what.removeprefix("load ptr, ptr ").partition(",")[0]
        if pointer in cells:  # an entry of the list points to the argument's value
            private.add(name)


def _access(line: str, private: set[str]) -> "tuple[str, int, int] | None":
    """(the pointer operand with its type, bytes, kind) of an access that is to be checked."""
    for pattern, kind in ((_LOAD_TEXT, LOAD), (_STORE_TEXT, STORE), (_RMW_TEXT, ATOMIC)):
        found = pattern.match(line)
        if found is None:
            continue
        pointer, rest = _operand(found["pointer"])
        base = re.search(r"[%@][^\s,)]+", pointer)
        if base is None or base[0] in private or (base[0].startswith("@") and not base[0].startswith(SHARED)):
            return None
        return pointer, _size(found["type"] if kind != ATOMIC else rest.lstrip(", ").split(" ", 1)[0]), kind
    return None


def _operand(text: str) -> tuple[str, str]:
    """Splits "ptr %p, align 4" after the first operand, whose brackets may hold commas."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            return text[:position], text[position:]
    return text, ""


def _size(kind: str) -> int:
    """Bytes of an LLVM type; raises ValueError for one that no kernel of ours loads whole."""
    if vector := re.fullmatch(r"<(\d+) x (\S+)>", kind):
        return int(vector[1]) * _size(vector[2])
    if kind in _BYTES:
        return _BYTES[kind]
    if integer := re.fullmatch(r"i(\d+)", kind):
        return -(-int(integer[1]) // 8)
    raise ValueError(f"an access of type {kind}")


def _visited(line: str, access: tuple[str, int, int], number: int) -> Iterator[str]:
    pointer, size, kind = access
    space = re.match(r"ptr( addrspace\(\d+\))?", pointer)
    assert space is not None
    yield f"  %simt.at.{number} = ptrtoint {pointer} to i64"
    yield f"  %simt.who.{number} = load i64, ptr @simt.current, align 8"
    yield f"  %simt.shadow.{number} = load ptr, ptr @simt.shadow, align 8"
    aligned = re.search(r", align (\d+)", line)
    asked = kind | (int(aligned[1]) if aligned else 1) << 2
    arguments = f"ptr %simt.shadow.{number}, i64 %simt.who.{number}, i64 %simt.at.{number}, i64 {size}, i64 {asked}"
    yield f"  %simt.to.{number} = call i64 @{HOOK}({arguments})"
    yield f"  %simt.there.{number} = inttoptr i64 %simt.to.{number} to {space[0]}"
    at = line.rindex(pointer)
    yield f"{line[:at]}{space[0]} %simt.there.{number}{line[at + len(pointer) :]}"

"""Turns two sweeps over the same rows, done again and again, into functions that do several sweeps in one pass over memory.

A thread takes a row through the next sweep as soon as the sweep before has done that row's neighbours: rows of sweep s lag s * reach rows
behind, and stay in its cache until all sweeps of a pass have used them. Next to another thread's rows, each sweep stops `reach` rows
earlier than the one before; what is left between two threads widens by as much from sweep to sweep, and is done afterwards:

    sweep 3   ·  ·  ■  ■  ■  ·  ·  ·  ■  ■  ■  ·  ·          ■ in the pass    · afterwards, between two threads
    sweep 2   ·  ■  ■  ■  ■  ■  ·  ■  ■  ■  ■  ■  ·
    sweep 1   ■  ■  ■  ■  ■  ■  ■  ■  ■  ■  ■  ■  ■

Two arrays take turns, so each keeps the values of its last sweep: both the last and the last but one are there where a pass ends.
"""

from collections.abc import Sequence
from typing import Final

from backends.cpu_sweeps import Sweeps

MOST: Final = 8
"""Sweeps of a pass, at most."""
CACHED: Final = 256 << 10
"""Bytes of rows that stay in a thread's second-level cache beside all else."""
WORTH: Final = 32
"""Rows of a pass, at least, for each row that is done afterwards in the last of its sweeps: then few threads wait long for others."""


def skewed_text(both: Sweeps, taken: tuple[Sequence[str], Sequence[str]], rows: str, work: str, serial_below: int) -> str:
    """The functions `<first>_<second>` (which takes the number of sweeps, an even one), `…_part` and `…_edges`.

    `taken`: the names that the rows of each take; `rows`: the number of rows, `work`: of points.
    """
    name, reach = f"{both.first.name}_{both.second.name}", both.reach
    every = list(dict.fromkeys(x for names in taken for x in names))
    one, two = (", ".join(["", *names]) for names in taken)
    given = ", ".join(["part", "parts", "sweeps", *every])
    theirs = ", ".join(["int64(part)", "parts", "some", *every])
    held = " + ".join(f"{array}.nbytes" for array in sorted(both.written))
    share = f"first, last = part * ({rows}) // parts, (part + 1) * ({rows}) // parts"
    return f"""@njit(error_model="numpy", cache=CACHE)
def {name}_part({given}):
    # each sweep stays {reach} rows behind the one before: one pass over memory for all
    {share}
    low = {reach} if part > 0 else 0
    high = {reach} if part < parts - 1 else 0
    for lead in range(first, last + {reach} * (sweeps - 1)):
        for sweep in range(sweeps):
            at = lead - {reach} * sweep
            if at < first + low * sweep or at >= last - high * sweep:
                continue
            if sweep % 2 == 0:
                {both.first.name}_rows(at, at + 1{one})
            else:
                {both.second.name}_rows(at, at + 1{two})


@njit(error_model="numpy", cache=CACHE)
def {name}_edges(part, parts, sweep, {", ".join(every)}):
    # rows that need those of another thread
    {share}
    low = {reach} * sweep if part > 0 else 0
    high = {reach} * sweep if part < parts - 1 else 0
    if sweep % 2 == 0:
        {both.first.name}_rows(first, first + low{one})
        {both.first.name}_rows(last - high, last{one})
    else:
        {both.second.name}_rows(first, first + low{two})
        {both.second.name}_rows(last - high, last{two})


@njit(parallel=True, error_model="numpy", cache=CACHE)
def {name}({", ".join(["parts", "sweeps", *every])}):
    if {work} < {serial_below}:
        parts = 1
    parts = max(1, min(parts, ({rows}) // {4 * reach}))
    most = min({MOST}, {CACHED} // ({reach} * (({held}) // max(1, {rows}) + 1)))
    if parts > 1:
        most = min(most, 1 + ({rows}) // ({WORTH * reach} * (parts - 1)))
    most = max(2, most // 2 * 2)
    while sweeps > 0:
        some = min(most, sweeps)
        if parts == 1:
            {name}_part({theirs.replace("part", "0", 1)})
        else:
            for part in prange(parts):
                {name}_part({theirs})
            for sweep in range(1, some):
                for part in prange(parts):
                    {name}_edges(int64(part), parts, sweep, {", ".join(every)})
        sweeps -= some
"""

"""Turns two sweeps over the same rows, done again and again, into functions that do several sweeps in one pass over memory.

A thread takes some rows through the next sweep as soon as the sweep before has done those rows' neighbours: sweep s lags s * reach rows
behind, and its rows stay in the thread's cache until all sweeps of a pass have used them. Next to another thread's rows, each sweep stops
`reach` rows earlier than the one before; what is left between two threads widens by as much from sweep to sweep, and is done afterwards,
by one thread: rows there need each other alone.

    sweep 3   ·  ·  ■  ■  ■  ·  ·  ·  ■  ■  ■  ·  ·          ■ in the pass    · afterwards, between two threads
    sweep 2   ·  ■  ■  ■  ■  ■  ·  ■  ■  ■  ■  ■  ·
    sweep 1   ■  ■  ■  ■  ■  ■  ■  ■  ■  ■  ■  ■  ■

Two arrays take turns, so each keeps the values of its last sweep: both the last and the last but one are there where a pass ends.
"""

from collections.abc import Sequence

from extract.sweeps import CACHED, MOST, WORTH, Sweeps


def skewed_text(
    both: Sweeps, taken: tuple[Sequence[str], Sequence[str]], codes: Sequence[str], rows: str, work: str, serial_below: int, at_once: int
) -> str:
    """The functions `<first>_<second>` (which takes the number of sweeps, an even one), `…_part` and `…_edges`.

    `taken`: the names that the rows of each take; `codes`: those of where their machine code is; `rows`: the number of rows, `work`: of
    points; `at_once`: rows that a call should have.
    """
    name, reach = f"{both.first.name}_{both.second.name}", both.reach
    every = list(dict.fromkeys([*codes, *(x for names in taken for x in names)]))
    launches = zip((both.first, both.second), codes, taken, strict=True)
    one, two = (f"run_code({code}, {launch.name}_rows_types, ({{}}, {', '.join(names)}))" for launch, code, names in launches)
    arrays = ", ".join(every)
    theirs = ", ".join(["int64(part)", "parts", "some", *every])
    held = " + ".join(f"{array}.nbytes" for array in sorted(both.written))
    return f"""@njit(error_model="numpy", cache=CACHE)
def {name}_part(part, parts, sweeps, {arrays}):
    # each sweep stays {reach} rows behind the one before: one pass over memory for all
    first, last = part * ({rows}) // parts, (part + 1) * ({rows}) // parts
    low = {reach} if part > 0 else 0
    high = {reach} if part < parts - 1 else 0
    for lead in range(first, last + {reach} * (sweeps - 1){f", {at_once}" if at_once > 1 else ""}):
        for sweep in range(sweeps):
            at = lead - {reach} * sweep
            begin, end = max(at, first + low * sweep), min(at + {at_once}, last - high * sweep)
            if begin >= end:
                continue
            if sweep % 2 == 0:
                {one.format("begin, end")}
            else:
                {two.format("begin, end")}


@njit(error_model="numpy", cache=CACHE)
def {name}_edges(part, parts, sweeps, {arrays}):
    # rows that need those of the next thread, and the other way round
    last = (part + 1) * ({rows}) // parts
    for sweep in range(1, sweeps):
        if sweep % 2 == 0:
            {one.format(f"last - {reach} * sweep, last + {reach} * sweep")}
        else:
            {two.format(f"last - {reach} * sweep, last + {reach} * sweep")}


@njit(parallel=True, error_model="numpy", cache=CACHE)
def {name}(parts, sweeps, {arrays}):
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
            if parts == 2:
                {name}_edges({theirs.replace("part", "0", 1)})
            else:
                for part in prange(parts - 1):
                    {name}_edges({theirs})
        sweeps -= some
"""

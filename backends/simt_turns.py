"""What each thread of a block waits for becomes whose turn is next: waits are released, and warps run ahead in an order that is drawn.

The function is native code that the runtime calls before each round. It returns how many threads run, 0 where all have returned, or a
negative number for what is wrong.
"""

import functools
from importlib import import_module
from typing import Any, Final

import numpy as np

from backends import simt_runtime as runtime
from backends.simt_shadow import EPOCH, FAULT, WARP, WARPS

STOPPED: Final = -1
UNNAMED: Final = -2
APART: Final = -3
SPLIT: Final = -4
STUCK: Final = -5

WORDS: Final = 4
_THREADS, _RANDOM, _CHECKED, _MASK = range(WORDS)
"""Threads of the block, state of the random numbers (0: ascending order), whether there is a shadow, the mask of an UNNAMED lane."""


def turns(threads: int, seed: int, checked: bool) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The words that the function reads and writes, for one launch."""
    words = np.zeros(WORDS, np.int64)
    words[_THREADS], words[_CHECKED] = threads, checked
    if seed:
        words[_RANDOM] = int(np.random.default_rng(seed).integers(1, 1 << 62))
    return words


def problem(found: int, words: np.ndarray[Any, np.dtype[np.int64]], state: np.ndarray[Any, Any]) -> str:
    """What the negative number `found` says."""
    if found == UNNAMED:
        return f"a lane waits at a warp operation whose mask {int(words[_MASK]):#010x} does not name it"
    if found == APART:
        return "lanes of one warp wait at different warp operations"
    if found == SPLIT:
        return "threads of one block wait at different barriers"
    counts = {
        "wait at a barrier of the block": int((state == runtime.AT_BLOCK_BARRIER).sum()),
        "wait for lanes of their warp": int(np.isin(state, (runtime.AT_WARP_BARRIER, runtime.AT_WARP_FENCE)).sum()),
        "have returned": int((state == runtime.RETURNED).sum()),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"divergent barrier: of the {state.size} threads of a block, {told}"


@functools.cache
def next_turn() -> int:
    """The address of the function: (words, state, mask, site, sent, received, order, shadow) to how many threads of `order` run."""
    numba: Any = import_module("numba")
    carray, types, jit = numba.carray, numba.types, numba.njit(inline="always")
    runnable, at_block, returned = runtime.RUNNABLE, runtime.AT_BLOCK_BARRIER, runtime.RETURNED
    at_warp, at_fence = runtime.AT_WARP_BARRIER, runtime.AT_WARP_FENCE

    @jit
    def draw(words: Any, below: Any) -> Any:
        """A number from 0 to below it: xorshift64 (Marsaglia 2003)."""
        x = np.uint64(words[_RANDOM])
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
        words[_RANDOM] = np.int64(x)
        return np.int64((x >> np.uint64(11)) % np.uint64(below))

    @jit
    def release_warp(words: Any, first: Any, state: Any, mask: Any, site: Any, sent: Any, received: Any, shadow: Any) -> Any:
        """1 where lanes of the warp go on, 0 where none does, or what is wrong."""
        last = min(first + WARP, words[_THREADS])
        found = 0
        for lane in range(first, last):
            if state[lane] != at_warp and state[lane] != at_fence:
                continue
            named = mask[lane]
            if (named >> np.uint32(lane - first)) & np.uint32(1) == 0:
                words[_MASK] = named
                return UNNAMED
            came, fence, alone = True, True, False
            for other in range(first, last):
                if (named >> np.uint32(other - first)) & np.uint32(1):
                    waits = state[other] == at_warp or state[other] == at_fence
                    came = came and waits and mask[other] == named
                    fence = fence and state[other] == at_fence
                    alone = alone or site[other] != site[lane]
                else:
                    fence = fence and state[other] == returned
            if not came:
                continue
            if alone:
                return APART
            for other in range(first, last):
                if (named >> np.uint32(other - first)) & np.uint32(1):
                    received[other] = sent[other]
                    state[other] = runnable
            if fence and words[_CHECKED]:
                shadow[shadow[WARPS] + first // WARP] += 1
            found = 1
        return found

    @jit
    def release(words: Any, state: Any, mask: Any, site: Any, sent: Any, received: Any, shadow: Any) -> Any:
        """How many threads may run, or what is wrong."""
        threads = words[_THREADS]
        for first in range(0, threads, WARP):
            found = release_warp(words, first, state, mask, site, sent, received, shadow)
            if found < 0:
                return found
        ready, at_barrier, gone = 0, 0, 0
        for thread in range(threads):
            ready += state[thread] == runnable
            at_barrier += state[thread] == at_block
            gone += state[thread] == returned
        if at_barrier < threads:
            return ready if ready or gone == threads else STUCK
        for thread in range(threads):
            if site[thread] != site[0]:
                return SPLIT
            state[thread] = runnable
        if words[_CHECKED]:
            shadow[EPOCH] += 1
        return threads

    def turn(table: Any, states: Any, masks: Any, sites: Any, sends: Any, receives: Any, orders: Any, shadows: Any) -> Any:
        words = carray(table, (WORDS,))
        threads = words[_THREADS]
        state, mask, site = carray(states, (threads,)), carray(masks, (threads,)), carray(sites, (threads,))
        sent, received, order = carray(sends, (threads,)), carray(receives, (threads,)), carray(orders, (threads,))
        shadow = carray(shadows, (1 << 60,))
        if words[_CHECKED] and shadow[FAULT]:
            return STOPPED
        ready = release(words, state, mask, site, sent, received, shadow)
        if ready <= 0:
            return ready
        # The first warp alone, or some warps in random order. In lock step no warp would overtake another.
        count, taken = 0, False
        for first in range(0, threads, WARP):
            chosen = draw(words, 2) == 0 if words[_RANDOM] else not taken
            if not chosen:
                continue
            for thread in range(first, min(first + WARP, threads)):
                if state[thread] == runnable:
                    order[count] = thread
                    count += 1
                    taken = True
        if count == 0:
            for thread in range(threads):
                if state[thread] == runnable and (count == 0 or thread // WARP == order[0] // WARP):
                    order[count] = thread
                    count += 1
        if words[_RANDOM]:
            for place in range(count - 1, 0, -1):
                other = draw(words, place + 1)
                order[place], order[other] = order[other], order[place]
        return count

    pointers = (types.int64, types.int32, types.uint32, types.uint64, types.uint32, types.uint32, types.int64, types.int64)
    made: Any = numba.cfunc(types.int64(*map(types.CPointer, pointers)))(turn)
    _KEPT.append(made)
    return int(made.address)


_KEPT: Final[list[Any]] = []
"""Compiled functions: their code must outlive the kernels that call it."""

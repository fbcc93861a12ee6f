"""Turns one launch of a GPU plan into predicted cycles: units, memory by coalesced sectors, latency at the occupancy there is, starting it.

Every thread of a warp does the same, so a warp's access moves as many 32-byte sectors as its lanes touch: one if they share an element,
itemsize if they are neighbours, 32 if they stride. What an array holds comes from memory once, and again only where the threads
that read it are far apart and the array is larger than the L2.
"""

from collections.abc import Mapping
from typing import Final

from extract.cuda_count import SECTOR
from extract.cuda_work import Walker
from extract.cycles import Cost
from extract.fuse import walk
from extract.machine import Machine
from extract.rows_cuda import shared_elements
from extract.rows_staged import PAD, operands
from extract.sizes import number
from kernel_ir.plan import Alloc, BlockTile, Guard, Launch, Plan, RowTile

HELD: Final = 45
"""Registers of a thread besides what its tile keeps: places, counters, what is loaded and not yet used (SASS: 40 to 60)."""


def resident_blocks(launch: Launch, machine: Machine) -> float:
    """Blocks that one multiprocessor has at once: by threads, and by the shared memory and registers of what is seen to take much."""
    shared = registers = 0
    for node in walk(launch.body):
        match node:
            case Alloc(buffer) if buffer.space == "shared":
                shared += buffer.dtype.itemsize * number(buffer.shape[0], {})
            case BlockTile(each=(rows, columns)):
                shared += node.left.dtype.itemsize * node.depth * (node.height + PAD + node.width)
                ahead = node.depth * (node.height + node.width) // launch.threads if node.ahead else 0
                registers = (rows * columns + rows + columns + ahead) * node.left.dtype.itemsize // 4 + HELD
            case RowTile(each=(rows, terms, columns)):
                shared += node.dtype.itemsize * shared_elements(node)
                held = rows * (terms + 3) + max(terms, columns) + (rows * columns if node.across is not None else 0)
                staged = operands(node)
                waiting = [side for side in staged if node.ahead and (side == "right" or (side == "factor") == node.kept)]
                held += sum(staged[side].terms[1] * staged[side].items[1] for side in waiting) // launch.threads
                registers = held * node.dtype.itemsize // 4 + HELD
            case _:
                pass
    limits = [machine.extra["blocks"], machine.extra["threads"] // launch.threads]
    if shared:
        limits.append(machine.extra["shared_bytes"] // shared)
    if registers:
        limits.append(machine.extra["registers"] // (registers * launch.threads))
    return max(1.0, min(limits))


def launch_cost(launch: Launch, plan: Plan, machine: Machine, sizes: Mapping[str, int]) -> Cost:
    """The predicted cost of one launch, or of what stands in for it where its guard does not hold of these sizes; a size that is not given
    counts as 1024, and arrays as aligned."""
    while launch.guard is not None and launch.otherwise is not None and not _holds(launch.guard, sizes):
        launch = launch.otherwise
    walker = Walker(launch, plan, machine, dict(sizes))
    tally = walker.walk()
    blocks = max(1.0, walker.blocks)
    resident = resident_blocks(launch, machine)
    # A block runs on one multiprocessor: where some have one more than others, these wait.
    busy = blocks / -(-blocks // machine.units)
    # Threads beyond what hides latency help no more; fewer leave the units waiting for the chain of each.
    waves = max(1.0, blocks / (machine.units * resident))
    l1, l2, memory = machine.levels
    moved = tally.sectors * SECTOR
    far = sum(tally.footprint.values()) + tally.again * SECTOR
    times = {
        "units": sum(tally.units.values()) / busy,
        # A line is looked up a cycle, though one of its four sectors is all that is wanted (assumed: not measured here).
        "L1": (moved + 3 * tally.scattered * SECTOR) / l1.bytes_per_cycle / busy,
        "L2": max(far, moved / 4, tally.scattered * SECTOR) / l2.bytes_per_cycle / busy,
        "memory": far / memory.bytes_per_cycle / min(float(machine.units), blocks * max(1.0, launch.threads / 256)),
        "latency": tally.chain * waves,
        "atomics": tally.atomics / busy,
    }
    overhead = machine.launch_cycles + machine.extra["argument_cycles"] * len(tally.arrays)
    slowest = max(times.values())
    rest = 0.1 * (sum(times.values()) - slowest)
    spread = min(float(machine.units), blocks)
    per_unit = {name: cycles / spread for name, cycles in tally.units.items()}
    return Cost(slowest + rest + overhead, per_unit, {"L1": moved, "memory": far}, overhead, times)


def _holds(guard: Guard, sizes: Mapping[str, int]) -> bool:
    multiples = all(number(e, sizes) % n == 0 for e, n in guard.multiples)
    return multiples and all(number(e, sizes) <= n for e, n in guard.at_most)

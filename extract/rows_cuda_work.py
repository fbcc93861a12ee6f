"""Counts what a row tile takes: operands staged, two products of matrices in registers, and between them exponents, maxima and weights."""

from typing import TYPE_CHECKING, Final

from extract.cuda_count import WARP, Frame
from extract.sizes import number
from extract.tile_cuda import near
from kernel_ir.nodes import Const, Expr
from kernel_ir.plan import RowTile

if TYPE_CHECKING:
    from extract.cuda_work import Walker

STAGED: Final = 6.0
"""Integer instructions that bring one element to shared memory, its address aside."""
PLACED: Final = 5.0
"""Those of one term of a product: what is left of the loop, and where its operands are."""
HELD: Final = 4.0
"""Those of one total: whether its row has the term, and where its weight goes."""
LANE_BYTES: Final = 16
"""What one instruction reads of shared memory at most."""


def count_row_tile(walker: "Walker", t: RowTile) -> None:
    """Adds what every block runs of the tile to the walker's tally."""
    count, here, sizes = walker.count, walker.count.here, walker.sizes
    for b in (t.rows, t.reduction, *(() if t.columns is None else (t.columns,))):
        count.extents[b.index] = max(1, number(b.hi, sizes))
        sizes[b.index] = count.extents[b.index] // 2
    trips = max(0, number(t.terms.hi, sizes) - number(t.terms.lo, sizes))
    count.extents[t.terms.index] = max(1, trips)
    sizes[t.terms.index] = trips // 2
    steps, products = -(-trips // t.width), count.extents[t.reduction.index]
    parts = steps * -(-products // t.depth)
    threads = walker.launch.threads
    lane, (rows, terms, columns) = count.lane, t.each

    def frame(times: float, chained: bool = True) -> Frame:
        names = {b.index for b in (t.rows, t.terms, t.reduction, *(() if t.columns is None else (t.columns,)))} | {t.total}
        made = Frame(names, here.runs * times, here.each * times if chained else 0.0)
        count.frames.append(made)
        return made

    def stage(value: Expr, along: str, across: str, elements: int, times: int) -> None:
        count.lane = along if near(value, along, count.orders) else across
        frame(elements * times / threads, chained=False)
        count.expression(value)
        count.integer("address", STAGED)
        count.instructions(1.0)
        count.frames.pop()

    def multiply(times: float, height: int, width: int) -> None:
        """Products of `height` by `width` a thread, so many times, operands read from shared memory."""
        frame(times, chained=False)
        for op in ("add",) if count.contract else ("mul", "add"):
            count.op(op, t.dtype, height * width)
        count.instructions(sum(-(-n * t.dtype.itemsize // LANE_BYTES) for n in (height, width)))
        count.integer("loop", PLACED)
        count.frames.pop()
        walker.tally.sectors += here.runs / WARP * times * (height + width) / 2 * t.dtype.itemsize

    stage(t.left, t.reduction.index, t.rows.index, t.depth * t.height, 1 if t.kept else parts)
    stage(t.right, t.reduction.index, t.terms.index, t.depth * t.width, parts)
    if t.factor is not None and t.columns is not None:
        stage(t.factor, t.terms.index, t.columns.index, t.width * t.span, steps)
    multiply(steps * products, rows, terms)
    if t.across is not None:
        multiply(trips, rows, columns)
    count.lane = t.terms.index
    _scores(walker, t, frame(steps * rows * terms, chained=False))
    count.frames.pop()
    _rows(walker, t, frame(steps * rows, chained=False))
    count.frames.pop()
    near_by, latency = walker.machine.extra["near_latency"], walker.machine.latency
    shuffles = 0 if t.exponent is None else (t.threads[1].bit_length() - 1) * (near_by + 3 * latency)
    waits = parts * walker.machine.extra["far_latency"] + steps * (products + t.width) * latency
    walker.tally.chain += waits + steps * (shuffles + 3 * near_by) + 2 * parts * near_by
    if t.columns is not None:
        count.lane = t.columns.index
    frame(rows * (columns if t.across is not None else 1), chained=False)
    for store in t.results:
        count.expression(store.value)
        count.access(store.buffer, store.indices, count.here, store=True)
    count.frames.pop()
    count.lane = lane


def _scores(walker: "Walker", t: RowTile, frame: Frame) -> None:
    """What each total takes."""
    count = walker.count
    count.integer("index", HELD, frame)
    if t.across is not None:
        count.instructions(1.0, frame)
    if t.exponent is not None:
        count.expression(t.exponent)
        count.op("max", t.dtype, 3, frame, chained=False)
        count.op("exp", t.dtype, 1, frame, chained=False)
    elif t.across is not None:
        count.expression(t.across.value)
    for s in t.sums:
        if not isinstance(s.value, Const):
            count.expression(s.value)
        count.op("max" if s.kind in ("max", "min") else "add", t.dtype, 3 if s.kind in ("max", "min") else 1, frame, chained=False)


def _rows(walker: "Walker", t: RowTile, frame: Frame) -> None:
    """What each row of a thread takes, a step: its maximum over the threads that share it, and what was summed rescaled."""
    if t.exponent is None:
        return
    count = walker.count
    shuffles = t.threads[1].bit_length() - 1
    count.instructions(shuffles, frame)
    count.op("max", t.dtype, 3 * (shuffles + 1), frame, chained=False)
    count.op("exp", t.dtype, 1, frame, chained=False)
    count.op("mul", t.dtype, (t.each[2] if t.across is not None else 0) + len(t.sums), frame, chained=False)

"""Counts what a row tile takes: operands staged, two products of matrices in registers, and between them exponents, maxima and weights."""

from typing import TYPE_CHECKING, Final

from extract.cuda_count import WARP, Frame
from extract.rows_staged import operands, wide_operand
from extract.sizes import number
from extract.tile_cuda import near
from extract.wide_cuda import Place
from kernel_ir.nodes import Const
from kernel_ir.plan import RowTile

if TYPE_CHECKING:
    from extract.cuda_work import Walker

STAGED: Final = (5.0, 10.0)
"""Integer instructions that bring one element to shared memory, or one run of neighbours, its address aside."""
TURN: Final = 4.0
"""Those of one turn of a product's loop: the term, where its operands are, whether it is the last."""
TERMS: Final = (4, 2)
"""Terms of a turn, of the product that makes totals and of that with columns."""
HELD: Final = 2.0
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
    threads, staged = walker.launch.threads, operands(t)
    lane, (rows, terms, columns) = count.lane, t.each

    def frame(times: float, chained: bool = True) -> Frame:
        names = {b.index for b in (t.rows, t.terms, t.reduction, *(() if t.columns is None else (t.columns,)))} | {t.total}
        made = Frame(names, here.runs * times, here.each * times if chained else 0.0)
        count.frames.append(made)
        return made

    def stage(side: str, times: int) -> None:
        o = staged[side]
        elements = o.terms[1] * o.items[1]
        found = wide_operand(o, count.buffers) if t.wide else None
        width, loads = (1, frozenset[Place]()) if found is None else (found[0], frozenset(found[1].loads))
        along = near(o.value, o.terms[0].index, count.orders)
        count.lane = (o.terms if along else o.items)[0].index
        count.step, count.wide = width, loads
        frame(elements * times / threads, chained=False)
        count.expression(o.value)
        count.integer("address", STAGED[width > 1] / width)
        count.instructions(1.0 if along else -(-width * t.dtype.itemsize // LANE_BYTES) / width)
        count.frames.pop()
        count.step, count.wide = 1, frozenset[Place]()

    def multiply(times: float, height: int, width: int, turn: int) -> None:
        """Products of `height` by `width` a thread, so many times, operands read from shared memory."""
        frame(times, chained=False)
        for op in ("add",) if count.contract else ("mul", "add"):
            count.op(op, t.dtype, height * width)
        count.instructions(sum(-(-n * t.dtype.itemsize // LANE_BYTES) for n in (height, width)))
        count.integer("loop", TURN / turn)
        count.frames.pop()
        walker.tally.sectors += here.runs / WARP * times * (height + width) / 2 * t.dtype.itemsize

    stage("left", 1 if t.kept else parts)
    stage("right", parts)
    if "factor" in staged:
        stage("factor", steps)
    multiply(steps * products, rows, terms, TERMS[0])
    if t.across is not None:
        multiply(trips, rows, columns, TERMS[1])
    count.lane = t.terms.index
    _scores(walker, t, frame(steps * rows * terms, chained=False))
    count.frames.pop()
    _rows(walker, t, frame(steps * rows, chained=False))
    count.frames.pop()
    near_by, latency = walker.machine.extra["near_latency"], walker.machine.latency
    shuffles = 0 if t.exponent is None else (t.threads[1].bit_length() - 1) * (near_by + 3 * latency)
    far, between = walker.machine.extra["far_latency"], steps * (products + t.width) * latency
    # Loads ahead are under way while products are made; of a longer contraction, those of the columns' factor are not.
    hidden = 0.0 if not t.ahead else between if t.kept else between * products / (products + t.width)
    waits = max(0.0, parts * far - hidden) + (steps * far if t.ahead and not t.kept and "factor" in staged else 0.0)
    walker.tally.chain += waits + between + steps * (shuffles + 3 * near_by) + 2 * parts * near_by
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

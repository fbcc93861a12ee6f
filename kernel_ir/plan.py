"""The Plan: what runs. Launches of loop nests over buffers, from which each backend prints its source.

Values inside a plan are core expressions (`nodes.Expr`) over `Local`s (named scalars), loop indices (`IndexRef`), sizes, scalar
parameters and `Load`s from buffers. A reduction never stands inside a plan's expression: it has become a loop with an accumulator.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from kernel_ir.dtypes import DType
from kernel_ir.layout import Layout, Layouts
from kernel_ir.nodes import Binder, Carry, Expr, Kernel, Load, ReduceKind

Space = Literal["argument", "output", "global", "local", "shared"]
"""argument, output: the caller's; global: a whole-array temporary; local: private to one iteration of the parallel loops
(a row buffer in L1, registers on a GPU); shared: of one thread block."""


class LoopKind(Enum):
    """How the iterations of a loop map onto the machine."""

    SERIAL = "serial"
    VECTOR = "vector"  # CPU: SIMD lanes; iterations are independent or join an accumulator
    UNROLLED = "unrolled"  # constant extent, written out
    PARALLEL = "parallel"  # CPU: threads
    BLOCK = "block"  # GPU: one block an iteration
    WARP = "warp"  # GPU: one warp an iteration
    THREAD = "thread"  # GPU: threads of a block, strided, share the iterations
    GRID = "grid"  # GPU: one thread of the whole grid an iteration


@dataclass(frozen=True, slots=True)
class Buffer:
    """A storage type, a shape (i64 expressions), where it lives, and `order`: its dimensions, slowest in memory first."""

    name: str
    dtype: DType
    shape: tuple[Expr, ...]
    space: Space
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Let:
    """`name = value`: a scalar that is not assigned again."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Accumulator:
    """Declares the scalar accumulator of a reduction at its value over nothing. argmax and argmin own a second
    scalar `<name>_at` (i64); expsum owns `<name>_max`, and one running sum a value: `width` of them when vector-valued."""

    name: str
    kind: ReduceKind
    dtype: DType


@dataclass(frozen=True, slots=True)
class Combine:
    """Joins one term to an accumulator: `values` is (body,), for argmax/argmin (body, index), for expsum (s, v)."""

    name: str
    kind: ReduceKind
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """GPU: joins the accumulators of all threads of a warp or block, and gives every one of them the result."""

    name: str
    kind: ReduceKind
    scope: Literal["warp", "block"]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Store:
    """`buffer[indices] = value`, or, with a kind, joined to what is there (`atomic` where iterations can collide).

    CPU: of a thread's private copies of an atomic store's target, `way` says which; `spare`: the copies have a place behind the last
    index of the slowest dimension, for terms that go nowhere.
    """

    buffer: str
    indices: tuple[Expr, ...]
    value: Expr
    kind: ReduceKind | None = None
    atomic: bool = False
    way: int = 0
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Alloc:
    """Makes a local or shared buffer, uninitialised, for the rest of the enclosing block; `fill` initialises it."""

    buffer: Buffer
    fill: Expr | None = None


@dataclass(frozen=True, slots=True)
class When:
    """Runs `body` if the condition holds, else `otherwise`."""

    condition: Expr
    body: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]" = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """`for index in lo..hi by step`. On a GPU, a grid or thread loop with a step above 1 gives each thread `step` neighbours at a time,
    whose loads and stores are as wide as their places allow."""

    index: str
    lo: Expr
    hi: Expr
    kind: LoopKind
    body: "tuple[Node, ...]"
    step: int = 1


@dataclass(frozen=True, slots=True)
class FoldLoop:
    """A fold as an ordered loop that leaves each carry's last value in the scalar of its (unique) name; `body` runs before the updates."""

    index: str
    lo: Expr
    hi: Expr
    carries: tuple[Carry, ...]
    condition: Expr | None
    dtypes: tuple[DType, ...]
    body: "tuple[Node, ...]" = ()


@dataclass(frozen=True, slots=True)
class Leave:
    """CPU: ends the enclosing serial loop if the condition holds."""

    condition: Expr


@dataclass(frozen=True, slots=True)
class Barrier:
    """GPU: all threads of the block (or warp) meet."""

    scope: Literal["warp", "block"] = "block"


@dataclass(frozen=True, slots=True)
class Matmul:
    """Library call: `out[i, j] = sum(k: a[i, k] * b[k, j])` on the trailing two dimensions of views, for the leading indices given.

    Each operand is (buffer, leading index expressions, transposed?).
    """

    out: tuple[str, tuple[Expr, ...], bool]
    a: tuple[str, tuple[Expr, ...], bool]
    b: tuple[str, tuple[Expr, ...], bool]


@dataclass(frozen=True, slots=True)
class Tile:
    """CPU: `buffer[indices] = sum(reduction: value)` for all `rows` and `columns`, a block of them at a time in registers.

    A block is `height` rows by `vectors` vectors of `lanes` neighbouring columns. Loads move by one element, or not at all, from one
    column to the next; ranges of columns and reduction may grow with the row, never shrink. Columns past a row's own may be written.
    `packed` (its reduction being one loop from 0) is the load that all rows share and the local buffer, of terms by columns of one
    block, into which it is copied first: neighbouring terms then lie side by side.
    """

    buffer: str
    indices: tuple[Expr, ...]
    value: Expr
    rows: Binder
    columns: Binder
    reduction: tuple[Binder, ...]
    height: int
    vectors: int
    lanes: int
    packed: tuple[Load, str] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """CPU: `buffer[indices] = source` for all `rows` and `columns`, a square of them at a time in registers.

    `source` moves by one element from row to row and by a fixed distance from column to column; `buffer` the other way round.
    """

    buffer: str
    indices: tuple[Expr, ...]
    source: Load
    rows: Binder
    columns: Binder


@dataclass(frozen=True, slots=True)
class Stream:
    """CPU: `buffer[indices] = source` for all of `along`, past the caches: whole lines are written that were not read before.

    Both are neighbours in memory from one value of `along` to the next, and of one storage type.
    """

    buffer: str
    indices: tuple[Expr, ...]
    source: Load
    along: Binder


@dataclass(frozen=True, slots=True)
class Prefetch:
    """CPU: asks for the lines of `source` for all of `along`, neighbours in memory, as they will be read for the next value of `row`, an
    index of a loop around; for its last value, of that one. Changes no value."""

    source: Load
    along: Binder
    row: Binder


@dataclass(frozen=True, slots=True)
class BlockTile:
    """GPU: `buffer[indices] = result` for a rectangle of `rows` by `columns` a block; `result` reads the scalar `total`, which is
    `sum(reduction: left * right)`.

    The threads of a block stage `depth` terms of `left` (which reads no column) and of `right` (no row) in shared memory, `height` rows
    and `width` columns of them; each thread keeps `each` (rows, columns) of the totals in registers. `row_block` and `column_block`
    are the indices of the loops around, which number the rectangles. `ahead`: whether a step's operands are on their way from memory,
    into registers, while the products of the step before are made.
    """

    buffer: str
    indices: tuple[Expr, ...]
    result: Expr
    total: str
    left: Expr
    right: Expr
    rows: Binder
    columns: Binder
    reduction: Binder
    row_block: str
    column_block: str
    height: int
    width: int
    depth: int
    each: tuple[int, int]
    ahead: bool = False

    @property
    def threads(self) -> tuple[int, int]:
        """Threads of a block along the rows and along the columns."""
        return self.height // self.each[0], self.width // self.each[1]


@dataclass(frozen=True, slots=True)
class RowSum:
    """A reduction over a row tile's terms: `name` (one a row, or one a row and column) becomes sum, max or min of `value` over all terms,
    or of expsum, the sum of exp(exponent - its maximum) * value."""

    name: str
    kind: ReduceKind
    value: Expr


@dataclass(frozen=True, slots=True)
class RowTile:
    """GPU: `results` for a block of `rows`, which read reductions over `terms`, in one pass over them; the terms read the scalar
    `total`, which is `sum(reduction: left * right)` for a row and a term. Attention is one: two products of matrices, and between them
    a running maximum.

    `left` reads no term, `right` no row. `sums` are one a row; `across`, if any, is one a row and column, and its terms are its value,
    which reads no column, times `factor`, which reads no row. `exponent` is what all expsums have in common. Each step takes `width`
    terms: their operands are staged in shared memory, `depth` of the `reduction` at a time (all of `left` once, if `kept`), the totals
    are made in registers, what `across` multiplies goes through shared memory to the threads of the same rows, and `span` columns are
    summed in registers. Terms start and end no earlier for a later row. `each`: rows, terms and columns of a thread. `row_block` and
    `column_block` are the indices of the loops around, which number the rectangles of `height` by `span`. `ahead`: operands are loaded
    while products of those before are made. `wide`: those that allow it are loaded 128 bits at a time.
    """

    results: tuple[Store, ...]
    total: str
    left: Expr
    right: Expr
    exponent: Expr | None
    sums: tuple[RowSum, ...]
    across: RowSum | None
    factor: Expr | None
    rows: Binder
    terms: Binder
    columns: Binder | None
    reduction: Binder
    row_block: str
    column_block: str
    height: int
    width: int
    span: int
    depth: int
    each: tuple[int, int, int]
    kept: bool = False
    ahead: bool = False
    wide: bool = False

    @property
    def dtype(self) -> DType:
        """The type of all products and sums: f32 or f64."""
        return self.left.dtype

    @property
    def threads(self) -> tuple[int, int]:
        """Threads of a block along the rows, and along terms and columns: those of one row are of one warp."""
        return self.height // self.each[0], self.width // self.each[1]


Node = (
    Let
    | Accumulator
    | Combine
    | Join
    | Store
    | Alloc
    | When
    | Loop
    | FoldLoop
    | Leave
    | Barrier
    | Matmul
    | Tile
    | Turn
    | Stream
    | Prefetch
    | BlockTile
    | RowTile
)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a launch asks of one call: expressions over sizes that are multiples of a number, or no greater than it, arrays that start at
    a multiple of 16 bytes (GPU), sizes that are a number (CPU)."""

    multiples: tuple[tuple[Expr, int], ...] = ()
    at_most: tuple[tuple[Expr, int], ...] = ()
    aligned: tuple[str, ...] = ()
    equal: tuple[tuple[Expr, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """One parallel piece of work: all of it ends before the next begins. `threads`: threads a block, on a GPU.

    `deal`: whether a CPU thread gets a contiguous block of the parallel iterations, or every n-th one (work that grows with the index).
    Where the `guard` does not hold at a call, `otherwise` runs instead. CPU: the body of a launch with a `patch` is a nest of loops;
    so many turns of each are done at once, those of the last in the lanes of a vector.
    """

    name: str
    body: tuple[Node, ...]
    threads: int = 1
    note: str = ""
    deal: Literal["block", "cyclic"] = "block"
    guard: Guard | None = None
    otherwise: "Launch | None" = None
    patch: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RepeatLaunch:
    """Launches in order, `steps` times; `index` (if any) counts the rounds."""

    index: str | None
    steps: Expr
    body: "tuple[Step, ...]"


Step = Launch | RepeatLaunch


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that runs for one call of a kernel on one target.

    `schedule` names the choices that made it, one (what, how) pair each, in order: enough to make the plan again from the kernel.
    `layouts` says how each `@ any` array lies (and temporaries that do not lie in C order); a buffer whose layout is more than an order
    of dimensions has the shape of its memory. The caller packs the arrays of `packed`, and takes the outputs among them packed.
    """

    kernel: Kernel
    target: str
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    schedule: tuple[tuple[str, str], ...] = ()
    fast_math: frozenset[str] = field(default_factory=frozenset[str])
    layouts: Layouts = ()
    packed: frozenset[str] = field(default_factory=frozenset[str])

    def layout(self, array: str) -> Layout | None:
        """How an array lies that has a say in it; None for the others."""
        return next((one.layout for one in self.layouts if one.name == array), None)

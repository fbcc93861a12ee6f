"""Tells which launches compute 64-bit integers, and how emitted code says that these wrap around.

numba marks signed arithmetic so that LLVM may assume that none does, and then decides   x + 2 < 0   by   x < -2.
"""

from typing import Final

from extract.fuse import walk
from kernel_ir.dtypes import I64
from kernel_ir.nodes import Call, Expr, Load, Local
from kernel_ir.plan import Accumulator, BlockTile, Combine, FoldLoop, Launch, Leave, Let, Node, Store, Tile, When
from kernel_ir.walk import children

RINGS: Final = frozenset({"add", "sub", "mul", "neg", "abs", "powi"})
"""Operations whose result may exceed an integer's type."""
WRAPS: Final = '''@intrinsic
def wraps(context):
    """Whole numbers wrap around from here on: numba lets LLVM assume that none does."""

    def generate(context, builder, signature, args):
        for name in ("add", "sub", "mul"):
            plain = lambda a, b, name="", flags=(), make=getattr(type(builder), name): make(builder, a, b, name)
            setattr(builder, name, plain)
        return context.get_dummy_value()

    return types.void(), generate
'''


def wraps(launch: Launch) -> bool:
    """Whether a launch computes values in 64-bit integers, which may exceed their type. Places in arrays and ranges of loops never do."""
    nodes = list(walk(launch.body))
    named = {n.name: n.value for n in nodes if isinstance(n, Let)}
    todo = [top for n in nodes for top in _values_of(n)]
    while todo:
        x = todo.pop()
        if isinstance(x, Call) and x.op in RINGS and x.dtype == I64:
            return True
        if isinstance(x, Load):
            todo += [] if x.default is None else [x.default]
        elif isinstance(x, Local):
            todo += [named.pop(x.name)] if x.name in named else []
        else:
            todo += children(x)
    sums = (n for n in nodes if isinstance(n, Accumulator | Store) and n.kind in ("sum", "prod"))
    return any((n.dtype if isinstance(n, Accumulator) else n.value.dtype) == I64 for n in sums)


def _values_of(node: Node) -> tuple[Expr, ...]:
    """The expressions directly in a node that are no places, and no ranges of loops."""
    match node:
        case Store(value=value) | Tile(value=value):
            return (value,)
        case Combine(values=values):
            return values
        case When(condition=condition) | Leave(condition=condition):
            return (condition,)
        case BlockTile():
            return (node.result, Call("mul", (node.left, node.right), node.left.dtype))
        case FoldLoop():
            condition = () if node.condition is None else (node.condition,)
            return (*condition, *(x for c in node.carries for x in (c.init, c.update)))
        case _:
            return ()

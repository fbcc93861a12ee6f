"""Turns terms, as tuples, into what the enumeration asks of them: size, leaves, variables renamed in order, a term made a variable."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy

from kernel_ir.ops import OPS

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any

Sort = Literal["x", "b"]
"""Numbers of the domain's type, and truth values."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A variable (`value` None) or a literal."""

    text: str
    sort: Sort
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """An op at the root of a term; `powi` with its exponent."""

    op: str
    exponent: int | None = None

    @property
    def sorts(self) -> tuple[Sort, ...]:
        letters = OPS[self.op].signature.partition("->")[0]
        return tuple("b" if letter == "b" else "x" for letter in letters if letter != "i")

    @property
    def result(self) -> Sort:
        return "b" if OPS[self.op].signature.endswith("b") else "x"

    def value(self, args: list[Array]) -> Array:
        """The op over rows of values."""
        with np.errstate(all="ignore"):
            if self.exponent is not None:
                return OPS[self.op].numpy(args[0], np.int64(self.exponent))
            value = np.asarray(OPS[self.op].numpy(*args))
            if self.op in ("max", "fmax", "min", "fmin") and value.dtype.kind == "f":
                # Which of two zeros it gives is not said; here always the same, so that order and grouping show no difference.
                one, two = args
                return np.where((one == 0) & (two == 0), one + two if self.op in ("max", "fmax") else -(-one - two), value)
            return value


Tree = tuple[Any, ...]
"""(leaf,) or (node, subtree, …)."""


NAMES: Final = "abcdefgh"
TRUTHS: Final = "pqrstuvw"


def leaves(tree: Tree) -> Iterator[Leaf]:
    """The leaves of a tree, left to right."""
    if len(tree) == 1:
        yield tree[0]
    for part in tree[1:]:
        yield from leaves(part)


def renamed(small: Tree, large: Tree) -> tuple[Tree, Tree]:
    """The pair with its variables named in order of their appearance in the larger tree, commutative arguments in an order of shapes."""
    small, large = _ordered(small), _ordered(large)
    names: dict[Leaf, Tree] = {}
    for leaf in (*leaves(large), *leaves(small)):
        if leaf.value is None and leaf not in names:
            row = TRUTHS if leaf.sort == "b" else NAMES
            names[leaf] = (Leaf(row[sum(k.sort == leaf.sort for k in names)], leaf.sort),)
    return _substituted(small, names), _substituted(large, names)


def _ordered(tree: Tree) -> Tree:
    if len(tree) == 1:
        return tree
    parts = [_ordered(part) for part in tree[1:]]
    if OPS[tree[0].op].commutative:
        parts.sort(key=_shape)
    return (tree[0], *parts)


def _shape(tree: Tree) -> tuple[int, str]:
    """What tells trees apart whose variables are not named: variables before literals, small before large."""
    if len(tree) == 1:
        return (0, "") if tree[0].value is None else (1, tree[0].text)
    return size(tree), f"{tree[0].op}{tree[0].exponent}{[_shape(part) for part in tree[1:]]}"


def _substituted(tree: Tree, names: dict[Leaf, Tree]) -> Tree:
    if len(tree) == 1:
        return names.get(tree[0], tree)
    return (tree[0], *(_substituted(part, names) for part in tree[1:]))


def generalised(small: Tree, large: Tree) -> Iterator[tuple[Tree, Tree]]:
    """The pair with a term that both sides have replaced by a variable, for each such term."""
    have = set(inner(large))
    for term in dict.fromkeys(t for t in inner(small) if t in have):
        yield _without(term, small, large)


def abstracted(small: Tree, large: Tree) -> Iterator[tuple[Tree, Tree]]:
    """The pair with a term within its larger side replaced by a variable wherever it is, if the smaller side then needs no other one."""
    for term in dict.fromkeys(t for part in large[1:] for t in inner(part)):
        pair = _without(term, small, large)
        if {v for v in leaves(pair[0]) if v.value is None} <= set(leaves(pair[1])):
            yield pair


def _without(term: Tree, small: Tree, large: Tree) -> tuple[Tree, Tree]:
    fresh = (Leaf("_", term[0].result),)
    return renamed(_replaced(small, term, fresh), _replaced(large, term, fresh))


def inner(tree: Tree) -> Iterator[Tree]:
    """The subtrees that are no leaves."""
    if len(tree) > 1:
        yield tree
        for part in tree[1:]:
            yield from inner(part)


def _replaced(tree: Tree, term: Tree, by: Tree) -> Tree:
    if tree == term:
        return by
    return tree if len(tree) == 1 else (tree[0], *(_replaced(part, term, by) for part in tree[1:]))


def size(tree: Tree) -> int:
    """The number of nodes and leaves."""
    return 1 + sum(map(size, tree[1:]))

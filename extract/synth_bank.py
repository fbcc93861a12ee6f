"""Turns the terms of an enumeration into columns: values, hashes, sizes, and in which order their variables appear."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy

from extract.synth_trees import NAMES, TRUTHS

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any

MIX: Final = np.uint64(0xD6E8FEB86659FD93)
SEED: Final = 0x9E37_79B9


@dataclass(slots=True)
class Bank:
    """The terms of one sort that are built upon: values, order-blind hashes, and how they were made."""

    values: Array
    hashes: Array
    sums: Array
    roots: Array
    sizes: Array
    orders: Array
    made: list[tuple[int, ...]]
    generic: Array
    """Values for atoms that have nothing to do with one another."""
    first: dict[int, int] = field(default_factory=dict[int, int])

    def extend(self, at: Array, root: int, size: int, values: Array, hashes: Array, sums: Array, orders: Array, generic: Array) -> None:
        """Adds the terms at some places of the arrays."""
        if not len(at):
            return
        self.values = np.concatenate([self.values, values[at]])
        self.hashes = np.concatenate([self.hashes, hashes[at]])
        self.sums = np.concatenate([self.sums, sums[at]])
        self.orders = np.concatenate([self.orders, orders[at]])
        self.generic = np.concatenate([self.generic, generic[at]])
        self.roots = np.concatenate([self.roots, np.full(len(at), root)])
        self.sizes = np.concatenate([self.sizes, np.full(len(at), size)])

    def of_size(self, size: int) -> Array:
        return np.flatnonzero(self.sizes == size)


@dataclass(slots=True)
class Orders:
    """The orders in which variables appear in terms, numbered as they are met; 0 is that of a term without any."""

    known: list[str] = field(default_factory=lambda: [""])

    def number(self, names: str) -> int:
        """The number of an order; of repeated names the first counts."""
        names = "".join(dict.fromkeys(names))
        if names not in self.known:
            self.known.append(names)
        return self.known.index(names)

    def joined(self, columns: list[Array]) -> Array:
        """For each term the number of its order of variables: those of its arguments, left to right, each where it appears first."""
        total = columns[0]
        for column in columns[1:]:
            keys, at = np.unique(total * 4096 + column, return_inverse=True)
            pairs: list[tuple[int, int]] = [divmod(key, 4096) for key in keys.tolist()]
            joined = [self.number(self.known[one] + self.known[two]) for one, two in pairs]
            total = np.array(joined, np.int64)[at]
        return total

    def plain(self) -> Array:
        """Of each order, whether it is that of the names: other terms are these with others' names."""
        rows = ["".join(n for n in known if n in row) for row in (NAMES, TRUTHS) for known in self.known]
        half = len(self.known)
        good = [all(r == row[: len(r)] for r, row in ((rows[i], NAMES), (rows[half + i], TRUTHS))) for i in range(half)]
        return np.array(good)


def mixed(x: Array) -> Array:
    """Each 64-bit word, its bits mixed."""
    x = (x ^ (x >> np.uint64(31))) * MIX
    return x ^ (x >> np.uint64(27))

"""Turns a workload (ops, leaves, a domain, limits) into pairs of small terms that look equal: bottom-up enumeration by fingerprint.

Only the first, smallest term of each fingerprint is built upon (Nandi et al. 2021, Ruler), so that no pair has a side with a needless
subterm. Terms that differ in the order of a commutative op, or of an associative one, are not told apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy

from extract.synth_bank import MIX, SEED, Bank, Orders, mixed
from extract.synth_trees import Leaf, Node, Sort, Tree, generalised, leaves, renamed, size
from extract.synth_values import Domain, fingerprints, inputs
from kernel_ir.ops import OPS

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Array = Any


@dataclass(frozen=True, slots=True)
class Workload:
    """What to enumerate: terms of at most `size` nodes, at most `limit` of them, and of each size about `pairs` pairs.

    `atoms` are terms over the leaves that count as leaves; `targets` are terms that others are compared with, but not built of. Where
    there are atoms, pairs that hold whatever these are are left out: arithmetic is what other workloads are for.
    """

    domain: Domain
    nodes: tuple[Node, ...]
    leaves: tuple[Leaf, ...]
    size: int
    limit: int = 120_000
    pairs: int = 60
    atoms: tuple[Tree, ...] = ()
    targets: tuple[Tree, ...] = ()


_CHUNK: Final = 40_000
EXAMINED: Final = 200
"""Pairs of one op and one split of a size that are looked at, those of most variables first."""
DEFINED: Final = 0.7
"""The share of samples at which a term over the reals must have a value."""


@dataclass(slots=True)
class Enumeration:
    """One workload under way."""

    work: Workload
    seed: int = 0
    built: int = 0
    _banks: dict[Sort, Bank] = field(default_factory=dict[Sort, Bank])
    _orders: Orders = field(default_factory=Orders)
    _trees: dict[tuple[Sort, int], Tree] = field(default_factory=dict[tuple[Sort, int], Tree])
    _rows: dict[Leaf, Array] = field(default_factory=dict[Leaf, Array])
    _given: list[tuple[Tree, Tree]] = field(default_factory=list[tuple[Tree, Tree]])
    """Pairs of atoms and targets."""

    def pairs(self) -> Iterator[tuple[Tree, Tree]]:
        """(smaller, larger) trees with the same fingerprint, smallest first: of each size the most general few.

        Of those that differ in the names of variables alone there is one, of those that another one is more general than there is none.
        """
        self._leaves()
        found: set[tuple[Tree, Tree]] = set()
        for large in range(1, self.work.size + 1):
            pairs = self._level(large) if large > 1 else (_oriented(*pair) for pair in self._given)
            level = dict.fromkeys(pair for pair in pairs if pair not in found and pair[0] != pair[1])
            ordered = sorted(level, key=_generality)
            for pair in ordered[:EXAMINED]:
                if not any(general in found for general in generalised(*pair)):
                    found.add(pair)
                    yield pair
                    if len(found) % self.work.pairs == 0:
                        break

    def smallest(self, tree: Tree) -> Tree | None:
        """The smallest enumerated term with the fingerprint of a tree over the same leaves; None if there is none."""
        self._leaves()
        for large in range(2, self.work.size + 1):
            for number, node in enumerate(self.work.nodes):
                for ids in self._arguments(node, large):
                    self._added(number, node, large, ids)
        sort, values = self._value(tree)
        found = self._banks[sort].first.get(fingerprints(values[None], self.work.domain.exact).tolist()[0])
        return None if found is None else self._tree(sort, found)

    def _value(self, tree: Tree) -> tuple[Sort, Array]:
        root, *parts = tree
        if isinstance(root, Leaf):
            if root in self._rows:
                return root.sort, self._rows[root]
            return root.sort, np.full(self.work.domain.samples, root.value, self.work.domain.dtype.numpy)
        return root.result, root.value([self._value(part)[1] for part in parts])

    def _level(self, large: int) -> Iterator[tuple[Tree, Tree]]:
        """The renamed pairs whose larger tree has this size."""
        for number, node in enumerate(self.work.nodes):
            for ids in self._arguments(node, large):
                for rep, args in self._added(number, node, large, ids):
                    term = (node, *(self._tree(s, i) for s, i in zip(node.sorts, args, strict=True)))
                    yield _oriented(self._tree(node.result, rep), term)

    def _leaves(self) -> None:
        sample = self.work.domain.samples
        compound = [leaf for tree in (*self.work.atoms, *self.work.targets) for leaf in leaves(tree)]
        variables = sorted({leaf for leaf in (*self.work.leaves, *compound) if leaf.value is None}, key=lambda leaf: leaf.text)
        numbers, truths = ([v for v in variables if v.sort == sort] for sort in ("x", "b"))
        self._rows = dict(zip(numbers, inputs(self.work.domain, len(numbers), self.seed), strict=True))
        drawn = np.random.default_rng(self.seed + 5).integers(0, 2, (8, sample)).astype(bool)
        self._rows |= dict(zip(truths, drawn, strict=False))
        for sort in ("x", "b"):
            own = [leaf for leaf in self.work.leaves if leaf.sort == sort]
            values = np.zeros((len(own), sample), bool if sort == "b" else self.work.domain.dtype.numpy)
            for i, leaf in enumerate(own):
                values[i] = self._rows[leaf] if leaf.value is None else leaf.value
            n = len(own)
            orders = np.array([self._orders.number(leaf.text if leaf.value is None else "") for leaf in own], np.int64)
            hashes = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(1000 if sort == "b" else 0)) * MIX
            hashes = fingerprints(values, self.work.domain.exact) if self.work.atoms and n else hashes
            made = [(-1, i) for i in range(n)]
            bank = Bank(values, hashes, hashes, np.full(n, -1), np.ones(n, np.int64), orders, made, values)
            for i, f in enumerate(fingerprints(values, self.work.domain.exact).tolist()):
                bank.first.setdefault(f, i)
            self._banks[sort] = bank
        for place, tree in enumerate((*self.work.atoms, *self.work.targets)):
            self._give(tree, place, int(place < len(self.work.atoms)))

    def _give(self, tree: Tree, place: int, size: int) -> None:
        """Adds an atom (of size 1), or a target (of size 0: nothing is built of it)."""
        sort, value = self._value(tree)
        if value.dtype.kind == "f" and np.isfinite(value).mean() < DEFINED:
            return
        bank = self._banks[sort]
        number, row = len(bank.made), value[None]
        seen = bank.first.setdefault(fingerprints(row, self.work.domain.exact).tolist()[0], number)
        if seen != number:
            self._given.append((self._tree(sort, seen), tree))
            return
        self._trees[sort, number] = tree
        bank.made.append((-2, number))
        order = np.array([self._orders.number("".join(leaf.text for leaf in leaves(tree) if leaf.value is None))], np.int64)
        # Nothing to do with the other atoms, nor with the variables in it.
        generic = inputs(replace(self.work.domain, region="small"), 1, self.seed + 1000 + place)
        code = fingerprints(generic, self.work.domain.exact)
        bank.extend(np.array([0]), -1, size, row, code, code, order, generic)

    def _arguments(self, node: Node, size: int) -> Iterator[list[Array]]:
        """Columns of argument numbers, in chunks."""
        sorts = node.sorts
        commutative = OPS[node.op].commutative
        for sizes in _compositions(size - 1, len(sorts)):
            if commutative and sizes[0] > sizes[1]:
                continue
            columns = [self._banks[s].of_size(k) for s, k in zip(sorts, sizes, strict=True)]
            total = 1
            for c in columns:
                total *= len(c)
            total = min(total, self.work.limit - self.built)
            for start in range(0, total, _CHUNK):
                flat = np.arange(start, min(start + _CHUNK, total))
                ids: list[Array] = []
                for c in reversed(columns):
                    flat, at = np.divmod(flat, len(c))
                    ids.insert(0, c[at])
                if commutative and sizes[0] == sizes[1]:
                    keep = ids[0] <= ids[1]
                    ids = [i[keep] for i in ids]
                self.built += len(ids[0])
                if len(ids[0]):
                    yield ids

    def _added(self, number: int, node: Node, size: int, ids: list[Array]) -> list[tuple[int, tuple[int, ...]]]:
        """Keeps the terms of new fingerprints; of the others the first few, each as (the term that was there, this term's arguments)."""
        banks = [self._banks[s] for s in node.sorts]
        orders = self._orders.joined([bank.orders[i] for bank, i in zip(banks, ids, strict=True)])
        keep = orders > 0  # arithmetic of literals is folded, not rewritten
        ids, orders = [i[keep] for i in ids], orders[keep]
        if not len(orders):
            return []
        values = node.value([bank.values[i] for bank, i in zip(banks, ids, strict=True)])
        if not self.work.domain.exact and values.dtype.kind == "f":
            has = np.isfinite(values).mean(axis=1) >= DEFINED
            ids, orders, values = [i[has] for i in ids], orders[has], values[has]
            if not len(orders):
                return []
        prints = fingerprints(values, self.work.domain.exact)
        # What is a number whatever its variables are is built upon as a literal, if at all.
        number_like = ((values == values[:, :1]) | (values != values)).all(axis=1).tolist()
        generic = node.value([bank.generic[i] for bank, i in zip(banks, ids, strict=True)]) if self.work.atoms else prints
        hashes, sums = (fingerprints(generic, self.work.domain.exact), prints) if self.work.atoms else self._hashes(number, node, ids)
        home = self._banks[node.result]
        count, fresh, met = len(home.made), list[int](), dict[tuple[int, int], int]()
        symmetric = self.work.domain.symmetric and not self.work.atoms
        plain = (self._orders.plain() if symmetric else np.ones(len(self._orders.known), bool))[orders].tolist()
        for at, (f, h) in enumerate(zip(prints.tolist(), hashes.tolist(), strict=True)):
            rep = home.first.get(f)
            if rep is None:
                if not number_like[at]:
                    home.first[f] = count + len(fresh)
                    fresh.append(at)
            elif plain[at] and h != int(home.hashes[rep] if rep < count else hashes[fresh[rep - count]]):
                met.setdefault((rep, h), at)
        home.made.extend((number, *(int(i[a]) for i in ids)) for a in fresh)
        home.extend(np.array(fresh, np.int64), number, size, values, hashes, sums, orders, generic if self.work.atoms else values)
        many = np.array([len(names) for names in self._orders.known])[orders]
        general = sorted(met.items(), key=lambda item: -int(many[item[1]]))[:EXAMINED]
        return [(rep, tuple(int(i[at]) for i in ids)) for (rep, _), at in general]

    def _hashes(self, number: int, node: Node, ids: list[Array]) -> tuple[Array, Array]:
        """Hashes that do not see the order of commutative ops, nor the grouping of associative ones."""
        banks = [self._banks[s] for s in node.sorts]
        seed = np.uint64((number + 77) * SEED)
        with np.errstate(over="ignore"):
            if OPS[node.op].commutative:
                associative = not self.work.domain.is_float or not self.work.domain.exact or node.op in ("min", "max", "and", "or")
                terms = [
                    np.where((bank.roots[i] == number) & associative, bank.sums[i], mixed(bank.hashes[i]))
                    for bank, i in zip(banks, ids, strict=True)
                ]
                total = terms[0] + terms[1]
                return mixed(total + seed), total
            result = np.full(len(ids[0]), seed)
            for bank, i in zip(banks, ids, strict=True):
                result = mixed(result * np.uint64(31) + bank.hashes[i])
            return result, result

    def _tree(self, sort: Sort, number: int) -> Tree:
        key = sort, number
        if key not in self._trees:
            root, *args = self._banks[sort].made[number]
            if root < 0:
                self._trees[key] = ([leaf for leaf in self.work.leaves if leaf.sort == sort][args[0]],)
            else:
                node = self.work.nodes[root]
                self._trees[key] = (node, *(self._tree(s, i) for s, i in zip(node.sorts, args, strict=True)))
        return self._trees[key]


def _oriented(one: Tree, two: Tree) -> tuple[Tree, Tree]:
    """The smaller term first; renamed."""
    return renamed(one, two) if size(one) <= size(two) else renamed(two, one)


def _generality(pair: tuple[Tree, Tree]) -> tuple[int, int, int]:
    """Many variables, few literals, small."""
    small, large = pair
    row = [*leaves(large), *leaves(small)]
    return -len({leaf for leaf in row if leaf.value is None}), sum(leaf.value is not None for leaf in row), size(small)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Ordered ways to write `total` as `parts` positive numbers."""
    if parts == 1:
        if total >= 1:
            yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)

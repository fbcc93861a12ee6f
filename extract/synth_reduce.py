"""Turns terms into their smallest known forms: what rules that make terms smaller, and ask for no guard, leave of them."""

from dataclasses import dataclass, field

from extract.synth_trees import Leaf, Node, Tree, leaves, size
from extract.synth_words import tree_of
from kernel_ir.fastmath import Flags
from kernel_ir.ops import OPS
from rewrites.declare import class_letter
from rewrites.pattern import Apply, subpatterns
from rewrites.rule import Rule

_CLASS = {"f": "float", "i": "int", "b": ""}


@dataclass(frozen=True, slots=True)
class _Step:
    large: Tree
    small: Tree
    needs: Flags


@dataclass(slots=True)
class Reducer:
    """Rules that make terms smaller, by the op at the root of their larger side."""

    _steps: dict[tuple[str, Node], list[_Step]] = field(default_factory=dict[tuple[str, Node], "list[_Step]"])

    def learn(self, rule: Rule) -> None:
        """Takes a rule in, for each class of numbers it speaks of; those with guards or larger right sides are none of it."""
        if rule.guards or rule.within:
            return
        for kind in {_CLASS[class_letter(t)] for p in subpatterns(rule.lhs) if isinstance(p, Apply) for t in rule.types[p.type]}:
            large, small = (tree_of(side, rule, kind) for side in (rule.lhs, rule.rhs))
            if large is not None and small is not None:
                self.add(kind, small, large, rule.needs)

    def add(self, kind: str, small: Tree, large: Tree, needs: Flags) -> None:
        """Takes in `large` to `small` on numbers of a kind, if every instance shrinks."""
        if size(small) < size(large) and all(
            _count(small, leaf) <= _count(large, leaf) for leaf in set(leaves(small)) if leaf.value is None
        ):
            self._steps.setdefault((kind, large[0]), []).append(_Step(large, small, needs))

    def normal(self, tree: Tree, kind: str, needs: Flags) -> Tree:
        """What is left when no rule under at most these flags applies."""
        if len(tree) == 1:
            return tree
        tree = (tree[0], *(self.normal(part, kind, needs) for part in tree[1:]))
        for step in (*self._steps.get((kind, tree[0]), ()), *(self._steps.get(("", tree[0]), ()) if kind else ())):
            bound: dict[Leaf, Tree] = {}
            if step.needs <= needs and matches(step.large, tree, bound):
                return self.normal(_instance(step.small, bound), kind, needs)
        return tree


def _count(tree: Tree, leaf: Leaf) -> int:
    return sum(other == leaf for other in leaves(tree))


def _instance(tree: Tree, bound: dict[Leaf, Tree]) -> Tree:
    if len(tree) == 1:
        return bound.get(tree[0], tree)
    return (tree[0], *(_instance(part, bound) for part in tree[1:]))


def matches(pattern: Tree, tree: Tree, bound: dict[Leaf, Tree]) -> bool:
    """Whether the tree is an instance of the pattern, commutative arguments in either order; binds variables."""
    if len(pattern) == 1:
        leaf = pattern[0]
        if leaf.value is not None:
            return pattern == tree
        if leaf.sort != (tree[0].sort if len(tree) == 1 else tree[0].result):
            return False
        return bound.setdefault(leaf, tree) == tree
    if len(tree) != len(pattern) or tree[0] != pattern[0]:
        return False
    orders = [tree[1:], tree[1:][::-1]] if OPS[tree[0].op].commutative else [tree[1:]]
    for arguments in orders:
        trial = dict(bound)
        if all(matches(p, t, trial) for p, t in zip(pattern[1:], arguments, strict=True)):
            bound.update(trial)
            return True
    return False

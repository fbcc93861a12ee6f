"""Turns a joined pair of kernels into pairs of terms that, were they equal, would make the kernels equal: the least that differ.

Two terms are set side by side from their roots: where the same op is at the root, the parts that differ are looked at in its place
(of a commutative op in either order), unless they prove to be no equals, whereupon the whole is one pair.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from extract.mine_graph import Joined
from rewrites.declare import OP_OF_CONSTRUCTOR, SIGNATURES, result_dtype
from rewrites.rule import Rule
from rewrites.terms import Term

Prove = Callable[[int, int], Rule | None]


@dataclass(slots=True)
class Alignment:
    """Finds the rules that join pairs of terms; `prove` makes a rule of a pair, if there is one."""

    joined: Joined
    prove: Prove
    _tried: dict[tuple[int, int], tuple[Rule, ...] | None] = field(default_factory=dict[tuple[int, int], "tuple[Rule, ...] | None"])

    def rules(self, a: int, b: int) -> tuple[Rule, ...] | None:
        """Rules under which the terms are equal, about as few and small terms as may be; None if none were found."""
        if self.joined.classes[a] == self.joined.classes[b]:
            return ()
        if self._dtype(a) != self._dtype(b):
            return None
        if (a, b) not in self._tried:
            self._tried[a, b] = None  # a pair is no part of itself
            self._tried[a, b] = self._parts(a, b) or self._whole(a, b)
        return self._tried[a, b]

    def _parts(self, a: int, b: int) -> tuple[Rule, ...] | None:
        one, two = self.joined.terms[a], self.joined.terms[b]
        if _without_children(one) != _without_children(two):
            return None
        for left, right in _orders(one, two):
            found: list[Rule] = []
            for x, y in zip(left, right, strict=True):
                rules = self.rules(x, y)
                if rules is None:
                    break
                found += rules
            else:
                return tuple(dict.fromkeys(found))
        return None

    def _whole(self, a: int, b: int) -> tuple[Rule, ...] | None:
        rule = self.prove(a, b)
        return None if rule is None else (rule,)

    def _dtype(self, number: int) -> object:
        term = self.joined.terms[number]
        return result_dtype(term.name, term.code)


def _without_children(term: Term) -> tuple[object, ...]:
    return (term.name, *(a for a, sort in zip(term.args, SIGNATURES[term.name], strict=True) if sort != "E"))


def _orders(one: Term, two: Term) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    yield one.children, two.children
    op = OP_OF_CONSTRUCTOR.get(one.name)
    if op is not None and op.commutative:
        yield one.children, two.children[::-1]

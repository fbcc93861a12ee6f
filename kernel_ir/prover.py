"""Turns what holds at a place of a kernel (ranges, facts, conditions) into proofs about its integer expressions.

Unknown means no: a method answers True only for what holds in every call that the kernel's facts allow.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Self

from kernel_ir.integers import Integers
from kernel_ir.literals import Case, Literal, Truth, cases, consequences, negated
from kernel_ir.nodes import Binder, Call, Expr, Kernel, Load, Reduce
from kernel_ir.polynomial import Polynomial
from kernel_ir.walk import subtrees

MAX_SPLITS: Final = 4
"""Alternatives (of `or`, `min`, `select`) looked into for one proof; each doubles the work."""
MAX_SUSPECTS: Final = 16
"""Constraints that are tried, newest first, as the contradicted one."""

Condition = tuple[Expr, bool]
"""A condition and the value that it has."""


class Prover(Integers):
    """What is known at one place. `bind` and `assume` give a new one; conversions only add what defines new atoms.

    >>> from kernel_ir.dtypes import I64
    >>> from kernel_ir.nodes import IndexRef, SizeRef, const
    >>> n, i, one = SizeRef("N"), IndexRef("i"), const(1, I64)
    >>> here = Prover({}).bind(Binder("i", one, n))
    >>> here.less(i, n), here.less(Call("sub", (i, one), I64), const(0, I64)), here.le(one, i)
    (True, False, True)
    """

    @classmethod
    def of(cls, kernel: Kernel, positive: frozenset[str] = frozenset()) -> Self:
        """What holds everywhere in a kernel: its facts, extents >= 0, sizes >= 0, and >= 1 where `positive` names them."""
        changing = {p.name for p in kernel.params if p.inout}
        facts = [part for fact in (*kernel.facts, *kernel.implied) for part in conjuncts(fact)]
        lasting = [f for f in facts if not any(isinstance(x, Load) and x.array in changing for x in subtrees(f))]
        prover = cls(kernel.arrays, positive)
        for name in kernel.sizes:
            prover.size(name)
        for p in (*kernel.params, *kernel.outputs):
            for extent in p.type.shape:
                prover.constraints.add(prover.polynomial(extent))
        prover.array_facts = tuple(f for f in lasting if isinstance(f, Reduce) and f.kind == "all")
        for fact in lasting:
            if not isinstance(fact, Reduce):
                prover.condition(fact, True)
        return prover

    def bind(self, binder: Binder) -> Self:
        """Inside the range: `lo <= index < hi`."""
        new = self.fork()
        lo, hi = new.value(binder.lo), new.value(binder.hi)
        name = binder.index
        while name in new.constraints.order:  # a name used before: this index shadows it
            name += "'"
        new.names[binder.index] = name
        index = new.index(name)
        new.learn(((index - lo, hi - 1 - index),))
        return new

    def assume(self, condition: Expr, value: bool = True) -> Self:
        """Where `condition` is `value`."""
        new = self.fork()
        new.condition(condition, value)
        return new

    def condition(self, condition: Expr, value: bool) -> None:
        """Learns that `condition` is `value`, in place."""
        self._wrapped = False
        self.learn(cases(condition, value, self.compare, self.key))
        if self._wrapped:
            # Bounds that were just learned may have made an operand exact.
            self.learn(cases(condition, value, self.compare, self.key))

    def learn(self, alternatives: tuple[Case, ...]) -> None:
        """Learns that one of the alternatives holds, in place."""
        if len(alternatives) > 1:
            alternatives = tuple(case for case in alternatives if not any(map(self._contradicts, case)))
        match alternatives:
            case ():
                self.constraints.impossible = True
            case (case,):
                for literal in case:
                    self._add(literal)
            case _:
                self.choices = (*self.choices, alternatives)

    def _add(self, literal: Literal) -> None:
        if isinstance(literal, Truth):
            for truth in consequences(literal):
                if self.truths.setdefault(truth.key, truth.value) != truth.value:
                    self.constraints.impossible = True
            return
        self.constraints.add(literal)
        for name in sorted(literal.atoms & self.sizes):
            # What cannot be where a size is 0 shows that the size is at least 1.
            without = Polynomial(tuple((m, c) for m, c in literal.terms if name not in m))
            if self.constraints.obvious(-without - 1):
                self.constraints.add(self.size(name) - 1)

    def _contradicts(self, literal: Literal) -> bool:
        if isinstance(literal, Truth):
            return any(self.truths.get(t.key, t.value) != t.value for t in consequences(literal))
        return self.constraints.contradicts(literal)

    # Questions

    def nonneg(self, p: Polynomial) -> bool:
        """Whether `p >= 0`."""
        return self._nonneg(p, MAX_SPLITS)

    def less(self, a: Expr, b: Expr) -> bool:
        """Whether `a < b`."""
        return self.nonneg(self.value(b) - self.value(a) - 1)

    def le(self, a: Expr, b: Expr) -> bool:
        """Whether `a <= b`."""
        return self.nonneg(self.value(b) - self.value(a))

    def equal(self, a: Expr, b: Expr) -> bool:
        """Whether `a == b`."""
        return self.le(a, b) and self.le(b, a)

    def holds(self, condition: Expr, value: bool = True) -> bool:
        """Whether `condition` is always `value` here."""
        refuting = self.fork()
        return all(refuting.with_case(case).is_impossible() for case in cases(condition, not value, refuting.compare, refuting.key))

    def interval(self, e: Expr) -> tuple[int | None, int | None]:
        """Constant bounds of an integer expression, None where none is known."""
        return self.constraints.interval(self.value(e))

    def with_case(self, case: Case) -> Self:
        """Where every literal of the case holds besides."""
        new = self.fork()
        for literal in case:
            if new._contradicts(literal):
                new.constraints.impossible = True
                break
            new._add(literal)
        return new

    def outside(self, case: Case) -> tuple[Self, ...]:
        """The parts, apart from each other, of what is known here where some literal of the case fails."""
        parts: list[Self] = []
        inside = self
        for literal in case:
            part = inside.with_case((negated(literal),))
            if not part.constraints.impossible:
                parts.append(part)
            inside = inside.with_case((literal,))
            if inside.constraints.impossible:
                break
        return tuple(parts)

    def is_impossible(self) -> bool:
        """Whether what is known contradicts itself: this place is never reached."""
        return self._is_impossible(MAX_SPLITS)

    def _nonneg(self, p: Polynomial, splits: int) -> bool:
        if self.constraints.nonneg(p):
            return True
        return bool(self.choices) and splits > 0 and all(w._nonneg(p, splits - 1) for w in self._alternatives(p.atoms))

    def _is_impossible(self, splits: int) -> bool:
        if self.constraints.impossible:
            return True
        newest = list(self.constraints.known)[: -MAX_SUSPECTS - 1 : -1]
        if any(self.constraints.contradicts(p) for p in newest):
            return True
        return bool(self.choices) and splits > 0 and all(w._is_impossible(splits - 1) for w in self._alternatives(frozenset()))

    def _alternatives(self, atoms: frozenset[str]) -> Iterable[Self]:
        """What is known in each possible case of one choice: the first that speaks of one of the atoms, or the first."""

        def speaks(choice: tuple[Case, ...]) -> bool:
            return any(not isinstance(literal, Truth) and literal.atoms & atoms for case in choice for literal in case)

        chosen = next((n for n, choice in enumerate(self.choices) if speaks(choice)), 0)
        rest = self.fork()
        rest.choices = self.choices[:chosen] + self.choices[chosen + 1 :]
        for case in self.choices[chosen]:
            world = rest.with_case(case)
            if not world.constraints.impossible:
                yield world


def conjuncts(condition: Expr) -> Iterator[Expr]:
    """The parts of `a and b and …`, from the left."""
    if isinstance(condition, Call) and condition.op == "and":
        for arg in condition.args:
            yield from conjuncts(arg)
    else:
        yield condition


def prover_for(kernel: Kernel, binders: Iterable[Binder] = (), conditions: Iterable[Expr] = (), *, positive: Iterable[str] = ()) -> Prover:
    """What is known in a kernel inside the given binders (outermost first), where the given conditions hold.

    `positive` names sizes to take as at least 1; all sizes are at least 0.
    """
    prover = Prover.of(kernel, frozenset(positive))
    for binder in binders:
        prover = prover.bind(binder)
    for condition in conditions:
        prover = prover.assume(condition)
    return prover


def int_range(kernel: Kernel, e: Expr, binders: Iterable[Binder] = ()) -> tuple[int | None, int | None]:
    """Constant bounds of an integer expression of a kernel inside the given binders; None where none is known."""
    return prover_for(kernel, binders).interval(e)

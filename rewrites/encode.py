"""Turns a kernel into the terms, variables, roots and facts that go into the e-graph.

Temporaries are inlined at their uses; reductions over several indices become nests; an array that statements write is read by version.
Each statement has a root: its value (and, where it accumulates, its target's indices). Ranges and conditions stay verbatim.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kernel_ir.dtypes import I64
from kernel_ir.nodes import Binder, Expr, Kernel, Repeat, Stmt, const
from rewrites.adapter import Fact
from rewrites.canonical import Canonical
from rewrites.facts import kernel_facts, shape_facts
from rewrites.inline import Inliner, NotEncodable
from rewrites.recursion import deep_recursion
from rewrites.temporaries import Place, inlined_temporaries, is_opaque, places
from rewrites.terms import Term, Variable

__all__ = ["Encoding", "Label", "NotEncodable", "Root", "encode"]

MAX_LABELS: Final = 3
"""Values of one temporary, at different indices, that keep its name."""


@dataclass(frozen=True, slots=True)
class Root:
    """A statement that stays: its place, the e-graph's name of each of its indices, and the positions in `Encoding.roots` of its
    value (None: the statement is opaque, kept as it is) and of its accumulation indices."""

    place: Place
    names: dict[str, str]
    value: int | None
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """A value of an inlined temporary: its root's position and the variables that are its indices, in order."""

    temp: str
    root: int
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A kernel as terms, children first; `roots` are term numbers."""

    kernel: Kernel
    terms: tuple[Term, ...]
    variables: dict[str, Variable]
    roots: tuple[int, ...]
    facts: tuple[Fact, ...]
    statements: tuple[Root, ...]
    labels: tuple[Label, ...]

    def values(self) -> tuple[int, ...]:
        """Positions of the roots that statements need (labels apart)."""
        return tuple(i for s in self.statements if s.value is not None for i in (s.value, *s.indices))


def encode(kernel: Kernel) -> Encoding:
    """The encoding of a checked kernel; raises NotEncodable beyond the limits (62 index variables, 5000 nodes)."""
    with deep_recursion():
        return _Encoder(kernel).encoding()


class _Encoder:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.places = places(kernel)
        self.temps = inlined_temporaries(kernel, self.places)
        self.inliner = Inliner(self.temps)
        self.canonical = Canonical(self.inliner)
        self.roots: list[int] = []

    def encoding(self) -> Encoding:
        repeats = dict(self._repeats(self.kernel.body, (), ()))
        statements = tuple(self._statement(p, repeats[p.block]) for p in self.places if p.stmt.target not in self.temps)
        terms = self.canonical.dag.terms
        facts = (*kernel_facts(self.kernel, self._scalar, terms[:]), *shape_facts(self.kernel, self._scalar))
        labels = tuple(self._labels())
        return Encoding(self.kernel, tuple(terms), self.canonical.variables, tuple(self.roots), facts, statements, labels)

    def _scalar(self, e: Expr) -> int:
        """The term of an expression over sizes and scalar parameters."""
        return self.canonical.term(self.inliner.expr(e, {}, {}), {})

    def _repeats(
        self, body: tuple[Stmt, ...], block: tuple[int, ...], around: tuple[tuple[str, str], ...]
    ) -> Iterator[tuple[tuple[int, ...], tuple[tuple[str, str], ...]]]:
        """For each block, the (name, variable) of every `repeat` index in scope, outermost first."""
        yield block, around
        for position, stmt in enumerate(body):
            if isinstance(stmt, Repeat):
                inner = around
                if stmt.index is not None:
                    env = {name: self.inliner.add("Ix", v) for name, v in around}
                    binder = Binder(stmt.index, const(0, I64), stmt.steps)
                    inner = (*around, (stmt.index, self.inliner.binder(binder, env, {}, repeats=True)))
                yield from self._repeats(stmt.body, (*block, position), inner)

    def _statement(self, place: Place, repeats: tuple[tuple[str, str], ...]) -> Root:
        if is_opaque(place.stmt):
            return Root(place, {}, None, ())
        env, bound = self._scope(place, repeats)
        names = self.canonical.scope([v for _, v in bound])
        value = self._root(place.stmt.value, env, place, names)
        indices = tuple(self._root(i, env, place, names) for i in place.stmt.indices if place.stmt.op != "=")
        return Root(place, {user: names[v] for user, v in bound}, value, indices)

    def _scope(self, place: Place, repeats: tuple[tuple[str, str], ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """The terms of a statement's indices, and the (name, variable) pairs behind them."""
        env = {name: self.inliner.add("Ix", v) for name, v in repeats}
        bound = list(repeats)
        for b in place.stmt.binders:
            bound.append((b.index, self.inliner.binder(b, env, place.versions)))
        return env, bound

    def _root(self, e: Expr, env: dict[str, int], place: Place, names: dict[str, str]) -> int:
        self.roots.append(self.canonical.term(self.inliner.expr(e, env, place.versions), names))
        return len(self.roots) - 1

    def _labels(self) -> Iterator[Label]:
        """The first few values of each temporary at different indices, in order of the temporaries."""
        seen: dict[str, list[tuple[int, tuple[int, ...]]]] = {name: [] for name in self.temps}
        for number, (temp, indices) in self.canonical.instances.items():
            seen[temp].append((number, indices))
        terms = self.canonical.dag.terms
        for temp, found in seen.items():
            for number, indices in found[:MAX_LABELS]:
                self.roots.append(number)
                variables = [terms[i].variables[0] for i in indices if terms[i].name == "Ix"]
                yield Label(temp, len(self.roots) - 1, tuple(variables))

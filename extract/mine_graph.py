"""Turns two equivalent kernels into one saturated e-graph: their terms, and the class of each, to see what the rules join."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernel_ir.errors import UsageError
from kernel_ir.nodes import Kernel
from rewrites.adapter import Fact
from rewrites.declare import SIGNATURES
from rewrites.encode import Encoding, encode
from rewrites.rule import Rule
from rewrites.saturate import Budget, saturate
from rewrites.terms import Arg, Dag, Term, Variable


@dataclass(frozen=True, slots=True)
class Joined:
    """The terms of both kernels, children first, the class of each, their variables, and the (slow, fast) roots of each output."""

    terms: tuple[Term, ...]
    classes: tuple[int, ...]
    variables: Mapping[str, Variable]
    roots: tuple[tuple[int, int], ...]

    @property
    def open(self) -> tuple[tuple[int, int], ...]:
        """Pairs of roots that the rules do not join."""
        return tuple((a, b) for a, b in self.roots if self.classes[a] != self.classes[b])


@dataclass(slots=True)
class _Merger:
    """Adds encodings to one graph: variables of the same name have the same range."""

    dag: Dag
    variables: dict[str, Variable]
    facts: dict[Fact, None]

    def add(self, encoding: Encoding) -> dict[str, int]:
        """The root of each output, by target and place."""
        numbers: list[int] = []
        for term in encoding.terms:
            columns: list[Arg] = [numbers[int(a)] if sort == "E" else a for a, sort in zip(term.args, SIGNATURES[term.name], strict=True)]
            numbers.append(self.dag.add(term.name, *columns))
        for name, v in encoding.variables.items():
            if name not in self.variables:
                self.variables[name] = replace(v, bit=len(self.variables), lo=numbers[v.lo], hi=numbers[v.hi])
        self.facts.update(dict.fromkeys(replace(f, terms=tuple(numbers[i] for i in f.terms)) for f in encoding.facts))
        found: dict[str, int] = {}
        for s in encoding.statements:
            if s.value is not None:
                stmt = s.place.stmt
                count = sum(key.startswith(f"{stmt.target} {stmt.op} ") for key in found)
                found[f"{stmt.target} {stmt.op} {count}"] = numbers[encoding.roots[s.value]]
        return found


def joined(slow: Kernel, fast: Kernel, rules: Sequence[Rule], budget: Budget | None = None) -> Joined:
    """Both kernels in one e-graph, saturated with the rules.

    Their parameters, outputs and sizes must have the same names; raises UsageError where their statements cannot be set side by side.
    """
    merger = _Merger(Dag(), {}, {})
    one, two = encode(slow), encode(fast)
    first, second = merger.add(one), merger.add(two)
    if list(first) != list(second):
        raise UsageError(
            "the kernels define their outputs by different statements", hint="write each output with one statement in both kernels"
        )
    terms = tuple(merger.dag.terms)
    encoding = Encoding(slow, terms, merger.variables, tuple(range(len(terms))), tuple(merger.facts), (), ())
    saturation = saturate(encoding, rules, budget or Budget(seconds=20.0))
    frozen = saturation.frozen
    classes = tuple(frozen.roots[i] for i in range(len(terms))) if frozen is not None else tuple(range(len(terms)))
    return Joined(terms, classes, merger.variables, tuple((first[key], second[key]) for key in first))

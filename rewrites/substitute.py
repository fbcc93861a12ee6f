"""Turns an encoded kernel and rules that put a term in an index's place into the terms that they make, each equal to one of the kernel's.

An e-graph has no substitution: `sum(k in l..h: (f[k] if k == e else 0.0)) => f[e]` cannot run inside it. So such rules are matched on the
kernel's own terms before the search begins, with the operands of commutative operations either way, and what they make goes in as equal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rewrites.adapter import Fact
from rewrites.declare import OP_OF_CONSTRUCTOR
from rewrites.encode import Encoding
from rewrites.judging import refused
from rewrites.known import Known
from rewrites.matching import Binding, Unbound, form_matches, instance
from rewrites.rule import Rule
from rewrites.terms import Dag, Term

MOST: int = 200
"""Terms that are made at most."""


@dataclass(frozen=True, slots=True)
class Commuted:
    """Plain terms, and those of commutative operations with their operands exchanged."""

    dag: Dag

    def forms(self, number: int, head: str) -> Iterator[Term]:
        """The term, either way round."""
        term = self.dag.terms[number]
        yield term
        op = OP_OF_CONSTRUCTOR.get(term.name)
        if op is not None and op.commutative:
            yield Term(term.name, (term.args[0], *term.args[:0:-1]))

    def same(self, a: int, b: int) -> bool:
        """Whether both are one term."""
        return a == b


def with_substitutions(encoding: Encoding, rules: Sequence[Rule]) -> tuple[Encoding, tuple[int, ...]]:
    """The encoding with what the rules make of its terms, and for each term the number of the rule that made it (0: the kernel's own)."""
    count = len(encoding.terms)
    chosen = [(number, rule) for number, rule in enumerate(rules, 1) if rule.substitutes] if any(t.is_loop for t in encoding.terms) else []
    if not chosen:
        return encoding, (0,) * count
    dag = Dag(list(encoding.terms), {term: i for i, term in enumerate(encoding.terms)})
    known = Known.of(encoding, dag)
    sources, unions = [0] * count, list[Fact]()
    position = 0
    while position < len(dag.terms) and len(dag.terms) - count < MOST:
        for number, rule in chosen if dag.terms[position].is_loop else ():
            for made in _made(rule, position, known):
                unions.append(Fact("union", (position, made)))
            sources += [number] * (len(dag.terms) - len(sources))
        position += 1
    if not unions:
        return encoding, (0,) * count
    return replace(encoding, terms=tuple(dag.terms), facts=(*encoding.facts, *unions)), tuple(sources)


def _made(rule: Rule, position: int, known: Known) -> Iterator[int]:
    """What the rule makes of a term."""
    dag = known.dag
    for binding in form_matches(rule.lhs, dag.terms[position], rule.types, Commuted(dag), Binding()):
        if refused(rule, binding, known) is not None:
            continue
        try:
            made = instance(rule.rhs, binding, rule.types, dag)
        except Unbound:
            continue
        # A loop inside may run over a range that reads the index: that range would be left behind.
        if not known.free(made) & set(binding.indices.values()):
            yield made

"""Turns a round of optimization into the steps that lead from its kernel to the chosen candidate."""

from collections.abc import Sequence

from extract.candidates import Candidate, Candidates, Form
from kernel_ir.nodes import Kernel
from rewrites.builtin import BUILTIN
from rewrites.chain import ChainError, Round, Step
from rewrites.chain_ends import difference, rewrite_text, temporary_steps
from rewrites.declare import SIGNATURES
from rewrites.encode import Encoding, encode
from rewrites.known import Known
from rewrites.plain import Plain, reader_names
from rewrites.proof import NoProof, Rewrite, proof
from rewrites.recursion import deep_recursion
from rewrites.terms import Dag, Term


def explained(kernel: Kernel, found: Candidates, chosen: Candidate) -> Round:
    """The round's steps. Raises ChainError where none are found: then the result is checked, but not explained."""
    encoding, form = found.encoding, chosen.form
    if encoding is None or form is None:
        raise ChainError(f"{kernel.name}: this result did not come from an e-graph")
    with deep_recursion():
        dag = Dag(list(encoding.terms), {term: i for i, term in enumerate(encoding.terms)})
        made: dict[int, int] = {}
        goals = [(encoding.roots[v], _concrete(form, form.roots[v], dag, made)) for v in encoding.values()]
        roots = list(encoding.roots)
        for position, (_, goal) in zip(encoding.values(), goals, strict=True):
            roots[position] = goal
        problem = difference(encoding, dag.terms, roots, encode(chosen.kernel))
        if problem is not None:
            raise ChainError(f"{kernel.name}: the chosen terms are not those of the kernel written from them: {problem}")
        rewrites = _proved(encoding, found, chosen, dag, goals)
        return _round(kernel, chosen.kernel, encoding, dag.terms, rewrites)


def _concrete(form: Form, home: int, dag: Dag, made: dict[int, int]) -> int:
    """The plain term of a class's choice."""
    if home not in made:
        term = form.terms[home]
        columns = [
            _concrete(form, int(a), dag, made) if sort == "E" else a for a, sort in zip(term.args, SIGNATURES[term.name], strict=True)
        ]
        made[home] = dag.add(term.name, *columns)
    return made[home]


def _proved(encoding: Encoding, found: Candidates, chosen: Candidate, dag: Dag, goals: Sequence[tuple[int, int]]) -> Sequence[Rewrite]:
    """The steps, by the rules that matched."""
    runs = [s for s in (found.saturation, found.selection) if s is not None and s.frozen is not None]
    graphs = [s.frozen for s in runs if s.frozen is not None]
    names = {name for s in runs for name, _ in s.matches}.union(chosen.rules)
    try:
        return proof(Known.of(encoding, dag), graphs, goals, [rule for rule in found.allowed if rule.name in names])
    except NoProof:
        raise ChainError(f"{encoding.kernel.name}: no chain of rules was found from the kernel to its result") from None


def _round(source: Kernel, target: Kernel, encoding: Encoding, terms: Sequence[Term], rewrites: Sequence[Rewrite]) -> Round:
    """The proof as data, with only the terms that it names."""
    rows: list[tuple[str | int, ...]] = []
    numbers: dict[int, int] = {}

    def row(number: int) -> int:
        if number not in numbers:
            term = terms[number]
            columns = [row(int(a)) if sort == "E" else a for a, sort in zip(term.args, SIGNATURES[term.name], strict=True)]
            numbers[number] = len(rows)
            rows.append((term.name, *columns))
        return numbers[number]

    steps: list[Step] = [*temporary_steps(source, "inline")]
    plain = Plain(terms, reader_names(encoding.variables))
    for r in rewrites:
        kind = "builtin" if r.rule in BUILTIN else "rule"
        steps.append(
            Step(kind, r.rule, rewrite_text(encoding, plain, r.before, r.after, r.paths), r.back, row(r.before), row(r.after), r.paths)
        )
    steps += temporary_steps(target, "store")
    return Round(str(source), str(target), tuple(rows), tuple(steps))

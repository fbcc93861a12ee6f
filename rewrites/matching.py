"""Turns a pattern and a term into what the pattern's variables stand for: plain matching, and its inverse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from kernel_ir.dtypes import DType
from kernel_ir.nodes import const
from kernel_ir.ops import OPS
from rewrites.declare import CODES, DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, SIGNATURES, op_constructor
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, parts
from rewrites.terms import Dag, Term

Types = tuple[tuple[DType, ...], ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """What stands for a rule's variables (term numbers), reduction indices (e-graph variables) and types (dtype codes)."""

    terms: Mapping[str, int] = field(default_factory=dict[str, int])
    indices: Mapping[str, str] = field(default_factory=dict[str, str])
    codes: Mapping[int, int] = field(default_factory=dict[int, int])

    def code(self, variable: int, code: int, types: Types) -> "Binding | None":
        """With a type variable set; None where it is another, or the rule does not have it."""
        if variable in self.codes:
            return self if self.codes[variable] == code else None
        if DTYPES_BY_CODE[code] not in types[variable]:
            return None
        return replace(self, codes={**self.codes, variable: code})


class Space(Protocol):
    """Where terms are matched: one form each, or all forms of a class."""

    def forms(self, number: int, head: str) -> Iterator[Term]:
        """The forms of a term; of a class, of each of its nodes: those of this head at least."""
        ...

    def same(self, a: int, b: int) -> bool:
        """Whether both are one term, or one class."""
        ...


@dataclass(frozen=True, slots=True)
class Single:
    """Plain terms: each has one form."""

    dag: Dag

    def forms(self, number: int, head: str) -> Iterator[Term]:
        yield self.dag.terms[number]

    def same(self, a: int, b: int) -> bool:
        return a == b


def matches(p: Pattern, number: int, types: Types, space: Space, given: Binding) -> Iterator[Binding]:
    """Every way in which the pattern is the term, given what is bound already."""
    if isinstance(p, Var):
        known = given.terms.get(p.name)
        if known is None:
            yield Binding({**given.terms, p.name: number}, given.indices, given.codes)
        elif space.same(known, number):
            yield given
        return
    for term in space.forms(number, pattern_head(p)):
        yield from form_matches(p, term, types, space, given)


def form_matches(p: Pattern, term: Term, types: Types, space: Space, given: Binding) -> Iterator[Binding]:
    """The ways in which a pattern other than a variable is this form."""
    match p:
        case Index():
            if term.name == "Ix":
                yield from _indexed(p.name, term.variables[0], given)
        case Lit():
            if term.name == "Lit":
                bound = given.code(p.type, term.code, types)
                if bound is not None and const(p.value, DTYPES_BY_CODE[term.code]).bits == term.args[1]:
                    yield bound
        case Apply():
            if form_head(term) == p.op:
                bound = given.code(p.type, term.code, types)
                if bound is not None:
                    yield from _parts(parts(p), term.children, types, space, bound)
        case Reduction():
            if term.name == f"R_{p.kind}":
                bound = given.code(p.type, term.code, types)
                for indexed in () if bound is None else _indexed(p.index, term.variables[0], bound):
                    yield from _parts(parts(p), term.children, types, space, indexed)
        case Var() | At():
            raise AssertionError("a variable has no form")


def pattern_head(p: Pattern) -> str:
    """What tells the forms that a pattern other than a variable may be: the operation, the kind of reduction."""
    match p:
        case Apply():
            return p.op
        case Reduction():
            return f"R_{p.kind}"
        case Index():
            return "Ix"
        case Lit():
            return "Lit"
        case Var() | At():
            raise AssertionError("a variable has no form")


def form_head(term: Term) -> str:
    """The head of the patterns that a form may match."""
    op = OP_OF_CONSTRUCTOR.get(term.name)
    return term.name if op is None else op.name


def _indexed(index: str, variable: str, given: Binding) -> Iterator[Binding]:
    known = given.indices.get(index)
    if known is None:
        yield replace(given, indices={**given.indices, index: variable})
    elif known == variable:
        yield given


def _parts(patterns: tuple[Pattern, ...], numbers: tuple[int, ...], types: Types, space: Space, given: Binding) -> Iterator[Binding]:
    if not patterns:
        yield given
        return
    for first in matches(patterns[0], numbers[0], types, space, given):
        yield from _parts(patterns[1:], numbers[1:], types, space, first)


class Unbound(Exception):
    """The binding does not say what a pattern needs: its type may still be any of several."""


def head(p: Pattern, binding: Binding, types: Types) -> tuple[str, tuple[int | str, ...]]:
    """The constructor of a bound pattern and its columns but the E columns."""
    match p:
        case Index():
            return "Ix", (binding.indices[p.name],)
        case Lit():
            code = _code(p.type, binding, types)
            return "Lit", (code, const(p.value, DTYPES_BY_CODE[code]).bits)
        case Apply():
            code = _code(p.type, binding, types)
            return op_constructor(OPS[p.op], DTYPES_BY_CODE[code]), (code,)
        case Reduction():
            return f"R_{p.kind}", (_code(p.type, binding, types), binding.indices[p.index])
        case Var() | At():
            raise AssertionError("a variable has no constructor")


def _code(variable: int, binding: Binding, types: Types) -> int:
    if variable in binding.codes:
        return binding.codes[variable]
    if len(types[variable]) == 1:
        return CODES[types[variable][0].name]
    raise Unbound


class Captured(Unbound):
    """A term that would come under a binder of a variable of its own."""


def substituted(number: int, variable: str, to: int, dag: Dag) -> int:
    """The term with another in the variable's place. Raises Captured where that has loops, or a loop binds what it reads."""
    made: dict[int, int] = {}
    inside = [*below(to, dag)]
    read = {x for n in inside for x in dag.terms[n].variables}
    if any(dag.terms[n].is_loop for n in inside):
        raise Captured

    def put(n: int) -> int:
        if n not in made:
            term = dag.terms[n]
            if term.is_loop and (variable in term.variables or read & set(term.variables)):
                raise Captured
            if term.name == "Ix" and term.variables == (variable,):
                made[n] = to
            else:
                columns = zip(term.args, SIGNATURES[term.name], strict=True)
                made[n] = dag.add(term.name, *[put(int(a)) if sort == "E" else a for a, sort in columns])
        return made[n]

    return put(number)


def below(number: int, dag: Dag) -> Iterator[int]:
    """A term and all its parts, each once."""
    seen, waiting = {number}, [number]
    while waiting:
        n = waiting.pop()
        yield n
        new = [c for c in dag.terms[n].children if c not in seen]
        seen.update(new)
        waiting += new


def instance(p: Pattern, binding: Binding, types: Types, dag: Dag) -> int:
    """The number of the pattern's term, made in `dag` if new."""
    if isinstance(p, Var):
        return binding.terms[p.name]
    if isinstance(p, At):
        return substituted(binding.terms[p.of.name], binding.indices[p.index], instance(p.to, binding, types, dag), dag)
    name, columns = head(p, binding, types)
    return dag.add(name, *columns, *[instance(part, binding, types, dag) for part in parts(p)])

"""Turns a round of a chain into checked rewriting: each step is taken on plain terms, its rule matched, its guards judged, all anew.

No e-graph takes part. What a step claims is compared with what the terms are; the first claim that fails is a ChainError.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kernel_ir.dtypes import BOOL, I64, DType
from kernel_ir.fastmath import Flags, flags_text
from kernel_ir.nodes import Kernel
from rewrites.builtin import BUILTIN
from rewrites.chain import ChainError, Round, Step
from rewrites.chain_ends import difference, rewrite_text, temporary_steps
from rewrites.declare import DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, SIGNATURES, result_dtype
from rewrites.encode import Encoding, NotEncodable, encode
from rewrites.guards import Guard
from rewrites.judging import refused
from rewrites.known import Known
from rewrites.matching import Binding, Single, Unbound, instance, matches
from rewrites.pattern import Pattern
from rewrites.plain import Plain, reader_names
from rewrites.recursion import deep_recursion
from rewrites.rule import Rule
from rewrites.terms import Dag, Term


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that its rule allows: what is left to do is to compute both terms and compare."""

    step: Step
    rule: Rule | None
    before: int
    after: int
    encoding: Encoding
    terms: Sequence[Term]


def replayed(one: Round, source: Kernel, target: Kernel, rules: Mapping[str, Rule], licence: Flags) -> Iterator[Taken]:
    """Takes every step of the round; yields those that rewrite. Raises ChainError at the first that does not hold."""
    with deep_recursion():
        yield from _Replay(one, source, target, rules, licence).steps()


@dataclass(slots=True)
class _Replay:
    round: Round
    source: Kernel
    target: Kernel
    rules: Mapping[str, Rule]
    licence: Flags
    encoding: Encoding = field(init=False)
    known: Known = field(init=False)
    rows: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.encoding = _encoded(self.source)
        dag = Dag(list(self.encoding.terms), {term: i for i, term in enumerate(self.encoding.terms)})
        self.known = Known.of(self.encoding, dag)
        for number, row in enumerate(self.round.rows):
            self.rows.append(self._row(number, row))

    def steps(self) -> Iterator[Taken]:
        """See `replayed`."""
        roots = [self.encoding.roots[v] for v in self.encoding.values()]
        inner = [s for s in self.round.steps if s.kind in ("rule", "builtin")]
        expected = (*temporary_steps(self.source, "inline"), *inner, *temporary_steps(self.target, "store"))
        for number, (step, right) in enumerate(zip(self.round.steps, expected, strict=False), 1):
            if step != right:
                raise ChainError(f"step {number}, {step.name}: `{step.shown}` does not belong here; `{right.shown}` does")
            if step.kind in ("rule", "builtin"):
                yield self._taken(number, step, roots)
        if len(self.round.steps) != len(expected):
            raise ChainError(f"{len(expected)} steps lead here, and the chain has {len(self.round.steps)}")
        whole = list(self.encoding.roots)
        for position, root in zip(self.encoding.values(), roots, strict=True):
            whole[position] = root
        problem = difference(self.encoding, self.known.dag.terms, whole, _encoded(self.target))
        if problem is not None:
            raise ChainError(f"the steps do not end at the kernel that the chain names: {problem}")

    def _taken(self, number: int, step: Step, roots: list[int]) -> Taken:
        """Takes a step at each of its places; `roots` become what they are after it."""
        before, after = (self._term(number, step, n) for n in (step.before, step.after))
        rule = self._allowed(number, step, before, after)
        if not step.paths:
            raise _fault(number, step, "it names no place")
        for path in step.paths:
            if not path or not 0 <= path[0] < len(roots):
                raise _fault(number, step, f"there is no place {_dotted(path)}")
            roots[path[0]] = self._replaced(number, step, roots[path[0]], path, 1, before, after)
        text = rewrite_text(self.encoding, Plain(self.known.dag.terms, reader_names(self.encoding.variables)), before, after, step.paths)
        if text != step.shown:
            raise _fault(number, step, f"it shows `{step.shown}`, and does `{text}`")
        return Taken(step, rule, before, after, self.encoding, self.known.dag.terms)

    def _term(self, number: int, step: Step, row: int) -> int:
        if not 0 <= row < len(self.rows):
            raise _fault(number, step, f"there is no term {row}")
        return self.rows[row]

    def _allowed(self, number: int, step: Step, before: int, after: int) -> Rule | None:
        """The rule, if it says that one term is the other there."""
        if step.kind == "builtin":
            allows = BUILTIN.get(step.name)
            left, right = (after, before) if step.back else (before, after)
            if allows is None or not allows(left, right, self.known):
                raise _fault(number, step, "that is not so")
            return None
        rule = self.rules.get(step.name)
        if rule is None:
            raise _fault(number, step, "no rule book has such a rule")
        if not rule.needs <= self.licence:
            raise _fault(number, step, f"it needs {flags_text(rule.needs)}, and the chain has {flags_text(self.licence)}")
        left, right = (after, before) if step.back else (before, after)
        failed: Guard | None = None
        for lhs, rhs in rule.directions:
            for binding in self._bindings(rule, lhs, rhs, left, right):
                failed = refused(rule, binding, self.known)
                if failed is None:
                    return rule
        if failed is not None:
            raise _fault(number, step, f"the guard `{failed.kind}` is not known to hold there")
        raise _fault(number, step, f"`{rule.text}` does not make the one of the other")

    def _bindings(self, rule: Rule, lhs: Pattern, rhs: Pattern, left: int, right: int) -> Iterator[Binding]:
        space = Single(self.known.dag)
        for binding in matches(lhs, left, rule.types, space, Binding()):
            if rule.substitutes:
                yield from self._substitutions(rule, rhs, right, binding)
                continue
            yield from matches(rhs, right, rule.types, space, binding)

    def _substitutions(self, rule: Rule, rhs: Pattern, right: int, binding: Binding) -> Iterator[Binding]:
        """The binding, if the right side with its substitutions made is the term."""
        try:
            made = instance(rhs, binding, rule.types, self.known.dag)
        except Unbound:
            return
        if made == right:
            yield binding

    def _replaced(self, number: int, step: Step, root: int, path: tuple[int, ...], depth: int, before: int, after: int) -> int:
        """The term with the one at the path replaced."""
        if depth == len(path):
            if root != before:
                raise _fault(number, step, f"at {_dotted(path)} stands another term")
            return after
        term = self.known.dag.terms[root]
        if not 0 <= path[depth] < len(term.children):
            raise _fault(number, step, f"there is no place {_dotted(path)}")
        position, columns = -1, list(term.args)
        for n, sort in enumerate(SIGNATURES[term.name]):
            position += sort == "E"
            if sort == "E" and position == path[depth]:
                columns[n] = self._replaced(number, step, int(term.args[n]), path, depth + 1, before, after)
        return self.known.dag.add(term.name, *columns)

    def _row(self, number: int, row: Sequence[str | int]) -> int:
        """The term of a row, which must be one that a kernel of these variables could have."""
        name, columns = (str(row[0]), row[1:]) if row else ("", ())
        sorts = SIGNATURES.get(name)
        if sorts is None or len(sorts) != len(columns):
            raise ChainError(f"term {number} is no term: {row}")
        args: list[str | int] = []
        for column, sort in zip(columns, sorts, strict=True):
            fine = {
                "E": isinstance(column, int) and 0 <= column < number,
                "i64": isinstance(column, int) and -(2**63) <= column < 2**63,
                "X": column in self.encoding.variables,
            }.get(sort, isinstance(column, str))
            if not fine:
                raise ChainError(f"term {number} is no term: {column!r} stands in it for {sort}")
            args.append(self.rows[column] if sort == "E" and isinstance(column, int) else column)
        made = Term(name, tuple(args))
        if made not in self.known.dag.numbers:
            self._check_types(number, made)
        return self.known.dag.add(name, *args)

    def _check_types(self, number: int, term: Term) -> None:
        """A term that the kernel does not have must have parts of the right types, and read what the kernel has."""
        if not 0 <= term.code < len(DTYPES_BY_CODE):
            raise ChainError(f"term {number} is of no type")
        parts = [self.known.dtype(c) for c in term.children]
        op = OP_OF_CONSTRUCTOR.get(term.name)
        wanted: list[DType] = []
        if op is not None:
            given = {"T": DTYPES_BY_CODE[term.code], "x": DTYPES_BY_CODE[term.code], "b": BOOL, "i": I64}
            wanted = [given[letter] for letter in op.signature.partition("->")[0]]
        elif term.name.startswith("R_"):
            wanted = [I64, I64, *[DTYPES_BY_CODE[term.code]] * (len(parts) - 2)]
        elif term.name != "Lit" and term.name != "Ix":
            known = {(t.name, t.args[:2]) for t in self.encoding.terms}
            if (term.name, term.args[:2]) not in known:
                raise ChainError(f"term {number}, {term.name} {term.args[0]}, is nothing that the kernel has")
            wanted = parts
        if parts != wanted:
            raise ChainError(f"term {number}, {term.name}, has parts of other types than it takes")
        try:
            result_dtype(term.name, term.code)
        except AssertionError as error:
            raise ChainError(f"term {number}: {error}") from None


def _encoded(kernel: Kernel) -> Encoding:
    try:
        return encode(kernel)
    except NotEncodable as reason:
        raise ChainError(f"{kernel.name} is beyond what chains are made of: {reason}") from None


def _dotted(path: Sequence[int]) -> str:
    return ".".join(map(str, path)) or "(nowhere)"


def _fault(number: int, step: Step, why: str) -> ChainError:
    return ChainError(f"step {number}, {step.name}: {why}")

"""Turns terms, with the e-graph's own names of indices, into core expressions: what proofs, evaluation and readers need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernel_ir.nodes import Binder, Call, Carry, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef
from rewrites.declare import DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, result_dtype
from rewrites.terms import Term, Variable


@dataclass(slots=True)
class Plain:
    """Expressions of terms: a variable is the index (a carry: the local) of its own name, or of the name that `names` gives it."""

    terms: Sequence[Term]
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    _made: dict[int, Expr] = field(default_factory=dict[int, Expr])

    def expr(self, number: int) -> Expr:
        """The expression of a term."""
        if number not in self._made:
            self._made[number] = self._expr(self.terms[number])
        return self._made[number]

    def _expr(self, term: Term) -> Expr:
        dtype = DTYPES_BY_CODE[term.code]
        parts = tuple([self.expr(c) for c in term.children])
        match term.name:
            case "Lit":
                return Const(int(term.args[1]), dtype)
            case "Size":
                return SizeRef(str(term.args[0]))
            case "Par":
                return ParamRef(str(term.args[0]), dtype)
            case "Ix":
                return IndexRef(self._name(term.variables[0]))
            case "Loc":
                return Local(self._name(term.variables[0]), dtype)
            case name if name in OP_OF_CONSTRUCTOR:
                return Call(OP_OF_CONSTRUCTOR[name].name, parts, result_dtype(name, term.code))
            case name if name.startswith("LoadElse"):
                return Load(str(term.args[1]), parts[:-1], dtype, parts[-1])
            case name if name.startswith("Load"):
                return Load(str(term.args[1]), parts, dtype)
            case name if name.startswith("R_"):
                binder = Binder(self._name(term.variables[0]), *parts[:2])
                return Reduce(name[2:], (binder,), parts[2:], result_dtype(name, term.code))  # type: ignore[arg-type]
            case _:
                return self._fold(term, parts)

    def _fold(self, term: Term, parts: tuple[Expr, ...]) -> Fold:
        index, *carries = map(self._name, term.variables)
        count = len(carries)
        condition = parts[2 + count]
        always = isinstance(condition, Const) and bool(condition.bits)
        made = tuple(Carry(n, i, u) for n, i, u in zip(carries, parts[2 : 2 + count], parts[3 + count :], strict=True))
        result = carries[int(term.args[1])]
        return Fold(Binder(index, *parts[:2]), made, None if always else condition, result, DTYPES_BY_CODE[term.code])

    def _name(self, variable: str) -> str:
        return self.names.get(variable, variable)


def reader_names(variables: Mapping[str, Variable]) -> dict[str, str]:
    """A short name for each variable: the first that its users gave it, numbered where several have it."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name, variable in variables.items():
        hint, number = variable.hints[0], 0
        while f"{hint}{number or ''}" in taken:
            number += 1
        names[name] = f"{hint}{number or ''}"
        taken.add(names[name])
    return names

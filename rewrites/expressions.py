"""Turns classes of an extracted choice into core expressions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kernel_ir.nodes import Binder, Call, Carry, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef
from rewrites.declare import DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, result_dtype
from rewrites.encode import Encoding
from rewrites.sharing import Sharing
from rewrites.spelling import Names, NotDecodable
from rewrites.temporaries import SINGLE, unversioned, versioned
from rewrites.terms import Term


@dataclass(frozen=True, slots=True)
class Scope:
    """Names of the variables in scope, and which of them are loops around (statement and reduction indices, not `repeat`s)."""

    names: dict[str, str]
    loops: frozenset[str]

    def bind(self, x: str, name: str) -> "Scope":
        return Scope({**self.names, x: name}, self.loops | {x})


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes expressions at one statement: `versions` says what its arrays hold, `temporary` reads (and defines) a class's temporary."""

    encoding: Encoding
    chosen: Mapping[int, Term]
    shared: Sharing
    names: Names
    versions: Mapping[str, int]
    temporary: Callable[[int, Scope], Load]
    hoist: bool

    def top(self, home: int, scope: Scope) -> Expr:
        """The whole value of a statement."""
        if home in self.shared.temporaries or self._repeats(home, scope):
            return self.temporary(home, scope)
        return self.definition(home, scope)

    def expr(self, home: int, scope: Scope) -> Expr:
        """The value of a class: a read of its temporary, if it has or deserves one. The user's own that hold a loop stay."""
        own = home in self.names.labels and home in self.shared.looping and not self._in_fold(self.shared.free[home])
        if home in self.shared.temporaries or own or self._repeats(home, scope):
            return self.temporary(home, scope)
        return self.definition(home, scope)

    def _repeats(self, home: int, scope: Scope) -> bool:
        """Whether a loop would run again for an index that it does not read."""
        free = self.shared.free[home]
        return self.hoist and self.chosen[home].is_loop and not scope.loops <= free and not self._in_fold(free)

    def _in_fold(self, free: frozenset[str]) -> bool:
        """Whether any of the variables belongs to a fold, which nothing can leave."""
        return not self.shared.folds.isdisjoint(free)

    def definition(self, home: int, scope: Scope) -> Expr:
        """The value of a class, written out."""
        term = self.chosen[home]
        dtype = DTYPES_BY_CODE[term.code]
        match term.name:
            case "Lit":
                return Const(int(term.args[1]), dtype)
            case "Size":
                return SizeRef(str(term.args[0]))
            case "Par":
                return ParamRef(str(term.args[0]), dtype)
            case "Ix":
                return IndexRef(scope.names[term.variables[0]])
            case "Loc":
                return Local(scope.names[term.variables[0]], dtype)
            case name if name in OP_OF_CONSTRUCTOR:
                return self._call(term, scope)
            case name if name.startswith("Load"):
                return self._load(term, scope)
            case name if name.startswith("R_"):
                return self._reduce(term, scope)
            case _:
                return self._fold(term, scope)

    def _call(self, term: Term, scope: Scope) -> Expr:
        op = OP_OF_CONSTRUCTOR[term.name]
        args = tuple([self.expr(c, scope) for c in term.children])
        if op.name == "powi" and not isinstance(args[1], Const):
            raise NotDecodable("an exponent that is no literal")
        return Call(op.name, args, result_dtype(term.name, term.code))

    def _load(self, term: Term, scope: Scope) -> Expr:
        array = unversioned(str(term.args[1]))
        if versioned(array, self.versions) != term.args[1]:
            raise NotDecodable(f"{array} has been overwritten before this read of it")
        parts = [self.expr(c, scope) for c in term.children]
        default = parts.pop() if term.name.startswith("LoadElse") else None
        return Load(array, tuple(parts), DTYPES_BY_CODE[term.code], default)

    def _reduce(self, term: Term, scope: Scope) -> Expr:
        kind = term.name[2:]
        binder, inner = self._bind(term, scope)
        bodies = term.children[2:]
        dtype = result_dtype(term.name, term.code)
        # A nest of one kind is written as one reduction over several indices.
        if len(bodies) == 1 and kind not in SINGLE and self.chosen[bodies[0]].name == term.name:
            body = self.expr(bodies[0], inner)
            if isinstance(body, Reduce):
                return replace(body, binders=(binder, *body.binders))
            return Reduce(kind, (binder,), (body,), dtype)  # type: ignore[arg-type]
        return Reduce(kind, (binder,), tuple([self.expr(b, inner) for b in bodies]), dtype)  # type: ignore[arg-type]

    def _bind(self, term: Term, scope: Scope) -> tuple[Binder, Scope]:
        """The binder of a loop, and the scope inside."""
        x = term.variables[0]
        name = self.names.index(x, set(scope.names.values()))
        lo, hi = (self.expr(c, scope) for c in term.children[:2])
        return Binder(name, lo, hi), scope.bind(x, name)

    def _fold(self, term: Term, scope: Scope) -> Expr:
        count = len(term.variables) - 1
        binder, inner = self._bind(term, scope)
        children = term.children
        inits = [self.expr(c, scope) for c in children[2 : 2 + count]]
        names: list[str] = []
        for carry in term.variables[1:]:
            names.append(self.names.index(carry, set(inner.names.values())))
            inner = Scope({**inner.names, carry: names[-1]}, inner.loops)
        condition = self.expr(children[2 + count], inner)
        always = isinstance(condition, Const) and bool(condition.bits)
        updates = [self.expr(c, inner) for c in children[3 + count :]]
        carries = tuple(Carry(n, i, u) for n, i, u in zip(names, inits, updates, strict=True))
        return Fold(binder, carries, None if always else condition, names[int(term.args[1])], DTYPES_BY_CODE[term.code])

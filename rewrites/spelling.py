"""Turns variables and classes of an e-graph into names for readers: the user's own wherever they fit, without clashes."""

import itertools
from collections.abc import Collection, Mapping, Sequence

from kernel_ir.nodes import Call, Const, Expr, IndexRef, Load, ParamRef, SizeRef
from kernel_ir.ops import CONSTANTS
from rewrites.declare import DTYPES_BY_CODE, OP_OF_CONSTRUCTOR, result_dtype
from rewrites.encode import Encoding, Label
from rewrites.temporaries import unversioned
from rewrites.terms import Term


class NotDecodable(Exception):
    """The choice has no kernel: it reads an array that was overwritten before, or a range with a loop in it."""


class Names:
    """Names of one kernel's new temporaries and indices; `taken` grows with each new temporary."""

    def __init__(self, encoding: Encoding, chosen: Mapping[int, Term], classes: Mapping[int, int]) -> None:
        kernel = encoding.kernel
        self.encoding = encoding
        # Of several temporaries with one value, the first gives its name.
        self.labels: dict[int, Label] = {classes[label.root]: label for label in reversed(encoding.labels)}
        scalars = {p.name for p in (*kernel.params, *kernel.outputs) if not p.type.rank}
        read = {unversioned(str(t.args[1])) for t in chosen.values() if t.name.startswith("Load")}
        # An index may be called as an array is, but not where it would hide one that is read.
        self._hidden = scalars | read | set(CONSTANTS)
        hints = {h for v in encoding.variables.values() for h in v.hints}
        self.taken = {p.name for p in (*kernel.params, *kernel.outputs)} | set(kernel.sizes) | hints | set(CONSTANTS)
        kept = {r.place.stmt.target for r in encoding.statements}
        self.taken |= {t.name for t in kernel.temps if t.name in kept}
        self.user_temps = {t.name for t in kernel.temps} - kept

    def temporary(self, home: int) -> str:
        """A new name for a temporary: the user's, else t, t1, …"""
        label = self.labels.get(home)
        stem = label.temp if label is not None else "t"
        for number in itertools.count():
            name = f"{stem}{number or ''}"
            mine = label is not None and number == 0
            if name not in self.taken and name not in self._hidden - {name} and (mine or name not in self.user_temps):
                self.taken.add(name)
                self._hidden.add(name)
                return name
        raise AssertionError

    def order(self, home: int, free: Collection[str]) -> list[str]:
        """The order of a temporary's indices: the user's, then that of declaration."""
        label = self.labels.get(home)
        first = [x for x in (label.variables if label is not None else ()) if x in free]
        rest = sorted((x for x in free if x not in first), key=lambda x: self.encoding.variables[x].bit)
        return list(dict.fromkeys((*first, *rest)))

    def indices(self, order: Sequence[str], around: Mapping[str, str]) -> dict[str, str]:
        """Names for a temporary's indices, besides those of the `repeat`s around it."""
        names = dict(around)
        for x in order:
            names[x] = self.index(x, names.values())
        return names

    def index(self, x: str, scope: Collection[str]) -> str:
        """A name for a variable that hides nothing in scope."""
        hints = self.encoding.variables[x].hints
        numbered = (f"{hints[0]}{n}" for n in itertools.count(1))
        name = next(n for n in itertools.chain(hints, numbered) if n not in scope and n not in self._hidden)
        self.taken.add(name)
        return name

    def bound(self, number: int, names: Mapping[str, str]) -> Expr:
        """The bound of a range (a term of the encoding) as an expression."""
        term = self.encoding.terms[number]
        match term.name:
            case "Lit":
                return Const(int(term.args[1]), DTYPES_BY_CODE[int(term.args[0])])
            case "Size":
                return SizeRef(str(term.args[0]))
            case "Par":
                return ParamRef(str(term.args[0]), DTYPES_BY_CODE[term.code])
            case "Ix":
                return IndexRef(names[term.variables[0]])
            case name if name in OP_OF_CONSTRUCTOR:
                args = tuple(self.bound(c, names) for c in term.children)
                return Call(OP_OF_CONSTRUCTOR[name].name, args, result_dtype(name, term.code))
            case name if name.startswith("Load") and not name.startswith("LoadElse"):
                indices = tuple(self.bound(c, names) for c in term.children)
                return Load(unversioned(str(term.args[1])), indices, DTYPES_BY_CODE[term.code])
            case _:
                raise NotDecodable("a range holds a loop")

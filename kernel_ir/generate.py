"""Turns Hypothesis draws into whole well-typed kernels, as text that must parse: the fuzzer of checker and compiler.

The first choice everywhere is the simplest, so that kernels shrink to one short statement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kernel_ir.dtypes import DTYPES, DType, reads_as
from kernel_ir.nodes import Kernel

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

_STORED: Final = {"f32": ("f32", "f16", "bf16"), "f64": ("f64",), "i32": ("i32", "u8", "i16", "u16", "i8"), "i64": ("i64", "u32", "u64")}
_BINARY: Final = {"float": ("+", "*", "-", "/"), "int": ("+", "*", "-", "//", "%", "&", "|", "^")}
_FUNCTIONS: Final = {"float": ("abs", "sqrt", "exp", "floor", "tanh", "log1p", "sin", "rsqrt", "erf"), "int": ("abs", "sign")}
_COMPARE: Final = ("<", "<=", ">", ">=", "==", "!=")
_LITERALS: Final = {"float": ("1.0", "0.0", "2.0", "0.5", "3.25", "0.1"), "int": ("1", "0", "2", "3", "7")}
_REDUCTIONS: Final = ("sum", "max", "min", "prod")


@dataclass(frozen=True, slots=True)
class _Array:
    """An array that expressions may load: its name, the type that a read gives, its extents (names of sizes)."""

    name: str
    dtype: DType
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an expression stands: indices in scope with their extents, how deep it may still go, locals of a fold."""

    indices: tuple[tuple[str, str], ...]
    depth: int
    locals: tuple[str, ...] = ()

    def deeper(self) -> "_Place":
        return replace(self, depth=self.depth - 1)

    def within(self, index: str, extent: str) -> "_Place":
        return replace(self, indices=(*self.indices, (index, extent)), depth=self.depth - 1)


@dataclass(slots=True)
class _Builder:
    """The text of a kernel as it is drawn."""

    pick: Callable[[Sequence[Any]], Any]
    base: DType
    arrays: list[_Array] = field(default_factory=list[_Array])
    scalars: list[str] = field(default_factory=list[str])
    params: list[str] = field(default_factory=list[str])
    outputs: list[str] = field(default_factory=list[str])
    facts: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    pointers: list[_Array] = field(default_factory=list[_Array])
    fresh: int = 0

    @property
    def kind(self) -> str:
        return "float" if self.base.is_float else "int"

    def name(self, letter: str) -> str:
        self.fresh += 1
        return f"{letter}{self.fresh}"

    # signature

    def signature(self) -> None:
        """One to three arrays, perhaps a scalar and an array of positions."""
        for shape in self.pick(((("N",),), (("N",), ("N",)), (("N", "M"),), (("N",), ("N", "M")), (("N", "M"), ("M",), ("N",)))):
            stored = DTYPES[self.pick(_STORED[self.base.name])]
            name = self.name("x")
            self.params.append(f"{name}: {stored}[{', '.join(shape)}]")
            self.arrays.append(_Array(name, reads_as(stored), shape))
        if self.pick((False, True)):
            name = self.name("a")
            self.params.append(f"{name}: {self.base}")
            self.scalars.append(name)
        if self.pick((False, False, True)):
            name = self.name("p")
            self.params.append(f"{name}: i64[N]")
            self.facts += [f"0 <= {name}", f"{name} < N"]
            self.pointers.append(_Array(name, DTYPES["i64"], ("N",)))

    # expressions

    def expr(self, at: _Place) -> str:
        """An expression of the base type."""
        if at.depth <= 0:
            return self.atom(at)
        forms = (self.atom, self.binary, self.function, self.select, self.power, self.reduction, self.fold)
        return self.pick(forms)(at)

    def atom(self, at: _Place) -> str:
        loads = [a for a in self.arrays if all(any(size == extent for _, size in at.indices) for extent in a.shape)]
        choices: list[Callable[[], str]] = [lambda: self.load(self.pick(loads), at)] if loads else []
        choices.append(lambda: self.pick(_LITERALS[self.kind]))
        if self.scalars:
            choices.append(lambda: self.pick(self.scalars))
        if at.locals:
            choices.insert(0, lambda: self.pick(at.locals))
        if at.indices:
            choices.append(lambda: f"{self.base}({self.pick(at.indices)[0]})")
        return self.pick(choices)()

    def load(self, array: _Array, at: _Place) -> str:
        positions: list[str] = []
        edge = False
        for extent in array.shape:
            index = self.pick([i for i, size in at.indices if size == extent])
            form = self.pick(("plain", "plain", "shifted", "pointer"))
            if form == "shifted":
                index, edge = f"{index} {self.pick(('-', '+'))} {self.pick(('1', '2'))}", True
            elif form == "pointer" and self.pointers and extent == "N":
                index = f"{self.pointers[0].name}[{index}]"
            positions.append(index)
        return f"{array.name}[{', '.join(positions)}{f' else {self.pick(_LITERALS[self.kind])}' if edge else ''}]"

    def binary(self, at: _Place) -> str:
        op = self.pick((*_BINARY[self.kind], "min", "max"))
        a, b = self.expr(at.deeper()), self.expr(at.deeper())
        return f"{op}({a}, {b})" if op in ("min", "max") else f"({a} {op} {b})"

    def function(self, at: _Place) -> str:
        return f"{self.pick(_FUNCTIONS[self.kind])}({self.expr(at.deeper())})"

    def select(self, at: _Place) -> str:
        return f"({self.expr(at.deeper())} if {self.condition(at.deeper())} else {self.expr(at.deeper())})"

    def power(self, at: _Place) -> str:
        return f"({self.expr(at.deeper())} ** {self.pick(('2', '3', '1', '0'))})"

    def condition(self, at: _Place) -> str:
        return f"{self.expr(at.deeper())} {self.pick(_COMPARE)} {self.expr(at.deeper())}"

    def reduction(self, at: _Place) -> str:
        index, extent = self.name("j"), self.pick(("N", "M") if self.uses("M") else ("N",))
        outer = [i for i, size in at.indices if size == extent]
        upper = f"{outer[0]} + 1" if outer and self.pick((False, False, True)) else extent
        kind = self.pick((*_REDUCTIONS, "expsum") if self.base.is_float else _REDUCTIONS)
        inner = at.within(index, extent)
        bodies = ", ".join(self.expr(inner) for _ in range(2 if kind == "expsum" else 1))
        return f"{kind}({index} in 0..{upper}: {bodies})"

    def fold(self, at: _Place) -> str:
        index, carry = self.name("k"), self.name("c")
        inner = replace(at.deeper(), locals=(*at.locals, carry))
        condition = f" while {self.condition(inner)}" if self.pick((False, True)) else ""
        steps, first = self.pick(("3", "1", "5")), self.expr(at.deeper())
        return f"fold({index} in 0..{steps}, {carry} = {first}{condition}: {self.expr(inner)}).{carry}"

    def uses(self, size: str) -> bool:
        return any(size in a.shape for a in self.arrays)

    # statements

    def shape(self) -> tuple[str, ...]:
        return self.pick((("N",), ("N", "M"), ()) if self.uses("M") else (("N",), ()))

    def temporary(self) -> None:
        shape, name = self.shape(), self.name("t")
        indices = tuple((self.name("n"), extent) for extent in shape)
        ranges = ", ".join(f"{i} in 0..{extent}" for i, extent in indices)
        left = f"{name}[{', '.join(i for i, _ in indices)}]" if shape else name
        self.lines.append(f"{left} = {self.expr(_Place(indices, 2))}{f' for {ranges}' if ranges else ''}")
        if shape:
            self.arrays.append(_Array(name, self.base, shape))
        else:
            self.scalars.append(name)

    def output(self) -> None:
        form = self.pick((self.whole, self.whole, self.parts, self.scatter, self.sweeps, self.across, self.product))
        form(self.name("y"))

    def whole(self, name: str) -> None:
        shape = self.shape()
        indices = tuple((self.name("n"), extent) for extent in shape)
        stored = self.declare(name, shape, self.pick(_STORED[self.base.name]))
        left = f"{name}[{', '.join(i for i, _ in indices)}]" if shape else name
        self.lines.append(f"{left} = {self.expr(_Place(indices, 3))}")
        if stored == self.base.name and shape:
            self.arrays.append(_Array(name, self.base, shape))

    def parts(self, name: str) -> None:
        index = self.name("n")
        self.declare(name, ("N",), self.base.name)
        self.facts.append("N >= 2")
        place = _Place(((index, "N"),), 2)
        self.lines.append(f"{name}[{index}] = {self.expr(place)} for {index} in 1..N - 1")
        self.lines.append(f"{name}[{index}] = {self.expr(place)} otherwise")

    def scatter(self, name: str) -> None:
        index = self.name("n")
        self.declare(name, ("N",), self.base.name)
        target = f"{self.pointers[0].name}[{index}]" if self.pointers else self.pick((f"{index} // 2", f"N - 1 - {index}"))
        condition = f" where {self.condition(_Place(((index, 'N'),), 1))}" if self.pick((False, True)) else ""
        op = self.pick(("+=", "max=", "min="))
        self.lines.append(f"{name}[{target}] {op} {self.expr(_Place(((index, 'N'),), 2))} for {index} in 0..N{condition}")

    def sweeps(self, name: str) -> None:
        """Two arrays that take turns, each a stencil of the other."""
        rank = self.pick((1, 2, 3))
        pair, at = (f"{name}a", f"{name}b"), [self.name("n") for _ in range(rank)]
        self.params += [f"inout {x}: {self.base}[{', '.join(['N'] * rank)}]" for x in pair]
        self.facts.append("N >= 3")
        over = ", ".join(f"{i} in 1..N - 1" for i in at)
        one, two = (f"{to}[{', '.join(at)}] = {self.neighbours(of, at)} for {over}" for of, to in (pair, pair[::-1]))
        self.lines.append(f"repeat {self.pick(('1', '2', '5'))} {{\n    {one}\n    {two}\n  }}")

    def neighbours(self, array: str, at: Sequence[str]) -> str:
        terms: list[str] = []
        for _ in range(self.pick((1, 2, 4))):
            places = ", ".join(i + self.pick(("", " - 1", " + 1")) for i in at)
            terms.append(self.pick((f"{array}[{places}]", f"{self.pick(_LITERALS[self.kind])} * {array}[{places}]")))
        return " + ".join(terms)

    def across(self, name: str) -> None:
        """One array along its rows, another along its columns."""
        self.params += [f"{name}a: {self.base}[N, M]", f"{name}b: {self.base}[M, N]"]
        i, j = self.name("n"), self.name("n")
        self.declare(name, ("N", "M"), self.base.name)
        self.lines.append(f"{name}[{i}, {j}] = {name}a[{i}, {j}] {self.pick(_BINARY[self.kind][:3])} {name}b[{j}, {i}]")

    def product(self, name: str) -> None:
        """A product of matrices, perhaps of a transposed one, and something done with each element."""
        turned = self.pick((False, True))
        self.params += [f"{name}a: {self.base}[N, M]", f"{name}b: {self.base}[{'N, M' if turned else 'M, N'}]"]
        i, j, k = (self.name("n") for _ in range(3))
        self.declare(name, ("N", "N"), self.base.name)
        total = f"sum({k} in 0..M: {name}a[{i}, {k}] * {name}b[{f'{j}, {k}' if turned else f'{k}, {j}'}])"
        value = self.pick((total, f"{self.pick(_FUNCTIONS[self.kind])}({total} + {self.pick(_LITERALS[self.kind])})"))
        self.lines.append(f"{name}[{i}, {j}] = {value}")

    def declare(self, name: str, shape: tuple[str, ...], stored: str) -> str:
        extents = f"[{', '.join(shape)}]" if shape else ""
        self.outputs.append(f"{name}: {stored}{extents}")
        return stored

    def text(self) -> str:
        facts = f" where {', '.join(dict.fromkeys(self.facts))}" if self.facts else ""
        body = "\n".join(f"  {line}" for line in self.lines)
        outputs = f" -> ({', '.join(self.outputs)})" if self.outputs else ""
        return f"kernel drawn({', '.join(self.params)}){outputs}{facts} {{\n{body}\n}}\n"


def kernel_texts() -> "SearchStrategy[str]":
    """A Hypothesis strategy for the text of one well-typed kernel named `drawn`."""
    from hypothesis import strategies as st

    def whole(draw: Any) -> str:
        def pick(options: Sequence[T]) -> T:
            return draw(st.sampled_from(options))

        builder = _Builder(pick, DTYPES[pick(("f32", "f64", "i32", "i64"))])
        builder.signature()
        # A choice before each one, not of how many there are: Hypothesis shrinks by leaving out what lies between two choices.
        for _ in range(2):
            if pick((False, True)):
                builder.temporary()
        builder.output()
        if pick((False, True)):
            builder.output()
        return builder.text()

    return st.composite(whole)()


def kernels() -> "SearchStrategy[Kernel]":
    """A Hypothesis strategy for whole well-typed kernels: elementwise code, stencils, repeated sweeps, reductions, products of matrices,
    reads across rows, dependent ranges, folds, accumulations, temporaries, several outputs, storage types and facts."""
    from kernel_ir.parser import parse

    return kernel_texts().map(lambda text: parse(text, "<drawn>")["drawn"])

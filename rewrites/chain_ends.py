"""What leads from a kernel to its terms and back, as steps: temporaries put where they are read, and values stored in temporaries.

Both mean the same thing read either way: the terms of a kernel are its statements with every such temporary inlined, and names of
bound indices left aside. Two kernels with the same terms compute the same.
"""

from collections.abc import Sequence
from typing import Final, Literal

from kernel_ir.nodes import Assign, IndexRef, Kernel, Repeat, Stmt
from kernel_ir.printer import expr_text
from rewrites.alpha import Keys
from rewrites.chain import Step
from rewrites.encode import Encoding, Root
from rewrites.plain import Plain
from rewrites.temporaries import inlined_temporaries, places
from rewrites.terms import Term

SHOWN: Final = 72
"""Characters of an expression that a step shows."""


def brief(text: str) -> str:
    """A text, its middle left out where it is long."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[len(text) - SHOWN // 2 + 3 :]}"


def temporary_steps(kernel: Kernel, kind: Literal["inline", "store"]) -> tuple[Step, ...]:
    """One step for each temporary of the kernel that its terms do not have."""
    steps: list[Step] = []
    for name, place in inlined_temporaries(kernel, places(kernel)).items():
        indices = ", ".join(map(expr_text, place.stmt.indices))
        read, value = (f"{name}[{indices}]" if indices else name), brief(expr_text(place.stmt.value))
        steps.append(Step(kind, name, f"{read} ⇒ {value}" if kind == "inline" else f"{value} ⇒ {read}"))
    return tuple(steps)


def difference(a: Encoding, terms: Sequence[Term], roots: Sequence[int], b: Encoding) -> str | None:
    """How the kernel of `a`, with these terms for its roots, differs from that of `b`, bound indices by any name; None if it does not."""
    if _frame(a) != _frame(b):
        return "parameters, outputs, facts or the statements around the values differ"
    keys = Keys()
    for one, two in zip(a.statements, b.statements, strict=True):
        pairs = [*_positions(one, two)]
        for i, j in pairs:
            left = keys.of(terms, roots[i], {x: user for user, x in one.names.items()})
            right = keys.of(b.terms, b.roots[j], {x: user for user, x in two.names.items()})
            if left != right:
                return f"the value of {one.place.stmt.target} is another"
    return None


def _positions(one: Root, two: Root) -> list[tuple[int, int]]:
    if one.value is None or two.value is None:
        return []
    return [(one.value, two.value), *zip(one.indices, two.indices, strict=True)]


def _frame(e: Encoding) -> tuple[object, ...]:
    """All of a kernel but its values and its temporaries."""
    k = e.kernel
    kept = {id(r.place.stmt): r for r in e.statements}
    temps = [(t.name, t.type) for t in k.temps if any(r.place.stmt.target == t.name for r in e.statements)]
    return k.name, k.params, k.outputs, k.facts, tuple(temps), _statements(k.body, kept)


def _statements(body: tuple[Stmt, ...], kept: dict[int, Root]) -> tuple[object, ...]:
    found: list[object] = []
    for stmt in body:
        if isinstance(stmt, Repeat):
            found.append((stmt.index, stmt.steps, _statements(stmt.body, kept)))
        elif id(stmt) in kept:
            found.append(_frame_of(stmt, kept[id(stmt)]))
    return tuple(found)


def _frame_of(stmt: Assign, root: Root) -> object:
    if root.value is None:
        return stmt
    indices = stmt.indices if stmt.op == "=" else len(stmt.indices)
    return stmt.target, indices, stmt.op, stmt.binders, stmt.where, stmt.otherwise


def rewrite_text(encoding: Encoding, plain: Plain, before: int, after: int, paths: Sequence[tuple[int, ...]]) -> str:
    """Where a step is taken, and what it does there."""
    owners = {position: s.place.stmt for s in encoding.statements if s.value is not None for position in (s.value, *s.indices)}
    stmt = owners[encoding.values()[paths[0][0]]]
    indices = ", ".join(map(expr_text, stmt.indices))
    where = f"{stmt.target}[{indices}]" if indices else stmt.target
    inside = ".".join(map(str, paths[0][1:]))
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    shared = dict(zip(_shared(plain.terms, before, after, plain), _LETTERS, strict=False))
    outline = Plain(plain.terms, plain.names, {number: IndexRef(letter) for number, letter in shared.items()})
    left, right = (brief(expr_text(outline.expr(n))) for n in (before, after))
    parts = "".join(f", {letter} = {brief(expr_text(plain.expr(n)))}" for n, letter in shared.items())
    return f"{where}{f' at {inside}' if inside else ''}{more}: {left} ⇒ {right}{parts}"


_LETTERS: Final = "ABCDEFGH"
SHORT: Final = 12
"""Characters of an expression that is shown wherever it stands."""


def _shared(terms: Sequence[Term], before: int, after: int, plain: Plain) -> list[int]:
    """The largest parts of the one that are parts of the other too, and too long to be shown twice."""
    there: set[int] = set()
    waiting = [*terms[after].children]
    while waiting:
        number = waiting.pop()
        if number not in there:
            there.add(number)
            waiting += terms[number].children
    found: dict[int, None] = {}

    def visit(number: int) -> None:
        if number in there:
            if len(expr_text(plain.expr(number))) > SHORT:
                found[number] = None
            return
        for child in terms[number].children:
            visit(child)

    for child in terms[before].children:
        visit(child)
    return list(found)

"""Turns a kernel's statements into places, each with the array versions that it reads, and tells which temporaries may be inlined there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kernel_ir.nodes import Assign, Expr, Fold, IndexRef, Kernel, Load, Reduce, Repeat, Stmt
from kernel_ir.walk import expressions, statements, subtrees
from rewrites.declare import MAX_CARRIES, MAX_RANK

SINGLE: Final = ("argmax", "argmin", "expsum")
"""Reductions that are not nests of reductions over one index each."""


@dataclass(frozen=True, slots=True)
class Place:
    """A statement, the path of `repeat` blocks around it (positions in their bodies) and the version of each array as it reads."""

    stmt: Assign
    block: tuple[int, ...]
    versions: Mapping[str, int]


def versioned(array: str, versions: Mapping[str, int]) -> str:
    """The name of an array's contents at a place: `b`, or `b@2` after two statements wrote it.

    >>> versioned("b", {}), versioned("b", {"b": 2})
    ('b', 'b@2')
    """
    version = versions.get(array, 0)
    return f"{array}@{version}" if version else array


def unversioned(name: str) -> str:
    """The array of a versioned name."""
    return name.partition("@")[0]


def places(kernel: Kernel) -> tuple[Place, ...]:
    """Every assignment in textual order; a `repeat` gives all that its body writes new versions, once at its start and once at its end."""
    versions: dict[str, int] = {}

    def bump(names: Iterator[str]) -> None:
        for name in names:
            versions[name] = versions.get(name, 0) + 1

    def visit(body: tuple[Stmt, ...], block: tuple[int, ...]) -> Iterator[Place]:
        for position, stmt in enumerate(body):
            match stmt:
                case Assign():
                    yield Place(stmt, block, dict(versions))
                    bump(iter((stmt.target,)))
                case Repeat():
                    written = tuple(dict.fromkeys(s.target for s in statements(stmt.body)))
                    bump(iter(written))
                    yield from visit(stmt.body, (*block, position))
                    bump(iter(written))

    return tuple(visit(kernel.body, ()))


def is_opaque(stmt: Assign) -> bool:
    """Whether the statement holds what the e-graph cannot: it then stays as it is."""

    def opaque(e: Expr) -> bool:
        match e:
            case Reduce():
                return e.kind in SINGLE and len(e.binders) > 1
            case Fold():
                return len(e.carries) > MAX_CARRIES
            case Load():
                return len(e.indices) > MAX_RANK
            case _:
                return False

    return any(opaque(e) for top in expressions(stmt) for e in subtrees(top))


def _loads(e: Expr) -> Iterator[Load]:
    return (x for x in subtrees(e) if isinstance(x, Load))


def _rigid(stmt: Assign) -> Iterator[Expr]:
    """What stays verbatim in a statement: bounds, condition, and indices of a plain target."""
    for b in stmt.binders:
        yield from (b.lo, b.hi)
    if stmt.where is not None:
        yield stmt.where


def inlined_temporaries(kernel: Kernel, spots: tuple[Place, ...]) -> dict[str, Place]:
    """The temporaries that vanish into their uses, with the place that defines each.

    One stays an array of its own if it is defined in pieces or by accumulation, is read in a range, condition or step count, with
    a default, from another `repeat` block, by an opaque statement, or where an array that its definition reads has changed since.
    """
    by_target: dict[str, list[Place]] = {}
    for spot in spots:
        by_target.setdefault(spot.stmt.target, []).append(spot)
    found: dict[str, Place] = {}
    for temp in kernel.temps:
        defined = by_target.get(temp.name, [])
        if len(defined) == 1 and _is_plain(defined[0].stmt) and not is_opaque(defined[0].stmt):
            found[temp.name] = defined[0]
    rigid = [e for spot in spots for e in _rigid(spot.stmt)]
    rigid += list(_steps(kernel.body))
    rigid += [e for spot in spots if is_opaque(spot.stmt) for e in expressions(spot.stmt)]
    for e in rigid:
        for load in _loads(e):
            found.pop(load.array, None)
    while True:
        bad = _misplaced(found, spots)
        if not bad:
            return found
        for name in bad:
            del found[name]


def _is_plain(stmt: Assign) -> bool:
    whole = stmt.op == "=" and stmt.where is None and not stmt.otherwise
    return whole and all(isinstance(i, IndexRef) for i in stmt.indices)


def _steps(body: tuple[Stmt, ...]) -> Iterator[Expr]:
    for stmt in body:
        if isinstance(stmt, Repeat):
            yield stmt.steps
            yield from _steps(stmt.body)


def _misplaced(found: Mapping[str, Place], spots: tuple[Place, ...]) -> list[str]:
    """Temporaries of `found` that some statement cannot inline."""
    bad: dict[str, None] = {}
    reads: dict[str, dict[str, int]] = {}
    for spot in spots:
        seen: dict[str, int] = {}
        for top in (spot.stmt.value, *spot.stmt.indices):
            for load in _loads(top):
                temp = found.get(load.array)
                if temp is None:
                    seen[load.array] = spot.versions.get(load.array, 0)
                    continue
                known = reads.get(load.array)
                moved = known is None or any(spot.versions.get(a, 0) != v for a, v in known.items())
                if moved or load.default is not None or temp.block != spot.block:
                    bad[load.array] = None
                else:
                    seen.update(known or {})
        if found.get(spot.stmt.target) is spot:
            reads[spot.stmt.target] = seen
    return list(bad)

"""Turns a kernel into the proof that each element of each output is defined exactly once, and read only after that.

What counts:

- Plain definitions of an output together define every element, none twice. Of a temporary they may leave elements out. Of an `inout`
  array they may leave elements out (which keep their value), and may define an element again once a statement has read the array.
- An output or temporary that is only accumulated into starts from 0 (or the least or greatest value) and needs no other definition;
  plain definitions and accumulations, or accumulations of two kinds, do not mix in one of them.
- A read of an output or temporary touches only what earlier statements defined (in a `repeat`: earlier in the text of the same step).
- Definitions inside a `repeat` count if it has at least one step; each step defines the elements anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kernel_ir.bounds import shown
from kernel_ir.dtypes import BOOL, I64
from kernel_ir.errors import CoverageError
from kernel_ir.literals import cases
from kernel_ir.nodes import Assign, Binder, Call, Expr, IndexRef, Kernel, Load, Param, Repeat, Stmt, const
from kernel_ir.places import Place, accesses
from kernel_ir.prover import Prover
from kernel_ir.regions import outer_names, reads, region
from kernel_ir.witness import Env, Search, witness_text

MAX_PARTS: Final = 64
"""Parts into which the elements not yet covered may fall before the proof gives up."""
ZERO: Final = const(0, I64)


@dataclass(frozen=True, slots=True)
class _Definition:
    """A statement with the place before its own ranges and the `repeat`s around it, outermost first."""

    stmt: Assign
    place: Place
    repeats: tuple[Repeat, ...]


def check_coverage(kernel: Kernel) -> None:
    """Raises a CoverageError where an element is not defined, defined twice, or read before it is defined."""
    definitions = tuple(_definitions(kernel.body, Place(kernel), ()))
    for p in (*kernel.outputs, *kernel.temps):
        own = [d for d in definitions if d.stmt.target == p.name]
        _check_kinds(p, own)
        _check_twice(kernel, p, own)
        if p in kernel.outputs:
            _check_complete(kernel, p, own)
    for p in kernel.params:
        for group in _groups(definitions, p.name) if p.inout else ():
            _check_twice(kernel, p, group)
    _check_reads(kernel, definitions)


def _definitions(body: tuple[Stmt, ...], place: Place, repeats: tuple[Repeat, ...]) -> Iterator[_Definition]:
    for stmt in body:
        match stmt:
            case Repeat():
                inner = place if stmt.index is None else place.bind(Binder(stmt.index, ZERO, stmt.steps))
                yield from _definitions(stmt.body, inner, (*repeats, stmt))
            case Assign():
                yield _Definition(stmt, place, repeats)


def _groups(definitions: tuple[_Definition, ...], array: str) -> Iterator[list[_Definition]]:
    """The plain definitions of an `inout` array, in runs that no statement that reads it, and no edge of a `repeat`, parts."""
    group: list[_Definition] = []
    for d in definitions:
        if reads(d.stmt, array) or (group and group[-1].repeats != d.repeats) or (d.stmt.target == array and d.stmt.op != "="):
            yield group
            group = []
        if d.stmt.target == array and d.stmt.op == "=":
            group.append(d)
    yield group


def _check_kinds(p: Param, own: list[_Definition]) -> None:
    for d in own[1:]:
        if d.stmt.op != own[0].stmt.op:
            raise CoverageError(
                f"`{p.name}` is written with `{own[0].stmt.op}` {_line(own[0].stmt)} and with `{d.stmt.op}` here",
                d.stmt.span,
                f"write to two arrays and join them, or make `{p.name}` an `inout` array",
            )


def _check_twice(kernel: Kernel, p: Param, own: list[_Definition]) -> None:
    """No two plain definitions of one group meet. What an `otherwise` defines is left by those before it, by definition."""
    plain = [d for d in own if d.stmt.op == "="]
    for n, later in enumerate(plain):
        for earlier in plain[:n]:
            if later.stmt.otherwise:
                continue
            indices, binders = _element(p)
            both = [region(d.stmt, indices) for d in (earlier, later)]
            inside = _at(later.place, binders).assume(both[0]).assume(both[1])
            if not inside.prover().is_impossible():
                raise _twice(kernel, p, earlier.stmt, later, both)


def _check_complete(kernel: Kernel, p: Param, own: list[_Definition]) -> None:
    if not own:
        raise CoverageError(f"output `{p.name}` is never defined", p.span, f"add a statement `{_pattern(p)} = …`")
    if own[0].stmt.op != "=":
        return
    for d in own:
        for r in d.repeats:
            if not d.place.prover().less(ZERO, r.steps):
                steps = shown(r.steps)
                raise CoverageError(
                    f"`{p.name}` is not defined if the `repeat` around this has no step",
                    d.stmt.span,
                    f"state the fact `{steps} >= 1` in the kernel's `where`, or make `{p.name}` an `inout` array",
                )
    if not _is_complete(p, own):
        raise _gap(kernel, p, own)


def _is_complete(p: Param, own: list[_Definition]) -> bool:
    """Whether plain definitions define every element of an array."""
    if any(d.stmt.otherwise or _is_whole(d.stmt, p) for d in own):
        return True
    indices, binders = _element(p)
    prover = _at(own[0].place, binders).prover()
    return _is_covered(prover, [region(d.stmt, indices) for d in own])


def _is_whole(stmt: Assign, p: Param) -> bool:
    """Whether a statement plainly runs over the whole array."""
    ranges = {b.index: (b.lo, b.hi) for b in stmt.binders}
    wanted = [(ZERO, extent) for extent in p.type.shape]
    names = [i.name for i in stmt.indices if isinstance(i, IndexRef)]
    return stmt.where is None and len(set(names)) == len(wanted) and [ranges[n] for n in names] == wanted


def _is_covered(prover: Prover, regions: list[Expr]) -> bool:
    """Whether each element that the prover allows lies in one of the regions."""
    parts = [prover]
    for r in regions:
        left: list[Prover] = []
        for part in parts:
            left += _without(part, r)
        if len(left) > MAX_PARTS:
            return False
        parts = left
    return all(part.is_impossible() for part in parts)


def _without(prover: Prover, condition: Expr) -> list[Prover]:
    """The parts of what the prover allows where the condition does not hold."""
    parts = [prover]
    for case in cases(condition, True, prover.compare, prover.key):
        parts = [rest for part in parts for rest in part.outside(case)]
    return parts


def _element(p: Param) -> tuple[tuple[Expr, ...], tuple[Binder, ...]]:
    """Indices of any element of an array, with their ranges, by names that no kernel has."""
    names = [f"${dim}" for dim in range(p.type.rank)]
    return tuple(map(IndexRef, names)), tuple(Binder(n, ZERO, extent) for n, extent in zip(names, p.type.shape, strict=True))


def _at(place: Place, binders: tuple[Binder, ...]) -> Place:
    for binder in binders:
        place = place.bind(binder)
    return place


# Reads


def _check_reads(kernel: Kernel, definitions: tuple[_Definition, ...]) -> None:
    made = {p.name: p for p in (*kernel.outputs, *kernel.temps)}
    number = {id(d.stmt): n for n, d in enumerate(definitions)}
    complete: dict[tuple[str, int], bool] = {}
    for access in accesses(kernel):
        load = access.node
        if not isinstance(load, Load) or load.array not in made or access.stmt is None:
            continue
        at = number[id(access.stmt)]
        own = [d for d in definitions[:at] if d.stmt.target == load.array]
        if not own:
            raise _too_early(load, access.stmt)
        p = made[load.array]
        seen = [d for d in own if _has_run(d, definitions[at])]
        if seen and seen[0].stmt.op != "=":
            continue
        known = (load.array, len(seen))
        if known not in complete:
            complete[known] = bool(seen) and _is_complete(p, seen)
        if complete[known] and all(d.repeats == () or _is_around(d, definitions[at]) for d in seen):
            continue
        if not _reads_defined(p, load, access.place, seen):
            raise _undefined(kernel, p, load, access.place, seen, access.stmt)


def _has_run(d: _Definition, reader: _Definition) -> bool:
    """Whether a definition surely ran before the reader: each `repeat` around it alone has a step."""
    return all(r in reader.repeats or d.place.prover().less(ZERO, r.steps) for r in d.repeats)


def _is_around(d: _Definition, reader: _Definition) -> bool:
    return all(r in reader.repeats for r in d.repeats) or not any(r.index for r in d.repeats)


def _reads_defined(p: Param, load: Load, place: Place, seen: list[_Definition]) -> bool:
    bound = [item.index for item in place.items if isinstance(item, Binder)]
    # A region that speaks of a `repeat`'s index means that index: it must be the same one here.
    clear = [d for d in seen if all(bound.count(name) == 1 for name in outer_names(d.stmt))]
    regions = [region(d.stmt, load.indices) for d in clear]
    return _is_covered(_inside(p, load, place).prover(), regions)


def _inside(p: Param, load: Load, place: Place) -> Place:
    """The place of a load where it does read the array and not its default."""
    if load.default is None:
        return place
    for index, extent in zip(load.indices, p.type.shape, strict=True):
        place = place.assume(Call("le", (ZERO, index), BOOL)).assume(Call("lt", (index, extent), BOOL))
    return place


# Errors


def _line(stmt: Assign) -> str:
    return "elsewhere" if stmt.span is None else f"on line {stmt.span.line}"


def _pattern(p: Param) -> str:
    names = ", ".join("ijklmnop"[: p.type.rank])
    return f"{p.name}[{names}]" if names else p.name


def _target(p: Param, stmt: Assign) -> str:
    names = [i.name if isinstance(i, IndexRef) else "ijklmnop"[n] for n, i in enumerate(stmt.indices)]
    return f"{p.name}[{', '.join(names)}]" if names else p.name


def _element_text(p: Param, env: Env) -> str:
    values = ", ".join(str(env[f"${dim}"]) for dim in range(p.type.rank))
    return f"{p.name}[{values}]" if values else p.name


def _when(env: Env, *about: Expr) -> str:
    text = witness_text({name: value for name, value in env.items() if not name.startswith("$")}, about)
    return f" when {text}" if text else ""


def _twice(kernel: Kernel, p: Param, earlier: Assign, later: _Definition, both: list[Expr]) -> CoverageError:
    _, binders = _element(p)
    search = Search(kernel)
    env = search.find((*later.place.items, *binders), tuple(search.holds(r, True) for r in both))
    where = f"here and {_line(earlier)}"
    what = f"an element of `{p.name}` may be defined twice: {where}"
    if env is not None:
        what = f"`{_element_text(p, env)}` is defined twice{_when(env, *p.type.shape, *both)}: {where}"
    hint = f"narrow one of the two, or write `{_target(p, later.stmt)} = … otherwise` for what is left"
    if p.inout:
        hint += f"; an element may be defined again after a statement that reads `{p.name}`"
    return CoverageError(what, later.stmt.span, hint)


def _gap(kernel: Kernel, p: Param, own: list[_Definition]) -> CoverageError:
    indices, binders = _element(p)
    search = Search(kernel)
    regions = [region(d.stmt, indices) for d in own]
    env = search.find((*own[0].place.items, *binders), tuple(search.holds(r, False) for r in regions))
    covered = "; ".join(_region_text(p, d.stmt) for d in own)
    if env is None:
        what = f"not every element of `{p.name}` is proved to be defined"
    else:
        what = f"`{_element_text(p, env)}` is not defined{_when(env, *p.type.shape, *regions)}"
    last = own[-1].stmt
    return CoverageError(
        f"{what}: {'the statement covers' if len(own) == 1 else 'the statements cover'} {covered}",
        last.span,
        f"add `{_target(p, last)} = … otherwise`, or widen the range",
    )


def _region_text(p: Param, stmt: Assign) -> str:
    ranges = ", ".join(f"{b.index} in {shown(b.lo)}..{shown(b.hi)}" for b in stmt.binders)
    fixed = not stmt.binders or any(not isinstance(i, IndexRef) for i in stmt.indices)
    target = f"`{p.name}[{', '.join(map(shown, stmt.indices))}]`" if stmt.indices else f"`{p.name}`"
    where = "" if stmt.where is None else f" where {shown(stmt.where)}"
    if fixed:
        return target + (f" for {ranges}" if ranges else "") + where
    return ranges + where


def _too_early(load: Load, stmt: Assign) -> CoverageError:
    if load.array == stmt.target:
        return _own_target(load)
    hint = "move its definition up; a statement reads arrays as they were before it"
    return CoverageError(f"`{load.array}` is read before a statement defines it", load.span, hint)


def _own_target(load: Load) -> CoverageError:
    return CoverageError(
        f"`{load.array}` is read by the statement that defines it, which sees it as it was before: not yet defined",
        load.span,
        "write a running sum as `sum(j in 0..i+1: …)`, a recurrence as a `fold`, or use an `inout` array in a `repeat`",
    )


def _undefined(kernel: Kernel, p: Param, load: Load, place: Place, seen: list[_Definition], stmt: Assign) -> CoverageError:
    if load.array == stmt.target:
        return _own_target(load)
    if not seen:
        return CoverageError(
            f"`{p.name}` is not defined if the `repeat` that defines it has no step",
            load.span,
            "state in the kernel's `where` that there is a step, such as `steps >= 1`",
        )
    search = Search(kernel)
    regions = [region(d.stmt, load.indices) for d in seen]
    env = search.find(_inside(p, load, place).items, tuple(search.holds(r, False) for r in regions))
    covered = "; ".join(_region_text(p, d.stmt) for d in seen)
    what = f"`{p.name}` is read where it may not be defined"
    if env is not None:
        values = ", ".join(str(search.value(i, env)) for i in load.indices)
        what = f"`{p.name}[{values}]` is read, but not defined{_when(env, *load.indices, *regions)}"
    hint = f"narrow the range that reads `{p.name}`, or define the rest of it"
    return CoverageError(f"{what}: the statements before this cover {covered}", load.span, hint)

"""Turns an extracted term into what its printing needs: free variables, how often each class would be written, what becomes a temporary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rewrites.declare import OP_OF_CONSTRUCTOR
from rewrites.terms import Term, Variable

LONGEST: Final = 16
"""Nodes of a shared expression beyond which it is a temporary even if it holds no loop and the user never named it."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Facts about the classes that some roots reach: their free variables (with those that ranges read), which hold a loop, and which
    become temporaries because several places need them; and the variables of folds."""

    free: dict[int, frozenset[str]]
    looping: frozenset[int]
    temporaries: frozenset[int]
    folds: frozenset[str]


def sharing(
    chosen: Mapping[int, Term], roots: Sequence[int], variables: Mapping[str, Variable], named: frozenset[int], ranges: "Ranges"
) -> Sharing:
    """What the roots share. `named` are the classes that were a temporary of the user's."""
    order = _children_first(chosen, roots)
    free: dict[int, frozenset[str]] = {}
    size: dict[int, int] = {}
    looping: set[int] = set()
    for home in order:
        term = chosen[home]
        if term.is_loop or not looping.isdisjoint(term.children):
            looping.add(home)
        free[home] = free_of(term, free, ranges)
        size[home] = 1 if term.is_loop else 1 + sum(size[c] for c in term.children)
    pinned = _fold_variables(variables)
    written = dict.fromkeys(order, 0)
    for root in roots:
        written[root] += 1
    temporaries: set[int] = set()
    for home in reversed(order):
        term = chosen[home]
        worth = term.is_loop or home in named or size[home] > LONGEST
        if written[home] > 1 and worth and _is_computed(term) and not free[home] & pinned:
            temporaries.add(home)
        copies = 1 if home in temporaries else written[home]
        for child in term.children:
            written[child] += copies
    return Sharing(free, frozenset(looping), frozenset(temporaries), pinned)


@dataclass(frozen=True, slots=True)
class Ranges:
    """For each variable, itself and all that its range depends on."""

    closure: dict[str, frozenset[str]]


def ranges(terms: Sequence[Term], variables: Mapping[str, Variable]) -> Ranges:
    """The closure of every variable; a variable is declared after those that its range reads."""
    closure: dict[str, frozenset[str]] = {}

    def read(number: int) -> frozenset[str]:
        term = terms[number]
        own = closure.get(term.variables[0], frozenset[str]()) if term.name in ("Ix", "Loc") else frozenset[str]()
        return own.union(*[read(c) for c in term.children])

    for name, v in variables.items():
        closure[name] = frozenset((name,)) | read(v.lo) | read(v.hi)
    return Ranges(closure)


def _children_first(chosen: Mapping[int, Term], roots: Sequence[int]) -> tuple[int, ...]:
    done: dict[int, None] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        home, ready = stack.pop()
        if home in done:
            continue
        if ready:
            done[home] = None
            continue
        stack.append((home, True))
        stack.extend((c, False) for c in reversed(chosen[home].children) if c not in done)
    return tuple(done)


def free_of(term: Term, free: Mapping[int, frozenset[str]], ranges: Ranges) -> frozenset[str]:
    below = [free[c] for c in term.children]
    if term.name in ("Ix", "Loc"):
        return ranges.closure[term.variables[0]]
    if not term.is_loop:
        return frozenset[str]().union(*below)
    outside = 1 + len(term.variables)
    inner = frozenset[str]().union(*below[outside:]) - frozenset(term.variables)
    return inner.union(*below[:outside])


def free_variables(terms: Sequence[Term], ranges: Ranges) -> tuple[frozenset[str], ...]:
    """The free variables of each term of a list, children first."""
    free: dict[int, frozenset[str]] = {}
    for number, term in enumerate(terms):
        free[number] = free_of(term, free, ranges)
    return tuple(free.values())


def _fold_variables(variables: Mapping[str, Variable]) -> frozenset[str]:
    """Carries and the indices of folds: what depends on them cannot leave its fold."""
    return frozenset(n for v in variables.values() if v.loop is not None for n in (v.name, v.loop))


def _is_computed(term: Term) -> bool:
    return term.is_loop or term.name in OP_OF_CONSTRUCTOR

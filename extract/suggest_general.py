"""Turns a proved rule into more general ones that are still proved: fewer guards, wider types, constants and common terms as variables."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from extract.suggest_read import read_rule, with_guard
from kernel_ir.errors import KernelError
from rewrites.guards import Guard
from rewrites.pattern import Apply, Index, Lit, Pattern, Reduction, Var, size, subpatterns, variables
from rewrites.rule import Rule
from rewrites.wording import rule_text

Holds = Callable[[Rule], bool]
_WIDER = ("any", "number", "float", "int")
_CONSTANT = ("", "is_const({})", "nonzero({})", "pow2({})")
"""Guards to try for a constant that became a variable, weakest first."""


def generalised(rule: Rule, holds: Holds) -> Rule:
    """The most general form that the proof still covers; the rule itself where there is none."""
    for step in (_guards, _common_term, _constant, _types):
        while (wider := next((r for r in step(rule) if holds(r)), None)) is not None:
            rule = wider
    return rule


def _guards(rule: Rule) -> Iterator[Rule]:
    """The rule without one of its guards."""
    for guard in rule.guards:
        read = None if guard.kind == "absent" else _read(rule_text(replace(rule, guards=tuple(g for g in rule.guards if g != guard))))
        if read is not None:
            yield read


def _types(rule: Rule) -> Iterator[Rule]:
    """The rule on wider types, widest first."""
    head, tail = _without_on(rule_text(rule))
    # A flag that integers do not need must not hold them back.
    for on in ("float",) if rule.needs else _WIDER:
        wider = _read(f"{head} on {on}{tail}")
        if wider is not None and _wider(wider, rule):
            yield wider


def _without_on(text: str) -> tuple[str, str]:
    """The text before the clause `on`, and after it."""
    depth, words = 0, text.split(" ")
    for n, word in enumerate(words):
        if depth == 0 and word in ("on", "if", "needs"):
            end = n
            if word == "on":
                end = n + 2
                while words[end - 1].endswith(","):
                    end += 1
            return " ".join(words[:n]), "".join(f" {w}" for w in words[end:])
        depth += sum(map(word.count, "([")) - sum(map(word.count, ")]"))
    return text, ""


def _wider(a: Rule, b: Rule) -> bool:
    """Whether `a` holds for all types that `b` does, and for more."""
    pairs = [(set(a.types[p.type]), set(b.types[q.type])) for p, q in zip(_nodes(a), _nodes(b), strict=True)]
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


def _nodes(rule: Rule) -> list[Pattern]:
    return [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side)]


def _constant(rule: Rule) -> Iterator[Rule]:
    """The rule with a literal of its left side, wherever it stands, as a variable."""
    literals = dict.fromkeys(p for p in subpatterns(rule.lhs) if isinstance(p, Lit) and not isinstance(p.value, bool))
    for literal in literals:
        name = _fresh(rule)
        # The exponent of a power must stay a literal.
        if any(isinstance(p, Apply) and p.op == "powi" and literal in p.args[1:] for p in _nodes(rule)):
            continue
        text = _text(rule, {literal: Var(name, literal.type)})
        for guard in _CONSTANT:
            read = _read(with_guard(text, guard.format(name)) if guard and text else text)
            if read is not None:
                yield read


def _common_term(rule: Rule) -> Iterator[Rule]:
    """The rule with a term of both sides as a variable, largest first."""
    right = {p for p in subpatterns(rule.rhs) if isinstance(p, Apply)}
    terms = [p for p in dict.fromkeys(subpatterns(rule.lhs)) if isinstance(p, Apply) and p in right and p not in (rule.lhs, rule.rhs)]
    for term in sorted(terms, key=size, reverse=True):
        if any(isinstance(p, Index | Reduction) for p in subpatterns(term)):
            continue
        read = _read(_text(rule, {term: Var(_fresh(rule), term.result)}))
        if read is not None:
            yield read


def _fresh(rule: Rule) -> str:
    taken = {*variables(rule.lhs), *variables(rule.rhs)} | {p.index for p in _nodes(rule) if isinstance(p, Reduction)}
    return next(c for c in itertools.chain("cdghpqtuvwkabxyz", map("c{}".format, itertools.count())) if c not in taken)


def _text(rule: Rule, change: Mapping[Pattern, Var]) -> str:
    """The text of the rule after the change, or nothing where it has none."""
    guards = tuple(replace(g, args=tuple(_replaced(a, change) for a in g.args)) for g in rule.guards)
    changed = replace(rule, lhs=_replaced(rule.lhs, change), rhs=_replaced(rule.rhs, change), guards=guards)
    indices = dict.fromkeys(Index(p.index, p.lo.type) for p in _nodes(rule) if isinstance(p, Reduction) and isinstance(p.lo, Var | Lit))
    absent = tuple(Guard("absent", (index, variable), rule.span) for index in indices for variable in change.values())
    # A variable, unlike a number, may depend on an index that it is moved across.
    for guarded in (changed, replace(changed, guards=(*guards, *absent))):
        try:
            return rule_text(guarded)
        except KernelError:
            continue
    return ""


def _read(text: str) -> Rule | None:
    try:
        return read_rule(text) if text else None
    except KernelError:
        return None


def _replaced(p: Pattern, change: Mapping[Pattern, Var]) -> Pattern:
    if p in change:
        return change[p]
    match p:
        case Apply():
            return replace(p, args=tuple(_replaced(a, change) for a in p.args))
        case Reduction():
            bodies = tuple(_replaced(b, change) for b in p.bodies)
            return replace(p, lo=_replaced(p.lo, change), hi=_replaced(p.hi, change), bodies=bodies)
        case _:
            return p

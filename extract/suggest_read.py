"""Turns the text of one suggested rule into a typed rule of bearable size, or into the error to feed back."""

import re
from typing import Final

from extract.suggest_answer import MAX_RULE
from kernel_ir.errors import KernelError, RuleError
from rewrites.books import load_book
from rewrites.pattern import Apply, Lit, Pattern, Reduction, parts, subpatterns, variables
from rewrites.rule import Rule

MAX_NODES: Final = 60
"""Nodes of both sides together."""
MAX_VARIABLES: Final = 8
MAX_DEPTH: Final = 3
"""Reductions inside one another."""
MAX_POWER: Final = 64
MAX_TERMS: Final = 64
"""Terms of a reduction over a literal range."""
MAX_BRACKETS: Final = 30
MAX_NAME: Final = 60
_CAPTURED: Final = re.compile(r"add the guard `(\w+) not in (\w+)`")
_GUARDS: Final = 6


def read_rule(text: str, taken: frozenset[str] = frozenset()) -> Rule:
    """The rule that a text says; guards `i not in x` that it forgot are added, a name that is `taken` is changed.

    >>> str(read_rule("rule factor: sum(i: a * f) => a * sum(i: f) needs reassoc"))
    'rule factor: sum(i: a * f) => a * sum(i: f) if i not in a needs reassoc'

    Raises a KernelError, with the place, for what does not parse or type, and for what is too large to be worth a proof.
    """
    if len(text) > MAX_RULE:
        raise RuleError(f"the rule has {len(text)} characters, and {MAX_RULE} are the limit", hint="suggest its small core")
    if _depth(text) > MAX_BRACKETS:
        raise RuleError(f"brackets are nested more than {MAX_BRACKETS} deep", hint="suggest its small core")
    rule = one_rule(_guarded(text).text)  # constants and functions beside it are not taken over
    _bearable(rule)
    name = _free(rule.name[:MAX_NAME], taken)
    return rule if name == rule.name else one_rule(re.sub(r"^rule\s+\w+", f"rule {name}", rule.text))


def one_rule(text: str) -> Rule:
    """The one rule of a text; RuleError where it holds none, several, or anything else."""
    rules = load_book(f"{text}\n")  # a line break makes it a text: never the path of a file
    if len(rules) != 1:
        raise RuleError(f"one rule was expected, and {len(rules)} found", hint="write `rule name: left => right`")
    return rules[0]


def _guarded(text: str) -> Rule:
    """The rule, with the guards that moving a variable across a reduction needs."""
    for _ in range(_GUARDS):
        try:
            return one_rule(text)
        except KernelError as error:
            lost = _CAPTURED.search(error.hint or "")
            if lost is None:
                raise
            text = with_guard(text, f"{lost[1]} not in {lost[2]}")
    return one_rule(text)


def with_guard(text: str, guard: str) -> str:
    """The text of a rule with a guard more."""
    head, needs, flags = _split(text, "needs")
    sides, word, guards = _split(head, "if")
    return f"{sides.rstrip()} if {guards.strip() + ', ' if word else ''}{guard}{f' {needs} {flags.strip()}' if needs else ''}"


def _split(text: str, word: str) -> tuple[str, str, str]:
    """The text parted at the word, where it stands outside all brackets."""
    depth = 0
    for match in re.finditer(rf"[(\[\])]|\b{word}\b", text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(match[0], 0)
        if match[0] == word and depth == 0:
            return text[: match.start()], word, text[match.end() :]
    return text, "", ""


def _depth(text: str) -> int:
    depth = deepest = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        deepest = max(deepest, depth)
    return deepest


def _free(name: str, taken: frozenset[str]) -> str:
    return name if name not in taken else next(n for k in range(2, 10**6) if (n := f"{name}_{k}") not in taken)


def _bearable(rule: Rule) -> None:
    """Refuses a rule that would keep the prover or the e-graph busy for nothing."""
    nodes = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side)]
    over = (
        (len(nodes), MAX_NODES, "nodes"),
        (len({n for side in (rule.lhs, rule.rhs) for n in variables(side) if "." not in n}), MAX_VARIABLES, "variables"),
        (max(map(_nesting, (rule.lhs, rule.rhs))), MAX_DEPTH, "reductions inside one another"),
        (max((_power(p) for p in nodes), default=0), MAX_POWER, "as an exponent"),
        (max((_terms(p) for p in nodes), default=0), MAX_TERMS, "terms of a reduction"),
    )
    if rule.within is not None:
        raise RuleError(
            "an approximation is not taken from a suggestion", rule.span, "its error is the user's to allow: put it into a book by hand"
        )
    for count, limit, what in over:
        if count > limit:
            raise RuleError(f"the rule has {count} {what}, and {limit} is the limit", rule.span, "suggest its small core")
    for p in nodes:
        if isinstance(p, Lit) and isinstance(p.value, int) and not isinstance(p.value, bool) and not -(2**63) <= p.value < 2**63:
            raise RuleError(f"{p.value} is no i64", rule.span)


def _nesting(p: Pattern) -> int:
    return isinstance(p, Reduction) + max(map(_nesting, parts(p)), default=0)


def _power(p: Pattern) -> int:
    match p:
        case Apply("powi", (_, Lit(value))) | Apply("shl" | "shr", (_, Lit(value))):
            return abs(int(value))
        case _:
            return 0


def _terms(p: Pattern) -> int:
    """An upper bound of the terms of a reduction whose bounds are literals."""
    match p:
        case Reduction(lo=lo, hi=hi):
            numbers = [abs(x.value) for bound in (lo, hi) for x in subpatterns(bound) if isinstance(x, Lit)]
            return int(max(numbers, default=0))
        case _:
            return 0

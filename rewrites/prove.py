"""Turns a rule into a verdict: it holds where a proof was found, by the method that its claim asks for.

Without flags both sides must have equal bits (NaN payloads apart). With `nnan`, `ninf`, `nsz` alone, equal bits but for what they
exclude. With any other flag the sides must agree over the reals, where they are defined. An unflagged rule over a float sum may
only regroup it. An approximation must keep to its stated error. What could not be proved does not hold.
"""

from dataclasses import replace
from threading import RLock
from typing import Final

from kernel_ir.fastmath import Flag
from rewrites.certificates import remember
from rewrites.guards import SCOPE, Guard
from rewrites.prove_error import measured
from rewrites.prove_exact import proof as exact_proof
from rewrites.prove_reals import proof as real_proof
from rewrites.prove_verdict import EXCLUSIONS, Deadline, Outcome, Verdict
from rewrites.rule import Rule, source_text

SECONDS: Final = 60.0
_LOCK: Final = RLock()


def check_rule(rule: Rule, seconds: float = SECONDS, spare: bool = True) -> Verdict:
    """Proves one rule, or finds where it is wrong, and which of its flags and guards it can do without.

    It stops at the first counterexample; after `seconds` it gives up, and the rule does not hold. Without `spare` it does not ask what
    the rule can do without.

    >>> from rewrites.books import load_book
    >>> right, wrong = load_book("rule a: x * 1.0 => x\\nrule b: x + 0.0 => x\\n")
    >>> check_rule(right).holds, check_rule(wrong).holds, check_rule(wrong).why
    (True, False, 'f32 x=-0.0: 0.0 is not -0.0')
    """
    with _LOCK:  # z3 keeps one context for all threads
        deadline = Deadline.after(seconds)
        outcome = _proof(rule, deadline)
        if not outcome.proved:
            return Verdict(rule.name, False, outcome.method, outcome.domain, outcome.why, refuted=outcome.refuted)
        remember(rule)
        proved = Verdict(rule.name, True, outcome.method, outcome.domain)
        if not spare:
            return proved
        flags = _spare_flags(rule, deadline)
        unneeded, undecided = _spare_guards(rule, deadline)
        return replace(proved, spare=flags, spare_guards=unneeded, open_guards=undecided)


def holds(rule: Rule, seconds: float = SECONDS) -> bool:
    """Whether the rule is proved, without a look at what it could spare."""
    with _LOCK:
        proved = _proof(rule, Deadline.after(seconds)).proved
    if proved:
        remember(rule)
    return proved


def _proof(rule: Rule, deadline: Deadline) -> Outcome:
    if rule.within:
        return measured(rule, deadline)
    if rule.needs - EXCLUSIONS:
        return real_proof(rule, deadline)
    return exact_proof(rule, deadline)


def _spare_flags(rule: Rule, deadline: Deadline) -> frozenset[Flag]:
    """Flags without which the rule is proved all the same."""
    if not rule.needs or rule.within:
        return frozenset()
    return frozenset(flag for flag in rule.needs if _proof(replace(rule, needs=rule.needs - {flag}), deadline).proved)


def _words(guard: Guard) -> str:
    return source_text(guard.span) if guard.span.source.text else guard.kind


def _spare_guards(rule: Rule, deadline: Deadline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Guards without which the rule is proved all the same, and those of which neither that nor a counterexample was found."""
    unneeded: list[str] = []
    undecided: list[str] = []
    for guard in rule.guards:
        if guard.kind in SCOPE:  # there is nothing to drop
            continue
        outcome = _proof(replace(rule, guards=tuple(g for g in rule.guards if g is not guard)), deadline)
        if not outcome.refuted:
            (unneeded if outcome.proved else undecided).append(_words(guard))
    return tuple(unneeded), tuple(undecided)

"""Which guards are claimed of a rule that some inputs break, and how soon they are proved."""

import pytest

from extract.synth_settle import settled
from rewrites.books import load_book
from rewrites.prove_integers import true_of_integers
from rewrites.prove_unroll import unrolled
from rewrites.prove_values import assignments
from rewrites.prove_verdict import Deadline
from rewrites.wording import rule_text


def claims(text: str) -> list[list[str]]:
    (rule,) = load_book(f"rule r: {text}\n")
    return [[rule_text(one, "r").partition(": ")[2] for one in tries] for tries in settled(rule, False).tries]


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        ("(a * b) % b => 0 on int", "a * b % b => 0 if nowrap(a * b)"),
        ("(a + b) % c => a % c on int", "(a + b) % c => a % c if divides(c, b), nowrap(a + b)"),
        ("a < a + b => 0 < b on int", "a < a + b => 0 < b if nowrap(a + b)"),
        ("(a // b) // c => a // (b * c) on int", "a // b // c => a // (b * c) if b >= 0, c >= 0, nowrap(b * c)"),
        ("a // b => 0 on int", "a // b => 0 on int if 0 <= a, a < b"),
        ("a // a => 1 on int", "a // a => 1 on int if a != 0"),
    ],
)
def test_the_usual_guards_come_first(text, claimed):
    assert claimed in [tries[0] for tries in claims(text)]


@pytest.mark.parametrize(
    "text", ["a + b < c + b => a < c on int", "a < b + 1 => a <= b on int", "((a // b) // c) // c => (a // b) // c on int"]
)
def test_guards_leave_something_to_say(text):
    """Not: under `a <= c, c <= a` both are false; under `0 <= a, a < b` both are 0."""
    for one in (one for tries in claims(text) for one in tries):
        assert "a <= c, c <= a" not in one
        assert not one.endswith(" if 0 <= a, a < b")
        assert not one.endswith(" if 0 <= b, b < a")


@pytest.mark.parametrize(
    "text",
    [
        "0 // a => 0 on int",
        "a // b => 0 on int if 0 <= a, a < b",
        "(a % (b % c)) < c => (a % c) < c on int",
        "(a - b % c) % c => (a - b) % c on int if nowrap(a - b % c), nowrap(a - b)",
        "(a + b) % c => (a % c + b) % c on int if nowrap(a + b), nowrap(a % c + b)",
    ],
)
def test_divisions_are_proved_at_once(text):
    """With a tenth of the resources: before, z3 looked for solutions of few bits first, and each took most of a second."""
    (rule,) = load_book(f"rule r: {text}\n")
    for dtypes in assignments(rule):
        for ground in unrolled(rule, dtypes, False):
            assert true_of_integers(ground, Deadline.after(60), resources=250_000).proved

"""Normal forms of candidates: only rules that make every instance smaller, ask for no guard and need no flag that is not given."""

import pytest

from extract.suggest_pool import Pool
from extract.synth_minimal import Limits, Minimiser
from extract.synth_pool import Counted
from extract.synth_propose import Candidate
from extract.synth_reduce import Reducer, matches
from extract.synth_values import FLOAT_POWER, POWER, inputs
from extract.synth_words import rule_of, tree_of
from extract.synth_work import Vocabulary, workloads
from kernel_ir.fastmath import flags
from rewrites.books import load_book


def tree(text, kind="int"):
    (rule,) = load_book(f"rule t: ({text}) - a => 0 on {kind}\n".replace(" 0 on float", " 0.0 on float"))
    return tree_of(rule.lhs, rule, kind)[1]


def reducer(text):
    made = Reducer()
    for rule in load_book(text):
        made.learn(rule)
    return made


def candidate(small, large, kind="int"):
    pair = tree(small, kind), tree(large, kind)
    return Candidate(rule_of(*pair, kind), *pair, kind, False, (0, 0, 0, 0))


def test_a_term_is_reduced_to_its_smallest_known_form():
    made = reducer("rule zero: x + 0 => x on int\nrule self: x - x => 0 on int\n")
    assert made.normal(tree("(a * b - a * b) + a"), "int", frozenset()) == tree("a * 0")[1]
    assert made.normal(tree("(a - a) + (a - a)"), "int", frozenset()) == tree("a * 0")[2]
    assert made.normal(tree("0.0 + a", "float"), "float", frozenset()) == tree("0.0 + a", "float")


@pytest.mark.parametrize(
    "text",
    ["rule r: a - b => a + -b on float", "rule r: a / a => 1.0 if nonzero(a), finite(a)", "rule r: (a + b) * c => a * c + b * c on int"],
)
def test_what_does_not_shrink_or_asks_for_a_guard_reduces_nothing(text):
    made = reducer(f"{text}\n")
    for kind, term in (("float", "a - b"), ("float", "a / a"), ("int", "(a + b) * c")):
        assert made.normal(tree(term, kind), kind, frozenset()) == tree(term, kind)


def test_a_rule_reduces_under_its_flags_alone():
    made = reducer("rule r: a / a => 1.0 needs reassoc\n")
    assert made.normal(tree("b * (a / a)", "float"), "float", frozenset()) == tree("b * (a / a)", "float")
    assert made.normal(tree("b * (a / a)", "float"), "float", flags("reassoc")) == tree("b * 1.0", "float")


def test_a_pattern_binds_a_variable_once_and_sees_either_order():
    assert matches(tree("a * (b - a)"), tree("(c - b) * b"), {})
    assert not matches(tree("a * (b - a)"), tree("(c - b) * c"), {})


def test_a_candidate_that_gets_smaller_stands_for_what_is_left():
    known = load_book("rule zero: x + 0 => x on int\n")
    minimiser = Minimiser(tuple(known), limits=Limits(10, 10, 10))
    found = [rule for some in minimiser.run([candidate("b * a", "(a + 0) * b")]) for rule in some]
    assert [(rule.lhs.op, rule.rhs.op) for rule in found] == [("mul", "mul")]
    assert minimiser.looked == 1


def test_calls_in_other_processes_are_counted_and_limited():
    with Pool() as pool:
        counted = Counted(pool)
        assert list(counted.map(abs, [-1, 2], 10.0)) == [1, 2]
        assert list(counted.map(pow_of_nines, [9], 0.2)) == [None]
    assert counted.workers >= 0.2


def pow_of_nines(n):
    """Takes for ever."""
    while n:
        n = n * 9 % 9973 or 1
    return n


def test_powers_of_two_and_their_multiples():
    _, b, c = inputs(POWER, 3, 0)
    assert all(v > 0 and v & (v - 1) == 0 for v in b.tolist())
    assert not (c % b).any()
    assert set(inputs(FLOAT_POWER, 2, 0)[1].tolist()) <= {2.0**n for n in range(-8, 9)}


def test_a_comparison_of_integers_is_compared_on_floats_too():
    made = [w for w in workloads(Vocabulary(("add",), ("lt",))) if w.domain.is_float]
    assert any(node.op == "lt" for w in made for node in w.nodes)

"""What the synthesiser proposes: the most general of what looks equal, zeros, proofs tried twice; the halves measured."""

import numpy as np
import pytest

from benchmarks.synth import halves, targets, vocabulary
from extract import synth_minimal
from extract.synth_minimal import Limits, Minimiser
from extract.synth_propose import Candidate, most_general
from extract.synth_trees import Leaf, Node
from extract.synth_values import POSITIVE, WRAP
from extract.synth_words import rule_of

A, B, ZERO = (Leaf("a", "x"),), (Leaf("b", "x"),), (Leaf("0", "x", 0),)


def node(op, *args):
    return (Node(op), *args)


@pytest.mark.parametrize("domain", [WRAP, POSITIVE], ids=lambda d: d.name)
def test_what_holds_of_any_term_is_said_of_a_variable(domain):
    term = node("mul", node("sub", node("mul", A, B), A), ZERO)
    assert most_general(domain, ZERO, term) == (ZERO, node("mul", A, ZERO))


def test_what_holds_of_a_kind_of_terms_keeps_them():
    pair = ZERO, node("mod", node("mul", A, B), A)
    assert most_general(POSITIVE, *pair) == pair


@pytest.mark.parametrize(("op", "negative"), [("max", False), ("min", True)])
def test_which_of_two_zeros_an_extreme_gives_depends_on_no_order(op, negative):
    one, two = np.array([0.0, -0.0], np.float32), np.array([-0.0, 0.0], np.float32)
    assert np.signbit(Node(op).value([one, two])).tolist() == [negative] * 2


def test_a_claim_whose_proof_takes_too_long_is_tried_again(monkeypatch):
    monkeypatch.setattr(synth_minimal, "SECONDS", (1e-9, 10.0))
    pair = node("mul", B, A), node("mul", A, B)
    found = Minimiser((), limits=Limits(5, 5, 5))
    one = Candidate(rule_of(*pair, "int"), *pair, "int", False, (0, 0, 0, 0))
    assert [rule.lhs.op for some in found.run([one]) for rule in some] == ["mul"]
    assert found.proofs == 2


def test_every_rule_is_of_one_half():
    words = vocabulary()
    development, held_out = ({rule.name for rule in half} for half in halves(words).values())
    assert not development & held_out
    assert len(development) + len(held_out) == len(targets(words))

"""A typed rule's text reads back as the same rule, whatever its names."""

import pytest

from rewrites.books import default_rules, load_book
from rewrites.wording import canonical_text, rule_text

RULES = {rule.name: rule for rule in default_rules()}


@pytest.mark.parametrize("name", RULES)
def test_the_text_of_a_rule_reads_back(name):
    rule = RULES[name]
    (read,) = load_book(rule_text(rule) + "\n")
    assert (read.name, read.both, read.needs, len(read.guards)) == (rule.name, rule.both, rule.needs, len(rule.guards))
    assert canonical_text(read) == canonical_text(rule)


def test_rules_that_differ_in_names_alone_have_one_canonical_text():
    a, b, c = load_book(
        "rule a: sum(i: x * y) => x if i not in x needs reassoc\n"
        "rule b: sum(k: u * v) => u if k not in u needs reassoc\n"
        "rule c: x * y => y * x on float\n"
    )
    assert canonical_text(a) == canonical_text(b) != canonical_text(c)

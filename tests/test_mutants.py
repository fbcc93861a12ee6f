"""The oracle of the mutation test finds wrong rules and no fault in right ones; a slice of the books has its mutants killed."""

import json

import pytest

from benchmarks.mutants import EQUIVALENT, KILLED, NOT_LOADED, SURVIVED, main, summary, trial, trials
from benchmarks.mutations import Mutant, mutants
from benchmarks.oracle import counterexample
from kernel_ir.parser import parse_rules
from rewrites.books import default_rules
from tests.test_rules import WRONG, one

RULES = default_rules()


@pytest.mark.parametrize("text", WRONG)
def test_oracle_finds_what_is_wrong(text):
    assert counterexample(one(text))


@pytest.mark.parametrize("rule", RULES[::7], ids=lambda rule: rule.name)
def test_oracle_finds_no_fault_in_a_rule_of_the_books(rule):
    assert counterexample(rule, points=6_000) == ""


KINDS = [
    ("x + y => y - x on int", "swap operands", "x + y => (x - y) on int"),
    ("x // n => 0 on int if 0 <= x, x < n", "drop a guard", "x // n => 0 on int if x < n"),
    ("x // n => 0 on int if 0 <= x, x < n", "shift a range", "x // n => 0 on int if 0 <= x, x <= n"),
    ("a * b + c => fma(a, b, c) on float needs contract", "drop the flag contract", "a * b + c => fma(a, b, c) on float"),
    ("x + 0.0 => x needs nsz", "change a constant", "x + 1.0 => x needs nsz"),
    ("min(a, b) => a on int if a <= b", "a neighbouring op", "max(a, b) => a on int if a <= b"),
    ("min(a, b) => a on int if a <= b", "another variable", "min(a, b) => b on int if a <= b"),
    ("-(-x) => x on float", "negate a term", "--x => (-x) on float"),
    ("-(-x) => x on float", "drop a term", "-(x) => x on float"),
    ("x - x => 0.0 if finite(x)", "weaken a guard", "x - x => 0.0 if notnan(x)"),
    ("exp(x) => 1.0 if x <= 1.0 needs afn within 2", "tighten the error", "exp(x) => 1.0 if x <= 1.0 needs afn within 0.02"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "changed"), KINDS, ids=[kind for _, kind, _ in KINDS])
def test_each_kind_of_change_is_made(text, kind, changed):
    (rule,) = parse_rules(f"rule r: {text}\n")
    found = [m.text.removeprefix("rule r: ") for m in mutants(rule, 1000) if m.kind == kind]
    assert changed in found


def test_mutants_are_the_same_each_time_and_never_the_rule_itself():
    (rule,) = parse_rules("rule r: (a * n + b) // n => a on int if 0 <= b, b < n\n")
    found = mutants(rule, 9)
    assert found == mutants(rule, 9)
    assert len({m.text for m in found}) == 9
    assert all(m.text != "rule r: (a * n + b) // n => a on int if 0 <= b, b < n" for m in found)


FATES = [
    ("x + 0.0 => x", KILLED),
    ("x * 1.0 => x", EQUIVALENT),
    ("sum(i: a * f) => a * sum(i: f) on int", NOT_LOADED),
]


@pytest.mark.parametrize(("text", "outcome"), FATES)
def test_fates(text, outcome):
    assert trial("user", Mutant("r", "none", f"rule r: {text}"), 12_000).outcome == outcome


@pytest.mark.parametrize("family", sorted({rule.family for rule in RULES}))
def test_a_slice_of_each_family_has_its_mutants_killed(family):
    found = list(trials(family, 5, 12, 12_000, processes=1))
    result = summary(found)
    assert result["survivors"] == []
    assert result["outcomes"][KILLED] > 2 * result["outcomes"][SURVIVED] + 10
    assert result["least_mutants_of_a_rule"] >= 5


def test_script_writes_its_results(tmp_path, capsys):
    path = tmp_path / "mutants.json"
    assert main(["--family", "select", "--limit", "2", "--each", "6", "--points", "12000", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["mutants"] == sum(result["outcomes"].values())
    assert "the checker refuses" in capsys.readouterr().out

"""Certificates: every built-in rule has one, a slice is proved anew, and a rule without one does not load."""

import json
import subprocess
import sys

import pytest

import kernel_ir as kir
from kernel_ir.cli import main
from kernel_ir.errors import RuleError
from rewrites.books import BOOKS, PACKS, load_book, proved_book
from rewrites.certificates import key, path_of, read, text_of, unproved
from rewrites.prove import check_rule

PATHS = [*sorted(BOOKS.glob("*.rules")), *sorted(PACKS.glob("*.rules"))]
SLICE = [rule for path in PATHS for rule in load_book(path) if int(key(rule), 16) % 120 == 0]
"""About one rule in 120, by its key: an edited rule may come in, and the same rules are chosen everywhere."""
KERNEL = "kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 1.0 }"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_rule_has_its_certificate(path):
    assert [rule.name for rule in unproved(load_book(path), read(path))] == [], "run `kir rules check`"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_certificates_are_sorted_one_a_line_and_of_this_book(path):
    text = path_of(path).read_text("utf-8")
    assert text == text_of(read(path))
    assert set(json.loads(text)) == {rule.name for rule in load_book(path)}


@pytest.mark.parametrize("rule", SLICE, ids=lambda rule: f"{rule.family} {rule.name}")
def test_slice_is_proved_anew(rule):
    verdict = check_rule(rule)
    assert verdict.holds, verdict.why


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "my.rules"
    path.write_text("rule a: x * 1.0 => x\nrule b: a + b => b + a on int\n")
    return path


def test_a_book_loads_once_it_is_checked_and_not_when_it_was_edited(book):
    with pytest.raises(RuleError, match=r"rule 'a' .* is not proved") as error:
        proved_book(book)
    assert f"kir rules check {book}" in str(error.value)
    assert error.value.span.line == 1
    assert main(["rules", "check", "--jobs", "1", str(book)]) == 0
    assert [r.name for r in proved_book(book)] == ["a", "b"]
    book.write_text(book.read_text().replace("x * 1.0", "x / 1.0"))
    with pytest.raises(RuleError, match="rule 'a' is not proved"):
        kir.optimize(kir.parse(KERNEL)["k"], target="cpu", rules=(str(book),))


def test_checking_again_proves_nothing_and_writes_the_same(book, capsys):
    main(["rules", "check", "--jobs", "1", str(book)])
    first = path_of(book).read_bytes()
    assert main(["rules", "check", "--json", str(book)]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] == 0
    assert main(["rules", "check", "--all", "--jobs", "1", str(book)]) == 0
    assert path_of(book).read_bytes() == first


def test_wrong_rule_exits_with_1_and_its_counterexample(book, capsys):
    book.write_text("rule a: x * 1.0 => x\nrule wrong: x + 0.0 => x\n")
    assert main(["rules", "check", "--jobs", "1", str(book)]) == 1
    assert "rule 'wrong' is wrong: f32 x=-0.0: 0.0 is not -0.0" in capsys.readouterr().err
    assert set(read(book)) == {"a"}


@pytest.mark.parametrize("arguments", [["no/such.rules"], ["--pack", "no-such-pack"]])
def test_bad_input_exits_with_2(arguments):
    assert main(["rules", "check", *arguments]) == 2


def test_certificates_that_cannot_be_read(book):
    path_of(book).write_text("[1]")
    with pytest.raises(RuleError, match="cannot read the certificates"):
        proved_book(book)


def test_rules_as_text_are_proved_on_the_spot():
    rules = kir.rules("rule my_one: x * 1.0 => x\n")
    assert kir.optimize(kir.parse(KERNEL)["k"], target="cpu", rules=rules).text
    with pytest.raises(RuleError, match=r"rule 'bad' is wrong: f32 x=-0\.0"):
        kir.rules("rule bad: x + 0.0 => x\n")


def test_rule_objects_that_nobody_proved_are_refused():
    (rule,) = load_book("rule unseen: (x * 1.0) * 1.0 => x\n")
    with pytest.raises(RuleError, match="rule 'unseen' is not proved"):
        kir.optimize(kir.parse(KERNEL)["k"], target="cpu", rules=(rule,))


def test_optimizing_needs_no_prover():
    code = (
        "import sys, kernel_ir as kir; k = kir.parse('kernel k(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 1.0 }')['k'];"
        "kir.optimize(k, target='cpu', check=False); sys.exit(any(m in sys.modules for m in ('z3', 'sympy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

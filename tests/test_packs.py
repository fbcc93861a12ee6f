"""Each pack's rules hold; a pack takes the place of the built-in books and finds what its authors say it finds."""

import json

import pytest

import kernel_ir as kir
from benchmarks.oracle import counterexample
from kernel_ir.cli import main
from kernel_ir.errors import RuleError
from rewrites.books import PACKS, default_rules, load_book, pack_names, pack_rules, pack_says, rules_of
from rewrites.certificates import read, unproved

PACKED = [rule for pack in pack_names() for rule in pack_rules(pack)]
SIZES = {"acc-saturator": 9, "gelu-tanh": 8, "symbolics": 27, "taso": 15}


@pytest.mark.parametrize("rule", PACKED, ids=lambda rule: f"{rule.family} {rule.name}")
def test_oracle_finds_no_fault_in_a_rule_of_a_pack(rule):
    assert counterexample(rule) == ""


@pytest.mark.parametrize("pack", pack_names())
def test_rules_of_a_pack_have_their_certificates(pack):
    assert unproved(pack_rules(pack), read(PACKS / f"{pack}.rules")) == []


def test_packs_are_the_published_ones():
    assert {pack: len(pack_rules(pack)) for pack in pack_names()} == SIZES
    assert all(pack_says(pack) for pack in SIZES)
    assert rules_of(None) == default_rules()


def test_acc_saturator_has_three_two_and_four():
    names = [rule.name.partition("_")[0] for rule in pack_rules("acc-saturator")]
    assert [names.count(kind) for kind in ("fma", "comm", "assoc")] == [3, 2, 4]


def test_unknown_pack():
    with pytest.raises(RuleError, match="no pack of rules is called 'tasso'") as error:
        kir.optimize(kernel("y[i] = x[i]"), target="cpu", pack="tasso")
    assert error.value.hint == "did you mean 'taso'?"


def kernel(body, dtype="f64"):
    return kir.parse(f"kernel f(x: {dtype}[N], z: {dtype}[N], a: {dtype}[N, N]) -> (y: {dtype}[N]) {{ {body} }}")["f"]


FOUND = [
    ("acc-saturator", "contract", None, "y[i] = x[i] + z[i] * x[i]", "fma_add"),
    ("symbolics", "afn", None, "y[i] = exp(x[i]) * exp(z[i])", "exp_product"),
    ("symbolics", "afn", None, "y[i] = sin(x[i]) / cos(x[i])", "tangent"),
    ("taso", "reassoc", None, "y[i] = sum(k: sum(j: a[i, j] * a[j, k]) * x[k])", "matmul_assoc"),
    ("gelu-tanh", "afn", 1e-5, "y[i] = tanh(min(max(x[i], -1.0), 1.0))", "tanh_pade"),
]


@pytest.mark.parametrize(("pack", "flags", "tolerance", "body", "rule"), FOUND, ids=[f"{row[0]} {row[4]}" for row in FOUND])
def test_pack_finds(pack, flags, tolerance, body, rule):
    dtype = "f32" if rule == "tanh_pade" else "f64"
    target = "cuda:sm_80" if rule == "tangent" else "cpu"  # tan has no vector form on the CPU, sin and cos have
    result = kir.optimize(kernel(body, dtype), target=target, fast_math=flags, tolerance=tolerance, pack=pack)
    assert set(result.rules) <= {r.name for r in pack_rules(pack)} | {"share"}
    assert rule in result.rules, result.notes
    assert result.cycles < result.baseline_cycles or rule == "fma_add"


def test_tanh_stays_where_no_interval_is_proved():
    result = kir.optimize(kernel("y[i] = tanh(x[i])"), target="cpu", fast_math="all", pack="gelu-tanh")
    assert "tanh(x[i])" in result.text


def run(capsys, *words):
    code = main(list(words))
    return code, capsys.readouterr()


def test_rules_packs(capsys):
    code, shown = run(capsys, "rules", "packs", "--json")
    assert code == 0
    assert {p["name"]: p["rules"] for p in json.loads(shown.out)["packs"]} == SIZES
    code, shown = run(capsys, "rules", "packs")
    assert shown.out.splitlines()[0].startswith("acc-saturator: 9 rules. The nine rules of ACC Saturator")


LISTS = [
    (["--pack", "acc-saturator"], 9),
    (["--pack", "symbolics", "--needs", "arcp"], 1),
    (["--family", "select"], sum(r.family == "select" for r in default_rules())),
    (["--needs", "contract"], sum("contract" in map(str, r.needs) for r in default_rules())),
]


@pytest.mark.parametrize(("words", "count"), LISTS)
def test_rules_list_is_a_rule_book(capsys, words, count):
    code, shown = run(capsys, "rules", "list", *words)
    assert code == 0
    assert shown.err == f"{count} rules\n"
    assert len(load_book(shown.out)) == count
    assert len(json.loads(run(capsys, "rules", "list", *words, "--json")[1].out)["rules"]) == count


def test_rules_list_on_a_terminal_is_a_table(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "140")
    code, shown = run(capsys, "rules", "list", "--pack", "acc-saturator")
    assert code == 0
    assert "acc-saturator: 9 rules" in shown.out
    assert "fma_add" in shown.out and "rule fma_add:" not in shown.out
    assert "within" not in shown.out


def test_wrong_pack_and_family(capsys):
    code, shown = run(capsys, "rules", "list", "--pack", "taco")
    assert code == 2 and "did you mean 'taso'?" in shown.err
    code, shown = run(capsys, "rules", "list", "--pack", "taso", "--family", "index")
    assert code == 2 and "the families are taso" in shown.err

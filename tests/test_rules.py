"""Every rule of the books is checked by itself; wrong rules, and ill-formed ones, are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernel_ir.errors import KernelError
from kernel_ir.fastmath import Flag
from rewrites.books import default_rules, load_book
from rewrites.compile import commands, rule_name
from rewrites.prove import check_rule

RULES = {rule.name: rule for rule in default_rules()}


def one(text):
    (rule,) = load_book(f"rule r: {text}\n")
    return rule


def test_no_rule_is_there_twice():
    sides = {}
    for rule in RULES.values():
        text = rule.text.partition(":")[2]
        assert sides.setdefault(text, rule.name) == rule.name


WRONG = [
    "x + 0.0 => x",
    "0.0 - x => -x",
    "x * 0.0 => 0.0",
    "x * 0.0 => 0.0 needs nnan",
    "x - x => 0.0",
    "x / x => 1.0",
    "x / x => 1.0 if nonzero(x)",
    "sqrt(x * x) => x needs afn",
    "sqrt(x) * sqrt(x) => x needs afn",
    "(a + b) + c => a + (b + c) on float",
    "(a * b) * c => a * (b * c) on float",
    "a * c + b * c => (a + b) * c on float",
    "a * b + c => fma(a, b, c)",
    "a / b => a * (1.0 / b)",
    "x / c => x * (1.0 / c) if is_const(c)",
    "-(a - b) => b - a on float",
    "(a if a < b else b) => min(a, b) on float",
    "fmin(a, b) => min(a, b)",
    "x == x => true on float",
    "not (a < b) => b <= a on float",
    "abs(x) => x on float if nonneg(x)",
    "max(a, min(a, b)) => a on float",
    "exp(log(x)) => x needs afn",
    "log(a * b) => log(a) + log(b) needs afn",
    "x ** 6 => (x * x) * x ** 4 on float",
    "x ** 2.0 => x",
    "floor(a + b) => floor(a) + floor(b) needs reassoc",
    "(a // b) * b => a on int",
    "(a * n) // n => a on int",
    "(a * n) // n => a on int if n != 0",
    "(a * n + b) // n => a on int if 0 <= b, b < n",
    "(a * n + b) // n => a on int if b < n, nowrap(a * n + b)",
    "x % n => x on int if x < n",
    "x // n => 0 on int if 0 <= x, x <= n",
    "(x // n) * n + x % n => x on int",
    "a + c < b + c => a < b on int",
    "a * c < b * c => a < b on int if nowrap(a * c), nowrap(b * c)",
    "min(a * c, b * c) => min(a, b) * c on int if nowrap(a * c), nowrap(b * c)",
    "x // c => x >> c on int",
    "x % c => x & (c - 1) on int if c > 0",
    "-a < -b => b < a on int",
    "abs(x) => x on int if x != 0",
    "f64(f32(x)) => x on f64",
    "sum(i: f + g) => sum(i: f) + sum(i: g) on float",
    "sum(i: a * f) => a * sum(i: f) if i not in a needs nsz",
    "sum(i in l..h: a) => a * f32(h - l) on f32 if i not in a, nowrap(h - l) needs reassoc",
    "max(i in l..h: a) => a on float if i not in a",
    "max(i: c * f) => c * max(i: f) if i not in c, finite(c)",
    "expsum(i: s, v) => sum(i: exp(s) * v) needs reassoc",
    "prod(i: f + g) => prod(i: f) + prod(i: g) needs reassoc",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_rule_is_rejected(text):
    assert not check_rule(one(text)).holds


def test_needless_flag_is_reported():
    assert check_rule(one("x * 1.0 => x needs nnan")).spare == {Flag.NNAN}
    assert check_rule(one("x - x => 0.0 needs nnan, ninf")).spare == {Flag.NINF}


BAD = Path(__file__).parent / "bad_rules"
ILL_FORMED = sorted(p.name for p in BAD.glob("*.rules"))


@pytest.mark.parametrize("name", ILL_FORMED)
def test_ill_formed_book(name, monkeypatch):
    """Each file in tests/bad_rules has one fault; the file of the same name with .txt holds the exact error."""
    monkeypatch.chdir(BAD)
    with pytest.raises(KernelError) as error:
        load_book(name)
    kind = type(error.value).__name__.rstrip("_")
    assert f"{kind}: {error.value}\n" == Path(name).with_suffix(".txt").read_text("utf-8")


def test_every_message_says_what_to_write():
    for name in ILL_FORMED:
        text = (BAD / name).with_suffix(".txt").read_text("utf-8")
        assert "  help: " in text or "expected" in text, name
    assert len(ILL_FORMED) >= 50


@pytest.mark.parametrize(
    ("book", "message"),
    [
        ("no/such.rules", "cannot read the rule book no/such.rules: No such file or directory"),
        (str(Path(__file__).parent), "cannot read the rule book .*: Is a directory"),
        ("const TWO = 2\n", "holds no rule"),
    ],
)
def test_books_that_cannot_be(book, message):
    with pytest.raises(KernelError, match=message):
        load_book(book)


def test_commands_lead_back_to_their_rules():
    names = [c.name for rule in RULES.values() for c in commands(rule)]
    assert len(set(names)) == len(names)
    assert {rule_name(n) for n in names} == {name for name, rule in RULES.items() if not rule.substitutes}


def test_importing_books_leaves_egglog_alone():
    code = "import sys, rewrites.books; rewrites.books.default_rules(); sys.exit('egglog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

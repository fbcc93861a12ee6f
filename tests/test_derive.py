"""Whether rules make another one needless: derived by others of the books, or not at all."""

import pytest

from rewrites.books import default_rules, load_book
from rewrites.derive import all_derivable, derivable

RULES = {rule.name: rule for rule in default_rules()}


def one(text):
    (rule,) = load_book(f"rule r: {text}\n")
    return rule


def book(*names):
    return tuple(RULES[name] for name in names)


DERIVED = [
    ("0 + x => x on int", ("add_comm", "iadd_zero")),
    ("x - x => 0 on int", ("isub_to_add", "iadd_multiple", "imul_zero", "mul_comm", "add_comm")),
    ("(a + b) - a => b on int", ("add_comm", "isub_cancel")),
    ("x * 3.0 + x * 2.0 => x * (3.0 + 2.0) needs reassoc", ("mul_comm", "distribute")),
    ("sum(i: f * 2.0) => sum(i: f) * 2.0 needs reassoc", ("mul_comm", "sum_factor")),
    ("sum(j: a * f) => a * sum(j: f) if j not in a needs reassoc", ("sum_factor",)),
    ("(x * c) // c => x on int if c != 0, nowrap(x * c)", ("div_exact",)),
    ("(i * n + j) // n => i on int if 0 <= j, j < n, nowrap(i * n + j)", ("div_of_mod",)),
    ("x % 8 => x & 7 on int", ("mod_pow2_mask",)),
    ("(x // c) // d => x // (d * c) on int if is_const(c), is_const(d), c > 0, d > 0, nowrap(d * c)", ("div_div", "mul_comm")),
    ("x / x => 1.0 if positive(x), finite(x)", ("div_self",)),
    ("a * b + c => fma(b, a, c) needs contract", ("fuse_multiply", "mul_comm")),
    ("max(x, y) - y => max(x - y, 0) on int if nowrap(x - y)", ("isub_self", "max_sub")),
    ("a - b => -(b - a) on float needs nsz", ("neg_sub",)),
    ("(a + b) * (a + b) => (b + a) ** 2 on number", ("add_comm", "powi_2")),
]
NOT_DERIVED = [
    ("x + 0.0 => x", ("add_minus_zero", "add_comm", "add_zero")),  # add_zero needs nsz
    ("x / x => 1.0 if nonzero(x)", ("div_self",)),
    ("(i * n + j) // n => i on int if 0 <= j, nowrap(i * n + j)", ("div_of_mod",)),
    ("(i * n + j) // n => i on int if 0 <= j, j < n", ("div_of_mod",)),
    ("sum(i: a * f) => a * sum(i: f) on float if i not in a", ("sum_factor",)),
    ("a - b => b - a on int", ("add_comm", "isub_to_add", "isub_add")),
    ("(a + b) + c => a + (b + c) on number", ("iadd_assoc", "add_comm")),  # holds for integers alone
    ("x * c => c on int if is_const(c)", ("imul_zero", "imul_one")),
    ("f32(f64(x)) => x on f32", ("f64_of_f32",)),
]


def kept(names):
    return tuple(RULES[n] for n in names if n in RULES)


@pytest.mark.parametrize(("text", "names"), DERIVED)
def test_derived(text, names):
    assert derivable(one(text), kept(names))


@pytest.mark.parametrize(("text", "names"), NOT_DERIVED)
def test_not_derived(text, names):
    assert not derivable(one(text), kept(names))


def test_many_at_once_say_what_each_says_alone():
    rules = tuple(RULES.values())
    some = tuple(one(text) for text, _ in (*DERIVED, *NOT_DERIVED))
    used = tuple(r for r in rules if r.name in {n for _, names in (*DERIVED, *NOT_DERIVED) for n in names})
    assert all_derivable(some, used) == tuple(derivable(rule, used) for rule in some)


def test_a_rule_derives_itself():
    some = tuple(rule for rule in RULES.values() if not rule.substitutes)[::7]
    missing = [rule.name for rule, found in zip(some, all_derivable(some, some), strict=True) if not found]
    # What `a != b` says of two unknowns, and an order of sums or quotients, has no fact of its own.
    assert set(missing) <= {"eq_known_not", "div_small_negative", "structures_again"}

"""Halide's index arithmetic: pairs that are equal meet in the e-graph, pairs that are not never do.

Variables are i64 in -2**15..2**15, so the interval analysis knows that nothing wraps. Halide divides by Euclid's rule, which `//` and `%`
say once the sign of the divisor is settled.
"""

import functools
import json

import pytest

from kernel_ir.parser import parse
from rewrites.books import default_rules
from rewrites.encode import encode
from rewrites.saturate import Budget, saturate
from tests.conftest import SHARED

LIMIT = 2**15
BUDGET = Budget(seconds=20.0, nodes=2_000, rounds=6)
UNPROVED_ALLOWED = 2
INFIX = {"+": "+", "-": "-", "*": "*", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "==": "==", "!=": "!=", "&&": "and", "||": "or"}


def text(e):
    """A Halide expression as KIR."""
    match e:
        case bool():
            return "(0 == 0)" if e else "(0 != 0)"
        case int():
            return f"({e})" if e < 0 else str(e)
        case str():
            return e
        case ["select", c, a, b]:
            return f"({text(a)} if {text(c)} else {text(b)})"
        case ["min" | "max" as op, a, b]:
            return f"{op}({text(a)}, {text(b)})"
        case ["neg", a]:
            return f"(-{text(a)})"
        case ["!", a]:
            return f"(not {text(a)})"
        case ["/", a, int() as d]:
            return f"({text(a)} // {d})" if d >= 0 else f"(-({text(a)} // {-d}))"
        case ["%", a, int() as d]:
            return f"({text(a)} % {abs(d)})"
        case ["/", a, b]:
            return f"(({text(a)} // {text(b)}) if {text(b)} > 0 else -({text(a)} // (-{text(b)})))"
        case ["%", a, b]:
            return f"({text(a)} % abs({text(b)}))"
        case [op, a, b]:
            return f"({text(a)} {INFIX[op]} {text(b)})"
    raise AssertionError(e)


def names(e):
    return {e} if isinstance(e, str) else set().union(*map(names, e[1:])) if isinstance(e, list) else set()


def is_bool(e):
    return isinstance(e, bool) or (isinstance(e, list) and e[0] in ("<", "<=", ">", ">=", "==", "!=", "&&", "||", "!"))


def merges(left, right, pre, bools):
    """Whether both sides end in one e-class."""
    variables = sorted(names(left) | names(right) | names(pre or 0))
    integers = [v for v in variables if v not in bools]
    params = ", ".join(f"{v}: {'bool' if v in bools else 'i64'}" for v in variables) or "unused: i64"
    facts = [f"{-LIMIT} <= {v}, {v} <= {LIMIT}" for v in integers] + ([text(pre)] if pre else [])
    kind = "bool" if is_bool(left) or is_bool(right) or left in bools else "i64"
    where = f" where {', '.join(facts)}" if facts else ""
    kernel = parse(f"kernel p({params}) -> (l: {kind}, r: {kind}){where} {{ l = {text(left)}\n r = {text(right)} }}")["p"]
    rules = tuple(rule for rule in default_rules() if not rule.needs)
    result = saturate(encode(kernel), rules, BUDGET)
    assert result.frozen is not None, result.message
    return result.frozen.roots[0] == result.frozen.roots[1]


@functools.cache
def cases(name):
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the public data are not part of the repository")
    return json.loads(path.read_text("utf-8"))["cases"]


def test_equal_pairs_meet(capsys):
    pairs = cases("int_pairs.json")
    unproved = [c for c in pairs if not merges(c["expr"], c["expected"], c["pre"], c["bool_vars"])]
    with capsys.disabled():
        print(f"\n{len(pairs) - len(unproved)} of {len(pairs)} pairs proved equal; not proved:")
        for c in unproved:
            print(f"  {c['id']}  {text(c['expr'])}  ==  {text(c['expected'])}")
    assert len(unproved) <= UNPROVED_ALLOWED


def test_unequal_pairs_never_meet():
    met = [c["id"] for c in cases("int_wrong.json") if merges(c["expr"], c["claimed"], c["pre"], c["bool_vars"])]
    assert not met

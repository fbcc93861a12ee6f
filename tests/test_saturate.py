"""Saturation: stop reasons, limits, determinism, provenance; egglog's faults are ours to report."""

import random

import pytest

from kernel_ir.nodes import Kernel
from kernel_ir.parser import parse
from rewrites import adapter
from rewrites.books import default_rules, load_book
from rewrites.declare import SIGNATURES, declarations
from rewrites.encode import encode
from rewrites.program import program_of
from rewrites.saturate import Budget, Stop, saturate
from tests.conftest import PUBLIC, kernel

ORDER = load_book("rule comm: a + b => b + a on float\nrule assoc: (a + b) + c <=> a + (b + c) needs reassoc\n")
FACTOR = load_book("rule factor: sum(i: a * f) <=> a * sum(i: f) if i not in a needs reassoc\nrule comm: a * b => b * a on float\n")


def long_sum(terms: int) -> Kernel:
    return parse(f"kernel f(x: f32[N, {terms}]) -> (y: f32[N]) {{ y[i] = {' + '.join(f'x[i, {n}]' for n in range(terms))} }}")["f"]


def test_a_small_graph_saturates() -> None:
    result = saturate(encode(long_sum(4)), ORDER)
    assert result.stop is Stop.SATURATED
    assert result.growing == ()
    assert dict(result.matches)["comm"] > 0


def test_the_node_limit_stops_it_and_names_the_rules() -> None:
    result = saturate(encode(long_sum(14)), ORDER, Budget(nodes=600, seconds=30.0))
    assert result.stop is Stop.NODES
    assert result.frozen is not None and len(result.frozen.nodes) <= 2 * 600
    assert set(result.growing) == {"comm", "assoc"}


def test_rounds_and_time_stop_it() -> None:
    assert saturate(encode(long_sum(10)), ORDER, Budget(rounds=1, seconds=30.0)).stop is Stop.ITERATIONS
    assert saturate(encode(long_sum(14)), ORDER, Budget(seconds=0.0)).stop is Stop.TIME


def test_it_is_deterministic() -> None:
    first, second = (saturate(encode(long_sum(9)), ORDER) for _ in range(2))
    assert first == second


def test_a_factor_that_reads_the_index_stays_inside() -> None:
    k = parse("kernel f(x: f32[N, M], w: f32[M], c: f32) -> (y: f32[N]) { y[i] = sum(j: c * (w[j] * x[i, j])) }")["f"]
    frozen = saturate(encode(k), FACTOR).frozen
    assert frozen is not None
    sums = {i for i, n in enumerate(frozen.nodes) if n.name == "R_sum"}
    assert len(sums) == 2  # with c inside, and without; never without w


@pytest.mark.parametrize(("value", "fires"), [("x[i]", True), ("c", False), ("1.0", False), ("x[i] + c", True), ("x[0]", False)])
def test_what_varies_depends_on_an_index(value: str, fires: bool) -> None:
    book = load_book("rule apart: abs(x) => max(x, -x) on float if varies(x)\n")
    k = parse(f"kernel f(x: f32[N], c: f32) -> (y: f32[N]) where N >= 1 {{ y[i] = abs({value}) + x[i] }}")["f"]
    assert bool(saturate(encode(k), book).matches) is fires


def test_rounds_share_an_egraph() -> None:
    """What selection makes of a round's terms, the next round begins with."""
    k = parse("kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 2.5 + exp(x[i]) }")["f"]
    fused = parse("kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = fma(x[i], 2.5, exp(x[i])) }")["f"]
    program = program_of(default_rules())
    one, two = (program.stage(frozenset(term.name for term in encode(form).terms)) for form in (k, fused))
    assert one.commands == two.commands and one.lines != two.lines


def test_sources_name_the_rule() -> None:
    result = saturate(encode(kernel("attention")), FACTOR)
    assert result.frozen is not None
    made = {result.rules[s - 1] for s in result.frozen.sources if s}
    assert made <= {"factor", "comm"} and "comm" in made


def test_a_contradiction_is_a_failure_not_a_result() -> None:
    lies = load_book("rule lie: x * 0.0 => 1.0 on f32\nrule truth: x * 0.0 => 0.0 on f32\n")
    k = parse("kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 0.0 }")["f"]
    result = saturate(encode(k), lies)
    assert result.stop is Stop.FAILED
    assert result.frozen is None
    assert "two numbers are one" in result.message
    assert saturate(encode(long_sum(3)), ORDER).stop is Stop.SATURATED  # the next e-graph is a fresh one


def test_a_refused_command_is_an_error() -> None:
    with pytest.raises(adapter.RefusedCommand, match="nonsense"), adapter.session((*declarations(), "(nonsense)")):
        pass


def test_every_constructor_is_declared_with_its_rules() -> None:
    with adapter.session(declarations()) as graph:
        assert graph.rows() == adapter.Rows(0, 0, frozenset())
    assert len(declarations(("f_add",))) < len(declarations()) - 2 * len(SIGNATURES)


def test_only_rules_that_can_match_are_loaded() -> None:
    program = program_of(default_rules())
    small = program.stage({t.name for t in encode(kernel("transpose_add")).terms})
    large = program.stage(SIGNATURES)
    assert len(small.rulesets) < len(large.rulesets) / 2


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_no_two_numbers_become_one(name: str) -> None:
    result = saturate(encode(kernel(name)), default_rules(), Budget(seconds=20.0, nodes=3000))
    assert result.stop is not Stop.FAILED
    assert result.frozen is not None and len(result.frozen.nodes) <= 1.25 * 3000


def random_kernel(nodes: int, seed: int) -> Kernel:
    """A straight-line kernel of about so many operators over a few arrays."""
    rng = random.Random(seed)
    lines = [f"t{n}[i] = x[i, {n}]" for n in range(8)]
    for n in range(8, nodes):
        a, b, c = (f"t{rng.randrange(max(0, n - 12), n)}[i]" for _ in range(3))
        pattern = rng.choice(
            [
                "{a} + {b}",
                "{a} - {b}",
                "{a} * {b}",
                "{a} * {b}",
                "{a} / {b}",
                "max({a}, {b})",
                "exp({a})",
                "sqrt({a})",
                "{c} if {a} < {b} else {a}",
            ]
        )
        lines.append(f"t{n}[i] = " + pattern.format(a=a, b=b, c=c))
    total = " + ".join(f"t{n}[i]" for n in range(nodes - 10, nodes))
    return parse("kernel f(x: f32[N, 8]) -> (y: f32[N]) {\n" + "\n".join(lines) + f"\ny[i] = {total}\n}}")["f"]


def test_hundreds_of_rules_on_two_hundred_nodes() -> None:
    from extract.extractor import choices
    from extract.weights import WEIGHTINGS, cost_graph, default_cycles, extents

    encoding = encode(random_kernel(200, 1))
    assert len(encoding.terms) >= 150
    rules = tuple(r for r in default_rules() if not r.needs)
    assert len(rules) >= 200
    result = saturate(encoding, rules)
    assert result.frozen is not None
    lengths = extents(encoding.terms, encoding.variables, {})
    graph = cost_graph(result.frozen, encoding.variables, lengths, {}, default_cycles, WEIGHTINGS[0], (result.frozen.roots[0],))
    assert choices(graph, result.frozen.sources)

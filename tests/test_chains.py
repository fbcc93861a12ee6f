"""Chains: every public kernel's replays, what was edited is refused, guards are judged from the terms alone."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kernel_ir as kir
from kernel_ir.cli import main
from kernel_ir.explain import chain_json, chains_of
from kernel_ir.report import result_json, summary
from rewrites.chain import Chain
from tests.conftest import PUBLIC, kernel

USUAL = "reassoc,contract,arcp,afn,nsz"


@cache
def chain_of(name: str, flags: str) -> Chain:
    return kir.optimize(kernel(name), target="cpu", fast_math=flags, check=False).chain


@pytest.mark.parametrize("flags", ["none", USUAL, "all"])
@pytest.mark.parametrize("name", PUBLIC)
def test_every_chain_replays(name: str, flags: str) -> None:
    chain = chain_of(name, flags)
    (loaded,) = chains_of(chain_json([chain]))
    assert loaded == chain
    assert chain.source == str(kernel(name))
    assert kir.replay(loaded) == chain.result


def test_a_chain_has_the_same_bytes_each_time() -> None:
    again = kir.optimize(kernel("layernorm"), target="cpu", fast_math=USUAL, check=False).chain
    assert chain_json([again]) == chain_json([chain_of("layernorm", USUAL)])


def data_of(name: str = "softmax") -> dict[str, Any]:
    return json.loads(chain_json([chain_of(name, USUAL)]))


def rule_step(data: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return [s for one in data["chains"][0]["rounds"] for s in one["steps"] if s["kind"] == "rule"][number]


def other_rule(data: dict[str, Any]) -> None:
    rule_step(data)["name"] = "add_zero"


def unknown_rule(data: dict[str, Any]) -> None:
    rule_step(data)["name"] = "no_such_rule"


def swapped(data: dict[str, Any]) -> None:
    step = rule_step(data)
    step["before"], step["after"] = step["after"], step["before"]


def elsewhere(data: dict[str, Any]) -> None:
    rule_step(data)["paths"][0].append(0)


def nowhere(data: dict[str, Any]) -> None:
    rule_step(data)["paths"] = []


def no_flags(data: dict[str, Any]) -> None:
    data["chains"][0]["flags"] = []


def dropped(data: dict[str, Any]) -> None:
    steps = data["chains"][0]["rounds"][0]["steps"]
    steps.remove(rule_step(data))


def other_result(data: dict[str, Any]) -> None:
    data["chains"][0]["result"] = data["chains"][0]["source"]


def other_target(data: dict[str, Any]) -> None:
    one = data["chains"][0]["rounds"][-1]
    one["target"] = data["chains"][0]["result"] = one["source"]


def untrue_words(data: dict[str, Any]) -> None:
    rule_step(data)["shown"] = "y[r, c]: 1 ⇒ 2"


def forged_inlining(data: dict[str, Any]) -> None:
    data["chains"][0]["rounds"][0]["steps"][0]["shown"] += " + 1.0"


def another_number(data: dict[str, Any]) -> None:
    rows = data["chains"][0]["rounds"][0]["rows"]
    row = next(r for r in rows if r[0] == "Lit" and r[1] >= 3)
    row[2] += 1 << 40


def ill_typed(data: dict[str, Any]) -> None:
    rows = data["chains"][0]["rounds"][0]["rows"]
    row = next(r for r in rows if r[0].startswith("f_"))
    row[1] = 4


def unknown_array(data: dict[str, Any]) -> None:
    rows = data["chains"][0]["rounds"][0]["rows"]
    next(r for r in rows if r[0].startswith("Load"))[2] = "nothing"


MUTATIONS = [
    other_rule, unknown_rule, swapped, elsewhere, nowhere, no_flags, dropped, other_result, other_target, untrue_words,
    forged_inlining, another_number, ill_typed, unknown_array,
]  # fmt: skip


@pytest.mark.parametrize("name", ["softmax", "layernorm", "attention"])
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_an_edited_chain_is_refused(mutate: Any, name: str) -> None:
    data = data_of(name)
    mutate(data)
    with pytest.raises(kir.ChainError):
        kir.replay(chains_of(json.dumps(data))[0])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "kir-chain 1"}', '{"format": "kir-chain 1", "chains": [{"kernel": 3}]}'])
def test_what_is_no_chain_file_is_refused(text: str) -> None:
    with pytest.raises(kir.ChainError):
        chains_of(text)


WRONG = "rule wrong: x * 1.0 => x + 1.0 on f32"


def test_a_wrong_rule_is_caught_by_computing_both_sides() -> None:
    """Everything else about the step is right: the book says so."""
    k = kir.parse("kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] * 1.0 }")["f"]
    chain = kir.optimize(k, target="cpu", check=False).chain
    assert [s.name for s in chain.steps] == ["mul_one"]
    data = json.loads(chain_json([chain]))
    one = data["chains"][0]["rounds"][0]
    x = one["steps"][0]["after"]
    one["rows"] += [["Lit", 3, kir_bits(1.0)], ["f_add", 3, x, len(one["rows"])]]
    one["steps"][0] |= {"name": "wrong", "after": len(one["rows"]) - 1, "shown": "y[i]: x[i] * 1.0 ⇒ x[i] + 1.0"}
    one["target"] = data["chains"][0]["result"] = str(kir.parse("kernel f(x: f32[N]) -> (y: f32[N]) { y[i] = x[i] + 1.0 }")["f"])
    from rewrites.books import load_book

    with pytest.raises(kir.ChainError, match="computed"):
        kir.replay(chains_of(json.dumps(data))[0], rules=load_book(WRONG + "\n"))


def kir_bits(value: float) -> int:
    from kernel_ir.dtypes import F32
    from kernel_ir.nodes import const

    return const(value, F32).bits


def test_a_guard_that_does_not_hold_is_refused() -> None:
    """x / x is 1 only where x is known not to be zero."""
    text = "kernel f(n: i64, x: i64[N]) -> (y: i64[N]) {{ y[i] = x[i] * {} }}"
    k = kir.parse(text.format("((n * n + 1) // (n * n + 1))"))["f"]
    known = kir.parse("kernel f(x: i64[N]) -> (y: i64[N]) where N >= 2 { y[i] = x[i] * (N // N) }")["f"]
    chain = kir.optimize(known, target="cpu", check=False).chain
    assert "idiv_self" in chain.rules
    forged = chain_json([chain]).replace(" where N >= 2", "")
    with pytest.raises(kir.ChainError):
        kir.replay(chains_of(forged)[0])
    assert "idiv_self" not in kir.optimize(k, target="cpu", check=False).chain.rules


def test_the_command_line_writes_and_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "softmax.chain"
    path = str(PUBLIC["softmax"][0])
    asked = ["optimize", path, "-k", "softmax", "--target", "cpu", "--fast-math", USUAL, "--explain", "--verify-chain", "--chain", str(out)]
    assert main(asked) == 0
    said = capsys.readouterr()
    assert "steps, from the kernel as written to the result" in said.err
    assert "saved against" in said.err
    assert main(["replay", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chains"][0]["kernel"] == "softmax"
    out.write_text(out.read_text(encoding="utf-8").replace("div_to_reciprocal", "sum_factor"), encoding="utf-8")
    assert main(["replay", str(out)]) == 2
    assert ", sum_factor: `rule sum_factor" in capsys.readouterr().err


def test_savings_are_of_the_chain() -> None:
    result = kir.optimize(kernel("softmax"), target="cpu", fast_math=USUAL, check=False)
    assert {one.rule for one in result.savings} == set(result.chain.rules)
    assert all(0 <= one.cycles <= result.baseline_cycles - result.cycles for one in result.savings)


def test_rules_are_those_of_the_chain() -> None:
    result = kir.optimize(kernel("softmax"), target="cpu", fast_math=USUAL, check=False)
    assert result.rules == tuple(one.rule for one in result.savings)
    assert "online_softmax_one" in result.rules
    told = result_json(result)
    assert told["rules"] == list(result.rules)
    assert told["rules_from"] == "chain"
    assert f"; rules: {', '.join(result.rules)}" in summary(result)


def test_without_a_chain_rules_are_those_of_the_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(result: kir.Result) -> Chain:
        raise kir.ChainError(f"{result.original.name}: none")

    monkeypatch.setattr("kernel_ir.explain.chain_of", none)
    result = kir.optimize(kernel("softmax"), target="cpu", fast_math=USUAL, check=False)
    assert result.rules == result.provenance != ()
    assert f"rules of its terms: {', '.join(result.provenance)}" in result.report
    assert result_json(result, explain=True)["rules_from"] == "terms"


def test_growth_names_the_rules_that_made_the_nodes() -> None:
    result = kir.optimize(kernel("blur"), target="cpu", fast_math="all", check=False)
    saturation = result.rounds[0].found.saturation
    assert saturation is not None and saturation.frozen is not None
    grown = saturation.growth
    assert sum(g.nodes for g in grown) <= sum(1 for s in saturation.frozen.sources if s)
    assert [g.nodes for g in grown] == sorted((g.nodes for g in grown), reverse=True)
    assert grown[0].nodes > 0

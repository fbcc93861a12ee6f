"""The enumerative synthesiser on small vocabularies: what it proposes is proved, minimal, and brings back what was taken away."""

import kernel_ir as kir
from extract.suggest import Found, Suggester, Task
from extract.synth import Synthesiser, candidates, synthesised
from extract.synth_minimal import Limits, Minimiser
from extract.synth_seeds import seeds
from extract.synth_work import Vocabulary
from rewrites.books import default_rules, load_book
from rewrites.derive import all_derivable
from rewrites.prove import holds

BOOLEAN = Vocabulary(truths=("and", "or", "not"))
TAKEN = ("and_comm", "and_self", "or_absorb", "not_not", "and_true", "or_not_self", "and_assoc")
RULES = {rule.name: rule for rule in default_rules()}


def minimal(words, known, limits):
    minimiser = Minimiser(tuple(known), limits=limits)
    for _ in minimiser.run(candidates(words)):
        pass
    return minimiser.accepted


def test_taken_boolean_rules_come_back_proved():
    taken = [RULES[name] for name in TAKEN]
    known = [r for r in default_rules() if r.family == "logic" and r.name not in TAKEN and "<" not in r.text and "if" not in r.text]
    found = minimal(BOOLEAN, known, Limits(80, 80, 40))
    assert all(holds(load_book(f"{rule.text}\n")[0]) for rule in found)
    assert all(all_derivable(taken, (*known, *found)))


def test_candidates_are_deterministic_and_each_once():
    words = Vocabulary(integers=("add", "mul"))
    texts = [c.rule.text for c in candidates(words)]
    assert texts == [c.rule.text for c in candidates(words)]
    assert len(texts) == len(set(texts))
    assert "rule r: ((a * b) + (a * c)) => (a * (b + c)) on int" in texts or "rule r: (a * (b + c))" in "".join(texts)


def kernel():
    text = "kernel f(x: f64[N], y: f64[N]) -> (z: f64[N]) { z[i] = (x[i] + y[i]) * 0.5 - (x[i] - y[i]) * 0.5 }"
    return kir.parse(text)["f"]


def test_a_kernels_own_terms_are_seeds():
    assert any(c.rule.text.endswith("=> b on float") for c in seeds([kernel()]))


def test_it_is_a_suggester():
    suggester: Suggester = Synthesiser(limits=Limits(1, 6, 1))
    task = Task((Found(kernel(), "", 1.0, 1.0, ()),), (), kir.fastmath.flags("reassoc"), 1)
    assert list(suggester.suggest(task)) == []


def test_only_licensed_flags():
    for rules in synthesised([kernel()], (), frozenset(), Limits(20, 20, 3)):
        assert all(not rule.needs for rule in rules)

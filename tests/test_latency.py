"""What makes optimizing fast changes nothing: rules loaded late, plans told to be alike, results that a check remembers."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

import kernel_ir as kir
from extract import schedule_cpu
from kernel_ir.compare import comparison, remembering, subject
from kernel_ir.evaluate import evaluate
from kernel_ir.fastmath import flags
from kernel_ir.inputs import sampled
from kernel_ir.meaning import fma
from rewrites.books import default_rules
from rewrites.encode import encode
from rewrites.program import program_of
from rewrites.saturate import Saturation, saturate
from rewrites.stage import Line, Stage
from tests.conftest import kernel


def in_new_thread(call: Callable[[], Saturation]) -> Saturation:
    """What a thread finds that has loaded no e-graph yet."""
    found: list[Saturation] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def test_what_an_e_graph_loaded_for_other_kernels_changes_nothing() -> None:
    rules = tuple(rule for rule in default_rules() if rule.needs <= flags("reassoc,contract,arcp,afn,nsz"))
    mine = encode(kernel("merge_attn_states"))

    def after_others() -> Saturation:
        saturate(encode(kernel("attention")), rules)
        saturate(mine, rules)
        return saturate(mine, rules)

    assert in_new_thread(lambda: saturate(mine, rules)) == in_new_thread(after_others)


def test_rules_that_run_together_keep_their_order() -> None:
    texts = [f'(rule ((= e ({name} t a))) ((union e a)) :ruleset shrink :name "{name}")' for name in ("f_neg", "f_exp", "f_abs")]
    lines = tuple(Line(text, frozenset((text.split()[3][1:],)), frozenset(), "shrink") for text in texts)
    stage = Stage("", (), (), (), {"shrink": lines})
    some, every = (stage.ruleset("shrink", frozenset(names)) for names in (("f_abs", "f_neg"), ("f_abs", "f_exp", "f_neg")))
    assert [one.name for one in some.definitions[:-1]] == ["only:f_neg", "only:f_abs"]
    assert [one.name for one in every.definitions[:-1]] == ["only:f_neg", "only:f_exp", "only:f_abs"]
    assert every.definitions[1].commands == ("(ruleset only:f_exp)", texts[1].replace(":ruleset shrink", ":ruleset only:f_exp"))
    assert some.name != every.name


def test_a_kernel_loads_the_rules_that_can_match_and_no_others() -> None:
    stage = program_of(default_rules()).stage({term.name for term in encode(kernel("softmax")).terms})
    present = frozenset(term.name for term in encode(kernel("softmax")).terms)
    loaded = stage.ruleset("analysis", present).definitions[:-1]
    assert 0 < len(loaded) < len(stage.lines["analysis"]) / 2


def never(*_: object) -> bool:
    return False


@pytest.mark.parametrize("name", ["matmul", "gemver", "attention", "transpose_add", "nearest", "conv2d", "softmax", "cumsum"])
def test_plans_that_are_told_to_be_alike_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    k = kernel(name)
    fast = schedule_cpu.plans(k, sizes=dict.fromkeys(k.sizes, 64))
    monkeypatch.setattr("extract.schedule_cpu._Seen.twin", never)
    assert fast == schedule_cpu.plans(k, sizes=dict.fromkeys(k.sizes, 64))


def test_a_remembering_subject_says_what_a_plain_one_says() -> None:
    k, other = kernel("softmax"), kir.optimize(kernel("softmax"), target="cpu", fast_math="reassoc", check=False).kernel
    kept = remembering(k)
    for seed in (1, 2, 1):
        drawn = sampled((k, other), seed)
        wanted = subject(k).run(drawn)
        assert all(np.array_equal(kept.run(drawn)[name], array) for name, array in wanted.items())
        assert comparison(kept, other, flags("reassoc"), None).mismatch(drawn) is None
    drawn = sampled((k,), 1)
    assert kept.run(drawn) is kept.run(sampled((k,), 1))
    assert kept.truth(drawn, flags("reassoc")) is not kept.truth(drawn, flags("reassoc,nsz"))


FOLD = """
kernel f(x: f32[N, M], w: f32[M]) -> (y: f32[N]) where N >= 1 and M >= 1 {
  y[i] = fold(t in 0..5, a = 0.0, b = 1.0: a * 0.5 + sum(j: w[j] * b) + exp(x[i, 0]) + sum(j: x[i, j]), b + a).a
}
"""


def test_what_no_step_of_a_fold_changes_is_computed_once_and_right() -> None:
    k = kir.parse(FOLD)["f"]
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 4), np.float32), rng.standard_normal(4, np.float32)
    (y,) = evaluate(k, {"x": x, "w": w}, {"N": 3, "M": 4}).values()
    a, b = np.zeros(3), np.ones(3)
    for _ in range(5):
        a, b = a * 0.5 + w.sum() * b + np.exp(x[:, 0]) + x.sum(axis=1), b + a
    assert np.allclose(y, a, rtol=1e-5)


def test_fma_of_zeros_infinities_and_nans() -> None:
    special = np.array([0.0, -0.0, 1.0, -2.5, 1e-310, 1e300, np.inf, -np.inf, np.nan])
    a, b, c = (x.ravel() for x in np.meshgrid(special, special, special))
    for dtype in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            x, y, z = (v.astype(dtype) for v in (a, b, c))
            got, plain = fma(x, y, z), x * y + z
        # One of the three is exact here, or the product is: then the plain formula rounds once.
        easy = ~np.isfinite(x) | ~np.isfinite(y) | ~np.isfinite(z) | (x == 0) | (y == 0)
        assert got[easy].tobytes() == plain[easy].tobytes() or np.array_equal(got[easy], plain[easy], equal_nan=True)
        assert np.array_equal(np.signbit(got[easy & (plain == 0)]), np.signbit(plain[easy & (plain == 0)]))

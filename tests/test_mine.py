"""`kir rules mine`: pairs of kernels, a slow and a fast one, and what connects them where the book has only the plain algebra."""

import json

import pytest

import kernel_ir as kir
from extract.mine import mined
from kernel_ir.cli import main
from kernel_ir.fastmath import flags
from rewrites.books import default_rules, load_book
from rewrites.prove import check_rule

PLAIN = tuple(r for r in default_rules() if r.family in ("algebra", "integers"))
ROW = "(x: f64[N, D]) -> (y: f64[N]) where D >= 1"
EACH = "(x: f64[N]) -> (y: f64[N])"
PAIRS = {
    "log_sum_exp": (
        f"kernel f{ROW} {{ y[n] = log(sum(d: exp(x[n, d]))) }}",
        f"kernel f{ROW} {{ m[n] = max(d: x[n, d])  y[n] = log(sum(d: exp(x[n, d] - m[n]))) + m[n] }}",
        "all",
    ),
    "sigmoid_by_tanh": (
        f"kernel f{EACH} {{ y[i] = x[i] * (1.0 / (1.0 + exp(-x[i]))) }}",
        f"kernel f{EACH} {{ y[i] = x[i] * (0.5 * tanh(x[i] * 0.5) + 0.5) }}",
        "all",
    ),
    "horner": (
        "kernel f(x: f64[N], a: f64, b: f64, c: f64) -> (y: f64[N]) { y[i] = a * x[i] ** 2 + b * x[i] + c }",
        "kernel f(x: f64[N], a: f64, b: f64, c: f64) -> (y: f64[N]) { y[i] = (a * x[i] + b) * x[i] + c }",
        "reassoc",
    ),
    "row_and_column": (
        "kernel f(x: f32[H, W]) -> (y: f32[H * W]) where W >= 1 { y[k] = x[k // W, k - (k // W) * W] }",
        "kernel f(x: f32[H, W]) -> (y: f32[H * W]) where W >= 1 { y[k] = x[k // W, k % W] }",
        "none",
    ),
    "gelu": (
        f"kernel f{EACH} {{ y[i] = 0.5 * x[i] * (1.0 + erf(x[i] * 0.7071067811865476)) }}",
        f"kernel f{EACH} {{ y[i] = x[i] * (0.5 + 0.5 * erf(x[i] * 0.7071067811865476)) }}",
        "reassoc",
    ),
    "tanh_by_exp": (
        f"kernel f{EACH} {{ y[i] = tanh(x[i]) }}",
        f"kernel f{EACH} {{ y[i] = 1.0 - 2.0 / (exp(2.0 * x[i]) + 1.0) }}",
        "afn",
    ),
    "clamp": (
        "kernel f(x: i64[N]) -> (y: i64[N]) { y[i] = (0 if x[i] < 0 else (255 if x[i] > 255 else x[i])) }",
        "kernel f(x: i64[N]) -> (y: i64[N]) { y[i] = min(max(x[i], 0), 255) }",
        "none",
    ),
    "distance": (
        "kernel f(a: f64[N], b: f64[N]) -> (y: f64[N]) { y[i] = max(a[i], b[i]) - min(a[i], b[i]) }",
        "kernel f(a: f64[N], b: f64[N]) -> (y: f64[N]) { y[i] = abs(a[i] - b[i]) }",
        "all",
    ),
    "double_angle": (
        f"kernel f{EACH} {{ y[i] = cos(x[i]) ** 2 - sin(x[i]) ** 2 }}",
        f"kernel f{EACH} {{ y[i] = cos(2.0 * x[i]) }}",
        "afn",
    ),
    "factored_sum": (
        "kernel f(x: f64[N, D], w: f64[N]) -> (y: f64[N]) { y[n] = sum(d: w[n] * x[n, d]) }",
        "kernel f(x: f64[N, D], w: f64[N]) -> (y: f64[N]) { y[n] = w[n] * sum(d: x[n, d]) }",
        "reassoc",
    ),
    "fused_norm": (
        "kernel f(x: f64[N], w: f64, s: f64) -> (y: f64[N]) where s > 0.0 { y[i] = x[i] * w / sqrt(s) }",
        "kernel f(x: f64[N], w: f64, s: f64) -> (y: f64[N]) where s > 0.0 { y[i] = x[i] * (w * rsqrt(s)) }",
        "all",
    ),
}


def kernel(text):
    (found,) = kir.parse(text).values()
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_mined_rules_are_proved_and_connect(name):
    slow, fast, licence = PAIRS[name]
    found = mined(kernel(slow), kernel(fast), PLAIN, flags(licence))
    assert not found.known
    assert found.rules, "nothing found"
    for rule in found.rules:
        assert rule.needs <= flags(licence)
        (read,) = load_book(f"{rule.text}\n")
        assert check_rule(read).holds
    assert found.connects, [r.text for r in found.rules]


def test_what_the_book_knows_is_not_mined():
    slow, fast, licence = PAIRS["horner"]
    assert mined(kernel(slow), kernel(fast), default_rules(), flags(licence)).known


def test_without_the_flag_there_is_no_rule():
    slow, fast, _ = PAIRS["horner"]
    assert mined(kernel(slow), kernel(fast), PLAIN, flags("none")).rules == ()


@pytest.fixture
def files(tmp_path):
    def write(slow, fast):
        paths = tmp_path / "slow.kir", tmp_path / "fast.kir"
        for path, text in zip(paths, (slow, fast), strict=True):
            path.write_text(text)
        return [str(path) for path in paths]

    return write


def test_the_book_that_is_written_loads(files, tmp_path, capsys):
    slow, fast, licence = PAIRS["distance"]
    book = tmp_path / "mine.rules"
    assert main(["rules", "mine", *files(slow, fast), "--fast-math", licence, "-o", str(book)]) == 0
    assert "# mined from slow.kir and fast.kir" in book.read_text()
    assert (tmp_path / "mine.proofs.json").exists()
    assert len(load_book(book)) == 1
    assert "1 rule proved" in capsys.readouterr().err


def test_json(files, capsys):
    slow, fast, licence = PAIRS["distance"]
    assert main(["rules", "mine", *files(slow, fast), "--fast-math", licence, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["connects"] and len(said["rules"]) == 1


def test_kernels_that_differ_have_a_counterexample_and_no_rule(files, capsys):
    slow, fast, _ = PAIRS["tanh_by_exp"]
    assert main(["rules", "mine", *files(slow, fast.replace("2.0 /", "2.5 /")), "--fast-math", "all"]) == 1
    err = capsys.readouterr().err
    assert "not equal" in err and "x =" in err


def test_other_signatures_are_refused(files, capsys):
    slow, fast, _ = PAIRS["tanh_by_exp"]
    assert main(["rules", "mine", *files(slow, fast.replace("x", "z").replace("ezp", "exp"))]) == 2
    assert "different signatures" in capsys.readouterr().err

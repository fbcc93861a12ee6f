"""The tables that the README takes from the rule books and the committed results are current."""

import json

from benchmarks import readme
from benchmarks.packs import cell, main
from rewrites.books import default_rules


def test_readme_is_current():
    assert readme.main(["--check"]) == 0, "run python benchmarks/readme.py"


def test_every_table_has_its_markers():
    text = readme.README.read_text("utf-8")
    for name in readme.TABLES:
        assert text.count(f"<!-- generated: {name} -->\n") == text.count(f"<!-- /generated: {name} -->\n") == 1


def test_old_table_is_told(tmp_path, monkeypatch, capsys):
    old = tmp_path / "README.md"
    old.write_text("# x\n<!-- generated: rules -->\nold\n<!-- /generated: rules -->\n", "utf-8")
    monkeypatch.setattr(readme, "README", old)
    assert readme.main(["--check"]) == 1
    assert "run python benchmarks/readme.py" in capsys.readouterr().err
    assert readme.main([]) == readme.main(["--check"]) == 0
    assert f"| **in all** | **{len(default_rules())}** |" in old.read_text("utf-8")


def test_cells():
    ours = {"cycles": 100.0, "same_code_as": "ours", "ratio": 1.0}
    same = {"cycles": 100.0, "same_code_as": "ours", "ratio": 1.0}
    other = {"cycles": 150.0, "same_code_as": "b", "ratio": 1.25}
    rows = {"sets": {"ours": ours, "a": same, "b": other, "c": {"cycles": 200.0, "same_code_as": "c"}}, "faults": {}}
    assert [cell(rows, name) for name in "abc"] == ["=", "1.50×, 1.25×", "2.00×"]
    assert cell(rows | {"faults": {"b": "y: wrong"}}, "b") == "1.50×, fails"


def test_packs_are_compared(tmp_path, capsys):
    path = tmp_path / "packs.json"
    assert main(["-k", "saxpy", "matmul_chain", "--quick", "--predict", "--json", str(path)]) == 0
    rows = {row["kernel"]: row["sets"] for row in json.loads(path.read_text("utf-8"))["kernels"]}
    assert rows["matmul_chain"]["taso"]["cycles"] < rows["matmul_chain"]["acc-saturator"]["cycles"]
    assert "fma_add" in rows["saxpy"]["acc-saturator"]["rules"]
    assert "geometric mean" in capsys.readouterr().out

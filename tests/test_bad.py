"""Each file in tests/bad has one fault; the file of the same name with .txt holds the exact error, which this checks byte for byte."""

from pathlib import Path

import pytest

from kernel_ir.errors import KernelError
from kernel_ir.parser import parse_file

BAD = Path(__file__).parent / "bad"
FILES = sorted(p.name for p in BAD.glob("*.kir")) + sorted(p.name for p in BAD.glob("*.rules"))


@pytest.mark.parametrize("name", FILES)
def test_exact_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(KernelError) as error:
        parse_file(name)
    kind = type(error.value).__name__.rstrip("_")
    assert f"{kind}: {error.value}\n" == Path(name).with_suffix(".txt").read_text(encoding="utf-8")


def test_every_message_says_what_to_write() -> None:
    """A hint is missing only where the message itself names what was expected."""
    for name in FILES:
        text = (BAD / name).with_suffix(".txt").read_text(encoding="utf-8")
        assert "  help: " in text or "expected" in text or "arguments" in text or "argument," in text, name


def test_there_are_enough() -> None:
    assert len(FILES) >= 45

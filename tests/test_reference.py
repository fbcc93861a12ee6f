"""The kernels and rules in the language reference parse."""

import re

import pytest

from kernel_ir.parser import parse, parse_rules
from tests.conftest import ROOT

BLOCKS = re.findall(r"```(kir|rules)\n(.*?)```", (ROOT / "kernel_ir" / "LANGUAGE.md").read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_block_parses(kind: str, text: str) -> None:
    assert parse(text) if kind == "kir" else parse_rules(text)

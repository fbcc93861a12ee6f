"""Everything in examples/ and the README's Python runs as a reader would run it."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPTS = ("as_a_pass.py", "in_your_tests.py", "demo.py")


def environment(tmp_path: Path) -> dict[str, str]:
    """PATH with a `kir` of this checkout, whether or not it is installed."""
    kir = tmp_path / "kir"
    kir.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kernel_ir.cli "$@"\n')
    kir.chmod(kir.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script(script: str, tmp_path: Path):
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_shell_script(tmp_path: Path):
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "on_the_command_line.sh")],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "kernel softmax(" in done.stdout and "equal" in done.stderr


def test_readme_python(tmp_path: Path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    code = blocks[0] + "\nplain, fast = module['softmax'], result.kernel\n" + "\n".join(blocks[1:])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), timeout=300)
    assert done.returncode == 0, done.stderr


def test_readme_commands_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if re.match(r"[a-z]+:", line)}
    assert set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) <= targets

"""The commands of docs/training.md, pasted as they are."""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgelm.cli import cli
from tests.docs.markdown import blocks

pytest.importorskip("torch", reason="needs the extra `export`")
PAGE = Path(__file__).parent.parent.parent / "docs" / "training.md"


def test_the_commands_train_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: a start of torch for each command would take most of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGELM_HOME", str(tmp_path / "home"))
    (script,) = blocks(PAGE, "python")
    (tmp_path / "rows.py").write_text(script.text, "utf-8")
    runpy.run_path(str(tmp_path / "rows.py"))
    answers = {}
    for block in blocks(PAGE, "sh"):
        for line in block.text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "edgelm"
            done = CliRunner().invoke(cli, arguments)
            assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
            answers[arguments[0], arguments[1]] = done.stdout
    assert answers["run", "classify"].startswith("delivery")
    assert answers["run", "tag"].startswith("BRAND 'Adidas'")
    assert "MATERIAL 'goretex'" in answers["run", "tag"]
    assert "started from the bundle sentiment-zh" in answers["finetune", "classify"]
    for command in (("evaluate", "bundles/questions"), ("evaluate", "bundles/products")):
        assert "right answer \\ answered" in answers[command]

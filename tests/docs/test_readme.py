"""What the READMEs say works, and both say the same."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tests.docs.conftest import RunBlock
from tests.docs.markdown import blocks, headings, prose, table_figures, without_comments

ROOT = Path(__file__).parent.parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
KINDS = ("sh", "python", "text")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_every_command_and_every_line_of_python_runs(run_block: RunBlock) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("edgelm[export] is not installed")
    outputs = [run_block(block) for block in blocks(ENGLISH, "sh", "python")]
    printed = "\n".join(outputs)
    assert "positive" in printed
    assert "bundles/reviews" in printed
    assert [json.loads(line)["line"] for line in printed.splitlines() if line.startswith('{"line"')] == [1, 2]
    assert outputs[-1].splitlines() == ["negative", "positive"]


def test_make_run_comes_first_and_make_test_second() -> None:
    first, second = blocks(ENGLISH, "sh")[:2]
    assert (first.text, second.text) == ("make run\n", "make test\n")


def test_both_have_the_same_commands() -> None:
    english, chinese = blocks(ENGLISH, *KINDS), blocks(CHINESE, *KINDS)
    assert [block.kind for block in english] == [block.kind for block in chinese]
    for ours, theirs in zip(english, chinese, strict=True):
        assert without_comments(ours) == without_comments(theirs), f"lines {ours.line} and {theirs.line}"


def test_both_have_the_same_headings_and_figures() -> None:
    assert headings(ENGLISH) == headings(CHINESE)
    assert table_figures(ENGLISH) == table_figures(CHINESE)
    assert prose(ENGLISH).count("](docs/") == prose(CHINESE).count("](docs/")

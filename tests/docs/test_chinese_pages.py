"""A page in Chinese says what the English one says: the same commands, headings and figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import blocks, headings, table_figures, without_comments

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(path for path in (ROOT / "docs").glob("*.zh-CN.md"))


def test_the_pages_of_a_shop_are_there() -> None:
    assert {path.name.removesuffix(".zh-CN.md") for path in PAGES} >= {"integration", "checkpoints", "models"}


@pytest.mark.parametrize("chinese", PAGES, ids=lambda path: str(path.name))
def test_both_say_the_same(chinese: Path) -> None:
    english = chinese.with_name(chinese.name.replace(".zh-CN", ""))
    kinds = ("sh", "python", "text")
    ours, theirs = blocks(english, *kinds), blocks(chinese, *kinds)
    assert [block.kind for block in ours] == [block.kind for block in theirs]
    for one, other in zip(ours, theirs, strict=True):
        if one.kind == "text":  # printed for a person, comments and all
            assert [line.split("#")[0].rstrip() for line in one.text.splitlines()] == [
                line.split("#")[0].rstrip() for line in other.text.splitlines()
            ]
        else:
            assert without_comments(one) == without_comments(other), f"lines {one.line} and {other.line}"
    assert headings(english) == headings(chinese)
    assert table_figures(english) == table_figures(chinese)
    assert f"]({chinese.name})" in english.read_text("utf-8")
    assert f"]({english.name})" in chinese.read_text("utf-8")

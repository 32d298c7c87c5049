"""docs/performance.md is what its command writes from the results that are kept, and these say where and when."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from perf import kept
from perf.performance.page import END, MARK, sections
from perf.performance.peers import comparisons

ROOT = Path(__file__).parent.parent.parent
LINE: dict[str, Any] = {"engine": "edgelm", "precision": "int8", "16 p50 ms": 2.0, "8 reviews texts/s": 30.0}


def test_the_page_is_what_the_command_writes() -> None:
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    for name, section in sections(kept.kept()).items():
        begin, end = MARK.format(name), END.format(name)
        assert begin in page
        assert page.partition(begin)[2].partition(end)[0].strip() == section.strip(), "run: python -m perf.performance"


@pytest.mark.parametrize("name", sorted(kept.kept()))
def test_a_result_says_where_when_and_how(name: str) -> None:
    report = kept.kept()[name]
    assert kept.name_of(report) == name
    assert report["machine"]["cpu"]
    if "schema" in report:
        assert report["created"]
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", report["date"])
        assert report["command"].startswith("python -m perf.")
        assert not report["smoke"]
    assert not re.search(r'"/(home|root|tmp|work)\b', json.dumps(report)), "a path of one machine"


def test_ratios_are_above_one_where_edgelm_is_ahead() -> None:
    peer = {"engine": "Peer", "precision": "int8", "16 p50 ms": 3.0, "8 reviews texts/s": 60.0}
    slower = {**peer, "16 p50 ms": 9.0, "8 reviews texts/s": 1.0}
    other = {"engine": "Other", "precision": "bf16", "16 p50 ms": 1.0}
    reports = {"encode": {"details": {"shape": [LINE, peer, slower, other], "failures": []}}}
    (found,) = comparisons(reports)
    assert found.ratios == {"Peer": {"16 p50 ms": 1.5, "8 reviews texts/s": 0.5}, "Other": {"16 p50 ms": 0.5}}


def test_no_comparison_without_both_sides() -> None:
    assert comparisons({"encode": {"details": {"shape": [LINE]}}}) == []
    assert comparisons({"decode": {"details": {"shape": [{"engine": "Peer", "precision": "int8"}]}}}) == []
    assert comparisons({}) == []


def test_lines_are_found_among_other_output_and_kept_by_name(tmp_path: Path) -> None:
    report = {"benchmark": "engine", "command": "python -m perf.engine --bundle models/GPT2-124m", "smoke": False}
    said = f'a table\n{json.dumps(report)}\n{{"other": 1}}\n'
    (found,) = kept.lines(said)
    path = kept.keep(found, tmp_path)
    assert path is not None
    assert path.name == "engine-gpt2-124m.json"
    assert kept.kept(tmp_path) == {"engine-gpt2-124m": report}
    assert kept.keep({**report, "smoke": True}, tmp_path) is None
    assert kept.keep({**report, "skipped": "no strace"}, tmp_path) is None

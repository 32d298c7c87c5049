"""`edgelm evaluate` on the default bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgelm.cli import cli
from edgelm_export.evaluate import BundleEvaluation, evaluate
from edgelm_runtime.bundle import default_bundles
from edgelm_runtime.errors import InputError
from tests.export.rows import write_rows

ROWS = [
    {"text": "Lovely fabric, fits perfectly.", "label": "positive"},
    {"text": "Broke after two days, awful.", "label": "negative"},
    {"text": "Broke after one day, useless.", "label": "positive"},  # wrong on purpose
    {"text": "It is a box.", "label": "negative"},
]


def found(folder: Path, rows: list[dict[str, Any]], name: str = "sentiment-en", **options: Any) -> BundleEvaluation:
    return evaluate(default_bundles()[name], write_rows(folder / "rows.jsonl", rows), **options)


def test_a_classifier_on_rows(tmp_path: Path) -> None:
    report = found(tmp_path, ROWS)
    assert (report.bundle, report.tasks, report.rows) == ("sentiment-en", ("sentiment",), 4)
    assert report.classes is not None
    assert sum(map(sum, report.classes.confusion)) == sum(one.support for one in report.classes.classes) == 4
    worst = report.worst[0]
    assert (worst.text, worst.expected, worst.answered) == (ROWS[2]["text"], "positive", "negative")
    assert worst.place.endswith("rows.jsonl, line 3")
    assert len(report.worst) == 4 - report.metrics["accuracy"] * 4 / 100
    assert report.warnings == [
        "fewer than 30 rows of a class: 'negative' (2), 'positive' (2); their figures say little"
    ]
    shown = report.table()
    for part in (
        "accuracy",
        "precision  recall",
        "right answer \\ answered",
        "the worst rows",
        "line 3",
        "warning: few",
    ):
        assert part in shown
    assert found(tmp_path, ROWS, worst=0).worst == []


def test_one_answer_for_all_is_a_warning(tmp_path: Path) -> None:
    rows = [{"text": f"awful, broken {index}", "label": ("positive", "negative")[index % 2]} for index in range(4)]
    assert "every answer is 'negative'" in found(tmp_path, rows).warnings[0]


def test_a_generator_on_rows(tmp_path: Path) -> None:
    text = "The dress is lovely. It fits perfectly, and the colour is the same as in the picture."
    rows = [{"text": text, "summary": "The dress is lovely."}, {"attributes": "name: box", "description": "A box."}]
    report = found(tmp_path, rows, "writer", task="summary")
    assert (report.tasks, report.rows, report.classes) == (("summary",), 1, None)
    assert "summary en ROUGE-L" in report.metrics
    assert set(found(tmp_path, rows, "writer").tasks) == {"summary", "description"}


def test_what_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not summary"):
        found(tmp_path, ROWS, task="summary")
    with pytest.raises(InputError, match="no row has the fields text and label"):
        found(tmp_path, [{"text": "a"}])
    with pytest.raises(InputError, match="labels that the model does not have: 'neutral'"):
        found(tmp_path, [*ROWS, {"text": "a", "label": "neutral"}])


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    command = ["evaluate", "sentiment-en", "--eval", str(file), "--worst", "1"]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0
    assert "sentiment-en: sentiment on 4 rows" in shown.stdout
    told = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert told["confusion"]["labels"] == ["negative", "positive"]
    assert len(told["worst"]) == 1
    assert CliRunner().invoke(cli, ["evaluate", "sentiment", "--eval", str(file)]).exit_code == 5

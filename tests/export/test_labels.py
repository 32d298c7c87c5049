"""Names of classes: as many and as different as the logits, whatever form config.json has them in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgelm.cli import cli
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.labels import read_labels, with_labels
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.compare import compare
from edgelm_export.doctor import diagnose
from edgelm_export.draft import is_sentiment
from edgelm_runtime.errors import InputError, UnsupportedCheckpoint
from tests.export.rows import write_rows
from tests.export.tiny import bert, edit_config, save_bert


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes, which no test may change."""
    names = {0: "a", 1: "b", 2: "c"}
    model = bert(spread=0.05, id2label=names, label2id={name: index for index, name in names.items()})
    return save_bert(tmp_path_factory.mktemp("checkpoints") / "three", model)


@pytest.fixture
def folder(three: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(three, tmp_path / "checkpoint"))


# By case: id2label and label2id as config.json has them, the names, and a word of what is noted.
FORMS: dict[str, tuple[Any, Any, tuple[str, ...], str]] = {
    "plain": ({"0": "x", "1": "y", "2": "z"}, {"x": 0, "y": 1, "z": 2}, ("x", "y", "z"), ""),
    "unsorted": ({"2": "z", "0": "x", "1": "y"}, None, ("x", "y", "z"), ""),
    "numbers": ({"0": 1, "1": 2, "2": 3}, None, ("1", "2", "3"), ""),
    "only by name": (None, {"z": 2, "x": 0, "y": 1}, ("x", "y", "z"), ""),
    "turned round": ({"x": 0, "y": 1, "z": 2}, {"0": "x", "1": "y", "2": "z"}, ("x", "y", "z"), ""),
    "from 1 on": ({"1": "差评", "2": "中评", "3": "好评"}, {"差评": 1}, ("差评", "中评", "好评"), "counts from 1"),
    "doubled": ({"0": "其他", "1": "鞋", "2": "其他"}, None, ("其他", "鞋", "其他 #2"), "其他 is the name of several"),
    "empty": ({"0": "", "1": "y", "2": " "}, None, ("LABEL_0", "y", "LABEL_2"), "does not name LABEL_0, LABEL_2"),
    "nothing": ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, None, ("LABEL_0", "LABEL_1", "LABEL_2"), "name them"),
}


@pytest.mark.parametrize(("stored", "inverse", "expected", "noted"), FORMS.values(), ids=FORMS)
def test_every_form_becomes_one_name_a_logit(
    folder: Path, stored: Any, inverse: Any, expected: tuple[str, ...], noted: str
) -> None:
    edit_config(folder, id2label=stored, label2id=inverse)
    assert load_checkpoint(folder).labels == expected
    findings = {finding.check: finding for finding in diagnose(Origin(folder)).findings}
    assert findings["labels"].state == ("note" if noted else "ok")
    assert noted in findings["labels"].text
    assert [finding for finding in findings.values() if finding.state == "problem"] == []


@pytest.mark.parametrize("names", [["x", "y"], ["x", "y", "z", "w"]])
def test_another_number_of_names_is_refused_with_how_to_name_them(folder: Path, names: list[str]) -> None:
    edit_config(folder, id2label={str(index): name for index, name in enumerate(names)}, label2id=None)
    with pytest.raises(UnsupportedCheckpoint) as refused:
        load_checkpoint(folder)
    assert f"id2label names {len(names)} classes ({', '.join(names)}), the head classifier.weight has 3" in str(
        refused.value
    )
    assert "with --labels" in str(refused.value)
    assert load_checkpoint(folder, labels=("p", "q", "r")).labels == ("p", "q", "r")


def _export(folder: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["export", str(folder), "--out", str(out), "--precision", "fp32", *options])


def test_the_command_names_them_and_compare_knows(folder: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "bundle", tmp_path / "names.txt"
    names.write_text("差评\n中评\n好评\n", "utf-8")
    edit_config(folder, id2label=None, label2id=None)
    assert _export(folder, out).exit_code == 7
    assert _export(folder, out, "--labels", str(names)).exit_code == 0
    manifest = json.loads((out / "edgelm.json").read_text("utf-8"))
    assert manifest["labels"] == ["差评", "中评", "好评"]
    assert manifest["serves"] == ["sentiment"]
    data = [{"text": "物流很快", "label": "好评"}, {"text": "包装破了", "label": "差评"}]
    rows = write_rows(tmp_path / "dev.jsonl", data)
    assert compare(folder, out, rows).agreement == 1
    done = CliRunner().invoke(cli, ["doctor", str(folder), "--labels", "x,y,z"])
    assert "x, y, z, as --labels names them" in done.stdout
    refused = _export(folder, tmp_path / "two", "--labels", "x,y")
    assert (refused.exit_code, "names 2 classes (x, y), the head classifier.weight has 3" in refused.stderr) == (
        7,
        True,
    )


@pytest.mark.parametrize("value", ["", "a,,b", "a,b,a", ","])
def test_names_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(InputError, match="accepted are different names"):
        read_labels(value)


def test_what_says_nothing_is_left_alone() -> None:
    for config in ({}, {"id2label": {}}, {"id2label": None, "label2id": {"a": "b"}}, {"label2id": {"a": 0, "b": 0}}):
        assert with_labels(config) == config


SENTIMENTS = (
    "negative,positive", "NEG,NEU,POS", "消极,积极", "负面,正面", "负向,中性,正向", "负面情绪,正面情绪",
    "1 star,2 stars,3 stars", "star 1,star 2,star_3", "1星,2星,五星", "one-star,five-star", "差评,中评,好评",
    "very negative,slightly positive", "Very_Negative,Highly_Positive", "LABEL_0,LABEL_1", "LABEL_0,LABEL_1,LABEL_2",
)  # fmt: skip
OTHERS = ("sports,news", "1,2,3", "LABEL_0,LABEL_1,LABEL_2,LABEL_3", "positive,spam", "阳性,阴性", "star,planet")


@pytest.mark.parametrize(("names", "expected"), [*((n, True) for n in SENTIMENTS), *((n, False) for n in OTHERS)])
def test_classes_of_sentiment_are_known_by_their_names(names: str, expected: bool) -> None:
    assert is_sentiment(names.split(",")) is expected

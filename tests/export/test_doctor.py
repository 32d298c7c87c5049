"""``edgelm doctor``: everything that an export would trip over, in one look."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from edgelm.cli import cli
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.checks import CHECKS
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_runtime.errors import UnsupportedCheckpoint
from tests.export.tiny import edit_config


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    """A copy of the tiny classifier, to be damaged."""
    return Path(shutil.copytree(bert_folder, tmp_path / "checkpoint"))


def _doctor(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)])


def _states(folder: Path) -> dict[str, str]:
    return {finding.check: finding.state for finding in diagnose(Origin(folder)).findings}


@pytest.mark.parametrize("name", ["bert_folder", "gpt2_folder"])
def test_a_sound_checkpoint_passes_every_check(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    assert _states(folder) == dict.fromkeys(["source", *CHECKS], "ok")
    done = _doctor(folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[3:]] == ["source", *CHECKS]


def test_every_problem_is_said_at_once(folder: Path) -> None:
    edit_config(folder, hidden_act="mish", id2label=None, label2id=None)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").unlink()
    done = _doctor(folder, "--json")
    assert done.exit_code == 7
    assert "not exportable as it is; see architecture, numbers, tokenizer" in done.stderr
    found = json.loads(done.stdout)
    assert found["exportable"] is False
    problems = {each["check"]: each["text"] for each in found["findings"] if each["state"] == "problem"}
    assert list(problems) == ["architecture", "numbers", "tokenizer"]
    assert "hidden_act = 'mish' is not honoured" in problems["architecture"]
    assert "classifier.bias" in problems["numbers"]
    assert "no tokenizer there" in problems["tokenizer"]


def test_an_export_stops_at_the_first_of_them(folder: Path) -> None:
    edit_config(folder, hidden_act="mish")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedCheckpoint) as refused:
        load_checkpoint(folder)
    assert str(refused.value) == diagnose(Origin(folder)).problems[0].text


def test_what_should_be_known_is_a_note_and_no_problem(folder: Path, gpt2_folder: Path, tmp_path: Path) -> None:
    edit_config(folder, id2label=None, label2id=None)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "cls.predictions.bias": torch.zeros(600)}, folder / "model.safetensors", {"format": "pt"})
    done = _doctor(folder)
    assert done.exit_code == 0
    assert "LABEL_0, LABEL_1: config.json does not name them" in done.stdout
    assert "1 tensors that this task does not read: cls.predictions.bias" in done.stdout
    writer = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    (writer / "prompts.json").unlink()
    assert _states(writer)["prompts"] == "note"


def test_an_export_says_what_should_be_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_checkpoint(folder)
    assert "note" not in capsys.readouterr().err
    load_checkpoint(edit_config(folder, id2label=None, label2id=None))
    assert capsys.readouterr().err.startswith("edgelm: note: labels: LABEL_0, LABEL_1: config.json does not name them")


@pytest.mark.parametrize("what", ["nothing", "empty", "file"])
def test_without_a_folder_one_problem_is_enough(tmp_path: Path, what: str) -> None:
    place = tmp_path / "checkpoint"
    if what == "empty":
        place.mkdir()
    elif what == "file":
        place.write_text("")
    assert [(finding.check, finding.state) for finding in diagnose(Origin(place)).findings] == [("source", "problem")]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("tokenizer_config.json", "model_max_length", "[UNK]"), ("config.json", "architectures", {"a": 1})],
)
def test_a_field_of_the_wrong_kind_is_a_problem_of_the_checkpoint(
    bert_folder: Path, tmp_path: Path, name: str, field: str, value: object
) -> None:
    folder = Path(shutil.copytree(bert_folder, tmp_path / "changed"))
    content = json.loads((folder / name).read_bytes())
    (folder / name).write_text(json.dumps({**content, field: value}))
    diagnosis = diagnose(Origin(folder))
    assert diagnosis.problems
    with pytest.raises(UnsupportedCheckpoint):
        load_checkpoint(folder)

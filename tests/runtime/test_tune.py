"""What `edgelm tune` says where it cannot remember, and what it does not tune."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgelm_runtime import tune as tuning
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.loader import load
from edgelm_runtime.tune import tune


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ROUNDS", 1)


def test_where_nothing_can_be_written_the_result_is_shown_and_the_variable_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_classifier: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("", "utf-8")
    monkeypatch.setenv("EDGELM_HOME", str(occupied / "folder"))
    found = tune(open_bundle(tiny_classifier))
    assert found.file is None
    assert found.choice.device == "cpu"
    said = found.table()
    assert " ms" in said
    last = said.splitlines()[-1]
    assert last.startswith("not remembered: ")
    assert "set EDGELM_HOME to a folder that can be written" in last
    written = json.loads(json.dumps(found.to_dict()))
    assert (written["file"], written["problem"]) == (None, last)
    assert load(tiny_classifier)("good").label == "positive"


def test_without_a_home_folder_it_is_the_same(monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(tuning.memory, "home", homeless)
    assert "set EDGELM_HOME" in tune(open_bundle(tiny_classifier)).problem


def test_a_bundle_without_a_task_of_this_runtime_is_refused(copied_classifier: Path, own_memory: Path) -> None:
    path = copied_classifier / "edgelm.json"
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**manifest, "serves": ["translate"]}), "utf-8")
    with pytest.raises(BundleRejected, match="serves translate, this runtime has sentiment"):
        tune(open_bundle(copied_classifier))
    assert list(own_memory.iterdir()) == []

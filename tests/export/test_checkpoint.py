"""Folders of checkpoints: what is read from them, and how each kind of damage is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgelm_export.checkpoint import Checkpoint, load_checkpoint
from edgelm_export.families import bert as bert_family
from edgelm_export.families import gpt2 as gpt2_family
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_runtime.errors import UnsupportedCheckpoint
from tests.export.tiny import Graph, bert, edit_config, gpt2, rows, save_bert, save_gpt2, torch_logits

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    """A copy of the tiny classifier, to be damaged."""
    return Path(shutil.copytree(bert_folder, tmp_path / "checkpoint"))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The tiny classifier in several files."""
    folder = save_bert(tmp_path / "sharded", max_shard_size="60KB")
    assert len(list(folder.glob("model-*.safetensors"))) >= 3
    return folder


def _refusal(folder: Path, task: str | None = None) -> str:
    with pytest.raises(UnsupportedCheckpoint) as refused:
        load_checkpoint(folder, task)
    assert refused.value.exit_code == 7
    return str(refused.value)


def _built(checkpoint: Checkpoint) -> bytes:
    return bert_family.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted).graph


def test_a_classifier_is_read(bert_folder: Path) -> None:
    checkpoint = load_checkpoint(bert_folder)
    assert (checkpoint.task, checkpoint.family) == ("text-classification", "bert")
    assert checkpoint.labels == ("negative", "positive")
    assert (checkpoint.tokenizer.max_tokens, checkpoint.tokenizer.pad_id) == (96, 0)
    assert checkpoint.prompts == {}
    assert checkpoint.generation == {}
    bert_family.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted)
    assert checkpoint.float32_bytes == 4 * sum(parameter.numel() for parameter in bert().parameters())


def test_a_generator_is_read(gpt2_folder: Path) -> None:
    checkpoint = load_checkpoint(gpt2_folder)
    assert (checkpoint.task, checkpoint.family, checkpoint.labels) == ("text-generation", "gpt2", ())
    assert set(checkpoint.prompts) == {"summary", "description"}
    assert checkpoint.tokenizer.eos_ids == (0,)


@pytest.mark.parametrize("task", ["text-classification", "sequence-classification"])
def test_a_task_has_synonyms(bert_folder: Path, task: str) -> None:
    assert load_checkpoint(bert_folder, task).task == "text-classification"


def test_another_task_than_the_heads_is_refused(bert_folder: Path) -> None:
    message = _refusal(bert_folder, "token-classification")
    assert "asked for was 'token-classification'" in message
    assert "'text-classification'" in message


def test_names_of_labels_that_are_missing_are_made(folder: Path) -> None:
    edit_config(folder, id2label=None, label2id=None)
    assert load_checkpoint(folder).labels == ("LABEL_0", "LABEL_1")


def test_defaults_of_generation_are_taken_from_the_folder(tmp_path: Path, gpt2_folder: Path) -> None:
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    stored = {"max_new_tokens": 40, "no_repeat_ngram_size": 6, "temperature": 0.7, "top_k": 5, "num_beams": 4}
    (folder / "generation_config.json").write_text(json.dumps(stored))
    always = {"max_new_tokens": 40, "no_repeat_ngram_size": 6, "penalize_prompt": True, "suppress_tokens": []}
    assert load_checkpoint(folder).generation == {**always, "num_beams": 4}
    (folder / "generation_config.json").write_text(json.dumps({**stored, "do_sample": True, "num_beams": 1}))
    assert load_checkpoint(folder).generation["temperature"] == 0.7


@pytest.mark.parametrize("missing", ["tokenizer", "config", "weights"])
def test_a_missing_part_is_named(folder: Path, missing: str) -> None:
    for name in {"tokenizer": "tokenizer.json", "config": "config.json", "weights": "model.safetensors"}[
        missing
    ].split():
        (folder / name).unlink()
    message = _refusal(folder)
    expected = {"tokenizer": "save_pretrained", "config": "no config.json", "weights": "no model.safetensors"}
    assert expected[missing] in message


def test_no_folder_at_all(tmp_path: Path) -> None:
    assert "nowhere: there is no such folder" in _refusal(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"{tmp_path} is empty" in _refusal(tmp_path)


def test_a_file_in_place_of_the_folder(folder: Path) -> None:
    assert "model.safetensors is a file; name the folder that it lies in" in _refusal(folder / "model.safetensors")


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)  # root may read everything
    assert f"no permission to read it; chmod u+rx {folder}" in _refusal(folder)


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nonsense"}}')
    assert "cannot load its tokenizer" in _refusal(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert", bert(vocab_size=300))
    assert "the tokenizer has 600 tokens, the model 300 rows" in _refusal(folder)


@pytest.mark.parametrize("model_type", ["no_such", None, 5, "../gpt2"])
def test_an_architecture_that_is_not_supported_lists_those_that_are(folder: Path, model_type: Any) -> None:
    edit_config(folder, model_type=model_type)
    message = _refusal(folder)
    assert f"architecture {str(model_type)!r} is not supported; supported are bart, bert" in message
    assert "the encoders that transformers traces: it does not know this one" in message


def test_the_weights_of_another_architecture_are_refused(folder: Path) -> None:
    message = _refusal(edit_config(folder, model_type="albert"))
    assert "the weights are not those that config.json describes (albert for text-classification)" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "mish"),
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
        ("pruned_heads", {"0": [1]}),
    ],
)
def test_a_configuration_field_that_is_not_honoured_is_refused(folder: Path, field: str, value: Any) -> None:
    message = _refusal(edit_config(folder, **{field: value}))
    assert f"{field} = {value!r}" in message
    assert "accepted: " in message


@pytest.mark.parametrize("text", ["", "{", "[1]", '"bert"', "\ufffe", "{" * 100_000])
def test_a_broken_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, "utf-8")
    assert "config.json" in _refusal(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": "64"},
        {"num_hidden_layers": None, "layer_norm_eps": "small"},
        {"num_attention_heads": 0},
        {"id2label": ["a", "b"]},
        {"architectures": [5]},
        {"architectures": ["NoSuchModel"]},
        {"architectures": ["os"]},
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(folder: Path, fields: dict[str, Any]) -> None:
    assert "config.json" in _refusal(edit_config(folder, **fields))


def test_other_names_of_fields_are_honoured(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "gpt2")
    edit_config(
        folder, n_embd=None, n_head=None, n_layer=None, hidden_size=64, num_attention_heads=4, num_hidden_layers=2
    )
    config = load_checkpoint(folder).config
    assert (config["n_embd"], config["n_head"], config["n_layer"]) == (64, 4, 2)


@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertForQuestionAnswering", "BertForMultipleChoice"])
def test_another_head_is_refused(folder: Path, head: str) -> None:
    message = _refusal(edit_config(folder, architectures=[head]))
    assert f"the checkpoint is a {head}" in message
    assert "fine-tune it with that head first" in message


def test_a_real_model_without_its_head_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert", bert().bert)
    assert load_checkpoint(folder).task == "feature-extraction"
    edit_config(folder, architectures=["BertForSequenceClassification"])
    assert "Tensors 2 missing: classifier.bias, classifier.weight" in _refusal(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = _refusal(folder)
    assert "model.safetensors: not a whole safetensors file" in message


def test_weights_with_a_tensor_missing_are_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedCheckpoint, match=r"1 missing: bert\.encoder\.layer\.1\.output\.dense\.weight\."):
        export(ExportOptions(folder, tmp_path / "bundle"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_all_tensors_that_do_not_fit_are_named_at_once(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["bert.pooler.dense.bias"], tensors["bert.embeddings.LayerNorm.weight"]
    tensors["classifier.bias"] = torch.zeros(3)
    tensors["bert.encoder.layer.2.output.dense.bias"] = torch.zeros(64)  # a layer that the configuration cuts off
    tensors["bert.encoder.layer.0.output.dense.lora_A"] = torch.zeros(64)
    tensors["cls.predictions.bias"] = torch.zeros(600)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    message = _refusal(folder)
    assert "2 missing: bert.embeddings.LayerNorm.weight, bert.pooler.dense.bias;" in message
    assert "1 of another shape: classifier.bias [3], not [2];" in message
    stray = "bert.encoder.layer.0.output.dense.lora_A, bert.encoder.layer.2.output.dense.bias"
    assert f"2 of parts that the configuration does not have: {stray}." in message
    assert "cls.predictions" not in message  # another head, which no answer needs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_all_tensors_with_broken_numbers_are_named_at_once(folder: Path, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["classifier.bias"][1] = float("nan")
    tensors["bert.pooler.dense.weight"][3, 5] = -float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "2 tensors hold NaN or infinite numbers: bert.pooler.dense.weight, classifier.bias." in _refusal(folder)


def test_old_names_masks_and_other_heads_are_no_problem(folder: Path, bert_folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for new, old in (("weight", "gamma"), ("bias", "beta")):
        tensors[f"bert.embeddings.LayerNorm.{old}"] = tensors.pop(f"bert.embeddings.LayerNorm.{new}")
    tensors["bert.embeddings.position_ids"] = torch.arange(96)[None]
    tensors["cls.predictions.bias"] = torch.zeros(600)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    checkpoint, whole = load_checkpoint(folder), load_checkpoint(bert_folder)
    assert _built(checkpoint) == _built(whole)


@pytest.mark.parametrize(("kind", "there"), [("memory", 500_000_000), ("disk", 1_000)])
def test_a_machine_that_is_too_small_is_said_before_the_work(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, there: int
) -> None:
    monkeypatch.setattr("edgelm_runtime.machine.memory_bytes", lambda: there if kind == "memory" else 0)
    if kind == "disk":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=there))
    message = _refusal(bert_folder)
    assert message.startswith(f"{kind}: an export needs about ")
    assert f"{there / 1e9:.2f} GB" in message


def test_integer_weights_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] = tensors["classifier.bias"].to(torch.int8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "'classifier.bias' is torch.int8" in _refusal(folder)


def test_sharded_weights_are_those_of_one_file(sharded: Path, bert_folder: Path) -> None:
    whole, parts = load_checkpoint(bert_folder), load_checkpoint(sharded)
    built = [bert_family.build(each.weights, each.config, scheme("int8"), each.wanted) for each in (whole, parts)]
    assert built[0] == built[1]
    assert parts.float32_bytes == whole.float32_bytes > 0


def test_a_sharded_checkpoint_is_exported(sharded: Path, tmp_path: Path) -> None:
    assert export(ExportOptions(sharded, tmp_path / "bundle")).parity.agreement >= 0.9


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    message = _refusal(sharded)
    assert repr(shard.name) in message
    assert "not in the folder" in message


def test_a_truncated_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-7])
    assert f"{shard.name}: not a whole safetensors file" in _refusal(sharded)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "..", "", "sub/x.safetensors", "a\0b"])
def test_a_shard_outside_the_folder_is_refused(sharded: Path, name: str) -> None:
    save_file({"classifier.bias": torch.zeros(2)}, sharded.parent / "outside.safetensors")
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["classifier.bias"] = name
    (sharded / INDEX).write_text(json.dumps(index))
    assert f"names the shard {name!r}" in _refusal(sharded)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": None}])
def test_a_broken_index_is_refused(sharded: Path, index: dict[str, Any]) -> None:
    (sharded / INDEX).write_text(json.dumps(index))
    assert f"{INDEX}: weight_map is" in _refusal(sharded)


def test_a_stale_index_beside_whole_weights_is_not_read(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": {"x": "gone.safetensors"}}')
    assert load_checkpoint(folder).labels == ("negative", "positive")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_with_how_to_convert(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cposix\nsystem\n(S'exit 1'\ntR.")  # runs a command when it is unpickled
    message = _refusal(folder)
    assert f"{name} is a pickle" in message
    assert "save_pretrained" in message


def test_pickled_weights_beside_safetensors_are_not_looked_at(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'exit 1'\ntR.")
    assert load_checkpoint(folder).task == "text-classification"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_float_type_work(dtype: torch.dtype, tmp_path: Path) -> None:
    model = bert(spread=0.05).to(dtype)
    folder = save_bert(tmp_path / "checkpoint", model)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.weights("classifier.weight").dtype == np.float32
    graph = Graph(_built(checkpoint), generator=False)
    for ids in rows(600):
        np.testing.assert_allclose(graph.logits(ids), torch_logits(model.float(), ids), rtol=0, atol=1e-4)
    report = export(ExportOptions(folder, tmp_path / "bundle"))
    assert report.checkpoint_bytes == 4 * sum(parameter.numel() for parameter in model.parameters())


def test_a_checkpoint_may_not_bring_code_along(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit(99)")
    edit_config(folder, auto_map={"AutoModelForSequenceClassification": "evil.Evil", "AutoConfig": "evil.Evil"})
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    assert load_checkpoint(folder).task == "text-classification"


def test_float32_bytes_of_a_tied_model_count_the_table_once(gpt2_folder: Path) -> None:
    checkpoint = load_checkpoint(gpt2_folder)
    gpt2_family.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted)
    assert checkpoint.float32_bytes == 4 * sum(parameter.numel() for parameter in gpt2().parameters())

"""LoRA adapters of peft: merged into their base they answer as peft does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertModel,
)

from edgelm.cli import cli
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from tests.export.seq2seq import seq2seq
from tests.export.tiny import bert, edit_config, rows, save_bert, torch_logits


def _adapted(base: Path, folder: Path, auto: Any, config: Any, **loading: Any) -> Path:
    """An adapter with random weights on the model in ``base``, as peft saves it; its base named as given."""
    model = get_peft_model(auto.from_pretrained(base, ignore_mismatched_sizes=True, **loading), config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder, save_embedding_layers=False)  # else peft asks the hub
    return folder


def _lora(task: str, modules: list[str], **settings: Any) -> LoraConfig:
    return LoraConfig(task_type=task, r=4, target_modules=modules, **settings)


def _edit(folder: Path, **fields: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.fixture(scope="module")
def adapter(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for the tiny classifier, with a head of three classes of its own."""
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    config = _lora("SEQ_CLS", ["query", "value"])
    return _adapted(bert_folder, folder, AutoModelForSequenceClassification, config, num_labels=3)


@pytest.fixture
def copied(adapter: Path, tmp_path: Path) -> Path:
    """A copy of the adapter, to be damaged."""
    return Path(shutil.copytree(adapter, tmp_path / "lora"))


def _refusal(origin: Origin, scratch: Path) -> str:
    with pytest.raises(UnsupportedCheckpoint) as refused, opened(origin, scratch):
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


def _error(origin: Origin, expected: Any, auto: Any, scratch: Path) -> float:
    """The largest difference of a logit between what is merged and what peft answers."""
    with opened(origin, scratch) as found:
        merged = auto.from_pretrained(found.folder, use_safetensors=True).eval()
        errors = [np.abs(torch_logits(merged, ids) - torch_logits(expected, ids)).max() for ids in rows(600)]
    assert not found.folder.exists()
    return float(max(errors))


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"query": 2}}])
def test_a_merged_classifier_answers_as_peft_does(bert_folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    config = _lora("SEQ_CLS", ["query", "dense"], **settings)
    folder = _adapted(bert_folder, tmp_path / "lora", AutoModelForSequenceClassification, config, num_labels=3)
    base = AutoModelForSequenceClassification.from_pretrained(bert_folder, num_labels=3, ignore_mismatched_sizes=True)
    expected = PeftModel.from_pretrained(base, folder).eval()
    assert _error(Origin(folder), expected, AutoModelForSequenceClassification, tmp_path) <= 1e-5


def test_a_merged_generator_answers_as_peft_does(gpt2_folder: Path, tmp_path: Path) -> None:
    config = _lora("CAUSAL_LM", ["c_attn", "c_proj"], fan_in_fan_out=True)
    folder = _adapted(gpt2_folder, tmp_path / "lora", AutoModelForCausalLM, config)
    expected = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(gpt2_folder), folder).eval()
    assert _error(Origin(folder), expected, AutoModelForCausalLM, tmp_path) <= 1e-5


def test_a_merged_reader_and_writer_has_pefts_weights(tmp_path: Path) -> None:
    base = save_bert(tmp_path / "t5", seq2seq("t5"))
    folder = _adapted(base, tmp_path / "lora", AutoModelForSeq2SeqLM, _lora("SEQ_2_SEQ_LM", ["q", "v"]))
    expected = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), folder).merge_and_unload()
    with opened(Origin(folder), tmp_path) as found:
        merged = AutoModelForSeq2SeqLM.from_pretrained(found.folder).state_dict()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(merged[name], tensor)


def test_a_base_in_half_precision_is_merged_in_float32(tmp_path: Path) -> None:
    base = save_bert(tmp_path / "half", bert(spread=0.05).to(torch.bfloat16))
    config = _lora("SEQ_CLS", ["query"])
    folder = _adapted(base, tmp_path / "lora", AutoModelForSequenceClassification, config, dtype=torch.float32)
    model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32)
    expected = PeftModel.from_pretrained(model, folder).eval()
    assert _error(Origin(folder), expected, AutoModelForSequenceClassification, tmp_path) <= 1e-5


def test_an_adapter_is_exported_under_its_name_and_nothing_else_is_left(adapter: Path, tmp_path: Path) -> None:
    export(ExportOptions(adapter, tmp_path / "bundle", precision="fp32"))
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert (len(manifest.labels), manifest.provenance["checkpoint"]) == (3, "lora")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("named", ["beside", "option", "hub"])
def test_the_base_is_found(
    copied: Path, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    base = Path(shutil.copytree(bert_folder, tmp_path / "base"))
    _edit(copied, base_model_name_or_path={"beside": "../base", "option": "gone/away", "hub": "someone/tiny"}[named])
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: str(base))
    origin = Origin(copied, base if named == "option" else None)
    with opened(origin, tmp_path) as found:
        assert found.how == "an adapter (LORA), merged into base"


def test_a_pickled_base_is_merged_where_it_is_allowed(copied: Path, bert_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(bert_folder, tmp_path / "base"))
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    assert "--allow-pickle" in _refusal(Origin(copied, base), tmp_path)
    with opened(Origin(copied, base, allow_pickle=True), tmp_path) as found:
        assert (found.folder / "model.safetensors").is_file()


def test_a_tokenizer_of_the_adapters_own_is_taken(copied: Path, bert_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bert_folder / "tokenizer.json", copied)
    (copied / "tokenizer_config.json").write_text('{"model_max_length": 33, "tokenizer_class": "TokenizersBackend"}')
    with opened(Origin(copied), tmp_path) as found:
        assert json.loads((found.folder / "tokenizer_config.json").read_text())["model_max_length"] == 33
        assert not (found.folder / "adapter_config.json").exists()


@pytest.mark.parametrize("base", ["", None, "/nowhere", "gone/away", "no such name/at all"])
def test_an_adapter_without_its_base_says_how_to_name_it(copied: Path, tmp_path: Path, base: str | None) -> None:
    _edit(copied, base_model_name_or_path=base)
    assert "--base DIR" in _refusal(Origin(copied), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "peft cannot merge an adapter of the kind 'PREFIX_TUNING'"),
        ({"peft_type": None}, "peft cannot merge an adapter of the kind 'None'"),
        ({"task_type": "QUESTION_ANS"}, "task_type 'QUESTION_ANS'; accepted: SEQ_CLS"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"target_modules": ["no_such_module"]}, "peft cannot merge it into"),
        ({"r": 8}, "peft cannot merge it into"),
        ({"target_modules": ["query"]}, "its base is another model"),
        ({"target_modules": ["query", "value", "key"]}, "places without a tensor: base_model"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused_by_name(
    copied: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    assert message in _refusal(Origin(_edit(copied, **fields)), tmp_path)


def test_a_real_prompt_tuning_is_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    folder = _adapted(gpt2_folder, tmp_path / "prompt", AutoModelForCausalLM, config)
    assert "of the kind 'PROMPT_TUNING'" in _refusal(Origin(folder), tmp_path)


def test_an_adapter_without_weights_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "adapter_model.safetensors").rename(copied / "adapter_model.bin")
    assert "adapter_model.bin is a pickle" in _refusal(Origin(copied), tmp_path)
    (copied / "adapter_model.bin").unlink()
    assert "an adapter without its weights" in _refusal(Origin(copied), tmp_path)


def test_broken_files_of_an_adapter_are_refused(copied: Path, tmp_path: Path) -> None:
    path = copied / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert "peft cannot merge it into" in _refusal(Origin(copied), tmp_path)
    (copied / "adapter_config.json").write_text("{")
    assert "not readable as JSON" in _refusal(Origin(copied), tmp_path)


def test_a_head_that_nobody_has_is_named(tmp_path: Path) -> None:
    base = save_bert(tmp_path / "base", BertModel(bert().config, add_pooling_layer=False))
    config = _lora("SEQ_CLS", ["query"])  # trained on a random pooler that nobody saved
    folder = _adapted(base, tmp_path / "lora", AutoModelForSequenceClassification, config)
    message = _refusal(Origin(folder), tmp_path)
    assert "neither the adapter nor its base has bert.pooler.dense.bias, bert.pooler.dense.weight" in message


@pytest.mark.parametrize("pooler", [True, False])
def test_an_embedder_needs_no_pooler(tmp_path: Path, pooler: bool) -> None:
    base = save_bert(tmp_path / "base", BertModel(bert().config, add_pooling_layer=pooler))
    folder = _adapted(base, tmp_path / "lora", AutoModel, _lora("FEATURE_EXTRACTION", ["query"]))
    with opened(Origin(folder), tmp_path) as found:
        assert load_checkpoint(found.folder).task == "feature-extraction"


def test_a_base_larger_than_memory_is_refused_before_it_is_loaded(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelm_runtime.machine.memory_bytes", lambda: 1_000_000)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)  # nothing is loaded
    assert "memory: an export needs about" in _refusal(Origin(adapter), tmp_path)


def test_a_quantized_base_is_refused(copied: Path, bert_folder: Path, tmp_path: Path) -> None:
    base = edit_config(
        Path(shutil.copytree(bert_folder, tmp_path / "base")), quantization_config={"quant_method": "bitsandbytes"}
    )
    assert "quantization_config" in _refusal(Origin(copied, base), tmp_path)


def test_a_base_for_what_is_no_adapter_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    assert "leave out --base" in _refusal(Origin(bert_folder, bert_folder), tmp_path)


def test_a_broken_number_of_an_adapter_is_found(copied: Path) -> None:
    tensors = load_file(copied / "adapter_model.safetensors")
    next(tensor for name, tensor in tensors.items() if "lora_A" in name)[0, 0] = float("nan")
    save_file(tensors, copied / "adapter_model.safetensors", {"format": "pt"})
    done = CliRunner().invoke(cli, ["doctor", str(copied)])
    assert done.exit_code == 7
    assert "NaN" in done.stdout or "broken weights" in done.stdout


def test_the_doctor_looks_at_the_merged_model(adapter: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", str(adapter)])
    assert done.exit_code == 0
    assert "an adapter (LORA), merged into bert" in done.stdout
    assert "LABEL_0, LABEL_1, LABEL_2" in done.stdout

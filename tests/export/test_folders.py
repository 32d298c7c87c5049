"""Folders as they are: what they are for, heads of other models, and names of tensors with something around them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.families import Wanted
from edgelm_export.mapped import torch_model
from edgelm_export.passes import prepared
from edgelm_export.quantize import scheme
from edgelm_export.reference import Reference
from edgelm_export.trace import trace, traceable
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.session import run
from edgelm_runtime.tasks.rows import Row
from tests.export.graphs import Answers, output
from tests.export.test_pairs import of_bert
from tests.export.tiny import (
    CONTEXT,
    SHAPES,
    Graph,
    bert,
    edit_config,
    randomized,
    rows,
    save_bert,
    torch_logits,
)  # fmt: skip

BERT = {
    "vocab_size": 600, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": CONTEXT, "pad_token_id": 0,
}  # fmt: skip
T5 = {
    "vocab_size": 600, "d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 4, "pad_token_id": 0,
    "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": 600, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": CONTEXT,
}  # fmt: skip
GPT2 = {"n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": CONTEXT, "bos_token_id": 0, "eos_token_id": 0}
SMALL = {
    "gpt2": {"vocab_size": 600, **GPT2},
    "bert": BERT,
    "phi": BERT,
    "t5": T5,
    "bart": BART,
    "marian": {**BART, "pad_token_id": 0},
    "dpr": BERT,
}


def _saved(folder: Path, name: str, kind: str) -> Path:
    """A tiny model of one of transformers' classes, with a tokenizer."""
    config = AutoConfig.for_model(kind, **SMALL[kind])
    return save_bert(folder, randomized(getattr(transformers, name)(config), 0, 0.05))


def _problem(folder: Path, task: str | None = None) -> str:
    problems = diagnose(Origin(folder), task).problems
    return problems[0].text if problems else ""


# By class: its model type, and what is said without --task, and with tasks; "" where it can be exported.
TASKS: dict[str, tuple[str, dict[str | None, str]]] = {
    "BertForPreTraining": ("bert", {
        None: "is a BertForPreTraining, whose heads serve pretraining alone: give --task classify, tag or embed",
        "embed": "", "classify": "It has no head for text-classification: fine-tune it with that head first",
    }),
    "BertForNextSentencePrediction": ("bert", {"embed": ""}),
    "BertForMaskedLM": ("bert", {
        None: "for 'fill-mask'; a bert is exported for text-classification, token-classification, feature-extraction: "
        "fine-tune it with that head first, or give --task embed", "embed": "",
    }),
    "BertForQuestionAnswering": ("bert", {None: "for 'question-answering'; a bert is exported for"}),
    "PhiForCausalLM": ("phi", {
        None: "text is written by bart, gpt2, gpt_neo, llama, mbart, mistral, mt5, opt, pegasus, qwen2, qwen3, t5, and "
        "'phi' is none of these: use a checkpoint of one of them, or give --task embed",
        "classify": "'phi' is none of these", "embed": "",
    }),
    "GPT2Model": ("gpt2", {None: "", "embed": "", "classify": "fine-tune it with that head first, or leave"}),
    "T5EncoderModel": ("t5", {None: "", "embed": "", "classify": "for text-classification fine-tune an encoder"}),
    "T5ForConditionalGeneration": ("t5", {"embed": "", "tag": "for token-classification fine-tune an encoder"}),
    "T5ForSequenceClassification": ("t5", {None: "for text-classification fine-tune an encoder, such as a BERT"}),
    "BartForSequenceClassification": ("bart", {None: "a bart is exported for text2text-generation: for text-class"}),
    "MarianMTModel": ("marian", {None: "that reads and writes; of these are exported bart, mbart, mt5, pegasus, t5"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_says_what_it_is_for_or_the_user_does(tmp_path: Path, name: str) -> None:
    kind, expected = TASKS[name]
    folder = _saved(tmp_path / "model", name, kind)
    for task, message in expected.items():
        assert message in _problem(folder, task)
        assert bool(message) == bool(_problem(folder, task)), task


def test_a_model_of_following_texts_classifies_pairs(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "model", "BertForNextSentencePrediction", "bert")
    of_bert(folder)
    with pytest.raises(UnsupportedCheckpoint, match="whether a text follows another: give --pairs"):
        load_checkpoint(folder)
    checkpoint = load_checkpoint(folder, pairs=True, labels=("follows", "does not"))
    built = checkpoint.architecture.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted)
    graph = Graph(built.graph, generator=False)
    model = transformers.BertForNextSentencePrediction.from_pretrained(folder).eval()
    for ids in rows(600, (7, 33)):
        segments = [int(place > 3) for place in range(len(ids))]
        with torch.inference_mode():
            expected = model(torch.tensor([ids]), token_type_ids=torch.tensor([segments])).logits[0].numpy()
        feeds = {"input_ids": np.array([ids]), "token_type_ids": np.array([segments])}
        np.testing.assert_allclose(run(graph._session, feeds, ["logits"])[0][0], expected, rtol=0, atol=1e-5)
        reference = Reference(checkpoint).logits([Row(ids, segments)])[0]
        np.testing.assert_allclose(reference, expected, rtol=0, atol=1e-5)


def test_without_architectures_the_task_is_asked_for(bert_folder: Path, tmp_path: Path) -> None:
    folder = edit_config(Path(shutil.copytree(bert_folder, tmp_path / "bert")), architectures=None)
    assert "has no `architectures`, which would say what this bert is for: give --task" in _problem(folder)
    assert load_checkpoint(folder, "text-classification").task == "text-classification"
    assert load_checkpoint(folder, "feature-extraction").task == "feature-extraction"
    assert "2 missing: classifier" not in _problem(folder, "classify")
    edit_config(folder, architectures=["MyBertForReviews"])
    assert "names 'MyBertForReviews', which is no class of transformers: give --task" in _problem(folder)
    assert load_checkpoint(folder, "text-classification").labels == ("negative", "positive")


def test_a_model_of_images_reads_no_text(bert_folder: Path, tmp_path: Path) -> None:
    folder = edit_config(Path(shutil.copytree(bert_folder, tmp_path / "vit")), model_type="vit", vocab_size=None)
    assert "a 'vit' has no vocab_size: it reads no text" in _problem(folder)


AROUND: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "torch.compile of a part": lambda name: name.replace("bert.", "bert._orig_mod.", 1),
    "DataParallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "Lightning": lambda name: f"model.{name}",
    "Lightning, compiled": lambda name: f"model._orig_mod.{name}",
    "a part of another model": lambda name: name.replace("bert.", "backbone.", 1),
}


def _renamed(folder: Path, rename: Callable[[str], str], **more: torch.Tensor) -> Path:
    path = folder / "model.safetensors"
    tensors = {rename(name): tensor for name, tensor in load_file(path).items()}
    save_file({**tensors, **more}, path, {"format": "pt"})
    return folder


@pytest.mark.parametrize("rename", AROUND.values(), ids=AROUND)
def test_what_stands_around_a_model_is_taken_off_its_names(tmp_path: Path, rename: Callable[[str], str]) -> None:
    model = bert(spread=0.05, num_hidden_layers=1)
    folder = _renamed(save_bert(tmp_path / "bert", model), rename, **{"criterion.weight": torch.ones(2)})
    checkpoint = load_checkpoint(folder)
    built = checkpoint.architecture.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted)
    for ids in rows(600):
        expected = torch_logits(model, ids)
        np.testing.assert_allclose(torch_logits(torch_model(checkpoint), ids), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(Graph(built.graph, generator=False).logits(ids), expected, rtol=0, atol=1e-5)
    (tensors,) = [each for each in diagnose(Origin(folder)).findings if each.check == "tensors"]
    assert (tensors.state, "are read under shorter names" in tensors.text) == ("note", True)


def test_other_names_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = _renamed(save_bert(tmp_path / "bert"), lambda name: f"part{len(name) % 3}.{name}")
    message = _problem(folder)
    assert "41 missing: bert.embeddings.LayerNorm.bias, bert.embeddings.LayerNorm.weight" in message
    assert "The 41 tensors of the folder have other names, such as part" in message
    assert len(message) < 900


def test_silu_is_computed(tmp_path: Path) -> None:
    for name in ("silu", "swish"):
        model = bert(spread=0.15, num_hidden_layers=1, hidden_act=name)
        checkpoint = load_checkpoint(save_bert(tmp_path / name, model))
        built = checkpoint.architecture.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted)
        for ids in rows(600):
            logits = Graph(built.graph, generator=False).logits(ids)
            np.testing.assert_allclose(logits, torch_logits(model, ids), rtol=0, atol=1e-5)


LLAMA = {
    **SHAPES["llama"], "num_hidden_layers": 1, "max_position_embeddings": CONTEXT, "bos_token_id": 0, "eos_token_id": 0
}  # fmt: skip
# By model type: its shape, a task, and the token that is padding.
BODIES = [
    ("gpt2", GPT2, "text-classification", None), ("llama", LLAMA, "text-classification", 7),
    ("t5", T5, "feature-extraction", 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shape", "task", "padding"), BODIES)
def test_bodies_of_generators_classify_and_embed(
    tmp_path: Path, kind: str, shape: dict[str, Any], task: str, padding: int | None
) -> None:
    name = {"text-classification": "AutoModelForSequenceClassification", "feature-extraction": "AutoModel"}[task]
    name = "AutoModelForTextEncoding" if kind == "t5" else name
    config = AutoConfig.for_model(kind, **{"vocab_size": 600, "num_labels": 3, **shape, "pad_token_id": padding})
    model = randomized(getattr(transformers, name).from_config(config), 0, 0.15)
    folder = save_bert(tmp_path / "model", model)
    checkpoint = load_checkpoint(folder, task)
    pooled = {"text-classification": (), "feature-extraction": ("mean",) if kind == "t5" else ("lasttoken",)}
    assert checkpoint.wanted.poolings == pooled[task]
    wanted = Wanted(task, CONTEXT, ("lasttoken",) if task == "feature-extraction" else ())
    graph = prepared(trace(traceable(folder, checkpoint.config, task, {}), wanted, kind), segments=False, where=kind)
    answers = Answers(graph.model, scheme("fp32"))
    # The last token that is no padding is read, also where padding stands at the end of a text.
    texts = [*rows(600, (1, 2, 9, 33, CONTEXT)), [5, 6, 7], [7, 5, 7, 6, 7, 7]]
    for ids in texts:
        np.testing.assert_allclose(answers(ids), output(model, wanted, ids), rtol=0, atol=1e-4)


def test_a_body_without_its_head_is_refused(tmp_path: Path) -> None:
    model = randomized(transformers.AutoModel.from_config(AutoConfig.for_model("gpt2", vocab_size=600, **GPT2)), 0, 0.1)
    folder = edit_config(save_bert(tmp_path / "gpt2", model), architectures=["GPT2ForSequenceClassification"])
    with pytest.raises(UnsupportedCheckpoint, match=r"Tensors 1 missing: score\.weight\. It has no head"):
        load_checkpoint(folder)

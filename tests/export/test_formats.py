"""Folders as transformers 4 wrote them, and tokenizers in other forms than tokenizer.json."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from edgelm_export import families
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.quantize import scheme
from edgelm_runtime.errors import UnsupportedCheckpoint
from tests.export.tiny import TEXTS, Graph, decoder, edit_config, rows, save_bert, save_gpt2, torch_logits

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
ENGLISH = [text for text in TEXTS if text.isascii()]
END = {"eos_token": "<|endoftext|>"}
ADDED = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


def _as_version_4(folder: Path, **fields: Any) -> Path:
    """Write config.json as transformers 4 did: rotary fields apart, `torch_dtype`, its version."""
    return edit_config(
        folder, rope_parameters=None, dtype=None, torch_dtype="float32", transformers_version="4.45.0", **fields
    )


def _tokenizer_config(folder: Path, **fields: Any) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(fields), "utf-8")
    return folder


def _note(folder: Path, check: str) -> str:
    (finding,) = [finding for finding in diagnose(Origin(folder)).findings if finding.check == check]
    assert finding.state == "note"
    return finding.text


@pytest.mark.parametrize(
    "rotary",
    [
        {"rope_theta": 500.0},
        {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 500.0, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}},
        {"rope_theta": 500.0, "rope_scaling": LLAMA3},
    ],
)
def test_rotary_fields_of_transformers_4_mean_what_they_meant(tmp_path: Path, rotary: dict[str, Any]) -> None:
    folder = _as_version_4(save_gpt2(tmp_path / "llama", decoder("llama")), **rotary)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config["rope_parameters"]["rope_theta"] == 500.0
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    family = families.family("llama")
    graph = Graph(
        family.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted).graph, generator=True
    )
    for ids in rows(600, (1, 40)):
        np.testing.assert_allclose(graph.logits(ids), torch_logits(model, ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "special"),
    [
        (
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>", **ADDED},
            },
            {},
        ),
        ({"tokenizer_class": "GPT2TokenizerFast", "additional_special_tokens": ["<|summary|>"], **END}, {}),
        ({"tokenizer_class": "LlamaTokenizerFast", **END, "model_max_length": 10**30}, {}),
        (
            {"tokenizer_class": "PreTrainedTokenizerFast"},
            {"eos_token": {"content": "<|endoftext|>", **ADDED}, "additional_special_tokens": ["<|summary|>"]},
        ),
    ],
)
def test_tokenizers_of_transformers_4_split_alike(
    tmp_path: Path, gpt2_folder: Path, fields: dict[str, Any], special: dict[str, Any]
) -> None:
    folder = _tokenizer_config(save_gpt2(tmp_path / "gpt2"), **fields)
    if special:
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.tokenizer.eos_ids, checkpoint.tokenizer.max_tokens) == ((0,), 96)
    ours, file = Tokenizer.from_str(checkpoint.tokenizer_json.decode()), gpt2_folder / "tokenizer.json"
    for text in [*TEXTS[:20], "  two  spaces", "<|summary|>a<|endoftext|>"]:
        assert ours.encode(text).ids == Tokenizer.from_file(str(file)).encode(text).ids


def test_a_class_that_splits_otherwise_than_the_file_is_followed_and_noted(tmp_path: Path) -> None:
    folder = _tokenizer_config(save_bert(tmp_path / "bert"), tokenizer_class="BertTokenizer", do_lower_case=False)
    assert "splits 'The Box is RED' otherwise than tokenizer.json" in _note(folder, "tokenizer")
    _tokenizer_config(folder, tokenizer_class="PreTrainedTokenizerFast", model_max_length=96)
    assert [finding.state for finding in diagnose(Origin(folder)).findings].count("note") == 0


def _sentencepiece(**settings: Any) -> bytes:
    """A small model trained on our English texts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH), model_writer=model, vocab_size=300, hard_vocab_limit=False, minloglevel=2,
        **settings,
    )  # fmt: skip
    return model.getvalue()


def test_a_sentencepiece_model_is_converted(tmp_path: Path) -> None:
    model = _sentencepiece(model_type="unigram")
    slow = sentencepiece.SentencePieceProcessor(model_proto=model)
    folder = save_bert(tmp_path / "bert")
    (folder / "tokenizer.json").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    _tokenizer_config(folder, tokenizer_class="XLMRobertaTokenizer")
    fast = Tokenizer.from_str(load_checkpoint(folder).tokenizer_json.decode())
    for text in ENGLISH[:20]:
        pieces = fast.encode(text, add_special_tokens=False).tokens
        known = [slow.id_to_piece(id) if id != slow.unk_id() else "<unk>" for id in slow.encode(text)]
        assert pieces == known


def test_a_word_list_alone_is_converted(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.get)), "utf-8")
    fast = Tokenizer.from_str(load_checkpoint(folder).tokenizer_json.decode())
    assert fast.encode("The QUALITY").tokens[:2] == ["[CLS]", "the"]
    assert "[UNK]" not in fast.encode("质量").tokens


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer has no fast form"),
        ({"tokenizer_class": "NoSuchTokenizer"}, "'NoSuchTokenizer' is none of transformers"),
        ({"tokenizer_class": "BertTokenizer"}, r"its tokenizer cannot be read .*Missing \[UNK\] token"),
        ({"tokenizer_class": "BertTokenizer", "eos_token": ["[SEP]"]}, r"vocab\.txt has no line \[UNK\]"),
    ],
)
def test_a_tokenizer_that_cannot_be_converted_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = save_bert(tmp_path / "bert")
    (folder / "tokenizer.json").rename(folder / "vocab.txt")
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(_tokenizer_config(folder, **fields))


def test_a_broken_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert")
    (folder / "tokenizer.json").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(b"\xff" * 100)
    with pytest.raises(UnsupportedCheckpoint, match="transformers cannot load its tokenizer"):
        load_checkpoint(_tokenizer_config(folder, tokenizer_class="XLMRobertaTokenizer"))

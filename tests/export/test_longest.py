"""The longest text that a model reads, which some configurations say too large: asked of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from edgelm_export import longest as measuring
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.longest import longest, longest_of_torch
from tests.export import onnx_folder
from tests.export.tiny import CONTEXT, encoder, randomized, save_bert

SHAPE = {
    "vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32,
    "max_position_embeddings": CONTEXT, "pad_token_id": 1, "type_vocab_size": 2,
}  # fmt: skip
# By model type: further fields, and the tokens that its 96 positions are enough for.
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "data2vec-text": ({}, CONTEXT - 2),
    "roberta-prelayernorm": ({}, CONTEXT - 2),
    "xlm-roberta-xl": ({}, CONTEXT - 2),
    "ibert": ({"quant_mode": False}, CONTEXT - 2),
    "luke": ({"entity_vocab_size": 4, "entity_emb_size": 16}, CONTEXT - 2),
    "xmod": ({"languages": ["en_XX"], "default_language": "en_XX"}, CONTEXT - 2),
    "albert": ({"embedding_size": 16}, CONTEXT),
}


def _model(kind: str, **fields: Any) -> Any:
    config = AutoConfig.for_model(kind, **{**SHAPE, **fields})
    return randomized(transformers.AutoModelForSequenceClassification.from_config(config), 0, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_says_what_its_model_reads(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    fields, most = KINDS[kind]
    model = _model(kind, **fields)
    checkpoint = load_checkpoint(save_bert(tmp_path / "model", model))
    assert checkpoint.tokenizer.max_tokens == checkpoint.wanted.context == most
    assert ("the model reads 94 tokens, not the 96" in capsys.readouterr().err) is (most < CONTEXT)
    ids = torch.full((1, most), 9)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    if most < CONTEXT:
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, most + 1), 9), attention_mask=torch.ones((1, most + 1)))


def test_a_graph_is_asked_too(tmp_path: Path) -> None:
    # Its positions are counted as RoBERTa's, and its configuration is called by another name.
    folder = onnx_folder.write(tmp_path / "model", _model("data2vec-text"), "logits")
    assert load_checkpoint(folder).tokenizer.max_tokens == CONTEXT - 2
    assert load_checkpoint(onnx_folder.write(tmp_path / "bert", encoder("bert"), "logits")).tokenizer.max_tokens == 96


def test_long_contexts_are_known_by_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("data2vec-text")
    monkeypatch.setattr(measuring, "MOST", 64)
    assert longest_of_torch(model, model.config.to_dict(), CONTEXT) == CONTEXT - 2
    assert longest_of_torch(_model("albert", embedding_size=16), model.config.to_dict(), CONTEXT) == CONTEXT


@pytest.mark.parametrize("limit", [0, 1, 2, 94, 95, 96, 200])
def test_the_largest_number_that_is_read_is_found(limit: int) -> None:
    assert longest(lambda length: length <= limit, 96) == (min(limit, 96) or 96)

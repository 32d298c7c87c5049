"""Pairs of texts: a model is told which of the two a token is of where transformers' own pipeline tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from tokenizers import processors
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.reference import Reference
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.tasks.rows import Row
from tests.export import graphs, tiny
from tests.export.test_trim import byte_level

PAIRS = [("Does it fit true to size?", "Soft fabric, true to size."), ("Good", "物流很快"), ("a b c", "d")]


def of_roberta(folder: Path) -> None:
    """RoBERTa's own class, which gives no segments."""
    model = json.loads(byte_level().backend_tokenizer.to_str())["model"]
    RobertaTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]]).save_pretrained(folder)


TOLD = ["input_ids", "token_type_ids", "attention_mask"]


def of_bert(folder: Path) -> None:
    """BERT's own class, which gives segments."""
    tokenizer = tiny.train_bert_tokenizer(tiny.TEXTS, 600, tiny.CONTEXT)
    BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=tiny.CONTEXT).save_pretrained(folder)


def general(folder: Path, *, second: int = 1, first: int = 0, given: list[str] | None = TOLD) -> None:
    """A tokenizer of no family, whose template says the segments: transformers gives those of ``given``."""
    options: dict[str, Any] = {} if given is None else {"model_input_names": given}
    fast = byte_level()
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s>:{first} $A:0 </s>:0", pair=f"<s>:0 $A:0 </s>:0 $B:{second} </s>:{second}",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=fast.backend_tokenizer, model_max_length=tiny.CONTEXT, bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>", **options,
    ).save_pretrained(folder)  # fmt: skip


def _unsaid(folder: Path) -> None:
    general(folder, given=None)


CASES: dict[str, tuple[str, int, Callable[[Path], None], bool]] = {
    "bert": ("bert", 2, of_bert, True),
    "bert, no segments": ("bert", 2, _unsaid, False),
    "roberta, two segments": ("roberta", 2, of_roberta, False),
    "roberta, one segment": ("roberta", 1, of_roberta, False),
    "roberta, segments": ("roberta", 2, general, True),
    "xlm-roberta, segments of zero": ("xlm-roberta", 2, lambda folder: general(folder, second=0), True),
    "albert, traced": ("albert", 2, of_bert, True),
    "albert, traced, no segments": ("albert", 2, _unsaid, False),
    "deberta-v2, traced": ("deberta-v2", 0, of_bert, False),
}


def _folder(folder: Path, kind: str, types: int, save_tokenizer: Callable[[Path], None]) -> Path:
    config = {"vocab_size": 620, "pad_token_id": 1, "type_vocab_size": types}
    made = tiny.encoder(kind, **config) if kind in tiny.ENCODERS else graphs.model(kind, graphs.TASKS[0], **config)
    made.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.mark.parametrize(("kind", "types", "save_tokenizer", "told"), CASES.values(), ids=CASES)
def test_pairs_are_answered_as_by_the_pipeline_of_transformers(
    tmp_path: Path, kind: str, types: int, save_tokenizer: Callable[[Path], None], told: bool
) -> None:
    folder = _folder(tmp_path / "model", kind, types, save_tokenizer)
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None, function_to_apply="softmax")
    options = ExportOptions(folder, tmp_path / "bundle", pairs=True, precision="fp32", languages=("en", "zh"))
    assert export(options).parity.agreement == 1
    model = load(tmp_path / "bundle")
    graph = onnx.load(tmp_path / "bundle" / "model.onnx").graph
    assert ("token_type_ids" in {value.name for value in graph.input}) is told
    assert f"two texts {'told apart' if told else 'of one segment'}" in diagnose(Origin(folder)).table()
    checkpoint, tokenizer = load_checkpoint(folder, pairs=True), AutoTokenizer.from_pretrained(folder)
    reference = Reference(checkpoint)
    for text, other in PAIRS:
        expected = {one["label"]: one["score"] for one in pipeline({"text": text, "text_pair": other})}
        found = model((text, other)).scores
        np.testing.assert_allclose([found[label] for label in expected], list(expected.values()), rtol=0, atol=1e-4)
        encoding = tokenizer._tokenizer.encode(text, other)
        logits = reference.logits([Row(encoding.ids, encoding.type_ids)])[0]
        scores = torch.softmax(torch.from_numpy(logits), 0).tolist()
        np.testing.assert_allclose(scores, [expected[label] for label in checkpoint.labels], rtol=0, atol=1e-4)


def test_a_tokenizer_that_numbers_the_segments_of_one_text_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", "bert", 2, lambda folder: general(folder, first=1))
    with pytest.raises(UnsupportedCheckpoint, match=r"puts tokens of a single text into the segments \[0, 1\]"):
        load_checkpoint(folder)
    for task in ("text-classification", "embed"):
        assert [finding.check for finding in diagnose(Origin(folder), task).problems] == ["tokenizer"]
    folder = _folder(tmp_path / "one", "bert", 1, lambda folder: general(folder, first=1))
    assert not load_checkpoint(folder).wanted.segments  # there is but one, which transformers would not find


def test_segments_that_nobody_gives_are_said(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", "roberta", 2, _unsaid)
    (tokenizer,) = [finding for finding in diagnose(Origin(folder)).findings if finding.check == "tokenizer"]
    assert tokenizer.state == "note"
    assert (
        "tokenizer.json numbers the two texts of a pair, and its class does not give that to the model"
        in tokenizer.text
    )
    folder = _folder(tmp_path / "one", "roberta", 1, _unsaid)
    assert "numbers the two texts" not in diagnose(Origin(folder)).table()


@pytest.mark.parametrize("limit", [16, 32])
def test_a_short_limit_is_no_reason_against_pairs(tmp_path: Path, limit: int) -> None:
    folder = _folder(tmp_path / "model", "bert", 2, of_bert)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": limit}))
    options = ExportOptions(folder, tmp_path / "bundle", pairs=True, precision="fp32", languages=("en", "zh"))
    assert export(options).parity.agreement == 1
    model = load(tmp_path / "bundle")
    long, short = "The zipper broke after two days, and nobody answers. " * 9, "the zipper"
    for pair in ((long, short), (short, long), (long, long)):
        assert max(map(len, model.windows(pair))) == limit
        assert model(pair).windows > 1
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = ("the zipper broke", "two days")
    assert model.windows(whole) == [tokenizer(*whole).input_ids]

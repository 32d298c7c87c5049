"""Tokenizers of folders as they are: the class that the files decide, and one that reads ordinary texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, BertTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.tokenizer import read_tokenizer
from edgelm_export.checkpoint.vocabulary import TEXTS
from edgelm_export.text_parity.own import OwnTokenizer
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.tokenizer import TextTokenizer

CHINESE = "物流很快，质量也好 包装破了，客服一直不回复 the price is fine"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHINESE.replace(" ", ""))]
VOCABULARY = [*WORDS, *(f"##{letter}" for letter in dict.fromkeys("thepriceisfine")), "the", "price", "is", "fine"]


def _folder(folder: Path, kind: str, vocabulary: str, settings: dict[str, Any] | None) -> dict[str, Any]:
    """A folder of a model type with a vocab.txt, and its configuration."""
    folder.mkdir()
    config: dict[str, Any] = AutoConfig.for_model(kind, vocab_size=400).to_dict()
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    (folder / "vocab.txt").write_text(vocabulary, "utf-8")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return {**config, "model_type": kind}


def _refusal(folder: Path, config: dict[str, Any]) -> str:
    with pytest.raises(UnsupportedCheckpoint) as refused:
        read_tokenizer(folder, config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# By case: the model type, and the tokenizer_class that tokenizer_config.json names; None where there is no such file.
BESIDE = [
    ("bart", None), ("bart", "BartTokenizer"), ("bart", "BertTokenizer"), ("pegasus", None),
    ("pegasus", "PegasusTokenizer"), ("t5", None), ("mt5", "T5Tokenizer"), ("gpt2", None), ("gpt2", "GPT2Tokenizer"),
    ("roberta", None), ("roberta", "RobertaTokenizerFast"), ("llama", None), ("bert", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "named"), BESIDE)
def test_a_vocab_txt_is_read_as_berts(tmp_path: Path, kind: str, named: str | None) -> None:
    settings = None if named is None else {"tokenizer_class": named}
    config = _folder(tmp_path / "model", kind, "\n".join(VOCABULARY), settings)
    read = read_tokenizer(tmp_path / "model", config)
    expected = BertTokenizer(vocab={word: index for index, word in enumerate(dict.fromkeys(VOCABULARY))})
    tokenizer = TextTokenizer(read.json, read.spec)
    for text in (CHINESE, "物流 fine", "the price"):
        assert tokenizer.encode(text) == expected(text).input_ids
        assert 1 not in tokenizer.encode(text)
    assert ("read as BERT's" in read.chosen) is (kind != "bert" and named != "BertTokenizer")


def test_lower_case_is_that_of_the_folder(tmp_path: Path) -> None:
    upper = "\n".join([*VOCABULARY, "Nike"])
    config = _folder(tmp_path / "cased", "bart", upper, {"do_lower_case": False})
    read = read_tokenizer(tmp_path / "cased", config)
    assert TextTokenizer(read.json, read.spec).encode("Nike", special=False) == [len(dict.fromkeys(VOCABULARY))]


def test_a_class_of_its_own_is_asked_for(tmp_path: Path) -> None:
    config = _folder(tmp_path / "model", "mt5", "\n".join(VOCABULARY), {"tokenizer_class": "T5PegasusTokenizer"})
    message = _refusal(tmp_path / "model", config)
    assert "tokenizer_class 'T5PegasusTokenizer' is none of transformers" in message
    assert "name BertTokenizer, and where it cuts words first (jieba), save its fast form" in message


def test_a_vocab_txt_of_another_kind_is_refused(tmp_path: Path) -> None:
    config = _folder(tmp_path / "model", "roberta", "the 1\nprice 2\n", None)
    assert "vocab.txt has no line [UNK], so that it is not BERT's; name the class" in _refusal(
        tmp_path / "model", config
    )


@pytest.mark.parametrize("kind", ["roberta", "gpt2", "t5", "bert"])
def test_a_tokenizer_without_its_vocabulary_is_refused(tmp_path: Path, kind: str) -> None:
    config = _folder(tmp_path / "model", kind, "", None)
    (tmp_path / "model" / "vocab.txt").rename(tmp_path / "model" / "tokenizer.model")
    message = _refusal(tmp_path / "model", config)
    assert "reads ordinary texts as unknown" in message or "cannot load its tokenizer" in message


def test_what_a_tokenizer_lacks_is_named(tmp_path: Path) -> None:
    config = _folder(tmp_path / "model", "bert", "", None)
    (tmp_path / "model" / "vocab.txt").rename(tmp_path / "model" / "vocab.json")
    message = _refusal(tmp_path / "model", config)
    assert "a BertTokenizer of 5 tokens, reads ordinary texts as unknown" in message
    assert "The folder has vocab.json, BertTokenizer reads vocab.txt, which is not there" in message
    assert "name the class that reads the file as tokenizer_class in tokenizer_config.json" in message


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "BPE"])
def test_a_tokenizer_of_any_script_is_accepted(tmp_path: Path, kind: str, text: str) -> None:
    model, trainer = {
        "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer),
        "BPE": (models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
    }[kind]
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"special_tokens": ["[UNK]", "[PAD]"], "show_progress": False}
    made.train_from_iterator(
        [text], trainer(vocab_size=60, **special, **({"unk_token": "[UNK]"} if kind == "Unigram" else {}))
    )
    config = _folder(tmp_path / "model", "bert", "", None)
    (tmp_path / "model" / "vocab.txt").unlink()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        tmp_path / "model"
    )
    (tmp_path / "model" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert read_tokenizer(tmp_path / "model", config).chosen == ""


def test_torch_reads_the_same_tokenizer(tmp_path: Path) -> None:
    config = {
        "vocab_size": len(dict.fromkeys(VOCABULARY)), "n_embd": 16, "n_layer": 1, "n_head": 1, "n_positions": 32,
        "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    GPT2LMHeadModel(GPT2Config(**config)).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_text("\n".join(dict.fromkeys(VOCABULARY)), "utf-8")
    checkpoint = load_checkpoint(tmp_path / "model")
    own = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
    assert OwnTokenizer(checkpoint).encode(CHINESE) == own.encode(CHINESE)
    assert len(own.encode(CHINESE)) > 20

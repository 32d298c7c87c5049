"""A small tokenizer of every kind that checkpoints come with, trained on the texts of the tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from edgelm_export.finetune.base import train_bert_tokenizer, train_gpt2_tokenizer
from tests.export import tiny

VOCAB = 600
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
BERT = {name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
ROBERTA = {**LLAMA, "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT's: words and pieces with ## in lower case, Han characters by themselves."""
    special = list(BERT.values())
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(tiny.TEXTS, trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=special))
    return _fast(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", BERT)


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's: bytes, nothing around a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train_bpe(tokenizer, ["<|endoftext|>"], pre_tokenizers.ByteLevel.alphabet())
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=tiny.CONTEXT, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def byte_level_between() -> PreTrainedTokenizerFast:
    """As RoBERTa's: bytes, <s> and </s> around a text, and a <mask> that takes the space before it."""
    from tokenizers import AddedToken

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train_bpe(tokenizer, ["<s>", "<pad>", "</s>", "<unk>"], pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return _fast(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ROBERTA)


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2's: pieces of sentencepiece with a space put before, bytes for the rest, <s> before a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _pieces(tokenizer)


def metaspace() -> PreTrainedTokenizerFast:
    """As Mistral's: the same, with the space before the first word of a prompt alone."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _pieces(tokenizer)


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: the most probable pieces, </s> after a text."""
    tokenizer = _unigram(["<pad>", "</s>", "<unk>"], 2)
    return _fast(tokenizer, "$A </s>", "$A </s> $B </s>", {**LLAMA, "bos_token": None, "pad_token": "<pad>"})


def unigram_between() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa's: the same, <s> and </s> around a text."""
    tokenizer = _unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], 3)
    return _fast(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ROBERTA)


def edgelm_bert() -> PreTrainedTokenizerFast:
    """As `edgelm finetune` makes it for a classifier."""
    return train_bert_tokenizer(tiny.TEXTS, VOCAB, tiny.CONTEXT)


def edgelm_gpt2() -> PreTrainedTokenizerFast:
    """As `edgelm finetune` makes it for a generator."""
    return train_gpt2_tokenizer(tiny.TEXTS, VOCAB, tiny.CONTEXT)


KINDS: Mapping[str, Callable[[], PreTrainedTokenizerFast]] = {
    make.__name__: make
    for make in (
        wordpiece, byte_level, byte_level_between, sentencepiece, metaspace, unigram, unigram_between, edgelm_bert,
        edgelm_gpt2,
    )
}  # fmt: skip


def _train_bpe(tokenizer: Tokenizer, special: list[str], alphabet: list[str], words: bool = False) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 4, special_tokens=special, initial_alphabet=alphabet, max_token_length=12,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([w for t in tiny.TEXTS for w in t.split()] if words else tiny.TEXTS, trainer)


def _pieces(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Train on single words, so that no piece goes over a space; the bytes are no added tokens."""
    special = ["<unk>", "<s>", "</s>"]
    _train_bpe(tokenizer, [*special, *BYTES], [], words=True)
    stripped = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(stripped)
    tokenizer = without_added(tokenizer, BYTES)
    return _fast(tokenizer, "<s> $A", "<s> $A <s> $B", LLAMA)


def without_added(tokenizer: Tokenizer, tokens: list[str]) -> Tokenizer:
    """The tokenizer, with these as pieces of its vocabulary alone."""
    import json

    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in tokens]
    return Tokenizer.from_str(json.dumps(content))


def _unigram(special: list[str], unknown: int) -> Tokenizer:
    words = Counter(word for text in tiny.TEXTS for word in f" {text}".replace(" ", " ▁").split())
    letters = Counter(letter for word, count in words.items() for letter in word for _ in range(count))
    counts = {**dict(words.most_common(60)), **letters}
    pieces = [*((name, 0.0) for name in special), *((name, math.log(count / 1e4)) for name, count in counts.items())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    return tokenizer


def _fast(tokenizer: Tokenizer, single: str, pair: str, names: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    special = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(filter(None, names.values()))]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=tiny.CONTEXT, **names)

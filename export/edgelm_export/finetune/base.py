"""The model that fine-tuning starts from: a Hugging Face folder, or a fresh one with its own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from edgelm_export.checkpoint import PROMPTS_FILE
from edgelm_export.checkpoint.config import reason_of
from edgelm_runtime.errors import UnsupportedCheckpoint

END, ANSWER = "<|endoftext|>", "<|answer|>"
# A prompt for a tokenizer that has special tokens for it (every fresh one), and one for any other.
TEMPLATES: Mapping[str, tuple[str, str]] = {
    "summary": ("<|summary|>{text}<|answer|>", "{text}\n\nSummary:\n"),
    "description": ("<|description|>{text}<|answer|>", "{text}\n\nDescription:\n"),
}


@dataclass(frozen=True)
class FreshSize:
    """The shape of a model that is made new."""

    hidden_size: int
    layers: int
    heads: int
    vocab_size: int
    positions: int


FRESH_BERT = {"tiny": FreshSize(128, 2, 2, 4000, 256), "small": FreshSize(256, 4, 4, 12000, 256)}
FRESH_GPT2 = {"tiny": FreshSize(128, 2, 2, 4000, 384), "small": FreshSize(256, 4, 4, 8000, 512)}

_AUTO_MODELS: Mapping[str, Any] = {
    "sequence-classification": AutoModelForSequenceClassification,
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
}


@dataclass(frozen=True)
class Base:
    """A model to train, its tokenizer, and the prompt template of each generator task."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    prompts: Mapping[str, str]


def load_base(base: str, kind: str, texts: Sequence[str], labels: Sequence[str], vocab_size: int | None) -> Base:
    """Load the folder ``base``, or make a fresh model when it is ``tiny`` or ``small``.

    Args:
        kind: ``sequence-classification``, ``masked`` or ``causal``.
        texts: what a fresh tokenizer is trained on; unused for a folder.
        labels: class names of a classifier, otherwise empty.
        vocab_size: pieces of a fresh tokenizer; None takes that of the size.

    Raises:
        UnsupportedCheckpoint: the folder does not exist, or transformers cannot load it.
    """
    if base not in FRESH_BERT:
        return _load_folder(Path(base), kind, labels)
    sizes = FRESH_GPT2 if kind == "causal" else FRESH_BERT
    size = sizes[base]
    tokenizer = (train_gpt2_tokenizer if kind == "causal" else train_bert_tokenizer)(
        texts, vocab_size or size.vocab_size, size.positions
    )
    config = (_gpt2_config if kind == "causal" else _bert_config)(size, tokenizer)
    _set_labels(config, labels)
    prompts = {task: special for task, (special, _) in TEMPLATES.items()} if kind == "causal" else {}
    return Base(_AUTO_MODELS[kind].from_config(config, trust_remote_code=False), tokenizer, prompts)


def _load_folder(folder: Path, kind: str, labels: Sequence[str]) -> Base:
    if not (folder / "config.json").is_file():
        raise UnsupportedCheckpoint(
            f"--base {str(folder)!r}: no config.json there; accepted are a Hugging Face folder, 'tiny' and 'small'"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _set_labels(config, labels)
        model = _AUTO_MODELS[kind].from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            ignore_mismatched_sizes=bool(labels),
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise UnsupportedCheckpoint(f"{folder}: transformers cannot load it as a base ({reason_of(error)})") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedCheckpoint(f"{folder}: its tokenizer has no fast form; save it as tokenizer.json first")
    if kind == "sequence-classification" and tokenizer.pad_token_id is None:
        raise UnsupportedCheckpoint(f"{folder}: its tokenizer has no padding token, which a classifier is trained with")
    stored = folder / PROMPTS_FILE
    prompts = json.loads(stored.read_text("utf-8")) if stored.is_file() else _default_prompts(tokenizer)
    return Base(model, tokenizer, prompts if kind == "causal" else {})


def _default_prompts(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    has_tokens = ANSWER in tokenizer.get_vocab()
    return {task: special if has_tokens else plain for task, (special, plain) in TEMPLATES.items()}


def _set_labels(config: Any, labels: Sequence[str]) -> None:
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: index for index, name in enumerate(labels)}
        config.problem_type = "single_label_classification"


def train_bert_tokenizer(texts: Sequence[str], vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A lower-casing BPE tokenizer with BERT's special tokens.

    Chinese is not cut into characters as BERT's own does: frequent words become one token, which makes short
    reviews half as long and gives a small model its n-grams for nothing.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(r"\p{Han}+|\p{N}"), "isolated")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, limit_alphabet=vocab_size // 3, max_token_length=8,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def train_gpt2_tokenizer(texts: Sequence[str], vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as GPT-2's, with special tokens for the prompts and every Han character by itself.

    An attribute's value is then the same tokens in the prompt as in the middle of a sentence: it can be copied.
    """
    special = [END, "<|summary|>", "<|description|>", ANSWER]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{Han}|\p{N}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, max_token_length=16, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_tokens, bos_token=END, eos_token=END, pad_token=END
    )


def _bert_config(size: FreshSize, tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer), hidden_size=size.hidden_size, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, intermediate_size=4 * size.hidden_size,
        max_position_embeddings=size.positions, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _gpt2_config(size: FreshSize, tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
    # "gelu_pytorch_tanh" is GPT-2's own activation as one fused operator; no dropout, since few epochs are trained.
    return GPT2Config(
        vocab_size=len(tokenizer), n_embd=size.hidden_size, n_layer=size.layers, n_head=size.heads,
        n_positions=size.positions, activation_function="gelu_pytorch_tanh", embd_pdrop=0.0, attn_pdrop=0.0,
        resid_pdrop=0.0, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip

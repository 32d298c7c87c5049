"""The model that fine-tuning starts from: a Hugging Face folder, or a fresh one with its own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from edgelm_export.checkpoint import PROMPTS_FILE
from edgelm_export.checkpoint.config import reason_of
from edgelm_export.checkpoint.vocabulary import load_tokenizer
from edgelm_export.finetune.from_bundle import bundle_of, write_checkpoint
from edgelm_runtime.bundle import default_bundles
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import TEXT, TokenizerSpec
from edgelm_runtime.tokenizer import TextTokenizer

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
    "token-classification": AutoModelForTokenClassification,
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
}


@dataclass(frozen=True)
class Base:
    """A model to train, its tokenizer, and the prompt template of each generator task."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    prompts: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def limited(self, max_tokens: int | None) -> int:
        """The tokens of a row, at most as many as the model has positions; the tokenizer is told."""
        limit = min(int(self.model.config.max_position_embeddings), int(self.tokenizer.model_max_length))
        size = min(max_tokens or limit, limit)
        self.tokenizer.model_max_length = size
        return size


def runtime_tokenizer(base: Base, max_tokens: int, special_tokens: str = TEXT) -> TextTokenizer:
    """The tokenizer that the till will use: texts are cut the same way in training and in answering."""
    tokenizer = base.tokenizer
    end = tokenizer.eos_token_id
    ends = () if end is None else (end,)
    ids = tokenizer.bos_token_id, ends, tokenizer.pad_token_id
    spec = TokenizerSpec("tokenizer.json", max_tokens, *ids, special_tokens)
    return TextTokenizer(tokenizer.backend_tokenizer.to_str().encode(), spec, base.prompts.values())


def load_base(
    base: str, kind: str, texts: Sequence[str], labels: Sequence[str], vocab_size: int | None,
    problem: str | None = None,
) -> Base:  # fmt: skip
    """Load the folder ``base`` or the weights of a bundle, or make a fresh model when it is ``tiny`` or ``small``.

    Args:
        kind: ``sequence-classification``, ``token-classification``, ``masked`` or ``causal``.
        texts: what a fresh tokenizer is trained on; unused for a folder.
        labels: class names of a classifier, otherwise empty; a base that has the same keeps their order.
        problem: transformers' problem type of a classifier of texts.
        vocab_size: pieces of a fresh tokenizer; None takes that of the size.

    Raises:
        UnsupportedCheckpoint: the folder does not exist, or transformers cannot load it.
    """
    if base not in FRESH_BERT:
        bundle = bundle_of(base)
        if bundle is None:
            return _load_folder(Path(base), kind, labels, problem)
        with TemporaryDirectory(prefix="edgelm-base-") as folder:
            notes = write_checkpoint(bundle, Path(folder))
            return replace(_load_folder(Path(folder), kind, labels, problem), notes=notes)
    sizes = FRESH_GPT2 if kind == "causal" else FRESH_BERT
    size = sizes[base]
    trained = {"causal": train_gpt2_tokenizer, "token-classification": train_wordpiece_tokenizer}
    tokenizer = trained.get(kind, train_bert_tokenizer)(texts, vocab_size or size.vocab_size, size.positions)
    config = (_gpt2_config if kind == "causal" else _bert_config)(size, tokenizer)
    _set_labels(config, labels, problem)
    prompts = {task: special for task, (special, _) in TEMPLATES.items()} if kind == "causal" else {}
    return Base(_AUTO_MODELS[kind].from_config(config, trust_remote_code=False), tokenizer, prompts)


def _load_folder(folder: Path, kind: str, labels: Sequence[str], problem: str | None) -> Base:
    if not (folder / "config.json").is_file():
        raise UnsupportedCheckpoint(
            f"--base {str(folder)!r}: no config.json there; accepted are a Hugging Face folder, 'tiny' and 'small', "
            f"and a bundle: its folder, or one of {', '.join(default_bundles())}"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer, _ = load_tokenizer(folder, config.to_dict())
        _set_labels(config, labels, problem)
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


def _set_labels(config: Any, labels: Sequence[str], problem: str | None) -> None:
    if not labels:
        return
    config.problem_type = problem
    kept = [str(config.id2label[index]) for index in sorted(config.id2label)]
    if sorted(kept) != sorted(labels):
        config.id2label = dict(enumerate(labels))
    config.label2id = {str(name): index for index, name in config.id2label.items()}


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
    return _as_bert(tokenizer, special, max_tokens)


def _as_bert(tokenizer: Tokenizer, special: Sequence[str], max_tokens: int) -> PreTrainedTokenizerFast:
    """With [CLS] before a text and [SEP] behind it, and what BERT calls its special tokens."""
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


def train_wordpiece_tokenizer(texts: Sequence[str], vocab_size: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """BERT's own: it marks the pieces that go on with a word, and every Chinese character is a word."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, limit_alphabet=vocab_size // 2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _as_bert(tokenizer, special, max_tokens)


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

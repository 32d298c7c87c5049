"""Tiny random checkpoints as transformers saves them, made from a seed, with real tokenizers trained on a few texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from edgelm_export import families
from edgelm_export.finetune.base import TEMPLATES, train_bert_tokenizer, train_gpt2_tokenizer
from edgelm_export.quantize import scheme
from edgelm_export.reference import Reference
from edgelm_export.texts import ATTRIBUTES, REVIEWS
from edgelm_export.vector import Vector
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.session import SessionOptions, create_session, run

TEXTS = [text for source in (REVIEWS, ATTRIBUTES) for language in source for text in source[language]]
CONTEXT = 96
LENGTHS = (1, 2, 7, 33)
PROMPTS = {task: special for task, (special, _) in TEMPLATES.items()}

Logits = NDArray[np.float32]


class Tensors:
    """The weights of a torch model, as a family file asks for them."""

    def __init__(self, model: torch.nn.Module, rename: Callable[[str], str] = str) -> None:
        self._tensors = {rename(name): tensor for name, tensor in model.state_dict().items()}

    def __call__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._tensors[name].float().numpy()
        return array

    def __contains__(self, name: str) -> bool:
        return name in self._tensors


def bert(seed: int = 0, spread: float = 0.15, **config: Any) -> BertForSequenceClassification:
    """A BERT classifier whose every weight, norms and biases too, is random."""
    shape = {
        "vocab_size": 600, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": CONTEXT, "pad_token_id": 0,
        "id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1},
    }  # fmt: skip
    return randomized(BertForSequenceClassification(BertConfig(**{**shape, **config})), seed, spread)


def gpt2(seed: int = 0, spread: float = 0.15, **config: Any) -> GPT2LMHeadModel:
    """A GPT-2 whose every weight is random."""
    shape = {
        "vocab_size": 600, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    return randomized(GPT2LMHeadModel(GPT2Config(**{**shape, **config})), seed, spread)


SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neo": {
        "hidden_size": 64, "num_heads": 4, "num_layers": 2, "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
    },
    "opt": {
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 128, "word_embed_proj_dim": 64,
    },
    **{
        name: {
            "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
            "intermediate_size": 96, "head_dim": 16,
        }
        for name in ("llama", "mistral", "qwen2", "qwen3")
    },
}  # fmt: skip


def decoder(kind: str, seed: int = 0, spread: float = 0.15, **config: Any) -> Any:
    """A generator of one of SHAPES whose every weight is random."""
    shape = {
        **SHAPES[kind], "vocab_size": 600, "max_position_embeddings": CONTEXT,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    if kind == "qwen2":
        del shape["head_dim"]
    made = AutoConfig.for_model(kind, **{**shape, **config})
    return randomized(AutoModelForCausalLM.from_config(made, attn_implementation="eager"), seed, spread)


ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet")
AUTO: Mapping[str, Any] = {
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "feature-extraction": AutoModel,
}
_DISTILBERT = {
    "hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim", "hidden_act": "activation",
}  # fmt: skip


def encoder(kind: str, task: str = "text-classification", *, seed: int = 0, spread: float = 0.15, **config: Any) -> Any:
    """One of ENCODERS for a task, random, with room for CONTEXT tokens; fields are named as BERT's."""
    before = 0 if kind in ("bert", "distilbert", "electra") else 1 + config.get("pad_token_id", 1)
    shape: dict[str, Any] = {
        "vocab_size": 600, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": CONTEXT + before,
        **({"embedding_size": 32} if kind == "electra" else {}), **config,
    }  # fmt: skip
    if kind == "distilbert":
        shape = {_DISTILBERT.get(name, name): value for name, value in shape.items()}
    return randomized(AUTO[task].from_config(AutoConfig.for_model(kind, **shape)), seed, spread)


def randomized(model: Any, seed: int, spread: float) -> Any:
    """The model with normal weights of standard deviation ``spread``, around 1 in norms: an unused one would show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = ("norm" in name.lower() or ".ln_" in name) and name.endswith("weight")
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator) + float(norm))
    return model.eval()


def save_bert(folder: Path, model: Any = None, **saving: Any) -> Path:
    """Save a classifier (a small random one by default) with its tokenizer."""
    model = model or bert(spread=0.05)
    model.save_pretrained(folder, **saving)
    train_bert_tokenizer(TEXTS, 600, CONTEXT).save_pretrained(folder)
    return folder


def save_gpt2(folder: Path, model: Any = None, prompts: Mapping[str, str] = PROMPTS, **saving: Any) -> Path:
    """Save a generator (a small random one by default) with its tokenizer and prompts."""
    model = model or gpt2(spread=0.05)
    model.save_pretrained(folder, **saving)
    train_gpt2_tokenizer(TEXTS, 600, CONTEXT).save_pretrained(folder)
    (folder / "prompts.json").write_text(json.dumps(prompts), "utf-8")
    return folder


def edit_config(folder: Path, **fields: Any) -> Path:
    """Change fields of config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}), "utf-8")
    return folder


def rows(vocab: int, lengths: Sequence[int] = LENGTHS, seed: int = 1) -> list[list[int]]:
    """Random token ids, one row a length."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, vocab, length).tolist() for length in lengths]


def torch_logits(model: Any, ids: Sequence[int]) -> Logits:
    """The model's own answer: float32 [labels], or [vocab] of the last position."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([list(ids)])).logits[0].numpy()
    return logits[-1] if logits.ndim == 2 else logits


def build(
    model: Any, used: str = "fp32", weights: families.Weights | None = None, wanted: families.Wanted | None = None
) -> bytes:
    """The graph of a torch model in a scheme."""
    config = model.config.to_dict()
    family = families.family(config["model_type"])
    family.check(config)
    ranges = input_ranges(model) if used in ("int8-static", "int8-mixed", "int8-folded", "int8-whole") else {}
    return family.build(
        weights or Tensors(model), config, scheme(used, ranges), wanted or families.Wanted(family.TASKS[0], CONTEXT)
    ).graph


def input_ranges(model: Any) -> dict[str, Any]:
    """What Reference measures of a checkpoint, of a model in memory."""
    reference = Reference.__new__(Reference)
    reference.model, reference._start = model, []
    reference._wanted = families.Wanted("text-generation", CONTEXT)
    reference._vector = Vector(reference._wanted)
    return reference.logits_and_ranges(rows(model.config.vocab_size, (CONTEXT,) * 8, seed=2))[1]


class Graph:
    """A built graph in onnxruntime, classifier or generator."""

    def __init__(self, data: bytes, *, generator: bool) -> None:
        session = create_session(data, SessionOptions(1))
        self._session = session
        self._generator = GeneratorSession(session, max_tokens=CONTEXT, eos_ids=()) if generator else None

    def logits(self, ids: Sequence[int], *, stepwise: bool = False) -> Logits:
        """float32 [labels], or [vocab] of the last position."""
        if self._generator is not None:
            return self._generator.logits(ids, stepwise=stepwise)
        found: Logits = run(self._session, {"input_ids": np.array([list(ids)], np.int64)}, ["logits"])[0][0]
        return found

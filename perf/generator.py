"""A Qwen2 with random bfloat16 weights as a Hugging Face folder: `python -m perf.generator FOLDER [--smoke]`.

It has the shape of Qwen2-1.5B, 1.54 billion parameters, and a byte-level tokenizer of as many made-up pieces. Its
answers mean nothing; its cost to export is that of any checkpoint of its shape.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from perf.checkpoint import Named, write_weights

END = "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2 decoder, and the standard deviation of its weights."""

    hidden: int = 1536
    layers: int = 28
    heads: int = 12
    key_value_heads: int = 2
    inner: int = 8960
    vocabulary: int = 151936
    positions: int = 2048
    deviation: float = 0.02


BILLION = Shape()
SMALL = Shape(hidden=64, layers=2, heads=4, key_value_heads=2, inner=128, vocabulary=1200, positions=128)


def tensors(shape: Shape) -> Iterator[Named]:
    """Names and shapes as transformers' Qwen2ForCausalLM saves them, the head tied to the embedding."""
    hidden, narrow = shape.hidden, shape.hidden // shape.heads * shape.key_value_heads
    yield "model.embed_tokens.weight", (shape.vocabulary, hidden)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        for part, width in (("q", hidden), ("k", narrow), ("v", narrow)):
            yield f"{prefix}.self_attn.{part}_proj.weight", (width, hidden)
            yield f"{prefix}.self_attn.{part}_proj.bias", (width,)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        for part, dimensions in (("gate", (shape.inner, hidden)), ("up", (shape.inner, hidden))):
            yield f"{prefix}.mlp.{part}_proj.weight", dimensions
        yield f"{prefix}.mlp.down_proj.weight", (hidden, shape.inner)
    yield "model.norm.weight", (hidden,)


def write_tokenizer(folder: Path, shape: Shape) -> None:
    """Write a byte-level BPE of pairs of letters and pairs of those, and what transformers needs to load it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = shape.vocabulary - len(alphabet) - 1
    pairs = [(first, second) for first in LETTERS for second in LETTERS]
    fours = (("".join(first), "".join(second)) for first, second in product(pairs, pairs))
    merges = [*pairs, *islice(fours, max(0, room - len(pairs)))][:room]
    vocabulary = {piece: index for index, piece in enumerate([*alphabet, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.positions, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_config(folder: Path, shape: Shape) -> None:
    """Write config.json and the prompt of a summary."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": shape.vocabulary - 1,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "prompts.json").write_text(json.dumps({"summary": "{text}\nTL;DR:"}), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a Qwen2 with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--smoke", action="store_true", help="two small layers")
    given = parser.parse_args()
    shape = SMALL if given.smoke else BILLION
    given.folder.mkdir(parents=True)
    write_config(given.folder, shape)
    write_tokenizer(given.folder, shape)
    named = list(tensors(shape))
    print(write_weights(given.folder / "model.safetensors", named, shape.deviation, bfloat16=True))


if __name__ == "__main__":
    main()

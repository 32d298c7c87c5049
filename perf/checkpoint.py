"""A BERT classifier with random weights as a Hugging Face folder: `python -m perf.checkpoint FOLDER [--smoke]`.

The weights are drawn from a seed and written tensor by tensor, in the safetensors format, so that making 438 MB takes
little memory. Its answers mean nothing; its cost to export is that of any checkpoint of its shape.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SEED = 0


@dataclass(frozen=True)
class Shape:
    """Sizes of a BERT encoder, and the standard deviation of its weights."""

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30522
    positions: int = 512
    deviation: float = 0.02


BASE = Shape()
SMALL = Shape(hidden=32, layers=1, heads=2, inner=64, vocabulary=400, positions=64)


Named = tuple[str, tuple[int, ...]]


def tensors(shape: Shape) -> Iterator[Named]:
    """Names and shapes as transformers' BertForSequenceClassification saves them."""
    hidden = shape.hidden
    yield "bert.embeddings.word_embeddings.weight", (shape.vocabulary, hidden)
    yield "bert.embeddings.position_embeddings.weight", (shape.positions, hidden)
    yield "bert.embeddings.token_type_embeddings.weight", (2, hidden)
    yield from _pair("bert.embeddings.LayerNorm", (hidden,))
    for layer in range(shape.layers):
        prefix = f"bert.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _pair(f"{prefix}.attention.{part}", (hidden, hidden))
        yield from _pair(f"{prefix}.attention.output.LayerNorm", (hidden,))
        yield from _pair(f"{prefix}.intermediate.dense", (shape.inner, hidden))
        yield from _pair(f"{prefix}.output.dense", (hidden, shape.inner))
        yield from _pair(f"{prefix}.output.LayerNorm", (hidden,))
    yield from _pair("bert.pooler.dense", (hidden, hidden))
    yield from _pair("classifier", (2, hidden))


def _pair(name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", shape), (f"{name}.bias", shape[:1])]


def values(name: str, shape: tuple[int, ...], deviation: float, random: np.random.Generator) -> np.ndarray:
    """BERT's own initialisation: norms are ones, biases zeros, the rest normal."""
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if "norm" in name.lower():
        return np.ones(shape, np.float32)
    drawn = random.standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(deviation)
    return drawn


def write_weights(path: Path, named: Sequence[Named], deviation: float, *, bfloat16: bool = False) -> int:
    """Write model.safetensors; returns the bytes of its tensors in float32."""
    kind, size = ("BF16", 2) if bfloat16 else ("F32", 4)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dimensions in named:
        end = offset + size * math.prod(dimensions)
        header[name] = {"dtype": kind, "shape": list(dimensions), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(SEED)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dimensions in named:
            drawn = values(name, dimensions, deviation, random).astype("<f4")
            # bfloat16 is the upper half of a float32.
            (drawn.view("<u4") >> 16).astype("<u2").tofile(file) if bfloat16 else drawn.tofile(file)
    return 4 * offset // size


def vocabulary(count: int) -> dict[str, int]:
    """Special tokens, the letters, frequent characters, then made-up words up to `count`."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    pieces += [chr(code) for code in range(0x4E00, 0x4E00 + 6000)]
    pieces = pieces[:count]
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    words = (a + b + c for a in syllables for b in syllables for c in syllables)
    pieces += [next(words) for _ in range(count - len(pieces))]
    return {piece: index for index, piece in enumerate(pieces)}


def write_tokenizer(folder: Path, shape: Shape) -> None:
    """Write a WordPiece tokenizer.json over `vocabulary`, and what transformers needs to load it."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary(shape.vocabulary), unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.positions,
        **{f"{name.strip('[]').lower()}_token": name for name in SPECIAL},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_config(folder: Path, shape: Shape) -> None:
    """Write config.json of a classifier with two labels."""
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
        "id2label": {"0": "negative", "1": "positive"},
        "label2id": {"negative": 0, "positive": 1},
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a BERT classifier with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--smoke", action="store_true", help="one small layer")
    given = parser.parse_args()
    shape = SMALL if given.smoke else BASE
    given.folder.mkdir(parents=True)
    write_config(given.folder, shape)
    write_tokenizer(given.folder, shape)
    print(write_weights(given.folder / "model.safetensors", list(tensors(shape)), shape.deviation))


if __name__ == "__main__":
    main()

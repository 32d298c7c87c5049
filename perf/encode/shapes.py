"""BERT classifiers of known shapes with random weights from a seed: `python -m perf.encode.shapes SHAPE FOLDER`.

Speed does not depend on what the weights are. The tokenizer is that of the default English bundle, which is
bert-base-uncased's, so that every engine reads the same tokens of a text.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from edgelm_runtime.bundle import default_bundles
from perf.checkpoint import BASE, SPECIAL, Shape, tensors, write_config, write_weights
from perf.reviews import reviews

DEFAULT_BUNDLE = "sentiment-en"  # of MiniLM-L6's shape
# google-bert/bert-base-uncased and sentence-transformers/all-MiniLM-L6-v2, whose sizes these are. Weights of about
# 1 / sqrt(hidden) let the logits differ from row to row, so that a wrong conversion shows; BERT's own 0.02 does not.
SHAPES = {
    "bert-base": replace(BASE, deviation=0.036),
    "minilm-l6": Shape(hidden=384, layers=6, heads=12, inner=1536, deviation=0.051),
    "smoke": Shape(hidden=64, layers=2, heads=2, inner=128, deviation=0.125),
}
CLS, SEP, FIRST_WORD = 101, 102, 1996
LONGEST = 384


def make(shape: str, folder: Path) -> None:
    """Write the checkpoint as transformers saves it, and token ids to measure scales on: of texts, and made ones."""
    from tokenizers import Tokenizer

    from edgelm_export.texts import verification_inputs

    folder.mkdir(parents=True)
    tokenizer = Tokenizer.from_file(str(default_bundles()[DEFAULT_BUNDLE] / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": SHAPES[shape].positions, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(names), "utf-8")
    texts = verification_inputs("sentiment", ("en",))
    made = [row(length, -1 - number) for number, length in enumerate(review_lengths(len(texts), seed=1))]
    rows = [*(tokenizer.encode(text).ids for text in texts), *made]
    (folder / "calibration.json").write_text(json.dumps(rows), "utf-8")
    write_config(folder, SHAPES[shape])
    write_weights(folder / "model.safetensors", list(tensors(SHAPES[shape])), SHAPES[shape].deviation)


def product_weights(shape: Shape) -> int:
    """Weights of the matrix products that every token goes through."""
    return shape.layers * (4 * shape.hidden * shape.hidden + 2 * shape.hidden * shape.inner)


def row(length: int, number: int) -> list[int]:
    """Token ids that look like nothing in particular, between BERT's first and last token."""
    words = BASE.vocabulary - FIRST_WORD
    return [CLS, *(FIRST_WORD + (7919 * (index + 1) + 104729 * number) % words for index in range(length - 2)), SEP]


def review_lengths(count: int, seed: int = 0) -> list[int]:
    """Tokens of as many reviews: those of perf.reviews with a token for each character, as Chinese BERT has it."""
    return [min(len(text) + 2, LONGEST) for text in reviews(count, seed)]


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))

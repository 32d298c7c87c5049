"""Models of known shapes with random weights, made from a seed: GPT-2 with 124 M parameters, and a Llama with 135 M.

Speed does not depend on what the weights are, and a random model can be made anywhere without a download.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEED = 7
CONTEXT = 1024
# openai-community/gpt2 and HuggingFaceTB/SmolLM-135M, whose configurations these are.
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2-124m": {
        "model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": CONTEXT,
    },
    "llama-135m": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "tie_word_embeddings": True,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
    },
    "smoke": {"model_type": "gpt2", "vocab_size": 600, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT},
}  # fmt: skip


def make(shape: str, folder: Path) -> None:
    """Write the shape's checkpoint as transformers saves it, with a byte-level tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from edgelm_export.finetune.base import train_gpt2_tokenizer
    from edgelm_export.texts import verification_inputs

    given = dict(SHAPES[shape])
    config = AutoConfig.for_model(given.pop("model_type"), **given, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(config, trust_remote_code=False).save_pretrained(folder)
    tokenizer = train_gpt2_tokenizer(verification_inputs("summary", ("zh", "en")), config.vocab_size, CONTEXT)
    tokenizer.unk_token = tokenizer.eos_token  # as GPT-2's own has it; CTranslate2 loads nothing without one
    tokenizer.save_pretrained(folder)
    _fill(folder / "tokenizer.json", config.vocab_size)
    (folder / "prompts.json").write_text(json.dumps({"summary": "{text}\n"}), "utf-8")


def _fill(path: Path, size: int) -> None:
    """Name the tokens that training on a few lines left free: some converters want one for every row of the head."""
    tokenizer = json.loads(path.read_text("utf-8"))
    vocab = tokenizer["model"]["vocab"]
    vocab.update({f"[unused{index}]": index for index in range(len(vocab), size)})
    path.write_text(json.dumps(tokenizer), "utf-8")


def product_weights(checkpoint: Path) -> int:
    """Weights of all matrix products of one token, the output head among them: what a decoder has to read."""
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    if config["model_type"] == "gpt2":
        width = config["n_embd"]
        return int(config["n_layer"] * 12 * width * width + config["vocab_size"] * width)
    width, heads = config["hidden_size"], config["num_attention_heads"]
    attention = 2 * width * width * (1 + config["num_key_value_heads"] / heads)
    layer = attention + 3 * width * config["intermediate_size"]
    return int(config["num_hidden_layers"] * layer + config["vocab_size"] * width)


def prompt(vocab: int, tokens: int, number: int = 0) -> list[int]:
    """Token ids that look like nothing in particular; those of another `number` differ from the first on."""
    return [(7919 * (index + 1) + 104729 * number) % (vocab - 10) + 5 for index in range(tokens)]


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))

"""GPT-Neo for generation (Black et al., 2021; `GPTNeoForCausalLM` of transformers): GPT-2 with windows in turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelm_export.decoder import Decoder, Heads, Stored, check_heads, head
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, Model, Value
from edgelm_export.quantize import Scheme

TASKS = ("text-generation",)


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise refuse("activation_function", activation, ", ".join(ACTIVATIONS))
    unknown = set(config["attention_layers"]) - {"global", "local"}
    if unknown:
        raise refuse("attention_layers", sorted(unknown), "global, local")
    check_heads(_heads(config), "num_heads", config["num_heads"])


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """A generator as `Decoder` describes it, with learned positions."""
    decoder = Decoder("gpt_neo", _heads(config), scheme)
    stored = Stored(decoder, weights)
    epsilon = float(config.get("layer_norm_epsilon", 1e-5))
    x = stored.placed(stored.embedded("transformer.wte"), "transformer.wpe", wanted.context)
    for layer, kind in enumerate(config["attention_layers"]):
        prefix = f"transformer.h.{layer}"
        window = int(config["window_size"]) if kind == "local" else 0
        inner = stored.layer_norm(x, f"{prefix}.ln_1", epsilon)
        x = decoder.graph.add(x, _attention(stored, inner, layer, window))
        inner = stored.layer_norm(x, f"{prefix}.ln_2", epsilon)
        inner = stored.linear(inner, f"{prefix}.mlp.c_fc", bias=True)
        inner = decoder.graph.activation(inner, config.get("activation_function", "gelu_new"))
        x = decoder.graph.add(x, stored.linear(inner, f"{prefix}.mlp.c_proj", bias=True, outliers=True))
    x = stored.layer_norm(decoder.last(x), "transformer.ln_f", epsilon)
    return head(stored, x, "transformer.wte", config)


def _attention(stored: Stored[Decoder], x: Value, layer: int, window: int) -> Value:
    prefix = f"transformer.h.{layer}.attn.attention"
    packed = stored.linear(x, *(f"{prefix}.{part}_proj" for part in "qkv"), bias=False)
    # GPT-Neo does not divide by the root of the head's size.
    context = stored.frame.attention(layer, [packed], scale=1.0, window=window)
    return stored.linear(context, f"{prefix}.out_proj", bias=True)


def _heads(config: Mapping[str, Any]) -> Heads:
    heads = int(config["num_heads"])
    return Heads(heads, heads, int(config["hidden_size"]) // max(heads, 1))

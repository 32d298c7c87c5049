"""BART (Lewis et al., 2020; `BartForConditionalGeneration` of transformers), and the frame of its relatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.decoder import Heads, Stored, check_heads
from edgelm_export.families import Wanted, Weights, refuse
from edgelm_export.graph import ACTIVATIONS, Model, Value
from edgelm_export.quantize import Scheme
from edgelm_export.seq2seq import TextDecoder, TextEncoder

TASKS = ("text2text-generation",)
_EPSILON = 1e-5
_OFFSET = 2  # rows of the position table before that of the first token


@dataclass(frozen=True)
class Traits:
    """What tells BART's relatives apart.

    Norms stand ``before`` a part of a layer, and then one at the end, or after it. Embeddings may be ``normed``.
    Positions are learned, with that of the first token in row 2, or ``sinusoidal``, which a checkpoint may leave out.
    """

    before: bool = False
    normed: bool = True
    sinusoidal: bool = False


def check(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedCheckpoint for a field that the graph would not honour."""
    if config["activation_function"] not in ACTIVATIONS:
        raise refuse("activation_function", config["activation_function"], ", ".join(ACTIVATIONS))
    for part in ("encoder", "decoder"):
        heads, width = config[f"{part}_attention_heads"], config["d_model"]
        if heads < 1 or width % heads:
            raise refuse(f"{part}_attention_heads", heads, f"a divisor of d_model = {width}")
        check_heads(_heads(config, part), f"{part}_attention_heads", heads)


def build(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
    """Two graphs as `seq2seq` describes them, with learned positions."""
    return build_bart(weights, config, scheme, wanted, Traits())


def build_bart(weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted, traits: Traits) -> Model:
    """Two graphs as `seq2seq` describes them, of BART or a relative with these traits."""
    name = str(config["model_type"])
    encoder = TextEncoder(name, _heads(config, "encoder"), scheme)
    decoder = TextDecoder(name, _heads(config, "decoder"), encoder)
    reading = _Part(Stored(encoder, weights), config, traits, wanted.context, "encoder")
    writing = _Part(Stored(decoder, weights), config, traits, wanted.context, "decoder")

    x = reading.embedded()
    for layer in range(int(config["encoder_layers"])):
        packed = reading.projected(reading.before(x, layer, "self_attn"), layer, "self_attn", "qkv")
        x = reading.after(x, encoder.attention(packed, scale=reading.scale), layer, "self_attn")
        x = reading.forward(x, layer)
    x = reading.last(x)

    y = writing.embedded()
    for layer in range(int(config["decoder_layers"])):
        encoder.give(layer, reading.projected(x, layer, "encoder_attn", "kv", side="decoder"), decoder.heads)
        packed = writing.projected(writing.before(y, layer, "self_attn"), layer, "self_attn", "qkv")
        y = writing.after(y, decoder.attention(layer, [packed], scale=writing.scale), layer, "self_attn")
        query = writing.projected(writing.before(y, layer, "encoder_attn"), layer, "encoder_attn", "q")
        y = writing.after(y, decoder.text_attention(layer, query, scale=writing.scale), layer, "encoder_attn")
        y = writing.forward(y, layer)
    logits, vocab = writing.stored.logits(writing.last(decoder.last(y)), writing.table, config)
    bias = weights("final_logits_bias") if "final_logits_bias" in weights else np.zeros(1, np.float32)
    if bias.any():
        logits = decoder.graph.add(logits, decoder.graph.weight("final_logits_bias", bias.reshape(-1)))
    return decoder.finish(logits, vocab, encoder.graph)


@dataclass(frozen=True)
class _Part:
    """The encoder or the decoder, called so in ``side``."""

    stored: Stored[Any]
    config: Mapping[str, Any]
    traits: Traits
    context: int
    side: str

    @property
    def scale(self) -> float:
        """Of the scores of attention."""
        return 1 / math.sqrt(self.stored.frame.heads.size)

    @property
    def table(self) -> str:
        """The embedding: one for both parts, unless this part has another of its own."""
        shared, own, weights = "model.shared", f"model.{self.side}.embed_tokens", self.stored.weights
        if f"{own}.weight" not in weights:
            return shared
        if f"{shared}.weight" not in weights:
            return own
        return shared if np.array_equal(weights(f"{own}.weight"), weights(f"{shared}.weight")) else own

    def embedded(self) -> Value:
        """Words and positions, added, and normed where that belongs to the kind."""
        stored, frame, name = self.stored, self.stored.frame, f"model.{self.side}.embed_positions"
        x = stored.embedded(self.table)
        if self.config["scale_embedding"]:
            x = frame.graph.multiply(x, frame.graph.weight("embed_scale", np.array(self._width**0.5, np.float32)))
        offset = 0 if self.traits.sinusoidal else _OFFSET
        if self.traits.sinusoidal and f"{name}.weight" not in stored.weights:
            rows = sinusoids(self.context, self._width)
        else:
            rows = stored.weights(f"{name}.weight")[offset : offset + self.context]
        x = frame.graph.add(x, stored.scheme.embedding(frame.graph, frame.positions(), rows, name))
        return stored.layer_norm(x, f"model.{self.side}.layernorm_embedding", _EPSILON) if self.traits.normed else x

    def projected(self, x: Value, layer: int, attention: str, parts: str, *, side: str = "") -> Value:
        """The packed projections ``parts`` ("qkv", "kv" or "q") of an attention; ``side`` is whose it is."""
        prefix = f"model.{side or self.side}.layers.{layer}.{attention}"
        return self.stored.linear(x, *(f"{prefix}.{part}_proj" for part in parts), bias=True)

    def before(self, x: Value, layer: int, part: str) -> Value:
        """What a part of a layer reads."""
        return self._normed(x, layer, part) if self.traits.before else x

    def after(self, x: Value, attended: Value, layer: int, part: str) -> Value:
        """The stream with what an attention found."""
        found = self.stored.linear(attended, f"model.{self.side}.layers.{layer}.{part}.out_proj", bias=True)
        return self._joined(x, found, layer, part)

    def forward(self, x: Value, layer: int) -> Value:
        """The stream with the feed-forward of a layer."""
        prefix, part = f"model.{self.side}.layers.{layer}", "final"
        inner = self.stored.linear(self.before(x, layer, part), f"{prefix}.fc1", bias=True)
        inner = self.stored.frame.graph.activation(inner, self.config["activation_function"])
        return self._joined(x, self.stored.linear(inner, f"{prefix}.fc2", bias=True, outliers=True), layer, part)

    def last(self, x: Value) -> Value:
        """What the last layer gives, normed where no layer does."""
        return self.stored.layer_norm(x, f"model.{self.side}.layer_norm", _EPSILON) if self.traits.before else x

    @property
    def _width(self) -> int:
        return int(self.config["d_model"])

    def _joined(self, x: Value, found: Value, layer: int, part: str) -> Value:
        x = self.stored.frame.graph.add(x, found)
        return x if self.traits.before else self._normed(x, layer, part)

    def _normed(self, x: Value, layer: int, part: str) -> Value:
        return self.stored.layer_norm(x, f"model.{self.side}.layers.{layer}.{part}_layer_norm", _EPSILON)


def sinusoids(positions: int, width: int) -> NDArray[np.float32]:
    """Sines, then cosines, of wavelengths that grow with the channel (Vaswani et al., 2017): [positions, width]."""
    angles = np.arange(positions)[:, None] / 10000.0 ** (2 * (np.arange(width) // 2) / width)
    return np.concatenate([np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])], axis=1).astype(np.float32)


def _heads(config: Mapping[str, Any], part: str) -> Heads:
    heads = int(config[f"{part}_attention_heads"])
    return Heads(heads, heads, int(config["d_model"]) // max(heads, 1))

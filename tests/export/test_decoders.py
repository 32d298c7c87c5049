"""The graphs of GPT-Neo, OPT, Llama and its relatives against torch: what is honoured, and what is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelm_export import families
from edgelm_export.graph import ACTIVATIONS
from edgelm_export.problems import distance
from edgelm_runtime.errors import UnsupportedCheckpoint
from tests.export.tiny import CONTEXT, SHAPES, Graph, build, decoder, rows, torch_logits

LENGTHS = (1, 2, 9, 40, CONTEXT - 1)
LLAMA = ("llama", "mistral", "qwen2", "qwen3")
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24},
    "yarn with its own factors": {
        "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32, "attention_factor": 0.8,
        "beta_fast": 16.0, "beta_slow": 2.0,
    },
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 24,
    },
}  # fmt: skip
WINDOWS = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, "plain", {}) for kind in SHAPES),
    *((kind, "tied", {"tie_word_embeddings": True}) for kind in LLAMA),
    *((kind, "untied", {"tie_word_embeddings": False}) for kind in ("gpt_neo", "opt")),
    *(
        (kind, f"{name} rotation", {"rope_parameters": {"rope_theta": 500.0, **scaling}})
        for kind in ("llama", "qwen3")
        for name, scaling in SCALINGS.items()
    ),
    *(("llama", f"hidden_act={name}", {"hidden_act": name}) for name in ACTIVATIONS),
    ("llama", "rope_theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    ("llama", "attention_bias", {"attention_bias": True}),
    ("llama", "mlp_bias", {"mlp_bias": True}),
    ("llama", "rms_norm_eps", {"rms_norm_eps": 0.5}),
    ("llama", "every head its own keys", {"num_key_value_heads": 4}),
    ("llama", "one head of keys", {"num_key_value_heads": 1}),
    ("llama", "wide heads", {"head_dim": 32}),
    ("llama", "no block divides", {"hidden_size": 40, "intermediate_size": 72}),
    ("mistral", "sliding_window", {"sliding_window": 7}),
    ("mistral", "no window", {"sliding_window": None}),
    ("qwen2", "windows in some layers", WINDOWS),
    ("qwen3", "windows in some layers", WINDOWS),
    ("qwen3", "attention_bias", {"attention_bias": True}),
    ("qwen3", "wide heads", {"head_dim": 32}),
    ("gpt_neo", "all global", {"attention_types": [[["global"], 2]]}),
    ("gpt_neo", "all local", {"attention_types": [[["local"], 2]], "window_size": 3}),
    ("gpt_neo", "intermediate_size", {"intermediate_size": 80}),
    ("gpt_neo", "layer_norm_epsilon", {"layer_norm_epsilon": 0.5}),
    ("opt", "norm after", {"do_layer_norm_before": False}),
    ("opt", "no last norm", {"_remove_final_layer_norm": True}),
    ("opt", "projected embeddings", {"word_embed_proj_dim": 32}),
    ("opt", "norm after and projected", {"do_layer_norm_before": False, "word_embed_proj_dim": 32}),
    ("opt", "no biases", {"enable_bias": False}),
    ("opt", "gelu", {"activation_function": "gelu"}),
]
PARAMETERS = [pytest.param(kind, config, id=f"{kind}-{name}") for kind, name, config in VARIANTS]


@pytest.mark.parametrize(("kind", "config"), PARAMETERS)
def test_float32_equals_torch(kind: str, config: dict[str, Any]) -> None:
    model = decoder(kind, **config)
    graph = Graph(build(model), generator=True)
    for ids in rows(600, LENGTHS):
        expected = torch_logits(model, ids)
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(graph.logits(ids), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "config"), PARAMETERS)
def test_step_by_step_equals_reading_at_once(kind: str, config: dict[str, Any]) -> None:
    graph = Graph(build(decoder(kind, **config)), generator=True)
    for ids in rows(600, (2, 40)):
        np.testing.assert_allclose(graph.logits(ids, stepwise=True), graph.logits(ids), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("used", "far"), [("int8-static", 0.05), ("int8-blocks", 0.05), ("int4-32", 0.35)])
@pytest.mark.parametrize("kind", SHAPES)
def test_fewer_bits_are_near_torch(kind: str, used: str, far: float) -> None:
    model = decoder(kind, spread=0.08)
    graph = Graph(build(model, used), generator=True)
    distances = [distance(graph.logits(ids), torch_logits(model, ids)) for ids in rows(600)]
    assert 0 < max(distances) < far


@pytest.mark.parametrize("used", ["int8-static", "int8-blocks", "int4-32"])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_row_is_rounded_alike_whatever_stands_beside_it(kind: str, used: str) -> None:
    graph = Graph(build(decoder(kind), used), generator=True)
    for ids in rows(600, (2, 40)):
        np.testing.assert_allclose(graph.logits(ids, stepwise=True), graph.logits(ids), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
        ("llama", {"rope_parameters": {"rope_theta": 500.0, **SCALINGS["yarn"]}}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rms_norm_eps": 0.5}),
        ("mistral", {"sliding_window": 7}),
        ("qwen2", WINDOWS),
        ("gpt_neo", {"window_size": 3}),
        ("opt", {"do_layer_norm_before": False}),
    ],
)
def test_a_graph_that_ignored_a_field_would_be_seen(kind: str, config: dict[str, Any]) -> None:
    ignored, model = Graph(build(decoder(kind)), generator=True), decoder(kind, **config)
    ids = rows(600, (40,))[0]
    assert np.abs(ignored.logits(ids) - torch_logits(model, ids)).max() > 1e-3


REFUSED: list[tuple[str, str, Any]] = [
    *((kind, "hidden_act", "softmax") for kind in LLAMA),
    ("llama", "pretraining_tp", 2),
    ("llama", "head_dim", 24),
    ("llama", "num_attention_heads", 3),
    ("llama", "rope_parameters.rope_type", "longrope"),
    ("llama", "partial_rotary_factor", 0.5),
    ("qwen2", "layer_types", ["chunked_attention"]),
    ("qwen3", "layer_types", ["chunked_attention"]),
    ("gpt_neo", "activation_function", "mish"),
    ("gpt_neo", "attention_layers", ["elsewhere"]),
    ("gpt_neo", "num_heads", 16),
    ("opt", "activation_function", "mish"),
    ("opt", "layer_norm_elementwise_affine", False),
    ("opt", "num_attention_heads", 16),
]


@pytest.mark.parametrize(("kind", "field", "value"), REFUSED)
def test_a_field_that_is_not_honoured_is_refused_by_name(kind: str, field: str, value: Any) -> None:
    config = decoder(kind).config.to_dict()
    family = families.family(kind)
    family.check(config)
    outer, _, inner = field.partition(".")
    changed = {**config, outer: {**config[outer], inner: value} if inner else value}
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        family.check(changed)
    assert f"{field} = {value!r}" in str(refusal.value)
    assert "accepted: " in str(refusal.value)

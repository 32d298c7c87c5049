"""Sequence-to-sequence models against torch: logits, greedy and beam answers, and the whole way to a summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.export.seq2seq import CONTEXT, SHAPES, built, rows, seq2seq, torch_logits

T5_VARIANTS: dict[str, dict[str, Any]] = {
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "silu": {"feed_forward_proj": "gated-silu"},
    "wide heads": {"d_kv": 24},
    "more layers to write": {"num_decoder_layers": 3},
    "few buckets": {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
    "epsilon": {"layer_norm_epsilon": 0.3},
}
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, "plain", {}) for kind in SHAPES),
    *(("t5", name, config) for name, config in T5_VARIANTS.items()),
]
PARAMETERS = [pytest.param(kind, config, id=f"{kind}-{name}") for kind, name, config in VARIANTS]
LENGTHS = (1, 2, 17, CONTEXT)
ANSWER = [7, 300, 41, 5, 5, 590]


@pytest.mark.parametrize(("kind", "config"), PARAMETERS)
def test_float32_equals_torch(kind: str, config: dict[str, Any]) -> None:
    model = seq2seq(kind, **config)
    graph = built(model)
    for ids in rows(LENGTHS):
        for answer in ([], ANSWER[:1], ANSWER):
            expected = torch_logits(model, ids, answer)
            assert np.abs(expected).max() > 0.01
            np.testing.assert_allclose(graph.logits(ids, answer), expected, rtol=0, atol=1e-4)
            np.testing.assert_allclose(graph.logits(ids, answer, stepwise=True), expected, rtol=0, atol=1e-4)

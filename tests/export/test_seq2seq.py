"""Sequence-to-sequence models against torch: logits, greedy and beam answers, and the whole way to a summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from edgelm_export.families.bart import sinusoids
from edgelm_export.verify import distance
from edgelm_runtime.generate.batch import Request, generate_together
from edgelm_runtime.generate.beam import beam_search
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.manifest import DecoderSpec
from tests.export import tiny
from tests.export.seq2seq import (
    CONTEXT,
    END,
    SHAPES,
    START,
    answer_of,
    built,
    generate,
    rows,
    seq2seq,
    torch_logits,
)

T5_VARIANTS: dict[str, dict[str, Any]] = {
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "silu": {"feed_forward_proj": "gated-silu"},
    "wide heads": {"d_kv": 24},
    "more layers to write": {"num_decoder_layers": 3},
    "few buckets": {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
    "epsilon": {"layer_norm_epsilon": 0.3},
}
BART_VARIANTS: dict[str, dict[str, Any]] = {
    "relu": {"activation_function": "relu"},
    "silu": {"activation_function": "silu"},
    "scale_embedding": {"scale_embedding": True},
    "more layers to read": {"encoder_layers": 3},
    "heads of both parts": {"encoder_attention_heads": 2, "decoder_attention_heads": 8},
    "untied": {"tie_word_embeddings": False},
}
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, "plain", {}) for kind in SHAPES),
    *(("t5", name, config) for name, config in T5_VARIANTS.items()),
    *(("bart", name, config) for name, config in BART_VARIANTS.items()),
    ("mbart", "scale_embedding", {"scale_embedding": True}),
    ("pegasus", "scale_embedding", {"scale_embedding": True}),
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


def test_sinusoids_that_a_checkpoint_leaves_out_are_those_of_transformers() -> None:
    fresh = AutoModelForSeq2SeqLM.from_config(seq2seq("pegasus").config)
    table = fresh.model.encoder.embed_positions.create_weight()
    np.testing.assert_allclose(sinusoids(CONTEXT, 64), table.numpy(), rtol=0, atol=1e-6)
    model = seq2seq("pegasus")
    for part in (model.model.encoder, model.model.decoder):
        part.embed_positions.weight.data.copy_(table)
    stored, left_out = built(model), built(model, without="embed_positions")
    (ids,) = rows((9,))
    np.testing.assert_allclose(left_out.logits(ids, ANSWER), stored.logits(ids, ANSWER), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("t5", {"relative_attention_max_distance": 20}),
        ("t5", {"layer_norm_epsilon": 0.3}),
        ("t5", {"tie_word_embeddings": False}),
        ("bart", {"activation_function": "relu"}),
        ("pegasus", {"scale_embedding": True}),
    ],
)
def test_a_graph_that_ignored_a_field_would_be_seen(kind: str, config: dict[str, Any]) -> None:
    ignored, model = built(seq2seq(kind)), seq2seq(kind, **config)
    (ids,) = rows((40,))
    assert np.abs(ignored.logits(ids, ANSWER) - torch_logits(model, ids, ANSWER)).max() > 1e-3


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("beams", [1, 4])
def test_the_answer_is_that_of_transformers(kind: str, beams: int) -> None:
    model = seq2seq(kind, spread=0.2)
    graph = built(model)
    for ids in rows((3, 25, CONTEXT)):
        options = GenerationOptions(max_new_tokens=14, num_beams=beams)
        expected = generate(model, ids, num_beams=beams, max_new_tokens=14)
        assert expected
        assert answer_of(graph, ids, options) == expected


# What generation_config.json may ask for; each with the options of the runtime that ask for the same.
CONSTRAINED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "beams of length": ({"num_beams": 3, "length_penalty": 2.0}, {}),
    "short beams": ({"num_beams": 3, "length_penalty": -1.0}, {}),
    "early stopping": ({"num_beams": 3, "early_stopping": True}, {}),
    "no repetition": ({"num_beams": 2, "no_repeat_ngram_size": 2}, {}),
    "a least length": ({"num_beams": 3, "min_new_tokens": 9}, {}),
    "a least length, greedy": ({"min_new_tokens": 9}, {}),
    "a first token": ({"num_beams": 3, "length_penalty": 0.5, "forced_bos_token_id": 11}, {"max_new_tokens": 13}),
    "a forced end": ({"num_beams": 3, "length_penalty": 0.5, "forced_eos_token_id": END}, {"max_new_tokens": 13}),
}


@pytest.mark.parametrize("name", CONSTRAINED)
def test_what_a_generation_config_asks_for_is_done(name: str) -> None:
    asked, own = CONSTRAINED[name]
    model, lengths = seq2seq("bart", spread=0.2, vocab_size=24), set()
    # Some answers end; none repeats what the decoder began with, which transformers' rules on repeating look at, too.
    model.final_logits_bias[0, [END, START]] = torch.tensor([1.5, -100.0])
    forced = asked.get("forced_bos_token_id")
    spec = DecoderSpec(START, forced, "forced_eos_token_id" in asked)
    graph = built(model, spec=spec)
    same = {key: value for key, value in asked.items() if not key.startswith("forced")}
    for ids in tiny.rows(24, (3,) * 8):
        expected = generate(model, ids, **{"max_new_tokens": 14, **asked})
        found = answer_of(graph, ids, GenerationOptions(**{"max_new_tokens": 14, **same, **own}))
        assert [*([] if forced is None else [forced]), *found] == expected
        lengths.add(len(expected))
    assert len(lengths) > 1


def test_beams_read_the_text_once() -> None:
    model = built(seq2seq("bart"))
    (ids,) = rows((20,))
    read = model.encoder.read
    calls: list[int] = []
    model.encoder.read = lambda ids, control=None: calls.append(len(ids)) or read(ids, control)
    beam_search(model, ids, GenerationOptions(num_beams=4, max_new_tokens=5))
    assert calls == [20]


@pytest.mark.parametrize("kind", SHAPES)
def test_answers_made_together_are_those_made_alone(kind: str) -> None:
    graph = built(seq2seq(kind, spread=0.2))
    texts = [*rows((3, 40, CONTEXT)), *rows((3,))]  # the first and the last are the same
    options = [GenerationOptions(max_new_tokens=count) for count in (9, 3, 12, 6)]
    alone = [list(graph.stream(ids, each)) for ids, each in zip(texts, options, strict=True)]
    together = generate_together(graph, [Request(ids, each) for ids, each in zip(texts, options, strict=True)])
    assert [answer.tokens for answer in together] == alone
    sampled = [Request(texts[1], GenerationOptions(temperature=0.8, seed=seed, max_new_tokens=6)) for seed in (1, 2)]
    expected = [list(graph.stream(each.prompt, each.options)) for each in sampled]
    assert [answer.tokens for answer in generate_together(graph, sampled)] == expected


@pytest.mark.parametrize("used", ["int8-static", "int8-mixed", "int8-blocks"])
@pytest.mark.parametrize("kind", SHAPES)
def test_int8_keeps_the_most_probable_token(kind: str, used: str) -> None:
    model = seq2seq(kind, spread=0.08)
    graph = built(model, used)
    same, decided, texts = 0, 0, rows(range(1, 41))
    for ids in texts:
        expected, found = torch_logits(model, ids, ANSWER), graph.logits(ids, ANSWER)
        first, second = np.sort(expected)[[-1, -2]]
        assert distance(expected, found) < 0.15
        if first - second > 2 * np.abs(expected - found).max():
            decided += 1
            same += expected.argmax() == found.argmax()
        assert distance(graph.logits(ids, ANSWER, stepwise=True), found) < 0.01
    assert decided > 1
    assert same >= 0.99 * decided

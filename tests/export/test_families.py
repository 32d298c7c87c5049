"""The graphs of the families against torch: every honoured configuration, and every refused one by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.torch import save_file
from transformers import GPT2LMHeadModel

from edgelm_export import families
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.weights import open_weights
from edgelm_export.families import bert as bert_family
from edgelm_export.families import gpt2 as gpt2_family
from edgelm_export.graph import ACTIVATIONS
from edgelm_export.problems import distance
from edgelm_export.quantize import scheme
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.session import SessionOptions, create_session, run
from tests.export.tiny import Graph, bert, build, gpt2, rows, save_gpt2, torch_logits

BERT_VARIANTS: dict[str, dict[str, Any]] = {
    **{f"hidden_act={name}": {"hidden_act": name} for name in ACTIVATIONS},
    "intermediate_size": {"intermediate_size": 80},
    "layer_norm_eps": {"layer_norm_eps": 0.5},
    "heads": {"num_attention_heads": 2},
    "one layer": {"num_hidden_layers": 1},
    "five labels": {"num_labels": 5},
    "one token type": {"type_vocab_size": 1},
    "no block divides": {"hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 72},
    "odd heads": {"hidden_size": 36, "num_attention_heads": 3},
}
GPT2_VARIANTS: dict[str, dict[str, Any]] = {
    **{f"activation_function={name}": {"activation_function": name} for name in ACTIVATIONS},
    "n_inner": {"n_inner": 80},
    "layer_norm_epsilon": {"layer_norm_epsilon": 0.5},
    "heads": {"n_head": 2},
    "one head": {"n_head": 1},
    "one layer": {"n_layer": 1},
    "scale_attn_weights": {"scale_attn_weights": False},
    "scale_attn_by_inverse_layer_idx": {"scale_attn_by_inverse_layer_idx": True},
    "both scales": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "reorder_and_upcast_attn": {"reorder_and_upcast_attn": True},
    "untied head": {"tie_word_embeddings": False},
    "no block divides": {"n_embd": 40, "n_head": 5},
}
VARIANTS = [
    *(pytest.param(bert, config, id=f"bert-{name}") for name, config in BERT_VARIANTS.items()),
    *(pytest.param(gpt2, config, id=f"gpt2-{name}") for name, config in GPT2_VARIANTS.items()),
]


def _graph(model: Any, used: str = "fp32", weights: families.Weights | None = None) -> Graph:
    return Graph(build(model, used, weights), generator=model.config.model_type == "gpt2")


def _assert_same(model: Any, graph: Graph, tolerance: float = 2e-5) -> None:
    for ids in rows(model.config.vocab_size):
        expected = torch_logits(model, ids)
        assert np.abs(expected).max() > 0.01  # logits around 0 would agree for nothing
        np.testing.assert_allclose(graph.logits(ids), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("make", "config"), VARIANTS)
def test_float32_equals_torch(make: Any, config: dict[str, Any]) -> None:
    model = make(**config)
    _assert_same(model, _graph(model))


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (bert, {"hidden_act": "gelu_new"}),
        (bert, {"hidden_act": "relu"}),
        (bert, {"layer_norm_eps": 0.5}),
        (bert, {"num_attention_heads": 2}),
        (gpt2, {"activation_function": "gelu"}),
        (gpt2, {"activation_function": "tanh"}),
        (gpt2, {"layer_norm_epsilon": 0.5}),
        (gpt2, {"n_head": 2}),
        (gpt2, {"scale_attn_weights": False}),
        (gpt2, {"scale_attn_by_inverse_layer_idx": True}),
    ],
)
def test_a_graph_that_ignored_a_field_would_be_seen(make: Any, config: dict[str, Any]) -> None:
    ignored, model = _graph(make()), make(**config)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        _assert_same(model, ignored)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("make", "config"), VARIANTS)
def test_int8_is_near_torch(make: Any, config: dict[str, Any], fast: bool) -> None:
    used = ("int8" if make is bert else "int8-static") if fast else "int8-blocks"
    model = make(spread=0.08, **config)
    graph = _graph(model, used)
    distances = [distance(graph.logits(ids), torch_logits(model, ids)) for ids in rows(model.config.vocab_size)]
    assert max(distances) < 0.05
    assert max(distances) > 0  # it is quantized


@pytest.mark.parametrize("used", ["fp32", "int8-blocks"])
def test_step_by_step_equals_reading_at_once(used: str) -> None:
    model = gpt2()
    graph = _graph(model, used)
    for ids in rows(600):
        np.testing.assert_allclose(graph.logits(ids, stepwise=True), graph.logits(ids), rtol=0, atol=2e-5)


def test_a_longer_context_than_any_before_and_the_last_position() -> None:
    model = gpt2()
    graph = _graph(model)
    ids = rows(600, (95,))[0]
    np.testing.assert_allclose(graph.logits(ids), torch_logits(model, ids), rtol=0, atol=1e-4)


def test_rows_of_a_batch_do_not_see_each_other_in_float32() -> None:
    model = bert()
    data = build(model)
    first, second = rows(600, (9, 9))
    both = run(create_session(data, SessionOptions(1)), {"input_ids": np.array([first, second])}, ["logits"])[0]
    expected = [torch_logits(model, ids) for ids in (first, second)]
    np.testing.assert_allclose(both, np.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "rename"),
    [
        (bert, lambda name: name.removeprefix("bert.")),
        (bert, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")),
        (gpt2, lambda name: name.removeprefix("transformer.")),
    ],
    ids=["bert", "bert with gamma and beta", "gpt2"],
)
def test_other_names_of_weights_are_found(make: Any, rename: Any, tmp_path: Path) -> None:
    model = make()
    tensors = {rename(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors.pop("lm_head.weight", None)
    save_file(tensors, tmp_path / "model.safetensors")
    weights = open_weights(tmp_path)
    assert rename("bert.pooler.dense.bias") in weights or "transformer.wte.weight" in weights
    _assert_same(model, _graph(model, weights=weights))


def test_a_head_that_differs_from_the_table_is_used_as_transformers_does(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "gpt2", gpt2(tie_word_embeddings=False))
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8").replace('"tie_word_embeddings": false', '"tie_word_embeddings": true'))
    loaded = GPT2LMHeadModel.from_pretrained(folder).eval()
    checkpoint = load_checkpoint(folder)
    data = gpt2_family.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted).graph
    _assert_same(loaded, Graph(data, generator=True))


REFUSED: list[tuple[Any, str, Any]] = [
    (bert_family, "hidden_act", "mish"),
    (bert_family, "position_embedding_type", "relative_key"),
    (bert_family, "is_decoder", True),
    (bert_family, "add_cross_attention", True),
    (bert_family, "num_attention_heads", 5),
    (bert_family, "num_attention_heads", 0),
    (gpt2_family, "activation_function", "mish"),
    (gpt2_family, "add_cross_attention", True),
    (gpt2_family, "n_head", 5),
    (gpt2_family, "n_head", 16),  # four numbers a head: the kernel reads eight
    (gpt2_family, "n_head", 0),
]


@pytest.mark.parametrize(("family", "field", "value"), REFUSED)
def test_a_field_that_is_not_honoured_is_refused_by_name(family: Any, field: str, value: Any) -> None:
    config = (bert if family is bert_family else gpt2)().config.to_dict()
    family.check(config)
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        family.check({**config, field: value})
    assert f"{field} = {value!r}" in str(refusal.value)
    assert "accepted: " in str(refusal.value)


def test_an_unknown_architecture_lists_the_supported() -> None:
    assert families.supported() == [
        "bart", "bert", "camembert", "distilbert", "electra", "gpt2", "gpt_neo", "llama", "mbart", "mistral", "mpnet",
        "mt5", "opt", "pegasus", "qwen2", "qwen3", "roberta", "t5", "xlm-roberta",
    ]  # fmt: skip
    with pytest.raises(
        UnsupportedCheckpoint, match=r"'bloom' has no family file; those that have one are bart, bert, "
    ):
        families.family("bloom")


def _stored(data: bytes) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load_from_string(data).graph.initializer}


def test_the_tied_table_is_stored_once_and_in_8_bits() -> None:
    model = gpt2()
    config = model.config
    data = build(model, "int8-static")
    tensors = _stored(data)
    tables = [name for name, tensor in tensors.items() if config.vocab_size in tensor.dims and len(tensor.dims) == 3]
    assert tables == ["transformer.wte", "transformer.wte.scale"]
    assert tensors["transformer.wte"].data_type == onnx.TensorProto.UINT8
    # What the shapes say: a byte for each weight, four for a scale and for each number that stays in float32.
    width, layers = config.n_embd, config.n_layer
    table_rows, block = config.vocab_size + config.n_positions, 64
    scales = 4 * (table_rows * width // block + config.vocab_size * width // block)  # the head reads its own shape
    products = layers * 12 * width * width
    # scales and biases of products, norms, and what levels the second feed-forward product's inputs
    vectors = 4 * (layers * (2 * 9 * width + 4 * width + 4 * width) + 2 * width)
    expected = table_rows * width + scales + products + vectors
    names_and_nodes = len(data) - expected
    assert 0 < names_and_nodes < 12_000
    assert len(data) < 0.30 * 4 * sum(parameter.numel() for parameter in model.parameters()) + 12_000


def test_an_untied_head_is_stored_beside_the_table() -> None:
    tensors = _stored(build(gpt2(tie_word_embeddings=False), "int8-static"))
    assert {"transformer.wte", "lm_head"} <= set(tensors)
    assert tensors["lm_head"].data_type == onnx.TensorProto.UINT8


def test_every_large_weight_of_an_int8_graph_is_in_8_bits() -> None:
    for model in (bert(), gpt2()):
        for used in ("int8", "int8-static", "int8-blocks"):
            for name, tensor in _stored(build(model, used)).items():
                if np.prod(tensor.dims) > 2000 and "position_embeddings" not in name and "scale" not in name:
                    assert tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8), name


def test_the_same_weights_give_the_same_bytes() -> None:
    assert build(gpt2(), "int8-static") == build(gpt2(), "int8-static")
    assert build(bert(), "int8") == build(bert(), "int8")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    bert().bert.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedCheckpoint, match=r"no tensor 'classifier\.weight'"):
        build(bert(), weights=open_weights(tmp_path))

"""Every layer in a scheme of its own: what each delegates to, and that nothing else of the graph changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from edgelm_export import families
from edgelm_export.problems import distance
from edgelm_export.quantize import Scheme, scheme
from edgelm_export.quantize.per_layer import PerLayer
from tests.export.tiny import CONTEXT, Graph, Tensors, bert, gpt2, rows, torch_logits

FP32 = scheme("fp32")
QUERY, INNER, OUTPUT = (
    f"bert.encoder.layer.0.{part}" for part in ("attention.self.query", "intermediate.dense", "output.dense")
)


def build(model: Any, used: Scheme) -> bytes:
    config = model.config.to_dict()
    family = families.family(config["model_type"])
    wanted = families.Wanted(family.TASKS[0], CONTEXT)
    return family.build(Tensors(model), config, used, wanted).graph


def kinds(data: bytes) -> Mapping[str, str]:
    """The operator that reads each weight of a graph, by the weight's name."""
    return {name: node.op_type for node in onnx.load_from_string(data).graph.node for name in node.input if name}


def test_a_layer_has_its_scheme_and_the_others_the_default() -> None:
    layers = {QUERY: scheme("int8"), INNER: scheme("int8"), OUTPUT: scheme("int8-blocks")}
    reads = kinds(build(bert(), PerLayer(layers, FP32)))
    assert reads[f"{QUERY}.weight"] == "QAttention"
    assert reads[f"{INNER}.weight"] == "DynamicQuantizeMatMul"
    assert reads[f"{OUTPUT}.weight"] == "MatMulNBits"
    assert reads[f"{INNER.replace('.0.', '.1.')}.weight"] == "MatMul"
    assert reads[f"{QUERY.replace('.0.', '.1.')}.weight"] == "Attention"
    assert reads["bert.embeddings.word_embeddings"] == "Gather"


def test_any_layer_can_stay_in_float32() -> None:
    reads = kinds(build(bert(), PerLayer({OUTPUT: FP32, "bert.embeddings.word_embeddings": FP32}, scheme("int8"))))
    assert reads[f"{OUTPUT}.weight"] == "MatMul"
    assert reads["bert.embeddings.word_embeddings"] == "Gather"
    assert reads["bert.embeddings.position_embeddings"] == "GatherBlockQuantized"
    assert reads[f"{INNER}.weight"] == "DynamicQuantizeMatMul"


def test_everything_in_float32_answers_as_torch() -> None:
    model = bert()
    graph = Graph(build(model, PerLayer({INNER: FP32}, FP32)), generator=False)
    for ids in rows(600):
        np.testing.assert_allclose(graph.logits(ids), torch_logits(model, ids), atol=1e-4)


def test_a_table_and_its_head_share_their_bytes_in_every_scheme() -> None:
    model = gpt2()
    for name in ("fp32", "int8-blocks"):
        data = build(model, PerLayer({"transformer.wte": scheme(name)}, scheme("int8")))
        tables = [each for each in onnx.load_from_string(data).graph.initializer if each.name == "transformer.wte"]
        assert len(tables) == 1
        ids = rows(600)[2]
        assert distance(Graph(data, generator=True).logits(ids), torch_logits(model, ids)) < 0.1


def test_the_precision_is_the_coarsest_and_half_a_graph_in_float16_is_refused() -> None:
    assert PerLayer({}, FP32).precision == "fp32"
    assert PerLayer({"a": scheme("int8")}, FP32).precision == "int8"
    assert PerLayer({"a": scheme("int4-64")}, scheme("int8")).precision == "int4"
    with pytest.raises(ValueError, match=r"'fp16', 'int8'.*accepted are int4, int8, fp32"):
        PerLayer({"a": scheme("fp16")}, scheme("int8"))

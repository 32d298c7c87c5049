"""The encoders from weights against torch: every family, task and configuration, in every scheme."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from edgelm_export import families
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.weights import open_weights
from edgelm_export.encoder import TASKS
from edgelm_export.families import POOLINGS
from edgelm_export.families.mpnet import buckets
from edgelm_export.graph import ACTIVATIONS
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_export.quantize.ranges import Range
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.verify import verify_bundle
from tests.export.tiny import CONTEXT, ENCODERS, TEXTS, Tensors, encoder, rows, train_gpt2_tokenizer

TEXT, TOKEN, FEATURE = TASKS
LENGTHS = (1, 2, 33, CONTEXT)
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
SEGMENTED = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
# Every scheme, and how far from torch its logits may be on average, in standard deviations of torch's.
SCHEMES = {
    "fp32": 1e-5, "fp16": 0.005, "int8": 0.04, "int8-mixed": 0.04, "int8-whole": 0.04, "int8-static": 0.08,
    "int8-blocks": 0.04, "qdq-int8": 0.04, "int4-32": 0.4, "int4-64": 0.4, "int4-128": 0.4,
}  # fmt: skip
COMMON: dict[str, dict[str, Any]] = {
    "plain": {},
    **{f"hidden_act={name}": {"hidden_act": name} for name in ACTIVATIONS},
    "intermediate_size": {"intermediate_size": 80},
    "heads": {"num_attention_heads": 2},
    "one layer": {"num_hidden_layers": 1},
    "one label": {"num_labels": 1},
    "five labels": {"num_labels": 5},
    "no block divides": {"hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 72},
    "odd heads": {"hidden_size": 36, "num_attention_heads": 3},
}
EPSILON = {"layer_norm_eps": {"layer_norm_eps": 0.5}}
TYPES = {"one segment": {"type_vocab_size": 1}, "three segments": {"type_vocab_size": 3}}
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {**EPSILON, **TYPES},
    "roberta": {**EPSILON, **TYPES, "padding 0": {"pad_token_id": 0}, "padding 7": {"pad_token_id": 7}},
    "xlm-roberta": {},
    "camembert": {},
    "distilbert": {"sinusoidal_pos_embds": {"sinusoidal_pos_embds": True}},
    "electra": {**EPSILON, **TYPES, "as wide": {"embedding_size": 64}, "wider": {"embedding_size": 80}},
    "mpnet": {**EPSILON, "padding 7": {"pad_token_id": 7, "max_position_embeddings": CONTEXT + 2}},
}
VARIANTS = [
    pytest.param(kind, config, id=f"{kind}-{name}")
    for kind in ENCODERS
    for name, config in {**(COMMON if kind not in ("xlm-roberta", "camembert") else {"plain": {}}), **OWN[kind]}.items()
]


def wanted(task: str, pooling: str = "mean", *, normalize: bool = False, **fields: Any) -> families.Wanted:
    poolings, layers = (pooling,) if task == FEATURE else (), (families.Normalize(),) if normalize else ()
    return families.Wanted(task, CONTEXT, poolings, layers, **fields)


def pooled_by_hand(states: Any, pooling: str) -> Any:
    """The vectors [1, hidden] of tokens [1, tokens, hidden], from the definitions."""
    count = states.shape[1]
    weights = {"mean": [1 / count] * count, "mean_sqrt_len_tokens": [count**-0.5] * count,
               "weightedmean": [2 * place / (count * (count + 1)) for place in range(1, count + 1)],
               "cls": [1] + [0] * (count - 1), "lasttoken": [0] * (count - 1) + [1]}  # fmt: skip
    return states.max(1).values if pooling == "max" else torch.tensor(weights[pooling]).float() @ states


def built(model: Any, want: families.Wanted, used: str = "fp32", weights: families.Weights | None = None) -> bytes:
    config = model.config.to_dict()
    family = families.family(config["model_type"])
    family.check(config)
    ranges = measured(model) if used.startswith(("int8-mixed", "int8-whole", "int8-static", "qdq")) else {}
    spans = {name: known.span() for name, known in ranges.items()}
    return family.build(weights or Tensors(model), config, scheme(used, ranges, spans=spans), want).graph


def measured(model: Any) -> dict[str, Range]:
    """The range of the inputs of every linear layer, on random texts."""
    ranges: dict[str, Range] = {}

    def watch(name: str) -> Any:
        def note(_: Any, inputs: Any) -> None:
            ranges[name] = Range.of(inputs[0].flatten(0, -2).numpy()).joined(ranges.get(name))

        return note

    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    handles = [part.register_forward_pre_hook(watch(name)) for name, part in layers]
    for ids in rows(model.config.vocab_size, LENGTHS * 5, seed=2):  # a short text has values that a long one has not
        from_torch(model, wanted(FEATURE), ids)
    for handle in handles:
        handle.remove()
    return ranges


def from_torch(
    model: Any, want: families.Wanted, ids: Sequence[int], segments: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """torch's own answer, from all rows of the last layer."""
    given = {} if segments is None else {"token_type_ids": torch.tensor([list(segments)])}
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([list(ids)]), **given)
        if "logits" in out:
            found = out.logits
        else:
            found = pooled_by_hand(out.last_hidden_state, want.poolings[0])
            found = torch.nn.functional.normalize(found) if want.layers else found
    array: NDArray[np.float32] = found[0].numpy()
    return array


class Session:
    """A built graph, run text by text."""

    def __init__(self, data: bytes, want: families.Wanted) -> None:
        self._session = create_session(data, SessionOptions(1))
        self._output = "embedding" if want.task == FEATURE else "logits"

    def __call__(self, ids: Sequence[int], segments: Sequence[int] | None = None) -> NDArray[np.float32]:
        feeds = {"input_ids": np.array([list(ids)], np.int64)}
        if segments is not None:
            feeds["token_type_ids"] = np.array([list(segments)], np.int64)
        found: NDArray[np.float32] = run(self._session, feeds, [self._output])[0][0]
        return found


def assert_same(
    model: Any, graph: Session, want: families.Wanted, texts: Sequence[Sequence[int]] | None = None
) -> None:
    for ids in rows(model.config.vocab_size, LENGTHS) if texts is None else texts:
        expected = from_torch(model, want, ids)
        assert np.abs(expected).max() > 0.01  # numbers around 0 would agree for nothing
        np.testing.assert_allclose(graph(ids), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("kind", "config"), VARIANTS)
def test_float32_equals_torch(kind: str, config: dict[str, Any], task: str) -> None:
    model, want = encoder(kind, task, **config), wanted(task)
    assert_same(model, Session(built(model, want), want), want)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_embeddings_are_pooled_as_wanted(kind: str, pooling: str, normalize: bool) -> None:
    model, want = encoder(kind, FEATURE), wanted(FEATURE, pooling, normalize=normalize)
    graph = Session(built(model, want), want)
    assert_same(model, graph, want)
    assert (abs(np.linalg.norm(graph([5, 6, 7])) - 1) < 1e-5) == normalize


def test_a_vector_of_zeros_stays_one_when_it_is_normalized() -> None:
    model, want = encoder("bert", FEATURE), wanted(FEATURE, normalize=True)
    with torch.no_grad():
        norm = model.encoder.layer[-1].output.LayerNorm
        norm.weight.zero_()
        norm.bias.zero_()
    assert not Session(built(model, want), want)([5, 6, 7]).any()


@pytest.mark.parametrize(
    ("task", "shape"), [(TEXT, ["batch", 3]), (TOKEN, ["batch", "sequence", 3]), (FEATURE, ["batch", 64])]
)
@pytest.mark.parametrize("kind", ENCODERS)
def test_shapes_are_declared(kind: str, task: str, shape: list[int | str]) -> None:
    graph = onnx.load_from_string(built(encoder(kind, task, num_labels=3), wanted(task))).graph
    declared = {
        value.name: [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert declared == {"input_ids": ["batch", "sequence"], "embedding" if task == FEATURE else "logits": shape}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_pairs_are_told_apart_where_the_model_does(kind: str, task: str) -> None:
    model, want = encoder(kind, task), wanted(task, pairs=True, segments=True)
    data = built(model, want)
    inputs = [value.name for value in onnx.load_from_string(data).graph.input]
    assert inputs == ["input_ids", *(["token_type_ids"] if kind in SEGMENTED else [])]
    if kind not in SEGMENTED:
        assert_same(model, Session(data, want), want)
        return
    graph = Session(data, want)
    for ids in rows(600, LENGTHS):
        segments = [int(index > len(ids) // 3) for index in range(len(ids))]
        expected = from_torch(model, want, ids, segments)
        np.testing.assert_allclose(graph(ids, segments), expected, rtol=0, atol=2e-5)
    assert np.abs(graph(ids, [0] * len(ids)) - expected).max() > 1e-3


@pytest.mark.parametrize("kind", SEGMENTED)
def test_a_model_of_one_segment_reads_pairs_without(kind: str) -> None:
    model, want = encoder(kind, type_vocab_size=1), wanted(TEXT, pairs=True, segments=True)
    assert_same(model, Session(built(model, want), want), want)


@pytest.mark.parametrize("kind", ENCODERS)
def test_padding_that_stands_in_a_text_is_counted_as_torch_does(kind: str) -> None:
    model, want = encoder(kind, TOKEN), wanted(TOKEN)
    texts = [[5, 1, 6], [1], [1, 1, 7, 8], [0, 9, 0, 1], [*range(1, 40), 1]]
    assert_same(model, Session(built(model, want), want), want, texts)


@pytest.mark.parametrize("kind", ENCODERS)
def test_rows_of_a_batch_do_not_see_each_other(kind: str) -> None:
    model, want = encoder(kind, TOKEN), wanted(TOKEN)
    session = create_session(built(model, want), SessionOptions(1))
    texts = rows(600, (9, 9))
    (found,) = run(session, {"input_ids": np.array(texts)}, ["logits"])
    np.testing.assert_allclose(found, [from_torch(model, want, ids) for ids in texts], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("bert", {"hidden_act": "relu"}),
        ("bert", {"layer_norm_eps": 0.5}),
        ("bert", {"num_attention_heads": 2}),
        ("roberta", {"hidden_act": "tanh"}),
        ("roberta", {"pad_token_id": 2}),
        ("xlm-roberta", {"pad_token_id": 2}),
        ("camembert", {"pad_token_id": 2}),
        ("distilbert", {"activation": "relu"}),
        ("distilbert", {"n_heads": 2}),
        ("electra", {"hidden_act": "relu"}),
        ("electra", {"layer_norm_eps": 0.5}),
        ("mpnet", {"hidden_act": "relu"}),
        ("mpnet", {"num_attention_heads": 2}),
    ],
)
def test_a_graph_that_ignored_a_field_would_be_seen(kind: str, other: dict[str, Any]) -> None:
    model, want = encoder(kind), wanted(TEXT)
    weights = Tensors(model)
    if kind == "mpnet" and "num_attention_heads" in other:
        table = "mpnet.encoder.relative_attention_bias.weight"
        weights._tensors[table] = weights._tensors[table][:, :2]
    config = {**model.config.to_dict(), **other}
    graph = Session(families.family(kind).build(weights, config, scheme("fp32"), want).graph, want)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(model, graph, want)


def test_distances_fall_into_the_buckets_of_torch() -> None:
    distances = np.arange(-600, 601)
    expected = MPNetEncoder.relative_position_bucket(torch.tensor(distances))
    np.testing.assert_array_equal(buckets(distances), expected.numpy())


def test_distances_beyond_the_last_bucket_in_a_long_text() -> None:
    model = encoder("mpnet", FEATURE, max_position_embeddings=302)
    want = families.Wanted(FEATURE, 300, ("cls",))
    assert_same(model, Session(built(model, want), want), want, rows(600, (129, 300)))
    with torch.no_grad():
        model.encoder.relative_attention_bias.weight[[15, 31]] += 3  # the furthest of both directions
    assert_same(model, Session(built(model, want), want), want, rows(600, (300,)))


@pytest.mark.parametrize("used", SCHEMES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind not in ("xlm-roberta", "camembert")])
def test_every_scheme_is_near_torch(kind: str, task: str, used: str) -> None:
    model, want = encoder(kind, task, spread=0.08, num_labels=5), wanted(task)
    graph = Session(built(model, want, used), want)
    texts = rows(600, LENGTHS * 3)
    expected = [from_torch(model, want, ids) for ids in texts]
    error = np.concatenate([(graph(ids) - right).ravel() for ids, right in zip(texts, expected, strict=True)])
    size = np.concatenate([right.ravel() for right in expected]).std()
    assert 0 < np.abs(error).mean() / size < SCHEMES[used]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_layers_have_the_names_of_torchs_modules(kind: str, task: str) -> None:
    graph = onnx.load_from_string(built(encoder(kind, task), wanted(task), "int8-mixed")).graph
    used = {node.op_type for node in graph.node}
    # What is taken where no range was measured under the name of a layer.
    assert not used & {"MatMulNBits", "DynamicQuantizeMatMul", "DynamicQuantizeLinear"}
    assert "MatMulIntegerToFloat" in used


@pytest.mark.parametrize("used", ["int8", "int8-mixed", "int8-blocks"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_int8_decides_as_torch_where_the_margin_is_above_the_error(kind: str, used: str) -> None:
    model, want = encoder(kind, num_labels=5, spread=0.1), wanted(TEXT)
    graph = Session(built(model, want, used), want)
    texts = rows(600, [3 + index % 40 for index in range(200)], seed=3)
    expected, found = (
        np.array([ask(ids) for ids in texts]) for ask in (lambda ids: from_torch(model, want, ids), graph)
    )
    ordered = np.sort(expected, axis=1)
    # Two standard deviations of the error of a difference of logits, over all texts: a text's own would prove nothing.
    error = 2 * np.sqrt(2 * np.square(found - expected).mean())
    decided = ordered[:, -1] - ordered[:, -2] > error
    agree = expected.argmax(1) == found.argmax(1)
    assert decided.mean() > 0.75, decided.mean()
    assert len(set(expected.argmax(1)[decided])) > 1  # more than one answer is given
    assert agree[decided].mean() >= 0.99


@pytest.mark.parametrize("used", ["fp16", "qdq-int8"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_graphs_for_other_devices_have_operators_of_onnx_alone(kind: str, task: str, used: str) -> None:
    data = built(encoder(kind, task), wanted(task, normalize=True, pairs=True, segments=True), used)
    assert {node.domain for node in onnx.load_from_string(data).graph.node} == {""}


REFUSED: list[tuple[str, str, Any]] = [
    *((kind, "hidden_act", "mish") for kind in ENCODERS if kind != "distilbert"),
    *((kind, "position_embedding_type", "relative_key") for kind in ENCODERS),
    *((kind, field, True) for kind in ENCODERS for field in ("is_decoder", "add_cross_attention")),
    *((kind, "num_attention_heads", heads) for kind in ENCODERS if kind != "distilbert" for heads in (0, 5)),
    *((kind, "pad_token_id", None) for kind in AFTER_PADDING),
    ("distilbert", "activation", "mish"),
    ("distilbert", "n_heads", 0),
    ("distilbert", "n_heads", 5),
    ("mpnet", "relative_attention_num_buckets", 16),
    ("mpnet", "relative_attention_num_buckets", 64),
]


@pytest.mark.parametrize(("kind", "field", "value"), REFUSED)
def test_a_field_that_is_not_honoured_is_refused_by_name(kind: str, field: str, value: Any) -> None:
    config, family = encoder(kind).config.to_dict(), families.family(kind)
    family.check(config)
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        family.check({**config, field: value})
    assert f"{field} = {value!r}" in str(refusal.value)
    assert "accepted: " in str(refusal.value)


@pytest.mark.parametrize("pooling", ["", "median", "Mean"])
def test_a_pooling_that_is_not_known_is_refused(pooling: str) -> None:
    with pytest.raises(
        UnsupportedCheckpoint, match=f"the poolings are .*'{pooling}'.*; accepted: one or more of cls, max, mean"
    ):
        built(encoder("bert", FEATURE), wanted(FEATURE, pooling))


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_missing_tensor_is_named(kind: str, tmp_path: Path) -> None:
    model = encoder(kind)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    missing = [name for name in tensors if "layer.1" in name and name.endswith("LayerNorm.bias")] or [
        name for name in tensors if name.endswith("layer.1.sa_layer_norm.bias")
    ]
    save_file({name: tensor for name, tensor in tensors.items() if name != missing[0]}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match=f"no tensor '{missing[0]}'"):
        built(model, wanted(TEXT), weights=open_weights(tmp_path))


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_base_model_is_found_with_and_without_a_head_beside_it(kind: str, tmp_path: Path) -> None:
    headed, want = encoder(kind), wanted(FEATURE)
    base = headed.base_model
    for name, model in (("headed", headed), ("base", base)):
        model.save_pretrained(tmp_path / name)
        weights = open_weights(tmp_path / name)
        assert_same(base, Session(built(base, want, weights=weights), want), want)


def saved(folder: Path, model: Any) -> Path:
    """A checkpoint's folder with a byte-level tokenizer."""
    model.save_pretrained(folder)
    train_gpt2_tokenizer(TEXTS, 600, 512).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_every_family_is_exported_and_verified(kind: str, task: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "checkpoint", encoder(kind, task, spread=0.05))
    checkpoint = load_checkpoint(folder)
    assert checkpoint.tokenizer.max_tokens == CONTEXT  # rows of the position table before the first token do not count
    assert checkpoint.labels == (() if task == FEATURE else ("LABEL_0", "LABEL_1"))
    report = export(ExportOptions(folder, tmp_path / "bundle"))
    assert report.parity.worst < 0.05
    verify_bundle(tmp_path / "bundle")


def test_a_model_type_with_a_dash_is_found_under_its_own_name_alone(tmp_path: Path) -> None:
    assert families.family("xlm-roberta").TASKS == TASKS
    with pytest.raises(UnsupportedCheckpoint, match="'xlm_roberta' has no family file"):
        families.family("xlm_roberta")
    folder = saved(tmp_path / "checkpoint", encoder("xlm-roberta"))
    assert json.loads((folder / "config.json").read_text("utf-8"))["model_type"] == "xlm-roberta"
    assert load_checkpoint(folder).family == "xlm-roberta"

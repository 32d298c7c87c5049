"""Rounding against slow plain twins, and what each scheme does with an outlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.problems import distance
from edgelm_export.quantize import folding, scheme
from edgelm_export.quantize.int4_hqq import Int4Hqq, half_quadratic
from edgelm_export.quantize.int8_mixed import Int8Mixed, apart
from edgelm_export.quantize.ranges import Range
from edgelm_export.quantize.rounding import (
    BLOCK_SIZES,
    ZERO_POINT,
    block_size,
    by_block,
    by_block_in_4_bits,
    per_channel,
)
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.verify import verify_bundle
from tests.export.tiny import Graph, build, gpt2, rows, save_gpt2, torch_logits

FLOATS = st.floats(-1e4, 1e4, width=32) | st.floats(-(2.0**-130), 2.0**-130, width=32) | st.just(0.0)


def matrices(columns: st.SearchStrategy[int]) -> st.SearchStrategy[NDArray[np.float32]]:
    """float32 matrices of a few rows, some of their columns 0 or too small to have a scale."""
    shape = st.tuples(st.integers(1, 5), columns)
    return shape.flatmap(lambda size: arrays(np.float32, size, elements=FLOATS))


def _slow_round(values: list[np.float32]) -> tuple[list[int], np.float32]:
    largest = np.float32(max(abs(value) for value in values))
    scale = largest / np.float32(127) if largest > 1e-30 else np.float32(1)
    return [round(float(np.float32(value) / scale)) for value in values], scale


@given(matrices(st.integers(1, 6)))
def test_per_channel_has_one_scale_an_output_channel(weight: NDArray[np.float32]) -> None:
    rounded, scale = per_channel(weight)
    assert (rounded.dtype, scale.dtype) == (np.int8, np.float32)
    assert (rounded.shape, scale.shape) == (weight.shape, weight.shape[1:])
    for column in range(weight.shape[1]):
        expected, step = _slow_round(list(weight[:, column]))
        assert rounded[:, column].tolist() == expected
        assert scale[column] == step


def test_tables_are_rounded_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    whole = by_block(rows, 32)
    for part in (1, 64, 7 * 64, 51 * 64):
        monkeypatch.setattr("edgelm_export.quantize.rounding.PART", part)
        for one, other in zip(whole, by_block(rows, 32), strict=True):
            np.testing.assert_array_equal(one, other)


@given(matrices(st.sampled_from([16, 32, 48])))
@settings(max_examples=50)
def test_by_block_has_one_scale_a_row_and_block(weight: NDArray[np.float32]) -> None:
    rounded, scale = by_block(weight, 16)
    assert (rounded.dtype, scale.dtype) == (np.uint8, np.float32)
    assert rounded.shape == (weight.shape[0], weight.shape[1] // 16, 16)
    assert scale.shape == (*rounded.shape[:2], 1)
    for row in range(weight.shape[0]):
        for block in range(weight.shape[1] // 16):
            expected, step = _slow_round(list(weight[row, 16 * block : 16 * (block + 1)]))
            assert (rounded[row, block].astype(int) - ZERO_POINT).tolist() == expected
            assert scale[row, block, 0] == step


@given(matrices(st.sampled_from([16, 32])))
@settings(max_examples=50)
def test_rounding_is_off_by_half_a_step_at_the_most(weight: NDArray[np.float32]) -> None:
    rounded, scale = per_channel(weight)
    assert np.all(np.abs(rounded * scale - weight) <= 0.501 * scale)
    rounded_blocks, scale = by_block(weight, 16)
    restored = (rounded_blocks.astype(np.float32) - ZERO_POINT) * scale
    assert np.all(np.abs(restored - weight.reshape(restored.shape)) <= 0.501 * scale)


@given(matrices(st.sampled_from([32, 64])))
@example(np.array([[-1189.0, *[1149.0] * 31]], np.float32))  # the largest has one sign, nearly all others the other
@settings(max_examples=50)
def test_4_bits_are_packed_in_pairs_and_off_by_little(weight: NDArray[np.float32]) -> None:
    packed, scale = by_block_in_4_bits(weight, 32)
    rows_, blocks = weight.shape[0], weight.shape[1] // 32
    assert (packed.dtype, packed.shape) == (np.uint8, (rows_, blocks, 16))
    assert (scale.dtype, scale.shape) == (np.float32, (rows_, blocks))
    restored = np.zeros((rows_, blocks, 32), np.float32)
    for index in range(32):
        half = packed[..., index // 2].astype(int) >> (4 * (index % 2)) & 15
        restored[..., index] = (half - 8) * scale
    cut = weight.reshape(restored.shape)
    largest = np.abs(cut).max(axis=-1, keepdims=True)
    # Never worse than the plain scale, which reaches to the largest number of both signs: half a step of it, squared.
    assert np.all(np.square(restored - cut).sum(-1) <= 32 * np.square(0.501 * largest[..., 0] / 7) + 1e-30)


@given(st.integers(1, 5000))
def test_block_size_is_the_largest_that_divides(width: int) -> None:
    dividing = [size for size in BLOCK_SIZES if width % size == 0]
    assert block_size(width) == max(dividing, default=None)


def test_schemes_are_found_by_name() -> None:
    for name, precision in (("fp32", "fp32"), ("int8", "int8"), ("int8-blocks", "int8")):
        assert (scheme(name).name, scheme(name).precision) == (name, precision)
    with pytest.raises(KeyError):
        scheme("int3")


@pytest.fixture(scope="module")
def inner_outlier() -> Any:
    """A GPT-2 whose first token makes one inner activation of 500, as the trained ones do, and that nothing reads."""
    model = gpt2(n_layer=1, spread=0.2)
    dimension, unit = 3, 5
    layer = model.transformer.h[0]
    with torch.no_grad():
        model.transformer.wpe.weight[0, dimension] = 60.0
        layer.ln_2.weight[dimension], layer.ln_2.bias[dimension] = 1.0, 0.0
        layer.mlp.c_fc.weight[:, unit] = 0.0
        layer.mlp.c_fc.weight[dimension, unit], layer.mlp.c_fc.bias[unit] = 100.0, -300.0
        layer.mlp.c_proj.weight[unit] = 0.0
    return model


@pytest.fixture(scope="module")
def attention_outlier() -> Any:
    """A GPT-2 whose first token makes one input of the attention some hundreds large, which nothing reads."""
    model = gpt2(n_layer=1, spread=0.2)
    dimension = 3
    layer = model.transformer.h[0]
    with torch.no_grad():
        model.transformer.wte.weight[:, dimension] = model.transformer.wte.weight.mean(dim=1)
        model.transformer.wpe.weight[:, dimension] = model.transformer.wpe.weight.mean(dim=1)
        model.transformer.wpe.weight[0, dimension] = 60.0
        layer.ln_1.weight[dimension], layer.ln_1.bias[dimension] = 100.0, 0.0
        layer.attn.c_attn.weight[dimension] = 0.0
    return model


def worst_distance(model: Any, used: str) -> float:
    graph = Graph(build(model, used), generator=True)
    return max(distance(graph.logits(ids), torch_logits(model, ids)) for ids in rows(600, (12, 20, 33)))


def test_the_inner_product_stands_an_outlier(inner_outlier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worst_distance(inner_outlier, "int8-static") < 0.1
    assert worst_distance(inner_outlier, "int8-blocks") < 0.1
    monkeypatch.setattr(folding, "GAIN", 0.0)
    assert worst_distance(inner_outlier, "int8-static") > 0.1


@given(matrices(st.integers(1, 6)), st.data())
def test_levels_with_an_alpha_of_a_half_are_square_roots(weight: NDArray[np.float32], data: st.DataObject) -> None:
    largest = data.draw(arrays(np.float32, len(weight), elements=st.floats(0, 1e4, width=32)))
    if not largest.any() or not weight.any():
        return
    level = folding.levels(largest, weight, 0.5)
    assert np.isfinite(level).all()
    assert level.max() == 1
    assert (level > 0).all()
    rows_ = [max(abs(float(value)) for value in row) for row in weight]
    floors = max(rows_) / 1e5, float(largest.max()) / 1e5
    slow = [max(float(x), floors[1]) ** 0.5 / max(w, floors[0]) ** 0.5 for x, w in zip(largest, rows_, strict=True)]
    np.testing.assert_allclose(level, np.array(slow) / max(slow), rtol=1e-3)


def test_an_outlier_row_spoils_one_scale_for_all_until_it_is_folded(
    attention_outlier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worst_distance(attention_outlier, "int8") > 0.25
    assert worst_distance(attention_outlier, "int8-static") < 0.1
    assert worst_distance(attention_outlier, "int8-blocks") < 0.1
    monkeypatch.setattr(folding, "GAIN", 0.0)
    assert worst_distance(attention_outlier, "int8-static") > 0.25


def test_an_export_with_outliers_that_nothing_folds_takes_the_blocks(
    attention_outlier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "GAIN", 0.0)
    folder = save_gpt2(tmp_path / "gpt2", attention_outlier)
    report = export(ExportOptions(folder, tmp_path / "bundle"))
    assert report.scheme == "int8-blocks"
    assert report.parity.worst < 0.25
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.quality["scheme"] == "int8-blocks"
    assert [variant.precision for variant in manifest.variants] == ["int8"]
    verify_bundle(tmp_path / "bundle")


def test_an_export_without_outliers_takes_the_fastest(gpt2_folder: Path, tmp_path: Path) -> None:
    assert export(ExportOptions(gpt2_folder, tmp_path / "bundle")).scheme == "int8-static"


def ranges(*largest: float) -> Range:
    values = np.array(largest, np.float32)
    return Range(-values, values)


def test_channels_are_taken_apart_where_the_others_gain() -> None:
    rest = [1.0] * 20
    assert apart(ranges(*rest, 30.0)).tolist() == [13, 14, 15, 16, 17, 18, 19, 20]
    assert apart(ranges(*rest, 1.49)).tolist() == []
    assert apart(ranges(*rest, *[30.0] * 9)).tolist() == []  # one of them would be left among the others
    assert apart(ranges(*[5.0] * 8)).tolist() == []  # and here nothing would be left


@given(arrays(np.float32, (12, 24), elements=st.floats(-4, 4, width=32)), st.integers(0, 23), st.booleans())
@settings(max_examples=30)
def test_a_mixed_product_is_near_the_exact_one(x: NDArray[np.float32], channel: int, biased: bool) -> None:
    x[0], x[1], x[:, channel] = 4, -4, 400
    weight = np.random.default_rng(1).normal(size=(24, 5)).astype(np.float32)
    bias = np.arange(5, dtype=np.float32) if biased else None
    graph = GraphBuilder("mixed")
    given = graph.input("x", ir.DataType.FLOAT, ["rows", 24])
    made = Int8Mixed({"layer": Range.of(x)}).linear(graph, given, weight, bias, "layer")
    graph.output(made, "product", ir.DataType.FLOAT, ["rows", 5])
    session = create_session(graph.serialize().graph, SessionOptions(1))
    (found,) = run(session, {"x": x}, ["product"])
    exact = x @ weight + (0 if bias is None else bias)
    # A step of the inputs is 8.8 / 255, one of the weights at most 4 / 127: half of each, over 24 channels.
    np.testing.assert_allclose(found, exact, atol=24 * (4 * 4 / 254 + 4 * 8.8 / 510))


def test_without_a_range_a_mixed_scheme_takes_the_blocks() -> None:
    graph = GraphBuilder("blocks")
    given = graph.input("x", ir.DataType.FLOAT, ["rows", 32])
    graph.output(Int8Mixed({}).linear(graph, given, np.ones((32, 2)), None, "l"), "y", ir.DataType.FLOAT, ["rows", 2])
    assert [node.op_type for node in onnx.load_from_string(graph.serialize().graph).graph.node] == ["MatMulNBits"]


def around_zero(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What plain blocks of 32 in 4 bits make of rows."""
    packed, scale = by_block_in_4_bits(rows, 32)
    values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], 32).astype(np.float64) - 8
    return (values * scale[..., None]).reshape(rows.shape)


def half_quadratic_rows(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    values, scale, zero = half_quadratic(rows)
    return ((values.astype(np.float64) - zero[..., None]) * scale[..., None]).reshape(rows.shape)


@pytest.mark.parametrize("width", [64, 96])
def test_half_quadratic_blocks_are_nearer_than_blocks_around_zero(width: int) -> None:
    rows = np.random.default_rng(0).gamma(2.0, 1.0, (40, width)).astype(np.float32)  # all on one side of zero
    found = half_quadratic_rows(rows)
    assert np.abs(found - rows).mean() < 0.7 * np.abs(around_zero(rows) - rows).mean()
    x = np.random.default_rng(1).normal(size=(1, 7, width)).astype(np.float32)
    graph = GraphBuilder("hqq")
    given = graph.input("x", ir.DataType.FLOAT, [1, "tokens", width])
    bias = np.arange(40, dtype=np.float32)
    graph.output(Int4Hqq().linear(graph, given, rows.T, bias, "layer"), "y", ir.DataType.FLOAT, [1, "tokens", 40])
    (y,) = run(create_session(graph.serialize().graph, SessionOptions(1)), {"x": x}, ["y"])
    np.testing.assert_allclose(y, x @ found.T + bias, atol=0.02 * np.abs(y).max())  # activations are rounded as well


def test_a_block_of_one_number_keeps_it() -> None:
    rows = np.stack([np.zeros(32), np.full(32, 0.25), np.full(32, -3.0)]).astype(np.float32)
    np.testing.assert_allclose(half_quadratic_rows(rows), rows, atol=1e-6)


@given(arrays(np.float32, (3, 32), elements=st.floats(-8, 8, width=32)))
@settings(max_examples=40, deadline=None)
def test_half_quadratic_blocks_are_never_further_than_those_around_zero(rows: NDArray[np.float32]) -> None:
    found, plain = (np.square(each(rows) - rows).sum(axis=-1) for each in (half_quadratic_rows, around_zero))
    assert (found <= plain * 1.001 + 1e-6).all()

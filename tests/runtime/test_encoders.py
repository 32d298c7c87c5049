"""The tasks of encoders on tiny graphs that look every token's output up in a table."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from edgelm.inputs import Item
from edgelm.outputs import CsvWriter, Style, TextWriter
from edgelm_runtime.bundle import Bundle, open_bundle, write_bundle
from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.fields import MANIFEST_NAME
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import MULTI_LABEL, REGRESSION, Manifest
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.tasks.classify import Classify
from edgelm_runtime.tasks.embed import Embed, joined
from edgelm_runtime.tasks.reading import window_spans
from edgelm_runtime.tasks.tag import Tag, merged
from edgelm_runtime.verify import verify_bundle

TINY = Path(__file__).parents[1] / "data" / "tiny-classifier"
TAGS = ("O", "B-GOOD", "I-GOOD", "B-BAD", "I-BAD")
VOCABULARY = Tokenizer.from_file(str(TINY / "tokenizer.json")).get_vocab()
one_core = LoadOptions(threads=1)


def graph(table: np.ndarray, output: str, *, pooled: bool, typed: bool = False) -> bytes:
    """input_ids -> the rows of `table`, or their mean; with `typed` a second segment's rows count ten times."""
    onnx = pytest.importorskip("onnx", reason="the graphs are written with onnx")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"], axis=0)]
    last = "rows"
    inputs = [helper.make_tensor_value_info("input_ids", types.INT64, ["batch", "sequence"])]
    weights = [onnx.numpy_helper.from_array(table.astype(np.float32), "table")]
    if typed:
        inputs.append(helper.make_tensor_value_info("token_type_ids", types.INT64, ["batch", "sequence"]))
        weights.append(onnx.numpy_helper.from_array(np.array([[1.0], [10.0]], np.float32), "segments"))
        nodes += [
            helper.make_node("Gather", ["segments", "token_type_ids"], ["factors"], axis=0),
            helper.make_node("Mul", ["rows", "factors"], ["weighted"]),
        ]
        last = "weighted"
    kind = "ReduceMean" if pooled else "Identity"
    nodes.append(helper.make_node(kind, [last], [output], **({"axes": [1], "keepdims": 0} if pooled else {})))
    shape = ["batch", table.shape[1]] if pooled else ["batch", "sequence", table.shape[1]]
    made = helper.make_graph(
        nodes, "tiny", inputs, [helper.make_tensor_value_info(output, types.FLOAT, shape)], weights
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def table(**columns: str) -> np.ndarray:
    """A row for each token of the vocabulary; each column is 8 for its words, told apart by blanks."""
    made = np.zeros((len(VOCABULARY), len(columns)), np.float32)
    for column, words in enumerate(columns.values()):
        made[[VOCABULARY[word] for word in words.split()], column] = 8.0
    return made


def bundle(folder: Path, model: bytes, golden: Any = None, **fields: Any) -> Bundle:
    manifest = Manifest.from_bytes((TINY / MANIFEST_NAME).read_bytes())
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    contents = {
        "model.onnx": model,
        "tokenizer.json": tokenizer.to_str().encode(),
        "golden.json": json.dumps(golden or {}).encode(),
    }
    return write_bundle(folder / "bundle", replace(manifest, **fields), contents)


@pytest.fixture
def multi(tmp_path: Path) -> Bundle:
    return bundle(
        tmp_path,
        graph(table(late="slow", broken="broken", fine="good") - 1, "logits", pooled=True),
        {"classification": [{"text": "broken slow", "labels": ["late", "broken"], "scores": {"late": 0.7311}}]},
        serves=("classify",), labels=("late", "broken", "fine"), problem_type=MULTI_LABEL,
    )  # fmt: skip


@pytest.fixture
def tagger(tmp_path: Path) -> Bundle:
    rows = table(o="the is and parcel very a . ,", bg="good", ig="great", bb="bad", ib="slow")
    golden = {"text": "the good great", "entities": [{"label": "GOOD", "score": 0.9987, "start": 4, "end": 14}]}
    return bundle(
        tmp_path, graph(rows, "logits", pooled=False), {"tagging": [golden]},
        task="token-classification", serves=("tag",), labels=TAGS,
    )  # fmt: skip


def embedder(folder: Path, golden: Any = None, **fields: Any) -> Bundle:
    rows = np.random.default_rng(0).normal(size=(len(VOCABULARY), 4))
    model = graph(rows, "embedding", pooled=True)
    return bundle(folder, model, golden, task="feature-extraction", serves=("embed",), labels=(), **fields)


def pair_bundle(folder: Path) -> Bundle:
    rows = table(a="good fast great 好", b="bad slow broken 差")
    return bundle(folder, graph(rows, "logits", pooled=True, typed=True), serves=("classify",), pairs=True)


def test_any_number_of_labels_may_hold(multi: Bundle) -> None:
    model = Classify(multi, one_core)
    result = model("broken slow")
    assert result.labels == ("late", "broken")
    assert result.scores["late"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert result.scores == model.decode(model.infer(model.tokenize("broken slow")))
    assert model("the parcel").labels == ()
    assert verify_bundle(multi.path).golden == 1


def test_regression_gives_numbers_and_no_label(tmp_path: Path) -> None:
    made = bundle(
        tmp_path, graph(table(stars="good"), "logits", pooled=True), serves=("classify",), labels=("stars",),
        problem_type=REGRESSION,
    )  # fmt: skip
    result = Classify(made, one_core)("good")
    assert (result.labels, result.is_regression) == ((), True)
    assert result.scores["stars"] == pytest.approx(8 / 3)


def test_windows_of_a_long_text_are_averaged_by_their_tokens(multi: Bundle) -> None:
    model = Classify(multi, one_core)
    text = "broken " * 20 + "good " * 5
    result = model(text)
    rows = model.windows(text)
    assert result.windows == len(rows) > 1
    scores = [model.decode(model.infer(row))["broken"] for row in rows]
    assert result.scores["broken"] == pytest.approx(np.average(scores, weights=list(map(len, rows))))


def test_entities_have_their_place_in_the_text(tagger: Bundle) -> None:
    model = Tag(tagger, one_core)
    text = "The good great parcel is bad, BAD slow!"
    result = model(text)
    assert [(one.label, one.text) for one in result.entities] == [
        ("GOOD", "good great"), ("BAD", "bad"), ("BAD", "BAD slow"),
    ]  # fmt: skip
    assert all(text[one.start : one.end] == one.text for one in result.entities)
    assert result.to_dict()["entities"][0]["label"] == "GOOD"
    assert verify_bundle(tagger.path).golden == 1
    assert len(model.decode(model.infer(model.tokenize(text)))) == len(model.tokenize(text))


def test_a_long_text_has_the_entities_of_its_parts(tagger: Bundle) -> None:
    model = Tag(tagger, one_core)
    text = "the parcel is very good and the parcel is very bad " * 6
    result = model(text)
    assert result.windows > 1
    assert [one.label for one in result.entities] == ["GOOD", "BAD"] * 6
    assert all(text[one.start : one.end] == one.text for one in result.entities)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_windows_that_agree_are_put_together_as_if_there_were_one(data: st.DataObject) -> None:
    length, room = data.draw(st.integers(1, 60)), data.draw(st.integers(2, 20))
    whole = np.random.default_rng(length).random((length, 3))
    spans = window_spans(length, room, 64)
    np.testing.assert_array_equal(merged([whole[first:last] for first, last in spans], spans), whole)


def test_a_token_takes_the_window_where_it_stands_furthest_inside() -> None:
    left, right = np.zeros((6, 1)), np.ones((6, 1))
    assert merged([left, right], [(0, 6), (3, 9)]).ravel().tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_an_embedding_is_the_graphs_vector(tmp_path: Path) -> None:
    model = Embed(embedder(tmp_path), one_core)
    result = model("the parcel is good")
    np.testing.assert_allclose(result.embedding, model.infer(model.tokenize("the parcel is good")))
    texts = ["good", "bad parcel"] * 6
    vectors = model.vectors(texts)
    assert (vectors.dtype, vectors.shape) == (np.float32, (12, 4))
    np.testing.assert_array_equal(vectors[1], model(texts[1]).embedding)
    assert model.vectors([]).shape == (0, 4)


def test_a_golden_vector_is_replayed(tmp_path: Path) -> None:
    right = Embed(embedder(tmp_path / "a"), one_core)("good")
    golden = {"embedding": [{"text": "good", "embedding": list(right.embedding)}]}
    assert verify_bundle(embedder(tmp_path / "b", golden).path).golden == 1
    golden["embedding"][0]["embedding"][0] += 3.0
    with pytest.raises(BundleRejected, match=r"a vector at most 0\.1 of its length away"):
        verify_bundle(embedder(tmp_path / "c", golden).path)
    golden["embedding"][0]["embedding"] = [1.0]
    with pytest.raises(BundleRejected, match="1 numbers"):
        verify_bundle(embedder(tmp_path / "d", golden).path)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_windows_of_unit_vectors_give_one(weights: list[int], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(weights), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.linalg.norm(joined(list(vectors), weights)) == pytest.approx(1.0, abs=1e-5)


def test_a_pair_is_read_with_its_segments(tmp_path: Path) -> None:
    model = Classify(pair_bundle(tmp_path), one_core)
    result = model(("good", "bad"))
    assert result.labels == (model.labels[1],)  # the second text counts ten times
    assert model({"text": "good", "text_pair": "bad"}).scores == result.scores
    assert model(("bad", "good")).labels == (model.labels[0],)
    row = model.tokenizer.encode_parts("bad", "good")
    ids, types = row.window(0, 1)
    assert (ids[0], ids[-1], types) == (2, 3, [0, 0, 0, 1, 1])
    np.testing.assert_allclose(list(model.decode(model.infer(ids, types)).values()), list(result.scores.values()))


def test_the_first_text_of_a_pair_stands_in_every_window(tmp_path: Path) -> None:
    model = Classify(pair_bundle(tmp_path), one_core)
    result = model(("the parcel", "bad " * 40))
    rows = model.windows(("the parcel", "bad " * 40))
    assert result.windows == len(rows) > 1
    assert all(row[:4] == rows[0][:4] for row in rows)
    assert all(len(row) <= 16 for row in rows)


def _texts_of(rows: list[list[int]]) -> list[tuple[list[int], list[int]]]:
    """The two texts of every row of a pair, without the special tokens around them."""
    parted = [(row, row.index(3)) for row in rows]
    return [(row[1:middle], row[middle + 1 : -1]) for row, middle in parted]


def test_a_first_text_that_is_too_long_is_read_in_windows_beside_the_second(tmp_path: Path) -> None:
    model = Classify(pair_bundle(tmp_path), one_core)
    review, aspect = "good bad fast " * 20, "the parcel"
    rows = _texts_of(model.windows((review, aspect)))
    assert {tuple(second) for _, second in rows} == {tuple(model.tokenizer.encode(aspect, special=False))}
    assert all(len(first) == 16 - 3 - 2 for first, _ in rows)
    assert rows[0][0] == model.tokenizer.encode(review, special=False)[:11]
    assert rows[-1][0] == model.tokenizer.encode(review, special=False)[-11:]
    result = model((review, aspect))
    assert result.windows == len(rows) > 5
    assert result.notes[0].startswith("longer than the model's context of 16 tokens")


@pytest.mark.parametrize(("first", "second", "cut"), [(40, 20, "second"), (20, 40, "first"), (20, 20, "first")])
def test_the_shorter_of_two_long_texts_is_cut_to_half_of_the_context(
    tmp_path: Path, first: int, second: int, cut: str
) -> None:
    model = Classify(pair_bundle(tmp_path), one_core)
    pair = ("good " * first, "bad " * second)
    rows = _texts_of(model.windows(pair))
    kept, read = (1, 0) if cut == "second" else (0, 1)
    assert {len(row[kept]) for row in rows} == {(16 - 3) // 2}
    assert sum(len(row[read]) for row in rows) >= (first, second)[read]
    notes = model(pair).notes
    assert f"only the first {5 * 6 - 1 if cut == 'first' else 4 * 6 - 1} of" in notes[0]
    assert notes[0].endswith(f"characters of the {cut} text were read")


@given(st.integers(1, 100), st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_every_pair_is_read_and_its_longer_text_to_the_end(first: int, second: int) -> None:
    rows = _texts_of(_pairs().windows(("good " * first, "bad " * second)))
    assert all(one and other and len(one) + len(other) <= 13 for one, other in rows)
    read = [sum(map(len, texts)) for texts in zip(*rows, strict=True)]
    assert max(read) >= max(first, second)


@cache
def _pairs() -> Classify:
    return Classify(pair_bundle(Path(mkdtemp())), one_core)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("good", "one text was given, the bundle reads pairs"),
        (("a", "b", "c"), "3 texts were given"),
        ({"text": "a"}, "one text was given"),
        ({"text": "a", "other": "b"}, "accepted are text and text_pair"),
        (("", "good"), "the text is empty or blank"),
        (("good", " "), "the text is empty or blank"),
        ((7, "good"), "the text is int"),
    ],
)
def test_a_wrong_pair_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    model = Classify(pair_bundle(tmp_path), one_core)
    with pytest.raises(InputError, match=message):
        model(value)


def test_a_pair_for_a_bundle_of_single_texts_is_refused() -> None:
    with pytest.raises(InputError, match="the bundle reads one text"):
        load(TINY)(("good", "bad"))


@pytest.mark.parametrize("types", [[0], [0, 2, 0], [0, 0, 0, 0]])
def test_segments_are_checked(tmp_path: Path, types: list[int]) -> None:
    model = Classify(pair_bundle(tmp_path), one_core)
    with pytest.raises(InputError, match="type_ids"):
        model.infer([2, 7, 3], types)


def test_a_graph_of_another_task_is_refused(tmp_path: Path) -> None:
    made = bundle(
        tmp_path, graph(table(a="good", b="bad"), "logits", pooled=True), task="feature-extraction",
        serves=("embed",), labels=(),
    )  # fmt: skip
    with pytest.raises(BundleRejected, match=r"expected input_ids .* and embedding \[batch, width\]"):
        Embed(made, one_core)


def test_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    rows = table(a="good", b="bad")
    rows[VOCABULARY["good"]] = np.nan
    made = bundle(
        tmp_path, graph(rows, "embedding", pooled=True), task="feature-extraction", serves=("embed",), labels=()
    )
    model = Embed(made, one_core)
    model("bad")
    with pytest.raises(BundleRejected, match="finite: False"):
        model("good")


@pytest.mark.parametrize(
    "answer", [["a", "b"], {"a": 1}, np.array([["a", "b"]]), np.array([[None, 1]]), np.zeros((2, 2))]
)
def test_answers_that_are_no_numbers_are_refused(
    tagger: Bundle, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    monkeypatch.setattr("edgelm_runtime.tasks.rows.run", lambda *_: [answer])
    with pytest.raises(BundleRejected, match=r"answered .*; expected"):
        Tag(tagger, one_core)("the good parcel")


@pytest.mark.parametrize("ids", [5, None, iter([1]), "abc", {1: 2}, [None], [10**30], [[1], [1, 2]], np.array(5)])
def test_what_are_no_token_ids_is_refused(tagger: Bundle, ids: Any) -> None:
    with pytest.raises(InputError, match="token ids"):
        Tag(tagger, one_core).infer(ids)


@pytest.mark.parametrize("types", [5, ["a"], [None], [0.5], "0", [10**30], [2], [[0], [0, 1]], np.array(0)])
def test_what_are_no_segments_is_refused(tagger: Bundle, types: Any) -> None:
    with pytest.raises(InputError, match="type_ids are"):
        Tag(tagger, one_core).infer([1], types)


def test_answers_are_written_for_people_and_for_tables(tagger: Bundle) -> None:
    result = Tag(tagger, one_core)("the good parcel")
    shown, rows = io.StringIO(), io.StringIO()
    TextWriter(shown, one_line=True).answer(Item("the good parcel", 1), result)
    CsvWriter(rows, Style()).answer(Item("the good parcel", 1), result)
    assert shown.getvalue() == "GOOD 'good'  1.00\n"
    header, row = csv.reader(io.StringIO(rows.getvalue()))
    assert dict(zip(header, row, strict=True)) == {
        "line": "1", "input": "the good parcel", "label": "GOOD", "score": "0.9987", "start": "4", "end": "8",
        "text": "good",
    }  # fmt: skip
    assert open_bundle(tagger.path).manifest.labels == TAGS

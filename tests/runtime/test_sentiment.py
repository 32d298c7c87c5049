from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime import loader
from edgelm_runtime.bundle import Bundle, open_bundle, write_bundle
from edgelm_runtime.errors import BundleNotFound, BundleRejected, DeviceError, InputError
from edgelm_runtime.loader import Routed, load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.session import Session
from edgelm_runtime.tasks import TASKS, task_class
from edgelm_runtime.tasks.reading import MAX_WINDOWS, window_spans
from edgelm_runtime.tasks.sentiment import Sentiment

TINY = Path(__file__).parents[1] / "data" / "tiny-classifier"
TEXTS = ["good", "the parcel is bad", "物流很快，很好。", "slow and broken", "very good and very fast", "很差"] * 4


@pytest.fixture(scope="module")
def model() -> Sentiment:
    return Sentiment(open_bundle(TINY), LoadOptions(threads=2))


def changed(tmp_path: Path, change: Callable[[Manifest], Manifest], **files: bytes) -> Bundle:
    manifest = Manifest.from_bytes((TINY / "edgelm.json").read_bytes())
    contents: dict[str, bytes | Path] = {name: TINY / name for name in manifest.files}
    contents.update({name.replace("__", "."): data for name, data in files.items()})
    return write_bundle(tmp_path / "changed", change(manifest), contents)


def test_the_golden_answers_hold(model: Sentiment) -> None:
    for golden in json.loads((TINY / "golden.json").read_text(encoding="utf-8"))["classification"]:
        result = model(golden["text"])
        assert result.label == golden["label"]
        for label, score in golden["scores"].items():
            assert result.scores[label] == pytest.approx(score, abs=0.001)


def test_a_result_says_all_about_its_text(model: Sentiment) -> None:
    result = model("物流很好")
    assert (result.label, result.language, result.tokens, result.windows) == ("positive", "zh", 6, 1)
    assert result.score == result.scores["positive"] == max(result.scores.values())
    assert sum(result.scores.values()) == pytest.approx(1.0)
    assert (result.notes, result.bundle) == ((), "tiny-classifier")
    assert list(result.timings) == ["tokenize", "infer", "decode", "total"]


def test_the_stages_give_the_same_as_the_call(model: Sentiment) -> None:
    ids = model.tokenize("the parcel is good")
    logits = model.infer(ids)
    assert logits.dtype == np.float32
    assert logits.shape == (2,)
    assert model.decode(logits) == model("the parcel is good").scores


def test_logits_of_rows_of_different_lengths(model: Sentiment) -> None:
    rows = [model.tokenize(text) for text in TEXTS]
    logits = model.logits(rows)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, np.stack([model.infer(row) for row in rows]))
    assert model.logits([]).shape == (0, 2)


@pytest.mark.parametrize(
    "ids", [[], [2] * 17, [-1], [1000], [2**70], [1.5], [1, "a"], [[2], [3]], [[2], 3]], ids=lambda ids: str(ids)[:12]
)
def test_rows_of_ids_are_checked(model: Sentiment, ids: list[Any]) -> None:
    with pytest.raises(InputError, match="token ids"):
        model.infer(ids)
    with pytest.raises(InputError, match="token ids"):
        model.logits([[2, 3], ids])


@pytest.mark.parametrize("count", [3, len(TEXTS)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_answers_in_input_order_like_single_calls(count: int, threads: int) -> None:
    model = Sentiment(open_bundle(TINY), LoadOptions(threads=threads))
    done: list[int] = []
    results = model.batch(iter(TEXTS[:count]), progress=done.append)
    assert [replace(r, timings={}) for r in results] == [replace(model(text), timings={}) for text in TEXTS[:count]]
    assert done == list(range(1, count + 1))
    assert model.batch([]) == []


def test_batch_mates_do_not_change_an_answer(model: Sentiment) -> None:
    alone = model.batch(["the parcel is good"])[0]
    among = model.batch([*TEXTS, "the parcel is good", "bad " * 100])[len(TEXTS)]
    assert among.scores == alone.scores


def test_a_bad_text_in_a_batch_is_named_or_returned(model: Sentiment) -> None:
    texts = ["good", " ", "bad"] * 4
    with pytest.raises(InputError, match="text 2: the text is empty or blank"):
        model.batch(texts)
    answers = model.try_batch(texts)
    assert [isinstance(answer, InputError) for answer in answers] == [False, True, False] * 4


def test_an_error_in_the_pool_stops_the_batch(model: Sentiment, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def failing(row: object, session: Session) -> None:
        calls.append(1)
        time.sleep(0.01)
        raise BundleRejected("the graph failed")

    monkeypatch.setattr(model.rows, "one", failing)
    with pytest.raises(BundleRejected, match="the graph failed"):
        model.batch(["good"] * 500)
    assert len(calls) < 100


def test_many_threads_share_one_model(model: Sentiment) -> None:
    expected = [model(text).scores for text in TEXTS]
    failures: list[int] = []

    def work() -> None:
        if [model(text).scores for text in TEXTS] != expected:
            failures.append(1)
        if [result.scores for result in model.batch(TEXTS)] != expected:
            failures.append(2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_long_text_is_read_in_windows_and_says_so(model: Sentiment) -> None:
    result = model("good " * 40 + "bad " * 20)
    assert result.windows == 6
    assert result.notes == ("longer than the model's context of 16 tokens: 6 overlapping windows were read",)
    assert result.label == "positive"
    assert 0.5 < result.score < model("good " * 14).score


def test_windows_are_averaged_by_their_tokens(model: Sentiment) -> None:
    text = "good " * 20
    spans = window_spans(20, 14, MAX_WINDOWS)
    rows = [[2, *[10] * (last - first), 3] for first, last in spans]
    expected = np.average([model.decode(row)["positive"] for row in model.logits(rows)], weights=[len(r) for r in rows])
    assert model(text).scores["positive"] == pytest.approx(expected)


@given(st.integers(0, 3000), st.integers(1, 60), st.integers(1, 64))
def test_windows_cover_the_text_and_stay_within_their_limits(length: int, room: int, limit: int) -> None:
    spans = window_spans(length, room, limit)
    assert 1 <= len(spans) <= limit
    assert all(0 < last - first <= room for first, last in spans) or length == 0
    assert spans[0][0] == 0
    assert all(first < following[0] <= last for (first, last), following in pairwise(spans))
    assert spans[-1][1] <= length
    assert spans[-1][1] == length or len(spans) == limit


@pytest.mark.parametrize("character", ["a", "好", "😀", " good", "!"])
def test_a_megabyte_of_one_character_is_bounded(model: Sentiment, character: str) -> None:
    text = character * (1_000_000 // len(character))
    start = time.perf_counter()
    result = model(text)
    assert time.perf_counter() - start < 10
    assert result.windows <= MAX_WINDOWS
    assert f"of {len(text):,} characters were read" in result.notes[-1]


def test_a_megabyte_of_combining_accents_has_nothing_to_read(model: Sentiment) -> None:
    with pytest.raises(InputError, match="no character that the model's tokenizer reads"):
        model("\u0301" * 1_000_000)


def test_where_reading_stopped_is_exact(model: Sentiment) -> None:
    result = model("好" * 5000)
    covered = 14 + (MAX_WINDOWS - 1) * 11
    assert result.windows == MAX_WINDOWS
    assert result.notes[-1] == f"only the first {covered} of 5,000 characters were read"


@pytest.mark.parametrize(
    "text", ["😀👍🏽", "שלום עולם", "\u202eevil\u202c", "a\0b", "a\ud800", "[CLS][SEP][PAD]", "\ufeffgood", "<b>'\";--"]
)
def test_strange_text_gets_an_answer(model: Sentiment, text: str) -> None:
    result = model(text)
    assert result.label in model.labels
    assert math.isfinite(result.score)
    assert bool(result.notes) == ("\ud800" in text)


@pytest.mark.parametrize("text", ["", "  \n", "\0", "\0\0 \u200b"])
def test_text_with_nothing_to_read_is_refused(model: Sentiment, text: str) -> None:
    with pytest.raises(InputError, match="the text"):
        model(text)


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_is_answered_or_refused(text: str) -> None:
    model = _shared_model()
    try:
        result = model(text)
    except InputError:
        return
    assert sum(result.scores.values()) == pytest.approx(1.0)


_models: list[Sentiment] = []


def _shared_model() -> Sentiment:
    if not _models:
        _models.append(Sentiment(open_bundle(TINY), LoadOptions(threads=1)))
    return _models[0]


def test_text_in_another_language_is_noted(tmp_path: Path) -> None:
    model = Sentiment(changed(tmp_path, lambda m: replace(m, languages=("zh",))))
    assert model("good").notes == ("the text looks like en, the bundle was trained for zh",)


def test_a_graph_that_is_no_classifier_of_these_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRejected, match=r"model\.onnx does not fit this task: .* logits \[batch, 3\]"):
        Sentiment(changed(tmp_path, lambda m: replace(m, labels=("a", "b", "c"))))


def test_a_context_without_room_is_refused(tmp_path: Path) -> None:
    bundle = changed(tmp_path, lambda m: replace(m, tokenizer=replace(m.tokenizer, max_tokens=2)))
    with pytest.raises(BundleRejected, match="no room for text"):
        Sentiment(bundle)


def test_a_graph_or_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRejected, match="the graph is refused"):
        Sentiment(changed(tmp_path / "a", lambda m: m, model__onnx=b"junk"))
    with pytest.raises(BundleRejected, match=r"tokenizer\.json is refused"):
        Sentiment(changed(tmp_path / "b", lambda m: m, tokenizer__json=b"junk"))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused_and_no_label(tmp_path: Path, broken: float) -> None:
    graph = (TINY / "model.onnx").read_bytes()
    weight = np.array([8.0], np.float32).tobytes()  # what a word adds to its class
    assert weight in graph
    data = graph.replace(weight, np.array([broken], np.float32).tobytes())
    model = Sentiment(changed(tmp_path, lambda m: m, model__onnx=data))
    with pytest.raises(BundleRejected, match="finite: False"):
        model("good")
    with pytest.raises(BundleRejected, match="finite: False"):
        model.batch(["good"] * 20)


def test_load_takes_a_folder_and_a_task() -> None:
    assert load(TINY)("good").label == "positive"
    assert load(str(TINY), task="sentiment", device="cpu", threads=1).threads == 1
    with pytest.raises(InputError, match="serves sentiment, not summary; ask for sentiment"):
        load(TINY, task="summary")
    with pytest.raises(InputError, match="give one of them"):
        load("sentiment", task="summary")
    with pytest.raises(InputError, match="threads is 0"):
        load(TINY, threads=0)
    with pytest.raises(DeviceError, match="no device 'tpu'"):
        load(TINY, device="tpu")
    with pytest.raises(
        BundleNotFound, match=r"no bundle '.*absent' \(nothing is there\); give a task \(sentiment, classify, .*\)"
    ):
        load(TINY / "absent")


def test_a_bundle_of_an_unknown_task_is_refused(tmp_path: Path) -> None:
    bundle = changed(tmp_path, lambda m: replace(m, serves=("poetry",)))
    with pytest.raises(BundleRejected, match="serves poetry, this runtime has sentiment"):
        load(bundle.path)


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two default bundles, one language each, in place of those that are shipped."""
    paths: dict[str, Path] = {}
    for language in ("en", "zh"):
        manifest = replace(
            Manifest.from_bytes((TINY / "edgelm.json").read_bytes()), name=f"tiny-{language}", languages=(language,)
        )
        files: dict[str, bytes | Path] = {name: TINY / name for name in manifest.files}
        paths[manifest.name] = write_bundle(tmp_path / manifest.name, manifest, files).path
    monkeypatch.setattr(loader, "default_bundles", lambda: paths)
    return paths


def test_default_bundles_are_routed_by_language(defaults: dict[str, Path]) -> None:
    model = load("sentiment")
    assert isinstance(model, Routed)
    assert model.languages == ("en", "zh")
    shutil.rmtree(defaults["tiny-zh"])
    assert model("good").bundle == "tiny-en"
    with pytest.raises(BundleRejected):
        model("好")


def test_a_routed_batch_keeps_the_order(defaults: dict[str, Path]) -> None:
    model = load("sentiment", threads=2)
    assert [result.bundle[-2:] for result in model.batch(["good", "好", "bad", "差"])] == ["en", "zh", "en", "zh"]
    answers = model.try_batch(["好", "", 3, "good"])
    assert [type(answer).__name__ for answer in answers] == [
        "SentimentResult",
        "InputError",
        "InputError",
        "SentimentResult",
    ]
    assert model.for_language("zh") is model.for_input("好")
    assert model.for_input({"颜色": "白色"}) is model.for_language("zh")
    assert isinstance(model.for_language("en"), Sentiment)
    with pytest.raises(InputError, match="no bundle for the language 'fr'; there are en, zh"):
        model.for_language("fr")
    with pytest.raises(InputError, match="a str is needed"):
        model(3)


def test_one_default_bundle_is_not_routed(defaults: dict[str, Path]) -> None:
    del defaults["tiny-zh"]
    assert isinstance(load("sentiment"), Sentiment)
    assert isinstance(load("tiny-en"), Sentiment)


def test_no_default_bundle_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "default_bundles", dict)
    with pytest.raises(BundleNotFound, match="no default bundle serves 'description'"):
        load("description")


def test_tasks_are_the_classes_named_after_their_files() -> None:
    assert "sentiment" in TASKS
    assert task_class("sentiment") is Sentiment
    with pytest.raises(KeyError):
        task_class("loader")

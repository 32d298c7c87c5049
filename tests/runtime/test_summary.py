from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.bundle import Bundle, open_bundle, write_bundle
from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.tasks.summary import MAX_WINDOWS, Summary, cut_windows, join_sentences
from edgelm_runtime.tasks.writing import Writing
from edgelm_runtime.tokenizer import REPLACED_NOTE, TextTokenizer

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"
TEXT = "物流很快，包装也很好。颜色和图片一样。"
LONG = "The sweater is soft and warm. It fits true to size! 颜色和图片一样，推荐购买。" * 12


@pytest.fixture(scope="module")
def model() -> Summary:
    return Summary(open_bundle(BUNDLE), LoadOptions(threads=1))


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    bundle = open_bundle(BUNDLE)
    return TextTokenizer(bundle.read("tokenizer.json"), bundle.manifest.tokenizer)


def changed(tmp_path: Path, change: Callable[[Manifest], Manifest], **files: bytes) -> Bundle:
    manifest = open_bundle(BUNDLE).manifest
    contents: dict[str, bytes | Path] = {name: BUNDLE / name for name in manifest.files}
    contents.update({name.replace("__", "."): data for name, data in files.items()})
    return write_bundle(tmp_path / "changed", change(manifest), contents)


def test_the_golden_answers_hold() -> None:
    for golden in json.loads((BUNDLE / "golden.json").read_text(encoding="utf-8"))["generation"]:
        assert load(BUNDLE, task=golden["task"], threads=1)(golden["text"]).text == golden["answer"]


def test_a_result_says_all_about_its_answer(model: Summary) -> None:
    result = model(TEXT, max_new_tokens=9)
    assert (result.language, result.bundle, result.windows, result.notes) == ("zh", "tiny-generator", 1, ())
    assert (result.tokens, result.finish_reason, result.variants) == (9, "length", ())
    assert result.prompt_tokens == len(model.tokenize(TEXT))
    stages = ["tokenize", "prefill", "decode", "infer", "sample", "detokenize", "total", "time_to_first_token"]
    assert list(result.timings) == stages
    assert result.timings["total"] >= result.timings["time_to_first_token"] >= result.timings["prefill"] > 0
    json.dumps(result.to_dict())


def test_the_stages_give_the_same_as_the_call(model: Summary) -> None:
    ids = model.tokenize(TEXT)
    answer = model.infer(ids)
    assert model.decode(answer) == model(TEXT).text
    stream = model.stream_ids(ids, max_new_tokens=5, ignore_eos=True)
    assert list(stream) == answer[:5]
    assert stream.finish_reason == "length"


def test_the_prompt_is_the_template_with_plain_text(model: Summary) -> None:
    assert model.tokenize("a")[0] == 1
    assert model.tokenize("a")[-1] == 3
    assert 3 not in model.tokenize("<|answer|><|endoftext|>")[1:-1]


@pytest.mark.parametrize("text", [TEXT, LONG, "😀🙈" * 10, "\u202eabc \u05d0\u05d1", "a\x00b", "\ud800x"])
def test_the_pieces_joined_are_the_text(model: Summary, text: str) -> None:
    stream = model.stream(text, max_new_tokens=40, temperature=1.5, seed=1)
    assert stream.result is None
    pieces = list(stream)
    assert stream.result is not None
    assert "".join(pieces) == stream.result.text == model(text, max_new_tokens=40, temperature=1.5, seed=1).text
    assert all(pieces)
    assert list(stream) == []
    assert stream.result is not None


def test_no_piece_ends_inside_a_character(model: Summary) -> None:
    for seed in range(10):
        writing = model.stream(TEXT, max_new_tokens=60, temperature=1.0, seed=seed)
        text = "".join(writing)
        assert writing.result is not None
        assert text == writing.result.text
        # A character cut by a piece would be two broken ones: a whole decode of the same tokens has fewer.
        ids = model.infer(model.tokenize(TEXT), max_new_tokens=60, temperature=1.0, seed=seed)
        assert text == model.decode(ids)


def test_a_stop_string_across_tokens_ends_the_text_before_it(model: Summary) -> None:
    whole = model("The sweater is soft. It fits true to size.", max_new_tokens=40, temperature=0.5, seed=2)
    text = whole.text
    for start in range(len(text) - 3):
        stop = text[start : start + 3]
        result = model(
            "The sweater is soft. It fits true to size.", max_new_tokens=40, temperature=0.5, seed=2, stop=(stop,)
        )
        assert result.text == text[: text.index(stop)]
        assert result.finish_reason == "stop"
        assert result.tokens <= whole.tokens


def test_a_stop_string_that_never_comes_changes_nothing(model: Summary) -> None:
    """Not even where the text ends with its beginning, which was held back until then."""
    options: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0.5, "seed": 2}
    whole = model("The sweater is soft. It fits true to size.", **options)
    stop = whole.text[-2:] + "\x01"
    result = model("The sweater is soft. It fits true to size.", stop=(stop,), **options)
    assert (result.text, result.finish_reason, result.tokens) == (whole.text, whole.finish_reason, whole.tokens)


def test_a_stop_string_ends_a_stream_of_ids_too(model: Summary) -> None:
    ids = model.tokenize("The sweater is soft.")
    text = model.decode(model.infer(ids, max_new_tokens=30))
    stop = next(character for character in text[1:] if character != "\ufffd" and character != text[0])
    stream = model.stream_ids(ids, max_new_tokens=30, stop=[stop])
    answer = model.decode(list(stream))
    assert stop in answer
    assert text.startswith(answer)
    assert stream.finish_reason == "stop"


def test_a_drawn_seed_is_noted_and_gives_the_same_text(model: Summary) -> None:
    result = model(TEXT, temperature=1.0)
    (note,) = result.notes
    assert note.startswith("sampled with seed ")
    assert model(TEXT, temperature=1.0, seed=int(note.split()[-1])).text == result.text


def test_a_long_text_is_summarised_in_windows_and_says_so(model: Summary) -> None:
    result = model(LONG)
    assert result.windows > 5
    assert any(f"in {result.windows} windows" in note for note in result.notes)
    assert result.tokens > 16
    assert result.prompt_tokens > len(LONG) / 8
    assert model(LONG).text == result.text


def test_the_finish_reason_is_that_of_the_last_pass(model: Summary) -> None:
    assert {model(LONG, stop=(character,)).finish_reason for character in "!#s\r\x00Ct"} == {"stop", "length"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("character", ["a", "很", " .", "\n.", "😀", "。", "\x00"])
def test_a_megabyte_of_one_character_takes_bounded_time(model: Summary, character: str) -> None:
    result = model(character * (1_000_000 // len(character)))
    assert 1 <= result.windows <= MAX_WINDOWS
    assert any(note.startswith("only the first ") for note in result.notes) == (result.windows == MAX_WINDOWS)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000 ", None, 3, b"bytes", ["list"], "a" * 2_000_001])
def test_what_is_no_text_is_refused_at_once(model: Summary, text: Any) -> None:
    with pytest.raises(InputError):
        model.stream(text)


def test_lone_surrogates_are_replaced_and_noted(model: Summary) -> None:
    result = model("ab\udc80c")
    assert result.notes == (REPLACED_NOTE,)
    assert result.text == model("ab\ufffdc").text


def test_options_are_refused_at_once(model: Summary) -> None:
    with pytest.raises(InputError, match="temperature is -1"):
        model.stream(TEXT, temperature=-1)
    with pytest.raises(InputError, match="unknown generation option beams"):
        model(TEXT, beams=2)


def test_a_closed_stream_has_no_result(model: Summary) -> None:
    stream: Writing = model.stream(TEXT, max_new_tokens=30)
    next(stream)
    stream.close()
    with pytest.raises(InputError, match="closed before its end"):
        stream.finish()


def test_threads_share_one_model(model: Summary) -> None:
    texts = [TEXT, LONG, "The sweater is soft.", "推荐购买"]
    expected = [model(text).text for text in texts]
    found: dict[int, list[str]] = {}

    def work(thread: int) -> None:
        found[thread] = [model(text).text for text in texts]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 4


def test_defaults_come_from_the_manifest_and_the_task(tmp_path: Path) -> None:
    generation = {"max_new_tokens": 5, "beams": 4, "tasks": {"summary": {"max_new_tokens": 3, "stop": ["zz"]}}}
    bundle = changed(tmp_path, lambda manifest: replace(manifest, generation=generation))
    model = Summary(bundle, LoadOptions(threads=1))
    assert (model.options().max_new_tokens, model.options().stop) == (3, ("zz",))
    assert model(TEXT).tokens == 3
    assert model.options(max_new_tokens=7).max_new_tokens == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation", {"temperature": -1}),
        ("generation", {"max_new_tokens": "many"}),
        ("generation", {"tasks": []}),
        ("generation", {"tasks": {"summary": 3}}),
        ("prompts", {"summary": "many words " * 40 + "{text}", "description": "{text}"}),
    ],
)
def test_a_manifest_that_cannot_be_used_is_the_bundles_fault(tmp_path: Path, field: str, value: Any) -> None:
    bundle = changed(tmp_path, lambda manifest: replace(manifest, **{field: value}))
    with pytest.raises(BundleRejected):
        Summary(bundle, LoadOptions(threads=1))


def test_a_graph_that_is_no_generator_is_refused(tmp_path: Path) -> None:
    classifier = (BUNDLE.parent / "tiny-classifier" / "model.onnx").read_bytes()
    with pytest.raises(BundleRejected, match="cache inputs"):
        Summary(changed(tmp_path, lambda manifest: manifest, model__onnx=classifier), LoadOptions(threads=1))


@given(st.text(st.sampled_from(list("ab cd.。！\n”很😀")), max_size=400).filter(str.strip), st.integers(16, 60))
def test_windows_are_the_text_and_fit(tokenizer: TextTokenizer, text: str, room: int) -> None:
    windows, read = cut_windows(text, tokenizer, room)
    assert all(window.strip() for window in windows)
    assert all(len(tokenizer.encode(window, special=False)) <= room for window in windows)
    assert len(windows) <= MAX_WINDOWS
    position = 0
    for window in windows:
        start = text.index(window, position)
        assert not text[position:start].strip()
        position = start + len(window)
    assert not text[position:read].strip()
    assert read == len(text) or len(windows) == MAX_WINDOWS
    if len(tokenizer.encode(text, special=False)) <= room:
        assert windows == [text]


def test_windows_end_at_sentences(tokenizer: TextTokenizer) -> None:
    windows, _ = cut_windows("One two three. " * 20 + "好的，很好。" * 20, tokenizer, 40)
    assert all(window[-1] in ".。" for window in windows)


def test_joined_summaries_are_sentences() -> None:
    assert join_sentences([" 很好", "", "不错！", "她说“好。”"], "zh") == "很好。不错！她说“好。”"
    assert join_sentences(["good ", "fine.", " "], "en") == "good. fine."
    assert join_sentences(["", " "], "en") == ""


def test_a_high_bonus_quotes_and_windows_have_their_own(model: Summary) -> None:
    text = "物流很快，质量也好。"
    ids = set(model.tokenizer.encode(text, special=False))
    result = model(text, quote_bonus=100, max_new_tokens=20, ignore_eos=True)
    assert set(model.tokenizer.encode(result.text, special=False)) <= ids
    assert result.text != model(text, max_new_tokens=20, ignore_eos=True).text
    long = "a b c d e f g. " * 60
    quoted = model(long, quote_bonus=100, max_new_tokens=8)
    assert quoted.windows > 1
    assert set(quoted.text) <= set(long)

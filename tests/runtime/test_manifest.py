from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.fields import check_path
from edgelm_runtime.manifest import MAX_MANIFEST_BYTES, Manifest

TINY = Path(__file__).parents[1] / "data" / "tiny-classifier" / "edgelm.json"

texts = st.text(st.characters(codec=None), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def valid() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(TINY.read_text(encoding="utf-8"))
    return values


def parse(values: Any) -> Manifest:
    return Manifest.from_bytes(json.dumps(values).encode("utf-8"))


def refusal(values: Any) -> str:
    with pytest.raises(BundleRejected) as caught:
        parse(values)
    return str(caught.value)


def test_the_committed_manifest_is_read_and_written_back() -> None:
    data = TINY.read_bytes()
    manifest = Manifest.from_bytes(data)
    assert manifest.labels == ("negative", "positive")
    assert manifest.tokenizer.max_tokens == 16
    assert manifest.to_json().encode("utf-8") == data


def test_unknown_fields_are_kept_everywhere() -> None:
    values = valid()
    values["colour"] = {"deep": [1, "é", None]}
    values["tokenizer"]["new"] = 1
    values["variants"][0]["new"] = 2
    values["files"]["model.onnx"]["new"] = 3
    manifest = parse(values)
    assert manifest.extra == {"colour": {"deep": [1, "é", None]}}
    assert json.loads(manifest.to_json()) == values


def test_everything_wrong_is_reported_at_once() -> None:
    values = valid()
    del values["licence"]
    values["version"] = 3
    values["labels"] = ["only"]
    values["tokenizer"]["max_tokens"] = True
    values["variants"][0]["file"] = "../model.onnx"
    values["files"]["golden.json"]["sha256"] = "AB"
    values["files"]["tokenizer.json"]["size"] = -1
    message = refusal(values)
    for part in (
        "licence is missing",
        "version must be text on one line, found a number 3",
        "labels must name at least two classes",
        "tokenizer.max_tokens must be an integer from 1 to 1048576, found true or false true",
        "variants[0].file must name a file inside the folder",
        "files['golden.json'].sha256 must be 64 lower-case hexadecimal digits",
        "files['tokenizer.json'].size must be an integer",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("stored", "ends", "written"),
    [(None, (), None), (7, (7,), 7), ([7, 2], (7, 2), [7, 2]), ([7], (7,), 7), ([], (), None)],
)
def test_one_end_token_is_a_number_and_several_a_list(stored: Any, ends: tuple[int, ...], written: Any) -> None:
    values = valid()
    values["tokenizer"]["eos_id"] = stored
    manifest = parse(values)
    assert manifest.tokenizer.eos_ids == ends
    again = json.loads(manifest.to_json())
    assert again["tokenizer"]["eos_id"] == written
    assert list(again["tokenizer"]) == list(values["tokenizer"])


@pytest.mark.parametrize(
    "ends", [True, -1, 2**31, 1.0, "7", {}, [3, 3], [1, True], [1, [2]], [None], [1, -2], [2**31], list(range(10_000))]
)
def test_end_tokens_that_are_none_are_refused(ends: Any) -> None:
    values = valid()
    values["tokenizer"]["eos_id"] = ends
    message = refusal(values)
    assert "tokenizer.eos_id must be a token id, a list of at most 64 different ones, or null, found" in message
    assert len(message) < 400


@pytest.mark.parametrize("said", [None, "text", "parse"])
def test_what_special_tokens_in_a_text_are_may_be_said(said: str | None) -> None:
    values = valid()
    if said is not None:
        values["tokenizer"]["special_tokens"] = said
    manifest = Manifest.from_bytes(json.dumps(values).encode())
    assert manifest.tokenizer.special_tokens == said
    assert json.loads(manifest.to_json())["tokenizer"] == values["tokenizer"]
    values["tokenizer"]["special_tokens"] = "maybe"
    assert "tokenizer.special_tokens must be one of text, parse" in refusal(values)


def test_a_missing_part_is_one_problem() -> None:
    values = valid()
    del values["tokenizer"]
    assert refusal(values).count("tokenizer") == 1


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("task", "poetry", "task must be one of text-classification"),
        ("serves", [], "serves must be a list of at least one"),
        ("languages", ["en", "en"], "languages must be a list"),
        ("variants", [], "variants must be a list of at least one object"),
        ("variants", [3], "variants[0] must be an object, found a number"),
        ("prompts", {"summary": "no field"}, "prompts['summary'] must be a string with {text} exactly once"),
        ("prompts", {"summary": "{text}{other}"}, "no other field"),
        ("files", {}, "files has no entry for 'golden.json'"),
        ("files", {"../x": {"size": 1, "sha256": "0" * 64}}, "'../x' is absolute, or has"),
        ("files", {"edgelm.json": {"size": 1, "sha256": "0" * 64}}, "is the manifest itself"),
        ("quality", [], "quality must be an object, found a list"),
        ("name", "two\nlines", "name must be text on one line"),
        ("name", "two\u2028lines", "name must be text on one line"),
        ("licence", "a\x9b2Jb", "licence must be text on one line"),
        ("version", "1\u202e2", "version must be text on one line"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, part: str) -> None:
    assert part in refusal({**valid(), field: value})


def test_a_served_text_generation_task_needs_its_prompt() -> None:
    values = {**valid(), "task": "text-generation", "serves": ["summary", "description"], "labels": []}
    values["prompts"] = {"summary": "<|summary|>{text}<|answer|>"}
    assert "prompts['description'] is missing" in refusal(values)


def test_variants_of_one_name_are_refused() -> None:
    values = valid()
    values["variants"] *= 2
    assert "variants must have different names" in refusal(values)


def test_an_unknown_format_says_which_version_reads_it() -> None:
    assert "install edgelm 0.7.0 or newer" in refusal({"format": 2, "needs_edgelm": "0.7.0", "what": "ever"})
    assert "install a newer edgelm" in refusal({"format": 99})
    assert "export the bundle again" in refusal({"format": 0})
    assert "format must be an integer from 1 to 1, found a string" in refusal({**valid(), "format": "1"})


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON in UTF-8"),
        (b"[]", "must be a JSON object, found a list"),
        (b"{" + b'"a":{' * 100_000, "nested deeper"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 32 levels"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "at most 1,000,000"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1e999}', "outside the range of float64"),
        (b'{"a": "\\ud800"}', "lone surrogate"),
        (b'{"a": 1, "a": 2}', "a key occurs twice"),
        (b'{"format": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_what_is_not_a_manifest_is_refused(data: bytes, part: str) -> None:
    with pytest.raises(BundleRejected) as caught:
        Manifest.from_bytes(data)
    assert part in str(caught.value)
    assert caught.value.what == "edgelm.json"


@given(st.integers(min_value=0))
def test_a_truncated_manifest_is_refused(cut: int) -> None:
    data = TINY.read_bytes().rstrip()
    with pytest.raises(BundleRejected):
        Manifest.from_bytes(data[: cut % len(data)])


@given(st.binary(max_size=64) | json_values.map(lambda value: json.dumps(value).encode("utf-8")))
def test_random_data_is_refused_and_raises_nothing_else(data: bytes) -> None:
    with pytest.raises(BundleRejected):
        Manifest.from_bytes(data)


@given(st.data(), json_values)
def test_a_damaged_manifest_is_refused_or_survives_a_round_trip(data: st.DataObject, value: Any) -> None:
    values = valid()
    target: Any = values
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        inner = target[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            target = inner
            continue
        target[key] = value
        break
    try:
        manifest = parse(values)
    except BundleRejected:
        return
    assert Manifest.from_bytes(manifest.to_json().encode("utf-8")) == manifest


@pytest.mark.parametrize("path", ["model.onnx", "a/b/c.bin", "模型.onnx", "..a", "a..", ".hidden", "a b"])
def test_plain_names_are_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "..", ".", "../a", "a/../b", "./a", "a/.", "/etc/passwd", "a//b", "a/", "a\\b"),
        *("C:/a", "C:", "file:a", "a\0b", "a\nb", "\ud800", "edgelm.json"),
    ],
)
def test_paths_that_could_lead_outside_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="the path"):
        check_path(path)


@given(st.text(st.sampled_from("ab./\\:\0~-"), max_size=10) | texts)
def test_an_accepted_path_stays_inside(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    root = Path("/bundle")
    resolved = (root / path).resolve()
    assert resolved != root
    assert resolved.is_relative_to(root)


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ("../model.safetensors", "must name a file inside the folder"),
        ("", "must be text on one line"),
        (3, "must be text on one line"),
        ("other.safetensors", "files has no entry for"),
    ],
)
def test_weights_are_a_listed_file_inside_the_folder(weights: object, why: str) -> None:
    values = valid()
    values["variants"][0]["weights"] = weights
    assert why in refusal(values)
    values["variants"][0]["weights"] = "model.safetensors"
    values["files"]["model.safetensors"] = values["files"]["model.onnx"]
    manifest = parse(values)
    assert manifest.variants[0].files == ("model.onnx", "model.safetensors")
    assert json.loads(manifest.to_json()) == values

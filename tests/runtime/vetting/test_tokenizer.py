"""Tokenizers that make their library abort, panic, hang or fill the memory are refused on their content."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime.bundle import default_bundles
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.vetting.tokenizer import check_tokenizer
from tests.fuzz.tokenizers import every_tokenizer

DATA = Path(__file__).parents[2] / "data"
WORDS = json.loads((DATA / "tiny-classifier" / "tokenizer.json").read_bytes())
BYTES = json.loads((DATA / "byte_level.json").read_bytes())
SPLIT = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}


def check(content: Any, **changes: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps({**content, **changes}).encode()
    check_tokenizer(data, "tokenizer.json")


def charsmap(trie: bytes, texts: bytes, size: int | None = None) -> dict[str, Any]:
    table = (len(trie) if size is None else size).to_bytes(4, "little") + trie + texts
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def template(single: list[Any], **specials: int) -> dict[str, Any]:
    known = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in specials.items()}
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(depth):
        inner = {"type": "Sequence", "normalizers": [inner]}
    return inner


@pytest.mark.parametrize("name", default_bundles())
def test_the_shipped_tokenizers_pass(name: str) -> None:
    check((default_bundles()[name] / "tokenizer.json").read_bytes())


@pytest.mark.parametrize("number", range(3))
def test_every_accepted_component_passes_as_the_library_writes_it(number: int) -> None:
    check(every_tokenizer()[number])


def test_a_file_that_does_not_name_its_model_passes() -> None:
    model = {name: value for name, value in BYTES["model"].items() if name != "type"}
    check(BYTES, model=model)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "slow pattern": ({"pre_tokenizer": SPLIT}, r"pre_tokenizer Split has pattern .*accepted is a text"),
    "slow normalizer": ({"normalizer": {**replace("", ""), "pattern": {"Regex": "x+y"}}}, "Replace has pattern"),
    "slow decoder": ({"decoder": {**replace("", ""), "pattern": {"Regex": "(a*)*b"}}}, "decoder Replace has pattern"),
    "no content": ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}}}, "Replace has no content"),
    "no pattern": ({"pre_tokenizer": {"type": "Split"}}, "pre_tokenizer Split has no pattern"),
    "a model of no kind": ({"model": {**WORDS["model"], "type": ["BPE"]}}, "the model is"),
    "empty pattern": ({"normalizer": replace("", "x")}, "normalizer Replace has pattern"),
    "two patterns": ({"pre_tokenizer": {**SPLIT, "pattern": {"String": "a", "Regex": "a"}}}, "has pattern"),
    "expansion": ({"normalizer": replace("x", "y" * 2000)}, "has content"),
    "expansion in steps": (
        {"normalizer": {"type": "Sequence", "normalizers": [replace("x", "xx")] * 32}},
        "lets a text grow 4,294,967,296 times",
    ),
    "bytes of bytes": ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 9}}, "ByteLevel"),
    "many components": ({"normalizer": {"type": "Sequence", "normalizers": [nested(1)] * 40}}, "at most 32"),
    "depth": ({"normalizer": nested(9)}, "no object with a type"),
    "long prepend": ({"normalizer": {"type": "Prepend", "prepend": "x" * 1000}}, "has prepend"),
    "untyped": ({"normalizer": {"prepend": "x"}}, "no object with a type"),
    "unknown component": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "has a 'FixedLength', accepted are"),
    "unknown field": ({"normalizer": {"type": "NFC", "x": 1}}, "has the field 'x', accepted are none"),
    "charsmap that is short": ({"normalizer": charsmap(b"", b"")}, "precompiled_charsmap"),
    "charsmap of 4 GB": ({"normalizer": charsmap(b"\0" * 8, b"a\0", 0xFFFFFFFC)}, "precompiled_charsmap"),
    "charsmap that expands": ({"normalizer": charsmap(b"\0" * 8, b"a" * 9999 + b"\0")}, "precompiled_charsmap"),
    "charsmap of no text": ({"normalizer": charsmap(b"\0" * 8, b"\xff\0")}, "precompiled_charsmap"),
    "template without its token": (
        {"post_processor": template([{"SpecialToken": {"id": "[X]", "type_id": 0}}])}, r"names '\[X\]'",
    ),
    "template of the second text": (
        {"post_processor": template([{"Sequence": {"id": "B", "type_id": 0}}])}, "TemplateProcessing has single",
    ),
    "template that repeats": (
        {"post_processor": template([{"Sequence": {"id": "A", "type_id": 0}}] * 2)}, "TemplateProcessing has single",
    ),
    "many added": ({"added_tokens": [WORDS["added_tokens"][0]] * 20_001}, "at most 20,000"),
    "long added": ({"added_tokens": [{**WORDS["added_tokens"][0], "content": "x" * 1001}]}, "has content"),
    "empty added": ({"added_tokens": [{**WORDS["added_tokens"][0], "content": ""}]}, "has content"),
    "far id": ({"added_tokens": [{**WORDS["added_tokens"][0], "id": 1 << 40}]}, "has id"),
    "random": ({"model": {**BYTES["model"], "dropout": 0.5}}, "the model BPE has dropout"),
    "long token": ({"model": {**WORDS["model"], "vocab": {"x" * 2000: 0}}}, "the model WordPiece has vocab"),
    "text as id": ({"model": {**WORDS["model"], "vocab": {"x": "0"}}}, "the model WordPiece has vocab"),
    "quadratic words": ({"model": {**WORDS["model"], "max_input_chars_per_word": 1 << 40}}, "max_input_chars_per_word"),
    "unknown model": ({"model": {"type": "Other"}}, "accepted are BPE, WordPiece, WordLevel, Unigram"),
    "unknown key": ({"code": "x"}, "found code"),
    "decoder that strips": ({"decoder": {"type": "Strip", "content": "x", "start": 1 << 60, "stop": 0}}, "has start"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_no_checkpoint_has_is_refused(case: str) -> None:
    changes, match = BAD[case]
    with pytest.raises(BundleRejected, match=match) as caught:
        check(WORDS, **changes)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"\xff", b"[" * 100_000, b'{"version": NaN}', b'{"model": {}, "model": {}}', b"x" * ((64 << 20) + 1)],
)
def test_what_is_no_tokenizer_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(BundleRejected, match=r"tokenizer\.json is refused"):
        check(data)

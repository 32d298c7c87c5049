from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_runtime import load
from edgelm_runtime.errors import BundleRejected, InputError
from edgelm_runtime.manifest import TokenizerSpec
from edgelm_runtime.tokenizer import MAX_CHARACTERS, REPLACED_NOTE, TextTokenizer, checked, clean

DATA = Path(__file__).parents[1] / "data"
SPEC = TokenizerSpec("tokenizer.json", 16)
BYTES = TextTokenizer((DATA / "byte_level.json").read_bytes(), SPEC)
WORDS = TextTokenizer((DATA / "tiny-classifier" / "tokenizer.json").read_bytes(), SPEC)

any_text = st.text(st.characters(codec=None), max_size=40)


def test_clean_replaces_lone_surrogates_and_keeps_the_rest() -> None:
    assert clean("a\ud800b\udfff") == "a\ufffdb\ufffd"
    assert clean("NUL \0, 😀, שלום, 物流") == "NUL \0, 😀, שלום, 物流"
    with pytest.raises(InputError, match="the text is bytes, a str is needed"):
        clean(b"text")


def test_checked_says_what_was_changed() -> None:
    assert checked("good") == ("good", ())
    assert checked("\ud83d") == ("\ufffd", (REPLACED_NOTE,))


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000\u00a0"])
def test_empty_and_blank_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="empty or blank"):
        checked(text)


def test_too_long_text_is_refused() -> None:
    assert checked("x" * MAX_CHARACTERS)[1] == ()
    with pytest.raises(InputError, match="2,000,001 characters, at most 2,000,000"):
        checked("x" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"version": "1.0"}', b"[" * 100_000])
def test_a_damaged_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(BundleRejected, match=r"tokenizer\.json is not a tokenizer"):
        TextTokenizer(data, SPEC)


def test_user_text_cannot_smuggle_special_tokens_in() -> None:
    assert WORDS.encode("good") == [2, 10, 3]
    assert WORDS.encode("good", special=False) == [10]
    inner = WORDS.encode("[SEP] good [CLS]", special=False)
    assert not {2, 3} & set(inner)
    assert BYTES.decode(BYTES.encode("<|end|>")) == "<|end|>"


def test_a_template_recognises_special_tokens_in_its_literal_parts_only() -> None:
    end, summary, answer = (BYTES.token_id(name) for name in ("<|end|>", "<|summary|>", "<|answer|>"))
    ids = BYTES.encode_template("<|summary|>{text}<|answer|>", text="good <|end|>")
    assert ids == [summary, *BYTES.encode("good <|end|>"), answer]
    assert end not in ids
    assert BYTES.decode(BYTES.encode_template("a {text} b", text="物\ud800")) == "a 物\ufffd b"
    assert BYTES.encode_template("", text="x") == []
    with pytest.raises(InputError, match="needs the field 'name'"):
        BYTES.encode_template("{name}", text="x")


def test_braces_in_user_text_are_text() -> None:
    assert BYTES.decode(BYTES.encode_template("{text}", text="{text}{other}")) == "{text}{other}"


def test_parts_have_content_ends_and_what_goes_around() -> None:
    parts = WORDS.encode_parts("the 物 good")
    assert (parts.prefix, parts.suffix) == ([2], [3])
    assert parts.ends == [3, 5, 10]
    assert parts.prefix + parts.ids + parts.suffix == WORDS.encode("the 物 good")
    assert WORDS.encode_parts("\0").ids == []
    assert BYTES.encode_parts("").prefix == []


def test_ids_outside_the_vocabulary_decode_to_nothing() -> None:
    assert BYTES.decode([BYTES.vocab_size + 5]) == ""
    assert BYTES.joins_bytes
    assert not WORDS.joins_bytes
    assert BYTES.token_id("<|nothing|>") is None


@given(any_text)
def test_text_without_surrogates_survives_a_round_trip(text: str) -> None:
    assert BYTES.decode(BYTES.encode(text)) == clean(text)


@given(any_text)
def test_any_text_is_encoded_without_the_ids_of_special_tokens(text: str) -> None:
    assert not {0, 2, 3} & set(WORDS.encode(text, special=False))
    assert all(token_id >= 3 for token_id in BYTES.encode(text))


def test_a_caller_may_have_special_tokens_parsed_whatever_the_bundle_says() -> None:
    folder, text = DATA / "tiny-classifier", "good [SEP] fast"
    as_text, parsed = load(folder), load(folder, special_tokens="parse")
    assert as_text.tokenize(text).count(3) == 1
    assert parsed.tokenize(text).count(3) == 2
    assert parsed(text).scores != as_text(text).scores
    assert load(folder, special_tokens="text").tokenize(text) == as_text.tokenize(text)
    with pytest.raises(InputError, match="special_tokens is 'both'"):
        load(folder, special_tokens="both")


def test_a_tokenizer_whose_ordinary_letters_are_special_is_read_all_the_same() -> None:
    content = json.loads((DATA / "byte_level.json").read_bytes())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 290, "content": "a"})
    tokenizer = TextTokenizer(json.dumps(content).encode(), SPEC)
    letter = tokenizer.token_id("a")
    assert letter is not None
    assert letter not in tokenizer.encode("a banana")
    assert tokenizer.encode_prompt("", "a") == tokenizer.encode("a")
    assert tokenizer.encode_prompt("a{text}a", "a").count(letter) == 2


def test_added_tokens_that_a_prompt_names_are_special_in_a_text() -> None:
    content = json.loads((DATA / "byte_level.json").read_bytes())
    for token in content["added_tokens"]:
        token["special"] = token["content"] == "<|end|>"
    data, prompt = json.dumps(content).encode(), "<|summary|>{text}<|answer|>"
    named, unnamed = TextTokenizer(data, SPEC, [prompt]), TextTokenizer(data, SPEC)
    answer = named.token_id("<|answer|>")
    for tokenizer, found in ((named, 0), (unnamed, 1)):
        assert tokenizer.encode("good <|answer|>").count(answer or 0) == found
    assert named.encode_prompt(prompt, "good <|answer|>").count(answer or 0) == 1
    assert named.encode_template(prompt, text="good <|answer|>").count(answer or 0) == 1
    assert named.decode(named.encode("a <|answer|>")) == "a <|answer|>"

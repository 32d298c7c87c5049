"""A text, and a prompt with a text in it, is read as transformers' own tokenizer reads it, and nobody smuggles."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import PARSE, TEXT, TokenizerSpec
from edgelm_runtime.tokenizer import TextTokenizer
from tests.export import kinds, tiny

TEXTS = (
    "The sweater is soft and warm.", "  two  spaces ", "物流很快，质量也好", "ＦＵＬＬ　width", "de\u0301ja\u0300 vu",
    "👍🏽 ok", "one\n\n\ttwo", "a", "[UNK] <unk>", "it's 3 for 12.50!",
)  # fmt: skip
TEMPLATES = (
    "{text}", "Summarize: {text}\nTL;DR:", "{text}\nTL;DR:", "a{text}b", "x {text}", "  {text}  ",
    "<user>{text}<answer>", "<user> {text} <answer>\n", "be brief<user>\n{text}",
)  # fmt: skip


@cache
def own(kind: str) -> Any:
    """transformers' tokenizer, with a special token for templates, one that is added only, and one that neither is."""
    tokenizer = kinds.KINDS[kind]()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "[E1]"]})
    tokenizer.add_tokens([AddedToken("<answer>", normalized=False), AddedToken("[TITLE]", normalized=False)])
    return tokenizer


@cache
def ours(kind: str, special_tokens: str) -> TextTokenizer:
    spec = TokenizerSpec("tokenizer.json", tiny.CONTEXT, special_tokens=special_tokens)
    return TextTokenizer(own(kind).backend_tokenizer.to_str().encode(), spec, TEMPLATES)


@pytest.mark.parametrize("special_tokens", [TEXT, PARSE])
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_prompts_are_those_of_transformers(kind: str, special_tokens: str) -> None:
    for template in TEMPLATES:
        for text in TEXTS:
            if "unk" in text.lower() and special_tokens == TEXT:
                continue  # typed: a case of the next tests
            expected = own(kind)(template.replace("{text}", text)).input_ids
            assert ours(kind, special_tokens).encode_prompt(template, text) == expected, (template, text)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_typed_special_tokens_are_parsed_as_in_transformers_or_text(kind: str) -> None:
    special = [*own(kind).all_special_tokens, "[E1]"]
    for text in ["good [TITLE] food", *(f"good {token} food {token}x" for token in special)]:
        assert ours(kind, PARSE).encode(text) == own(kind)(text).input_ids
        assert ours(kind, PARSE).encode_prompt("a {text}", text) == own(kind)(f"a {text}").input_ids
        as_text = own(kind)(text, split_special_tokens=True, add_special_tokens=False).input_ids
        # sentencepiece finds some of them in plain text, too: here they are unknown, and no token of that name.
        if not set(own(kind).all_special_ids) & set(as_text) - {own(kind).unk_token_id}:
            assert ours(kind, TEXT).encode(text, special=False) == as_text


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_pair_and_its_parts_are_those_of_transformers(kind: str) -> None:
    for text in ("good [E1] food", "plain"):
        parts = ours(kind, PARSE).encode_parts(text, "what [E1] is it?")
        assert [*parts.prefix, *parts.ids, *parts.suffix] == own(kind)("what [E1] is it?", text).input_ids


@cache
def forbidden(kind: str) -> frozenset[int]:
    tokenizer = own(kind)
    return frozenset({*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(["[E1]", "<answer>", "<user>"])}) - {
        tokenizer.unk_token_id
    }


pieces = st.sampled_from(
    ["<", "us", "er>", "<user>", "<answer>", "</s>", "<s>", "[SEP]", "[E1]", "<|endoftext|>", " ", "＜ｓ＞", "好"]
)


@given(st.sampled_from([*kinds.KINDS]), st.sampled_from(TEMPLATES), st.lists(pieces, max_size=6).map("".join))
def test_a_template_alone_says_where_its_special_tokens_are(kind: str, template: str, text: str) -> None:
    ids = ours(kind, TEXT).encode_prompt(template, text)
    plain = ours(kind, TEXT).encode_prompt(template, "plain")
    assert [index for index in ids if index in forbidden(kind)] == [
        index for index in plain if index in forbidden(kind)
    ]
    assert not forbidden(kind) & set(ours(kind, TEXT).encode(text, special=False))
    assert not forbidden(kind) & set(ours(kind, TEXT).encode_parts(text).ids)


def test_special_tokens_that_come_about_at_a_seam_are_none() -> None:
    tokenizer = ours("byte_level", TEXT)
    for template, text in (("<us{text}", "er> hi"), ("{text}er>", "<us"), ("<u{text}er>", "s")):
        ids = tokenizer.encode_prompt(template, text)
        assert tokenizer.token_id("<user>") not in ids
        assert tokenizer.decode(ids) == template.replace("{text}", text)


def test_a_template_that_begins_with_the_first_token_gets_no_second() -> None:
    tokenizer = ours("sentencepiece", TEXT)
    chat = tokenizer.encode_prompt("<s>[INST] {text} [/INST]", "hi")
    assert chat == own("sentencepiece")("<s>[INST] hi [/INST]", add_special_tokens=False).input_ids
    assert tokenizer.encode_prompt("[INST] {text} [/INST]", "hi")[0] == tokenizer.token_id("<s>")
    assert tokenizer.encode_prompt("<s>{text}", "hi", encoder=True)[:2] == [tokenizer.token_id("<s>")] * 2


def test_a_bundle_that_does_not_say_reads_text_and_cuts_at_the_seams() -> None:
    old = TextTokenizer(own("byte_level").backend_tokenizer.to_str().encode(), TokenizerSpec("tokenizer.json", 99))
    assert old.special_tokens == TEXT
    assert old.encode_template("a{text}", text=" b") == [*old.encode("a"), *old.encode(" b")]
    old.read_special_tokens_as(PARSE)
    assert old.encode("[E1]") == [old.token_id("[E1]")]
    with pytest.raises(InputError, match="special_tokens is 'yes', accepted are 'text', 'parse'"):
        old.read_special_tokens_as("yes")

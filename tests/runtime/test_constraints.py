"""Words that may not be said and words that must be: held in any tokenization, against a slow twin."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelm_runtime.errors import InputError
from edgelm_runtime.generate.banned import BannedPhrases
from edgelm_runtime.generate.constraints import Banned, MustInclude, Rules
from edgelm_runtime.generate.vocabulary import Vocabulary
from edgelm_runtime.loader import load
from edgelm_runtime.tasks.words import ABSOLUTE_TERMS, absolute_terms, read_phrases

PIECES = ["a", "b", "c", "ab", "bc", "abc", "ca", "A", "aB", "cc", "bca", "", ""]
VOCABULARY = Vocabulary(PIECES, byte_level=False)
ENDS = (len(PIECES) - 2, len(PIECES) - 1)
DRESS = "类型: 裙; 颜色: 白色; 材质: 棉; 风格: 简约"


def forbidden_now(banned: Banned) -> set[int]:
    row = np.zeros(len(PIECES), dtype=np.float32)
    banned.mask(row, 10)
    return set(np.flatnonzero(np.isneginf(row)).tolist())


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(0, len(PIECES) - 1), max_size=12),
)
@settings(max_examples=300)
def test_what_would_complete_a_phrase_is_forbidden_and_nothing_else(phrases: list[str], tokens: list[int]) -> None:
    banned, text = Banned(BannedPhrases(phrases, VOCABULARY)), ""
    for token in tokens:
        expected = {
            index for index, piece in enumerate(PIECES) if piece and any(p in (text + piece).lower() for p in phrases)
        }
        assert forbidden_now(banned) == expected
        if token in expected:
            continue
        banned.push(token)
        assert forbidden_now(banned.branch()) == forbidden_now(banned)
        text += PIECES[token]


def test_bytes_of_a_character_in_several_tokens_are_seen() -> None:
    vocabulary = load("description")._words.vocabulary
    text = "最佳".encode()
    singles = [vocabulary.texts.index(bytes([byte])) for byte in text]
    banned = Banned(BannedPhrases(["最佳"], vocabulary))
    for token in singles[:-1]:
        banned.push(token)
    row = np.zeros(len(vocabulary.texts), dtype=np.float32)
    banned.mask(row, 10)
    assert np.isneginf(row[singles[-1]])
    assert np.isfinite(row[vocabulary.texts.index(b"a")])


@pytest.mark.parametrize("piece", ["▁the", "<0x0A>", "é", "", "[X]"])
def test_tokens_of_a_sentencepiece_vocabulary(piece: str) -> None:
    expected = {"▁the": b" the", "<0x0A>": b"\n"}.get(piece, piece.encode())
    assert Vocabulary([piece, "b"], byte_level=False).texts[0] == expected
    assert Vocabulary([piece, "b"], byte_level=False, special=[0]).texts[0] == b""


def test_a_piece_of_wordpiece_stands_alone_or_goes_on() -> None:
    texts = Vocabulary(["最", "##好", "no", "##.", "[X]", ""], byte_level=False, continuing="##", special=[4]).texts
    assert texts == [" 最".encode(), "好".encode(), b" no", b".", b"", b""]


def written(banned: BannedPhrases, text: str) -> bool:
    """Whether the bytes of `text`, one a token, pass the rule."""
    rule = Banned(banned)
    for byte in text.encode():
        row = np.zeros(256, dtype=np.float32)
        rule.mask(row, 10)
        if np.isneginf(row[byte]):
            return False
        rule.push(byte)
    return True


BYTES = Vocabulary([f"<0x{byte:02X}>" for byte in range(256)], byte_level=False)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("最好", "这是最 好的"), ("最好", "最\n\n好"), ("最好", "最　好"), ("最好", "最\u200b好"),
        ("最好", "最\u00a0 好"),
        ("国家级", "国 家 级"), ("国家级", "国家  级"), ("国 家级", "国家级"), ("销量NO.1", "销量 NO.1"),
        ("no.1品牌", "No.1 品牌"),
        ("best seller", "the BEST  seller"), ("best seller", "best\u00a0seller"), ("best seller", "best\nseller"),
        ("100%", "100%"), ("最有效", "最有 效"), ("é a", "éa"),
    ],
)  # fmt: skip
def test_no_spacing_hides_a_phrase(phrase: str, text: str) -> None:
    banned = BannedPhrases(["另外", phrase], BYTES)
    assert not written(banned, text)
    assert banned.within(f"前 {text} 后") == [phrase.lower()]


@pytest.mark.parametrize(
    ("phrase", "text"), [("hit", "was hi there"), ("ass", "was so"), ("best seller", "bestseller"), ("最好", "最 美好")]
)
def test_words_are_not_joined(phrase: str, text: str) -> None:
    banned = BannedPhrases([phrase], BYTES)
    assert written(banned, text)
    assert banned.within(text) == []


@given(
    st.lists(st.text("最好a ", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=1, max_size=3),
    st.text("最好aA \u3000", max_size=12),
)
@settings(max_examples=200)
def test_a_text_that_is_written_holds_none_and_another_does(phrases: list[str], text: str) -> None:
    banned = BannedPhrases(phrases, BYTES)
    assert written(banned, text) == (not banned.within(text))


def test_ten_thousand_phrases_are_ready_in_a_moment_and_find_the_same() -> None:
    vocabulary = load("description")._words.vocabulary
    phrases = [chr(0x4E00 + index % 5000) + chr(0x5000 + index // 7) + "的" for index in range(10_000)]
    start = perf_counter()
    many = BannedPhrases(phrases, vocabulary)
    assert perf_counter() - start < 20  # it took longer than that when time was quadratic
    assert many._always.tolist() == BannedPhrases(phrases[:1], vocabulary)._always.tolist() == []
    state = many._feed(many._feed(many._feed(0, 0xE4), 0xB8), 0x80)  # 一
    assert state


@pytest.mark.parametrize("end", ENDS)
def test_a_missing_phrase_keeps_the_answer_from_ending(end: int) -> None:
    must = MustInclude({"ca": [2, 0]}, VOCABULARY, ENDS, 20)
    row = np.zeros(len(PIECES), dtype=np.float32)
    row[3] = 5
    must.mask(row, 20)
    assert np.flatnonzero(np.isneginf(row)).tolist() == list(ENDS)
    must.push(3)
    assert must.missing == ["ca"]
    wants_to_end = np.zeros(len(PIECES), dtype=np.float32)
    wants_to_end[end] = 9
    for token in (2, 0):
        row = wants_to_end.copy()
        must.mask(row, 18)
        assert np.flatnonzero(np.isfinite(row)).tolist() == [token]
        must.push(token)
    assert must.missing == []
    row = wants_to_end.copy()
    must.mask(row, 16)
    assert (row == wants_to_end).all()


def test_the_last_tokens_are_kept_for_what_is_missing() -> None:
    must = MustInclude({"ca": [2, 0], "bb": [1, 1]}, VOCABULARY, (), 20)
    left, text = 20, ""
    while left:
        row = np.zeros(len(PIECES), dtype=np.float32)
        row[9] = 1
        must.mask(row, left)
        token = int(row.argmax())
        must.push(token)
        text += PIECES[token]
        left -= 1
    assert "ca" in text
    assert "bb" in text
    assert text.startswith("cc" * 10)


def test_what_cannot_be_held_says_so() -> None:
    with pytest.raises(InputError, match="must_include needs 6 tokens, and the answer may have 5"):
        MustInclude({"ca": [2, 0]}, VOCABULARY, ENDS, 5)
    writer = load("description")
    with pytest.raises(InputError, match="白色: to be included, and holds 白色, which is banned"):
        writer(DRESS, banned=["白色"], must_include=["白色"])
    with pytest.raises(InputError, match=r"最好的: .* holds 最好, .* an absolute term \(absolute_terms=True"):
        writer(DRESS, must_include=["最好的"])
    assert "最好的" in writer(DRESS, must_include=["最好的"], absolute_terms=True).text
    with pytest.raises(InputError, match="must_include needs"):
        writer(DRESS, must_include=["这是一句很长很长的话"], max_new_tokens=4)
    every = [chr(code) for code in (*range(0x20, 0x7F), *range(0x4E00, 0x9FFF), *range(0x3000, 0x3010))]
    with pytest.raises(InputError, match=r"accepted: at most|leave no"):
        writer(DRESS, banned=every)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 3}, {"num_beams": 3}])
def test_a_description_says_what_it_must_and_nothing_that_is_banned(options: dict[str, Any]) -> None:
    writer = load("description")
    plain = writer(DRESS, **options).text
    banned = (plain[:2], plain[4:7], "的")
    found = writer(DRESS, banned=banned, must_include=("新品到店", "Edge 7"), **options)
    assert not any(phrase in found.text for phrase in banned)
    assert "新品到店" in found.text
    assert "Edge 7" in found.text


def test_a_banned_phrase_in_the_attributes_is_not_said_and_that_is() -> None:
    found = load("description")(DRESS, banned=["白色"])
    assert "白色" not in found.text
    assert any("白色 is in the input and is banned" in note for note in found.notes)


def test_a_summary_and_many_inputs_hold_it_too() -> None:
    writer = load("summary")
    text = "The sweater is soft and warm. It fits true to size. I love the colour and the soft wool."
    word = writer(text).text.split()[0]
    results = writer.batch([text, text + " Great."], banned=[word], must_include=["soft"])
    for result in results:
        assert word.lower() not in result.text.lower()
        assert "soft" in result.text.lower()


def test_the_absolute_terms_are_those_of_the_law_and_are_held_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"国家级", "最高级", "最佳"} < set(absolute_terms())
    assert "article 9" in ABSOLUTE_TERMS.read_text("utf-8")
    assert len(set(absolute_terms())) == len(absolute_terms())
    writer = load("description")
    assert isinstance(writer._job(DRESS, writer.options()).constraint, Banned)
    assert writer._job(DRESS, writer.options(absolute_terms=True)).constraint is None
    assert writer._job("type: laptop", writer.options()).constraint is None
    both = writer._job(DRESS, writer.options(must_include=("新品",))).constraint
    assert isinstance(both, Rules)


def test_a_list_is_read_line_by_line(tmp_path: Path) -> None:
    assert read_phrases("# a comment\n最佳\n\n best \n最佳\n") == ("最佳", "best")

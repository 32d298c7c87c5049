"""Numbers, units, prices and Latin names: only those of the source can be written, in any tokenization."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from edgelm_runtime.generate.facts import SourceFacts
from edgelm_runtime.generate.vocabulary import Vocabulary
from edgelm_runtime.loader import load

BYTES = Vocabulary([*(f"<0x{byte:02X}>" for byte in range(256)), "", ""], byte_level=False, special=[256, 257])
ENDS = (256, 257)
ZH = "品牌: Lenovo; 型号: ThinkPad X1; 屏幕: 15.6英寸; 价格: ¥1,299; 重量: 1.5 kg; 电池: 57wh; 保修: 2年; 内存 16"
EN = "name: aurora 14; brand: Sony; drive: 320 gb; price: $499; display: 15.6 inch; battery: 12 hours"


def can_be_written(source: str, language: str, text: str) -> bool:
    """Whether the bytes of `text`, one a token, pass the rule, to an end where it may end."""
    rule = SourceFacts(source, language, BYTES, ENDS).begin()
    for byte in text.encode():
        row = np.zeros(258, dtype=np.float32)
        rule.mask(row, 10)
        if np.isneginf(row[byte]):
            return False
        rule.push(byte)
    row = np.zeros(258, dtype=np.float32)
    rule.mask(row, 10)
    assert np.isfinite(row[256]) == np.isfinite(row[257])
    return bool(np.isfinite(row[256]))


@pytest.mark.parametrize(
    "text",
    [
        "联想Lenovo的ThinkPad X1，屏幕15.6英寸。", "只要¥1,299，重1.5kg。", "重1.5 kg，保修2年", "x1，16，57wh 57 wh",
        "没有数字。", "lenovo、LENOVO。15.6，2", "thinkpad。1.5。", "", "2年保修，16。",
    ],
)  # fmt: skip
def test_facts_of_the_source_can_be_written_in_chinese(text: str) -> None:
    assert can_be_written(ZH, "zh", text)


@pytest.mark.parametrize(
    "text",
    [
        "屏幕14英寸", "屏幕15英寸", "15.6寸", "15.6厘米", "16年", "保修2月", "$16", "€1,299", "重1.5g", "联想Dell",
        "X2", "ThinkPa", "Think", "1,29", "12990", "57 kg", "16GB", "3", "X1 Carbon", "lenovos", "15.", "0", "12.",
        "15.6英镑", "16美元", "16 人民币", "16%", "16％", "１６年", "¥16", "16¥", "¥15.6", "16款", "②", "½", "16㎏",
        "57 mah", "57（kg）", "57 * kg", "٣",
    ],
)  # fmt: skip
def test_other_facts_cannot_in_chinese(text: str) -> None:
    assert not can_be_written(ZH, "zh", text + "。" if text != "15." else text)


@pytest.mark.parametrize(
    "text",
    [
        "The aurora 14 is a laptop with a 320 gb drive.", "It costs $499. Nice sound, and 12 hours!", "A Sony for you",
        "It is only $499, a 14 watch", "320 GB", "12-hour days", "320, gb or not",
        "with its 15.6 inch display. Great. 320gb", "14 of them, inside 14 insiders", "SONY. Now.", "Only 14.",
        "a 15.6-inch one",
    ],
)  # fmt: skip
def test_facts_of_the_source_can_be_written_in_english(text: str) -> None:
    assert can_be_written(EN, "en", text)


@pytest.mark.parametrize(
    "text",
    [
        "a 500 gb drive", "320 mb", "320 tb.", "12 inches", "€499", "the Samsung one", "it is a Dell", "aurora 15",
        "15.6 cm", "12 months.", "320 tbv", "12 yearsnow", "320 kgs", "iPhone", "a b2b", "an HP", "Sony X", "13",
        "320 watt", "320 watts", "12 gallons", "14%", "$14", "499 dollars", "14 $499", "320\n\ngb tb 320 tb", "12 °",
        "12³", "３２０ gb", "320 (watt)", "12 oz.", "320 bytes", "14 megapixels",
        "aurora™", "a №", "14º",
    ],
)  # fmt: skip
def test_other_facts_cannot_in_english(text: str) -> None:
    assert not can_be_written(EN, "en", text)


@pytest.mark.parametrize("source", ["类型: 裙; 颜色: 白色", "名称: aurora 14; 屏幕: 15.6英寸; 价格: 499元"])
@pytest.mark.parametrize("options", [{"temperature": 2.0}, {"temperature": 2.0, "top_k": 50}, {"num_beams": 2}])
def test_a_writer_that_rambles_invents_none(source: str, options: dict[str, Any]) -> None:
    writer = load("description")
    known = set(re.findall(r"[a-z0-9]+(?:\.[0-9]+)?", source.lower()))
    invented, said = 0, 0
    for seed in range(8):
        chosen = {**options, **({} if "num_beams" in options else {"seed": seed})}
        locked = writer(source, facts="locked", **chosen).text
        free = writer(source, **chosen).text
        assert set(re.findall(r"[a-z0-9]+(?:\.[0-9]+)?", locked.lower())) <= known
        invented += not set(re.findall(r"[a-z0-9]+(?:\.[0-9]+)?", free.lower())) <= known
        said += len(locked) > 5
    assert said > 4
    assert invented > 0 or "num_beams" in options


def test_english_descriptions_keep_to_their_numbers() -> None:
    writer = load("description")
    source = "name: aurora 14; type: laptop; drive: 320 gb; battery: 12 hours"
    for seed in range(8):
        text = writer(source, facts="locked", temperature=1.5, seed=seed).text
        assert set(re.findall(r"[0-9]+", text)) <= {"14", "320", "12"}


@pytest.mark.parametrize("limit", range(1, 16))
def test_a_number_that_the_limit_cuts_is_left_out(limit: int) -> None:
    writer = load("description")
    found = writer(
        "drive: 814 gb; display: 2,345 inch", facts="locked", must_include=["814 gb 2,345"], max_new_tokens=24
    )
    assert "814 gb 2,345" in found.text
    source = "drive: 814 gb; name: 814814814814"
    options: dict[str, Any] = {"facts": "locked", "max_new_tokens": limit, "temperature": 3.0, "seed": limit}
    cut = writer(source, **options)
    assert set(re.findall(r"[0-9]+", cut.text)) <= {"814", "814814814814"}
    assert cut.text == "".join(writer.stream(source, **options))


def test_variants_and_summaries_are_held_too() -> None:
    writer = load("description")
    found = writer("name: aurora 14; type: laptop; drive: 320 gb", variants=4, seed=1, temperature=1.5, facts="locked")
    assert all(set(re.findall(r"[0-9]+", text)) <= {"14", "320"} for text in found.variants)
    text = load("summary")("The 14 inch screen is bright. It has 320 gb.", temperature=2.0, seed=2, facts="locked").text
    assert set(re.findall(r"[0-9]+", text)) <= {"14", "320"}


@pytest.mark.parametrize("start", ["", "好", "好。", "15.6", "15.6 ", "Think", "¥"])
def test_a_token_says_what_its_bytes_say(start: str) -> None:
    pieces = ["好", "天气", "英", "英寸", "年", "。", "，好", "é", "２", "Ⅷ", "a", "15", " 好", "￥", "🙂", "好a", "�"]
    whole = Vocabulary([*pieces, "<0xE5>", "<0xA5>", "<0xBD>"], byte_level=False)
    tokens, single = SourceFacts(ZH, "zh", whole, ()), SourceFacts(ZH, "zh", BYTES, ENDS)
    state: Any = single.begin()._state
    for byte in start.encode():
        state = single.advance(state, byte)
    for token, text in enumerate(whole.texts):
        expected = state
        for byte in text:
            expected = None if expected is None else single.advance(expected, byte)
        assert tokens.advance(state, token) == expected, pieces[token]


FRAGMENTS = """
180 gb 6 tb 28 inch dollars 14 320 gb 12 hours watt GB Sony dell ThinkPad ps5 15.6 1,299 $499 € ¥ 年 英寸 公斤 美元 ％
２ 的 很好 this The is and . 。 , -
"""


def slow_twin(source: str, language: str, vocabulary: Vocabulary, tokens: list[int]) -> set[int]:
    """The tokens whose bytes, one a token, the rule refuses after `tokens`."""
    rule = SourceFacts(source, language, BYTES, ())
    state: Any = rule.begin()._state
    for token in tokens:
        for byte in vocabulary.texts[token]:
            state = rule.advance(state, byte)
    refused = set()
    for token, text in enumerate(vocabulary.texts):
        after = state
        for byte in text:
            after = None if after is None else rule.advance(after, byte)
        if after is None:
            refused.add(token)
    return refused


def byte_level_vocabulary() -> Vocabulary:
    """GPT-2's kind of vocabulary, with blanks before words and capitals, learned from a few lines."""
    trainer = trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pages = (Path(__file__).parents[2] / name for name in ("README.md", "README.zh-CN.md", "docs/models.md"))
    lines = [page.read_text("utf-8") for page in pages] + [
        " gb tb inch dollars watt hours 180 320 14 28 6" for _ in range(9)
    ]
    learned.train_from_iterator(lines, trainer)
    pieces = [learned.id_to_token(index) for index in range(learned.get_vocab_size())]
    return Vocabulary(pieces, byte_level=True)


@pytest.fixture(scope="module", params=["shipped", "byte-level", "wordpiece"])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    """What the shipped writer writes with, and tokens of two other kinds."""
    if request.param == "shipped":
        found: Vocabulary = load("description")._words.vocabulary
        return found
    if request.param == "byte-level":
        return byte_level_vocabulary()
    pieces = [
        "[PAD]",
        "18",
        "##0",
        "180",
        "gb",
        "##gb",
        "tb",
        "inch",
        ".",
        ",",
        "英",
        "##寸",
        "年",
        "dollars",
        "$",
        "9",
        "##9",
    ]
    return Vocabulary(pieces, byte_level=False, special=[0], continuing="##")


@given(st.lists(st.sampled_from(FRAGMENTS.split()), min_size=1, max_size=6), st.sampled_from(["zh", "en"]), st.data())
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_token_passes_the_mask_that_the_rule_refuses(
    vocabulary: Vocabulary, words: list[str], language: str, data: st.DataObject
) -> None:
    source = " ".join(words)
    facts = SourceFacts(source, language, vocabulary, ())
    rule, tokens = facts.begin(), []
    known = [token for token, text in enumerate(vocabulary.texts) if text.strip() and text.strip() in source.encode()]
    for _ in range(data.draw(st.integers(0, 3))):
        allowed = np.ones(len(vocabulary.texts), dtype=bool)
        allowed[facts.forbidden(rule._state)] = False
        likely = [token for token in known if allowed[token]] or np.flatnonzero(allowed).tolist()
        tokens.append(data.draw(st.sampled_from(likely)))
        rule.push(tokens[-1])
    assert set(facts.forbidden(rule._state).tolist()) == slow_twin(source, language, vocabulary, tokens)


def test_what_may_begin_may_end() -> None:
    facts = SourceFacts("drive: 980 gb; price: $981", "en", BYTES, ENDS)
    states, waiting = set(), [facts.begin()._state]
    while waiting and len(states) < 3000:
        state = waiting.pop()
        following = [facts.advance(state, byte) for byte in b"980 gb$1.,GBa"]
        assert any(one is not None for one in following), state
        waiting += [one for one in following if one is not None and one not in states]
        states |= set(waiting)
    assert len(states) > 20


def test_a_unit_in_one_token_with_its_blank_is_seen() -> None:
    writer = load("description")
    source = "name: Oakwood table; material: oak; length: 180 cm; seats: 6"
    for text in (" has a 180 gb drive", " a 6 inch screen", " for 180 dollars"):
        rule = writer._words.facts(source, "en", writer.generator.eos_ids).begin()
        refused = False
        for token in writer.tokenizer.encode(text, special=False):
            row = np.zeros(writer.generator.vocab, dtype=np.float32)
            rule.mask(row, 10)
            refused = refused or bool(np.isneginf(row[token]))
            rule.push(token)
        assert refused, text


@pytest.mark.parametrize("unit", ["a", "7.", "7,7 ", "é", "７", "$7", "7 a", "🙂", "㎏"])
def test_a_long_source_costs_what_its_length_says(unit: str) -> None:
    tracemalloc.start()
    facts = SourceFacts(unit * (60_000 // len(unit)), "en", BYTES, ENDS)
    facts.forbidden(facts.begin()._state)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30e6  # a run of 120,000 letters took 7 GB when every beginning of it was kept

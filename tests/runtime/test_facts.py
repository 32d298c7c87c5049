"""Numbers, units, prices and Latin names: only those of the source can be written, in any tokenization."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

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
    ],
)  # fmt: skip
def test_other_facts_cannot_in_chinese(text: str) -> None:
    assert not can_be_written(ZH, "zh", text + "。" if text != "15." else text)


@pytest.mark.parametrize(
    "text",
    [
        "The aurora 14 is a laptop with a 320 gb drive.", "It costs $499. Nice sound, and 12 hours!", "A Sony for you",
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

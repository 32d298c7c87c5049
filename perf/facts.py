"""Sampled answers with `facts="locked"`, searched for numbers, units, prices and names that their source does not have.

The search is by regular expressions over the finished text and shares nothing with the rule. The shipped writer samples
at a temperature at which it rambles; another vocabulary (`--tokenizer vocab.json` of a byte-level tokenizer, GPT-2's)
is sampled without a model, with a liking for digits, units and capitals, which no model has.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

import edgelm
from edgelm_runtime.generate.facts import SourceFacts
from edgelm_runtime.generate.vocabulary import Vocabulary

UNITS = """
gb tb mb inch inches cm mm kg g lb lbs oz ml l hours hour minutes days months years watt watts w volts mah mp dollars
euros percent % 英寸 厘米 毫米 公斤 千克 克 升 毫升 小时 分钟 天 个月 年 瓦 元 美元 欧元 块 折 寸 米 码 度 件 支 片 层
"""
_UNIT = "|".join(sorted(map(re.escape, UNITS.split()), key=len, reverse=True))
NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
WITH_UNIT = re.compile(rf"([0-9]+(?:[.,][0-9]+)*)[ -]?({_UNIT})(?![a-z])", re.IGNORECASE)
PRICE = re.compile(r"[$€£¥] ?[0-9]+(?:[.,][0-9]+)*")
LATIN = re.compile(r"[A-Za-z0-9]+(?:(?<=[0-9])[.,][0-9]+[A-Za-z0-9]*)*")
LIKED = re.compile(rb"[0-9A-Z$%]|\b(?:gb|tb|inch|dollars|watt|hours|kg)\b")

NAMES = ("aurora", "oakwood", "tecra", "nimbus", "harbor", "极光", "橡木", "云朵", "港湾", "晨曦")
TYPES = (("laptop", "gb", "drive"), ("table", "cm", "length"), ("watch", "hours", "battery"), ("tv", "inch", "display"))
TYPES_ZH = (("笔记本", "英寸", "屏幕"), ("餐桌", "厘米", "长度"), ("手表", "小时", "续航"), ("连衣裙", "元", "价格"))


def source(number: int) -> tuple[str, str]:
    """A product and the language of its description."""
    draw = random.Random(number)  # noqa: S311 - products, no secrets
    size, other = draw.randrange(2, 999), draw.randrange(2, 99)
    if number % 2:
        kind, unit, field = draw.choice(TYPES_ZH)
        return f"名称: {draw.choice(NAMES[5:])}{other}; 类型: {kind}; {field}: {size}{unit}", "zh"
    kind, unit, field = draw.choice(TYPES)
    price = f"; price: ${size + 1}" if number % 3 else ""
    return f"name: {draw.choice(NAMES[:5])} {other}; type: {kind}; {field}: {size} {unit}{price}", "en"


def foreign(given: str, text: str, language: str) -> Counter[str]:
    """How many numbers, units, prices and names of the text its source does not have."""
    known, plain = unicodedata.normalize("NFKC", given).lower(), unicodedata.normalize("NFKC", text)
    numbers, latin = set(NUMBER.findall(known)), set(LATIN.findall(known))
    units = {(number, _singular(unit)) for number, unit in WITH_UNIT.findall(known)}
    prices = {price.replace(" ", "") for price in PRICE.findall(known)}
    said = LATIN.findall(plain)
    names = [one for one in said if language == "zh" or re.search(r"[0-9]|\B[A-Z]", one)]
    names = [one.lower() for one in names if not one[0].isdigit()]
    latin |= {f"{name}{end}" for name in latin for end in ("s", "es")} | {name.removesuffix("s") for name in latin}
    return Counter(
        numbers=sum(number not in numbers for number in NUMBER.findall(plain)),
        units=sum((number, _singular(unit)) not in units for number, unit in WITH_UNIT.findall(plain)),
        prices=sum(price.replace(" ", "") not in prices for price in PRICE.findall(plain)),
        names=sum(name not in latin for name in names),
    )


def _singular(unit: str) -> str:
    return unit.lower().removesuffix("es") if unit.lower() == "inches" else unit.lower().removesuffix("s")


def of_the_writer(answers: int) -> Counter[str]:
    """The shipped writer's."""
    writer, found = edgelm.load("description"), Counter[str]()
    for number in range(answers):
        given, _ = source(number // 4)
        result = writer(given, facts="locked", temperature=1.5, seed=number, max_new_tokens=48)
        wrong = foreign(given, result.text, result.language)
        if wrong.total():
            print(f"  {given}\n  {dict(wrong)}: {result.text}")
        found += wrong + Counter(answers=1)
    return found


def of_a_vocabulary(pieces: list[str], answers: int, tokens: int = 24) -> Counter[str]:
    """Those of tokens that are drawn among the ones that the rule allows."""
    vocabulary, found = Vocabulary(pieces, byte_level=True), Counter[str]()
    liked = np.array([bool(LIKED.search(text)) for text in vocabulary.texts])
    facts, draw = None, np.random.default_rng(0)
    for number in range(answers):
        given, language = source(number // 8)
        if number % 8 == 0 or facts is None:
            facts = SourceFacts(given, language, vocabulary, ())
        rule, written = facts.begin(), b""
        for _ in range(tokens):
            row = draw.gumbel(size=len(pieces)).astype(np.float32) + np.where(liked, 6, 0).astype(np.float32)
            rule.mask(row, tokens)
            token = int(row.argmax())
            found["dead ends"] += bool(np.isneginf(row[token]))
            rule.push(token)
            written += vocabulary.texts[token]
        if facts._closed(rule._state) is None:  # it may not end here
            written = re.sub(rb"[A-Za-z0-9.,]+\Z", b"", written)
        text = written.decode(errors="replace")
        wrong = foreign(given, text, language)
        if wrong.total():
            print(f"  {given}\n  {dict(wrong)}: {text}")
        found += wrong + Counter(answers=1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=5000)
    parser.add_argument("--tokenizer", type=Path, help="vocab.json of a byte-level tokenizer")
    given = parser.parse_args()
    print(f"writer: {dict(of_the_writer(given.answers))}")
    if given.tokenizer is not None:
        stored = json.loads(given.tokenizer.read_text("utf-8"))
        print(f"{given.tokenizer.name}: {dict(of_a_vocabulary(sorted(stored, key=stored.get), given.answers))}")


if __name__ == "__main__":
    main()

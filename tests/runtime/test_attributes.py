from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgelm_runtime.errors import InputError
from edgelm_runtime.tasks.attributes import MAX_ENTRIES, canonical, parse


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"类型": "裙", "颜色": "白色"}, "类型: 裙; 颜色: 白色"),
        ("类型#裙*颜色#白色", "类型: 裙; 颜色: 白色"),
        ("类型#裙*颜色#白色*颜色#蓝色", "类型: 裙; 颜色: 白色; 颜色: 蓝色"),
        ("规格#3*4*颜色#白", "规格: 3*4; 颜色: 白"),
        ("标题#A: b 3:2 c", "标题: A: b 3:2 c"),
        ("name: portege 15; type: laptop; price: 1179 dollars", "name: portege 15; type: laptop; price: 1179 dollars"),
        ("name:x;type:y;", "name: x; type: y"),
        ("名称：连衣裙；颜色：白色；", "名称: 连衣裙; 颜色: 白色"),
        ("name: x\ntype: y\r\n", "name: x; type: y"),
        ("  name :  a   b ;; type: y ", "name: a b; type: y"),
        ("genres: action, rpg; modes: single/multi", "genres: action, rpg; modes: single/multi"),
        ("note: soft; light; colour: red", "note: soft; light; colour: red"),
        ("size: 3; C#: x", "size: 3; C#: x"),
        ("link: http://a.b/c", "link: http://a.b/c"),
        ("note: soft\nand light\ncolour: red", "note: soft and light; colour: red"),
        ({"note": "soft\nlight"}, "note: soft light"),
        (
            '{"颜色": "白色", "颜色": ["蓝", "绿"], "尺码": 1.50, "现货": true}',
            "颜色: 白色; 颜色: 蓝; 颜色: 绿; 尺码: 1.50; 现货: true",
        ),
        (
            {"size": 3, "weight": 1.5, "new": True, "tags": ["a", "b"]},
            "size: 3; weight: 1.5; new: true; tags: a; tags: b",
        ),
        ({"mood": "😀", "dir": "\u202eabc", "nul": "a\x00b"}, "mood: 😀; dir: \u202eabc; nul: a\x00b"),
    ],
)
def test_every_accepted_form(source: Any, expected: str) -> None:
    assert canonical(parse(source)) == expected


def test_repeated_names_stay_entries() -> None:
    assert parse("颜色: 白色; 颜色: 蓝色") == [("颜色", "白色"), ("颜色", "蓝色")]


@pytest.mark.parametrize(
    "source",
    [
        "",
        " \n ",
        {},
        "{}",
        None,
        17,
        ["a: b"],
        b"a: b",
        "连衣裙",
        "连衣裙; 颜色: 白",
        "颜色:",
        "颜色: ; 类型: 裙",
        ": 白色",
        "#白色",
        "类型#",
        "裙*颜色#白",
        "{",
        '{"a": }',
        '{"a": {"b": "c"}}',
        '{"a": null}',
        '{"a": NaN}',
        '{"a": "b"} {"c": "d"}',
        "{a: b}",
        {"": "x"},
        {" ": "x"},
        {3: "x"},
        {"a:b": "x"},
        {"a;b": "x"},
        {"a#b": "x"},
        {"a": ""},
        {"a": " ; "},
        {"a": None},
        {"a": {"b": "c"}},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**5000},
        {"a": b"bytes"},
        {"a": ("b", "c")},
        "{" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=lambda source: repr(source)[:30] if not isinstance(source, dict) else None,
)
def test_malformed_attributes_are_refused_with_what_is_accepted(source: Any) -> None:
    with pytest.raises(InputError, match=r"accepted|give") as caught:
        parse(source)
    assert len(str(caught.value)) < 600


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(InputError, match=f"at most {MAX_ENTRIES}"):
        parse({"tag": ["x"] * (MAX_ENTRIES + 1)})


def outcome(source: str) -> str:
    """The canonical text, or the words of the refusal."""
    try:
        return canonical(parse(source))
    except InputError as error:
        return str(error)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a", "\n", ";", "#", "*", ":", " ", "a:", ";a", "{", "[", '{"', "a#*"])
def test_a_megabyte_takes_bounded_time(text: str) -> None:
    for source in (text * (1_000_000 // len(text)), "a: b" + text * (1_000_000 // len(text))):
        assert len(outcome(source)) < 1_100_000


# White space of both ends of Unicode, separators and quotes come often; anything else sometimes.
letters = st.text(st.sampled_from(list("ab裙 ;；:：\n*#{}\"',/\u3000\u00a0")), max_size=8)
texts = st.one_of(letters, st.text(max_size=8))
keys = st.one_of(st.sampled_from(["a", "类型", " b c"]), texts)
pairs_of = st.lists(st.tuples(keys, texts), min_size=1, max_size=4)
mappings = st.dictionaries(keys, st.one_of(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=4)
hashes = pairs_of.map(lambda pairs: "*".join(f"{key}#{value}" for key, value in pairs))
lines = pairs_of.map(lambda pairs: "；".join(f"{key}：{value}" for key, value in pairs))
sources = st.one_of(mappings, hashes, lines, texts, mappings.map(json.dumps))


@given(sources)
@example({"a": "b；c：d"})
@example({"a": "b;:c"})
@example("a:b;c;;d")
@example({"a": "b\n{c: d"})
@example("{a#b")
@example({"0": ":;a\n::"})
@example("0: x;a\n:")
def test_the_canonical_text_is_a_fixed_point(source: Any) -> None:
    try:
        text = canonical(parse(source))
    except InputError:
        return  # to be refused is an answer too
    assert canonical(parse(text)) == text
    assert parse(text) == parse(source)


names = st.text("ab裙 色", min_size=1).map(lambda text: " ".join(text.split())).filter(bool)
plain = st.text("ab白，,/ .-'", min_size=1).map(lambda text: " ".join(text.split())).filter(bool)


@given(st.lists(st.tuples(names, plain), min_size=1, max_size=6))
def test_plain_names_and_values_come_back_as_they_were(pairs: list[tuple[str, str]]) -> None:
    assert parse(canonical(pairs)) == pairs
    assert parse("*".join(f"{name}#{value}" for name, value in pairs)) == pairs
    assert parse("；".join(f"{name}：{value}" for name, value in pairs)) == pairs

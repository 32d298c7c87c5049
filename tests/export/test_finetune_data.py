"""Training rows: reading, splitting, encoding."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_export.finetune.base import train_gpt2_tokenizer
from edgelm_export.finetune.data import (
    IGNORED,
    Pair,
    check_fields,
    encode_pair,
    generator_pairs,
    label_id,
    label_names,
    label_notes,
    pack_lines,
    read_rows,
    split_rows,
    teacher,
)
from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import TokenizerSpec
from edgelm_runtime.tokenizer import TextTokenizer
from tests.export.tiny import PROMPTS, TEXTS

MAX_TOKENS = 48


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """A byte-level tokenizer with the special tokens of the prompts."""
    made = train_gpt2_tokenizer(TEXTS, 400, MAX_TOKENS)
    spec = TokenizerSpec("tokenizer.json", MAX_TOKENS, 0, (0,), 0)
    return TextTokenizer(made.backend_tokenizer.to_str().encode(), spec)


@given(st.text("裙白色显瘦的", min_size=1, max_size=4), st.text("裙白色显瘦的，a1 ", max_size=8))
def test_a_han_value_is_the_same_tokens_wherever_it_stands(tokenizer: TextTokenizer, value: str, around: str) -> None:
    ids = tokenizer.encode(value, special=False)
    for text in (around + value, value + around, around + value + around):
        inside = tokenizer.encode(text, special=False)
        assert any(inside[start : start + len(ids)] == ids for start in range(len(inside)))


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "一", "label": 1}\n\n{"text": "b"}\r\n', "utf-8")
    (tmp_path / "b.csv").write_text('\ufefftext,label\n"two, words",0\n"line\nend",1\n', "utf-8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress("三\n \n four ".encode()))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "five"}'))
    assert read_rows([tmp_path / name for name in ("a.jsonl", "b.csv", "c.txt.gz", "d.jsonl.gz")]) == [
        {"text": "一", "label": 1},
        {"text": "b"},
        {"text": "two, words", "label": "0"},
        {"text": "line\nend", "label": "1"},
        {"text": "三"},
        {"text": "four"},
        {"text": "five"},
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', r"a\.jsonl, line 3: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', r"a\.jsonl, line 2: a JSON array; a string or an object"),
        ("a.jsonl", b'{"text": "a"}\n' + b"[" * 100_000, r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{', mtime=0), r"a\.jsonl\.gz, line 2: not JSON"),
        ("a.txt", "物流".encode("gb18030"), r"a\.txt: not UTF-8 at byte 0"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz: cannot be read"),
        ("a.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], r"a\.txt\.gz: cannot be read"),
        ("a.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:10] + b"\xff" * 30, r"a\.txt\.gz: cannot be read"),
        (
            "a.csv",
            b"text,label\nIt is great, fits well,1\nfine,0\n",
            r"a\.csv, line 2: 3 fields where the header has 2",
        ),
        (
            "a.csv",
            b'text,label\n"open,1\n' + b"fine,0\n" * 6,
            r"a\.csv, line 2: a quote opens in this row and is never",
        ),
        (
            "a.csv",
            b"text,label\na,b,c\nok,1\n" + b"d\n" * 9,
            r"a\.csv, line 2: .*; 9 more rows cannot be read, on lines 4,",
        ),
        ("a.parquet", b"", r"kind '\.parquet'; accepted are \.txt, \.jsonl, \.csv, \.tsv, each also \.gz"),
        ("a.gz", b"", r"kind '\.gz'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_rows([tmp_path / name])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: cannot be read"):
        read_rows([tmp_path / "gone.jsonl"])


ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"text": st.text(max_size=5)}, optional={"label": st.integers(0, 1)}),
        st.fixed_dictionaries({"attributes": st.text(max_size=5), "description": st.text(max_size=5)}),
    ),
    max_size=30,
)


@given(ROWS, st.floats(0.05, 0.95))
def test_a_text_is_on_one_side_whatever_the_row_and_the_file(rows: list[dict[str, Any]], fraction: float) -> None:
    train, dev = split_rows(rows, fraction)

    def text(row: dict[str, Any]) -> str:
        return str(row.get("description") or row.get("text") or "")

    assert sorted(map(repr, train + dev)) == sorted(map(repr, rows))
    assert not {text(row) for row in train} & {text(row) for row in dev}
    # The side of a row does not depend on the other rows, nor on whether it is an input or an answer.
    for row in rows:
        alone = split_rows([{"text": text(row)}], fraction)
        assert bool(alone[1]) is (row in dev)


def test_the_split_has_about_the_fraction_asked_for() -> None:
    rows = [{"text": str(index)} for index in range(4000)]
    assert len(split_rows(rows, 0.1)[1]) == pytest.approx(400, abs=80)
    assert split_rows(rows, 0.1) == split_rows(rows, 0.1)


def test_a_group_stays_together() -> None:
    rows = [{"text": str(index), "group": str(index % 50)} for index in range(500)]
    train, dev = split_rows(rows, 0.2)
    assert train
    assert dev
    assert not {row["group"] for row in train} & {row["group"] for row in dev}


def test_a_lone_surrogate_does_not_stop_the_split() -> None:
    assert len(split_rows([{"text": "\ud800"}], 0.5)[0]) in (0, 1)


def test_rows_become_pairs_of_the_first_task_that_fits() -> None:
    rows = [
        {"text": "long", "summary": "short"},
        {"attributes": {"颜色": "白色"}, "description": "白"},
        {"attributes": "类型#裙*颜色#白色", "description": "白裙"},
        {"text": "neither"},
    ]
    assert generator_pairs(rows, ["summary", "description"]) == [
        Pair("summary", "long", "short"),
        Pair("description", "颜色: 白色", "白"),
        Pair("description", "类型: 裙; 颜色: 白色", "白裙"),
    ]
    with pytest.raises(InputError, match="no row for description"):
        generator_pairs(rows[:1], ["summary", "description"])


@given(source=st.text(max_size=120), answer=st.text(max_size=120), task=st.sampled_from(["summary", "description"]))
def test_a_pair_keeps_its_template_and_learns_the_answer_only(
    tokenizer: TextTokenizer, source: str, answer: str, task: str
) -> None:
    encoded = encode_pair(Pair(task, source, answer), tokenizer, PROMPTS[task], MAX_TOKENS)
    ids, labels = encoded["input_ids"], encoded["labels"]
    assert len(ids) == len(labels) <= MAX_TOKENS
    head, tail = (tokenizer.encode_template(part) for part in PROMPTS[task].split("{text}"))
    learned = labels.index(next(label for label in labels if label != IGNORED))
    assert labels == [IGNORED] * learned + ids[learned:]
    prompt = ids[:learned]
    assert prompt[: len(head)] == head
    assert prompt[-len(tail) :] == tail
    whole = [*tokenizer.encode(answer, special=False), 0]
    assert ids[learned:] == whole[: MAX_TOKENS // 2]
    if len(tokenizer.encode_template(PROMPTS[task], text=source)) + len(whole[: MAX_TOKENS // 2]) <= MAX_TOKENS:
        assert prompt == tokenizer.encode_template(PROMPTS[task], text=source)


@given(st.lists(st.lists(st.integers(0, 9), max_size=30), min_size=1, max_size=9), st.integers(8, 20))
def test_lines_are_packed_without_padding(lines: list[list[int]], size: int) -> None:
    encoded = iter(lines)
    rows = pack_lines([""] * len(lines), lambda _: next(encoded), size)
    stream = [token for line in lines for token in line]
    packed = [token for row in rows for token in row["input_ids"]]
    assert packed == stream[: len(packed)]
    assert len(stream) - len(packed) < 8  # a tail too short to learn from is dropped
    assert all(len(row["input_ids"]) == size for row in rows[:-1])
    assert all(8 <= len(row["input_ids"]) <= size for row in rows) or len(rows) == 1


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1, 1], ["negative", "positive"]),
        (["1", "0"], ["negative", "positive"]),
        (["good", "bad", "good"], ["bad", "good"]),
        ([2, 0, 1], ["0", "1", "2"]),
    ],
)
def test_names_of_labels(labels: list[Any], names: list[str]) -> None:
    rows = [{"text": "x", "label": label} for label in labels]
    assert label_names(rows) == names
    ids = [label_id(row, names) for row in rows]
    assert [names[index] for index in ids] == [
        {"0": "negative", "1": "positive"}[str(label)] if len(names) == 2 and str(label) in "01" else str(label)
        for label in labels
    ]


def test_negative_and_positive_may_be_written_out() -> None:
    names = ["negative", "positive"]
    assert [label_id({"label": label}, names) for label in ("negative", "positive", 0, "1")] == [0, 1, 0, 1]
    with pytest.raises(InputError, match="label 'neutral'"):
        label_id({"label": "neutral"}, names)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["positive", "positive ", "negative"], ["negative", "positive"]),
        (["1", "１", "0"], ["negative", "positive"]),
        ([1.0, "0.0", 1], ["negative", "positive"]),
        (["1.0", "2.0", 3], ["1", "2", "3"]),
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["very  good", "very\u00a0good", "bad\u200b", "\ufeffbad"], ["bad", "very good"]),
        (["-1", "1"], ["-1", "1"]),
        (["C", "C++", "C#"], ["C", "C#", "C++"]),
        (["好", "坏\u3000"], ["坏", "好"]),
    ],
)
def test_labels_that_differ_in_what_is_not_seen_are_one(labels: list[Any], names: list[str]) -> None:
    rows = [{"label": label} for label in labels]
    assert label_names(rows) == names
    assert {label_id(row, names) for row in rows} == set(range(len(names)))


@pytest.mark.parametrize(
    "labels",
    [["positive", "Positive"], ["very good", "very-good", "bad"], ["good", "good.", "bad"], ["好", "好。", "坏"]],
)
def test_labels_that_are_nearly_the_same_are_refused(labels: list[str]) -> None:
    with pytest.raises(InputError, match=f"nearly the same: {labels[1]!r}|nearly the same: {labels[0]!r}"):
        label_names([{"label": label} for label in labels])


@pytest.mark.parametrize("label", [None, "", " ", float("nan"), "nan", "NaN", "#N/A", ["positive"], {"a": 1}])
def test_what_is_no_label_is_refused_by_its_line(tmp_path: Path, label: Any) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": 1}\n' + json.dumps({"text": "y", "label": label}))
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: label is "):
        label_names(read_rows([tmp_path / "a.jsonl"]))


def test_what_was_changed_in_labels_is_said() -> None:
    rows = [{"label": label} for label in ("positive ", "positive ", "１", "0")]
    (note,) = label_notes(rows, ["positive", "1", "0"])
    assert note.endswith("'positive ' as 'positive' (2), '１' as '1' (1)")
    assert label_notes(rows[3:], ["1", "0"]) == []
    assert label_notes([{"label": 1.0}], ["1", "0"])[0].endswith("'1.0' as '1' (1)")
    assert label_notes([{"label": "1.0"}], ["1.0", "1.5"]) == []


def test_a_missing_field_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\ngood,1\n\nbad,\n")
    with pytest.raises(InputError, match=r"a\.csv, line 4: the fields needed are text, label; found text"):
        check_fields(read_rows([tmp_path / "a.csv"]), ("text", "label"))


def test_a_teacher_gives_one_probability_for_each_class() -> None:
    assert teacher({"text": "x"}, ["a", "b"]) == {}
    assert teacher({"teacher": [0.25, 0.75]}, ["a", "b"]) == {"teacher": [0.25, 0.75]}
    assert teacher({"teacher": [1, 0]}, ["a", "b"]) == {"teacher": [1.0, 0.0]}


@pytest.mark.parametrize("given", [[0.5], [0.2, 0.2], [-0.5, 1.5], ["0.5", "0.5"], 0.5, {"a": 1.0, "b": 0.0}])
def test_another_teacher_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"accepted is a list of 2 probabilities, of \['a', 'b'\]"):
        teacher({"teacher": given}, ["a", "b"])


def test_rows_are_what_json_says(tmp_path: Path) -> None:
    rows = [{"text": "🙂 שלום", "label": 1}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    assert read_rows([tmp_path / "a.jsonl"]) == rows

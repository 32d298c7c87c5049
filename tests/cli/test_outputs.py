"""Answers as lines, JSON and CSV, and files that are whole or absent."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgelm import outputs
from edgelm.inputs import Item, Problem
from edgelm.outputs import CsvWriter, JsonWriter, Style, TextWriter
from edgelm.process import Terminated
from edgelm.spreadsheet import harmless
from edgelm.whole_file import Interrupted, atomic_text_file
from edgelm_runtime.errors import InputError
from edgelm_runtime.results import (
    ClassificationResult,
    EmbeddingResult,
    Entity,
    Lookup,
    SentimentResult,
    TaggingResult,
    TextResult,
)

SENTIMENT = SentimentResult(
    label="positive",
    score=0.9812,
    scores={"negative": 0.0188, "positive": 0.9812},
    language="zh",
    tokens=9,
    windows=1,
    notes=(),
    bundle="sentiment-zh",
    timings={"total": 1.5},
)


def text_result(text: str, variants: tuple[str, ...] = ()) -> TextResult:
    return TextResult(
        text=text,
        variants=variants,
        finish_reason="stop",
        language="en",
        prompt_tokens=4,
        tokens=3,
        windows=1,
        notes=("a note",),
        bundle="writer",
        timings={"total": 2.0},
        lookup=Lookup(0, 0),
    )


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


def as_text(result: outputs.Result, *, one_line: bool = True, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    TextWriter(stream, one_line=one_line).answer(Item("x"), result)
    return stream.getvalue()


def as_csv(item: Item, result: outputs.Result, style: Style | None = None) -> list[list[str]]:
    stream = io.StringIO()
    CsvWriter(stream, style or Style()).answer(item, result)
    return list(csv.reader(io.StringIO(stream.getvalue(), newline="")))


def test_a_person_reads_the_label_and_the_score() -> None:
    assert as_text(SENTIMENT) == "positive  0.98\n"


@pytest.mark.parametrize(("one_line", "expected"), [(True, "a b\n"), (False, "a\nb\n")])
def test_answers_stay_one_a_line_where_there_are_many(one_line: bool, expected: str) -> None:
    assert as_text(text_result("a\nb"), one_line=one_line) == expected


def test_every_variant_is_printed() -> None:
    assert as_text(text_result("one", ("one", "two")), one_line=False) == "one\ntwo\n"


EVIL = "\x1b[31mred\x9b2J\nforged\u202egnp\x07"


@pytest.mark.parametrize("one_line", [True, False])
def test_no_answer_steers_a_terminal(one_line: bool) -> None:
    shared = {"language": "en", "tokens": 1, "windows": 1, "notes": (), "bundle": "b", "timings": {"total": 1.0}}
    results = [
        replace(SENTIMENT, label=EVIL),
        ClassificationResult("single_label_classification", (EVIL,), {EVIL: 0.9}, **shared),
        ClassificationResult("regression", (), {EVIL: 0.9}, **shared),
        TaggingResult((Entity(EVIL, 0.9, 0, 3, EVIL),), **shared),
        text_result(EVIL),
    ]
    for result in results:
        shown = as_text(result, one_line=one_line, stream=Terminal())
        assert not set("\x1b\x9b\u202e\x07") & set(shown)
        assert "\\x1b[31mred" in shown
        assert shown.count("\n") == 1 + (not one_line and result is results[-1])
        assert as_text(result, one_line=one_line) == shown or result is results[-1]
    assert as_text(results[-1], one_line=False) == f"{EVIL}\n"  # a program gets the text as it is


def test_json_has_the_line_only_where_there_is_one() -> None:
    stream = io.StringIO()
    writer = JsonWriter(stream)
    writer.answer(Item("好", 3), SENTIMENT, {"device": "cpu"})
    writer.answer(Item("x"), text_result(EVIL))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["line"], first["label"], first["scores"]) == (3, "positive", dict(SENTIMENT.scores))
    assert "line" not in second
    assert first["receipt"] == {"device": "cpu"}
    assert "receipt" not in second
    assert (second["text"], second["notes"]) == (EVIL, ["a note"])


def test_json_keeps_what_stood_beside_the_input() -> None:
    stream = io.StringIO()
    writer = JsonWriter(stream)
    beside = {"id": 7, "label": "gold", "line": "first", "input.label": None, "tags": ["a"]}
    writer.answer(Item("好", 3, beside), SENTIMENT)
    writer.piece(Item("好", 3, {"id": 7}), "a")
    writer.refused(Problem(4, "no", {"id": 8}, "DeadlineExceeded"))
    answer, piece, refused = map(json.loads, stream.getvalue().splitlines())
    assert {name: answer[name] for name in ("id", "line", "label", "tags")} == {
        "id": 7, "line": 3, "label": "positive", "tags": ["a"],
    }  # fmt: skip
    assert (answer["input.label"], answer["input.line"], answer["input.input.label"]) == ("gold", "first", None)
    assert piece == {"line": 3, "id": 7, "piece": "a"}
    assert refused == {"line": 4, "id": 8, "error": {"type": "DeadlineExceeded", "message": "no"}}


def test_csv_has_a_header_and_keeps_line_ends() -> None:
    rows = as_csv(Item({"类型": "裙", "颜色": "白"}, 2), text_result("a\nb", ("a\nb", "c")))
    assert rows == [["line", "input", "text"], ["2", "类型: 裙; 颜色: 白", "a\nb"], ["2", "类型: 裙; 颜色: 白", "c"]]
    assert as_csv(Item("好", 2), SENTIMENT) == [["line", "input", "label", "score"], ["2", "好", "positive", "0.9812"]]


def test_csv_keeps_the_other_columns() -> None:
    item = Item("好", 2, {"id": 7, "label": "gold", "more": {"a": True}, "gone": None})
    rows = as_csv(item, SENTIMENT, Style(("id", "label", "more", "gone", "new")))
    assert rows == [
        ["line", "input", "label", "score", "id", "input.label", "more", "gone", "new"],
        ["2", "好", "positive", "0.9812", "7", "gold", '{"a": true}', "", ""],
    ]


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1;2", "-x", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1", "＝1+1", "-1+1|x", "=-5"]
)
def test_a_spreadsheet_computes_no_cell(cell: str) -> None:
    result = replace(SENTIMENT, label=cell)
    header, row = as_csv(Item(cell, 2, {cell: cell}), result, Style((cell,)))
    assert header[-1] == f"'{cell}"
    assert [row[1], row[2], row[4]] == [f"'{cell}"] * 3
    header, row = as_csv(Item(cell, 2, {cell: cell}), result, Style((cell,), raw_csv=True))
    assert [header[-1], row[1], row[2], row[4]] == [cell] * 4


@pytest.mark.parametrize("cell", ["-5", "+3", "-0.5", "-1,5", "-2e-5", "-3%", "good = bad", "好", "", "a-b"])
def test_numbers_and_texts_are_left_as_they_are(cell: str) -> None:
    assert harmless(cell) == cell


def test_negative_scores_and_vectors_are_numbers() -> None:
    shared = {"language": "en", "tokens": 1, "windows": 1, "notes": (), "bundle": "b", "timings": {"total": 1.0}}
    assert as_csv(Item("x"), EmbeddingResult((-0.5, 1e-9), **shared))[1] == ["", "x", "-0.5", "1e-09"]
    assert as_csv(Item("x"), ClassificationResult("regression", (), {"a": -1.5}, **shared))[1][-1] == "-1.5000"


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "answers.txt"
    target.write_text("old", "utf-8")
    with atomic_text_file(target) as stream:
        stream.write("new 好\n")
        stream.flush()
        assert target.read_text("utf-8") == "old"
    assert target.read_text("utf-8") == "new 好\n"
    assert target.stat().st_mode & 0o444 == 0o444
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, Terminated])
def test_a_failure_leaves_no_file(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with atomic_text_file(tmp_path / "answers.txt") as stream:
            stream.write("half")
            raise error(15)

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("add_bom", [False, True])
@pytest.mark.parametrize("text", ["half\n", ""])
def test_an_interrupt_keeps_what_was_written_under_another_name(tmp_path: Path, text: str, add_bom: bool) -> None:
    target = tmp_path / "answers.csv"
    target.write_text("old", "utf-8")

    def stop() -> None:
        with atomic_text_file(target, add_bom=add_bom, keep_partial=True) as stream:
            stream.write(text)
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        stop()
    assert target.read_text("utf-8") == "old"
    partial = tmp_path / "answers.partial.csv"
    assert stopped.value.kept == (partial if text else None)
    assert {*tmp_path.iterdir()} == {target, partial} if text else {target}
    assert not text or partial.read_text("utf-8-sig" if add_bom else "utf-8") == text


def test_a_folder_that_refuses_a_new_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"o\.csv: cannot be written there \(.+\); name another file"),
        atomic_text_file(tmp_path / "gone" / "o.csv"),
    ):
        raise AssertionError("nothing is written")

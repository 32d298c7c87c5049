"""Answers as lines, JSON and CSV, and files that are whole or absent."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from edgelm import outputs
from edgelm.inputs import Item
from edgelm_runtime.results import Lookup, SentimentResult, TextResult

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


def test_a_person_reads_the_label_and_the_score() -> None:
    stream = io.StringIO()
    outputs.text_writer(stream, one_line=True)(Item("好"), SENTIMENT)
    assert stream.getvalue() == "positive  0.98\n"


@pytest.mark.parametrize(("one_line", "expected"), [(True, "a b\n"), (False, "a\nb\n")])
def test_answers_stay_one_a_line_where_there_are_many(one_line: bool, expected: str) -> None:
    stream = io.StringIO()
    outputs.text_writer(stream, one_line=one_line)(Item("x"), text_result("a\nb"))
    assert stream.getvalue() == expected


def test_every_variant_is_printed() -> None:
    stream = io.StringIO()
    outputs.text_writer(stream, one_line=False)(Item("x"), text_result("one", ("one", "two")))
    assert stream.getvalue() == "one\ntwo\n"


def test_json_has_the_line_only_where_there_is_one() -> None:
    stream = io.StringIO()
    write = outputs.json_writer(stream, lambda result: {"device": "cpu"})
    write(Item("好", 3), SENTIMENT)
    write(Item("x"), text_result("一\n二"))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["line"], first["label"], first["scores"]) == (3, "positive", dict(SENTIMENT.scores))
    assert "line" not in second
    assert first["receipt"] == second["receipt"] == {"device": "cpu"}
    assert (second["text"], second["notes"]) == ("一\n二", ["a note"])


def test_csv_has_a_header_and_keeps_line_ends() -> None:
    stream = io.StringIO()
    write = outputs.csv_writer(stream)
    write(Item({"类型": "裙", "颜色": "白"}, 2), text_result("a\nb", ("a\nb", "c")))
    rows = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert rows == [["line", "input", "text"], ["2", "类型: 裙; 颜色: 白", "a\nb"], ["2", "类型: 裙; 颜色: 白", "c"]]
    stream = io.StringIO()
    outputs.csv_writer(stream)(Item("好", 2), SENTIMENT)
    assert stream.getvalue() == "line,input,label,score\n2,好,positive,0.9812\n"


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "answers.txt"
    target.write_text("old", "utf-8")
    with outputs.atomic_text_file(target) as stream:
        stream.write("new 好\n")
        stream.flush()
        assert target.read_text("utf-8") == "old"
    assert target.read_text("utf-8") == "new 好\n"
    assert target.stat().st_mode & 0o444 == 0o444
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failure_leaves_no_file(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with outputs.atomic_text_file(tmp_path / "answers.txt") as stream:
            stream.write("half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []

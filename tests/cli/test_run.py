"""``edgelm run`` on a real, tiny classifier: inputs of every kind, outputs of every kind, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from edgelm.commands import run
from tests.cli.conftest import Invoke


@pytest.fixture
def sentiment(invoke: Invoke, tiny_classifier: Path) -> Invoke:
    """``edgelm run sentiment --bundle TINY ...``."""

    def call(*args: object, stdin: bytes | str | None = None) -> Result:
        return invoke("run", "sentiment", "--bundle", tiny_classifier, *args, stdin=stdin)

    return call


def labels(result: Result) -> list[str]:
    return [line.split()[0] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(("text", "label"), [("物流很快", "positive"), ("the parcel is bad", "negative")])
def test_an_argument_is_answered(sentiment: Invoke, text: str, label: str) -> None:
    result = sentiment(text)
    assert result.exit_code == 0, result.stderr
    name, score = result.stdout.split()
    assert (name, 0.5 < float(score) <= 1) == (label, True)
    assert result.stdout == f"{name}  {score}\n"
    assert result.stderr == ""


def test_json_is_one_object_an_input_and_nothing_else(sentiment: Invoke) -> None:
    alone = json.loads(sentiment("好", "--json").stdout)
    assert alone["label"] == "positive"
    assert "line" not in alone
    lines = sentiment("-", "--json", stdin="good\n\n差\n").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["line"], row.get("label")) for row in rows] == [(1, "positive"), (2, None), (3, "negative")]
    assert rows[1]["error"]["type"] == "InputError"


def test_timings_and_notes_are_on_stderr(sentiment: Invoke) -> None:
    result = sentiment("good " * 40, "--timings")
    assert len(result.stdout.splitlines()) == 1
    assert "window" in result.stderr
    assert "load " in result.stderr
    assert "total " in result.stderr
    assert "3 answers in " in sentiment("--timings", stdin="good\nbad\ngood\n").stderr


@pytest.mark.parametrize("dash", [(), ("-",)])
def test_a_pipe_is_read_one_input_a_line(sentiment: Invoke, dash: tuple[str, ...]) -> None:
    result = sentiment(*dash, stdin="good\r\nbad\n\n很好")
    assert labels(result) == ["positive", "negative", "positive"]
    assert (result.exit_code, result.stderr) == (0, "edgelm: note: stdin: blank lines skipped: 1\n")


def test_many_inputs_are_answered_in_order(sentiment: Invoke, tmp_path: Path) -> None:
    texts = [("good " if number % 3 else "bad ") * (1 + number % 7) for number in range(1100)]
    path = tmp_path / "many.txt"
    path.write_text("\n".join(texts), "utf-8")
    assert labels(sentiment("--input", path)) == [
        "positive" if text.startswith("good") else "negative" for text in texts
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.txt", "好\n差\n"),
        ("in.jsonl", '{"text": "好"}\n"差"\n'),
        ("in.csv", "id,text\n1,好\n2,差\n"),
    ],
)
def test_files_of_every_kind_are_read(sentiment: Invoke, tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, "utf-8")
    result = sentiment("--input", path)
    assert (result.exit_code, labels(result)) == (0, ["positive", "negative"])


def test_files_of_every_kind_are_written(sentiment: Invoke, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("review\n好\n差\n", "utf-8")
    for kind in (".txt", ".jsonl", ".csv"):
        target = tmp_path / f"out{kind}"
        result = sentiment("--input", source, "--column", "review", "--output", target)
        assert (result.exit_code, result.stdout) == (0, "")
    assert [line.split()[0] for line in (tmp_path / "out.txt").read_text("utf-8").splitlines()] == [
        "positive",
        "negative",
    ]
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["label"] for row in rows] == ["positive", "negative"]
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        assert [(row["input"], row["label"]) for row in csv.DictReader(stream)] == [
            ("好", "positive"),
            ("差", "negative"),
        ]


def test_a_csv_without_the_column_ends_with_5_and_names_those_found(sentiment: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,review\n1,好\n", "utf-8")
    result = sentiment("--input", path)
    assert (result.exit_code, result.stdout) == (5, "")
    assert "found are 'id', 'review'" in result.stderr


def test_broken_lines_are_named_and_the_good_ones_answered(sentiment: Invoke, tmp_path: Path) -> None:
    path, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('"好"\n{"text": \n" "\n"差"\n', "utf-8")
    result = sentiment("--input", path)
    assert (result.exit_code, labels(result)) == (5, ["positive", "negative"])
    assert f"edgelm: {path}, line 2: not JSON" in result.stderr
    assert f"edgelm: {path}, line 3: the text is empty" in result.stderr
    assert "2 of 4 inputs refused, 2 answered" in result.stderr
    assert sentiment("--input", path, "--output", target).exit_code == 5
    rows = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [(row["line"], row.get("label"), "error" in row) for row in rows] == [
        (1, "positive", False),
        (2, None, True),
        (3, None, True),
        (4, "negative", False),
    ]


def test_thousands_of_broken_lines_are_counted_not_listed(sentiment: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("{\n" * 2000, "utf-8")
    result = sentiment("--input", path)
    assert result.exit_code == 5
    assert len(result.stderr.splitlines()) < 30
    assert "and 1980 more" in result.stderr


@pytest.mark.parametrize("text", ["", " ", "\u3000\t"])
def test_blank_text_is_refused(sentiment: Invoke, text: str) -> None:
    result = sentiment(text)
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.startswith("edgelm: error: the text is empty")


def test_strange_text_is_answered(sentiment: Invoke) -> None:
    for text in ("🙂👨‍👩‍👧 good", "\u202eطيب good\u202c", "good\x00bad", "a" * 1_000_000, "\ud800 good"):
        assert sentiment(text).exit_code == 0
    assert "surrogate" in sentiment("\ud800 good").stderr


@pytest.mark.parametrize("stdin", [b"", b"\n \n"])
def test_a_pipe_without_input_is_refused(sentiment: Invoke, stdin: bytes) -> None:
    result = sentiment(stdin=stdin)
    assert (result.exit_code, "stdin: no input" in result.stderr) == (5, True)


def test_bytes_that_are_not_utf8_are_refused_with_the_position(sentiment: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("很好".encode("gb18030"))
    assert "not UTF-8 at byte 0" in sentiment("--input", path).stderr
    result = sentiment(stdin=b"good\n\xff\n")
    assert (result.exit_code, "not UTF-8 at byte 5 (line 2" in result.stderr) == (5, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--top-k", "3"], "--top-k: sentiment generates no text"),
        (["x", "--stream"], "--stream: sentiment generates no text"),
        (["x", "--input", "a.txt"], "give one of the two"),
        (["x", "--column", "a"], "--column"),
        (["--input", "a.txt", "--column", "a"], "--column"),
        (["x", "--output", "a.xlsx"], r"accepted are .txt, .jsonl, .csv"),
        (["x", "--output", "a.csv", "--json"], "must end in .jsonl"),
        (["x", "--output", "no/such/folder/a.csv"], "there is no folder"),
        (["x", "--threads", "0"], "--threads"),
        (["x", "--no-such-option"], "No such option"),
    ],
)
def test_contradictions_are_usage_errors(sentiment: Invoke, arguments: list[str], message: str) -> None:
    result = sentiment(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sentiment", "x", "--bundle", "./none"], 3, "no bundle"),
        (["sentiment", "x", "--device", "gpu"], 4, "accepted are auto, cpu"),
        (["translate", "x"], 2, "translate"),
        (["summary", "x", "--variants", "2"], 2, "--variants: summary has one answer"),
        (["summary", "x", "--stream", "--output", "a.txt"], 2, "leave out --output"),
        (["sentiment", "x", "--receipt"], 2, "only --json has one"),
        (["sentiment", "x", "--output", "a.txt", "--add-bom"], 2, "ends in .csv"),
        (["sentiment", "x", "--raw-csv"], 2, "ends in .csv"),
        (["summary", "x", "--temperature", "-1"], 5, "temperature is -1.0"),
        (["sentiment", "--input", "none.txt"], 5, "none.txt: cannot be read"),
    ],
)
def test_what_is_refused_has_its_exit_code(invoke: Invoke, arguments: list[str], code: int, message: str) -> None:
    result = invoke("run", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["edgelm.json", "model.onnx", "tokenizer.json"])
def test_a_flipped_byte_is_refused(invoke: Invoke, copied_classifier: Path, name: str) -> None:
    path = copied_classifier / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    result = invoke("run", "sentiment", "good", "--bundle", copied_classifier)
    assert (result.exit_code, result.stdout) == (3, "")
    assert name in result.stderr


def test_a_bundle_named_like_a_task_is_reached_by_its_path(
    invoke: Invoke, copied_classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_classifier.rename(copied_classifier.with_name("sentiment"))
    monkeypatch.chdir(copied_classifier.parent)
    assert invoke("run", "sentiment", "good", "--bundle", "./sentiment").exit_code == 0


def test_every_generation_option_is_offered() -> None:
    from dataclasses import fields

    from edgelm_runtime.generate.options import GenerationOptions

    # Of a checkpoint's generation_config.json, or of a program's request: token ids, and lengths with the prompt's.
    unoffered = {
        "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias", "min_length", "max_length",
        "penalize_prompt", "ignore_eos",
    }  # fmt: skip
    names = {field.name for field in fields(GenerationOptions)}
    assert unoffered < names
    assert set(run.GENERATION) == names - unoffered | {"variants"}
    offered = {parameter.name for parameter in run.command.params}
    assert set(run.GENERATION) <= offered


def test_an_output_over_the_input_is_refused(sentiment: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    path.write_text("text\ngood\n", "utf-8")
    result = sentiment("--input", path, "--output", path)
    assert result.exit_code == 2
    assert "it would be lost" in result.stderr
    assert path.read_text("utf-8") == "text\ngood\n"


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_worker_gives_every_line_an_object_in_order(sentiment: Invoke) -> None:
    lines = [
        b"good", b"", b'{"id": "a", "text": "bad"}', b'{"id": 2, "text": " "}', b"\xff", b'{"id": 3', b'{"text": 1}',
        b'{"id": 4, "text": "good", "options": {"top_k": 1}}', b" \t", "很好".encode(),
    ]  # fmt: skip
    result = sentiment("--json", stdin=b"\n".join(lines))
    rows = objects(result)
    assert [row["line"] for row in rows] == list(range(1, 11))
    assert {row["line"]: row["label"] for row in rows if "label" in row} == {
        1: "positive",
        3: "negative",
        10: "positive",
    }
    assert [row.get("id") for row in rows] == [None, None, "a", 2, None, None, None, 4, None, None]
    assert all({"type", "message"} == set(row["error"]) for row in rows if "label" not in row)
    assert result.exit_code == 5
    assert "stdin: 7 of 10 inputs refused, 3 answered" in result.stderr


def test_the_receipt_comes_once_and_where_it_is_asked_for(sentiment: Invoke) -> None:
    assert not any("receipt" in row for row in objects(sentiment("--json", stdin="good\nbad\n")))
    rows = objects(sentiment("--json", "--receipt", stdin="\ngood\nbad\n"))
    assert ["receipt" in row for row in rows] == [False, True, False]
    assert rows[1]["receipt"]["device"] == "cpu"


def test_other_columns_pass_through(sentiment: Invoke, tmp_path: Path) -> None:
    table, lines = tmp_path / "in.csv", tmp_path / "in.jsonl"
    table.write_text("id;text;label\n7;good, really;gold\n8;\n9;bad;=1+1\n", "utf-8")
    lines.write_text('{"text": "good", "id": 7, "tags": ["a"]}\n{"text": "bad", "price": NaN}\n', "utf-8")
    out = tmp_path / "out.csv"
    assert sentiment("--input", table, "--output", out, "--add-bom").exit_code == 5
    assert out.read_bytes().startswith(b"\xef\xbb\xbfline,")
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8-sig"))))
    assert [(row["id"], row["label"], row["input.label"]) for row in rows] == [
        ("7", "positive", "gold"),
        ("9", "negative", "'=1+1"),
    ]
    assert sentiment("--input", lines, "--output", out, "--raw-csv").exit_code == 0
    assert [row[-3:] for row in csv.reader(io.StringIO(out.read_text("utf-8")))] == [
        ["id", "tags", "price"], ["7", '["a"]', ""], ["", "", ""],
    ]  # fmt: skip
    assert sentiment("--input", lines, "--output", tmp_path / "out.jsonl").exit_code == 0
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text("utf-8").splitlines())
    assert (first["id"], first["tags"], second["price"]) == (7, ["a"], None)


def test_a_text_that_fails_in_any_way_costs_itself_alone(
    sentiment: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from edgelm_runtime.errors import BundleRejected
    from edgelm_runtime.tasks.sentiment import Sentiment

    answer = Sentiment._result

    def fail(self: Sentiment, reading: Any, outputs: Any, watch: Any) -> Any:
        if reading.text == "poison":
            raise RuntimeError("the graph\nfailed")
        if reading.text == "odd":
            raise BundleRejected("not finite")
        return answer(self, reading, outputs, watch)

    monkeypatch.setattr(Sentiment, "_result", fail)
    path = tmp_path / "in.txt"
    path.write_text("good\npoison\nbad\nodd\n" + "good\n" * 600, "utf-8")
    result = sentiment("--input", path, "--json")
    rows = objects(result)
    assert (result.exit_code, len(rows)) == (5, 604)
    assert [row["error"]["type"] for row in rows if "error" in row] == ["EdgeLMError", "BundleRejected"]
    assert rows[1]["error"]["message"] == "unexpected RuntimeError: the graph failed (EDGELM_DEBUG=1 shows where)"
    path.write_text("odd\n" * 600, "utf-8")
    assert sentiment("--input", path).exit_code == 3  # it never answered: the bundle is what is wrong


def test_hostile_names_are_shown_escaped(sentiment: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a\x1b[2Jb,c\u202e\nx,y\n", "utf-8")
    result = sentiment("--input", path)
    assert (result.exit_code, "\x1b" in result.stderr, "\u202e" in result.stderr) == (5, False, False)
    result = sentiment("--input", tmp_path / "no\x1bne.txt")
    assert "no\\x1bne.txt: cannot be read" in result.stderr
    result = sentiment("x", "--output", "a\x1b.xlsx")
    assert "a\\x1b.xlsx" in result.stderr

"""``edgelm run summary`` and ``description`` on a real, tiny generator: its words mean nothing, its rules hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from edgelm_runtime.loader import load
from tests.cli.conftest import Invoke, Start

REVIEW = "The sweater is soft. It fits true to size."
SKIRT = "类型#裙*颜色#白色"


@pytest.fixture
def run(invoke: Invoke, tiny_generator: Path) -> Invoke:
    """``edgelm run TASK --bundle TINY ...``."""

    def call(task: str, *args: object, stdin: bytes | str | None = None) -> Result:
        return invoke("run", task, "--bundle", tiny_generator, *args, stdin=stdin)

    return call


@pytest.mark.parametrize(("task", "text"), [("summary", REVIEW), ("description", SKIRT)])
def test_the_text_alone_is_on_stdout(run: Invoke, tiny_generator: Path, task: str, text: str) -> None:
    result = run(task, text)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == load(tiny_generator, task=task)(text).text + "\n"


@pytest.mark.parametrize(("task", "text"), [("summary", REVIEW), ("description", SKIRT)])
def test_a_stream_is_the_same_text(run: Invoke, task: str, text: str) -> None:
    assert run(task, text, "--stream").stdout == run(task, text).stdout
    several = run(task, "--stream", stdin=f"{text}\n \n{text}\n")
    assert several.stdout == 2 * run(task, text).stdout
    assert several.exit_code == 0


def test_a_refused_line_does_not_end_a_stream(run: Invoke) -> None:
    result = run("description", "--stream", stdin=f"no colon\n{SKIRT}\n")
    assert result.exit_code == 5
    assert result.stdout == run("description", SKIRT).stdout
    assert "stdin, line 1: " in result.stderr


def test_options_reach_the_model(run: Invoke, tiny_generator: Path) -> None:
    short = json.loads(run("summary", REVIEW, "--json", "--max-new-tokens", "3").stdout)
    assert (short["tokens"], short["finish_reason"]) == (3, "length")
    options = ("--temperature", "0.9", "--top-k", "20", "--top-p", "0.9", "--repetition-penalty", "1.2", "--seed", "7")
    sampled = run("summary", REVIEW, *options, "--no-repeat-ngram-size", "2", "--json")
    expected = load(tiny_generator, task="summary")(
        REVIEW, temperature=0.9, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=7, no_repeat_ngram_size=2
    )
    assert json.loads(sampled.stdout)["text"] == expected.text
    for task, source, name in (("summary", REVIEW, "quote_bonus"), ("description", SKIRT, "coverage_bonus")):
        guided = load(tiny_generator, task=task)(source, **{name: 30})
        assert run(task, source, f"--{name.replace('_', '-')}", "30").stdout == f"{guided.text}\n"
    first = run("summary", REVIEW).stdout.strip()[2]
    assert json.loads(run("summary", REVIEW, "--stop", first, "--json").stdout)["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--max-new-tokens", "max_new_tokens is 0"),
        ("--deadline-ms", "deadline_ms is 0"),
        ("--num-beams", "num_beams is 0"),
    ],
)
def test_a_zero_is_a_value(run: Invoke, flag: str, message: str) -> None:
    refused = run("summary", REVIEW, flag, "0")
    assert refused.exit_code == 5
    assert message in refused.stderr


def test_a_zero_turns_off_and_is_a_seed(run: Invoke, tiny_generator: Path) -> None:
    model = load(tiny_generator, task="description")
    expected = model(SKIRT, no_repeat_ngram_size=0)
    assert run("description", SKIRT, "--no-repeat-ngram-size", "0").stdout == f"{expected.text}\n"
    assert expected.text != model(SKIRT).text  # this bundle's default is 3
    sampled = run("description", SKIRT, "--variants", "2", "--seed", "0", "--json")
    assert json.loads(sampled.stdout)["variants"] == list(model(SKIRT, variants=2, seed=0).variants)
    assert "seed" not in sampled.stderr
    assert run("description", SKIRT, "--variants", "2", "--temperature", "0").exit_code == 5


def test_what_must_be_included_and_is_not_is_said(run: Invoke) -> None:
    text = run("summary", REVIEW).stdout.strip()
    result = run("summary", REVIEW, "--must-include", "zzz 9", "--stop", text[3:5])
    assert "zzz 9 is not in the answer" in result.stderr


def test_variants_are_printed_one_a_line_and_said_with_their_seed(run: Invoke) -> None:
    result = run("description", SKIRT, "--variants", "3", "--seed", "1", "--json")
    row = json.loads(result.stdout)
    assert len(set(row["variants"])) > 1
    assert row["text"] == row["variants"][0]
    piped = run("description", "--variants", "3", "--seed", "1", stdin=SKIRT)
    assert len(piped.stdout.split("\n")) == 4
    assert "sampled with seed" in run("description", SKIRT, "--variants", "2").stderr


def test_attributes_come_in_every_form(run: Invoke, tmp_path: Path) -> None:
    expected = run("description", "类型: 裙; 颜色: 白色").stdout
    (tmp_path / "rows.csv").write_text("类型,颜色\n裙,白色\n", "utf-8")
    (tmp_path / "column.csv").write_text(f"id,attributes\n1,{SKIRT}\n", "utf-8")
    (tmp_path / "objects.jsonl").write_text('{"类型": "裙", "颜色": "白色"}\n', "utf-8")
    for text in (SKIRT, "类型：裙；颜色：白色", '{"类型": "裙", "颜色": "白色"}'):
        assert run("description", text).stdout == expected
    for name in ("rows.csv", "column.csv", "objects.jsonl"):
        assert run("description", "--input", tmp_path / name).stdout.split() == expected.split()


def test_options_out_of_range_are_refused_before_anything_is_answered(run: Invoke) -> None:
    result = run("summary", "--top-p", "2", stdin=f"{REVIEW}\n" * 50)
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.count("top_p") == 1


def test_timings_name_the_stages(run: Invoke) -> None:
    for arguments in ((), ("--stream",)):
        stages = run("summary", REVIEW, "--timings", *arguments).stderr
        for stage in ("load", "tokenize", "prefill", "decode", "time to first token", "total"):
            assert f"{stage} " in stages


def test_a_stream_comes_in_pieces(start: Start, tiny_generator: Path) -> None:
    process = start("run", "summary", REVIEW, "--bundle", tiny_generator, "--stream")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    out.decode("utf-8")  # no piece was cut inside a character


def test_events_of_a_stream_are_pieces_and_then_the_answer(run: Invoke) -> None:
    whole = json.loads(run("summary", REVIEW, "--json").stdout)
    *pieces, last = [json.loads(line) for line in run("summary", REVIEW, "--json", "--stream").stdout.splitlines()]
    assert all(set(piece) == {"piece"} for piece in pieces)
    assert "".join(piece["piece"] for piece in pieces) == last["text"] == whole["text"]
    requests = [{"id": "a", "text": REVIEW}, {"id": "b", "text": " "}, {"id": "c", "text": REVIEW}]
    lines = "\n".join(map(json.dumps, requests))
    events = [json.loads(line) for line in run("summary", "--json", "--stream", stdin=lines).stdout.splitlines()]
    assert list(dict.fromkeys((event["line"], event["id"]) for event in events)) == [(1, "a"), (2, "b"), (3, "c")]
    kinds = [next(kind for kind in ("piece", "error", "text") if kind in event) for event in events]
    assert kinds == [*["piece"] * len(pieces), "text", "error", *["piece"] * len(pieces), "text"]


def test_requests_have_options_of_their_own(run: Invoke) -> None:
    requests = [
        {"id": 1, "text": REVIEW, "options": {"max_new_tokens": 3}},
        {"id": 2, "text": REVIEW},
        {"id": 3, "text": REVIEW, "options": {"max_new_tokens": 0}},
        {"id": 4, "text": REVIEW, "options": {"ignore_eos": True}},
        {"id": 5, "text": REVIEW, "options": {"max_new_tokens": 5, "seed": None, "banned": ["a"]}},
        {"id": 6, "text": REVIEW, "options": {"variants": 2}},
        {"id": 7, "text": REVIEW, "options": {"must_include": ["\ud800"]}},
    ]
    result = run("summary", "--json", "--max-new-tokens", "4", stdin="\n".join(map(json.dumps, requests)))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.get("tokens") for row in rows] == [3, 4, None, None, 5, None, None]
    assert "max_new_tokens is 0" in rows[2]["error"]["message"]
    assert "options has 'ignore_eos'; accepted are " in rows[3]["error"]["message"]
    assert "options has 'variants'" in rows[5]["error"]["message"]
    assert "must_include is " in rows[6]["error"]["message"]
    described = [{"attributes": {"颜色": "白色"}, "id": 1, "options": {"variants": 2}}, {"颜色": "白色"}]
    result = run("description", "--json", stdin="\n".join(map(json.dumps, described)))
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["id"], len(first["variants"]), second["variants"]) == (1, 2, [])

"""A time line as a file: every event as the trace event format wants it, and read back as it was measured."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgelm.cli import cli
from edgelm.reports import trace
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.profile import timeline, tracing
from edgelm_runtime.profile.subject import Subject, subject_of
from edgelm_runtime.profile.timeline import Slice, Timeline


@pytest.fixture
def subject(tiny_classifier: Path) -> Subject:
    values = ["the parcel is good", "物流很快"]
    return subject_of(open_bundle(tiny_classifier), "sentiment", LoadOptions("cpu", threads=1), values, "a test")


def written(found: Timeline, subject: Subject) -> dict[str, Any]:
    stream = io.StringIO()
    trace.write(found, subject.facts(), stream)
    whole: dict[str, Any] = json.loads(stream.getvalue())
    return whole


def test_every_event_has_what_the_format_wants(subject: Subject) -> None:
    whole = written(timeline.measure(subject), subject)
    assert whole["displayTimeUnit"] == "ms"
    assert whole["otherData"]["answers"] == 2
    assert whole["otherData"]["sha256"] == subject.facts().sha256
    head, events = whole["traceEvents"][:2], whole["traceEvents"][2:]
    assert [event["name"] for event in head] == ["process_name", "thread_name"]
    assert head[0]["args"]["name"] == "edgelm: tiny-classifier (sentiment)"
    assert {event["ph"] for event in head} == {"M"}
    for event in events:
        assert event["ph"] == "X"
        assert event["name"]
        assert event["cat"] in ("answer", "stage", "run", "operator")
        assert type(event["pid"]) is type(event["tid"]) is int
        assert event["ts"] >= 0
        assert event["dur"] >= 0
        assert isinstance(event["args"], dict)
    assert len({(event["pid"], event["tid"]) for event in whole["traceEvents"]}) == 1


def test_operators_lie_inside_the_run_that_caused_them(subject: Subject) -> None:
    events = written(timeline.measure(subject), subject)["traceEvents"][2:]
    runs = [event for event in events if event["cat"] == "run"]
    operators = [event for event in events if event["cat"] == "operator"]
    assert (len(runs), len(operators)) == (2, 4)
    for operator in operators:
        around = [run for run in runs if run["ts"] <= operator["ts"]][-1]
        assert operator["ts"] + operator["dur"] <= around["ts"] + around["dur"] + 1e-9
        assert operator["args"]["provider"] == "CPUExecutionProvider"


def test_times_are_microseconds_and_names_are_any_text(subject: Subject) -> None:
    found = Timeline((Slice('"名\n</script>', "operator", 1_500, 4_250, {"node": "\x00\\"}),), 1, 3)
    event = written(found, subject)["traceEvents"][2]
    assert (event["ts"], event["dur"], event["name"], event["args"]) == (
        1.5, 2.75, '"名\n</script>', {"node": "\x00\\"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Timeline((Slice("a", "operator", 0, 1),), 1, 0), "1 answer, 1 runs of operators; "),
        (Timeline((), 5, 1234), "5 answers, 0 runs of operators, 1,234 more left out; "),
    ],
)
def test_it_says_what_was_written(found: Timeline, words: str) -> None:
    assert trace.summary(found).startswith(words)


class TestCommand:
    def test_the_file_is_there_beside_the_report(self, tiny_generator: Path, tmp_path: Path) -> None:
        path = tmp_path / "时间 line.json"
        done = CliRunner().invoke(
            cli, ["profile", str(tiny_generator), "--task", "summary", "--seconds", "1", "--json", "--trace", str(path)]
        )
        assert done.exit_code == 0, done.stderr
        assert "1 answer, " in done.stderr
        assert json.loads(done.stdout)["operators"]["top"]
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
        assert {"prefill, token 1", "sample", "detokenize", "infer 1 token"} <= {event["name"] for event in events}

    def test_a_folder_that_is_not_there_is_refused_before_anything_is_measured(self, tmp_path: Path) -> None:
        target = str(tmp_path / "missing" / "trace.json")
        done = CliRunner().invoke(cli, ["profile", "no-such-bundle", "--trace", target])
        assert done.exit_code == 2
        assert "there is no folder" in done.stderr

    def test_what_cannot_be_traced_is_said_and_the_rest_is_measured(
        self, tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tracing, "MAX_EVENTS", 1)
        call = ["profile", str(tiny_classifier), "--seconds", "1", "--json", "--trace", str(tmp_path / "trace.json")]
        done = CliRunner().invoke(cli, call)
        assert done.exit_code == 0, done.stderr
        assert "no trace was written: onnxruntime's profile has more than 1 events" in done.stderr
        assert list(tmp_path.iterdir()) == []
        assert any(line.startswith("operators: ") for line in json.loads(done.stdout)["left_out"])

"""A time line as a file: every event as the trace event format wants it, and read back as it was measured."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from edgelm.reports import trace
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.profile import timeline
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

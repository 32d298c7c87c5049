from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime.profile import operators, tracing
from edgelm_runtime.profile.subject import Deadline, NotMeasured, Subject
from edgelm_runtime.session import Session


def test_the_operators_of_a_classifier(classifier: Any) -> None:
    found = operators.measure(classifier(), Deadline(0.2))
    assert {(one.op_type, one.provider, one.calls) for one in found.top} == {
        ("Gather", "CPUExecutionProvider", 1.0),
        ("ReduceMean", "CPUExecutionProvider", 1.0),
    }
    assert {one.shapes for one in found.top} == {"33x2, 1x6 -> 1x6x2", "1x6x2 -> 1x2"}
    assert found.others == 0
    assert sum(one.ms for one in found.top) == pytest.approx(found.measured)
    assert sum(one.share for one in found.top) == pytest.approx(1.0)
    assert [one.ms for one in found.top] == sorted((one.ms for one in found.top), reverse=True)
    assert found.outside > 0


def test_the_operators_of_a_text_are_those_of_all_its_tokens(generator: Any) -> None:
    subject = generator()
    found = operators.measure(subject, Deadline(0.0))
    assert len(found.top) == operators.TOP
    assert found.others > 0
    tokens = tracing.answer(tracing.model_of(subject), tracing.typical(subject)).tokens
    assert tokens > 2
    assert any(tokens - 1 <= one.calls and "1x1x" in one.shapes for one in found.top)


def test_a_value_of_median_length_is_asked(classifier: Any) -> None:
    subject = classifier(["good", "the parcel is good and fast", "the parcel"])
    assert tracing.typical(subject) == "the parcel"


class TestTraced:
    def test_answers_are_those_of_the_model_itself(self, generator: Any) -> None:
        subject = generator()
        value = subject.values[0]
        (one,) = tracing.traced(subject, [value])
        assert one.result.text == subject.model(value, max_new_tokens=one.result.tokens).text
        assert len(one.runs) >= one.result.tokens

    @pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads are Linux's")
    def test_at_a_low_priority_too(self, classifier: Any) -> None:
        subject = classifier()
        low = replace(subject, options=replace(subject.options, low_priority=True))
        (one,) = tracing.traced(low, subject.values[:1])
        assert [event.op_type for event in one.runs[0].events] == ["Gather", "ReduceMean"]

    def test_what_runs_lies_within_its_call(self, generator: Any) -> None:
        for one in tracing.traced(generator(), [generator().values[0]] * 2):
            assert one.runs
            for run in one.runs:
                assert one.start <= run.start < run.end <= one.end
                assert run.events
                for event in run.events:
                    assert 0 <= event.at <= event.at + event.ms <= run.ms + 0.01
                assert run.ms <= 1000 * (run.end - run.start) + 0.01

    def test_its_files_are_gone(self, classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "物流 folder"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        (one,) = tracing.traced(classifier(), ["the parcel is good"])
        assert [event.op_type for event in one.runs[0].events] == ["Gather", "ReduceMean"]
        assert list(folder.iterdir()) == []

    def test_without_a_temporary_folder(self, classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        with pytest.raises(NotMeasured, match="needs a temporary folder"):
            tracing.traced(classifier(), ["the parcel is good"])

    def test_nothing_is_left_behind_after_an_error(
        self, classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(Exception, match="empty"):
            tracing.traced(classifier(), [""])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("written", "reason"),
        [
            (b"", "0 of 2 runs"),
            (b"[\n", "0 of 2 runs"),
            (b'[\n{"cat" : "Node","name" :"a"b_kernel_time"},\n[1],\n"x"\n]', "0 of 2 runs"),
        ],
    )
    def test_a_profile_that_does_not_tell_of_every_run(
        self, classifier: Any, monkeypatch: pytest.MonkeyPatch, written: bytes, reason: str
    ) -> None:
        _profile_is(monkeypatch, written)
        with pytest.raises(NotMeasured, match=reason):
            tracing.traced(classifier(), ["the parcel is good"])

    def test_a_profile_that_is_too_long(self, classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracing, "MAX_EVENTS", 5)
        with pytest.raises(NotMeasured, match="more than 5 events"):
            tracing.traced(classifier(), ["the parcel is good"])


def test_a_device_whose_nodes_are_not_told(classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tracing._read
    monkeypatch.setattr(tracing, "_read", lambda path: [(ms, ()) for ms, _ in real(path)])
    with pytest.raises(NotMeasured, match="names no node"):
        operators.measure(classifier(), Deadline(0.0))


def test_a_session_that_is_not_traced_keeps_no_calls(classifier: Any) -> None:
    subject: Subject = classifier()
    subject.answer(subject.values[0])
    assert subject.model.engine.session.calls == []


def _profile_is(monkeypatch: pytest.MonkeyPatch, written: bytes) -> None:
    end = Session.end_trace

    def write(session: Session) -> Path:
        path = end(session)
        path.write_bytes(written)
        return path

    monkeypatch.setattr(Session, "end_trace", write)

"""Answers one after the other: whole rounds, and an interval that the mix of texts does not widen."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from edgelm_runtime.profile import run, steady
from edgelm_runtime.profile.run import PARTS, ProfileOptions, profile
from edgelm_runtime.profile.steady import _drift, _summary
from edgelm_runtime.profile.subject import Deadline
from edgelm_runtime.profile.summary import summarize
from tests.runtime.profile.conftest import Make


def test_every_value_is_answered_as_often_as_the_others(classifier: Make) -> None:
    found = steady.measure(classifier(["good", "bad", "the parcel is good"]), Deadline(0.3))
    assert found.texts == 3
    assert found.total.count == 3 * found.rounds.count
    assert list(found.stages) == ["tokenize", "infer", "decode"]
    assert all(stage.count == found.total.count for stage in found.stages.values())
    assert sum(found.latencies.counts) == found.total.count
    assert found.total.width == pytest.approx(found.rounds.width)


def test_it_ends_when_the_median_is_known(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "NARROW", 1e9)
    monkeypatch.setattr(steady, "MIN_SECONDS", 0.1)
    assert sum(steady.measure(classifier(["good", "bad"]), Deadline(60)).latencies.counts) > steady.MIN_ANSWERS
    monkeypatch.setattr(steady, "MIN_SECONDS", 0.0)
    found = steady.measure(classifier(["good", "bad"]), Deadline(60))
    assert steady.MIN_ANSWERS <= found.total.count < 1.2 * steady.MIN_ANSWERS
    monkeypatch.setattr(steady, "MIN_ANSWERS", 1)
    assert steady.measure(classifier(["good", "bad"]), Deadline(60)).rounds.count == steady.MIN_ROUNDS


def test_no_time_at_all_is_one_answer(classifier: Make) -> None:
    found = steady.measure(classifier(["good", "bad"]), Deadline(0))
    assert (found.rounds.count, found.texts, found.drift) == (1, 1, 0.0)


def test_a_file_too_long_for_the_time_is_taken_evenly(classifier: Make) -> None:
    found = steady.measure(classifier(["good", "bad"] * 50_000), Deadline(0.4))
    assert 1 < found.texts < 100_000
    assert found.rounds.count >= 1


def test_texts_that_differ_do_not_widen_the_interval() -> None:
    mixed = [1.0, 2.0, 10.0, 100.0] * 15
    assert summarize(mixed).width > 1.0
    found = _summary(mixed, 4)
    assert (found.low, found.p50, found.high) == (2.0, 2.0, 2.0)
    noisy = [size * factor for factor in (1.0, 1.2) * 10 for size in (1.0, 10.0, 100.0)]
    assert _summary(noisy, 3).width == pytest.approx(0.2, rel=0.2)
    assert _summary([0.0] * 6, 3).width == 0.0


@pytest.mark.parametrize(("rounds", "expected"), [([5.0], 0.0), ([2.0, 3.0], 0.5), ([2.0, 2.0, 9.0, 1.0, 1.0], -0.5)])
def test_drift_is_the_second_half_against_the_first(rounds: list[float], expected: float) -> None:
    assert _drift(rounds) == pytest.approx(expected)


def test_what_cannot_be_measured_is_left_out_with_its_reason(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "")
    monkeypatch.setattr(run, "PARTS", [part for part in PARTS if part.name in ("cold", "steady", "memory")])
    found = profile(classifier(), ProfileOptions(0.5))
    assert found.complete
    assert found.steady is not None
    assert (found.cold, found.memory) == (None, None)
    assert sum(line.startswith(("cold: this program", "memory: this program")) for line in found.left_out) == 2


def test_an_interrupted_profile_keeps_what_it_has(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PARTS", [part for part in PARTS if part.name in ("cold", "steady")])
    subject = classifier()
    calls: list[Mapping[str, Any]] = []

    def until_interrupted(value: str) -> Any:
        calls.append({})
        if len(calls) > 3:
            raise KeyboardInterrupt
        return SimpleNamespace(timings={"total": 1.0})

    monkeypatch.setattr(type(subject), "answer", lambda self, value: until_interrupted(value))
    found = profile(subject, ProfileOptions(1.0))
    assert not found.complete
    assert found.cold is not None
    assert found.steady is not None
    assert found.steady.rounds.count == 1  # the fourth answer, of the next round, did not come
    assert found.trust is not None
    assert found.trust.verdict == "NOISY"
    assert found.left_out == ("steady: interrupted",)


def test_the_shares_of_the_time_do_not_exceed_it() -> None:
    assert sum(part.share for part in PARTS) <= 1.0 + 1e-9


def test_answers_get_the_time_that_is_left_where_they_are_not_sure(
    classifier: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, names = classifier(["good", "bad"]), []
    monkeypatch.setattr(run, "PARTS", [part for part in PARTS if part.name == "steady"])
    monkeypatch.setattr(steady, "NARROW", -1.0)
    found = profile(subject, ProfileOptions(1.0), names.append)
    assert names == ["steady", "steady"]
    assert found.seconds >= 0.9
    assert found.left_out == ()
    monkeypatch.setattr(steady, "NARROW", 1e9)
    profile(subject, ProfileOptions(1.0), names.append)
    assert len(names) == 3


def test_more_threads_than_cores_are_noted(classifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = classifier(["good"])
    assert subject.facts().notes == ()
    monkeypatch.setattr("edgelm_runtime.profile.subject.usable_cores", lambda: 0)
    assert subject.facts().notes == ("threads 1 are more than the 0 usable cores: they wait for each other",)
